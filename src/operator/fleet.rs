//! The engines of all Registries that this replica leads, by the UID of their resource.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    reporter::{Assignment, Reporter, Work},
    status::{Stall, reasons},
    validate::Plan,
};
use crate::{
    admin::{Directory, RegistryName},
    engine::{Engine, handle::EngineHandle},
    environment,
    instance::{self, Instance, InstanceError, Life, Permit, Reloads},
    metrics::Metrics,
    ports::Environment,
};

/// How long an engine may take to say how it is.
const LOOK: Duration = Duration::from_secs(1);

/// Why an engine does not run as planned.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// It cannot be set up.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Another Registry has the same instance id: they would overwrite each other's bindings.
    #[error("spec.instanceId: Registry {0} has it already; give this one another, or leave it out")]
    InstanceIdInUse(RegistryName),
    /// It would change all Call-IDs.
    #[error(
        "spec.instanceId: it cannot change while the registry runs, since every Call-ID hangs on it; delete the Registry and \
         create it anew"
    )]
    InstanceIdChanged,
}

impl FleetError {
    /// As the status tells it.
    pub fn stall(&self) -> Stall {
        let reason = match self {
            Self::Instance(_) => reasons::CANNOT_START,
            Self::InstanceIdInUse(_) => reasons::INSTANCE_ID_IN_USE,
            Self::InstanceIdChanged => reasons::INVALID_SPEC,
        };
        Stall { reason, message: self.to_string() }
    }
}

/// See the module.
pub struct Fleet {
    members: Mutex<HashMap<String, Member>>,
    /// Who has been seen off, and only waits for its finalizer to be removed.
    seen_off: Mutex<HashSet<String>>,
    directory: Directory,
    metrics: Metrics,
    permit: Permit,
    grace: Duration,
}

/// One Registry: who reports on it, and its engine while one runs.
struct Member {
    name: RegistryName,
    assignment: watch::Sender<Assignment>,
    reporter: JoinHandle<()>,
    run: Option<Run>,
}

/// How a de-registration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing is left to remove.
    Complete {
        /// How many bindings there were.
        removed: u64,
    },
    /// The deadline came first.
    Late {
        /// How many trunks were left.
        left: u64,
        /// In plain words.
        why: String,
    },
}

struct Run {
    plan: Plan,
    handle: EngineHandle,
    reloads: Reloads,
    task: JoinHandle<Engine>,
    stop: CancellationToken,
}

impl Fleet {
    /// Without any engine. Engines that it starts are entered into the directory and counted in the metrics, and act only
    /// while the permit holds; `grace` is what each of them may take at its end.
    pub fn new(directory: Directory, metrics: Metrics, permit: Permit, grace: Duration) -> Self {
        Self { members: Mutex::default(), seen_off: Mutex::default(), directory, metrics, permit, grace }
    }

    fn members(&self) -> MutexGuard<'_, HashMap<String, Member>> {
        // Nothing is left half done while it is held.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody reports on this Registry.
    pub fn report_on(&self, uid: &str, name: &RegistryName, reporter: impl FnOnce() -> Reporter) {
        self.members().entry(uid.to_owned()).or_insert_with(|| {
            let (assignment, assigned) = watch::channel(Assignment::default());
            let reporter = tokio::spawn(reporter().run(assigned));
            Member { name: name.clone(), assignment, reporter, run: None }
        });
    }

    /// The spec of this generation cannot be followed. An engine that runs goes on as it is. Returns whether that is news.
    pub fn stall(&self, uid: &str, generation: i64, stall: Stall) -> bool {
        let members = self.members();
        let Some(member) = members.get(uid) else { return false };
        member.assignment.send_if_modified(|assignment| {
            let news = assignment.generation != generation || assignment.stall.as_ref() != Some(&stall);
            (assignment.generation, assignment.stall) = (generation, Some(stall));
            news
        })
    }

    /// Runs an engine by this plan: starts one, or changes in the one that runs what differs.
    ///
    /// # Errors
    /// See [`FleetError`]; an engine that runs goes on as it is.
    pub async fn run(&self, uid: &str, generation: i64, plan: Plan) -> Result<(), FleetError> {
        let (changes, pause) = {
            let mut members = self.members();
            // A resource that goes by its own UID is never the one in the wrong.
            let twin =
                members.iter().filter(|_| plan.config.instance_id.is_some()).find(|(other, member)| {
                    let same = || member.run.as_ref().is_some_and(|run| run.plan.identity == plan.identity);
                    *other != uid && (same() || plan.identity.id.as_str() == other.as_str())
                });
            if let Some((_, twin)) = twin {
                return Err(FleetError::InstanceIdInUse(twin.name.clone()));
            }
            let Some(member) = members.get_mut(uid) else { return Ok(()) };
            let work = |handle: &EngineHandle| Assignment {
                generation,
                stall: None,
                work: Work::Run {
                    handle: handle.clone(),
                    durable: plan.config.cache != crate::config::Cache::Memory,
                    suspended: plan.suspend,
                },
            };
            match &mut member.run {
                Some(run) if !run.task.is_finished() => {
                    if run.plan.identity != plan.identity {
                        return Err(FleetError::InstanceIdChanged);
                    }
                    let change = (run.plan.config != plan.config)
                        .then(|| {
                            let before = (&run.plan.config, &run.plan.identity);
                            instance::reload(before, (&plan.config, &plan.identity), &self.permit)
                        })
                        .transpose()?;
                    member.assignment.send_replace(work(&run.handle));
                    if change.is_some() || run.plan.suspend != plan.suspend {
                        let suspended = plan.suspend;
                        tracing::info!(registry = %member.name, generation, suspended, "takes over a changed specification");
                    }
                    let pause =
                        (run.plan.suspend != plan.suspend).then(|| (run.handle.clone(), plan.suspend));
                    run.plan = plan;
                    (change.map(|change| (run.reloads.clone(), change)), pause)
                }
                run => {
                    if run.is_some() {
                        tracing::error!(registry = %member.name, "its engine ended by itself, which is a defect: starting it again");
                    }
                    let started = self.start(&member.name, plan.clone())?;
                    member.assignment.send_replace(work(&started.handle));
                    *run = Some(started);
                    (None, None)
                }
            }
        };
        // An engine that has ended is found so by the next reconcile.
        if let Some((reloads, change)) = changes {
            let _ = reloads.send(change).await;
        }
        if let Some((handle, paused)) = pause {
            let _ = handle.pause(paused).await;
        }
        Ok(())
    }

    fn start(&self, name: &RegistryName, plan: Plan) -> Result<Run, InstanceError> {
        let life = Life { grace: self.grace, paused: plan.suspend, permit: self.permit.clone() };
        let stop = CancellationToken::new();
        let observer = self.metrics.registry(name.clone());
        let span = tracing::info_span!(parent: None, "engine", registry = %name);
        let Instance { handle, reloads, task } =
            span.in_scope(|| instance::start(&plan.config, &plan.identity, observer, &life, stop.clone()))?;
        self.directory.enter(name.clone(), handle.clone());
        tracing::info!(
            registry = %name,
            api = %plan.config.api.address,
            requester = %plan.config.requester.address,
            suspended = plan.suspend,
            "running"
        );
        Ok(Run { plan, handle, reloads, task, stop })
    }

    /// Whether an engine runs for this Registry.
    pub fn runs(&self, uid: &str) -> bool {
        self.members().get(uid).is_some_and(|member| member.run.is_some())
    }

    /// Removes the bindings of all trunks of a Registry, for at most `deadline`. `None` where nothing runs.
    pub async fn leave(&self, uid: &str, generation: i64, deadline: Duration) -> Option<Farewell> {
        let handle = {
            let members = self.members();
            let member = members.get(uid)?;
            let run = member.run.as_ref()?;
            let now_ms = environment::System.unix_ms();
            let deadline_ms = now_ms + u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX / 2);
            member.assignment.send_replace(Assignment {
                generation,
                stall: None,
                work: Work::Leave {
                    handle: run.handle.clone(),
                    durable: run.plan.config.cache != crate::config::Cache::Memory,
                    deadline_ms,
                },
            });
            run.handle.clone()
        };
        let look = async || tokio::time::timeout(LOOK, handle.summary()).await.ok()?.ok();
        let before = look().await.map_or(0, |summary| summary.counts.registered + summary.counts.at_risk);
        if matches!(tokio::time::timeout(deadline, handle.leave()).await, Ok(Ok(()))) {
            return Some(Farewell::Complete { removed: before });
        }
        let summary = look().await.unwrap_or_default();
        let counts = summary.counts;
        let why = [&summary.requester, &summary.api].into_iter().find(|health| health.ok == Some(false));
        let why = why.and_then(|health| health.message.clone());
        Some(Farewell::Late {
            // What cannot be registered has nothing to remove.
            left: counts.registered + counts.at_risk + counts.leaving,
            why: why.unwrap_or_else(|| "registrars did not answer in time".to_owned()),
        })
    }

    /// Whether [`Fleet::see_off`] was called for it: there is nothing more to do than to let the resource go.
    pub fn is_seen_off(&self, uid: &str) -> bool {
        self.seen_off.lock().unwrap_or_else(PoisonError::into_inner).contains(uid)
    }

    /// The end of a Registry that is being deleted: as [`Fleet::dismiss`], and it is remembered until it is gone.
    pub async fn see_off(&self, uid: &str) {
        self.seen_off.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned());
        self.end_of(uid).await;
    }

    /// The resource is gone: ends its engine, if one runs, and reports no more on it. Bindings stay as they are.
    pub async fn dismiss(&self, uid: &str) {
        self.seen_off.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.end_of(uid).await;
    }

    async fn end_of(&self, uid: &str) {
        let Some(member) = self.members().remove(uid) else { return };
        self.end(member).await;
    }

    /// All that are here under a namespace, or all of them.
    pub fn uids(&self, namespace: Option<&str>) -> Vec<String> {
        let members = self.members();
        let here = |member: &Member| namespace.is_none_or(|ns| member.name.namespace.as_deref() == Some(ns));
        let known = members.iter().filter(|(_, member)| here(member)).map(|(uid, _)| uid.clone());
        known.chain(self.seen_off.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned()).collect()
    }

    /// Ends all engines, at the same time. Bindings stay as they are.
    pub async fn dismiss_all(&self) {
        let members: Vec<Member> = self.members().drain().map(|(_, member)| member).collect();
        // All of them stop sending before any is waited for.
        for member in &members {
            if let Some(run) = &member.run {
                self.directory.leave(&member.name, &run.handle);
                run.stop.cancel();
            }
        }
        futures_util::future::join_all(members.into_iter().map(|member| self.end(member))).await;
    }

    async fn end(&self, member: Member) {
        member.reporter.abort();
        let Some(run) = member.run else { return };
        self.directory.leave(&member.name, &run.handle);
        run.stop.cancel();
        // An engine takes its grace, and a quarter of it to write; more than that is a defect.
        if tokio::time::timeout(self.grace * 2 + Duration::from_secs(1), run.task).await.is_err() {
            tracing::error!(registry = %member.name, "its engine does not end");
        }
        // Unless another one has its name by now.
        if self.directory.get(&member.name).is_none() {
            self.metrics.forget(&member.name);
        }
    }
}

/// For whoever keeps it.
pub type SharedFleet = Arc<Fleet>;
