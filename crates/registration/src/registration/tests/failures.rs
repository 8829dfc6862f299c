//! Refusals, failures and silence: where the next attempt goes, and how long it waits.

use std::{num::NonZeroU32, time::Duration};

use super::{super::classify::EdgePortHealth, *};

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
        let mut harness = Harness::new(3, 2);
        for minutes in [5, 10, 20, 40, 60, 60] {
            let attempt = harness.round(code, 10);
            assert_eq!(attempt.uri, UriChoice::Rank(UriRank(0)), "{code}: another target was tried");
            between(harness.wait_of_next(), minutes * 60_000, minutes * 66_000);
            assert_eq!((harness.reason(), harness.state()), (Some(reason), TrunkState::Failing));
        }
    }
}

#[test]
fn a_rejected_password_is_not_offered_more_often_because_a_binding_expires() {
    let mut harness = Harness::new(1, 1).registered(60);
    harness.round(403, 0);
    assert_eq!(harness.state(), TrunkState::AtRisk);
    between(harness.wait_of_next(), 300_000, 330_000);
}

#[test]
fn a_password_that_a_backup_refused_waits_whatever_the_preferred_target_does() {
    let mut harness = Harness::new(2, 1);
    harness.round(500, 0);
    assert_eq!(harness.round(403, 0).uri, UriChoice::Rank(UriRank(1)));
    between(harness.wait_of_next(), 300_000, 330_000);
    harness.round(500, 0);
    assert_eq!(harness.round(403, 0).uri, UriChoice::Rank(UriRank(1)));
    let refused_at = harness.at;
    between(harness.wait_of_next(), 600_000, 660_000);
    let attempt = harness.attempt();
    harness.answer(&attempt, ok(600));
    // Whatever fails at the preferred target, the backup is not asked before its wait is over, and then for
    // longer.
    let again = loop {
        let attempt = harness.round(500, 0);
        if attempt.uri == UriChoice::Rank(UriRank(1)) {
            break harness.at;
        }
    };
    assert!(again >= refused_at + 600_000, "after {} ms", again - refused_at);
}

#[test]
fn an_edit_of_the_order_does_not_offer_a_refused_password_sooner() {
    let mut harness = Harness::new(2, 1);
    harness.round(500, 0);
    harness.round(403, 0);
    let refused_at = harness.at;
    let now = harness.now();
    let turned = |UriIndex(index)| 1 - index;
    // The one that refused is the first now.
    harness.registration.changed(Some, |index| Some((index, UriRank(turned(index)))), 2, now.at);
    assert_eq!(
        harness.registration.ranks().0,
        UriChoice::Rank(UriRank(0)),
        "it waits: what was refused is what would be offered"
    );
    between(harness.wait_of_next(), 290_000, 330_000);
    // And back: the other one is asked at once, the one that refused is not.
    harness.registration.changed(Some, |index| Some((index, UriRank(index.0))), 2, now.at);
    assert_eq!((harness.wait_of_next(), harness.registration.ranks().0), (0, UriChoice::Rank(UriRank(0))));
    let again = loop {
        if harness.round(500, 0).uri == UriChoice::Rank(UriRank(1)) {
            break harness.at;
        }
    };
    assert!(again >= refused_at + 300_000, "after {} ms", again - refused_at);
}

#[test]
fn changed_credentials_are_tried_at_once() {
    let mut harness = Harness::new(1, 1);
    harness.round(403, 0);
    let now = harness.now();
    harness.registration.changed(|_| None, |_| None, 1, now.at);
    assert_eq!(harness.wait_of_next(), 0);
    harness.round(403, 0);
    between(harness.wait_of_next(), 300_000, 330_000);
}

#[test]
fn a_failed_target_gives_way_at_once_while_one_is_untried() {
    for code in [500, 501, 503, 480, 600, 606, 402, 405, 433, 489] {
        let mut harness = Harness::new(3, 1);
        let mut tried = Vec::new();
        for _ in 0..3 {
            assert_eq!(harness.wait_of_next(), 0, "{code} after {tried:?}");
            tried.push(harness.round(code, 5).uri);
        }
        assert_eq!(
            tried,
            [UriChoice::Rank(UriRank(0)), UriChoice::Rank(UriRank(1)), UriChoice::Rank(UriRank(2))]
        );
        between(harness.wait_of_next(), 30_000, 60_000);
        assert_eq!(harness.registration.failures(), 1, "a round counts once");
        assert_eq!(
            harness.attempt().uri,
            UriChoice::Rank(UriRank(0)),
            "the next round starts at the preferred one"
        );
    }
}

#[test]
fn a_failure_on_the_way_tries_another_edge_port_too() {
    let mut harness = Harness::new(1, 2);
    assert_eq!(harness.round(503, 5).edge, EdgePortRank(0));
    assert_eq!(harness.wait_of_next(), 0);
    assert_eq!(harness.round(503, 5).edge, EdgePortRank(1));
    between(harness.wait_of_next(), 30_000, 60_000);
    // The registrar itself answered: the EdgePort is not to blame.
    let mut harness = Harness::new(1, 2);
    harness.round(500, 5);
    between(harness.wait_of_next(), 30_000, 60_000);
}

#[test]
fn failover_after_silence_is_to_one_other_target_and_never_a_quick_round() {
    let mut harness = Harness::new(4, 1);
    let mut others = Vec::new();
    for round in 0..3 {
        assert_eq!(harness.round(408, 32_500).uri, UriChoice::Rank(UriRank(0)));
        between(harness.wait_of_next(), 5_000, 10_000);
        others.push(harness.round(408, 32_500).uri);
        let full = 60_000 << round;
        between(harness.wait_of_next(), full / 2, full);
    }
    assert_eq!(
        others,
        [UriChoice::Rank(UriRank(1)), UriChoice::Rank(UriRank(2)), UriChoice::Rank(UriRank(3))],
        "each has its turn"
    );
    assert_eq!(harness.reason(), Some("Timeout"));
}

#[test]
fn a_silent_target_is_not_asked_again_at_once_when_the_other_one_fails_too() {
    let mut harness = Harness::new(2, 1);
    harness.round(408, 32_500);
    assert_eq!(harness.round(500, 5).uri, UriChoice::Rank(UriRank(1)));
    between(harness.wait_of_next(), 30_000, 60_000);
}

#[test]
fn an_outage_before_the_expiry_does_not_become_a_longer_one_after_it() {
    let mut harness = Harness::new(1, 1).registered(600);
    while harness.registration.remaining_ms(Moment(harness.at)).is_some() {
        harness.round(503, 0);
    }
    assert!(harness.registration.failures() > 5);
    between(harness.wait_of_next(), 30_000, 60_000);
    harness.round(503, 0);
    between(harness.wait_of_next(), 60_000, 120_000);
}

#[test]
fn past_the_deadline_is_silence() {
    let mut harness = Harness::new(1, 2);
    let attempt = harness.attempt();
    harness.at += 40_000;
    harness.answer_with(&attempt, &Err(SendError::Deadline(Duration::from_secs(40))));
    between(harness.wait_of_next(), 5_000, 10_000);
    assert_eq!(harness.attempt().edge, EdgePortRank(1), "the one other target is the other EdgePort");
}

#[test]
fn silence_of_an_only_target_backs_off() {
    let mut harness = Harness::new(1, 1);
    for failures in 1..=8_u32 {
        harness.round(408, 32_500);
        assert_eq!(harness.registration.failures(), failures);
        let full = (30_000_u64 << failures).min(1_800_000);
        between(harness.wait_of_next(), full / 2, full);
    }
}

#[test]
fn a_request_of_unknown_outcome_may_have_shortened_the_binding_that_it_was_to_refresh() {
    // What was learnt of the shortest expiry is gone after a restart: less is asked than was granted.
    let resumed = |index| {
        let mut harness = Harness::new(2, 1);
        let expires_at = Moment(START + 70_000_000);
        let granted_s = NonZeroU32::new(76_800).unwrap();
        let binding = Binding { expires_at, granted_s, index, edge: EdgePortId(0), longer: false };
        let (settings, now) = (harness.settings.clone(), Moment(START));
        harness.registration =
            Registration::resume(7, Some((binding, UriRank(index.0))), &settings, now, &mut harness.rng);
        harness
    };
    for code in [100, 408] {
        let mut harness = resumed(UriIndex(0));
        let attempt = harness.attempt();
        assert_eq!(attempt.expires, 600);
        let sent_at = harness.at;
        harness.at += 1_000;
        harness.answer(&attempt, response(code));
        assert_eq!(harness.registration.remaining_ms(Moment(harness.at)), Some(599_000), "{code}");
        assert_eq!(harness.registration.remaining_ms(Moment(sent_at + 600_000)), None, "{code}");
    }
    // A refusal has changed nothing, and what goes elsewhere leaves it alone.
    let mut harness = resumed(UriIndex(0));
    let before = *harness.registration.binding().unwrap();
    harness.round(500, 10);
    harness.round(408, 10);
    assert_eq!(*harness.registration.binding().unwrap(), before);
    // Where as much is asked, a new binding lasts longer than the one before.
    let mut harness = Harness::new(1, 1).registered(600);
    let before = *harness.registration.binding().unwrap();
    harness.round(408, 10);
    assert_eq!(*harness.registration.binding().unwrap(), before);
}

#[test]
fn a_provisional_answer_is_an_unknown_outcome_that_does_not_count() {
    let mut harness = Harness::new(1, 1);
    for _ in 0..5 {
        harness.round(100, 50);
        assert_eq!((harness.registration.failures(), harness.reason()), (0, Some("OutcomeUnknown")));
        between(harness.wait_of_next(), 15_000, 30_000);
    }
}

#[test]
fn trouble_with_the_requester_does_not_count() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer_with(&attempt, &Err(SendError::Unavailable("refused".into())));
    assert_eq!((harness.wait_of_next(), harness.registration.failures()), (0, 0));
    assert_eq!(harness.registration.class(), Priority::First, "it lost its place");
    assert_eq!(harness.reason(), Some("RequesterUnavailable"));
    let attempt = harness.attempt();
    harness.answer_with(&attempt, &Err(SendError::Refused("no key store".into())));
    assert_eq!(harness.registration.failures(), 0);
    between(harness.wait_of_next(), 15_000, 30_000);
}

#[test]
fn nonsense_is_a_failure_with_its_reason() {
    for nonsense in [RegisterResponse::default(), ok(0), ok(-9)] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        harness.answer(&attempt, nonsense);
        assert_eq!((harness.reason(), harness.state()), (Some("MalformedResponse"), TrunkState::Failing));
        between(harness.wait_of_next(), 30_000, 60_000);
    }
}

#[test]
fn a_binding_does_not_expiry_during_a_back_off() {
    let mut harness = Harness::new(1, 1).registered(600);
    while harness.registration.remaining_ms(Moment(harness.at)).is_some_and(|left| left > 4_000) {
        harness.round(500, 0);
        let left = harness.registration.remaining_ms(Moment(harness.at)).unwrap();
        assert!(harness.wait_of_next() <= (left / 2).max(2_000), "{} of {left}", harness.wait_of_next());
        assert_eq!(harness.state(), TrunkState::AtRisk);
    }
    assert!(harness.registration.failures() > 3);
}

#[test]
fn g1_calls_that_fail_back_off_up_to_two_minutes_and_count_as_no_failure_of_the_trunk() {
    let errors = [SendError::Failed("no upstream".into()), SendError::Refused("a bug".into())];
    for error in errors {
        let mut harness = Harness::new(1, 1);
        for (least, most) in [(15_000, 30_000), (30_000, 60_000), (60_000, 120_000), (60_000, 120_000)] {
            let attempt = harness.attempt();
            harness.answer_with(&attempt, &Err(error.clone()));
            between(harness.wait_of_next(), least, most);
            assert_eq!(harness.registration.failures(), 0);
        }
        // Behind all others, whatever they wait for.
        assert!(harness.registration.urgency().0);
        let attempt = harness.attempt();
        harness.answer(&attempt, ok(600));
        assert_eq!(harness.registration.failed_calls(), 0);
        assert!(!harness.registration.urgency().0, "a refresh like any other");
    }
}

#[test]
fn a_trunk_whose_connection_broke_keeps_its_place_once() {
    let mut harness = Harness::new(1, 1);
    let broken = Err(SendError::Disconnected { cause: "reset".into(), after_response: false });
    let attempt = harness.attempt();
    harness.answer_with(&attempt, &broken);
    assert_eq!((harness.wait_of_next(), harness.registration.class()), (0, Priority::First));
    // Its call may be the reason.
    let attempt = harness.attempt();
    harness.answer_with(&attempt, &broken);
    between(harness.wait_of_next(), 15_000, 30_000);
}

#[test]
fn what_is_left_of_a_binding_at_another_registrar_says_nothing_of_a_grant() {
    let mut harness = Harness::new(2, 1).registered(600);
    harness.at = START + 300_000;
    let attempt = harness.attempt_now();
    harness.answer(&attempt, response(500));
    let attempt = harness.attempt();
    assert_eq!(attempt.uri, UriChoice::Rank(UriRank(1)));
    // As long as what is left at the other one, and a grant all the same.
    harness.answer(&attempt, ok(300));
    assert_eq!(harness.registration.remaining_ms(Moment(harness.at)), Some(300_000));
    // At the same one it is what is left of the binding before: the first of several that are listed.
    let mut harness = Harness::new(2, 1).registered(600);
    harness.at = START + 300_000;
    let attempt = harness.attempt_now();
    harness.answer(&attempt, ok(300));
    assert_eq!(harness.registration.remaining_ms(Moment(harness.at)), Some(600_000));
}

#[test]
fn a_refusal_counts_for_the_next_one_when_its_wait_is_over_and_after_a_restart() {
    let mut harness = Harness::new(2, 1);
    harness.round(403, 0);
    harness.at += harness.wait_of_next() + 60_000;
    let kept = harness.registration.refusals(Moment(harness.at));
    assert_eq!(
        kept.iter().map(|refusal| (refusal.index, refusal.times)).collect::<Vec<_>>(),
        [(UriIndex(0), 1)]
    );
    let mut resumed = Harness::new(2, 1);
    resumed.at = harness.at;
    let (settings, now) = (resumed.settings.clone(), Moment(harness.at));
    resumed.registration = Registration::resume(7, None, &settings, now, &mut resumed.rng);
    resumed.registration.remember_refusal(UriRank(0), kept[0]);
    resumed.registration.resume_refusal(kept[0], false);
    assert_eq!(resumed.wait_of_next(), 0);
    resumed.round(403, 0);
    between(resumed.wait_of_next(), 600_000, 660_000);
}

#[test]
fn silence_counts_on_when_something_else_is_edited_than_what_is_offered() {
    for (same_account, reason) in [(true, "CredentialsRejected"), (false, "Timeout")] {
        let mut harness = Harness::new(1, 1);
        harness.route = RouteHealth { alone: true, has_credentials: true, ..RouteHealth::default() };
        harness.round(408, 32_500);
        assert_eq!(harness.reason(), Some("Timeout"));
        let now = harness.now();
        harness.registration.changed(
            Some,
            |index| same_account.then_some((index, UriRank(index.0))),
            1,
            now.at,
        );
        harness.round(408, 32_500);
        assert_eq!(harness.reason(), Some(reason));
    }
}

#[test]
fn an_edge_port_that_is_down_is_no_refused_password_at_a_backup() {
    for (edge, is_refused) in [(EdgePortHealth::Silent, false), (EdgePortHealth::Unknown, true)] {
        let mut harness = Harness::new(2, 1).registered(600);
        harness.route = RouteHealth { has_credentials: true, alone: true, edge, ..RouteHealth::default() };
        harness.at += 600_000;
        let refused = (0..6).any(|_| {
            let attempt = harness.attempt();
            harness.at += 32_500;
            let (outcome, _) = harness.answer_with(&attempt, &Ok(response(408)));
            attempt.uri == UriChoice::Rank(UriRank(1))
                && matches!(outcome, Outcome::CredentialsRejected { .. })
        });
        assert_eq!(refused, is_refused, "{edge:?}");
    }
}
