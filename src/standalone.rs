//! Mode 1: one configuration file, one engine, until shutdown. No Kubernetes.
//!
//! [`run`] is the subcommand: it reads the file, starts the engine and the HTTP ports, follows edits of the
//! file, and ends at SIGTERM or Ctrl-C. [`start`] starts an engine from a [`Config`] alone; the demo does so
//! too.

mod follow;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, AdminError, AdminState, Directory},
    config::{self, Cache, Config, ConfigError, Target},
    grpc::shared::Connections,
    instance::{self, Fence, Identity, Instance, InstanceError, Reloads, RunOptions},
    metrics::Metrics,
    quota::Quota,
    registry::RegistryName,
    requester,
    runtime::{handle::EngineHandle, ports::Observer},
};
use routr_registration::{engine::Engine, registration::identity::RegistryId};
use routr_types::host::HostPort;

/// Time that the instance id may be unknown before the log names the one that is used meanwhile.
const IDENTITY_WAIT: Duration = Duration::from_secs(20);

/// Keep the registrations of all trunks alive, as configured in a file.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration file [default: $CONFIG_PATH, else /etc/routr/registry.yaml, .yml or .json].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the public HTTP port: /healthz, /livez, /readyz, /metrics.
    #[arg(long, value_name = "ADDRESS", env = "ROUTR_REGISTRY_LISTEN", default_value = admin::DEFAULT_PUBLIC)]
    pub listen: SocketAddr,
    /// Address of the private HTTP port: /registrations and /summary, for `trunks` and `refresh`. Keep it on
    /// loopback: a port-forward reaches it.
    #[arg(long, value_name = "ADDRESS", env = "ROUTR_REGISTRY_ADMIN_LISTEN", default_value = admin::DEFAULT_PRIVATE)]
    pub admin_listen: SocketAddr,
    /// Also serve a Requester in this process, at `requesterAddr`, which then has to name this machine:
    /// localhost:51909. ARGS are those of the subcommand `requester`.
    #[arg(long, value_name = "ARGS", num_args = 0..=1, require_equals = true, default_missing_value = "", allow_hyphen_values = true)]
    pub requester: Option<String>,
    /// Seconds that responses in flight and the last writes to the cache may take at shutdown.
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub grace: u64,
}

/// Reason that the registry cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A dependency cannot be set up.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// An HTTP port cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The Requester of this process.
    #[error("--requester: {0}")]
    RequesterArgs(String),
    /// The Requester of this process cannot run.
    #[error("the Requester of this process: {0}")]
    Requester(#[from] requester::Error),
    /// The engine ended by itself.
    #[error("the engine ended unexpectedly; this is a defect, please report it with the log")]
    EngineEnded,
}

/// An engine that runs.
pub struct Running {
    /// Asks and commands.
    pub handle: EngineHandle,
    /// New configurations.
    pub reloads: Reloads,
    /// Ends when the engine has.
    pub task: JoinHandle<Engine>,
    /// Instance id, which distinguishes its Call-IDs from others'.
    pub identity: InstanceId,
}

/// The instance id of a registry that runs. Redis may have one to say that is not known at the start.
#[derive(Clone, Debug)]
pub struct InstanceId {
    /// Given, or derived from the name and the addresses.
    first: RegistryId,
    /// The one that Redis keeps counts, once it is known.
    proposed: bool,
    kept: watch::Receiver<Option<RegistryId>>,
}

impl InstanceId {
    /// Returns the id as it is known now.
    pub fn now(&self) -> RegistryId {
        self.kept.borrow().clone().unwrap_or_else(|| self.first.clone())
    }

    /// Returns whether it stays as it is until the end.
    fn is_settled(&self) -> bool {
        !self.proposed || self.kept.borrow().is_some()
    }

    /// The identity under which a configuration of the same registry runs on.
    fn of(&self, config: &Config) -> Identity {
        let proposed = !self.is_settled();
        Identity { id: self.now(), kept_as: Some(registry_key(config)), proposed, exclusive: true }
    }
}

/// Runs the subcommand until `shutdown` is cancelled.
///
/// # Errors
/// When the configuration is not usable, a port cannot be had, or the engine breaks.
pub async fn run(args: RunArgs, shutdown: CancellationToken) -> Result<(), StandaloneError> {
    let hangups = follow::hangups();
    let (path, config) = config::load(args.config.as_deref())?;
    let public = admin::bind(args.listen, "--listen").await?;
    let private = admin::bind(args.admin_listen, "--admin-listen").await?;
    tracing::info!(
        config = %path.display(),
        version = env!("CARGO_PKG_VERSION"),
        api = %config.api.address,
        requester = %config.requester.address,
        cache = cache_name(&config.cache),
        "starting"
    );
    let metrics = Metrics::new(routr_environment::unix_ms());
    let name = RegistryName::plain(&config.name);
    let observer = metrics.registry(name.clone());
    let requester = match &args.requester {
        Some(flags) => Some(own_requester(flags, &config, &shutdown).await?),
        None => None,
    };
    let mut engine = start(&config, observer, Duration::from_secs(args.grace), shutdown.clone())?;
    tokio::spawn(log_identity(engine.identity.clone()));
    let healthz = admin::healthz_wanted(std::env::var("ENABLE_HEALTHCHECKS").ok().as_deref());
    let directory = Directory::of_one(name, engine.handle.clone());
    let state = AdminState::new(directory.clone(), metrics, Arc::new(routr_environment::System))
        .with_healthz(healthz);
    // The ports serve until the engine has written its last changes.
    let ports_end = CancellationToken::new();
    let ports = tokio::spawn(admin::serve(Some(public), Some(private), state, ports_end.clone()));
    let follow = tokio::spawn(follow::follow(
        path,
        config,
        engine.identity.clone(),
        (engine.reloads.clone(), directory),
        hangups,
        shutdown.clone(),
    ));
    let ended = tokio::select! {
        biased;
        () = shutdown.cancelled() => {
            tracing::info!("shutting down; bindings stay with their registrars");
            engine.task.await
        }
        // Without a request to stop: it can only have panicked.
        ended = &mut engine.task => ended,
    };
    // After the engine, which waits for the responses to its last requests.
    if let Some(OwnRequester { end, task }) = requester {
        end.cancel();
        if let Ok(result) = task.await {
            result?;
        }
    }
    ports_end.cancel();
    follow.abort();
    if let Ok(result) = ports.await {
        result?;
    }
    ended.map_err(|_| StandaloneError::EngineEnded)?;
    tracing::info!("stopped");
    Ok(())
}

/// The Requester of this process.
struct OwnRequester {
    end: CancellationToken,
    task: JoinHandle<Result<(), requester::Error>>,
}

/// Starts it where `requesterAddr` says. It ends after the engine, and ends the process when it breaks.
async fn own_requester(
    flags: &str,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<OwnRequester, StandaloneError> {
    let listen = match &config.requester.address {
        Target::Host(HostPort { host, port }) if &**host == "localhost" => {
            Some(SocketAddr::from(([127, 0, 0, 1], *port)))
        }
        Target::Host(host) => host.as_socket_addr().filter(|address| address.ip().is_loopback()),
        Target::Addresses(_) | Target::Unix(_) => None,
    };
    let listen = listen.ok_or_else(|| {
        let given = &config.requester.address;
        StandaloneError::RequesterArgs(format!(
            "spec.requesterAddr is {given}, another machine; write localhost:51909 to use the Requester of this process"
        ))
    })?;
    let prepared = requester::prepare(flags, listen).await.map_err(StandaloneError::RequesterArgs)?;
    let (end, whole) = (CancellationToken::new(), shutdown.clone());
    let task = tokio::spawn({
        let end = end.clone();
        async move {
            let result = prepared.serve(end).await;
            whole.cancel();
            result
        }
    });
    Ok(OwnRequester { end, task })
}

/// Starts the engine of a configuration. It runs until `shutdown` is cancelled,
/// then takes up to `grace`.
///
/// # Errors
/// When a dependency cannot be set up at all; one that is merely down is waited for.
pub fn start<O: Observer>(
    config: &Config,
    observer: O,
    grace: Duration,
    shutdown: CancellationToken,
) -> Result<Running, StandaloneError> {
    let identity = identity(config);
    let options = options(grace);
    let Instance { handle, reloads, identity: kept, task } =
        instance::start(config, &identity, observer, &options, shutdown)?;
    let identity = InstanceId { first: identity.id, proposed: identity.proposed, kept };
    Ok(Running { handle, reloads, task, identity })
}

/// Returns what this installation is called and talks to: where its instance id is kept, or made from.
fn registry_key(config: &Config) -> String {
    format!("{}|{}|{}", config.name, config.api.address, config.requester.address)
}

/// `instanceId` from the configuration, else the one that Redis keeps, else derived from the name and the
/// addresses. Redis is given the derived one to keep: a start without Redis makes the same Call-IDs then.
fn identity(config: &Config) -> Identity {
    let derived = || {
        let (api, requester) = (config.api.address.to_string(), config.requester.address.to_string());
        RegistryId::derived(&config.name, &api, &requester)
    };
    let proposed = config.instance_id.is_none() && matches!(config.cache, Cache::Redis(_));
    let id = config.instance_id.as_deref().map_or_else(derived, RegistryId::new);
    Identity { id, kept_as: Some(registry_key(config)), proposed, exclusive: true }
}

/// Logs the instance id, as soon as Redis has said it or has had the time to: with it, a move to Kubernetes
/// keeps the Call-IDs.
async fn log_identity(mut identity: InstanceId) {
    if identity.proposed {
        let _ = tokio::time::timeout(IDENTITY_WAIT, identity.kept.changed()).await;
    }
    tracing::info!(instance_id = identity.now().as_str(), "running");
}

fn cache_name(cache: &Cache) -> &'static str {
    match cache {
        Cache::Memory => "memory",
        Cache::Redis(_) => "redis",
    }
}

/// Returns what a new configuration changes in a running engine.
///
/// # Errors
/// When a dependency cannot be set up.
fn reload(before: &Config, after: &Config, id: &InstanceId) -> Result<instance::Change, StandaloneError> {
    Ok(instance::reload((before, &id.of(before)), (after, &id.of(after)), &options(Duration::ZERO))?)
}

/// It has the process to itself.
fn options(grace: Duration) -> RunOptions {
    RunOptions {
        grace,
        paused: false,
        fence: Fence::always(),
        connections: Connections::default(),
        quota: Quota::unlimited(),
    }
}
