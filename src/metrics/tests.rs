use std::collections::BTreeMap;

use super::*;
use crate::engine::view::{Counts, Health};

const NOW: u64 = 1_800_000_000_000;

/// Every sample of an OpenMetrics text, by its name with labels; checks the frame around them.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("routr_registry_"), "{line}");
        assert!(found.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    found
}

/// One registry outside Kubernetes: its counters, and a scrape.
struct One {
    metrics: Metrics,
    registry: RegistryMetrics,
}

impl One {
    fn new(started: u64) -> Self {
        let metrics = Metrics::new(started);
        let registry = metrics.registry(RegistryName::plain("registry"));
        Self { metrics, registry }
    }

    fn render(&self, summary: &Summary, now: u64) -> String {
        let registries = vec![(RegistryName::plain("registry"), Some(summary.clone()))];
        self.metrics.render(&Scrape { registries, leading: None, now_unix_ms: now })
    }
}

fn summary() -> Summary {
    Summary {
        counts: Counts { pending: 1, registered: 9, at_risk: 2, failing: 3, invalid: 4, leaving: 5 },
        api: Health { ok: Some(true), message: None, since_ms: NOW, reason: None },
        requester: Health { ok: Some(false), message: Some("refused".into()), since_ms: NOW, reason: None },
        cache: Health::default(),
        last_sync_ms: Some(NOW - 12_500),
        removals_held: 11,
        next_lapse_ms: Some(NOW + 42_000),
        in_flight: 7,
        in_flight_limit: 16,
        waiting: 6,
        over_budget: vec!["sip.example".into(), "pbx.example".into()],
    }
}

#[test]
fn gauges_come_from_the_summary() {
    let found = samples(&One::new(NOW - 60_000).render(&summary(), NOW));
    for (name, expected) in [
        ("routr_registry_trunks{state=\"pending\"}", 1.0),
        ("routr_registry_trunks{state=\"registered\"}", 9.0),
        ("routr_registry_trunks{state=\"atRisk\"}", 2.0),
        ("routr_registry_trunks{state=\"failing\"}", 3.0),
        ("routr_registry_trunks{state=\"invalid\"}", 4.0),
        ("routr_registry_trunks{state=\"leaving\"}", 5.0),
        ("routr_registry_next_lapse_seconds", 42.0),
        ("routr_registry_sync_age_seconds", 12.5),
        ("routr_registry_waiting", 6.0),
        ("routr_registry_removals_held", 11.0),
        ("routr_registry_registrars_over_budget", 2.0),
        ("routr_registry_requests_in_flight", 7.0),
        ("routr_registry_requests_in_flight_limit", 16.0),
        ("routr_registry_neighbour_up{neighbour=\"api\"}", 1.0),
        ("routr_registry_neighbour_up{neighbour=\"requester\"}", 0.0),
        ("routr_registry_start_time_seconds", 1_799_999_940.0),
        (concat!("routr_registry_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(found.get(name), Some(&expected), "{name} in {found:#?}");
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let found = samples(&One::new(NOW).render(&Summary::default(), NOW));
    for absent in ["next_lapse", "sync_age", "neighbour_up"] {
        assert!(!found.keys().any(|name| name.contains(absent)), "{absent} in {found:#?}");
    }
    assert_eq!(found["routr_registry_trunks{state=\"failing\"}"], 0.0);
}

#[test]
fn a_lapse_in_the_past_is_negative() {
    let late = Summary { next_lapse_ms: Some(NOW - 3_000), ..Summary::default() };
    let found = samples(&One::new(NOW).render(&late, NOW));
    assert_eq!(found["routr_registry_next_lapse_seconds"], -3.0);
}

#[test]
fn registers_are_counted_by_outcome_and_registrar_and_timed_by_outcome() {
    let one = One::new(NOW);
    let clone = one.metrics.registry(RegistryName::plain("registry"));
    one.registry.register_finished("sip.example", "ok", 0.02);
    clone.register_finished("SIP.example", "ok", 3.0);
    clone.register_finished("pbx.example", "NoAnswer", 40.0);
    let found = samples(&one.render(&Summary::default(), NOW));
    assert_eq!(found["routr_registry_registers_total{outcome=\"ok\",registrar=\"sip.example\"}"], 2.0);
    assert_eq!(found["routr_registry_registers_total{outcome=\"NoAnswer\",registrar=\"pbx.example\"}"], 1.0);
    assert_eq!(found["routr_registry_register_duration_seconds_count{outcome=\"ok\"}"], 2.0);
    assert_eq!(found["routr_registry_register_duration_seconds_sum{outcome=\"ok\"}"], 3.02);
    let bucket = |le: &str| {
        found[&format!("routr_registry_register_duration_seconds_bucket{{le=\"{le}\",outcome=\"ok\"}}")]
    };
    assert_eq!((bucket("0.01"), bucket("0.025"), bucket("2.5"), bucket("5.0")), (0.0, 1.0, 1.0, 2.0));
    assert!(!found.keys().any(|name| name.contains("duration") && name.contains("registrar=")), "{found:#?}");
}

#[test]
fn syncs_and_store_writes_are_counted_from_zero() {
    let one = One::new(NOW);
    let writes = |ok: &str| format!("routr_registry_store_writes_total{{outcome=\"{ok}\"}}");
    let syncs = |ok: &str| format!("routr_registry_syncs_total{{outcome=\"{ok}\"}}");
    let before = samples(&one.render(&Summary::default(), NOW));
    assert_eq!((before[&writes("failed")], before[&syncs("failed")]), (0.0, 0.0));
    one.registry.store_write(true);
    one.registry.store_write(false);
    one.registry.store_write(false);
    one.registry.sync_finished(true, 0.4);
    one.registry.sync_finished(false, 60.0);
    let after = samples(&one.render(&Summary::default(), NOW));
    assert_eq!((after[&writes("ok")], after[&writes("failed")]), (1.0, 2.0));
    assert_eq!((after[&syncs("ok")], after[&syncs("failed")]), (1.0, 1.0));
    assert_eq!(after["routr_registry_sync_duration_seconds_sum{outcome=\"failed\"}"], 60.0);
}

#[test]
fn only_the_first_registrars_keep_their_name() {
    let one = One::new(NOW);
    for host in 0..NAMED_REGISTRARS + 1000 {
        one.registry.register_finished(&format!("sip{host}.example"), "ok", 0.1);
    }
    one.registry.register_finished("sip0.example", "ok", 0.1);
    let found = samples(&one.render(&Summary::default(), NOW));
    let of = |host: &str| {
        found.get(&format!("routr_registry_registers_total{{outcome=\"ok\",registrar=\"{host}\"}}")).copied()
    };
    assert_eq!(of("sip0.example"), Some(2.0));
    assert_eq!(of("sip49.example"), Some(1.0));
    assert_eq!(of("sip50.example"), None);
    assert_eq!(of(OTHER_REGISTRAR), Some(1000.0));
    let series = found.keys().filter(|name| name.starts_with("routr_registry_registers_total")).count();
    assert_eq!(series, NAMED_REGISTRARS + 1);
}

#[test]
fn a_hostile_registrar_name_cannot_forge_a_line() {
    let one = One::new(NOW);
    one.registry.register_finished("x\"} 1\nrouter_registry_trunks 9\\", "ok", 0.1);
    let text = one.render(&Summary::default(), NOW);
    assert!(text.contains(r#"registrar="x\"} 1\nrouter_registry_trunks 9\\"}"#), "{text}");
}
