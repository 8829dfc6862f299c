//! Commands of an operator: the worst troubles, and a pause.

use std::collections::BTreeMap;

use super::{
    sim::{MINUTE, SECOND_MS, Sim},
    world::{Policy, trunk},
};
use crate::{
    engine::view::{Filter, TrunkView},
    registration::state::TrunkState,
    trunk::{Trunk, TrunkProblem},
};

fn trunks(count: usize) -> Vec<Trunk> {
    (0..count).map(|n| trunk(&format!("t{n:03}"), &[&format!("u{n}@h0")])).collect()
}

const BAD: [TrunkState; 3] = [TrunkState::Failing, TrunkState::Invalid, TrunkState::AtRisk];

/// Trunks that are well, refused, unknown, silent, at risk and invalid, in trouble since different moments.
fn unhealthy() -> Sim {
    let hosts = ["good", "refused", "unknown", "silent", "risky", "late"];
    let all: Vec<Trunk> =
        (0..60).map(|n| trunk(&format!("t{n:03}"), &[&format!("u{n}@{}", hosts[n % 6])])).collect();
    let mut sim = Sim::with(&all);
    sim.policy("refused", Policy::Password("another"));
    sim.policy("unknown", Policy::Code(404));
    sim.policy("silent", Policy::Silent);
    let malformed = || TrunkProblem::Malformed { message: "uris[0].host: empty".into() };
    for n in 0..5 {
        sim.list(&format!("x{n}"), Err(malformed()));
    }
    sim.run(2 * MINUTE);
    sim.policy("late", Policy::Code(500));
    sim.policy("risky", Policy::Code(500));
    // A version that is malformed: the last good one stays registered.
    sim.list("t000", Err(malformed()));
    sim.run(450 * SECOND_MS);
    sim
}

fn rank(view: &TrunkView) -> (usize, u64) {
    let since = view.failure.as_ref().map_or(0, |failure| failure.since_ms);
    (BAD.iter().position(|state| *state == view.state).unwrap(), if since == 0 { u64::MAX } else { since })
}

#[test]
fn the_worst_troubles_are_those_of_the_list_in_order_and_bounded() {
    let sim = unhealthy();
    let list =
        sim.engine.list(&Filter { states: BAD.to_vec(), ..Filter::default() }, None, 500, sim.now()).items;
    assert!(list.len() >= 40, "{}", list.len());
    let everything = sim.engine.failures(500, sim.now());
    assert!(everything.worst.is_sorted_by_key(rank));
    let states: Vec<TrunkState> =
        BAD.into_iter().filter(|s| list.iter().any(|view| view.state == *s)).collect();
    assert_eq!(states, BAD, "the simulation has one of each");
    let by_ref = |views: &[TrunkView]| -> BTreeMap<String, TrunkView> {
        views.iter().map(|view| (view.reference.clone(), view.clone())).collect()
    };
    assert_eq!(by_ref(&everything.worst), by_ref(&list));
    let mut counted = BTreeMap::<String, u64>::new();
    for view in &list {
        *counted.entry(view.failure.as_ref().unwrap().reason.clone()).or_default() += 1;
    }
    assert_eq!(everything.by_reason, counted);
    assert_eq!(
        (counted["CredentialsRejected"], counted["UnknownAccount"], counted["InvalidTrunk"]),
        (10, 10, 6)
    );
    for most in [0, 1, 7, 50] {
        let part = sim.engine.failures(most, sim.now());
        assert_eq!(part.worst, everything.worst[..most.min(list.len())], "{most}");
        assert_eq!(part.by_reason, counted, "{most}");
    }
}

#[test]
fn where_all_is_well_there_are_no_troubles() {
    let mut sim = Sim::with(&trunks(9));
    assert_eq!(sim.engine.failures(50, sim.now()), super::super::view::FailureSummary::default());
    sim.run(MINUTE);
    assert_eq!(sim.engine.failures(50, sim.now()), super::super::view::FailureSummary::default());
}

/// The simulation fails when a wakeup is not in the future.
#[test]
fn a_pause_sends_nothing_notices_expiries_and_ends() {
    let mut sim = Sim::with(&trunks(30));
    sim.run(2 * MINUTE);
    assert_eq!(sim.counts().registered, 30);
    sim.engine.pause(true);
    sim.forget_log();
    sim.wakeups = 0;
    sim.run(5 * MINUTE);
    assert_eq!((sim.counts().registered, sim.log.len()), (30, 0), "bindings stay");
    sim.put(&trunk("new", &["new@h0"]));
    sim.run(10 * MINUTE);
    assert_eq!((sim.counts().registered, sim.counts().failing, sim.counts().pending), (0, 30, 1));
    assert_eq!(sim.reason("t007").as_deref(), Some("BindingExpired"));
    assert_eq!(sim.engine.summary(sim.now()).next_expiry_ms, None);
    sim.run(60 * MINUTE);
    assert_eq!(sim.log.len(), 0);
    assert!(sim.wakeups <= 200, "woke {} times", sim.wakeups);
    sim.engine.pause(false);
    sim.run(10 * SECOND_MS);
    assert_eq!(sim.counts().registered, 31);
}

#[test]
fn deregister_all_removes_what_was_never_sent_too_and_leaves_refused_trunks_alone() {
    let mut all = trunks(3);
    all.push(trunk("refused", &["x@strict"]));
    let mut sim = Sim::with(&all);
    sim.policy("strict", Policy::Password("another"));
    sim.list("bad", Err(TrunkProblem::Malformed { message: "name: empty".into() }));
    sim.run(SECOND_MS);
    // Read while paused: nothing was sent for it.
    sim.engine.pause(true);
    sim.put(&trunk("untouched", &["u@other", "u@second"]));
    sim.sync();
    sim.forget_log();
    let refs: Vec<String> = sim.trunks.keys().cloned().collect();
    refs.iter().for_each(|reference| sim.remove(reference));
    let now = sim.now();
    sim.engine.deregister_all(true, now);
    sim.engine.pause(false);
    sim.run(5 * SECOND_MS);
    assert!(sim.engine.is_empty());
    assert!(sim.log.iter().all(|sent| sent.expires == 0), "{:?}", sim.log);
    let mut sent: Vec<(&str, &str)> = sim.log.iter().map(|sent| (&*sent.trunk, &*sent.host)).collect();
    sent.sort_unstable();
    assert_eq!(sent, [("t000", "h0"), ("t001", "h0"), ("t002", "h0"), ("untouched", "other")]);
}
