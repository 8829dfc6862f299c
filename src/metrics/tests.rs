use std::collections::BTreeMap;

use super::*;
use crate::registry::{ConditionState, RegistryPhase, RegistryState};
use routr_registration::engine::view::{Counts, Health};

const NOW: u64 = 1_800_000_000_000;

/// Every sample of an OpenMetrics text, by its name with labels; checks the frame around them.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("process_") || name.starts_with("routr_registry_"), "{line}");
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
        self.metrics.render(&Scrape { registries, leading: None, now_unix_ms: now, ..Scrape::default() })
    }
}

fn summary() -> Summary {
    Summary {
        counts: Counts { pending: 1, registered: 9, at_risk: 2, failing: 3, invalid: 4, deregistering: 5 },
        api: Health { ok: Some(true), message: None, since_ms: NOW, reason: None },
        requester: Health { ok: Some(false), message: Some("refused".into()), since_ms: NOW, reason: None },
        cache: Health::default(),
        last_sync_ms: Some(NOW - 12_500),
        left_out: 0,
        over_limits: Vec::new(),
        removals_pending_confirmation: 11,
        next_expiry_ms: Some(NOW + 42_000),
        paused: false,
        in_flight: 7,
        in_flight_limit: 16,
        waiting: 6,
        over_budget: vec!["sip.example".into(), "pbx.example".into()],
        failed_over: 7,
        redirected: 8,
        redirections: Vec::new(),
        registrars_down: 480,
        edge_ports_down: 1,
        down: Vec::new(),
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
        ("routr_registry_trunks{state=\"deregistering\"}", 5.0),
        ("routr_registry_next_expiry_timestamp_seconds", 1_800_000_042.0),
        ("routr_registry_last_sync_timestamp_seconds", 1_799_999_987.5),
        ("routr_registry_registers_queued", 6.0),
        ("routr_registry_removals_pending_confirmation", 11.0),
        ("routr_registry_registrars_over_budget", 2.0),
        ("routr_registry_trunks_failed_over", 7.0),
        ("routr_registry_trunks_redirected", 8.0),
        ("routr_registry_registrars_down", 480.0),
        ("routr_registry_edge_ports_down", 1.0),
        ("routr_registry_requests_in_flight", 7.0),
        ("routr_registry_requests_in_flight_limit", 16.0),
        ("routr_registry_dependency_up{dependency=\"api\"}", 1.0),
        ("routr_registry_dependency_up{dependency=\"requester\"}", 0.0),
        ("process_start_time_seconds", 1_799_999_940.0),
        (concat!("routr_registry_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(found.get(name), Some(&expected), "{name} in {found:#?}");
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let found = samples(&One::new(NOW).render(&Summary::default(), NOW));
    for absent in ["next_expiry", "last_sync", "dependency_up"] {
        assert!(!found.keys().any(|name| name.contains(absent)), "{absent} in {found:#?}");
    }
    assert_eq!(found["routr_registry_trunks{state=\"failing\"}"], 0.0);
}

#[test]
fn an_expiry_in_the_past_is_shown_as_it_is() {
    let late = Summary { next_expiry_ms: Some(NOW - 3_000), ..Summary::default() };
    let found = samples(&One::new(NOW).render(&late, NOW));
    assert_eq!(found["routr_registry_next_expiry_timestamp_seconds"], 1_799_999_997.0);
}

#[test]
fn registers_are_counted_by_outcome_and_registrar_and_timed_by_outcome() {
    let one = One::new(NOW);
    let clone = one.metrics.registry(RegistryName::plain("registry"));
    one.registry.register_finished("sip.example", "ok", 0.02);
    clone.register_finished("SIP.example", "ok", 3.0);
    clone.register_finished("pbx.example", "Timeout", 40.0);
    let found = samples(&one.render(&Summary::default(), NOW));
    assert_eq!(
        found["routr_registry_register_requests_total{outcome=\"ok\",registrar=\"sip.example\"}"],
        2.0
    );
    assert_eq!(
        found["routr_registry_register_requests_total{outcome=\"Timeout\",registrar=\"pbx.example\"}"],
        1.0
    );
    assert_eq!(found["routr_registry_register_duration_seconds_count{outcome=\"ok\"}"], 2.0);
    assert_eq!(found["routr_registry_register_duration_seconds_sum{outcome=\"ok\"}"], 3.02);
    let bucket = |le: &str| {
        found[&format!("routr_registry_register_duration_seconds_bucket{{le=\"{le}\",outcome=\"ok\"}}")]
    };
    assert_eq!((bucket("0.01"), bucket("0.025"), bucket("2.5"), bucket("5.0")), (0.0, 1.0, 1.0, 2.0));
    assert!(!found.keys().any(|name| name.contains("duration") && name.contains("registrar=")), "{found:#?}");
}

#[test]
fn the_delay_of_refreshes_is_counted_without_labels_and_by_registry() {
    let one = One::new(NOW);
    one.registry.refresh_sent(0.003);
    one.registry.refresh_sent(0.3);
    let found = samples(&one.render(&Summary::default(), NOW));
    let bucket = |le: &str| found[&format!("routr_registry_refresh_delay_seconds_bucket{{le=\"{le}\"}}")];
    assert_eq!((bucket("0.002"), bucket("0.004"), bucket("0.25"), bucket("0.5")), (0.0, 1.0, 1.0, 2.0));
    assert_eq!(found["routr_registry_refresh_delay_seconds_count"], 2.0);
    assert_eq!(found["routr_registry_refresh_delay_seconds_sum"], 0.303);

    let metrics = Metrics::new(NOW);
    for (name, seconds) in [("a", 0.01), ("b", 4.0)] {
        let name = RegistryName { namespace: Some("calls".into()), ..RegistryName::plain(name) };
        metrics.registry(name).refresh_sent(seconds);
    }
    let found =
        samples(&metrics.render(&Scrape { leading: Some(true), now_unix_ms: NOW, ..Scrape::default() }));
    let sum = |name: &str| {
        found[&format!("routr_registry_refresh_delay_seconds_sum{{namespace=\"calls\",registry=\"{name}\"}}")]
    };
    assert_eq!((sum("a"), sum("b")), (0.01, 4.0));
}

#[test]
fn syncs_and_store_writes_are_counted_from_zero() {
    let one = One::new(NOW);
    let writes = |ok: &str| format!("routr_registry_store_writes_total{{result=\"{ok}\"}}");
    let syncs = |ok: &str| format!("routr_registry_syncs_total{{result=\"{ok}\"}}");
    let before = samples(&one.render(&Summary::default(), NOW));
    assert_eq!((before[&writes("error")], before[&syncs("error")]), (0.0, 0.0));
    one.registry.store_write(true);
    one.registry.store_write(false);
    one.registry.store_write(false);
    one.registry.sync_finished(true, 0.4);
    one.registry.sync_finished(false, 60.0);
    let after = samples(&one.render(&Summary::default(), NOW));
    assert_eq!((after[&writes("success")], after[&writes("error")]), (1.0, 2.0));
    assert_eq!((after[&syncs("success")], after[&syncs("error")]), (1.0, 1.0));
    assert_eq!(after["routr_registry_sync_duration_seconds_sum{result=\"error\"}"], 60.0);
}

#[test]
fn only_the_first_registrars_keep_their_name() {
    let one = One::new(NOW);
    for host in 0..MAX_NAMED_REGISTRARS + 1000 {
        one.registry.register_finished(&format!("sip{host}.example"), "ok", 0.1);
    }
    one.registry.register_finished("sip0.example", "ok", 0.1);
    let found = samples(&one.render(&Summary::default(), NOW));
    let of = |host: &str| {
        found
            .get(&format!("routr_registry_register_requests_total{{outcome=\"ok\",registrar=\"{host}\"}}"))
            .copied()
    };
    assert_eq!(of("sip0.example"), Some(2.0));
    assert_eq!(of("sip49.example"), Some(1.0));
    assert_eq!(of("sip50.example"), None);
    assert_eq!(of(OTHER_REGISTRAR), Some(1000.0));
    let series =
        found.keys().filter(|name| name.starts_with("routr_registry_register_requests_total")).count();
    assert_eq!(series, MAX_NAMED_REGISTRARS + 1);
}

#[test]
fn a_hostile_registrar_name_cannot_forge_a_line() {
    let one = One::new(NOW);
    one.registry.register_finished("x\"} 1\nrouter_registry_trunks 9\\", "ok", 0.1);
    let text = one.render(&Summary::default(), NOW);
    assert!(text.contains(r#"registrar="x\"} 1\nrouter_registry_trunks 9\\"}"#), "{text}");
}

/// Names and labels before the value, of all lines that are about a metric itself rather than a value.
fn descriptions(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("# ") && *line != "# EOF").collect()
}

fn paris() -> RegistryName {
    RegistryName::of("paris", "main")
}

fn berlin() -> RegistryName {
    RegistryName::of("berlin", "main")
}

fn scrape(registries: Vec<(RegistryName, Option<Summary>)>) -> Scrape {
    Scrape { registries, leading: Some(true), now_unix_ms: NOW, ..Scrape::default() }
}

#[test]
fn series_of_resources_carry_their_names_and_each_metric_is_described_once() {
    let metrics = Metrics::new(NOW);
    for name in [paris(), berlin()] {
        let registry = metrics.registry(name);
        registry.register_finished("sip.example", "ok", 0.02);
        registry.sync_finished(true, 0.4);
    }
    metrics.registry(berlin()).register_finished("sip.example", "ok", 0.02);
    let text = metrics.render(&scrape(vec![(berlin(), Some(summary())), (paris(), None)]));
    let found = samples(&text);
    for (name, expected) in [
        (
            "routr_registry_register_requests_total{namespace=\"berlin\",registry=\"main\",outcome=\"ok\",registrar=\"sip.example\"}",
            2.0,
        ),
        (
            "routr_registry_register_requests_total{namespace=\"paris\",registry=\"main\",outcome=\"ok\",registrar=\"sip.example\"}",
            1.0,
        ),
        ("routr_registry_sync_duration_seconds_sum{result=\"success\"}", 0.8),
        ("routr_registry_registers_queued{namespace=\"berlin\",registry=\"main\"}", 6.0),
        ("routr_registry_trunks{namespace=\"berlin\",registry=\"main\",state=\"failing\"}", 3.0),
        ("routr_registry_engine_up{namespace=\"berlin\",registry=\"main\"}", 1.0),
        ("routr_registry_engine_up{namespace=\"paris\",registry=\"main\"}", 0.0),
    ] {
        assert_eq!(found.get(name), Some(&expected), "{name} in {found:#?}");
    }
    assert!(!found.contains_key("routr_registry_registers_queued{namespace=\"paris\",registry=\"main\"}"));
    let described = descriptions(&text);
    for line in &described {
        let name = line.split(' ').nth(2).unwrap();
        let kind = line.split(' ').nth(1).unwrap();
        let same = described.iter().filter(|other| other.starts_with(&format!("# {kind} {name} "))).count();
        assert_eq!(same, 1, "{line}");
    }
    assert_eq!(
        described.iter().filter(|line| line.starts_with("# HELP routr_registry_register_requests ")).count(),
        1
    );
}

#[test]
fn outside_an_operator_nothing_is_added() {
    let text = One::new(NOW).render(&summary(), NOW);
    for absent in ["namespace", "registry=", "engine_up", "leader", "status_writes", "reconciles", "{}"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
}

#[test]
fn the_operator_counts_its_own() {
    let metrics = Metrics::new(NOW);
    let found = samples(&metrics.render(&scrape(Vec::new())));
    assert_eq!(found["routr_registry_leader_election_is_leader"], 1.0);
    assert_eq!(found["routr_registry_status_writes_total{result=\"error\"}"], 0.0);
    metrics.operator().status_write("error");
    metrics.operator().reconciled(None);
    metrics.operator().reconciled(None);
    metrics.operator().reconciled(Some("Interrupted"));
    let found = samples(&metrics.render(&Scrape { leading: Some(false), ..scrape(Vec::new()) }));
    assert_eq!(found["routr_registry_leader_election_is_leader"], 0.0);
    assert_eq!(found["routr_registry_status_writes_total{result=\"error\"}"], 1.0);
    assert_eq!(found["routr_registry_reconciles_total{result=\"success\"}"], 2.0);
    assert_eq!(found["routr_registry_reconciles_total{result=\"error\"}"], 1.0);
    assert_eq!(found["routr_registry_reconcile_errors_total{reason=\"Interrupted\"}"], 1.0);
}

#[test]
fn a_forgotten_registry_leaves_no_series_and_counts_anew_when_it_is_back() {
    let metrics = Metrics::new(NOW);
    let before = metrics.registry(paris());
    before.register_finished("sip.example", "ok", 0.1);
    metrics.registry(berlin()).store_write(true);
    metrics.forget(&paris());
    // Its engine may still be ending.
    before.register_finished("sip.example", "ok", 0.1);
    let found = samples(&metrics.render(&scrape(Vec::new())));
    assert!(!found.keys().any(|name| name.contains("paris")), "{found:#?}");
    let writes =
        "routr_registry_store_writes_total{namespace=\"berlin\",registry=\"main\",result=\"success\"}";
    assert_eq!(found[writes], 1.0);
    metrics.registry(paris()).sync_finished(true, 0.1);
    let found = samples(&metrics.render(&scrape(Vec::new())));
    assert_eq!(
        found["routr_registry_syncs_total{namespace=\"paris\",registry=\"main\",result=\"success\"}"],
        1.0
    );
    assert!(!found.keys().any(|name| name.contains("paris") && name.contains("registers")), "{found:#?}");
}

#[test]
fn the_bound_of_registrar_names_is_one_for_all_and_a_forgotten_registry_makes_room() {
    let metrics = Metrics::new(NOW);
    let (first, second) = (metrics.registry(paris()), metrics.registry(berlin()));
    let half = MAX_NAMED_REGISTRARS / 2;
    for (counts, name) in [(&first, "p"), (&metrics.registry(RegistryName::of("rome", "main")), "r")] {
        for host in 0..half + 10 {
            counts.register_finished(&format!("{name}{host}.example"), "ok", 0.1);
        }
    }
    // One has half of the names, and two have all of them.
    second.register_finished("b0.example", "ok", 0.1);
    second.register_finished("p0.example", "ok", 0.1);
    let of = |metrics: &Metrics, host: &str| {
        samples(&metrics.render(&scrape(Vec::new()))).contains_key(&format!(
            "routr_registry_register_requests_total{{namespace=\"berlin\",registry=\"main\",outcome=\"ok\",registrar=\"{host}\"}}"
        ))
    };
    assert!(!of(&metrics, "b0.example") && of(&metrics, "p0.example") && of(&metrics, OTHER_REGISTRAR));
    metrics.forget(&paris());
    for host in 1..MAX_NAMED_REGISTRARS {
        second.register_finished(&format!("b{host}.example"), "ok", 0.1);
    }
    // It has p0, which kept its place, and the label of those without a name.
    assert!(of(&metrics, "b1.example") && of(&metrics, &format!("b{}.example", half - 2)));
    assert!(!of(&metrics, &format!("b{}.example", half - 1)));
}

#[test]
fn k3_a_resource_without_trunks_has_few_series() {
    let (metrics, mut all) = (Metrics::new(NOW), Vec::new());
    for n in 0..100 {
        let name = RegistryName::of("customers", format!("registry-{n}"));
        metrics.registry(name.clone()).sync_finished(true, 0.01);
        let api = Health { ok: Some(true), message: None, since_ms: NOW, reason: None };
        all.push((name, Some(Summary { last_sync_ms: Some(NOW), api, ..Summary::default() })));
    }
    let of_none = metrics.render(&scrape(Vec::new())).lines().count();
    let text = metrics.render(&scrape(all.clone()));
    let owned = samples(&text).into_keys().filter(|name| name.contains("registry-7\""));
    let owned: Vec<_> = owned.collect();
    assert!(owned.iter().any(|name| name.contains("engine_up")), "{owned:?}");
    assert!(owned.iter().any(|name| name.contains("last_sync")), "{owned:?}");
    assert!(owned.len() <= 5 && text.lines().count() - of_none <= 400, "{owned:?}");
    // What has a trunk is shown in full.
    if let Some(summary) = &mut all[7].1 {
        summary.counts.failing = 1;
    }
    metrics.registry(all[7].0.clone()).refresh_sent(0.01);
    let found = samples(&metrics.render(&scrape(all)));
    for name in [
        "trunks{namespace=\"customers\",registry=\"registry-7\",state=\"pending\"}",
        "registers_queued{namespace=\"customers\",registry=\"registry-7\"}",
    ] {
        assert_eq!(found.get(&format!("routr_registry_{name}")), Some(&0.0), "{name} in {found:#?}");
    }
    assert_eq!(found.keys().filter(|name| name.contains("refresh_delay_seconds_count")).count(), 1);
}

/// A resource in the state Running, with one condition; the status describes generation 3.
fn resource(name: &str, kind: &str, status: Option<bool>, reason: &str, generation: i64) -> ResourceState {
    let condition = ConditionState { kind: kind.into(), status, reason: reason.into() };
    let state = RegistryState {
        state: RegistryPhase::Running,
        conditions: [condition].into(),
        observed_generation: Some(3),
        ..RegistryState::default()
    };
    ResourceState { name: RegistryName::of("ns", name), state, generation: Some(generation) }
}

fn of_resources(resources: Vec<ResourceState>) -> BTreeMap<String, f64> {
    samples(&Metrics::new(NOW).render(&Scrape { resources, ..scrape(Vec::new()) }))
}

#[test]
fn a_condition_has_a_series_for_each_status_and_one_for_its_reason() {
    let found = of_resources(vec![resource("a", "APIReachable", None, "NotProbed", 4)]);
    for (name, expected) in [
        ("condition{namespace=\"ns\",registry=\"a\",type=\"APIReachable\",status=\"true\"}", 0.0),
        ("condition{namespace=\"ns\",registry=\"a\",type=\"APIReachable\",status=\"false\"}", 0.0),
        ("condition{namespace=\"ns\",registry=\"a\",type=\"APIReachable\",status=\"unknown\"}", 1.0),
        ("condition_reason{namespace=\"ns\",registry=\"a\",type=\"APIReachable\",reason=\"NotProbed\"}", 1.0),
        ("suspended{namespace=\"ns\",registry=\"a\"}", 0.0),
        ("generation{namespace=\"ns\",registry=\"a\"}", 4.0),
        ("observed_generation{namespace=\"ns\",registry=\"a\"}", 3.0),
    ] {
        assert_eq!(found.get(&format!("routr_registry_{name}")), Some(&expected), "{name} in {found:#?}");
    }
}

#[test]
fn of_many_resources_only_what_is_amiss_is_shown_in_full() {
    let well = |n: usize| resource(&format!("r{n}"), "Stalled", Some(false), "NotStalled", 3);
    let of = |resources: &[ResourceState]| {
        let shown = of_resources(resources.to_vec()).into_keys();
        shown.filter(|name| name.contains("namespace=\"ns\"")).collect::<Vec<_>>()
    };
    let mut all: Vec<ResourceState> = (0..MAX_DETAILED).map(well).collect();
    // Ready, suspended, a condition with three statuses, its reason, two generations.
    assert_eq!(of(&all).len(), MAX_DETAILED * 8);
    all.push(resource("bad", "Stalled", Some(true), "SecretNotFound", 4));
    all.push(resource("quiet", "APIReachable", None, "NotRunning", 3));
    all.push(resource("empty", "CredentialsAccepted", None, "NoTrunks", 3));
    let shown = of(&all);
    assert_eq!(shown.len(), all.len() + 3, "{shown:#?}");
    for name in [
        "condition{namespace=\"ns\",registry=\"bad\",type=\"Stalled\",status=\"true\"}",
        "generation{namespace=\"ns\",registry=\"bad\"}",
        "observed_generation{namespace=\"ns\",registry=\"bad\"}",
    ] {
        assert!(shown.contains(&format!("routr_registry_{name}")), "{name} in {shown:#?}");
    }
}

#[test]
fn unhealthy_trunks_are_counted_by_reason() {
    let metrics = Metrics::new(NOW);
    let by_reason = BTreeMap::from([("Timeout".to_owned(), 3), (String::new(), 1)]);
    let failures = vec![(RegistryName::plain("registry"), by_reason)];
    let found = samples(&metrics.render(&Scrape { failures, now_unix_ms: NOW, ..Scrape::default() }));
    assert_eq!(found["routr_registry_trunk_failures{reason=\"Timeout\"}"], 3.0);
    assert_eq!(found["routr_registry_trunk_failures{reason=\"Unknown\"}"], 1.0);
}

#[test]
fn the_process_has_the_standard_metrics() {
    let found = samples(&One::new(NOW).render(&Summary::default(), NOW));
    // A process that has just started may have used less than a tick of the processor.
    assert!(found["process_cpu_seconds_total"] >= 0.0, "{found:#?}");
    for name in ["process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"] {
        assert!(found[name] > 0.0, "{name} in {found:#?}");
    }
    assert!(found["process_max_fds"] >= found["process_open_fds"], "{found:#?}");
    assert!(found["process_virtual_memory_bytes"] >= found["process_resident_memory_bytes"], "{found:#?}");
}
