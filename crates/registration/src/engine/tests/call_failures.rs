//! A call's failure on a live connection is its trunk's own, unless calls of several trunks fail in a row.

use super::{
    sim::{MINUTE, SECOND_MS, Sim, settings},
    world::{Policy, trunk},
};
use crate::engine::notice::Notice;

const FAILING_TRUNKS_TO_OPEN: usize = 20;

fn name(n: usize) -> String {
    format!("t{n:05}")
}

/// Bindings of a minute at one registrar; the calls of these trunks fail.
fn sim(count: usize, seed: u64, failing: impl Iterator<Item = usize>) -> Sim {
    let mut settings = settings(1, None);
    settings.registration.expires_s = 60;
    let mut sim = Sim::new(settings, seed);
    (0..count).for_each(|n| sim.put(&trunk(&name(n), &[&format!("u{n}@one")])));
    sim.failing_calls = failing.map(name).collect();
    sim
}

/// Runs for so long and asserts each second that each trunk whose calls succeed is bound.
fn run_with_all_good_ones_bound(sim: &mut Sim, ms: u64) {
    for _ in 0..ms / SECOND_MS {
        sim.run(SECOND_MS);
        for reference in sim.trunks.keys().filter(|reference| !sim.failing_calls.contains(*reference)) {
            let aor = format!("u{}@one", reference[1..].parse::<usize>().unwrap());
            assert!(sim.bound(reference, &aor), "{reference} expired at {} s", sim.t / SECOND_MS);
        }
    }
}

fn requester_went_down(sim: &Sim) -> bool {
    sim.notices.iter().any(|notice| matches!(notice, Notice::RequesterDown { .. }))
}

#[test]
fn g1_three_unavailable_trunks_stop_nobody_else() {
    for seed in 0..4 {
        for failing in [0..3, 8..11, 17..20] {
            let mut sim = sim(FAILING_TRUNKS_TO_OPEN, seed, failing.clone());
            sim.run(2 * SECOND_MS);
            run_with_all_good_ones_bound(&mut sim, 20 * MINUTE);
            assert!(
                !requester_went_down(&sim),
                "{failing:?}: three trunks' failures are not the Requester's"
            );
            // 1 to 2 minutes between two calls, but for the first ones.
            let calls = sim.of(&name(failing.start)).len();
            assert!((10..=26).contains(&calls), "{calls} calls in 20 minutes");
        }
    }
}

#[test]
fn g1_the_first_of_three_that_fails_later_does_not_stop_the_others_either() {
    let mut sim = sim(FAILING_TRUNKS_TO_OPEN, 3, 0..0);
    sim.run(2 * SECOND_MS);
    run_with_all_good_ones_bound(&mut sim, 2 * MINUTE);
    sim.failing_calls = (5..8).map(name).collect();
    run_with_all_good_ones_bound(&mut sim, 10 * MINUTE);
    assert!(!requester_went_down(&sim));
    sim.failing_calls.clear();
    sim.run(2 * MINUTE);
    run_with_all_good_ones_bound(&mut sim, MINUTE);
}

#[test]
fn g1_the_one_trunk_of_twenty_whose_calls_succeed_is_registered_and_stays_so() {
    for seed in 0..4 {
        for good in [0, 7, 19] {
            let mut sim =
                sim(FAILING_TRUNKS_TO_OPEN, seed, (0..FAILING_TRUNKS_TO_OPEN).filter(|n| *n != good));
            sim.run(10 * SECOND_MS);
            run_with_all_good_ones_bound(&mut sim, 10 * MINUTE);
        }
    }
}

#[test]
fn one_good_trunk_among_many_is_found_within_a_quarter_of_a_second_for_each() {
    let mut sim = sim(400, 5, 0..399);
    sim.run(400 * SECOND_MS / 4);
    assert!(sim.bound(&name(399), "u399@one"));
    sim.run(MINUTE);
    run_with_all_good_ones_bound(&mut sim, 5 * MINUTE);
}

#[test]
fn g1_when_all_calls_fail_one_at_a_time_probes_and_all_are_back_soon() {
    for seed in 0..4 {
        let mut sim = sim(FAILING_TRUNKS_TO_OPEN, seed, 0..0);
        sim.run(10 * SECOND_MS);
        assert_eq!(sim.counts().registered, 20);
        sim.failing_calls = (0..FAILING_TRUNKS_TO_OPEN).map(name).collect();
        sim.run(10 * MINUTE);
        assert!(requester_went_down(&sim));
        assert_eq!(sim.engine.summary(sim.now()).requester.ok, Some(false));
        sim.forget_log();
        sim.run(10 * MINUTE);
        assert!(sim.log.len() < 600, "{} calls in ten minutes", sim.log.len());
        for n in 0..FAILING_TRUNKS_TO_OPEN {
            let of = sim.of(&name(n)).len();
            assert!(of * 8 < sim.log.len(), "{of} of {} probes by one trunk", sim.log.len());
        }
        sim.failing_calls.clear();
        sim.run(40 * SECOND_MS);
        assert_eq!(sim.counts().registered, 20, "seed {seed}");
        assert_eq!(sim.engine.summary(sim.now()).requester.ok, Some(true));
    }
}

#[test]
fn a_call_that_fails_costs_no_failure_of_the_trunk_and_is_named() {
    let mut sim = sim(1, 1, 0..1);
    sim.run(10 * MINUTE);
    let view = sim.view(&name(0));
    assert_eq!((view.failures, sim.reason(&name(0)).as_deref()), (0, Some("RequesterUnavailable")));
    let message = view.failure.unwrap().message;
    assert_eq!(message, "the call to the Requester failed: Unavailable: no upstream");
    assert!(!requester_went_down(&sim), "one trunk's failures are its own");
    sim.failing_calls.clear();
    sim.run(2 * MINUTE);
    assert_eq!(sim.counts().registered, 1);
}

#[test]
fn a_short_failure_of_all_calls_at_the_start_delays_none_by_a_wait_of_its_own() {
    for seed in 0..20 {
        let mut sim = sim(FAILING_TRUNKS_TO_OPEN, seed, 0..FAILING_TRUNKS_TO_OPEN);
        sim.run(8 * SECOND_MS);
        assert!(requester_went_down(&sim));
        sim.failing_calls.clear();
        // 5 s between two probes, 10 s at most for a trunk that was one.
        sim.run(16 * SECOND_MS);
        assert_eq!(sim.counts().registered, 20, "seed {seed}");
    }
}

#[test]
fn a_registrar_that_was_down_is_probed_by_those_too_whose_calls_succeed() {
    for seed in 0..8 {
        let mut sim = sim(6, seed, 0..0).with_ours();
        sim.run(MINUTE);
        sim.policy("one", Policy::Code(503));
        // Long enough for a wait of its own of half an hour.
        sim.run(2 * 60 * MINUTE);
        sim.failing_calls = (1..6).map(name).collect();
        sim.run(5 * MINUTE);
        sim.policy("one", Policy::Grants(600));
        // Each of the others may have its turn first.
        sim.run(MINUTE + 15 * SECOND_MS);
        assert!(sim.bound(&name(0), "u0@one"), "seed {seed}: {:?}", sim.of(&name(0)).last());
    }
}

#[test]
fn a_new_trunk_probes_first_while_the_calls_of_all_others_fail() {
    for seed in 0..4 {
        let mut sim = sim(200, seed, 0..200);
        sim.run(10 * MINUTE);
        assert!(requester_went_down(&sim));
        sim.put(&trunk(&name(200), &["u200@one"]));
        sim.sync();
        sim.run(MINUTE);
        assert!(sim.bound(&name(200), "u200@one"), "seed {seed}: each of the others went before it");
    }
}
