//! Bindings that nobody confirmed: at more than one URI, and through edits.

use super::{
    sim::{MINUTE, SECOND, Sim},
    world::{Policy, Way, trunk},
};
use crate::engine::view::TrunkState;

/// Both registrars hold a binding that nobody knows of.
fn doubtful() -> Sim {
    let mut sim = Sim::with(&[trunk("t", &["u@a", "u@b"])]);
    both(&mut sim, &Policy::Provisional);
    sim.run(20 * SECOND);
    assert!(sim.bound("t", "u@a") && sim.bound("t", "u@b"), "only one was tried");
    assert_eq!(sim.state("t"), TrunkState::Failing);
    sim
}

fn both(sim: &mut Sim, policy: &Policy) {
    for host in ["a", "b"] {
        sim.policy(host, policy.clone());
    }
}

#[test]
fn all_that_may_be_bound_is_removed() {
    let mut sim = doubtful();
    both(&mut sim, &Policy::Grants(600));
    sim.remove("t");
    sim.sync();
    sim.run(5 * SECOND);
    assert_eq!((sim.bound("t", "u@a"), sim.bound("t", "u@b"), sim.counts().leaving), (false, false, 0));
}

#[test]
fn an_edit_removes_what_may_be_bound_at_what_it_takes_away() {
    for (kept, lost) in [("u@a", "u@b"), ("u@b", "u@a")] {
        let mut sim = doubtful();
        both(&mut sim, &Policy::Grants(600));
        sim.put(&trunk("t", &["u@c", kept]));
        sim.sync();
        sim.run(5 * SECOND);
        assert_eq!((sim.bound("t", lost), sim.bound("t", "u@c"), sim.counts().leaving), (false, true, 0));
    }
}

#[test]
fn what_an_edit_leaves_is_removed_with_the_trunk() {
    let mut sim = doubtful();
    sim.policy("b", Policy::Silent);
    sim.put(&trunk("t", &["u@b", "u@a"]));
    sim.sync();
    sim.run(SECOND);
    both(&mut sim, &Policy::Grants(600));
    sim.remove("t");
    sim.sync();
    sim.run(MINUTE);
    assert_eq!((sim.bound("t", "u@a"), sim.bound("t", "u@b"), sim.counts().leaving), (false, false, 0));
}

#[test]
fn of_a_trunk_that_returns_with_one_address_the_other_is_still_removed() {
    let mut sim = doubtful();
    both(&mut sim, &Policy::Grants(600));
    sim.way = Way::Down;
    sim.remove("t");
    sim.sync();
    sim.run(MINUTE);
    sim.put(&trunk("t", &["u@a"]));
    sim.sync();
    sim.forget_log();
    sim.way = Way::Up;
    sim.run(MINUTE);
    assert_eq!((sim.bound("t", "u@a"), sim.bound("t", "u@b"), sim.counts().leaving), (true, false, 0));
    let sent = sim.of("t").iter().filter(|sent| sent.host == "a" && sent.code.is_some()).count();
    assert_eq!(sent, 1, "the address that is back was de-registered");
}
