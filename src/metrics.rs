//! Metrics that Prometheus scrapes. Counters and histograms grow as the engines' drivers report; gauges are
//! filled from the engines' summaries at each scrape, so that they are never older than it.
//!
//! No label grows with the number of trunks: states, outcomes and dependencies are fixed sets, and only the
//! first [`MAX_NAMED_REGISTRARS`] registrar hosts keep their own name. The series of a registry that is a
//! Kubernetes resource carry its `namespace` and its name as `registry`; where there is no Kubernetes there
//! is one registry, and no such labels.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{quota::sockets::Connections, registry::RegistryName, runtime::ports::Observer};
use routr_registration::engine::view::Summary;

pub mod exposition;
mod gauges;
pub(crate) mod process;
mod registrars;
mod resources;
mod series;

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

pub use resources::{MAX_DETAILED, ResourceState};
use series::{Joined, Owner, Plain, Series};

/// Most registrar hosts with a label value of their own, in the whole process; all that come later are
/// counted as [`OTHER_REGISTRAR`]. The first come keep their place until the last registry that uses them is
/// forgotten.
pub const MAX_NAMED_REGISTRARS: usize = 50;

/// Most of them that one registry of many may name.
const MAX_NAMED_PER_REGISTRY: usize = MAX_NAMED_REGISTRARS / 2;

/// The `registrar` label of every host past the first [`MAX_NAMED_REGISTRARS`].
pub const OTHER_REGISTRAR: &str = "other";

/// Upper bounds in seconds. A deadline is 40 s, Timer F 32 s (RFC 3261 §17.1.2.2), a healthy response takes
/// some ms.
const LATENCY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 33.0, 45.0];

/// Upper bounds in seconds. The timers' own precision is a millisecond or two; a lead is 5 s at least.
const DELAY_BUCKETS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds in seconds: from a handful of trunks to a million.
const SYNC_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

type Outcome = [(&'static str, &'static str); 1];
type OutcomeAndRegistrar = (Outcome, [(&'static str, Arc<str>); 1]);

/// Counters and histograms of the process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    started_unix_ms: u64,
    registrars: Arc<registrars::Named>,
    registries: Arc<RwLock<BTreeMap<Arc<RegistryName>, Arc<Counts>>>>,
    /// Durations of syncs, of all registries together: thousands of them would make a dozen series each, for
    /// what `syncs` and `last_sync_timestamp` say of each.
    sync_seconds: Arc<Series<Outcome, Histogram>>,
    operator: OperatorMetrics,
}

/// The counters of one registry. Clones share them.
#[derive(Clone, Debug)]
pub struct RegistryMetrics {
    registrars: Arc<registrars::Named>,
    counts: Arc<Counts>,
    sync_seconds: Arc<Series<Outcome, Histogram>>,
}

#[derive(Debug)]
struct Counts {
    /// The names among the registrar labels.
    hosts: RwLock<HashSet<Arc<str>>>,
    /// Most names that there may be: one registry must not take all.
    most_hosts: usize,
    registers: Arc<Series<OutcomeAndRegistrar, Counter>>,
    register_seconds: Arc<Series<Outcome, Histogram>>,
    /// Delays of refreshes, from the first refresh on.
    refresh_delay: OnceLock<Histogram>,
    syncs: Arc<Series<Outcome, Counter>>,
    store_writes: Arc<Series<Outcome, Counter>>,
}

/// Counters that only an operator has. Clones share them.
#[derive(Clone, Debug)]
pub struct OperatorMetrics {
    status_writes: Family<Outcome, Counter>,
    reconciles: Family<Outcome, Counter>,
    reconcile_errors: Family<Outcome, Counter>,
}

/// Input of a scrape beside the counters.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The state of each Registry resource, whether an engine runs for it or not.
    pub resources: Vec<ResourceState>,
    /// Summary of each registry that runs; `None` where its engine did not respond.
    pub registries: Vec<(RegistryName, Option<Summary>)>,
    /// Number of unhealthy trunks by reason, of each registry that has any. A trunk without a reason counts
    /// under the empty text.
    pub failures: Vec<(RegistryName, BTreeMap<String, u64>)>,
    /// The connections of the Registries of an operator.
    pub connections: Option<Connections>,
    /// True while this replica leads; `None` outside an operator, which then has no metrics of its own.
    pub leading: Option<bool>,
    /// The time of the scrape, in milliseconds since the Unix epoch.
    pub now_unix_ms: u64,
}

impl Metrics {
    /// Nothing counted yet. `started_unix_ms` is when the process started, in milliseconds since the Unix
    /// epoch.
    pub fn new(started_unix_ms: u64) -> Self {
        let operator = OperatorMetrics {
            status_writes: Family::default(),
            reconciles: Family::default(),
            reconcile_errors: Family::default(),
        };
        for result in ["success", "reduced", "error"] {
            let _: Counter = operator.status_writes.get_or_create_owned(&[("result", result)]);
        }
        for result in ["success", "error"] {
            let _: Counter = operator.reconciles.get_or_create_owned(&[("result", result)]);
        }
        let sync_seconds = Arc::new(Series::new(|| Histogram::new(SYNC_BUCKETS)));
        Self {
            started_unix_ms,
            registrars: Arc::default(),
            registries: Arc::default(),
            sync_seconds,
            operator,
        }
    }

    /// Returns where the registry of this name counts. Asked again, it goes on with the same counters, until
    /// [`Metrics::forget`].
    ///
    /// A name without namespace gives no labels, so there can be only one such registry in a process.
    pub fn registry(&self, name: RegistryName) -> RegistryMetrics {
        let mut registries = self.registries.write().unwrap_or_else(PoisonError::into_inner);
        let is_resource = name.namespace.is_some();
        let counts = registries.entry(Arc::new(name)).or_insert_with(|| Arc::new(Counts::new(is_resource)));
        RegistryMetrics {
            registrars: Arc::clone(&self.registrars),
            counts: Arc::clone(counts),
            sync_seconds: Arc::clone(&self.sync_seconds),
        }
    }

    /// Drops all series of a registry that runs here no more. What its engine still counts while it ends is
    /// not shown.
    pub fn forget(&self, name: &RegistryName) {
        let mut registries = self.registries.write().unwrap_or_else(PoisonError::into_inner);
        registries.remove(name);
        self.registrars.keep(|host| registries.values().any(|counts| counts.names(host)));
    }

    /// Returns where the operator counts.
    pub fn operator(&self) -> &OperatorMetrics {
        &self.operator
    }

    /// All metrics as OpenMetrics text. A gauge whose value is not known (no sync yet, no binding, a
    /// dependency never tried) is left out rather than made up.
    pub fn render(&self, scrape: &Scrape) -> String {
        let mut all_metrics = Registry::default();
        process::register(&mut all_metrics, self.started_unix_ms);
        let registry = all_metrics.sub_registry_with_prefix("routr_registry");
        registry.register("build", "Version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        self.register_counters(registry);
        let all: Vec<(Owner, Option<Summary>)> = scrape
            .registries
            .iter()
            .map(|(name, summary)| (Owner(Arc::new(name.clone())), summary.clone()))
            .collect();
        gauges::register(registry, &all);
        gauges::register_failures(registry, &scrape.failures);
        resources::register(registry, &scrape.resources);
        if let Some(connections) = &scrape.connections {
            gauges::register_connections(registry, connections);
        }
        if let Some(leading) = scrape.leading {
            self.operator.register(registry, leading);
        }
        exposition::encode(&all_metrics)
    }

    fn joined<L, M>(&self, of: impl Fn(&Counts) -> &Arc<Series<L, M>>) -> Joined<L, M> {
        let registries = self.registries.read().unwrap_or_else(PoisonError::into_inner);
        let each = |(name, counts): (&Arc<RegistryName>, &Arc<Counts>)| {
            (Owner(Arc::clone(name)), Arc::clone(of(counts)))
        };
        Joined(registries.iter().map(each).collect())
    }

    fn histograms(&self, of: impl Fn(&Counts) -> Option<&Histogram>) -> Plain {
        let registries = self.registries.read().unwrap_or_else(PoisonError::into_inner);
        let each = |(name, counts): (&Arc<RegistryName>, &Arc<Counts>)| {
            Some((Owner(Arc::clone(name)), of(counts)?.clone()))
        };
        Plain(registries.iter().filter_map(each).collect())
    }

    fn register_counters(&self, registry: &mut Registry) {
        registry.register(
            "register_requests",
            "REGISTER requests that have ended, by outcome and registrar host (the first 50 hosts by name)",
            self.joined(|counts| &counts.registers),
        );
        registry.register_with_unit(
            "register_duration",
            "Time from sending a REGISTER to its response",
            Unit::Seconds,
            self.joined(|counts| &counts.register_seconds),
        );
        registry.register_with_unit(
            "refresh_delay",
            "Time from the moment that was chosen for a refresh until it went out",
            Unit::Seconds,
            self.histograms(|counts| counts.refresh_delay.get()),
        );
        registry.register("syncs", "Syncs with the API server", self.joined(|counts| &counts.syncs));
        registry.register_with_unit(
            "sync_duration",
            "Duration of a sync",
            Unit::Seconds,
            Joined(vec![(Owner(Arc::new(RegistryName::plain(""))), Arc::clone(&self.sync_seconds))]),
        );
        registry.register("store_writes", "Writes to the cache", self.joined(|counts| &counts.store_writes));
    }
}

impl Counts {
    /// Makes the counters. Series of a resource appear with the first event of their kind: there may be
    /// thousands that never have one.
    fn new(is_resource: bool) -> Self {
        let counts = Self {
            hosts: RwLock::default(),
            most_hosts: if is_resource { MAX_NAMED_PER_REGISTRY } else { MAX_NAMED_REGISTRARS + 1 },
            registers: Arc::new(Series::new(Counter::default)),
            register_seconds: Arc::new(Series::new(|| Histogram::new(LATENCY_BUCKETS))),
            refresh_delay: OnceLock::new(),
            syncs: Arc::new(Series::new(Counter::default)),
            store_writes: Arc::new(Series::new(Counter::default)),
        };
        if !is_resource {
            counts.refresh_delay.get_or_init(|| Histogram::new(DELAY_BUCKETS));
            both(&counts.syncs);
            both(&counts.store_writes);
        }
        counts
    }

    fn names(&self, host: &Arc<str>) -> bool {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).contains(host)
    }
}

impl RegistryMetrics {
    fn registrar_label(&self, host: &str) -> Arc<str> {
        let full =
            self.counts.hosts.read().unwrap_or_else(PoisonError::into_inner).len() >= self.counts.most_hosts;
        if full && !self.counts.names(&Arc::from(host.to_ascii_lowercase())) {
            return Arc::from(OTHER_REGISTRAR);
        }
        let label = self.registrars.label(host);
        if !self.counts.names(&label) {
            self.counts.hosts.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&label));
        }
        label
    }
}

impl Observer for RegistryMetrics {
    /// Counts one REGISTER that is over. `registrar` is the host alone, without port; `outcome` is one of a
    /// fixed set, such as `registered`, `credentialsRejected`; `seconds` is the time from sending to the
    /// response.
    fn register_finished(&self, registrar: &str, outcome: &'static str, seconds: f64) {
        let registrar = self.registrar_label(registrar);
        let outcome = [("outcome", outcome)];
        self.counts.registers.of(&(outcome, [("registrar", registrar)])).inc();
        self.counts.register_seconds.of(&outcome).observe(seconds);
    }

    /// Counts one refresh that went out, `seconds` after the moment chosen for it.
    fn refresh_sent(&self, seconds: f64) {
        self.counts.refresh_delay.get_or_init(|| Histogram::new(DELAY_BUCKETS)).observe(seconds);
    }

    /// Counts one reading of the trunks, which took `seconds`.
    fn sync_finished(&self, ok: bool, seconds: f64) {
        both(&self.counts.syncs);
        self.counts.syncs.of(&result_of(ok)).inc();
        self.sync_seconds.of(&result_of(ok)).observe(seconds);
    }

    /// Counts one write to the cache.
    fn store_write(&self, ok: bool) {
        both(&self.counts.store_writes);
        self.counts.store_writes.of(&result_of(ok)).inc();
    }
}

impl OperatorMetrics {
    /// Counts one write of a status: `success`, `reduced` (without foreign text, which the API server
    /// refused) or `error`.
    pub fn status_write(&self, result: &'static str) {
        self.status_writes.get_or_create(&[("result", result)]).inc();
    }

    /// Counts one reconcile that is over; `error` is why it failed, one of a fixed set, where it did.
    pub fn reconciled(&self, error: Option<&'static str>) {
        self.reconciles.get_or_create(&result_of(error.is_none())).inc();
        if let Some(reason) = error {
            self.reconcile_errors.get_or_create(&[("reason", reason)]).inc();
        }
    }

    fn register(&self, registry: &mut Registry, leading: bool) {
        registry.register(
            "leader_election_is_leader",
            "1 while this replica leads, else 0",
            ConstGauge::new(if leading { 1.0 } else { 0.0 }),
        );
        registry.register("status_writes", "Writes of the status of a Registry", self.status_writes.clone());
        registry.register("reconciles", "Reconciles of a Registry, by result", self.reconciles.clone());
        let errors = self.reconcile_errors.clone();
        registry.register("reconcile_errors", "Reconciles of a Registry that failed, by reason", errors);
    }
}

/// Makes the series of both outcomes, at zero: a rate over a series that appears late misses its first step.
fn both(series: &Series<Outcome, Counter>) {
    for ok in [true, false] {
        let _: Counter = series.of(&result_of(ok));
    }
}

fn result_of(ok: bool) -> Outcome {
    [("result", if ok { "success" } else { "error" })]
}

#[allow(clippy::cast_precision_loss)] // Counts and milliseconds stay far below 2^53.
fn count(value: u64) -> f64 {
    value as f64
}

fn seconds(milliseconds: u64) -> f64 {
    count(milliseconds) / 1000.0
}
