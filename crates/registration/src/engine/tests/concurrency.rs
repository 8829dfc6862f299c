//! The way to the registrars: the Requester's breaker and bound, the EdgePorts, and wakeups.

use super::{
    sim::{HOUR, MINUTE, SECOND_MS, Sim, settings},
    world::{ConcurrencyLimit, Policy, trunk},
};
use crate::{
    registration::{Purpose, state::TrunkState},
    trunk::Trunk,
};

fn many(count: usize) -> Vec<Trunk> {
    (0..count).map(|n| trunk(&format!("t{n:05}"), &[&format!("u{n}@one")])).collect()
}

#[test]
fn nothing_spins_while_the_requester_hangs_or_refuses() {
    for way in [
        ConcurrencyLimit::Hanging,
        ConcurrencyLimit::Refusing,
        ConcurrencyLimit::Down,
        ConcurrencyLimit::java(),
    ] {
        let mut sim = Sim::new(settings(1, Some(1.0)), 3);
        many(20).iter().for_each(|trunk| sim.put(trunk));
        sim.concurrency = way.clone();
        sim.run(HOUR);
        // Each step of the simulation asserts that the engine does not want to be woken in the past.
        assert!(sim.wakeups < 3_000, "{} wakeups in an hour, {way:?}", sim.wakeups);
    }
}

#[test]
fn an_outage_of_the_requester_costs_no_trunk_its_place_and_ends_within_seconds() {
    for way in [ConcurrencyLimit::Down, ConcurrencyLimit::Hanging] {
        let mut sim = Sim::with(&many(40));
        sim.run(8 * MINUTE);
        assert_eq!(sim.counts().registered, 40);
        sim.concurrency = way.clone();
        sim.run(100 * SECOND_MS);
        sim.concurrency = ConcurrencyLimit::Up;
        sim.forget_log();
        sim.run(50 * SECOND_MS);
        let first = sim.log.iter().find(|sent| sent.code == Some(200)).unwrap().at;
        assert!(first <= sim.t - 50 * SECOND_MS + 41 * SECOND_MS, "{way:?}: back only after a while");
        sim.run(2 * MINUTE);
        assert_eq!(sim.counts().registered, 40, "{way:?}");
        if way == ConcurrencyLimit::Down {
            assert!(first <= sim.t - 170 * SECOND_MS + 5 * SECOND_MS, "not within seconds");
            let views = (0..40).map(|n| sim.view(&format!("t{n:05}")));
            assert!(views.into_iter().all(|view| view.failures == 0));
        }
    }
}

#[test]
fn while_the_requester_is_down_one_request_at_a_time_probes_it() {
    let mut sim = Sim::with(&many(100));
    sim.concurrency = ConcurrencyLimit::Down;
    sim.run(10 * MINUTE);
    assert!(sim.log.len() < 10 * 60 / 2, "{} requests in ten minutes", sim.log.len());
    assert_eq!(sim.engine.summary(sim.now()).requester.ok, Some(false));
    assert_eq!(sim.reason("t00000").as_deref(), Some("RequesterUnavailable"));
    assert_eq!(sim.view("t00000").failures, 0);
    let next = sim.view("t00000").next;
    assert_eq!(next, "waiting for the Requester");
    sim.concurrency = ConcurrencyLimit::Up;
    sim.run(15 * SECOND_MS);
    assert_eq!(sim.counts().registered, 100);
}

#[test]
fn first_registrations_keep_their_order_through_an_outage() {
    let mut sim = Sim::new(settings(1, Some(1.0)), 4);
    let trunks = many(30);
    sim.put(&trunks[0]);
    sim.concurrency = ConcurrencyLimit::Down;
    sim.run(MINUTE);
    trunks.iter().for_each(|trunk| sim.put(trunk));
    sim.sync();
    sim.run(20 * SECOND_MS);
    sim.concurrency = ConcurrencyLimit::Up;
    sim.forget_log();
    sim.run(2 * MINUTE);
    assert_eq!(
        sim.log.iter().find(|sent| sent.code == Some(200)).unwrap().trunk,
        "t00000",
        "it lost its place"
    );
}

#[test]
fn the_bound_does_not_creep_up_on_a_requester_that_is_at_its_limit() {
    let mut sim = Sim::new(settings(1, None), 5);
    many(5_000).iter().for_each(|trunk| sim.put(trunk));
    sim.concurrency = ConcurrencyLimit::java();
    sim.run(20 * MINUTE);
    let slowest = sim.log.iter().map(|sent| sent.answered_at - sent.at).max().unwrap();
    assert!(slowest < 10 * SECOND_MS, "an answer took {slowest} ms");
    let rate = sim.log.len() as u64 / (20 * 60);
    assert!(rate >= 3, "{rate} per second of the 4 that it can do");
}

#[test]
fn the_bound_grows_while_answers_are_quick_and_halves_at_timeouts() {
    let mut sim = Sim::new(settings(1, None), 6);
    many(3_000).iter().for_each(|trunk| sim.put(trunk));
    sim.run(3 * SECOND_MS);
    let grown = sim.engine.concurrency.limit();
    assert!(grown >= 64, "only {grown} after three seconds");
    sim.concurrency = ConcurrencyLimit::Hanging;
    let all: Vec<String> = sim.trunks.keys().take(60).cloned().collect();
    for reference in &all {
        sim.refresh(reference);
    }
    sim.run(41 * SECOND_MS);
    assert!(sim.engine.concurrency.limit() <= grown / 2);
}

#[test]
fn a_dead_edge_port_is_passed_over_and_used_again_when_it_has_recovered() {
    let mut sim = Sim::new(settings(2, Some(20.0)), 7);
    for n in 0..60 {
        sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@h{}", n % 6)]));
    }
    sim.run(5 * MINUTE);
    let before: Vec<String> = (0..60).map(|n| sim.view(&format!("t{n:05}")).edge_port).collect();
    assert!(before.iter().any(|edge| edge.starts_with("edge-0")));
    sim.dead_edges.insert("edge-0.example".to_owned());
    sim.run(30 * MINUTE);
    assert_eq!(sim.counts().registered + sim.counts().at_risk, 60, "a binding expired");
    assert!(sim.counts().at_risk <= 6, "{:?}", sim.counts());
    sim.forget_log();
    sim.run(2 * HOUR);
    let (lost, all) = (sim.log.iter().filter(|sent| sent.code == Some(408)).count(), sim.log.len());
    assert!(lost * 20 < all, "{lost} of {all} REGISTERs went to the dead EdgePort");
    sim.dead_edges.clear();
    sim.run(90 * MINUTE);
    let after: Vec<String> = (0..60).map(|n| sim.view(&format!("t{n:05}")).edge_port).collect();
    assert_eq!(before, after, "not back");
}

#[test]
fn whoever_uses_the_one_edge_port_that_is_left_does_not_probe_it() {
    let mut sim = Sim::new(settings(2, Some(20.0)), 7);
    for n in 0..60 {
        sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@h{}", n % 6)]));
    }
    sim.run(5 * MINUTE);
    sim.dead_edges.insert("edge-0.example".to_owned());
    sim.run(HOUR);
    sim.forget_log();
    sim.run(2 * HOUR);
    let probes = sim.log.iter().filter(|sent| sent.purpose == Purpose::Probe);
    let idle = probes.filter(|sent| sent.edge == "edge-1.example").count();
    assert_eq!(idle, 0, "probes that went where the binding was");
}

#[test]
fn one_good_registrar_by_one_good_edge_port_is_found() {
    let mut sim = Sim::new(settings(2, Some(20.0)), 7);
    sim.put(&trunk("t", &["u@first", "u@second"]));
    sim.run(SECOND_MS);
    let (good, dead) = match &*sim.view("t").edge_port {
        "edge-0.example:5060" => ("edge-0.example", "edge-1.example"),
        _ => ("edge-1.example", "edge-0.example"),
    };
    sim.dead_edges.insert(dead.to_owned());
    let silent = if sim.view("t").aor == "u@first" { "first" } else { "second" };
    sim.policy(silent, Policy::Silent);
    sim.run(HOUR);
    assert_eq!(
        sim.state("t"),
        TrunkState::Registered,
        "the good registrar was not asked by the good EdgePort"
    );
    assert!(sim.view("t").edge_port.starts_with(good));
}

#[test]
fn one_dead_registrar_does_not_hold_up_the_others() {
    let mut sim = Sim::new(settings(1, Some(20.0)), 8);
    for n in 0..200 {
        sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@{}", ["dead", "well"][n % 2])]));
    }
    sim.policy("dead", Policy::Silent);
    sim.run(2 * MINUTE);
    assert_eq!(sim.counts().registered, 100);
    sim.run(HOUR);
    assert_eq!(sim.counts().registered, 100, "refreshes were held up");
    assert_eq!(sim.state("t00000"), TrunkState::Failing);
}

#[test]
fn a_silent_registrar_that_outlasts_the_deadline_does_not_hold_up_the_others() {
    let mut settings = settings(1, Some(20.0));
    // Before the EdgePort gives up: for the bound each silence is the Requester's.
    settings.registration.deadline_ms = 30_000;
    let mut sim = Sim::new(settings, 8);
    for n in 0..40 {
        sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@{}", ["dead", "well"][n % 2])]));
    }
    sim.run(2 * MINUTE);
    assert_eq!(sim.counts().registered, 40);
    sim.policy("dead", Policy::Silent);
    for _ in 0..60 {
        sim.run(MINUTE);
        let lost =
            (0..40).filter(|n| n % 2 == 1 && !sim.bound(&format!("t{n:05}"), &format!("u{n}@well"))).count();
        assert_eq!(lost, 0, "bindings expired at the registrar that answers");
    }
}

#[test]
fn a_refusing_requester_is_probed_and_costs_no_trunk_a_failure() {
    let mut sim = Sim::with(&many(20));
    sim.concurrency = ConcurrencyLimit::Refusing;
    sim.run(10 * MINUTE);
    assert!(sim.log.len() < 800, "{} requests in ten minutes", sim.log.len());
    let view = sim.view("t00003");
    assert_eq!((view.failures, view.state), (0, TrunkState::Failing));
    assert_eq!(sim.reason("t00003").as_deref(), Some("RequesterRefused"));
    sim.concurrency = ConcurrencyLimit::Up;
    sim.run(40 * SECOND_MS);
    assert_eq!(sim.counts().registered, 20);
}

#[test]
fn edge_ports_of_the_region_go_first_and_again_when_they_have_recovered() {
    let mut settings = settings(3, Some(20.0));
    settings.edge_ports[1].region = Some("eu".to_owned());
    let mut sim = Sim::new(settings, 9);
    for n in 0..30 {
        let mut trunk = trunk(&format!("t{n:05}"), &[&format!("u{n}@h{}", n % 5)]);
        trunk.region = Some("eu".into());
        sim.put(&trunk);
    }
    sim.run(5 * MINUTE);
    assert!(sim.log.iter().all(|sent| sent.edge == "edge-1.example"));
    sim.dead_edges.insert("edge-1.example".to_owned());
    sim.run(30 * MINUTE);
    assert_eq!(sim.counts().registered + sim.counts().at_risk, 30, "a binding expired");
    sim.dead_edges.clear();
    sim.run(HOUR);
    sim.forget_log();
    sim.run(HOUR);
    assert!(sim.log.iter().all(|sent| sent.edge == "edge-1.example" && sent.code == Some(200)));
}
