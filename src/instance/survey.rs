//! A registry that sends nothing: what it has is read now and then, without an engine that runs.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::{Identity, InstanceError, open_store};
use crate::{
    config::Config,
    grpc::{
        api::{ApiServer, RawTrunk},
        requester::GrpcRequester,
        shared::Connections,
    },
    quota::Quota,
    runtime::{
        clock::Clock,
        ports::{Environment, Store, TrunkSource},
    },
};
use routr_registration::{
    engine::{
        Engine, EngineSettings,
        view::{FailureSummary, Summary},
    },
    model::StoreError,
};

/// Time that the store may take to say what it keeps.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Batches of trunks that may wait; each is small.
const MAX_QUEUED_BATCHES: usize = 4;

/// Statement of an engine that was made for one sync.
#[derive(Clone, Debug)]
pub struct Survey {
    /// At a glance.
    pub summary: Summary,
    /// The worst failures.
    pub failures: FailureSummary,
}

/// Checks that the dependencies of a registry that does not run can be set up; none is connected to.
///
/// # Errors
/// When one cannot be set up at all.
pub fn check(
    config: &Config,
    identity: &Identity,
    connections: &Connections,
    quota: &Arc<Quota>,
) -> Result<(), InstanceError> {
    ApiServer::sharing(&config.api, config.sync, connections)?;
    GrpcRequester::sharing(config, connections)?;
    open_store(config, identity, quota)?;
    Ok(())
}

/// Reads the trunks of a registry once, and the state that its store keeps, as a suspended engine does; at
/// most `failures` of them are named. Nothing is sent or written.
///
/// # Errors
/// When a dependency cannot be set up at all. One that is down shows in the result.
pub async fn survey(
    config: &Config,
    identity: &Identity,
    connections: &Connections,
    quota: &Arc<Quota>,
    failures: usize,
) -> Result<Survey, InstanceError> {
    let source = ApiServer::sharing(&config.api, config.sync, connections)?.within(quota);
    let store = open_store(config, identity, quota)?;
    let environment = Arc::new(routr_environment::System);
    let mut engine = Engine::new(identity.id.clone(), EngineSettings::from(config), environment.seed());
    engine.within(quota.clone());
    engine.pause(true);
    let clock = Clock::start(environment);
    if store.is_durable() {
        let late = || Err(StoreError::Unavailable("timed out loading its records".into()));
        match timeout(READ_DEADLINE, store.load()).await.unwrap_or_else(|_| late()) {
            Ok(records) => {
                engine.handle_records(records, clock.now().at);
                engine.handle_store_health(None, clock.now());
            }
            Err(error) => engine.handle_store_health(Some(&error), clock.now()),
        }
    }
    engine.handle_sync_started();
    let (sender, mut batches) = mpsc::channel::<Vec<RawTrunk>>(MAX_QUEUED_BATCHES);
    let offer = async {
        while let Some(batch) = batches.recv().await {
            let now = clock.now();
            batch.iter().for_each(|item| engine.handle_trunk(item, now));
        }
    };
    // The list has ended when its sender is dropped, and all of it was offered then.
    let (result, ()) = tokio::join!(source.list(sender), offer);
    let now = clock.now();
    match result {
        Ok(absence) => {
            let _report = engine.handle_sync_finished(absence, now);
        }
        Err(error) => {
            tracing::debug!(%error, "cannot read the trunks of a suspended Registry");
            engine.handle_sync_failed(&error, now);
        }
    }
    let mut summary = engine.summary(now);
    summary.over_limits.extend(quota.exceeds().into_iter().map(|excess| excess.to_string()));
    Ok(Survey { summary, failures: engine.failures(failures, now) })
}
