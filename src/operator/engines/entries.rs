//! The Registries that are known, and which of them may run. Pure: held under a lock, for a moment.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    EngineManagerError,
    run::{Run, RunningEngine},
};
use crate::{
    admin::{Directory, Listed},
    instance::{Identity, Reloads, RunOptions},
    operator::{
        status_updater::{StatusTarget, Work},
        validate::Plan,
    },
    registry::RegistryName,
    runtime::handle::EngineHandle,
};

/// An engine that has to end, and its Registry's name.
pub(super) type Evicted = (RegistryName, Box<Run>);

#[derive(Default)]
pub(super) struct State {
    /// By UID.
    pub(super) entries: HashMap<String, RegistryEntry>,
    /// Those that are deregistered, and only wait for their finalizer to be removed.
    pub(super) deregistered: HashSet<String>,
    /// Those with nothing left to deregister that finalizers of others keep.
    pub(super) kept_listed: HashMap<String, (RegistryName, Listed)>,
    /// Nothing is started any more.
    pub(super) closed: bool,
}

/// One Registry: the task that reports on it, and its engine while one runs.
pub(super) struct RegistryEntry {
    pub(super) name: RegistryName,
    /// Orders Registries by when they were created.
    pub(super) age: i64,
    pub(super) target: watch::Sender<StatusTarget>,
    pub(super) updater: JoinHandle<()>,
    /// Boxed: a map keeps room for twice as many entries as it has.
    pub(super) run: Option<Box<Run>>,
    /// It is about to run, and counts already.
    pub(super) starting: bool,
}

/// The next step for a plan.
pub(super) enum RunAction {
    Start(RegistryName),
    Change(Box<Running>),
}

/// The parts of a running engine that a change needs.
pub(super) struct Running {
    pub(super) plan: Plan,
    pub(super) reloads: Reloads,
    pub(super) handle: EngineHandle,
    pub(super) options: RunOptions,
}

impl State {
    /// Returns what a plan takes. `None`: nothing; it is the one that is followed, or nothing may start.
    pub(super) fn next_action(
        &self,
        uid: &str,
        generation: i64,
        plan: &Plan,
    ) -> Result<Option<RunAction>, EngineManagerError> {
        let Some(entry) = self.entries.get(uid).filter(|_| !self.closed) else { return Ok(None) };
        let Some(run) = &entry.run else { return Ok(Some(RunAction::Start(entry.name.clone()))) };
        if run.engine().is_some_and(RunningEngine::has_ended) {
            tracing::error!(registry = %entry.name, "its engine ended unexpectedly, which is a defect: \
                                                      starting it again");
            return Ok(Some(RunAction::Start(entry.name.clone())));
        }
        if run.plan.identity != plan.identity {
            return Err(EngineManagerError::InstanceIdChanged);
        }
        if run.plan == *plan {
            entry.assign(generation);
            return Ok(None);
        }
        let Some(engine) = run.engine() else { return Ok(Some(RunAction::Start(entry.name.clone()))) };
        Ok(Some(RunAction::Change(Box::new(Running {
            plan: run.plan.clone(),
            reloads: engine.reloads.clone(),
            handle: engine.handle.clone(),
            options: engine.options.clone(),
        }))))
    }

    /// Decides between two Registries with one identity, no matter which was reconciled first: a Registry
    /// that goes by its own UID is never in the wrong, and of two that name the same instance id, the older
    /// one has it. Returns the engine that has to end for this one.
    pub(super) fn resolve_conflict(
        &mut self,
        uid: &str,
        plan: &Plan,
    ) -> Result<Option<Evicted>, EngineManagerError> {
        let own = plan.config.instance_id.is_none();
        let twin = self.entries.iter().find(|(other, entry)| {
            other.as_str() != uid
                && (entry.runs_as(&plan.identity) || (!own && plan.identity.id.as_str() == other.as_str()))
        });
        let (Some((other, holder)), Some(me)) = (twin, self.entries.get(uid)) else { return Ok(None) };
        let theirs = plan.identity.id.as_str() == other.as_str();
        let right = |own: bool, entry: &RegistryEntry, uid: &str| (!own, entry.age, uid.to_owned());
        if right(own, me, uid) > right(theirs, holder, other) {
            let near = me.name.namespace == holder.name.namespace;
            return Err(EngineManagerError::InstanceIdInUse(near.then(|| holder.name.clone())));
        }
        let other = other.clone();
        Ok(self.evict(&other, &EngineManagerError::InstanceIdInUse(None)))
    }

    /// Takes a place for one more engine, of `most`; where there is none, a Registry that is newer gives way.
    /// Two that ask at the same time cannot get the same place. Returns the engine that has to end before
    /// this one starts.
    pub(super) fn reserve(&mut self, uid: &str, most: u64) -> Result<Option<Evicted>, EngineManagerError> {
        let order = |(uid, entry): (&String, &RegistryEntry)| (entry.age, entry.name.clone(), uid.clone());
        let counted = self.entries.iter().filter(|(other, entry)| *other != uid && entry.counts());
        let count = u64::try_from(counted.clone().count()).unwrap_or(u64::MAX);
        let mut evicted = None;
        if count >= most {
            let me = self.entries.get_key_value(uid).map(order);
            let newest = counted.map(order).max();
            let Some((_, name, other)) = newest.filter(|newest| me.is_some_and(|me| me < *newest)) else {
                return Err(EngineManagerError::TooManyRegistries(most));
            };
            tracing::warn!(registry = %name, limit = most, "stopped: an older Registry needs its place under --max-registries");
            evicted = self.evict(&other, &EngineManagerError::TooManyRegistries(most));
        }
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.starting = true;
        }
        Ok(evicted)
    }

    /// Gives the place back: the engine could not be started.
    pub(super) fn give_back(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.starting = false;
        }
    }

    /// Enters an engine that was started in its place. Where nothing may run any more, it ends at once.
    ///
    /// # Errors
    /// When another one with its identity was entered meanwhile, or its place was taken for an older
    /// Registry; which one stays is found out by the next reconcile.
    pub(super) fn begin(
        &mut self,
        uid: &str,
        generation: i64,
        most: u64,
        run: Run,
        directory: &Directory,
    ) -> Result<(), EngineManagerError> {
        let identity = &run.plan.identity;
        let twin = self.entries.iter().any(|(other, entry)| other != uid && entry.runs_as(identity));
        let Some(entry) = self.entries.get_mut(uid).filter(|_| !self.closed) else { return Ok(()) };
        let reserved = std::mem::take(&mut entry.starting);
        if twin {
            return Err(EngineManagerError::InstanceIdInUse(None));
        }
        if !reserved {
            return Err(EngineManagerError::TooManyRegistries(most));
        }
        if let Some(engine) = run.engine() {
            directory.enter(entry.name.clone(), engine.handle.clone());
        }
        entry.run = Some(Box::new(run));
        entry.assign(generation);
        Ok(())
    }

    /// Continues an engine by another plan.
    pub(super) fn continue_with(&mut self, uid: &str, generation: i64, plan: Plan) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if let Some(run) = &mut entry.run {
            let suspended = plan.suspend;
            tracing::info!(registry = %entry.name, generation, suspended, "applying a changed spec");
            run.plan = plan;
        }
        entry.assign(generation);
    }

    /// Returns the engine, and whether it has a predecessor; from now on the status shows the deregistration.
    pub(super) fn begin_deregistration(
        &self,
        uid: &str,
        generation: i64,
        deadline: Duration,
    ) -> Option<(EngineHandle, bool)> {
        let entry = self.entries.get(uid)?;
        let run = entry.run.as_ref()?;
        let engine = run.engine()?;
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX / 2);
        let (handle, durable, succeeds) = (engine.handle.clone(), run.is_durable(), engine.succeeds);
        let deadline_ms = routr_environment::unix_ms().saturating_add(millis);
        let work = Work::Deregister { handle: handle.clone(), durable, deadline_ms };
        entry.target.send_replace(StatusTarget { generation, stall: None, work });
        Some((handle, succeeds))
    }

    /// Takes the engine, or the place for one, from a Registry, whose status shows why.
    fn evict(&mut self, uid: &str, why: &EngineManagerError) -> Option<Evicted> {
        let entry = self.entries.get_mut(uid)?;
        entry.target.send_modify(|target| {
            target.stall = Some(why.stall());
            target.work = Work::Undecided;
        });
        entry.starting = false;
        let name = entry.name.clone();
        entry.run.take().map(|run| (name, run))
    }
}

impl RegistryEntry {
    /// Returns whether it has one of the places for engines.
    fn counts(&self) -> bool {
        self.starting || self.run.is_some()
    }

    /// Returns whether its engine, if one runs, has this identity.
    fn runs_as(&self, identity: &Identity) -> bool {
        self.run.as_ref().is_some_and(|run| run.plan.identity == *identity)
    }

    /// Has the status updater report on what runs.
    fn assign(&self, generation: i64) {
        let Some(run) = &self.run else { return };
        self.target.send_modify(|target| {
            let work = run.work(&target.work);
            *target = StatusTarget { generation, stall: None, work };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registries that are observed, the older the smaller their number is.
    fn observed(numbers: &[i64]) -> State {
        let mut state = State::default();
        for number in numbers {
            let (name, uid) = (RegistryName::of("ns", format!("r{number}")), number.to_string());
            let (target, _) = watch::channel(StatusTarget::default());
            let updater = tokio::spawn(std::future::ready(()));
            let entry = RegistryEntry { name, age: *number, target, updater, run: None, starting: false };
            state.entries.insert(uid, entry);
        }
        state
    }

    fn reserves(state: &mut State, uid: &str) -> bool {
        state.reserve(uid, 2).is_ok_and(|evicted| evicted.is_none())
    }

    #[tokio::test]
    async fn registries_that_start_at_the_same_time_get_no_more_places_than_there_are() {
        let mut state = observed(&[1, 2, 3]);
        assert!(reserves(&mut state, "2") && reserves(&mut state, "3"));
        assert!(reserves(&mut state, "3"), "its own place");
        // The oldest takes the place of the newest, which has not begun yet.
        assert!(reserves(&mut state, "1"));
        assert_eq!(["1", "2", "3"].map(|uid| state.entries[uid].counts()), [true, true, false]);
        let stall = state.entries["3"].target.borrow().stall.clone();
        assert_eq!(
            stall.map(|stall| stall.reason),
            Some(crate::operator::status::reasons::ConditionReason::TooManyRegistries)
        );
        assert!(matches!(state.reserve("3", 2), Err(EngineManagerError::TooManyRegistries(2))));
        // One that could not be started gives its place back.
        state.give_back("2");
        assert!(reserves(&mut state, "3"));
    }
}
