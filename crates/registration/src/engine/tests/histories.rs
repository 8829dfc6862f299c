//! Histories of trunks that were not simply well, as a person asks for them.

use super::{
    sim::{HOUR, MINUTE, Sim},
    world::{Policy, trunk},
};
use crate::{
    engine::history::{HistoryAttempt, HistoryEntry, HistoryEvent, TrunkDetail},
    registration::state::TrunkState,
};

fn detail(sim: &Sim, reference: &str) -> TrunkDetail {
    sim.engine.detail(reference, sim.now()).unwrap()
}

fn attempts(detail: &TrunkDetail) -> Vec<(&HistoryEntry, &HistoryAttempt)> {
    let attempts = detail.history.iter().filter_map(|entry| match &entry.event {
        HistoryEvent::Attempt(attempt) => Some((entry, attempt)),
        _ => None,
    });
    attempts.collect()
}

fn states(detail: &TrunkDetail) -> Vec<(TrunkState, TrunkState, bool)> {
    let states = detail.history.iter().filter_map(|entry| match entry.event {
        HistoryEvent::State { from, to, failed_over } => Some((from, to, failed_over)),
        _ => None,
    });
    states.collect()
}

#[test]
fn a_trunk_that_has_only_ever_been_well_has_none_and_one_beside_it_has() {
    let mut sim = Sim::with(&[trunk("good", &["u@good"]), trunk("locked", &["v@locked"])]);
    sim.policy("locked", Policy::Code(403));
    sim.run(2 * HOUR);
    assert_eq!(detail(&sim, "good").history, []);
    let locked = detail(&sim, "locked");
    assert_eq!(states(&locked), [(TrunkState::Pending, TrunkState::Failing, false)]);
    let attempts = attempts(&locked);
    let last = attempts.last().unwrap();
    let (entry, attempt) = last;
    assert_eq!((attempt.reason.as_deref(), attempt.code), (Some("CredentialsRejected"), Some(403)));
    assert_eq!((&*attempt.registrar, &*attempt.edge_port), ("locked:5060/UDP", "edge-0.example:5060"));
    assert!(attempt.message.contains("403 Because") && !attempt.failed_over && !attempt.probe);
    assert_eq!(attempt.next_at_ms, locked.trunk.next_at_ms, "when it is tried again");
    let sent: u32 = attempts.iter().map(|(entry, _)| entry.times).sum();
    assert_eq!(usize::try_from(sent).unwrap(), sim.of("locked").len(), "each REGISTER is counted");
    assert!(entry.first_ms < entry.last_ms && entry.last_ms <= locked.now_ms);
}

#[test]
fn fail_over_and_the_way_back_are_told_apart() {
    let mut sim = Sim::with(&[trunk("t", &["u@one", "u@two"])]);
    sim.policy("one", Policy::Code(503));
    sim.run(10 * MINUTE);
    let over = detail(&sim, "t");
    assert!(over.trunk.failed_over && over.trunk.state == TrunkState::Registered);
    assert!(states(&over).iter().any(|(_, to, failed_over)| *to == TrunkState::Registered && *failed_over));
    let at = |registrar: &str| {
        let attempts = attempts(&over);
        let found = attempts.into_iter().find(|(_, attempt)| attempt.registrar.starts_with(registrar));
        found.map(|(_, attempt)| attempt.clone()).unwrap()
    };
    let (one, two) = (at("one"), at("two"));
    assert_eq!((one.failed_over, one.code, two.failed_over, two.reason), (false, Some(503), true, None));
    sim.policy("one", Policy::Grants(86_400));
    sim.run(2 * HOUR);
    let back = detail(&sim, "t");
    assert!(!back.trunk.failed_over);
    assert_eq!(states(&back).last(), Some(&(TrunkState::Registered, TrunkState::Registered, false)));
    assert!(back.history.len() <= 16, "{}", back.history.len());
}

#[test]
fn what_a_trunk_waits_for_is_named() {
    let all: Vec<_> = (0..8).map(|n| trunk(&format!("t{n}"), &[&format!("u{n}@gone")])).collect();
    let mut sim = Sim::with(&all);
    sim.policy("gone", Policy::Silent);
    sim.run(10 * MINUTE);
    let waits = |reference: &str| {
        detail(&sim, reference).history.iter().any(|entry| match &entry.event {
            HistoryEvent::Wait { waited_for } => waited_for.starts_with("registrar gone"),
            _ => false,
        })
    };
    let waiting: Vec<usize> = (0..8).filter(|n| waits(&format!("t{n}"))).collect();
    assert_eq!(waiting, (0..8).collect::<Vec<_>>());
    sim.engine.pause(true);
    assert!(detail(&sim, "t0").suspended);
}

#[test]
fn a_trunk_that_returns_begins_without_a_history() {
    let mut sim = Sim::with(&[trunk("t", &["u@one"]), trunk("keeps", &["v@two"])]);
    sim.policy("one", Policy::Code(403));
    sim.run(10 * MINUTE);
    assert!(!detail(&sim, "t").history.is_empty());
    sim.remove("t");
    sim.run(HOUR);
    assert_eq!(sim.engine.detail("t", sim.now()), None);
    sim.policy("one", Policy::Grants(86_400));
    sim.put(&trunk("t", &["u@one"]));
    sim.run(10 * MINUTE);
    assert_eq!(detail(&sim, "t").history, []);
}
