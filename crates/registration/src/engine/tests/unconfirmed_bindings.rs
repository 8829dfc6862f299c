//! Bindings that no one confirmed: at more than one URI, and through edits.

use super::{
    sim::{MINUTE, SECOND_MS, Sim},
    world::{ConcurrencyLimit, Policy, trunk},
};
use crate::registration::state::TrunkState;

/// Both registrars hold a binding that no one knows of.
fn doubtful() -> Sim {
    let mut sim = Sim::with(&[trunk("t", &["u@a", "u@b"])]);
    both(&mut sim, &Policy::Provisional);
    sim.run(20 * SECOND_MS);
    assert!(sim.bound("t", "u@a") && sim.bound("t", "u@b"), "only one was tried");
    assert_eq!(sim.state("t"), TrunkState::Failing);
    sim
}

fn both(sim: &mut Sim, policy: &Policy) {
    for host in ["a", "b"] {
        // Nothing that is in flight is answered by that.
        sim.registrar(host).fake.policy = policy.clone();
    }
}

#[test]
fn all_that_may_be_bound_is_removed() {
    let mut sim = doubtful();
    both(&mut sim, &Policy::Grants(600));
    sim.remove("t");
    sim.sync();
    sim.run(5 * SECOND_MS);
    assert_eq!((sim.bound("t", "u@a"), sim.bound("t", "u@b"), sim.counts().deregistering), (false, false, 0));
}

#[test]
fn an_edit_removes_what_may_be_bound_at_what_it_takes_away() {
    for (kept, lost) in [("u@a", "u@b"), ("u@b", "u@a")] {
        let mut sim = doubtful();
        both(&mut sim, &Policy::Grants(600));
        sim.put(&trunk("t", &["u@c", kept]));
        sim.sync();
        sim.run(5 * SECOND_MS);
        assert_eq!(
            (sim.bound("t", lost), sim.bound("t", "u@c"), sim.counts().deregistering),
            (false, true, 0)
        );
    }
}

#[test]
fn what_an_edit_leaves_is_removed_with_the_trunk() {
    let mut sim = doubtful();
    sim.policy("b", Policy::Silent);
    sim.put(&trunk("t", &["u@b", "u@a"]));
    sim.sync();
    sim.run(SECOND_MS);
    both(&mut sim, &Policy::Grants(600));
    sim.remove("t");
    sim.sync();
    sim.run(MINUTE);
    assert_eq!((sim.bound("t", "u@a"), sim.bound("t", "u@b"), sim.counts().deregistering), (false, false, 0));
}

#[test]
fn of_a_trunk_that_returns_with_one_address_the_other_is_still_removed() {
    let mut sim = doubtful();
    both(&mut sim, &Policy::Grants(600));
    sim.concurrency = ConcurrencyLimit::Down;
    sim.remove("t");
    sim.sync();
    sim.run(MINUTE);
    sim.put(&trunk("t", &["u@a"]));
    sim.sync();
    sim.forget_log();
    sim.concurrency = ConcurrencyLimit::Up;
    sim.run(MINUTE);
    assert_eq!((sim.bound("t", "u@a"), sim.bound("t", "u@b"), sim.counts().deregistering), (true, false, 0));
    let sent = sim.of("t").iter().filter(|sent| sent.host == "a" && sent.code.is_some()).count();
    assert_eq!(sent, 1, "the address that is back was de-registered");
}

/// Registered at the last of as many URIs as a trunk may have; the others refuse.
fn at_the_last_of_many() -> Sim {
    let mut uris: Vec<String> = (0..31).map(|n| format!("u@h{n}")).collect();
    uris.push("u@last".to_owned());
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let mut sim = Sim::with(&[trunk("t", &uris)]);
    (0..31).for_each(|n| sim.policy(&format!("h{n}"), Policy::Code(500)));
    sim.run(30 * SECOND_MS);
    assert_eq!((sim.view("t").aor.as_str(), sim.state("t")), ("u@last", TrunkState::Registered));
    sim
}

/// The trunk is gone while nothing can be sent, and returns with its last address alone.
fn returns_with_the_last(sim: &mut Sim) {
    sim.concurrency = ConcurrencyLimit::Down;
    sim.remove("t");
    sim.sync();
    sim.run(20 * SECOND_MS);
    sim.put(&trunk("t", &["u@last"]));
    sim.sync();
    sim.run(20 * SECOND_MS);
    sim.forget_log();
    sim.concurrency = ConcurrencyLimit::Up;
    sim.run(20 * SECOND_MS);
}

#[test]
fn a_removal_at_one_of_very_many_addresses_is_not_made_when_its_trunk_is_back() {
    let mut sim = at_the_last_of_many();
    returns_with_the_last(&mut sim);
    assert_eq!(sim.counts().deregistering, 0, "nothing wakes it before its expiry");
    assert!(sim.bound("t", "u@last"));
    assert!(sim.of("t").iter().all(|sent| sent.expires > 0), "the trunk that is there was de-registered");
}

#[test]
fn a_removal_of_which_one_of_very_many_addresses_is_back_goes_on_with_the_others() {
    let mut sim = at_the_last_of_many();
    sim.policy("h0", Policy::Provisional);
    // It is probed.
    (0..360).for_each(|_| {
        if !sim.bound("t", "u@h0") {
            sim.run(10 * SECOND_MS);
        }
    });
    assert_eq!((sim.bound("t", "u@h0"), sim.bound("t", "u@last")), (true, true));
    sim.policy("h0", Policy::Grants(600));
    returns_with_the_last(&mut sim);
    assert_eq!(
        (sim.bound("t", "u@h0"), sim.bound("t", "u@last"), sim.counts().deregistering),
        (false, true, 0)
    );
    let of_last = sim.of("t").into_iter().filter(|sent| sent.host == "last");
    assert!(of_last.clone().all(|sent| sent.expires > 0), "the trunk that is there was de-registered");
}
