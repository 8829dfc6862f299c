//! What Prometheus scrapes. Counters and histograms grow as the engine's driver reports; gauges are filled from the
//! engine's summary when somebody asks, so that they are never older than the scrape.
//!
//! No label grows with the number of trunks: states, outcomes and neighbours are fixed sets, and only the first
//! [`NAMED_REGISTRARS`] registrar hosts keep their own name.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::engine::view::{Health, Summary, TrunkState};

#[cfg(test)]
mod tests;

/// How many registrar hosts have a label value of their own; all that come later are counted as [`OTHER_REGISTRAR`].
/// The first come keep their place until the process ends.
pub const NAMED_REGISTRARS: usize = 50;

/// The `registrar` label of every host past the first [`NAMED_REGISTRARS`].
pub const OTHER_REGISTRAR: &str = "other";

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds. A deadline is 40 s, Timer F 32 s (RFC 3261 §17.1.2.2), a healthy answer some ms.
const LATENCY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 33.0, 45.0];

/// Upper bounds in seconds: from a handful of trunks to a million.
const SYNC_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

type Outcome = [(&'static str, &'static str); 1];
type OutcomeAndRegistrar = (Outcome, [(&'static str, Arc<str>); 1]);

/// The counters of one engine. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    started_unix_ms: u64,
    registrars: Arc<RwLock<HashSet<Arc<str>>>>,
    registers: Family<OutcomeAndRegistrar, Counter>,
    register_seconds: Family<Outcome, Histogram, fn() -> Histogram>,
    syncs: Family<Outcome, Counter>,
    sync_seconds: Family<Outcome, Histogram, fn() -> Histogram>,
    store_writes: Family<Outcome, Counter>,
}

impl Metrics {
    /// Nothing counted yet. `started_unix_ms` is when the process started, in milliseconds since the Unix epoch.
    pub fn new(started_unix_ms: u64) -> Self {
        let syncs = Family::default();
        let store_writes = Family::<Outcome, Counter>::default();
        // Both outcomes are there from the start: a rate over a series that appears late misses its first step.
        for ok in [true, false] {
            let _: Counter = syncs.get_or_create_owned(&outcome_of(ok));
            let _: Counter = store_writes.get_or_create_owned(&outcome_of(ok));
        }
        Self {
            started_unix_ms,
            registrars: Arc::default(),
            registers: Family::default(),
            register_seconds: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            syncs,
            sync_seconds: Family::new_with_constructor(|| Histogram::new(SYNC_BUCKETS)),
            store_writes,
        }
    }

    /// Counts one REGISTER that is over. `registrar` is the host alone, without port; `outcome` is one of a fixed set,
    /// such as `registered`, `rejected`; `seconds` is the time from sending to the answer.
    pub fn register_finished(&self, registrar: &str, outcome: &'static str, seconds: f64) {
        let registrar = self.registrar_label(registrar);
        let outcome = [("outcome", outcome)];
        self.registers.get_or_create(&(outcome, [("registrar", registrar)])).inc();
        self.register_seconds.get_or_create(&outcome).observe(seconds);
    }

    /// Counts one reading of the trunks, which took `seconds`.
    pub fn sync_finished(&self, ok: bool, seconds: f64) {
        self.syncs.get_or_create(&outcome_of(ok)).inc();
        self.sync_seconds.get_or_create(&outcome_of(ok)).observe(seconds);
    }

    /// Counts one write to the cache.
    pub fn store_write(&self, ok: bool) {
        self.store_writes.get_or_create(&outcome_of(ok)).inc();
    }

    /// All metrics as OpenMetrics text, with gauges as of `summary`. A gauge whose value is not known (no sync yet, no
    /// binding, a neighbour never tried) is left out rather than made up.
    pub fn render(&self, summary: &Summary, now_unix_ms: u64) -> String {
        let mut registry = Registry::with_prefix("routr_registry");
        self.register_counters(&mut registry);
        self.register_process(&mut registry);
        register_trunks(&mut registry, summary, now_unix_ms);
        register_engine(&mut registry, summary, now_unix_ms);
        let mut text = String::new();
        // Writing to a String cannot fail; if it did, a scrape without the end mark is refused by Prometheus.
        if encode(&mut text, &registry).is_err() {
            text.clear();
        }
        text
    }

    fn registrar_label(&self, host: &str) -> Arc<str> {
        let host = host.to_ascii_lowercase();
        {
            let known = self.registrars.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(label) = known.get(host.as_str()) {
                return Arc::clone(label);
            }
            if known.len() >= NAMED_REGISTRARS {
                return Arc::from(OTHER_REGISTRAR);
            }
        }
        let mut known = self.registrars.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = known.get(host.as_str()) {
            return Arc::clone(label);
        }
        if known.len() >= NAMED_REGISTRARS {
            return Arc::from(OTHER_REGISTRAR);
        }
        let label: Arc<str> = Arc::from(host);
        known.insert(Arc::clone(&label));
        label
    }

    fn register_counters(&self, registry: &mut Registry) {
        registry.register(
            "registers",
            "REGISTER requests that are over, by outcome and registrar host (the first 50 hosts by name)",
            self.registers.clone(),
        );
        registry.register_with_unit(
            "register_duration",
            "Time from sending a REGISTER to its answer",
            Unit::Seconds,
            self.register_seconds.clone(),
        );
        registry.register("syncs", "Readings of the trunks from the API server", self.syncs.clone());
        registry.register_with_unit(
            "sync_duration",
            "Time that a reading of the trunks took",
            Unit::Seconds,
            self.sync_seconds.clone(),
        );
        registry.register("store_writes", "Writes to the cache", self.store_writes.clone());
    }

    fn register_process(&self, registry: &mut Registry) {
        registry.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_with_unit(
            "start_time",
            "When the process started, since the Unix epoch",
            Unit::Seconds,
            ConstGauge::new(seconds(self.started_unix_ms)),
        );
    }
}

fn register_trunks(registry: &mut Registry, summary: &Summary, now: u64) {
    let trunks =
        gauges(TrunkState::ALL.map(|state| ([("state", state.name())], count(summary.counts.of(state)))));
    registry.register("trunks", "Trunks that are to be registered, by state", trunks);
    if let Some(lapse) = summary.next_lapse_ms {
        registry.register_with_unit(
            "next_lapse",
            "Time until the next binding lapses if nothing is done; negative when one has lapsed",
            Unit::Seconds,
            ConstGauge::new(seconds(lapse) - seconds(now)),
        );
    }
    registry.register(
        "waiting",
        "Trunks whose REGISTER is due and waits for its turn",
        ConstGauge::new(count(summary.waiting)),
    );
    registry.register(
        "removals_held",
        "Trunks that a sync saw missing and that wait for a second sync to say the same",
        ConstGauge::new(count(summary.removals_held)),
    );
    registry.register(
        "registrars_over_budget",
        "Registrars whose rate is too low for the trunks they have: bindings there will lapse",
        ConstGauge::new(count(u64::try_from(summary.over_budget.len()).unwrap_or(u64::MAX))),
    );
}

fn register_engine(registry: &mut Registry, summary: &Summary, now: u64) {
    registry.register(
        "requests_in_flight",
        "REGISTER requests without an answer so far",
        ConstGauge::new(count(summary.in_flight)),
    );
    registry.register(
        "requests_in_flight_limit",
        "How many REGISTER requests may be in flight at the moment",
        ConstGauge::new(count(summary.in_flight_limit)),
    );
    if let Some(sync) = summary.last_sync_ms {
        registry.register_with_unit(
            "sync_age",
            "Time since the trunks were last read completely",
            Unit::Seconds,
            ConstGauge::new(seconds(now) - seconds(sync)),
        );
    }
    let neighbours = [("api", &summary.api), ("requester", &summary.requester), ("cache", &summary.cache)];
    let up = gauges(
        neighbours.into_iter().filter_map(|(name, health)| up(health).map(|v| ([("neighbour", name)], v))),
    );
    registry.register("neighbour_up", "1 while a neighbour works, 0 while it does not", up);
}

type Label = [(&'static str, &'static str); 1];
type GaugeF64 = prometheus_client::metrics::gauge::Gauge<f64, std::sync::atomic::AtomicU64>;

fn gauges(values: impl IntoIterator<Item = (Label, f64)>) -> Family<Label, GaugeF64> {
    let family = Family::<Label, GaugeF64>::default();
    for (label, value) in values {
        family.get_or_create(&label).set(value);
    }
    family
}

fn up(health: &Health) -> Option<f64> {
    health.ok.map(|ok| if ok { 1.0 } else { 0.0 })
}

fn outcome_of(ok: bool) -> Outcome {
    [("outcome", if ok { "ok" } else { "failed" })]
}

#[allow(clippy::cast_precision_loss)] // Counts and milliseconds stay far below 2^53.
fn count(value: u64) -> f64 {
    value as f64
}

fn seconds(milliseconds: u64) -> f64 {
    count(milliseconds) / 1000.0
}

impl crate::ports::Observer for Metrics {
    fn register_finished(&self, registrar: &str, outcome: &'static str, seconds: f64) {
        Self::register_finished(self, registrar, outcome, seconds);
    }

    fn sync_finished(&self, ok: bool, seconds: f64) {
        Self::sync_finished(self, ok, seconds);
    }

    fn store_write(&self, ok: bool) {
        Self::store_write(self, ok);
    }
}
