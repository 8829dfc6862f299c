//! The steps to a desired state: an engine that runs by a plan, and the end of one.

use std::time::Duration;

use super::{
    DeregistrationResult, EngineManager, EngineManagerError, Interrupted,
    entries::{RunAction, Running},
    run::{Activity, Run},
};
use crate::{
    instance,
    operator::{status_updater::Work, validate::Plan},
    registry::RegistryName,
};

/// Time that an engine may take to say how it is.
const ENGINE_QUERY_TIMEOUT: Duration = Duration::from_secs(1);

impl EngineManager {
    /// Runs an engine by this plan: starts one, or changes in the one that runs what differs.
    ///
    /// # Errors
    /// See [`EngineManagerError`]; an engine that runs continues as it is.
    pub(super) async fn run(
        &self,
        uid: &str,
        generation: i64,
        mut plan: Box<Plan>,
        has_run: bool,
    ) -> Result<(), EngineManagerError> {
        self.common.quotas.limits().apply(&mut plan.config);
        let twin = self.state().resolve_conflict(uid, &plan)?;
        if let Some((name, run)) = twin {
            run.end(&name, &self.common).await;
        }
        let action = self.state().next_action(uid, generation, &plan)?;
        match action {
            None => {}
            Some(RunAction::Start(name)) => self.start(uid, generation, &name, *plan, has_run).await?,
            Some(RunAction::Change(running)) => self.change(uid, generation, *plan, *running).await?,
        }
        if let Some(entry) = self.state().entries.get_mut(uid)
            && let Some(run) = &mut entry.run
        {
            run.survey(&entry.name, &entry.target, &self.common);
        }
        Ok(())
    }

    /// Starts an engine. Its place is taken before, so that nothing is locked while files are read and
    /// another engine ends.
    async fn start(
        &self,
        uid: &str,
        generation: i64,
        name: &RegistryName,
        plan: Plan,
        has_run: bool,
    ) -> Result<(), EngineManagerError> {
        let most = self.common.quotas.limits().registries;
        let evicted = self.state().reserve(uid, most)?;
        if let Some((name, run)) = evicted {
            run.end(&name, &self.common).await;
        }
        let started = Run::start(name, plan, has_run, &self.common);
        let mut state = self.state();
        match started {
            Ok(run) => state.begin(uid, generation, most, run, &self.common.directory),
            Err(error) => {
                state.give_back(uid);
                Err(error.into())
            }
        }
    }

    /// Changes in an engine what differs.
    async fn change(
        &self,
        uid: &str,
        generation: i64,
        plan: Plan,
        running: Running,
    ) -> Result<(), EngineManagerError> {
        let Running { plan: before, reloads, handle, options } = running;
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
        Ok(())
    }

    /// Pauses or resumes a Registry whose spec cannot be followed otherwise.
    pub(super) async fn suspend(&self, uid: &str, generation: i64, suspend: bool) {
        let next = {
            let mut state = self.state();
            let Some(entry) = state.entries.get_mut(uid) else { return };
            let Some(run) = entry.run.as_mut().filter(|run| run.plan.suspend != suspend) else { return };
            match &run.activity {
                Activity::Engine(engine) => {
                    let handle = engine.handle.clone();
                    run.plan.suspend = suspend;
                    entry.target.send_modify(|target| {
                        if let Work::Run { suspended, .. } = &mut target.work {
                            *suspended = suspend;
                        }
                    });
                    Ok(handle)
                }
                Activity::Rest(_) => {
                    let stall = entry.target.borrow().stall.clone();
                    Err((entry.name.clone(), Plan { suspend, ..run.plan.clone() }, stall))
                }
            }
        };
        match next {
            // An engine that has ended sends nothing.
            Ok(handle) => {
                let _ = handle.pause(suspend).await;
            }
            Err((name, plan, stall)) => {
                // An error shows as soon as the spec can be followed again.
                let _ = self.start(uid, generation, &name, plan, true).await;
                if let Some(stall) = stall {
                    self.report_stall(uid, generation, stall);
                }
            }
        }
    }

    /// Removes the bindings of all trunks of a Registry, for at most `deadline`, also those that a
    /// predecessor without a cache may have made and its engine has not come to yet. `None` where nothing
    /// runs.
    ///
    /// # Errors
    /// When the engine was ended meanwhile.
    pub(super) async fn deregister(
        &self,
        uid: &str,
        generation: i64,
        deadline: Duration,
    ) -> Result<Option<DeregistrationResult>, Interrupted> {
        let engine = self.state().begin_deregistration(uid, generation, deadline);
        let Some((handle, assume_bound)) = engine else { return Ok(None) };
        let ended = |_| Interrupted("its engine was ended");
        if let Ok(done) = tokio::time::timeout(deadline, handle.deregister_all(assume_bound)).await {
            return done.map(|report| Some(DeregistrationResult::Complete(report))).map_err(ended);
        }
        let summary = tokio::time::timeout(ENGINE_QUERY_TIMEOUT, handle.summary())
            .await
            .unwrap_or(Ok(Default::default()))
            .map_err(ended)?;
        let counts = summary.counts;
        let why = [&summary.requester, &summary.api].into_iter().find(|health| health.ok == Some(false));
        let why = why.and_then(|health| health.message.clone());
        Ok(Some(DeregistrationResult::DeadlineExceeded {
            // What cannot be registered has nothing to remove.
            left: counts.registered + counts.at_risk + counts.deregistering,
            why: why.unwrap_or_else(|| "registrars did not respond in time".to_owned()),
        }))
    }

    /// Ends the engine of a Registry that is deregistered, and remembers that until the resource is gone.
    ///
    /// # Errors
    /// When another replica may lead by now: it deregisters again.
    pub(super) async fn finish(&self, uid: &str) -> Result<(), Interrupted> {
        if !self.common.fence.holds() {
            return Err(Interrupted("another replica may lead by now"));
        }
        self.state().deregistered.insert(uid.to_owned());
        self.stop_entry(uid).await;
        Ok(())
    }

    /// Ends the engine of a Registry, if one runs, and reports no more on it. Bindings stay as they are.
    pub(super) async fn stop(&self, uid: &str) {
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
}
