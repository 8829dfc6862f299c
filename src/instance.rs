//! One registry that runs: an engine with the dependencies that a [`Config`] names. Both modes start theirs
//! here.

mod fence;
mod survey;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    config::{Config, Endpoint},
    grpc::{GrpcError, api::ApiServer, requester::GrpcRequester, shared::Connections},
    quota::Quota,
    runtime::{
        clock::Clock,
        driver::{Driver, Ports, Reload},
        handle::EngineHandle,
        ports::{Environment, Observer},
    },
    store::{AnyStore, RedisSettingsError},
};
use routr_registration::{
    engine::{Engine, EngineSettings},
    registration::identity::RegistryId,
};

pub use fence::Fenced;
pub use routr_leader_election::Fence;
pub use survey::{Survey, check, survey};

/// Reason that a registry cannot run as it is configured. A dependency that is merely down is none of these:
/// it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// A gRPC dependency cannot be set up.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
    /// The Redis client cannot be set up.
    #[error(transparent)]
    Redis(#[from] RedisSettingsError),
}

/// Channel by which a running engine receives a new configuration.
pub type Reloads = mpsc::Sender<Change>;

pub use crate::store::Identity;

/// Parts that a new configuration replaces.
pub type Change = Box<Reload<ApiServer, Fenced<GrpcRequester>, Fenced<AnyStore>>>;

/// Options for the start and the end of an engine.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Time that responses in flight and the last writes to the cache may take at the end.
    pub grace: Duration,
    /// It begins without sending anything, until [`EngineHandle::pause`] says otherwise.
    pub paused: bool,
    /// Sends and writes only while it holds.
    pub fence: Fence,
    /// Connections that it shares with others.
    pub connections: Connections,
    /// Share that it may use of the process.
    pub quota: Arc<Quota>,
}

/// An engine that runs.
pub struct Instance {
    /// Asks and commands.
    pub handle: EngineHandle,
    /// New configurations.
    pub reloads: Reloads,
    /// The instance id that Redis keeps, once it has said so; `None` for ever where it is known without.
    pub identity: watch::Receiver<Option<RegistryId>>,
    /// Ends when the engine has.
    pub task: JoinHandle<Engine>,
}

/// Starts an engine with the dependencies that the configuration names. It runs until `shutdown` is
/// cancelled, then takes up to [`RunOptions::grace`].
///
/// # Errors
/// When a dependency cannot be set up at all.
pub fn start<O: Observer>(
    config: &Config,
    identity: &Identity,
    observer: O,
    options: &RunOptions,
    shutdown: CancellationToken,
) -> Result<Instance, InstanceError> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let ports = Ports {
        source: Arc::new(
            ApiServer::sharing(&config.api, config.sync, &options.connections)?.within(&options.quota),
        ),
        requester: Arc::new(Fenced::new(
            GrpcRequester::sharing(config, &options.connections)?.within(&options.quota),
            &options.fence,
        )),
        store: Arc::new(Fenced::new(open_store(config, identity, &options.quota)?, &options.fence)),
    };
    let environment = Arc::new(routr_environment::System);
    let mut engine = Engine::new(identity.id.clone(), EngineSettings::from(config), environment.seed());
    engine.pause(options.paused);
    let (driver, controls) = Driver::new(engine, ports, observer, Clock::start(environment));
    let driver = driver.within(&options.quota);
    // Anyone who runs several distinguishes their lines by its span.
    let task = tokio::spawn(driver.run(shutdown, options.grace).in_current_span());
    Ok(Instance { handle: controls.handle, reloads: controls.reload, identity: controls.identity, task })
}

/// Returns what a new configuration changes in an engine that runs by `options`; parts that stay the same are
/// not touched.
///
/// # Errors
/// When a dependency cannot be set up.
pub fn reload(
    (before, identity_before): (&Config, &Identity),
    (after, identity): (&Config, &Identity),
    options: &RunOptions,
) -> Result<Change, InstanceError> {
    let source = ((&before.api, before.sync) != (&after.api, after.sync))
        .then(|| ApiServer::sharing(&after.api, after.sync, &options.connections))
        .transpose()?
        .map(|source| source.within(&options.quota));
    // Its deadline is not a matter of the connection; and what it is shown, a token or a certificate, makes
    // it no other Requester.
    let way = |config: &Config| Endpoint { timeout: Duration::ZERO, ..config.requester.clone() };
    let place = |config: &Config| (config.requester.address.clone(), config.requester.tls);
    let moved = place(before) != place(after);
    let speaks = |config: &Config| {
        let settings = &config.registration;
        (config.methods.clone(), settings.user_agent.clone(), settings.require.clone())
    };
    let requester = (way(before) != way(after) || speaks(before) != speaks(after))
        .then(|| GrpcRequester::sharing(after, &options.connections))
        .transpose()?
        .map(|requester| requester.within(&options.quota));
    // A store that is opened keeps the id under the name that the registry has now.
    let store = (before.cache != after.cache || identity_before.kept_as != identity.kept_as)
        .then(|| open_store(after, identity, &options.quota))
        .transpose()?;
    let known = before.warnings();
    for warning in after.warnings().iter().filter(|warning| !known.contains(warning)) {
        tracing::warn!("{warning}");
    }
    Ok(Box::new(Reload {
        settings: EngineSettings::from(after),
        source: source.map(Arc::new),
        requester: requester.map(|port| Arc::new(Fenced::new(port, &options.fence))),
        requester_moved: moved,
        store: store.map(|port| Arc::new(Fenced::new(port, &options.fence))),
    }))
}

fn open_store(
    config: &Config,
    identity: &Identity,
    quota: &Arc<Quota>,
) -> Result<AnyStore, RedisSettingsError> {
    Ok(AnyStore::open(&config.cache, identity)?.within(quota))
}

#[cfg(feature = "demo")]
#[cfg(test)]
mod cost;
