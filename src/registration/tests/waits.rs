//! Registrars that ask for time: Retry-After, and which other targets it leaves open.

use super::*;

#[test]
fn retry_after_is_the_least_to_wait() {
    for code in [503, 500, 413, 480, 486, 600, 603] {
        let mut bench = Bench::new(1, 2);
        let attempt = bench.attempt();
        let effect = bench.answer(&attempt, Reply { retry_after: Some(900), ..reply(code) });
        assert!(bench.wait_of_next() >= 900_000, "{code}");
        assert_eq!(effect.hold_registrar_until.is_some(), code == 503, "{code}");
    }
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { retry_after: Some(2_000), ..reply(404) });
    assert_eq!(bench.wait_of_next(), 2_000_000);
    let attempt = bench.attempt();
    let effect = bench.answer(&attempt, Reply { retry_after: Some(99_999), ..reply(503) });
    assert_eq!(effect.hold_registrar_until, Some(Moment(bench.at + 3_600_000)), "an hour is the most");
}

#[test]
fn retry_after_of_the_first_target_outlives_the_failure_of_the_second() {
    let mut bench = Bench::new(2, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { retry_after: Some(600), ..reply(500) });
    bench.round(500, 5);
    between(bench.wait_of_next(), 599_000, 600_000);
}

#[test]
fn retry_after_of_one_registrar_does_not_keep_from_another() {
    let mut bench = Bench::new(2, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { retry_after: Some(900), ..reply(503) });
    assert_eq!((bench.wait_of_next(), bench.registration.ranks().0), (0, UriChoice::Rank(1)));
}

#[test]
fn the_preferred_one_that_asked_to_wait_is_left_alone_though_the_backup_fails() {
    for silent in [false, true] {
        let mut bench = Bench::new(2, 1);
        let first = bench.attempt();
        bench.answer(&first, Reply { retry_after: Some(900), ..reply(500) });
        let asked = bench.at + 900_000;
        while bench.at < asked {
            let attempt = bench.attempt();
            if bench.at >= asked {
                break;
            }
            assert_eq!(
                (attempt.uri, attempt.purpose),
                (UriChoice::Rank(1), Purpose::Register),
                "at {}",
                bench.at
            );
            let well = Reply { contact_expires: Some(600), ..reply(200) };
            let round = (bench.at / 1_000) % 3;
            bench.answer(&attempt, if round == 0 { well } else { reply(if silent { 408 } else { 500 }) });
        }
    }
}

#[test]
fn after_a_silence_the_target_that_asked_to_wait_is_not_the_other_one() {
    // The backup asks to wait, the preferred one says nothing: the other EdgePort, and then nobody.
    for edges in [1, 2] {
        let mut bench = Bench::new(2, edges);
        bench.registration.uri = 1;
        let attempt = bench.attempt();
        assert_eq!(attempt.uri, UriChoice::Rank(1));
        let until = bench.at + 1_800_000;
        bench.answer(&attempt, Reply { retry_after: Some(1_800), ..reply(413) });
        let attempt = bench.round(408, 32_500);
        assert_eq!(attempt.uri, UriChoice::Rank(0));
        if edges == 2 {
            between(bench.wait_of_next(), 5_000, 10_000);
            assert_eq!(bench.round(408, 32_500).uri, UriChoice::Rank(0));
        }
        bench.attempt();
        assert!(bench.at >= until, "{} ms too early by {edges} EdgePorts", until - bench.at);
    }
    // A third one that was not tried has its turn.
    let mut bench = Bench::new(3, 1);
    bench.registration.uri = 1;
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { retry_after: Some(1_800), ..reply(413) });
    assert_eq!(bench.round(408, 32_500).uri, UriChoice::Rank(0));
    assert_eq!(bench.attempt().uri, UriChoice::Rank(2));
}

/// Of three, the preferred one fails, the second one asks for half an hour, and the third one takes it. Until when the second
/// one is to be left alone.
fn bound_past_one_that_asked_to_wait() -> (Bench, u64) {
    let mut bench = Bench::new(3, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    let until = bench.at + 1_800_000;
    bench.answer(&attempt, Reply { retry_after: Some(1_800), ..reply(600) });
    let attempt = bench.attempt();
    assert_eq!(attempt.uri, UriChoice::Rank(2));
    bench.answer(&attempt, ok(300));
    (bench, until)
}

/// When the second one of those is tried next, where all fail with this code.
fn asked_again(bench: &mut Bench, code: u16) -> u64 {
    while bench.round(code, 5).uri != UriChoice::Rank(1) {}
    bench.sent_at
}

#[test]
fn a_backup_that_asked_to_wait_is_left_alone_though_another_one_succeeds() {
    for code in [500, 408] {
        let (mut bench, until) = bound_past_one_that_asked_to_wait();
        assert!(asked_again(&mut bench, code) >= until, "{code}, bound at the third one");
        let (mut bench, until) = bound_past_one_that_asked_to_wait();
        let probe = bench.attempt();
        assert_eq!(probe.purpose, Purpose::Probe);
        bench.answer(&probe, ok(300));
        assert!(asked_again(&mut bench, code) >= until, "{code}, bound at the preferred one");
        // The pause after a refusal is shorter.
        let (mut bench, until) = bound_past_one_that_asked_to_wait();
        bench.round(403, 0);
        bench.round(403, 0);
        assert!(asked_again(&mut bench, code) >= until, "{code}, refused");
    }
}

#[test]
fn what_a_target_asked_for_is_forgotten_when_it_is_over_or_void() {
    let (mut bench, _) = bound_past_one_that_asked_to_wait();
    let now = bench.now();
    bench.registration.changed(Some, |_| None, 2, now.at);
    bench.round(500, 0);
    assert_eq!(bench.round(500, 0).uri, UriChoice::Rank(1), "another trunk now");
    let (mut bench, until) = bound_past_one_that_asked_to_wait();
    while bench.at < until || bench.registration.ranks().0 != UriChoice::Rank(0) {
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(300));
    }
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(300));
    assert!(bench.registration.trouble.is_none(), "{:?}", bench.registration.trouble);
}

#[test]
fn a_trunk_whose_registrar_asked_all_to_wait_does_not_turn_to_one_that_asked_it_to_wait() {
    let diverted = |uris, hold_ms, held: fn(u8) -> bool| {
        let mut bench = Bench::new(uris, 1);
        bench.registration.uri = 1;
        let attempt = bench.attempt();
        bench.answer(&attempt, Reply { retry_after: Some(60), ..reply(480) });
        assert_eq!((bench.registration.ranks().0, bench.wait_of_next()), (UriChoice::Rank(0), 0));
        let now = Moment(bench.at);
        bench.registration.divert(now.plus(hold_ms), held, uris, now);
        (bench.registration.ranks().0, bench.wait_of_next())
    };
    let first = |rank| rank == 0;
    assert_eq!(diverted(3, 3_600_000, first), (UriChoice::Rank(2), 0));
    assert_eq!(diverted(2, 3_600_000, first), (UriChoice::Rank(1), 60_000), "the one that is free first");
    assert_eq!(diverted(2, 30_000, first), (UriChoice::Rank(0), 0), "the hold is over before");
    assert_eq!(diverted(3, 3_600_000, |rank| rank != 1), (UriChoice::Rank(1), 60_000));
    assert_eq!(diverted(3, 3_600_000, |_| true), (UriChoice::Rank(0), 0));
}
