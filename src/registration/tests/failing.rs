//! Refusals, failures and silence: where the next attempt goes, and how long it waits.

use std::{num::NonZeroU32, time::Duration};

use super::{super::classify::EdgeStanding, *};

#[test]
fn refused_credentials_wait_five_minutes_doubling_to_an_hour() {
    for (code, reason) in [
        (401, "CredentialsRejected"),
        (403, "CredentialsRejected"),
        (407, "CredentialsRejected"),
        (404, "UnknownAccount"),
        (410, "UnknownAccount"),
        (604, "UnknownAccount"),
    ] {
        let mut bench = Bench::new(3, 2);
        for minutes in [5, 10, 20, 40, 60, 60] {
            let attempt = bench.round(code, 10);
            assert_eq!(attempt.uri, UriChoice::Rank(0), "{code}: another target was tried");
            between(bench.wait_of_next(), minutes * 60_000, minutes * 66_000);
            assert_eq!((bench.reason(), bench.state()), (Some(reason), TrunkState::Failing));
        }
    }
}

#[test]
fn a_rejected_password_is_not_offered_more_often_because_a_binding_lapses() {
    let mut bench = Bench::new(1, 1).registered(60);
    bench.round(403, 0);
    assert_eq!(bench.state(), TrunkState::AtRisk);
    between(bench.wait_of_next(), 300_000, 330_000);
}

#[test]
fn a_password_that_a_backup_refused_waits_whatever_the_preferred_target_does() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    assert_eq!(bench.round(403, 0).uri, UriChoice::Rank(1));
    between(bench.wait_of_next(), 300_000, 330_000);
    bench.round(500, 0);
    assert_eq!(bench.round(403, 0).uri, UriChoice::Rank(1));
    let refused_at = bench.at;
    between(bench.wait_of_next(), 600_000, 660_000);
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(600));
    // Whatever fails at the preferred target, the backup is not asked before its wait is over, and then for longer.
    let again = loop {
        let attempt = bench.round(500, 0);
        if attempt.uri == UriChoice::Rank(1) {
            break bench.at;
        }
    };
    assert!(again >= refused_at + 600_000, "after {} ms", again - refused_at);
}

#[test]
fn an_edit_of_the_order_does_not_offer_a_refused_password_sooner() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    bench.round(403, 0);
    let refused_at = bench.at;
    let now = bench.now();
    let turned = |position: u8| 1 - position;
    // The one that refused is the first now.
    bench.registration.changed(Some, |position| Some((position, turned(position))), 2, now.at);
    assert_eq!(
        bench.registration.ranks().0,
        UriChoice::Rank(0),
        "it waits: what was refused is what would be offered"
    );
    between(bench.wait_of_next(), 290_000, 330_000);
    // And back: the other one is asked at once, the one that refused is not.
    bench.registration.changed(Some, |position| Some((position, position)), 2, now.at);
    assert_eq!((bench.wait_of_next(), bench.registration.ranks().0), (0, UriChoice::Rank(0)));
    let again = loop {
        if bench.round(500, 0).uri == UriChoice::Rank(1) {
            break bench.at;
        }
    };
    assert!(again >= refused_at + 300_000, "after {} ms", again - refused_at);
}

#[test]
fn changed_credentials_are_tried_at_once() {
    let mut bench = Bench::new(1, 1);
    bench.round(403, 0);
    let now = bench.now();
    bench.registration.changed(|_| None, |_| None, 1, now.at);
    assert_eq!(bench.wait_of_next(), 0);
    bench.round(403, 0);
    between(bench.wait_of_next(), 300_000, 330_000);
}

#[test]
fn a_failed_target_gives_way_at_once_while_one_is_untried() {
    for code in [500, 501, 503, 480, 600, 606, 402, 405, 433, 489] {
        let mut bench = Bench::new(3, 1);
        let mut tried = Vec::new();
        for _ in 0..3 {
            assert_eq!(bench.wait_of_next(), 0, "{code} after {tried:?}");
            tried.push(bench.round(code, 5).uri);
        }
        assert_eq!(tried, [UriChoice::Rank(0), UriChoice::Rank(1), UriChoice::Rank(2)]);
        between(bench.wait_of_next(), 30_000, 60_000);
        assert_eq!(bench.registration.failures(), 1, "a round counts once");
        assert_eq!(bench.attempt().uri, UriChoice::Rank(0), "the next round starts at the preferred one");
    }
}

#[test]
fn a_failure_on_the_way_tries_another_edge_port_too() {
    let mut bench = Bench::new(1, 2);
    assert_eq!(bench.round(503, 5).edge, 0);
    assert_eq!(bench.wait_of_next(), 0);
    assert_eq!(bench.round(503, 5).edge, 1);
    between(bench.wait_of_next(), 30_000, 60_000);
    // The registrar itself answered: the EdgePort is not to blame.
    let mut bench = Bench::new(1, 2);
    bench.round(500, 5);
    between(bench.wait_of_next(), 30_000, 60_000);
}

#[test]
fn silence_is_followed_by_one_other_target_and_never_by_a_quick_round() {
    let mut bench = Bench::new(4, 1);
    let mut others = Vec::new();
    for round in 0..3 {
        assert_eq!(bench.round(408, 32_500).uri, UriChoice::Rank(0));
        between(bench.wait_of_next(), 5_000, 10_000);
        others.push(bench.round(408, 32_500).uri);
        let full = 60_000 << round;
        between(bench.wait_of_next(), full / 2, full);
    }
    assert_eq!(others, [UriChoice::Rank(1), UriChoice::Rank(2), UriChoice::Rank(3)], "each has its turn");
    assert_eq!(bench.reason(), Some("NoAnswer"));
}

#[test]
fn a_silent_target_is_not_asked_again_at_once_when_the_other_one_fails_too() {
    let mut bench = Bench::new(2, 1);
    bench.round(408, 32_500);
    assert_eq!(bench.round(500, 5).uri, UriChoice::Rank(1));
    between(bench.wait_of_next(), 30_000, 60_000);
}

#[test]
fn an_outage_before_the_lapse_does_not_become_a_longer_one_after_it() {
    let mut bench = Bench::new(1, 1).registered(600);
    while bench.registration.left(Moment(bench.at)).is_some() {
        bench.round(503, 0);
    }
    assert!(bench.registration.failures() > 5);
    between(bench.wait_of_next(), 30_000, 60_000);
    bench.round(503, 0);
    between(bench.wait_of_next(), 60_000, 120_000);
}

#[test]
fn past_the_deadline_is_silence() {
    let mut bench = Bench::new(1, 2);
    let attempt = bench.attempt();
    bench.at += 40_000;
    bench.answer_with(&attempt, &Err(SendError::Deadline(Duration::from_secs(40))));
    between(bench.wait_of_next(), 5_000, 10_000);
    assert_eq!(bench.attempt().edge, 1, "the one other target is the other EdgePort");
}

#[test]
fn silence_of_an_only_target_backs_off() {
    let mut bench = Bench::new(1, 1);
    for failures in 1..=8_u32 {
        bench.round(408, 32_500);
        assert_eq!(bench.registration.failures(), failures);
        let full = (30_000_u64 << failures).min(1_800_000);
        between(bench.wait_of_next(), full / 2, full);
    }
}

#[test]
fn a_request_of_unknown_outcome_may_have_shortened_the_binding_that_it_was_to_refresh() {
    // What was learnt of the shortest expiry is gone after a restart: less is asked than was granted.
    let resumed = |position| {
        let mut bench = Bench::new(2, 1);
        let expires_at = Moment(START + 70_000_000);
        let granted_s = NonZeroU32::new(76_800).unwrap();
        let binding = Binding { expires_at, granted_s, position, edge: EdgeId(0), longer: false };
        let (settings, now) = (bench.settings.clone(), Moment(START));
        bench.registration =
            Registration::resume(7, Some((binding, position)), &settings, now, &mut bench.rng);
        bench
    };
    for code in [100, 408] {
        let mut bench = resumed(0);
        let attempt = bench.attempt();
        assert_eq!(attempt.expires, 600);
        let sent_at = bench.at;
        bench.at += 1_000;
        bench.answer(&attempt, reply(code));
        assert_eq!(bench.registration.left(Moment(bench.at)), Some(599_000), "{code}");
        assert_eq!(bench.registration.left(Moment(sent_at + 600_000)), None, "{code}");
    }
    // A refusal has changed nothing, and what goes elsewhere leaves it alone.
    let mut bench = resumed(0);
    let before = *bench.registration.binding().unwrap();
    bench.round(500, 10);
    bench.round(408, 10);
    assert_eq!(*bench.registration.binding().unwrap(), before);
    // Where as much is asked, a new binding lasts longer than the one before.
    let mut bench = Bench::new(1, 1).registered(600);
    let before = *bench.registration.binding().unwrap();
    bench.round(408, 10);
    assert_eq!(*bench.registration.binding().unwrap(), before);
}

#[test]
fn a_provisional_answer_is_an_unknown_outcome_that_does_not_count() {
    let mut bench = Bench::new(1, 1);
    for _ in 0..5 {
        bench.round(100, 50);
        assert_eq!((bench.registration.failures(), bench.reason()), (0, Some("OutcomeUnknown")));
        between(bench.wait_of_next(), 15_000, 30_000);
    }
}

#[test]
fn trouble_with_the_requester_does_not_count() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer_with(&attempt, &Err(SendError::Unavailable("refused".into())));
    assert_eq!((bench.wait_of_next(), bench.registration.failures()), (0, 0));
    assert_eq!(bench.registration.class(), Class::First, "it lost its place");
    assert_eq!(bench.reason(), Some("RequesterUnavailable"));
    let attempt = bench.attempt();
    bench.answer_with(&attempt, &Err(SendError::Refused("no key store".into())));
    assert_eq!(bench.registration.failures(), 0);
    between(bench.wait_of_next(), 15_000, 30_000);
}

#[test]
fn nonsense_is_a_failure_with_its_reason() {
    for nonsense in [Reply::default(), ok(0), ok(-9)] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, nonsense);
        assert_eq!((bench.reason(), bench.state()), (Some("MalformedReply"), TrunkState::Failing));
        between(bench.wait_of_next(), 30_000, 60_000);
    }
}

#[test]
fn a_binding_does_not_lapse_during_a_back_off() {
    let mut bench = Bench::new(1, 1).registered(600);
    while bench.registration.left(Moment(bench.at)).is_some_and(|left| left > 4_000) {
        bench.round(500, 0);
        let left = bench.registration.left(Moment(bench.at)).unwrap();
        assert!(bench.wait_of_next() <= (left / 2).max(2_000), "{} of {left}", bench.wait_of_next());
        assert_eq!(bench.state(), TrunkState::AtRisk);
    }
    assert!(bench.registration.failures() > 3);
}

#[test]
fn g1_calls_that_fail_back_off_up_to_two_minutes_and_count_as_no_failure_of_the_trunk() {
    let errors = [SendError::Failed("no upstream".into()), SendError::Refused("a bug".into())];
    for error in errors {
        let mut bench = Bench::new(1, 1);
        for (least, most) in [(15_000, 30_000), (30_000, 60_000), (60_000, 120_000), (60_000, 120_000)] {
            let attempt = bench.attempt();
            bench.answer_with(&attempt, &Err(error.clone()));
            between(bench.wait_of_next(), least, most);
            assert_eq!(bench.registration.failures(), 0);
        }
        // Behind all others, whatever they wait for.
        assert!(bench.registration.urgency().0);
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(600));
        assert_eq!(bench.registration.failed_calls(), 0);
        assert!(!bench.registration.urgency().0, "a refresh like any other");
    }
}

#[test]
fn a_trunk_whose_connection_broke_keeps_its_place_once() {
    let mut bench = Bench::new(1, 1);
    let broken = Err(SendError::Disconnected("reset".into()));
    let attempt = bench.attempt();
    bench.answer_with(&attempt, &broken);
    assert_eq!((bench.wait_of_next(), bench.registration.class()), (0, Class::First));
    // Its call may be the reason.
    let attempt = bench.attempt();
    bench.answer_with(&attempt, &broken);
    between(bench.wait_of_next(), 15_000, 30_000);
}

#[test]
fn what_is_left_of_a_binding_at_another_registrar_says_nothing_of_a_grant() {
    let mut bench = Bench::new(2, 1).registered(600);
    bench.at = START + 300_000;
    let attempt = bench.attempt_now();
    bench.answer(&attempt, reply(500));
    let attempt = bench.attempt();
    assert_eq!(attempt.uri, UriChoice::Rank(1));
    // As long as what is left at the other one, and a grant all the same.
    bench.answer(&attempt, ok(300));
    assert_eq!(bench.registration.left(Moment(bench.at)), Some(300_000));
    // At the same one it is what is left of the binding before: the first of several that are listed.
    let mut bench = Bench::new(2, 1).registered(600);
    bench.at = START + 300_000;
    let attempt = bench.attempt_now();
    bench.answer(&attempt, ok(300));
    assert_eq!(bench.registration.left(Moment(bench.at)), Some(600_000));
}

#[test]
fn a_refusal_counts_for_the_next_one_when_its_wait_is_over_and_after_a_restart() {
    let mut bench = Bench::new(2, 1);
    bench.round(403, 0);
    bench.at += bench.wait_of_next() + 60_000;
    let kept = bench.registration.refusals(Moment(bench.at));
    assert_eq!(kept.iter().map(|refusal| (refusal.position, refusal.times)).collect::<Vec<_>>(), [(0, 1)]);
    let mut resumed = Bench::new(2, 1);
    resumed.at = bench.at;
    let (settings, now) = (resumed.settings.clone(), Moment(bench.at));
    resumed.registration = Registration::resume(7, None, &settings, now, &mut resumed.rng);
    resumed.registration.remember_refusal(0, kept[0]);
    resumed.registration.resume_refusal(kept[0], false);
    assert_eq!(resumed.wait_of_next(), 0);
    resumed.round(403, 0);
    between(resumed.wait_of_next(), 600_000, 660_000);
}

#[test]
fn silence_counts_on_when_something_else_is_edited_than_what_is_offered() {
    for (same_account, reason) in [(true, "CredentialsRejected"), (false, "NoAnswer")] {
        let mut bench = Bench::new(1, 1);
        bench.around = Around { alone: true, has_credentials: true, ..Around::default() };
        bench.round(408, 32_500);
        assert_eq!(bench.reason(), Some("NoAnswer"));
        let now = bench.now();
        bench.registration.changed(Some, |position| same_account.then_some((position, position)), 1, now.at);
        bench.round(408, 32_500);
        assert_eq!(bench.reason(), Some(reason));
    }
}

#[test]
fn an_edge_port_that_is_down_is_no_refused_password_at_a_backup() {
    for (edge, is_refused) in [(EdgeStanding::Silent, false), (EdgeStanding::Unknown, true)] {
        let mut bench = Bench::new(2, 1).registered(600);
        bench.around = Around { has_credentials: true, alone: true, edge, ..Around::default() };
        bench.at += 600_000;
        let refused = (0..6).any(|_| {
            let attempt = bench.attempt();
            bench.at += 32_500;
            let (verdict, _) = bench.answer_with(&attempt, &Ok(reply(408)));
            attempt.uri == UriChoice::Rank(1) && matches!(verdict, Verdict::Rejected { .. })
        });
        assert_eq!(refused, is_refused, "{edge:?}");
    }
}
