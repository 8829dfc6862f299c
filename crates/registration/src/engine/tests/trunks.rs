//! Trunks that come, change and go.

use super::{
    sim::{HOUR, MINUTE, SECOND_MS, Sim, settings},
    world::{ConcurrencyLimit, Policy, trunk},
};
use crate::{
    registration::{EdgePortId, Purpose, state::TrunkState},
    trunk::TrunkProblem,
};
use routr_types::host::HostPort;

fn malformed() -> TrunkProblem {
    TrunkProblem::Malformed { message: "uris[0].port: 70000".into() }
}

fn registered() -> Sim {
    let mut sim = Sim::with(&[trunk("t", &["u@h0"]), trunk("other", &["o@h0"])]);
    sim.run(2 * MINUTE);
    sim.forget_log();
    sim
}

#[test]
fn a_trunk_that_is_gone_is_de_registered_with_the_same_call_id() {
    let mut sim = registered();
    let call_id = sim.view("t").call_id;
    sim.remove("t");
    sim.sync();
    sim.run(SECOND_MS);
    let sent: Vec<_> = sim.of("t").iter().map(|s| (s.expires, s.purpose, s.call_id.clone())).collect();
    assert_eq!(sent, [(0, Purpose::Deregister, call_id)]);
    assert!(!sim.bound("t", "u@h0") && sim.bound("other", "o@h0"));
    assert_eq!((sim.counts().deregistering, sim.store.contains_key("t")), (0, false));
}

#[test]
fn a_deregistration_is_tried_three_times_then_forgotten() {
    for policy in [Policy::Code(500), Policy::Silent, Policy::Code(403), Policy::Nonsense] {
        let mut sim = registered();
        sim.policy("h0", policy.clone());
        sim.remove("t");
        sim.run(3 * MINUTE);
        assert_eq!(sim.of("t").len(), 3, "{policy:?}");
        assert_eq!((sim.counts().deregistering, sim.store.contains_key("t")), (0, false), "{policy:?}");
    }
}

#[test]
fn a_deregistration_is_over_when_the_binding_has_expired() {
    let mut sim = registered();
    sim.policy("h0", Policy::busy(3_600));
    sim.refresh("other");
    sim.run(SECOND_MS);
    sim.remove("t");
    sim.run(12 * MINUTE);
    assert_eq!(sim.counts().deregistering, 0, "it waits for a registrar that wants no request");
    let mut sim = registered();
    sim.concurrency = ConcurrencyLimit::Down;
    sim.remove("t");
    sim.run(12 * MINUTE);
    assert_eq!(sim.counts().deregistering, 0);
}

#[test]
fn a_deregistration_follows_a_redirection_and_leaves_refused_tags_out() {
    let mut sim = Sim::with(&[trunk("t", &["u@h0"])]);
    sim.policy("h0", Policy::moved(302, "there", None));
    sim.run(MINUTE);
    assert!(sim.bound("t", "u@h0"));
    sim.remove("t");
    sim.sync();
    sim.run(5 * SECOND_MS);
    assert!(!sim.bound("t", "u@h0"), "the binding is still there");
    let mut sim = Sim::with(&[trunk("t", &["u@h0"])]);
    sim.run(MINUTE);
    sim.policy("h0", Policy::RefusesTags(true));
    sim.remove("t");
    sim.sync();
    sim.run(5 * SECOND_MS);
    assert!(!sim.bound("t", "u@h0"));
}

#[test]
fn a_deregistration_that_waited_until_its_trunk_was_back_is_not_made() {
    let mut sim = registered();
    sim.concurrency = ConcurrencyLimit::Down;
    sim.remove("t");
    sim.sync();
    sim.run(MINUTE);
    sim.put(&trunk("t", &["u@h0"]));
    sim.sync();
    sim.run(MINUTE);
    sim.forget_log();
    sim.concurrency = ConcurrencyLimit::Up;
    sim.run(MINUTE);
    let sent: Vec<u32> =
        sim.of("t").iter().filter(|sent| sent.code.is_some()).map(|sent| sent.expires).collect();
    assert_eq!(sent, [600], "the trunk that is there was de-registered");
    assert!(sim.bound("t", "u@h0"));
    assert_eq!(sim.counts().deregistering, 0);
}

#[test]
fn a_request_that_nobody_answered_may_have_bound_and_is_undone_where_it_went() {
    let mut sim = Sim::with(&[trunk("t", &["u@a", "u@b"])]);
    sim.policy("a", Policy::Provisional);
    sim.run(SECOND_MS);
    assert!(sim.bound("t", "u@a"));
    sim.policy("a", Policy::Grants(600));
    sim.remove("t");
    sim.sync();
    sim.run(5 * SECOND_MS);
    assert!(!sim.bound("t", "u@a"));
    // The same when its address of record changes.
    let mut sim = Sim::with(&[trunk("t", &["u@a"])]);
    sim.policy("a", Policy::Provisional);
    sim.run(SECOND_MS);
    sim.policy("a", Policy::Grants(600));
    sim.put(&trunk("t", &["v@a"]));
    sim.sync();
    sim.run(5 * SECOND_MS);
    assert!(!sim.bound("t", "u@a") && sim.bound("t", "v@a"));
}

#[test]
fn a_changed_address_of_record_removes_the_old_binding_and_makes_the_new_one() {
    let mut sim = registered();
    sim.put(&trunk("t", &["new@h0"]));
    sim.sync();
    sim.run(SECOND_MS);
    assert!(!sim.bound("t", "u@h0") && sim.bound("t", "new@h0"));
    assert_eq!(sim.state("t"), TrunkState::Registered);
    assert_eq!(sim.counts().deregistering, 0);
}

#[test]
fn an_address_that_a_trunk_lost_is_removed_though_it_keeps_another() {
    let mut sim = Sim::with(&[trunk("t", &["u@a", "u@b"])]);
    sim.run(MINUTE);
    sim.policy("a", Policy::Code(500));
    sim.put(&trunk("t", &["u@b"]));
    sim.sync();
    sim.run(SECOND_MS);
    sim.policy("a", Policy::Grants(600));
    sim.run(30 * SECOND_MS);
    assert!(!sim.bound("t", "u@a"), "the first try failed, and then it was dropped");
    assert!(sim.bound("t", "u@b"));
}

#[test]
fn a_trunk_that_returns_before_it_has_left_keeps_its_call_id_and_its_numbers() {
    for (delay, pause) in [(20, 0), (20, 500), (3_000, 500), (20_000, 1_500), (3_000, 4_000)] {
        let mut sim = registered();
        sim.registrar("h0").delay = delay;
        sim.remove("t");
        sim.sync();
        sim.run(pause);
        sim.put(&trunk("t", &["u@h0"]));
        sim.sync();
        // The checks see to one in flight and to a rising CSeq.
        sim.run(2 * MINUTE);
        assert!(sim.bound("t", "u@h0"));
        assert_eq!((sim.state("t"), sim.counts().deregistering), (TrunkState::Registered, 0));
    }
}

#[test]
fn changes_while_a_request_is_in_flight_end_in_the_last_state() {
    let versions: [&[&str]; 4] = [&["u@h0"], &["v@h0"], &["v@h0", "u@h0"], &["u@h0:5070", "v@h1"]];
    for first in 0..4 {
        for second in 0..4 {
            let mut sim = Sim::with(&[trunk("t", versions[first])]);
            sim.checks.hasty = true;
            sim.registrar("h0").delay = 3_000;
            sim.run(SECOND_MS);
            sim.put(&trunk("t", versions[second]));
            sim.sync();
            sim.run(SECOND_MS);
            sim.put(&trunk("t", versions[first]));
            sim.sync();
            sim.run(2 * MINUTE);
            let view = sim.view("t");
            assert_eq!((view.state, sim.counts().deregistering), (TrunkState::Registered, 0));
            assert!(sim.bound("t", &view.aor));
            let lost = ["u@h0", "v@h0", "v@h1"]
                .into_iter()
                .filter(|aor| sim.bound("t", aor) && !versions[first].iter().any(|uri| uri.starts_with(aor)));
            assert_eq!(lost.collect::<Vec<_>>(), Vec::<&str>::new(), "{first} {second}");
        }
    }
}

#[test]
fn the_same_address_by_another_way_is_removed_by_that_way() {
    let mut sim = Sim::with(&[trunk("t", &["u@h0:5060", "u@h0:5070;tcp"])]);
    sim.policy("h0", Policy::Code(500));
    sim.run(100);
    sim.policy("h0", Policy::Grants(600));
    sim.run(SECOND_MS);
    sim.refresh("t");
    sim.run(SECOND_MS);
    let bound_by = sim.log.iter().rfind(|s| s.code == Some(200)).unwrap().port;
    sim.forget_log();
    sim.remove("t");
    sim.sync();
    sim.run(SECOND_MS);
    assert_eq!(sim.log[0].port, bound_by);
}

#[test]
fn a_malformed_trunk_is_reported_and_its_last_good_version_stays_registered() {
    let mut sim = registered();
    sim.list("t", Err(malformed()));
    sim.list("never", Err(malformed()));
    sim.run(2 * HOUR);
    assert!(sim.bound("t", "u@h0") && sim.bound("other", "o@h0"));
    assert_eq!(
        (sim.state("t"), sim.state("never"), sim.counts().invalid),
        (TrunkState::Invalid, TrunkState::Invalid, 2)
    );
    let failure = sim.view("t").failure.unwrap();
    assert_eq!(failure.reason, "InvalidTrunk");
    assert!(failure.message.contains("uris[0].port") && failure.message.contains("last good version"));
    assert!(sim.of("t").iter().all(|sent| sent.expires == 600));
    sim.put(&trunk("t", &["u@h0"]));
    sim.put(&trunk("never", &["n@h0"]));
    sim.run(2 * MINUTE);
    assert_eq!(sim.counts().registered, 3);
}

#[test]
fn what_a_malformed_trunk_uses_by_its_last_good_version_is_kept() {
    let mut sim = registered();
    sim.list("t", Err(malformed()));
    sim.list("never", Err(malformed()));
    sim.run(2 * HOUR);
    assert_eq!(sim.state("t"), TrunkState::Invalid);
    let (view, record) = (sim.view("t"), sim.store["t"].clone());
    assert_eq!((record.cseq, Some(record.expires_at_ms)), (view.cseq, view.expires_at_ms));
    assert!(!sim.store.contains_key("never"), "there is nothing to keep");
}

#[test]
fn a_trunk_with_all_uris_disabled_is_de_registered() {
    let mut sim = registered();
    sim.list("t", Err(TrunkProblem::AllDisabled));
    sim.run(2 * MINUTE);
    assert!(!sim.bound("t", "u@h0"));
    assert_eq!(sim.state("t"), TrunkState::Invalid);
    assert!(!sim.store.contains_key("t"), "after a restart it would count as registered");
    sim.put(&trunk("t", &["u@h0"]));
    sim.run(2 * MINUTE);
    assert_eq!(sim.state("t"), TrunkState::Registered);
}

#[test]
fn losing_most_trunks_at_once_takes_a_second_sync() {
    let mut sim = Sim::registered(40);
    (0..25).for_each(|n| sim.remove(&format!("t{n:05}")));
    let report = sim.sync();
    assert_eq!((report.held, report.removed), (25, 0));
    assert_eq!(sim.engine.summary(sim.now()).removals_pending_confirmation, 25);
    sim.run(30 * SECOND_MS);
    assert!(sim.log.is_empty());
    // An error in between says nothing.
    sim.api_up = false;
    sim.sync();
    assert_eq!(sim.counts().registered, 40);
    sim.api_up = true;
    let report = sim.sync();
    assert_eq!((report.held, report.removed), (0, 25));
    sim.run(5 * SECOND_MS);
    assert_eq!((sim.counts().registered, sim.log.len()), (15, 25));
}

#[test]
fn trunks_that_come_back_in_the_second_sync_were_never_touched() {
    let mut sim = Sim::registered(40);
    let kept = sim.trunks.clone();
    sim.trunks.clear();
    assert_eq!(sim.sync().held, 40);
    sim.trunks = kept;
    assert_eq!(sim.sync().held, 0);
    sim.run(MINUTE);
    assert!(sim.log.is_empty());
    // Absent once more: the count starts again.
    sim.trunks.clear();
    assert_eq!(sim.sync().held, 40);
}

#[test]
fn losing_few_or_less_than_half_acts_at_once() {
    for (of, lost) in [(12, 10), (40, 20)] {
        let mut sim = Sim::registered(of);
        (0..lost).for_each(|n| sim.remove(&format!("t{n:05}")));
        let report = sim.sync();
        assert_eq!((report.held, report.removed), (0, lost as u64));
        sim.run(5 * SECOND_MS);
        assert_eq!(sim.counts().registered, (of - lost) as u64);
    }
}

#[test]
fn the_cache_is_not_forgotten_because_the_first_list_is_empty() {
    let mut sim = Sim::registered(40);
    let kept = sim.trunks.clone();
    sim.trunks.clear();
    sim.restart(5 * SECOND_MS, 0);
    sim.run(SECOND_MS);
    sim.trunks = kept;
    sim.sync();
    sim.run(SECOND_MS);
    assert!(sim.log.is_empty(), "{} were registered again", sim.log.len());
    assert_eq!((sim.counts().registered, sim.store.len()), (40, 40));
}

#[test]
fn an_api_error_is_never_a_removal_and_refreshes_go_on() {
    let mut sim = Sim::registered(30);
    sim.api_up = false;
    sim.run(12 * HOUR);
    assert_eq!(sim.counts().registered, 30);
    assert!(sim.log.iter().all(|sent| sent.expires == 600));
    let api = sim.engine.summary(sim.now()).api;
    assert_eq!(api.ok, Some(false));
    assert!(api.message.unwrap().contains("cannot be reached"));
}

#[test]
fn deregister_all_keeps_to_the_budgets() {
    let mut sim = Sim::registered(30);
    let now = sim.now();
    // The driver reads no trunks any more: none comes back.
    (0..30).for_each(|n| sim.remove(&format!("t{n:05}")));
    sim.engine.deregister_all(false, now);
    sim.run(10 * SECOND_MS);
    assert!(sim.engine.is_empty() || sim.counts().deregistering == 0);
    assert!((0..30).all(
        |n| !sim.bound(&format!("t{n:05}"), &format!("u{n}@h0")) || sim.of(&format!("t{n:05}")).len() > 1
    ));
    assert!((0..30).all(|n| sim.of(&format!("t{n:05}"))[0].expires == 0));
}

#[test]
fn fewer_edge_ports_and_back_move_only_their_own_trunks() {
    let mut sim = Sim::new(settings(3, Some(20.0)), 1);
    (0..60).for_each(|n| sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@h{}", n % 4)])));
    sim.run(2 * MINUTE);
    let edges = |sim: &Sim| (0..60).map(|n| sim.view(&format!("t{n:05}")).edge_port).collect::<Vec<_>>();
    let before = edges(&sim);
    let (all, mut fewer) = (sim.settings.clone(), sim.settings.clone());
    fewer.edge_ports.truncate(2);
    sim.forget_log();
    sim.reconfigure(fewer);
    sim.run(10 * MINUTE);
    let after = edges(&sim);
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert_eq!(moved, before.iter().filter(|edge| edge.starts_with("edge-2")).count());
    assert!(sim.log.iter().all(|sent| sent.edge != "edge-2.example"));
    sim.reconfigure(all);
    sim.run(10 * MINUTE);
    assert_eq!(edges(&sim), before);
    assert_eq!(sim.counts().registered, 60);
}

#[test]
fn the_silence_of_an_edge_port_that_is_gone_is_not_its_successors() {
    let mut sim = Sim::new(settings(1, None), 7);
    (0..3).for_each(|n| sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@h{n}")])));
    sim.dead_edges.insert("edge-0.example".to_owned());
    sim.run(5 * SECOND_MS);
    assert!(sim.engine.in_flight() == 3, "{:?}", sim.counts());
    let mut other = sim.settings.clone();
    other.edge_ports[0].address = HostPort::new("edge-8.example", 5060);
    other.edge_ports.push(other.edge_ports[0].clone());
    other.edge_ports[1].address = HostPort::new("edge-9.example", 5060);
    sim.reconfigure(other);
    let first = |sim: &Sim| {
        let of = |n| sim.engine.slots.get(sim.engine.slots.find(&format!("t{n:05}")).unwrap()).unwrap();
        (0..3)
            .filter(|n| {
                sim.engine.edge_ports.choose(
                    &of(*n).trunk.view(),
                    crate::registration::EdgePortRank::FIRST,
                    sim.now().at,
                ) == EdgePortId(1)
            })
            .count()
    };
    let before = first(&sim);
    assert!(before > 0);
    // Until what was in flight has had no answer.
    for _ in 0..60 {
        sim.run(SECOND_MS);
        assert_eq!(first(&sim), before, "passed over");
    }
    assert_eq!(sim.counts().registered, 3);
}

#[test]
fn what_was_not_kept_while_nothing_was_durable_is_written_afterwards() {
    let mut sim = Sim::registered(5);
    sim.store_up = false;
    for n in 0..5 {
        sim.refresh(&format!("t{n:05}"));
    }
    sim.run(SECOND_MS);
    // A configuration without a durable cache, and back.
    sim.engine.keep(false);
    sim.engine.keep(true);
    sim.engine.handle_store_loss();
    sim.store.clear();
    sim.store_up = true;
    sim.pump();
    assert_eq!(sim.store.len(), 5);
}
