//! The subcommand: HTTP ports, the Lease, and an engine manager for each term of leadership.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use kube::Client;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    client::ClientKind,
    controller,
    engines::EngineManager,
    events::{EventReporter, MANAGER},
    health::Health,
    kube_client::{ApiServerAccess, KubeClientError},
    listing,
    reconcile::{self, Context},
    runtime::{EngineRuntime, EngineThreads},
};
use crate::{
    admin::{self, AdminError, AdminState, Directory},
    metrics::Metrics,
    quota::{Limits, Quotas},
    telemetry::share,
};
use routr_leader_election::{LeaderElector, Leadership, LeadershipStatus, LeaseSettings};
use routr_net::{
    addresses::{AddressPolicy, AddressRule, LOOPBACK, NEVER},
    descriptors,
};

/// Registries whose lines were left out that are named at a time.
const NAMED_LEFT_OUT: usize = 20;

/// Run the Registry resources of a Kubernetes cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct OperatorArgs {
    /// Namespaces to watch, separated by commas [default: all].
    #[arg(
        long,
        value_name = "NAMES",
        env = "WATCH_NAMESPACES",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub namespaces: Vec<String>,
    /// Name of the Lease that the leading replica holds.
    #[arg(long, value_name = "NAME", env = "LEASE_NAME", default_value = "routr-registry")]
    pub lease_name: String,
    /// Namespace of the Lease [default: that of the kubeconfig or of the ServiceAccount].
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of this replica [default: the host name].
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// Seconds that a Lease is valid after a renewal: the longest time to replace a leader that was killed.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=60))]
    pub lease_duration: u64,
    /// Address of the public HTTP port: /healthz, /livez, /readyz, /metrics.
    #[arg(long, value_name = "ADDRESS", env = "ROUTR_REGISTRY_LISTEN", default_value = admin::DEFAULT_PUBLIC)]
    pub listen: SocketAddr,
    /// Address of the private HTTP port: /registries, /registrations and /summary, for `trunks` and
    /// `refresh`. Keep it on loopback: a port-forward reaches it.
    #[arg(long, value_name = "ADDRESS", env = "ROUTR_REGISTRY_ADMIN_LISTEN", default_value = admin::DEFAULT_PRIVATE)]
    pub admin_listen: SocketAddr,
    /// Seconds that responses in flight and the last writes to the cache may take before the Lease is handed
    /// over.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=60))]
    pub grace: u64,
    /// Seconds that deregistering the trunks of a deleted Registry may take; then the Registry is deleted in
    /// any case.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub deregister_deadline: u64,
    /// Networks that Registries may name as API server, Requester and Redis although they are denied:
    /// 127.0.0.0/8, or 10.0.0.0/8:6379 with a port. Loopback, link-local, multicast and the metadata services
    /// of clouds are denied by default. The check uses the address that a name resolves to, and the narrowest
    /// rule that contains it.
    #[arg(long, value_name = "NETWORKS", env = "ALLOW_ADDRESSES", value_delimiter = ',')]
    pub allow_address: Vec<AddressRule>,
    /// Networks that Registries may not name, in the same form; any denies everything.
    #[arg(long, value_name = "NETWORKS", env = "DENY_ADDRESSES", value_delimiter = ',')]
    pub deny_address: Vec<AddressRule>,
    /// Limits of all Registries together.
    #[command(flatten)]
    pub limits: Limits,
}

/// Reason that the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no access to an API server, or it is set up wrongly.
    #[error(transparent)]
    Client(#[from] KubeClientError),
    /// The threads of the engines cannot be started.
    #[error("cannot start the threads of the engines: {0}")]
    Threads(#[source] std::io::Error),
    /// An HTTP port cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// Runs the subcommand until `shutdown` is cancelled.
///
/// # Errors
/// When there is no access to an API server, or a port cannot be had. An API server that is down is waited
/// for.
pub async fn run(args: OperatorArgs, shutdown: CancellationToken) -> Result<(), OperatorError> {
    let public = admin::bind(args.listen, "--listen").await?;
    let private = admin::bind(args.admin_listen, "--admin-listen").await?;
    let access = ApiServerAccess::infer()?;
    let settings = lease_settings(&args, &access);
    let server = access.server();
    let health = Health::default();
    let engines = EngineRuntime::start().map_err(OperatorError::Threads)?;
    let client = access.client(&ClientKind::objects())?;
    let accepted = health.clone();
    let on_watch = Arc::new(move |path: &str| accepted.watching_path(path));
    let watching = access.client(&ClientKind::watches(on_watch))?;
    let names = args.namespaces.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    // Each once: two controllers of one namespace would interfere with each other.
    let namespaces: Vec<String> = names.collect::<BTreeSet<_>>().into_iter().collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        server,
        namespaces = if namespaces.is_empty() { "all".to_owned() } else { namespaces.join(",") },
        lease = %format_args!("{}/{}", settings.namespace, settings.name),
        identity = settings.identity,
        "starting"
    );
    let (standing, stands) = watch::channel(LeadershipStatus::default());
    let metrics = Metrics::new(routr_environment::unix_ms());
    let directory = Directory::default();
    let healthz = admin::healthz_wanted(std::env::var("ENABLE_HEALTHCHECKS").ok().as_deref());
    let quotas = Quotas::new(args.limits.within_open_files(descriptors::limit()));
    let state = AdminState::new(directory.clone(), metrics.clone(), Arc::new(routr_environment::System))
        .with_healthz(healthz)
        .with_standing(stands)
        .with_findings({
            let health = health.clone();
            move || health.findings()
        })
        .with_connections({
            let quotas = quotas.clone();
            move || quotas.connections()
        })
        .with_stuck_for({
            let heartbeat = engines.heartbeat();
            move || heartbeat.stuck_for()
        });
    let ports_end = CancellationToken::new();
    let ports = tokio::spawn(admin::serve(Some(public), Some(private), state, ports_end.clone()));
    let replica = OperatorRuntime {
        events: EventReporter::new(client.clone(), &settings.identity, health.clone()),
        health,
        client,
        watching,
        namespaces,
        directory,
        metrics,
        engines: engines.threads(),
        quotas,
        // An engine may take a quarter more for its last writes.
        grace: Duration::from_secs(args.grace) * 4 / 5,
        deregister_deadline: Duration::from_secs(args.deregister_deadline),
        addresses: Arc::new(AddressPolicy::new(
            NEVER.iter().chain(LOOPBACK),
            args.allow_address,
            args.deny_address,
        )),
    };
    let mut elector = LeaderElector::new(access.client(&ClientKind::lease())?, &settings);
    // A candidate has to have seen what it would run. Once: an API server that went away meanwhile must not
    // be listed first when it is back.
    let proven = listing::proven(&replica.watching, &replica.namespaces, &replica.health, &shutdown).await;
    while proven && let Some(term) = elector.acquire(&shutdown, &standing).await {
        replica.run_as_leader(&term, &shutdown).await;
        // The release of a Lease that cannot be reached takes seconds, in which this replica no longer leads.
        if !shutdown.is_cancelled() {
            standing.send_replace(LeadershipStatus::Starting);
        }
        term.release().await;
    }
    ports_end.cancel();
    if let Ok(result) = ports.await {
        result?;
    }
    tracing::info!("stopped");
    Ok(())
}

fn lease_settings(args: &OperatorArgs, access: &ApiServerAccess) -> LeaseSettings {
    let host =
        || hostname::get().map_or_else(|_| MANAGER.to_owned(), |name| name.to_string_lossy().into_owned());
    LeaseSettings {
        namespace: args.lease_namespace.clone().unwrap_or_else(|| access.default_namespace().to_owned()),
        name: args.lease_name.clone(),
        identity: args.identity.clone().unwrap_or_else(host),
        duration: Duration::from_secs(args.lease_duration),
    }
}

/// Says, for as long as it runs, of which Registries lines were left out of the log.
async fn sum_up_lines(engines: &EngineManager) {
    let mut ticks = tokio::time::interval(share::WINDOW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut left_out = share::left_out();
        if left_out.is_empty() {
            continue;
        }
        engines.note_left_out(&left_out);
        left_out.sort_unstable_by_key(|(_, lines)| std::cmp::Reverse(*lines));
        for (registry, lines) in left_out.iter().take(NAMED_LEFT_OUT) {
            tracing::warn!(target: share::SUM, registry, lines, "lines were left out: they were more than the share of a Registry or a namespace in the log");
        }
        if let Some(more) = left_out.get(NAMED_LEFT_OUT..).filter(|more| !more.is_empty()) {
            let lines: u64 = more.iter().map(|(_, lines)| lines).sum();
            tracing::warn!(target: share::SUM, registries = more.len(), lines, "lines of more Registries were left out");
        }
    }
}

/// Parts that outlive the terms of leadership.
struct OperatorRuntime {
    client: Client,
    watching: Client,
    events: EventReporter,
    health: Health,
    namespaces: Vec<String>,
    directory: Directory,
    metrics: Metrics,
    engines: EngineThreads,
    quotas: Quotas,
    grace: Duration,
    deregister_deadline: Duration,
    addresses: Arc<AddressPolicy>,
}

impl OperatorRuntime {
    /// Leads until the term is lost or the shutdown. When it returns, nothing is sent any more.
    async fn run_as_leader(&self, term: &Leadership, shutdown: &CancellationToken) {
        let fence = term.fence();
        let context = Arc::new(Context {
            client: self.client.clone(),
            health: self.health.clone(),
            definition: Arc::default(),
            metrics: self.metrics.clone(),
            engines: EngineManager::new(
                self.directory.clone(),
                self.metrics.clone(),
                fence.clone(),
                self.engines.clone(),
                self.quotas.clone(),
                self.grace,
            ),
            events: self.events.clone(),
            fence,
            deregister_deadline: self.deregister_deadline,
            addresses: self.addresses.clone(),
            turns: reconcile::turns(),
        });
        self.health.begin(&self.namespaces);
        tokio::select! {
            () = controller::run(&self.watching, context.clone(), &self.namespaces) => {}
            () = term.lost.cancelled() => {}
            () = sum_up_lines(&context.engines) => {}
            () = shutdown.cancelled() => tracing::info!("shutting down; bindings stay with their registrars"),
        }
        context.engines.stop_all().await;
        self.health.end();
    }
}
