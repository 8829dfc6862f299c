//! Registrars that ask for time: Retry-After, and which other targets it leaves open.

use super::*;

#[test]
fn retry_after_is_the_least_to_wait() {
    for code in [503, 500, 413, 480, 486, 600, 603] {
        let mut harness = Harness::new(1, 2);
        let attempt = harness.attempt();
        let effect = harness.answer(&attempt, RegisterResponse { retry_after: Some(900), ..response(code) });
        assert!(harness.wait_of_next() >= 900_000, "{code}");
        assert_eq!(effect.hold_registrar_until.is_some(), code == 503, "{code}");
    }
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, RegisterResponse { retry_after: Some(2_000), ..response(404) });
    assert_eq!(harness.wait_of_next(), 2_000_000);
    let attempt = harness.attempt();
    let effect = harness.answer(&attempt, RegisterResponse { retry_after: Some(99_999), ..response(503) });
    assert_eq!(effect.hold_registrar_until, Some(Moment(harness.at + 3_600_000)), "an hour is the most");
}

#[test]
fn retry_after_of_the_first_target_outlives_the_failure_of_the_second() {
    let mut harness = Harness::new(2, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, RegisterResponse { retry_after: Some(600), ..response(500) });
    harness.round(500, 5);
    between(harness.wait_of_next(), 599_000, 600_000);
}

#[test]
fn retry_after_of_one_registrar_does_not_keep_from_another() {
    let mut harness = Harness::new(2, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, RegisterResponse { retry_after: Some(900), ..response(503) });
    assert_eq!((harness.wait_of_next(), harness.registration.ranks().0), (0, UriChoice::Rank(UriRank(1))));
}

#[test]
fn the_preferred_one_that_asked_to_wait_is_left_alone_though_the_backup_fails() {
    for silent in [false, true] {
        let mut harness = Harness::new(2, 1);
        let first = harness.attempt();
        harness.answer(&first, RegisterResponse { retry_after: Some(900), ..response(500) });
        let asked = harness.at + 900_000;
        while harness.at < asked {
            let attempt = harness.attempt();
            if harness.at >= asked {
                break;
            }
            assert_eq!(
                (attempt.uri, attempt.purpose),
                (UriChoice::Rank(UriRank(1)), Purpose::Register),
                "at {}",
                harness.at
            );
            let well = RegisterResponse { contact_expires: Some(600), ..response(200) };
            let round = (harness.at / 1_000) % 3;
            harness
                .answer(&attempt, if round == 0 { well } else { response(if silent { 408 } else { 500 }) });
        }
    }
}

#[test]
fn after_a_silence_the_target_that_asked_to_wait_is_not_the_other_one() {
    // The backup asks to wait, the preferred one says nothing: the other EdgePort, and then no one.
    for edges in [1, 2] {
        let mut harness = Harness::new(2, edges);
        harness.registration.target.uri = UriRank(1);
        let attempt = harness.attempt();
        assert_eq!(attempt.uri, UriChoice::Rank(UriRank(1)));
        let until = harness.at + 1_800_000;
        harness.answer(&attempt, RegisterResponse { retry_after: Some(1_800), ..response(413) });
        let attempt = harness.round(408, 32_500);
        assert_eq!(attempt.uri, UriChoice::Rank(UriRank(0)));
        if edges == 2 {
            between(harness.wait_of_next(), 5_000, 10_000);
            assert_eq!(harness.round(408, 32_500).uri, UriChoice::Rank(UriRank(0)));
        }
        harness.attempt();
        assert!(harness.at >= until, "{} ms too early by {edges} EdgePorts", until - harness.at);
    }
    // A third one that was not tried has its turn.
    let mut harness = Harness::new(3, 1);
    harness.registration.target.uri = UriRank(1);
    let attempt = harness.attempt();
    harness.answer(&attempt, RegisterResponse { retry_after: Some(1_800), ..response(413) });
    assert_eq!(harness.round(408, 32_500).uri, UriChoice::Rank(UriRank(0)));
    assert_eq!(harness.attempt().uri, UriChoice::Rank(UriRank(2)));
}

/// Of three, the preferred one fails, the second one asks for half an hour, and the third one takes it. Until
/// when the second one is to be left alone.
fn bound_past_one_that_asked_to_wait() -> (Harness, u64) {
    let mut harness = Harness::new(3, 1);
    harness.round(500, 0);
    let attempt = harness.attempt();
    let until = harness.at + 1_800_000;
    harness.answer(&attempt, RegisterResponse { retry_after: Some(1_800), ..response(600) });
    let attempt = harness.attempt();
    assert_eq!(attempt.uri, UriChoice::Rank(UriRank(2)));
    harness.answer(&attempt, ok(300));
    (harness, until)
}

/// Returns when the second one of those is tried next, where all fail with this code.
fn asked_again(harness: &mut Harness, code: u16) -> u64 {
    while harness.round(code, 5).uri != UriChoice::Rank(UriRank(1)) {}
    harness.sent_at
}

#[test]
fn retry_after_of_a_backup_is_kept_though_another_one_succeeds() {
    for code in [500, 408] {
        let (mut harness, until) = bound_past_one_that_asked_to_wait();
        assert!(asked_again(&mut harness, code) >= until, "{code}, bound at the third one");
        let (mut harness, until) = bound_past_one_that_asked_to_wait();
        let probe = harness.attempt();
        assert_eq!(probe.purpose, Purpose::Probe);
        harness.answer(&probe, ok(300));
        assert!(asked_again(&mut harness, code) >= until, "{code}, bound at the preferred one");
        // The pause after a refusal is shorter.
        let (mut harness, until) = bound_past_one_that_asked_to_wait();
        harness.round(403, 0);
        harness.round(403, 0);
        assert!(asked_again(&mut harness, code) >= until, "{code}, refused");
    }
}

#[test]
fn what_a_target_asked_for_is_forgotten_when_it_is_over_or_void() {
    let (mut harness, _) = bound_past_one_that_asked_to_wait();
    let now = harness.now();
    harness.registration.changed(Some, |_| None, 2, now.at);
    harness.round(500, 0);
    assert_eq!(harness.round(500, 0).uri, UriChoice::Rank(UriRank(1)), "another trunk now");
    let (mut harness, until) = bound_past_one_that_asked_to_wait();
    while harness.at < until || harness.registration.ranks().0 != UriChoice::Rank(UriRank(0)) {
        let attempt = harness.attempt();
        harness.answer(&attempt, ok(300));
    }
    let attempt = harness.attempt();
    harness.answer(&attempt, ok(300));
    assert!(harness.registration.failure.is_none(), "{:?}", harness.registration.failure);
}

#[test]
fn a_trunk_whose_registrar_asked_all_to_wait_does_not_turn_to_one_that_asked_it_to_wait() {
    let diverted = |uris, hold_ms, held: fn(UriRank) -> bool| {
        let mut harness = Harness::new(uris, 1);
        harness.registration.target.uri = UriRank(1);
        let attempt = harness.attempt();
        harness.answer(&attempt, RegisterResponse { retry_after: Some(60), ..response(480) });
        assert_eq!(
            (harness.registration.ranks().0, harness.wait_of_next()),
            (UriChoice::Rank(UriRank(0)), 0)
        );
        let now = Moment(harness.at);
        let failover = harness.registration.failover(now.plus(hold_ms), held, uris, now);
        failover.into_iter().for_each(|failover| harness.registration.fail_over(failover));
        (harness.registration.ranks().0, harness.wait_of_next())
    };
    let first = |rank| rank == UriRank(0);
    assert_eq!(diverted(3, 3_600_000, first), (UriChoice::Rank(UriRank(2)), 0));
    assert_eq!(
        diverted(2, 3_600_000, first),
        (UriChoice::Rank(UriRank(1)), 60_000),
        "the one that is free first"
    );
    assert_eq!(diverted(2, 30_000, first), (UriChoice::Rank(UriRank(0)), 0), "the hold is over before");
    assert_eq!(diverted(3, 3_600_000, |rank| rank != UriRank(1)), (UriChoice::Rank(UriRank(1)), 60_000));
    assert_eq!(diverted(3, 3_600_000, |_| true), (UriChoice::Rank(UriRank(0)), 0));
}
