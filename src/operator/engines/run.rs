//! The run of one Registry: an engine, from its start to its end; or, while it is suspended and no engine
//! is needed, nothing but a look at its trunks now and then.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};
use tracing::Instrument as _;

use super::Common;
use crate::{
    config::Cache,
    instance::{self, Instance, InstanceError, Reloads, RunOptions, Survey},
    operator::{
        status::{self, Snapshot},
        status_updater::{StatusTarget, Work},
        validate::Plan,
    },
    registry::RegistryName,
    runtime::handle::EngineHandle,
};
use routr_registration::engine::{Engine, view::Summary};

/// The run by a plan. Dropped, it ends.
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) activity: Activity,
}

/// An engine, or none.
pub(super) enum Activity {
    Engine(Box<RunningEngine>),
    Rest(Rest),
}

/// An engine that runs. Dropped, it ends.
pub(super) struct RunningEngine {
    /// Another engine ran for this Registry before, which may have left bindings that this one knows nothing
    /// of.
    pub(super) succeeds: bool,
    pub(super) handle: EngineHandle,
    pub(super) reloads: Reloads,
    /// Options that it was started with.
    pub(super) options: RunOptions,
    task: JoinHandle<Engine>,
    stop: DropGuard,
}

/// A suspended Registry that needs no engine: it had none when it was suspended, so there is no binding that
/// only an engine knows of.
#[derive(Default)]
pub(super) struct Rest {
    /// The last look at its trunks, and when it began. Dropped, it ends.
    survey: Option<(AbortOnDropHandle<()>, Instant)>,
}

impl Run {
    /// Starts an engine; a Registry that is suspended needs none.
    pub(super) fn start(
        name: &RegistryName,
        plan: Plan,
        succeeds: bool,
        common: &Common,
    ) -> Result<Self, InstanceError> {
        let quota = common.quotas.registry(name.namespace.as_deref().unwrap_or_default());
        if plan.suspend {
            let _threads = common.engines.enter();
            instance::check(&plan.config, &plan.identity, &common.connections, &quota)?;
            tracing::info!(registry = %name, "suspended: no engine is started");
            return Ok(Self { plan, activity: Activity::Rest(Rest::default()) });
        }
        let options = RunOptions {
            grace: common.grace,
            paused: false,
            fence: common.fence.clone(),
            connections: common.connections.clone(),
            quota,
        };
        let stop = CancellationToken::new();
        let observer = common.metrics.registry(name.clone());
        let span = tracing::info_span!(parent: None, "engine", registry = %name);
        let _threads = common.engines.enter();
        let Instance { handle, reloads, task, .. } = span
            .in_scope(|| instance::start(&plan.config, &plan.identity, observer, &options, stop.clone()))?;
        tracing::info!(
            registry = %name,
            api = %plan.config.api.address,
            requester = %plan.config.requester.address,
            "running"
        );
        let stop = stop.drop_guard();
        let engine = Box::new(RunningEngine { succeeds, handle, reloads, options, task, stop });
        Ok(Self { plan, activity: Activity::Engine(engine) })
    }

    /// Returns the engine, where one runs.
    pub(super) fn engine(&self) -> Option<&RunningEngine> {
        match &self.activity {
            Activity::Engine(engine) => Some(engine),
            Activity::Rest(_) => None,
        }
    }

    /// Returns what the status updater reports on. A rest continues with what was found `before`.
    pub(super) fn work(&self, before: &Work) -> Work {
        match (&self.activity, before) {
            (Activity::Engine(engine), _) => Work::Run {
                handle: engine.handle.clone(),
                durable: self.is_durable(),
                suspended: self.plan.suspend,
                edge_port_advice: self.plan.config.edge_port_advice().map(Into::into),
            },
            (Activity::Rest(_), Work::Rest(snapshot)) => Work::Rest(snapshot.clone()),
            (Activity::Rest(_), _) => {
                let summary = Summary { paused: true, ..Summary::default() };
                let durable = self.is_durable();
                Work::Rest(Arc::new(Snapshot { summary, durable, ..Snapshot::default() }))
            }
        }
    }

    /// Returns whether its state outlives the process.
    pub(super) fn is_durable(&self) -> bool {
        self.plan.config.cache != Cache::Memory
    }

    /// Has the trunks of a Registry at rest read, if that is due; what is found goes to `target`.
    pub(super) fn survey(
        &mut self,
        name: &RegistryName,
        target: &watch::Sender<StatusTarget>,
        common: &Common,
    ) {
        let (durable, interval) = (self.is_durable(), self.plan.config.register_interval);
        let Activity::Rest(rest) = &mut self.activity else { return };
        let failed =
            !matches!(&target.borrow().work, Work::Rest(found) if found.summary.api.ok == Some(true));
        let due = |(task, began): &(AbortOnDropHandle<()>, Instant)| {
            task.is_finished() && (failed || began.elapsed() >= interval)
        };
        if !rest.survey.as_ref().is_none_or(due) {
            return;
        }
        let namespace = name.namespace.clone().unwrap_or_default();
        let (plan, target) = (Box::new(self.plan.clone()), target.clone());
        let (surveys, connections) = (common.surveys.clone(), common.connections.clone());
        let quotas = common.quotas.clone();
        let _threads = common.engines.enter();
        let look = async move {
            let _turn = surveys.acquire_in(Some(&namespace)).await;
            let quota = quotas.registry(&namespace);
            let (config, identity) = (&plan.config, &plan.identity);
            let found = instance::survey(config, identity, &connections, &quota, status::MAX_FAILURES);
            // Boxed: thousands may wait for their turn.
            match Box::pin(found).await {
                Ok(Survey { summary, failures }) => {
                    target.send_if_modified(|target| {
                        let Work::Rest(snapshot) = &mut target.work else { return false };
                        *snapshot = Arc::new(Snapshot { summary, failures, durable, edge_port_advice: None });
                        true
                    });
                }
                Err(error) => tracing::debug!(%error, "cannot read the trunks of a suspended Registry"),
            }
        };
        let task =
            tokio::spawn(look.instrument(tracing::info_span!(parent: None, "engine", registry = %name)));
        rest.survey = Some((AbortOnDropHandle::new(task), Instant::now()));
    }

    /// Ends it, and waits until it has ended. Bindings stay as they are.
    pub(super) async fn end(self, name: &RegistryName, common: &Common) {
        let Activity::Engine(engine) = self.activity else { return };
        let RunningEngine { handle, mut task, stop, .. } = *engine;
        common.directory.leave(name, &handle);
        drop(stop);
        // It takes its grace, and a quarter of it to write; more than that is a defect.
        if tokio::time::timeout(common.grace * 2 + Duration::from_secs(1), &mut task).await.is_err() {
            tracing::error!(registry = %name, "its engine does not end: aborting it");
            task.abort();
        }
    }
}

impl RunningEngine {
    /// Returns whether it ended by itself, which is a defect.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}
