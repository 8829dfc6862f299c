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
    reporter::{Assignment, Reporter, Work},
    runtime::EngineThreads,
    status::{Stall, reasons},
    validate::Plan,
};
use crate::{
    admin::{Directory, Listed, RegistryName, RegistryPhase, RegistryState},
    engine::handle::{EngineHandle, EngineStopped, LeaveReport},
    environment,
    grpc::shared::Connections,
    instance::{self, Identity, InstanceError, Life, Permit, Reloads},
    metrics::Metrics,
    quota::{Excess, Quotas},
};

/// How long an engine may take to say how it is.
const LOOK: Duration = Duration::from_secs(1);

/// Why an engine does not run as planned.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// It cannot be set up.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Another Registry has the same instance id: they would overwrite each other's bindings. It is named where it is in
    /// the same namespace.
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

impl FleetError {
    /// As the status tells it.
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

/// How a de-registration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing is left to remove.
    Complete(LeaveReport),
    /// The deadline came first.
    Late {
        /// How many trunks were left.
        left: u64,
        /// In plain words.
        why: String,
    },
}

/// See the module.
pub struct Fleet {
    state: Mutex<State>,
    common: Common,
}

/// What all engines share.
struct Common {
    directory: Directory,
    metrics: Metrics,
    permit: Permit,
    /// Where engines run.
    engines: EngineThreads,
    quotas: Quotas,
    grace: Duration,
    /// Registries with the same neighbours share the connections to them.
    connections: Connections,
}

#[derive(Default)]
struct State {
    members: HashMap<String, Member>,
    /// Who has been seen off, and only waits for its finalizer to be removed.
    seen_off: HashSet<String>,
    /// Who has nothing left to de-register, and is kept by finalizers of others.
    lingering: HashMap<String, (RegistryName, Listed)>,
    /// Nobody is taken in any more.
    closed: bool,
}

/// One Registry: who reports on it, and its engine while one runs.
struct Member {
    name: RegistryName,
    age: i64,
    assignment: watch::Sender<Assignment>,
    reporter: JoinHandle<()>,
    run: Option<Run>,
}

/// What is to be done for a plan.
enum Step {
    Start(RegistryName),
    Change { before: Box<Plan>, reloads: Reloads, handle: EngineHandle, life: Box<Life> },
}

impl Fleet {
    /// Without any engine. Engines that it starts are entered into the directory and counted in the metrics, and act only
    /// while the permit holds; `grace` is what each of them may take at its end.
    pub fn new(
        directory: Directory,
        metrics: Metrics,
        permit: Permit,
        engines: EngineThreads,
        quotas: Quotas,
        grace: Duration,
    ) -> Self {
        Self {
            state: Mutex::default(),
            common: Common {
                directory,
                metrics,
                permit,
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

    /// Registries (by namespace and name, with a slash between them) had lines left out of the log: their status shows it.
    pub fn note_left_out(&self, registries: &[(String, u64)]) {
        let state = self.state();
        for member in state.members.values() {
            let name = member.name.to_string();
            if let Some(run) = &member.run
                && registries.iter().any(|(registry, _)| *registry == name)
            {
                run.life.quota.note(Excess::Log);
            }
        }
    }

    /// Sees to it that somebody reports on this Registry. `age` orders Registries by when they were created.
    pub fn report_on(&self, uid: &str, name: &RegistryName, age: i64, reporter: impl FnOnce() -> Reporter) {
        let mut state = self.state();
        if state.closed || state.seen_off.contains(uid) {
            return;
        }
        state.members.entry(uid.to_owned()).or_insert_with(|| {
            let (assignment, assigned) = watch::channel(Assignment::default());
            let reporter = reporter().listed(self.common.directory.list(name, uid));
            let reporter = tokio::spawn(reporter.run(assigned));
            Member { name: name.clone(), age, assignment, reporter, run: None }
        });
    }

    /// The spec of this generation cannot be followed. An engine that runs goes on as it is. Returns whether that is news.
    pub fn stall(&self, uid: &str, generation: i64, stall: Stall) -> bool {
        let state = self.state();
        let Some(member) = state.members.get(uid) else { return false };
        member.assignment.send_if_modified(|assignment| {
            let news = assignment.generation != generation || assignment.stall.as_ref() != Some(&stall);
            (assignment.generation, assignment.stall) = (generation, Some(stall));
            news
        })
    }

    /// Whether the engine of a Registry whose spec cannot be followed otherwise sends: an emergency brake works in any case.
    pub async fn suspend(&self, uid: &str, suspend: bool) {
        let handle = {
            let mut state = self.state();
            let Some(member) = state.members.get_mut(uid) else { return };
            let Some(run) = member.run.as_mut().filter(|run| run.plan.suspend != suspend) else { return };
            run.plan.suspend = suspend;
            member.assignment.send_modify(|assignment| {
                if let Work::Run { suspended, .. } = &mut assignment.work {
                    *suspended = suspend;
                }
            });
            run.handle.clone()
        };
        // An engine that has ended sends nothing.
        let _ = handle.pause(suspend).await;
    }

    /// Runs an engine by this plan: starts one, or changes in the one that runs what differs. To be called by one at a time
    /// for each Registry. `has_run`: an engine ran for it before, in this process or another.
    ///
    /// # Errors
    /// See [`FleetError`]; an engine that runs goes on as it is.
    pub async fn run(
        &self,
        uid: &str,
        generation: i64,
        mut plan: Plan,
        has_run: bool,
    ) -> Result<(), FleetError> {
        self.common.quotas.limits().apply(&mut plan.config);
        if let Some((name, run)) = self.displace(uid, &plan)? {
            run.end(&name, &self.common).await;
        }
        let Some(step) = self.step(uid, &plan)? else { return Ok(()) };
        // Reading CA files and roots takes its time: nothing is locked meanwhile.
        match step {
            Step::Start(name) => {
                if let Some((name, run)) = self.make_way(uid)? {
                    run.end(&name, &self.common).await;
                }
                let run = Run::start(&name, plan, has_run, &self.common)?;
                if !self.state().begin(uid, generation, run, &self.common.directory) {
                    return Err(FleetError::InstanceIdInUse(None));
                }
            }
            Step::Change { before, reloads, handle, life } => {
                let (was, is) = ((&before.config, &before.identity), (&plan.config, &plan.identity));
                let differs = before.config != plan.config;
                let change = {
                    let _threads = self.common.engines.enter();
                    differs.then(|| instance::reload(was, is, &life)).transpose()?
                };
                let suspend = (before.suspend != plan.suspend).then_some(plan.suspend);
                self.state().goes_on(uid, generation, plan);
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

    /// Of two Registries with one identity, one has to go, whoever was looked at first: a Registry that goes by its own UID
    /// is never in the wrong, and of two that name the same instance id, the older one has it.
    fn displace(&self, uid: &str, plan: &Plan) -> Result<Option<(RegistryName, Run)>, FleetError> {
        let mut state = self.state();
        let own = plan.config.instance_id.is_none();
        let twin = state.members.iter().find(|(other, member)| {
            other.as_str() != uid
                && (member.runs_as(&plan.identity) || (!own && plan.identity.id.as_str() == other.as_str()))
        });
        let (Some((other, holder)), Some(me)) = (twin, state.members.get(uid)) else { return Ok(None) };
        let theirs = plan.identity.id.as_str() == other.as_str();
        let right = |own: bool, member: &Member, uid: &str| (!own, member.age, uid.to_owned());
        if right(own, me, uid) > right(theirs, holder, other) {
            let near = me.name.namespace == holder.name.namespace;
            return Err(FleetError::InstanceIdInUse(near.then(|| holder.name.clone())));
        }
        let (other, name) = (other.clone(), holder.name.clone());
        let Some(member) = state.members.get_mut(&other) else { return Ok(None) };
        member.assignment.send_modify(|assignment| {
            assignment.stall = Some(FleetError::InstanceIdInUse(None).stall());
            assignment.work = Work::Undecided;
        });
        Ok(member.run.take().map(|run| (name, run)))
    }

    /// Room for one more engine: there is some, or a Registry that is newer than this one gives way.
    fn make_way(&self, uid: &str) -> Result<Option<(RegistryName, Run)>, FleetError> {
        let mut state = self.state();
        let most = self.common.quotas.limits().registries;
        let order = |(uid, member): (&String, &Member)| (member.age, member.name.clone(), uid.clone());
        let running = state.members.iter().filter(|(other, member)| *other != uid && member.run.is_some());
        let (running, newest) =
            running.fold((0, None), |(count, newest), one| (count + 1, newest.max(Some(order(one)))));
        if running < most {
            return Ok(None);
        }
        let me = state.members.get_key_value(uid).map(order);
        let Some((_, name, other)) = newest.filter(|newest| me.is_some_and(|me| me < *newest)) else {
            return Err(FleetError::TooManyRegistries(most));
        };
        let Some(member) = state.members.get_mut(&other) else { return Ok(None) };
        tracing::warn!(registry = %name, limit = most, "stopped: an older Registry needs its place under --max-registries");
        member.assignment.send_modify(|assignment| {
            assignment.stall = Some(FleetError::TooManyRegistries(most).stall());
            assignment.work = Work::Undecided;
        });
        Ok(member.run.take().map(|run| (name, run)))
    }

    fn step(&self, uid: &str, plan: &Plan) -> Result<Option<Step>, FleetError> {
        let state = self.state();
        let Some(member) = state.members.get(uid).filter(|_| !state.closed) else { return Ok(None) };
        let Some(run) = &member.run else { return Ok(Some(Step::Start(member.name.clone()))) };
        if run.has_ended() {
            tracing::error!(registry = %member.name, "its engine ended unexpectedly, which is a defect: \
                                                      starting it again");
            return Ok(Some(Step::Start(member.name.clone())));
        }
        if run.plan.identity != plan.identity {
            return Err(FleetError::InstanceIdChanged);
        }
        let (reloads, handle) = (run.reloads.clone(), run.handle.clone());
        let (before, life) = (Box::new(run.plan.clone()), Box::new(run.life.clone()));
        Ok(Some(Step::Change { before, reloads, handle, life }))
    }

    /// Whether an engine runs for this Registry.
    pub fn runs(&self, uid: &str) -> bool {
        self.state().members.get(uid).is_some_and(|member| member.run.is_some())
    }

    /// Removes the bindings of all trunks of a Registry, for at most `deadline`, also those that a predecessor without a cache
    /// may have made and its engine has not come to yet. `None` where nothing runs.
    ///
    /// # Errors
    /// When the engine was ended meanwhile.
    pub async fn leave(
        &self,
        uid: &str,
        generation: i64,
        deadline: Duration,
    ) -> Result<Option<Farewell>, EngineStopped> {
        let Some((handle, presume)) = self.state().leaves(uid, generation, deadline) else { return Ok(None) };
        if let Ok(left) = tokio::time::timeout(deadline, handle.leave(presume)).await {
            return left.map(|report| Some(Farewell::Complete(report)));
        }
        let summary = tokio::time::timeout(LOOK, handle.summary()).await.unwrap_or(Ok(Default::default()))?;
        let counts = summary.counts;
        let why = [&summary.requester, &summary.api].into_iter().find(|health| health.ok == Some(false));
        let why = why.and_then(|health| health.message.clone());
        Ok(Some(Farewell::Late {
            // What cannot be registered has nothing to remove.
            left: counts.registered + counts.at_risk + counts.leaving,
            why: why.unwrap_or_else(|| "registrars did not respond in time".to_owned()),
        }))
    }

    /// Whether [`Fleet::see_off`] was called for it: there is nothing more to do than to let the resource go.
    pub fn is_seen_off(&self, uid: &str) -> bool {
        self.state().seen_off.contains(uid)
    }

    /// The end of a Registry that is being deleted: as [`Fleet::dismiss`], and it is remembered until it is gone.
    pub async fn see_off(&self, uid: &str) {
        self.state().seen_off.insert(uid.to_owned());
        self.end_of(uid).await;
    }

    /// The resource is gone: ends its engine, if one runs, and reports no more on it. Bindings stay as they are.
    pub async fn dismiss(&self, uid: &str) {
        let lingering = {
            let mut state = self.state();
            state.seen_off.remove(uid);
            state.lingering.remove(uid)
        };
        drop(lingering);
        self.end_of(uid).await;
    }

    async fn end_of(&self, uid: &str) {
        let member = self.state().members.remove(uid);
        if let Some(member) = member {
            self.end(member).await;
        }
    }

    /// The resource goes on being shown until it is gone, though there is nothing more to do.
    pub fn linger(&self, uid: &str, name: &RegistryName) {
        let listed = self.common.directory.list(name, uid);
        listed.set(RegistryState {
            state: RegistryPhase::Deregistering,
            ready: false,
            reason: "Deregistering".to_owned(),
            message: "it is being deleted; other finalizers keep it".to_owned(),
        });
        let mut state = self.state();
        if !state.closed {
            state.lingering.insert(uid.to_owned(), (name.clone(), listed));
        }
    }

    /// All that are known here under a namespace, or all of them.
    pub fn uids(&self, namespace: Option<&str>) -> Vec<String> {
        let state = self.state();
        let here = |name: &RegistryName| namespace.is_none_or(|ns| name.namespace.as_deref() == Some(ns));
        let known = state.members.iter().filter(|(_, member)| here(&member.name)).map(|(uid, _)| uid);
        let lingering = state.lingering.iter().filter(|(_, (name, _))| here(name)).map(|(uid, _)| uid);
        known.chain(lingering).chain(&state.seen_off).cloned().collect()
    }

    /// Ends all engines, at the same time, and takes in no more. Bindings stay as they are.
    pub async fn dismiss_all(&self) {
        let members: Vec<Member> = {
            let mut state = self.state();
            state.closed = true;
            state.lingering.clear();
            state.members.drain().map(|(_, member)| member).collect()
        };
        join_all(members.into_iter().map(|member| self.end(member))).await;
    }

    async fn end(&self, member: Member) {
        member.reporter.abort();
        if let Some(run) = member.run {
            run.end(&member.name, &self.common).await;
        }
        // Unless another one has its name by now.
        if self.common.directory.get(&member.name).is_none() {
            self.common.metrics.forget(&member.name);
        }
    }
}

impl State {
    /// A new engine is in; where nobody is to run any more, it ends at once. `false` where another one with its identity
    /// came in meanwhile: who has to go is found out by the next look.
    fn begin(&mut self, uid: &str, generation: i64, run: Run, directory: &Directory) -> bool {
        let identity = &run.plan.identity;
        if self.members.iter().any(|(other, member)| other != uid && member.runs_as(identity)) {
            return false;
        }
        let Some(member) = self.members.get_mut(uid).filter(|_| !self.closed) else { return true };
        directory.enter(member.name.clone(), run.handle.clone());
        member.run = Some(run);
        member.assign(generation);
        true
    }

    /// An engine goes on by another plan, or by the same.
    fn goes_on(&mut self, uid: &str, generation: i64, plan: Plan) {
        let Some(member) = self.members.get_mut(uid) else { return };
        if let Some(run) = &mut member.run {
            if run.plan != plan {
                let suspended = plan.suspend;
                tracing::info!(registry = %member.name, generation, suspended, "applying a changed spec");
            }
            run.plan = plan;
        }
        member.assign(generation);
    }

    /// The engine, and whether it has a predecessor.
    fn leaves(&self, uid: &str, generation: i64, deadline: Duration) -> Option<(EngineHandle, bool)> {
        let member = self.members.get(uid)?;
        let run = member.run.as_ref()?;
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX / 2);
        let (handle, durable, succeeds) = (run.handle.clone(), run.is_durable(), run.succeeds);
        let deadline_ms = environment::unix_ms().saturating_add(millis);
        let work = Work::Leave { handle: handle.clone(), durable, deadline_ms };
        member.assignment.send_replace(Assignment { generation, stall: None, work });
        Some((handle, succeeds))
    }
}

impl Member {
    /// Whether its engine, if one runs, has this identity.
    fn runs_as(&self, identity: &Identity) -> bool {
        self.run.as_ref().is_some_and(|run| run.plan.identity == *identity)
    }

    /// Tells the reporter of the engine that runs.
    fn assign(&self, generation: i64) {
        let Some(run) = &self.run else { return };
        let work =
            Work::Run { handle: run.handle.clone(), durable: run.is_durable(), suspended: run.plan.suspend };
        self.assignment.send_replace(Assignment { generation, stall: None, work });
    }
}
