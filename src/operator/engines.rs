//! The engines of all Registries that this replica leads, by the UID of their resource.
//!
//! A reconcile computes one [`Desired`] state and hands it over by [`EngineManager::apply`], which alone
//! changes what runs. The rules of who may run are in `entries`, the steps in `bring_about`.

mod bring_about;
mod desired;
mod entries;
mod error;
mod run;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::watch;

use self::entries::{RegistryEntry, State};
pub use self::{
    desired::{DeregistrationResult, Desired, Interrupted, Outcome},
    error::EngineManagerError,
};
use super::{
    request_limiter::RequestLimiter,
    runtime::EngineThreads,
    status::Stall,
    status_updater::{StatusTarget, StatusUpdater},
};
use crate::{
    admin::Directory,
    grpc::shared::Connections,
    instance::Fence,
    metrics::Metrics,
    quota::Quotas,
    registry::{RegistryName, RegistryPhase, RegistryState},
};
use routr_registration::model::Excess;

/// Suspended Registries whose trunks are read at the same time, and those of one namespace.
const MAX_SURVEYS: (usize, usize) = (64, 8);

/// Runs engines for one term of leadership.
pub struct EngineManager {
    state: Mutex<State>,
    common: Common,
}

/// Parts that all engines share.
struct Common {
    directory: Directory,
    metrics: Metrics,
    fence: Fence,
    /// Threads on which engines run.
    engines: EngineThreads,
    quotas: Quotas,
    grace: Duration,
    /// Registries with the same dependencies share the connections to them.
    connections: Connections,
    /// Bounds the looks at the trunks of suspended Registries.
    surveys: RequestLimiter,
}

impl EngineManager {
    /// Makes a manager without any engine. Engines that it starts are entered into the directory and counted
    /// in the metrics, and act only while the fence holds; `grace` is what each of them may take at its end.
    pub fn new(
        directory: Directory,
        metrics: Metrics,
        fence: Fence,
        engines: EngineThreads,
        quotas: Quotas,
        grace: Duration,
    ) -> Self {
        let connections = Connections::default();
        Self {
            state: Mutex::default(),
            common: Common {
                directory,
                metrics,
                fence,
                engines,
                quotas,
                grace,
                connections,
                surveys: RequestLimiter::new(MAX_SURVEYS.0, MAX_SURVEYS.1),
            },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a Registry and reports on it from now on; nothing runs for it yet. `age` orders Registries by
    /// when they were created.
    pub fn observe(&self, uid: &str, name: &RegistryName, age: i64, updater: impl FnOnce() -> StatusUpdater) {
        let mut state = self.state();
        if state.closed || state.deregistered.contains(uid) || state.entries.contains_key(uid) {
            return;
        }
        let (target, targets) = watch::channel(StatusTarget::default());
        let updater = updater().listed(self.common.directory.list(name, uid));
        let updater = tokio::spawn(updater.run(targets));
        let entry = RegistryEntry { name: name.clone(), age, target, updater, run: None, starting: false };
        state.entries.insert(uid.to_owned(), entry);
    }

    /// Shows in the metrics which generation of the spec of a Registry was seen.
    pub fn seen(&self, name: &RegistryName, generation: i64) {
        self.common.directory.seen(name, generation);
    }

    /// Brings about the state that is desired for a Registry. `generation` is that of the spec it was
    /// computed from, which the status shows. Called by one at a time for each Registry.
    ///
    /// # Errors
    /// When a deregistration was interrupted; it has to be tried again.
    pub async fn apply(&self, uid: &str, generation: i64, desired: Desired) -> Result<Outcome, Interrupted> {
        match desired {
            Desired::Run { plan, has_run } => {
                let suspend = Some(plan.suspend);
                match self.run(uid, generation, plan, has_run).await {
                    Ok(()) => Ok(Outcome::Applied),
                    Err(error) => Ok(self.stall(uid, generation, error.stall(), suspend).await),
                }
            }
            Desired::Stall { stall, suspend } => Ok(self.stall(uid, generation, stall, suspend).await),
            Desired::Deregister { deadline, first } => {
                if let Some(first) = first {
                    Box::pin(self.apply(uid, generation, *first)).await?;
                }
                let result = self.deregister(uid, generation, deadline).await?;
                self.finish(uid).await?;
                Ok(Outcome::Deregistered(result))
            }
            Desired::End => self.finish(uid).await.map(|()| Outcome::Deregistered(None)),
            Desired::Released(name) => {
                self.stop(uid).await;
                self.keep_listed(uid, &name);
                Ok(Outcome::Applied)
            }
            Desired::Gone => {
                self.stop(uid).await;
                Ok(Outcome::Applied)
            }
        }
    }

    async fn stall(&self, uid: &str, generation: i64, stall: Stall, suspend: Option<bool>) -> Outcome {
        let (reason, message) = (stall.reason, stall.message.clone());
        // A Secret that is missing is looked for every few seconds, which is no news.
        if let Some(name) = self.report_stall(uid, generation, stall) {
            tracing::warn!(registry = %name, reason = reason.name(), "spec not applied: {message}");
        }
        if let Some(suspend) = suspend {
            self.suspend(uid, generation, suspend).await;
        }
        Outcome::Stalled(reason)
    }

    /// Shows in the status why the spec of this generation cannot be followed; what runs continues as it is.
    /// Returns the Registry's name where that is news.
    pub fn report_stall(&self, uid: &str, generation: i64, stall: Stall) -> Option<RegistryName> {
        let state = self.state();
        let entry = state.entries.get(uid)?;
        let news = entry.target.send_if_modified(|target| {
            let news = target.generation != generation || target.stall.as_ref() != Some(&stall);
            (target.generation, target.stall) = (generation, Some(stall));
            news
        });
        news.then(|| entry.name.clone())
    }

    /// Lists the resource until it is gone, though there is nothing more to do.
    fn keep_listed(&self, uid: &str, name: &RegistryName) {
        let listed = self.common.directory.list(name, uid);
        listed.set(RegistryState {
            state: RegistryPhase::Deregistering,
            ready: false,
            reason: "Deregistering".to_owned(),
            message: "it is being deleted; other finalizers keep it".to_owned(),
            ..RegistryState::default()
        });
        let mut state = self.state();
        if !state.closed {
            state.kept_listed.insert(uid.to_owned(), (name.clone(), listed));
        }
    }

    /// Returns whether this Registry is reported on: its status is known here.
    pub fn is_observed(&self, uid: &str) -> bool {
        self.state().entries.contains_key(uid)
    }

    /// Returns whether an engine runs for this Registry.
    pub fn runs(&self, uid: &str) -> bool {
        self.state()
            .entries
            .get(uid)
            .is_some_and(|entry| entry.run.as_ref().is_some_and(|run| run.engine().is_some()))
    }

    /// Returns whether a Registry was deregistered here: only its finalizer has to be removed.
    pub fn is_deregistration_finished(&self, uid: &str) -> bool {
        self.state().deregistered.contains(uid)
    }

    /// Returns the UIDs of all that are known here of a namespace, or of all namespaces.
    pub fn uids(&self, namespace: Option<&str>) -> Vec<String> {
        let state = self.state();
        let here = |name: &RegistryName| namespace.is_none_or(|ns| name.namespace.as_deref() == Some(ns));
        let known = state.entries.iter().filter(|(_, entry)| here(&entry.name)).map(|(uid, _)| uid);
        let kept_listed = state.kept_listed.iter().filter(|(_, (name, _))| here(name)).map(|(uid, _)| uid);
        known.chain(kept_listed).chain(&state.deregistered).cloned().collect()
    }

    /// Notes that lines of these Registries (by namespace and name, with a slash between them) were left out
    /// of the log: their status shows it.
    pub fn note_left_out(&self, registries: &[(String, u64)]) {
        let state = self.state();
        for entry in state.entries.values() {
            let name = entry.name.to_string();
            if let Some(engine) = entry.run.as_ref().and_then(|run| run.engine())
                && registries.iter().any(|(registry, _)| *registry == name)
            {
                engine.options.quota.note(Excess::Log);
            }
        }
    }

    /// Ends all engines, at the same time, and starts no more. Bindings stay as they are.
    pub async fn stop_all(&self) {
        let entries: Vec<RegistryEntry> = {
            let mut state = self.state();
            state.closed = true;
            state.kept_listed.clear();
            state.entries.drain().map(|(_, entry)| entry).collect()
        };
        join_all(entries.into_iter().map(|entry| self.end(entry))).await;
    }

    async fn end(&self, entry: RegistryEntry) {
        entry.updater.abort();
        if let Some(run) = entry.run {
            run.end(&entry.name, &self.common).await;
        }
        // Unless another one has its name by now.
        if self.common.directory.get(&entry.name).is_none() {
            self.common.metrics.forget(&entry.name);
        }
    }
}
