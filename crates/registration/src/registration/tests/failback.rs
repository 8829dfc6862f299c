//! Bound elsewhere than at the preferred target: when that is probed, and what its answer means for the
//! binding.

use std::{num::NonZeroU32, time::Duration};

use super::*;
use routr_types::extension::ReportedBinding;

#[test]
fn a_backup_holds_until_a_probe_finds_the_preferred_one_well() {
    let mut harness = Harness::new(2, 1);
    harness.round(500, 0);
    let attempt = harness.attempt();
    assert_eq!(attempt.uri, UriChoice::Rank(UriRank(1)));
    harness.answer(&attempt, ok(600));
    assert_eq!(harness.state(), TrunkState::Registered);
    assert!(harness.registration.urgency().0, "it is in no hurry");
    // The preferred one is probed while the backup's binding has plenty of time left.
    between(harness.wait_of_next(), 14_000, 60_000);
    let probe = harness.attempt();
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(UriRank(0))));
    harness.answer(&probe, response(500));
    assert_eq!((harness.state(), harness.reason()), (TrunkState::Registered, None));
    let refresh = harness.attempt();
    assert_eq!((refresh.purpose, refresh.uri), (Purpose::Register, UriChoice::Rank(UriRank(1))));
    harness.answer(&refresh, ok(600));
    let probe = harness.attempt();
    assert_eq!(probe.purpose, Purpose::Probe);
    harness.answer(&probe, ok(600));
    let refresh = harness.attempt();
    assert_eq!((refresh.purpose, refresh.uri), (Purpose::Register, UriChoice::Rank(UriRank(0))), "not back");
}

#[test]
fn an_expiry_that_equals_what_is_left_elsewhere_is_still_the_registrars() {
    let mut harness = Harness::new(2, 1);
    harness.round(500, 0);
    let attempt = harness.attempt();
    harness.answer(&attempt, ok(600));
    let probe = harness.attempt();
    let left = u32::try_from(harness.registration.remaining_ms(Moment(harness.at)).unwrap() / 1_000).unwrap();
    let binding = |expires| ReportedBinding { expires: Some(expires), own: false };
    let bindings = vec![binding(left), binding(600)];
    harness.answer(&probe, RegisterResponse { bindings, ..response(200) });
    let held = harness.registration.remaining_ms(Moment(harness.at)).unwrap() / 1_000;
    assert_eq!(
        (harness.registration.bound_at(Moment(harness.at)), held),
        (Some(UriIndex(0)), u64::from(left))
    );
}

#[test]
fn a_backup_found_after_a_restart_is_left_again_too() {
    let mut harness = Harness::new(2, 1);
    let now = Moment(START);
    let binding = Binding {
        expires_at: now.plus(400_000),
        granted_s: NonZeroU32::new(600).unwrap(),
        index: UriIndex(1),
        edge: EdgePortId(0),
        longer: false,
    };
    let settings = harness.settings.clone();
    harness.registration =
        Registration::resume(7, Some((binding, UriRank(1))), &settings, now, &mut harness.rng);
    let refresh = harness.attempt();
    assert_eq!(refresh.uri, UriChoice::Rank(UriRank(1)));
    harness.answer(&refresh, ok(600));
    let probe = harness.attempt();
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(UriRank(0))));
}

#[test]
fn a_probe_that_is_told_to_ask_otherwise_does_so() {
    for hint in [
        RegisterResponse { min_expires: Some(900), ..response(423) },
        response(420),
        redirect(302, "elsewhere", None),
    ] {
        let mut harness = Harness::new(2, 1);
        harness.round(500, 0);
        let attempt = harness.attempt();
        harness.answer(&attempt, ok(600));
        let probe = harness.attempt();
        harness.answer(&probe, hint);
        assert_eq!(harness.wait_of_next(), 0);
        let attempt = harness.attempt();
        assert_eq!((attempt.purpose, attempt.uri), (Purpose::Register, UriChoice::Rank(UriRank(0))));
        harness.answer(&attempt, ok(600));
        assert_eq!(harness.attempt().uri, UriChoice::Rank(UriRank(0)));
    }
}

/// Bound by the second EdgePort, the first one probed next.
fn bound_by_another_edge_port(uris: u8, expires: i32) -> (Harness, Attempt) {
    let mut harness = Harness::new(uris, 2);
    harness.settings.expires_s = 3_600;
    let attempt = harness.attempt();
    harness.answer(&attempt, response(503));
    harness.registration.target = TargetRanks { uri: UriRank(0), edge: EdgePortRank(1) };
    let attempt = harness.attempt_now();
    harness.answer(&attempt, ok(expires));
    let probe = harness.attempt();
    assert_eq!(
        (probe.purpose, probe.uri, probe.edge),
        (Purpose::Probe, UriChoice::Rank(UriRank(0)), EdgePortRank(0))
    );
    (harness, probe)
}

#[test]
fn a_password_that_was_refused_by_one_edge_port_is_not_offered_by_the_other_before_its_time() {
    for code in [401, 403, 404, 407] {
        let (mut harness, probe) = bound_by_another_edge_port(1, 300);
        harness.answer(&probe, response(code));
        assert_eq!(harness.state(), TrunkState::AtRisk);
        between(harness.wait_of_next(), 300_000, 330_000);
        let before = harness.registration.due();
        harness.registration.refresh_early(Moment(harness.at), &mut SmallRng::seed_from_u64(1));
        assert_eq!(harness.registration.due(), before);
        // Not the preferred one again: it may be the EdgePort that refuses.
        let attempt = harness.attempt();
        assert_eq!(
            (attempt.purpose, attempt.uri, attempt.edge),
            (Purpose::Register, UriChoice::Rank(UriRank(0)), EdgePortRank(1))
        );
        harness.answer(&attempt, response(code));
        between(harness.wait_of_next(), 600_000, 660_000);
    }
}

#[test]
fn a_refused_probe_does_not_move_a_refresh_that_is_far_away() {
    let (mut harness, probe) = bound_by_another_edge_port(1, 3_600);
    harness.answer(&probe, response(403));
    assert_eq!((harness.state(), harness.reason()), (TrunkState::AtRisk, Some("CredentialsRejected")));
    assert!(harness.wait_of_next() > 3_000_000);
    let attempt = harness.attempt();
    harness.answer(&attempt, ok(3_600));
    assert_eq!((harness.state(), harness.reason()), (TrunkState::Registered, None));
}

#[test]
fn a_registrar_that_asked_a_probe_to_wait_is_not_refreshed_by_another_edge_port() {
    let wait = |seconds| RegisterResponse { retry_after: Some(seconds), ..response(480) };
    // The refresh is due later anyway.
    let (mut harness, probe) = bound_by_another_edge_port(2, 600);
    let until = harness.at + 200_000;
    harness.answer(&probe, wait(200));
    assert_eq!(harness.state(), TrunkState::Registered);
    harness.registration.refresh_early(Moment(harness.at), &mut SmallRng::seed_from_u64(1));
    let attempt = harness.attempt();
    assert_eq!((attempt.uri, attempt.edge), (UriChoice::Rank(UriRank(0)), EdgePortRank(1)));
    assert!(harness.at >= until);
    // It is due before, and there is another registrar.
    let (mut harness, probe) = bound_by_another_edge_port(2, 600);
    harness.answer(&probe, wait(900));
    assert_eq!((harness.state(), harness.wait_of_next()), (TrunkState::AtRisk, 0));
    assert_eq!(harness.attempt().uri, UriChoice::Rank(UriRank(1)));
    // There is none.
    let (mut harness, probe) = bound_by_another_edge_port(1, 600);
    harness.answer(&probe, wait(900));
    assert_eq!((harness.state(), harness.wait_of_next()), (TrunkState::AtRisk, 900_000));
}

#[test]
fn a_probe_that_is_silent_endangers_nothing() {
    for expires in [30, 50, 60, 90, 120, 300, 600, 3_600] {
        let mut harness = Harness::new(2, 2);
        harness.round(500, 0);
        let attempt = harness.attempt();
        harness.answer(&attempt, ok(expires));
        for _ in 0..30 {
            let attempt = harness.attempt();
            let left = harness.registration.remaining_ms(Moment(harness.at));
            assert!(left.is_some(), "expired with {expires} s granted");
            if attempt.purpose == Purpose::Probe {
                harness.at += 40_000;
                harness.answer_with(&attempt, &Err(SendError::Deadline(Duration::from_secs(40))));
            } else {
                harness.answer(&attempt, ok(expires));
            }
        }
    }
}
