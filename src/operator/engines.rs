//! The engines of all Registries that this replica leads, by the UID of their resource.

mod run;

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::watch, task::JoinHandle};

use self::run::Run;
use super::{
    runtime::EngineThreads,
    status::{Stall, reasons},
    status_updater::{StatusTarget, StatusUpdater, Work},
    validate::Plan,
};
use crate::{
    admin::{Directory, Listed},
    grpc::shared::Connections,
    instance::{self, Fence, Identity, InstanceError, Reloads, RunOptions},
    metrics::Metrics,
    quota::Quotas,
    registry::{RegistryName, RegistryPhase, RegistryState},
    runtime::handle::{EngineHandle, EngineStopped},
};
use routr_registration::{engine::view::DeregistrationReport, model::Excess};

/// Time that an engine may take to return its summary.
const ENGINE_QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason that an engine does not run as planned.
#[derive(Debug, thiserror::Error)]
pub enum EngineManagerError {
    /// It cannot be set up.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Another Registry has the same instance id: they would overwrite each other's bindings. It is named
    /// where it is in the same namespace.
    #[error(
        "spec.instanceId: {} has it already; give this one another, or leave it out",
        .0.as_ref().map_or_else(|| "a Registry of another namespace".to_owned(), |name| format!("Registry {name}"))
    )]
    InstanceIdInUse(Option<RegistryName>),
    /// As many run as the operator allows, and this one is newer than each of them.
    #[error(
        "the operator runs {0} Registries, the limit of its --max-registries (in the chart: operator.limits.registries), all of \
         them older than this one: it waits until one of them is deleted, or the limit is raised"
    )]
    TooManyRegistries(u64),
    /// It would change all Call-IDs.
    #[error(
        "spec.instanceId: it cannot change while the registry runs, because every Call-ID derives from it; \
         delete the Registry and create it again"
    )]
    InstanceIdChanged,
}

impl EngineManagerError {
    /// Returns the stall that the status shows.
    pub fn stall(&self) -> Stall {
        let reason = match self {
            Self::Instance(_) => reasons::CANNOT_START,
            Self::InstanceIdInUse(_) => reasons::INSTANCE_ID_IN_USE,
            Self::TooManyRegistries(_) => reasons::TOO_MANY_REGISTRIES,
            Self::InstanceIdChanged => reasons::INVALID_SPEC,
        };
        Stall { reason, message: self.to_string() }
    }
}

/// Result of a deregistration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeregistrationResult {
    /// Nothing is left to remove.
    Complete(DeregistrationReport),
    /// The deadline came first.
    DeadlineExceeded {
        /// Number of trunks that were left.
        left: u64,
        /// Reason in plain words.
        why: String,
    },
}

/// The Registries of a term of leadership, with their engines and status updaters.
pub struct EngineManager {
    state: Mutex<State>,
    /// Held from counting the engines until the next one counts.
    starting: tokio::sync::Mutex<()>,
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
}

#[derive(Default)]
struct State {
    entries: HashMap<String, RegistryEntry>,
    /// UIDs of Registries that have been deregistered, and only wait for their finalizer to be removed.
    deregistered: HashSet<String>,
    /// Registries that have nothing left to deregister, and are kept by finalizers of others; by UID.
    kept_listed: HashMap<String, (RegistryName, Listed)>,
    /// No one is taken in any more.
    closed: bool,
}

/// One Registry: who reports on it, and its engine while one runs.
struct RegistryEntry {
    name: RegistryName,
    age: i64,
    assignment: watch::Sender<StatusTarget>,
    reporter: JoinHandle<()>,
    run: Option<Run>,
}

/// Action that a plan asks for.
enum RunAction {
    Start(RegistryName),
    Change { before: Box<Plan>, reloads: Reloads, handle: EngineHandle, options: Box<RunOptions> },
}

impl EngineManager {
    /// Makes a manager without any engine. Engines that it starts are entered into the directory and counted
    /// in the metrics, and act only while the fence holds; `grace` is the time that each of them may take at
    /// its end.
    pub fn new(
        directory: Directory,
        metrics: Metrics,
        fence: Fence,
        engines: EngineThreads,
        quotas: Quotas,
        grace: Duration,
    ) -> Self {
        Self {
            state: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            common: Common {
                directory,
                metrics,
                fence,
                engines,
                quotas,
                grace,
                connections: Connections::default(),
            },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registries (by namespace and name, with a slash between them) had lines left out of the log: their
    /// status shows it.
    pub fn note_left_out(&self, registries: &[(String, u64)]) {
        let state = self.state();
        for entry in state.entries.values() {
            let name = entry.name.to_string();
            if let Some(run) = &entry.run
                && registries.iter().any(|(registry, _)| *registry == name)
            {
                run.options.quota.note(Excess::Log);
            }
        }
    }

    /// Sees to it that someone reports on this Registry. `age` orders Registries by when they were created.
    pub fn report_on(
        &self,
        uid: &str,
        name: &RegistryName,
        age: i64,
        reporter: impl FnOnce() -> StatusUpdater,
    ) {
        let mut state = self.state();
        if state.closed || state.deregistered.contains(uid) {
            return;
        }
        state.entries.entry(uid.to_owned()).or_insert_with(|| {
            let (assignment, assigned) = watch::channel(StatusTarget::default());
            let reporter = reporter().listed(self.common.directory.list(name, uid));
            let reporter = tokio::spawn(reporter.run(assigned));
            RegistryEntry { name: name.clone(), age, assignment, reporter, run: None }
        });
    }

    /// The spec of this generation cannot be followed. An engine that runs goes on as it is. Returns whether
    /// that is news.
    pub fn stall(&self, uid: &str, generation: i64, stall: Stall) -> bool {
        let state = self.state();
        let Some(entry) = state.entries.get(uid) else { return false };
        entry.assignment.send_if_modified(|assignment| {
            let news = assignment.generation != generation || assignment.stall.as_ref() != Some(&stall);
            (assignment.generation, assignment.stall) = (generation, Some(stall));
            news
        })
    }

    /// Suspends or resumes the engine of a Registry whose spec cannot be followed otherwise: an emergency
    /// brake works in any case.
    pub async fn suspend(&self, uid: &str, suspend: bool) {
        let handle = {
            let mut state = self.state();
            let Some(entry) = state.entries.get_mut(uid) else { return };
            let Some(run) = entry.run.as_mut().filter(|run| run.plan.suspend != suspend) else { return };
            run.plan.suspend = suspend;
            entry.assignment.send_modify(|assignment| {
                if let Work::Run { suspended, .. } = &mut assignment.work {
                    *suspended = suspend;
                }
            });
            run.handle.clone()
        };
        // An engine that has ended sends nothing.
        let _ = handle.pause(suspend).await;
    }

    /// Runs an engine by this plan: starts one, or changes in the one that runs what differs. To be called by
    /// one at a time for each Registry. `has_run`: an engine ran for it before, in this process or another.
    ///
    /// # Errors
    /// See [`EngineManagerError`]; an engine that runs goes on as it is.
    pub async fn run(
        &self,
        uid: &str,
        generation: i64,
        mut plan: Plan,
        has_run: bool,
    ) -> Result<(), EngineManagerError> {
        self.common.quotas.limits().apply(&mut plan.config);
        if let Some((name, run)) = self.resolve_conflict(uid, &plan)? {
            run.end(&name, &self.common).await;
        }
        let Some(step) = self.next_action(uid, &plan)? else { return Ok(()) };
        // Reading CA files and roots takes its time: nothing is locked meanwhile.
        match step {
            RunAction::Start(name) => {
                // Two that counted at the same time would both find room for one.
                let _one_at_a_time = self.starting.lock().await;
                if let Some((name, run)) = self.evict_newest(uid)? {
                    run.end(&name, &self.common).await;
                }
                let run = Run::start(&name, plan, has_run, &self.common)?;
                if !self.state().begin(uid, generation, run, &self.common.directory) {
                    return Err(EngineManagerError::InstanceIdInUse(None));
                }
            }
            RunAction::Change { before, reloads, handle, options } => {
                let (was, is) = ((&before.config, &before.identity), (&plan.config, &plan.identity));
                let differs = before.config != plan.config;
                let change = {
                    let _threads = self.common.engines.enter();
                    differs.then(|| instance::reload(was, is, &options)).transpose()?
                };
                let suspend = (before.suspend != plan.suspend).then_some(plan.suspend);
                self.state().continue_with(uid, generation, plan);
                // An engine that has ended is found so by the next reconcile.
                if let Some(change) = change {
                    let _ = reloads.send(change).await;
                }
                if let Some(suspend) = suspend {
                    let _ = handle.pause(suspend).await;
                }
            }
        }
        Ok(())
    }

    /// Resolves a conflict of two Registries with one identity: one has to go, no matter which was looked at
    /// first. A Registry that goes by its own UID is never in the wrong, and of two that name the same
    /// instance id, the older one has it.
    fn resolve_conflict(
        &self,
        uid: &str,
        plan: &Plan,
    ) -> Result<Option<(RegistryName, Run)>, EngineManagerError> {
        let mut state = self.state();
        let own = plan.config.instance_id.is_none();
        let twin = state.entries.iter().find(|(other, entry)| {
            other.as_str() != uid
                && (entry.runs_as(&plan.identity) || (!own && plan.identity.id.as_str() == other.as_str()))
        });
        let (Some((other, holder)), Some(me)) = (twin, state.entries.get(uid)) else { return Ok(None) };
        let theirs = plan.identity.id.as_str() == other.as_str();
        let right = |own: bool, entry: &RegistryEntry, uid: &str| (!own, entry.age, uid.to_owned());
        if right(own, me, uid) > right(theirs, holder, other) {
            let near = me.name.namespace == holder.name.namespace;
            return Err(EngineManagerError::InstanceIdInUse(near.then(|| holder.name.clone())));
        }
        let (other, name) = (other.clone(), holder.name.clone());
        let Some(entry) = state.entries.get_mut(&other) else { return Ok(None) };
        entry.assignment.send_modify(|assignment| {
            assignment.stall = Some(EngineManagerError::InstanceIdInUse(None).stall());
            assignment.work = Work::Undecided;
        });
        Ok(entry.run.take().map(|run| (name, run)))
    }

    /// Makes room for one more engine. Where there is none, the newest Registry stops, if it is newer than
    /// this one. Returns that one.
    fn evict_newest(&self, uid: &str) -> Result<Option<(RegistryName, Run)>, EngineManagerError> {
        let mut state = self.state();
        let most = self.common.quotas.limits().registries;
        let order = |(uid, entry): (&String, &RegistryEntry)| (entry.age, entry.name.clone(), uid.clone());
        let running = state.entries.iter().filter(|(other, entry)| *other != uid && entry.run.is_some());
        let (running, newest) =
            running.fold((0, None), |(count, newest), one| (count + 1, newest.max(Some(order(one)))));
        if running < most {
            return Ok(None);
        }
        let me = state.entries.get_key_value(uid).map(order);
        let Some((_, name, other)) = newest.filter(|newest| me.is_some_and(|me| me < *newest)) else {
            return Err(EngineManagerError::TooManyRegistries(most));
        };
        let Some(entry) = state.entries.get_mut(&other) else { return Ok(None) };
        tracing::warn!(registry = %name, limit = most, "stopped: an older Registry needs its place under --max-registries");
        entry.assignment.send_modify(|assignment| {
            assignment.stall = Some(EngineManagerError::TooManyRegistries(most).stall());
            assignment.work = Work::Undecided;
        });
        Ok(entry.run.take().map(|run| (name, run)))
    }

    fn next_action(&self, uid: &str, plan: &Plan) -> Result<Option<RunAction>, EngineManagerError> {
        let state = self.state();
        let Some(entry) = state.entries.get(uid).filter(|_| !state.closed) else { return Ok(None) };
        let Some(run) = &entry.run else { return Ok(Some(RunAction::Start(entry.name.clone()))) };
        if run.has_ended() {
            tracing::error!(registry = %entry.name, "its engine ended unexpectedly, which is a defect: \
                                                      starting it again");
            return Ok(Some(RunAction::Start(entry.name.clone())));
        }
        if run.plan.identity != plan.identity {
            return Err(EngineManagerError::InstanceIdChanged);
        }
        let (reloads, handle) = (run.reloads.clone(), run.handle.clone());
        let (before, options) = (Box::new(run.plan.clone()), Box::new(run.options.clone()));
        Ok(Some(RunAction::Change { before, reloads, handle, options }))
    }

    /// Returns whether an engine runs for this Registry.
    pub fn runs(&self, uid: &str) -> bool {
        self.state().entries.get(uid).is_some_and(|entry| entry.run.is_some())
    }

    /// Removes the bindings of all trunks of a Registry, for at most `deadline`, also those that a
    /// predecessor without a cache may have made and its engine has not come to yet. `None` where nothing
    /// runs.
    ///
    /// # Errors
    /// When the engine was ended meanwhile.
    pub async fn deregister(
        &self,
        uid: &str,
        generation: i64,
        deadline: Duration,
    ) -> Result<Option<DeregistrationResult>, EngineStopped> {
        let Some((handle, assume_bound)) = self.state().begin_deregistration(uid, generation, deadline)
        else {
            return Ok(None);
        };
        if let Ok(left) = tokio::time::timeout(deadline, handle.deregister_all(assume_bound)).await {
            return left.map(|report| Some(DeregistrationResult::Complete(report)));
        }
        let summary = tokio::time::timeout(ENGINE_QUERY_TIMEOUT, handle.summary())
            .await
            .unwrap_or(Ok(Default::default()))?;
        let counts = summary.counts;
        let why = [&summary.requester, &summary.api].into_iter().find(|health| health.ok == Some(false));
        let why = why.and_then(|health| health.message.clone());
        Ok(Some(DeregistrationResult::DeadlineExceeded {
            // What cannot be registered has nothing to remove.
            left: counts.registered + counts.at_risk + counts.deregistering,
            why: why.unwrap_or_else(|| "registrars did not respond in time".to_owned()),
        }))
    }

    /// Returns whether [`EngineManager::finish_deregistration`] was called for it: there is nothing more to
    /// do than to let the resource go.
    pub fn is_deregistration_finished(&self, uid: &str) -> bool {
        self.state().deregistered.contains(uid)
    }

    /// The end of a Registry that is being deleted: as [`EngineManager::stop`], and it is remembered until it
    /// is gone.
    pub async fn finish_deregistration(&self, uid: &str) {
        self.state().deregistered.insert(uid.to_owned());
        self.stop_entry(uid).await;
    }

    /// The resource is gone: ends its engine, if one runs, and reports no more on it. Bindings stay as they
    /// are.
    pub async fn stop(&self, uid: &str) {
        let kept_listed = {
            let mut state = self.state();
            state.deregistered.remove(uid);
            state.kept_listed.remove(uid)
        };
        drop(kept_listed);
        self.stop_entry(uid).await;
    }

    async fn stop_entry(&self, uid: &str) {
        let entry = self.state().entries.remove(uid);
        if let Some(entry) = entry {
            self.end(entry).await;
        }
    }

    /// The resource goes on being shown until it is gone, though there is nothing more to do.
    pub fn keep_listed(&self, uid: &str, name: &RegistryName) {
        let listed = self.common.directory.list(name, uid);
        listed.set(RegistryState {
            state: RegistryPhase::Deregistering,
            ready: false,
            reason: "Deregistering".to_owned(),
            message: "it is being deleted; other finalizers keep it".to_owned(),
        });
        let mut state = self.state();
        if !state.closed {
            state.kept_listed.insert(uid.to_owned(), (name.clone(), listed));
        }
    }

    /// All that are known here under a namespace, or all of them.
    pub fn uids(&self, namespace: Option<&str>) -> Vec<String> {
        let state = self.state();
        let here = |name: &RegistryName| namespace.is_none_or(|ns| name.namespace.as_deref() == Some(ns));
        let known = state.entries.iter().filter(|(_, entry)| here(&entry.name)).map(|(uid, _)| uid);
        let kept_listed = state.kept_listed.iter().filter(|(_, (name, _))| here(name)).map(|(uid, _)| uid);
        known.chain(kept_listed).chain(&state.deregistered).cloned().collect()
    }

    /// Ends all engines, at the same time, and takes in no more. Bindings stay as they are.
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
        entry.reporter.abort();
        if let Some(run) = entry.run {
            run.end(&entry.name, &self.common).await;
        }
        // Unless another one has its name by now.
        if self.common.directory.get(&entry.name).is_none() {
            self.common.metrics.forget(&entry.name);
        }
    }
}

impl State {
    /// A new engine is in; where no one is to run any more, it ends at once. `false` where another one with
    /// its identity came in meanwhile: who has to go is found out by the next look.
    fn begin(&mut self, uid: &str, generation: i64, run: Run, directory: &Directory) -> bool {
        let identity = &run.plan.identity;
        if self.entries.iter().any(|(other, entry)| other != uid && entry.runs_as(identity)) {
            return false;
        }
        let Some(entry) = self.entries.get_mut(uid).filter(|_| !self.closed) else { return true };
        directory.enter(entry.name.clone(), run.handle.clone());
        entry.run = Some(run);
        entry.assign(generation);
        true
    }

    /// An engine goes on by another plan, or by the same.
    fn continue_with(&mut self, uid: &str, generation: i64, plan: Plan) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if let Some(run) = &mut entry.run {
            if run.plan != plan {
                let suspended = plan.suspend;
                tracing::info!(registry = %entry.name, generation, suspended, "applying a changed spec");
            }
            run.plan = plan;
        }
        entry.assign(generation);
    }

    /// The engine, and whether it has a predecessor.
    fn begin_deregistration(
        &self,
        uid: &str,
        generation: i64,
        deadline: Duration,
    ) -> Option<(EngineHandle, bool)> {
        let entry = self.entries.get(uid)?;
        let run = entry.run.as_ref()?;
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX / 2);
        let (handle, durable, succeeds) = (run.handle.clone(), run.is_durable(), run.succeeds);
        let deadline_ms = routr_environment::unix_ms().saturating_add(millis);
        let work = Work::Deregister { handle: handle.clone(), durable, deadline_ms };
        entry.assignment.send_replace(StatusTarget { generation, stall: None, work });
        Some((handle, succeeds))
    }
}

impl RegistryEntry {
    /// Returns whether its engine, if one runs, has this identity.
    fn runs_as(&self, identity: &Identity) -> bool {
        self.run.as_ref().is_some_and(|run| run.plan.identity == *identity)
    }

    /// Assigns the engine that runs to the status updater.
    fn assign(&self, generation: i64) {
        let Some(run) = &self.run else { return };
        let work =
            Work::Run { handle: run.handle.clone(), durable: run.is_durable(), suspended: run.plan.suspend };
        self.assignment.send_replace(StatusTarget { generation, stall: None, work });
    }
}
