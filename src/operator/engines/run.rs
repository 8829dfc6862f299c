//! One engine, from its start to its end.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Common;
use crate::{
    admin::RegistryName,
    config::Cache,
    instance::{self, Instance, InstanceError, Reloads, RunOptions},
    operator::validate::Plan,
    runtime::handle::EngineHandle,
};
use routr_registration::engine::Engine;

/// An engine that runs by a plan. Dropped, the engine ends.
pub(super) struct Run {
    pub(super) plan: Plan,
    /// Another engine ran for this Registry before, which may have left bindings that this one knows nothing
    /// of.
    pub(super) succeeds: bool,
    pub(super) handle: EngineHandle,
    pub(super) reloads: Reloads,
    /// How it runs.
    pub(super) options: RunOptions,
    task: JoinHandle<Engine>,
    stop: DropGuard,
}

impl Run {
    /// Starts an engine.
    pub(super) fn start(
        name: &RegistryName,
        plan: Plan,
        succeeds: bool,
        common: &Common,
    ) -> Result<Self, InstanceError> {
        let options = RunOptions {
            grace: common.grace,
            paused: plan.suspend,
            fence: common.fence.clone(),
            connections: common.connections.clone(),
            quota: common.quotas.registry(name.namespace.as_deref().unwrap_or_default()),
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
            suspended = plan.suspend,
            "running"
        );
        Ok(Self { plan, succeeds, handle, reloads, options, task, stop: stop.drop_guard() })
    }

    /// Returns whether it ended by itself, which is a defect.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Returns whether its state outlives the process.
    pub(super) fn is_durable(&self) -> bool {
        self.plan.config.cache != Cache::Memory
    }

    /// Ends it, and waits until it has ended. Bindings stay as they are.
    pub(super) async fn end(self, name: &RegistryName, common: &Common) {
        common.directory.leave(name, &self.handle);
        drop(self.stop);
        // It takes its grace, and a quarter of it to write; more than that is a defect.
        let mut task = self.task;
        if tokio::time::timeout(common.grace * 2 + Duration::from_secs(1), &mut task).await.is_err() {
            tracing::error!(registry = %name, "its engine does not end: aborting it");
            task.abort();
        }
    }
}
