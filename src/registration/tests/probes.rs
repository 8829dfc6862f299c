//! Bound elsewhere than at the preferred target: when that is probed, and what its answer means for the binding.

use std::{num::NonZeroU32, time::Duration};

use super::*;
use crate::ports::ReportedBinding;

#[test]
fn a_backup_holds_until_a_probe_finds_the_preferred_one_well() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    assert_eq!(attempt.uri, UriChoice::Rank(1));
    bench.answer(&attempt, ok(600));
    assert_eq!(bench.state(), TrunkState::Registered);
    assert!(bench.registration.urgency().0, "it is in no hurry");
    // The preferred one is probed while the backup's binding has plenty of time left.
    between(bench.wait_of_next(), 14_000, 60_000);
    let probe = bench.attempt();
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(0)));
    bench.answer(&probe, reply(500));
    assert_eq!((bench.state(), bench.reason()), (TrunkState::Registered, None));
    let refresh = bench.attempt();
    assert_eq!((refresh.purpose, refresh.uri), (Purpose::Register, UriChoice::Rank(1)));
    bench.answer(&refresh, ok(600));
    let probe = bench.attempt();
    assert_eq!(probe.purpose, Purpose::Probe);
    bench.answer(&probe, ok(600));
    let refresh = bench.attempt();
    assert_eq!((refresh.purpose, refresh.uri), (Purpose::Register, UriChoice::Rank(0)), "not back");
}

#[test]
fn an_expiry_that_equals_what_is_left_elsewhere_is_still_the_registrars() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(600));
    let probe = bench.attempt();
    let left = u32::try_from(bench.registration.left(Moment(bench.at)).unwrap() / 1_000).unwrap();
    let binding = |expires| ReportedBinding { expires: Some(expires), own: false };
    let bindings = vec![binding(left), binding(600)];
    bench.answer(&probe, Reply { bindings, ..reply(200) });
    let held = bench.registration.left(Moment(bench.at)).unwrap() / 1_000;
    assert_eq!((bench.registration.bound_at(Moment(bench.at)), held), (Some(0), u64::from(left)));
}

#[test]
fn a_backup_found_after_a_restart_is_left_again_too() {
    let mut bench = Bench::new(2, 1);
    let now = Moment(START);
    let binding = Binding {
        expires_at: now.plus(400_000),
        granted_s: NonZeroU32::new(600).unwrap(),
        position: 1,
        edge: EdgeId(0),
        longer: false,
    };
    let settings = bench.settings.clone();
    bench.registration = Registration::resume(7, Some((binding, 1)), &settings, now, &mut bench.rng);
    let refresh = bench.attempt();
    assert_eq!(refresh.uri, UriChoice::Rank(1));
    bench.answer(&refresh, ok(600));
    let probe = bench.attempt();
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(0)));
}

#[test]
fn a_probe_that_is_told_to_ask_otherwise_does_so() {
    for told in [Reply { min_expires: Some(900), ..reply(423) }, reply(420), redirect(302, "elsewhere", None)]
    {
        let mut bench = Bench::new(2, 1);
        bench.round(500, 0);
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(600));
        let probe = bench.attempt();
        bench.answer(&probe, told);
        assert_eq!(bench.wait_of_next(), 0);
        let attempt = bench.attempt();
        assert_eq!((attempt.purpose, attempt.uri), (Purpose::Register, UriChoice::Rank(0)));
        bench.answer(&attempt, ok(600));
        assert_eq!(bench.attempt().uri, UriChoice::Rank(0));
    }
}

/// Bound by the second EdgePort, the first one probed next.
fn bound_by_another_edge_port(uris: u8, expires: i32) -> (Bench, Attempt) {
    let mut bench = Bench::new(uris, 2);
    bench.settings.expires_s = 3_600;
    let attempt = bench.attempt();
    bench.answer(&attempt, reply(503));
    (bench.registration.uri, bench.registration.edge) = (0, 1);
    let attempt = bench.attempt_now();
    bench.answer(&attempt, ok(expires));
    let probe = bench.attempt();
    assert_eq!((probe.purpose, probe.uri, probe.edge), (Purpose::Probe, UriChoice::Rank(0), 0));
    (bench, probe)
}

#[test]
fn a_password_that_was_refused_by_one_edge_port_is_not_offered_by_the_other_before_its_time() {
    for code in [401, 403, 404, 407] {
        let (mut bench, probe) = bound_by_another_edge_port(1, 300);
        bench.answer(&probe, reply(code));
        assert_eq!(bench.state(), TrunkState::AtRisk);
        between(bench.wait_of_next(), 300_000, 330_000);
        let before = bench.registration.due();
        bench.registration.refresh_early(Moment(bench.at), &mut SmallRng::seed_from_u64(1));
        assert_eq!(bench.registration.due(), before);
        // Not the preferred one again: it may be the EdgePort that refuses.
        let attempt = bench.attempt();
        assert_eq!((attempt.purpose, attempt.uri, attempt.edge), (Purpose::Register, UriChoice::Rank(0), 1));
        bench.answer(&attempt, reply(code));
        between(bench.wait_of_next(), 600_000, 660_000);
    }
}

#[test]
fn a_refused_probe_does_not_move_a_refresh_that_is_far_away() {
    let (mut bench, probe) = bound_by_another_edge_port(1, 3_600);
    bench.answer(&probe, reply(403));
    assert_eq!((bench.state(), bench.reason()), (TrunkState::AtRisk, Some("CredentialsRejected")));
    assert!(bench.wait_of_next() > 3_000_000);
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(3_600));
    assert_eq!((bench.state(), bench.reason()), (TrunkState::Registered, None));
}

#[test]
fn a_registrar_that_asked_a_probe_to_wait_is_not_refreshed_by_another_edge_port() {
    let wait = |seconds| Reply { retry_after: Some(seconds), ..reply(480) };
    // The refresh is due later anyway.
    let (mut bench, probe) = bound_by_another_edge_port(2, 600);
    let until = bench.at + 200_000;
    bench.answer(&probe, wait(200));
    assert_eq!(bench.state(), TrunkState::Registered);
    bench.registration.refresh_early(Moment(bench.at), &mut SmallRng::seed_from_u64(1));
    let attempt = bench.attempt();
    assert_eq!((attempt.uri, attempt.edge), (UriChoice::Rank(0), 1));
    assert!(bench.at >= until);
    // It is due before, and there is another registrar.
    let (mut bench, probe) = bound_by_another_edge_port(2, 600);
    bench.answer(&probe, wait(900));
    assert_eq!((bench.state(), bench.wait_of_next()), (TrunkState::AtRisk, 0));
    assert_eq!(bench.attempt().uri, UriChoice::Rank(1));
    // There is none.
    let (mut bench, probe) = bound_by_another_edge_port(1, 600);
    bench.answer(&probe, wait(900));
    assert_eq!((bench.state(), bench.wait_of_next()), (TrunkState::AtRisk, 900_000));
}

#[test]
fn a_probe_that_is_silent_endangers_nothing() {
    for expires in [30, 50, 60, 90, 120, 300, 600, 3_600] {
        let mut bench = Bench::new(2, 2);
        bench.round(500, 0);
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(expires));
        for _ in 0..30 {
            let attempt = bench.attempt();
            let left = bench.registration.left(Moment(bench.at));
            assert!(left.is_some(), "lapsed with {expires} s granted");
            if attempt.purpose == Purpose::Probe {
                bench.at += 40_000;
                bench.answer_with(&attempt, &Err(SendError::Deadline(Duration::from_secs(40))));
            } else {
                bench.answer(&attempt, ok(expires));
            }
        }
    }
}
