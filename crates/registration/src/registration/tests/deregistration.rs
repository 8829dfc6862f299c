//! Bindings are removed: where, how often that is tried, and what may be bound as well.

use super::*;
use routr_types::extension::ReportedBinding;

#[test]
fn deregistering_removes_the_binding_where_it_is() {
    let mut harness = Harness::new(2, 1);
    harness.round(500, 0);
    let attempt = harness.attempt();
    harness.answer(&attempt, ok(600));
    let now = harness.now();
    assert!(!harness.registration.deregister(now));
    let attempt = harness.attempt();
    assert_eq!(
        (attempt.purpose, attempt.expires, attempt.uri),
        (Purpose::Deregister, 0, UriChoice::Index(UriIndex(1)))
    );
    assert!(harness.answer(&attempt, ok(0)).finished);
}

#[test]
fn three_attempts_to_deregister_then_it_is_forgotten() {
    let mut harness = Harness::new(1, 1).registered(600);
    let now = harness.now();
    harness.registration.deregister(now);
    let finished: Vec<bool> = (0..3)
        .map(|_| {
            let attempt = harness.attempt();
            harness.answer(&attempt, response(500)).finished
        })
        .collect();
    assert_eq!(finished, [false, false, true]);
    assert_eq!(harness.registration.due(), Moment::NEVER);
}

#[test]
fn without_a_binding_there_is_nothing_to_deregister() {
    let mut harness = Harness::new(1, 1);
    harness.round(403, 0);
    let now = harness.now();
    assert!(harness.registration.deregister(now));
    // A request that no one answered may have created one.
    let mut harness = Harness::new(1, 1);
    harness.round(408, 32_500);
    let now = harness.now();
    assert!(!harness.registration.deregister(now));
}

#[test]
fn deregistering_removes_all_that_may_be_bound_one_after_the_other() {
    let mut harness = Harness::new(2, 1);
    let tried = [harness.round(408, 32_500).uri, harness.round(408, 32_500).uri];
    assert_eq!(
        tried,
        [UriChoice::Rank(UriRank(0)), UriChoice::Rank(UriRank(1))],
        "the second try went elsewhere"
    );
    let now = harness.now();
    assert!(!harness.registration.deregister(now));
    let removals: Vec<_> = [500, 408, 500, 408, 200]
        .into_iter()
        .map(|code| {
            let attempt = harness.attempt();
            assert_eq!((attempt.purpose, attempt.expires), (Purpose::Deregister, 0));
            let finished = harness.answer(&attempt, response(code)).finished;
            (attempt.uri, finished)
        })
        .collect();
    let (first, second) = (UriChoice::Index(UriIndex(0)), UriChoice::Index(UriIndex(1)));
    // Three tries for one do not count for the next.
    let all = [(first, false), (first, false), (first, false), (second, false), (second, true)];
    assert_eq!(removals, all);
    assert!(harness.registration.abandoned(), "the first one was left to expire");
}

#[test]
fn one_address_of_record_is_removed_once_by_the_last_way() {
    let mut harness = Harness { one_address: true, ..Harness::new(2, 1) };
    harness.round(408, 32_500);
    harness.round(408, 32_500);
    let now = harness.now();
    harness.registration.deregister(now);
    let removals: Vec<_> = (0..3).map(|_| harness.round(500, 0).uri).collect();
    assert_eq!(removals, [UriChoice::Index(UriIndex(1)); 3]);
    assert_eq!(harness.registration.due(), Moment::NEVER, "a fourth try");
    // Where it is bound by another way, by that.
    let mut harness = Harness { one_address: true, ..Harness::new(2, 1) }.registered(600);
    harness.round(500, 0);
    assert_eq!(harness.round(408, 32_500).uri, UriChoice::Rank(UriRank(1)));
    let now = harness.now();
    harness.registration.deregister(now);
    let removals: Vec<_> = (0..3).map(|_| harness.round(500, 0).uri).collect();
    assert_eq!(removals, [UriChoice::Index(UriIndex(0)); 3]);
    assert_eq!(harness.registration.due(), Moment::NEVER, "a fourth try");
}

#[test]
fn deregistering_removes_what_may_be_bound_beside_the_binding() {
    let mut harness = Harness::new(2, 1);
    harness.round(500, 0);
    let attempt = harness.attempt();
    harness.answer(&attempt, ok(600));
    let probe = harness.round(408, 32_500);
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(UriRank(0))));
    let now = harness.now();
    harness.registration.deregister(now);
    for (index, last) in [(UriIndex(1), false), (UriIndex(0), true)] {
        let attempt = harness.attempt();
        assert_eq!(attempt.uri, UriChoice::Index(index));
        assert_eq!(harness.answer(&attempt, ok(0)).finished, last);
    }
    assert!(!harness.registration.abandoned());
}

#[test]
fn a_removal_outlives_the_binding_that_a_silent_refresh_may_have_prolonged() {
    for doubtful in [false, true] {
        let mut harness = Harness::new(1, 1).registered(600);
        harness.round(if doubtful { 408 } else { 500 }, 32_500);
        let now = harness.now();
        assert!(!harness.registration.deregister(now));
        harness.at += 600_000;
        assert_eq!(harness.registration.abandon_deregistration(Moment(harness.at)), !doubtful);
        if doubtful {
            let attempt = harness.attempt();
            assert_eq!((attempt.purpose, attempt.uri), (Purpose::Deregister, UriChoice::Index(UriIndex(0))));
            assert!(harness.answer(&attempt, ok(0)).finished);
        }
    }
}

#[test]
fn after_a_success_only_that_is_removed() {
    let mut harness = Harness::new(2, 1);
    harness.round(408, 32_500);
    harness.round(408, 32_500);
    let mut harness = harness.registered(600);
    let now = harness.now();
    harness.registration.deregister(now);
    let attempt = harness.attempt();
    assert!(harness.answer(&attempt, ok(0)).finished);
}

#[test]
fn what_may_be_bound_moves_with_the_uris_of_the_trunk() {
    let mut harness = Harness::new(3, 1);
    for index in UriIndex::first(3) {
        harness.registration.assume_bound(index, UriSet::from_iter([index]));
    }
    let now = harness.now();
    harness.registration.changed(
        |index| [Some(UriIndex(1)), None, Some(UriIndex(0))][usize::from(index)],
        |_| None,
        3,
        now.at,
    );
    assert_eq!(harness.registration.unconfirmed().iter().collect::<Vec<_>>(), [0, 1].map(UriIndex));
    // The one that has gone is another registration's to remove.
    let lost = UriSet::from_iter([UriIndex(1)]);
    let mut removal = Registration::removal(lost, Vec::new(), 7, now.at);
    assert!(removal.is_deregistering() && !removal.abandon_deregistration(now.at));
    assert_eq!((removal.ranks().0, removal.due()), (UriChoice::Index(UriIndex(1)), now.at));
    assert!(removal.cancel_deregistration(lost, now.at), "what another one has taken over is removed");
}

#[test]
fn deregistering_waits_for_the_response_in_flight() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    let now = harness.now();
    assert!(!harness.registration.deregister(now));
    assert_eq!(harness.registration.due(), Moment::NEVER, "two in flight");
    assert!(!harness.answer(&attempt, ok(600)).finished);
    let leave = harness.attempt();
    assert_eq!(leave.expires, 0);
    assert!(harness.answer(&leave, ok(0)).finished);
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    let now = harness.now();
    harness.registration.deregister(now);
    assert!(harness.answer(&attempt, response(403)).finished);
}

#[test]
fn a_removal_without_a_response_offers_the_password_again_only_after_a_pause() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    let now = harness.now();
    assert!(!harness.registration.deregister(now));
    harness.at += 32_500;
    harness.answer(&attempt, response(408));
    for _ in 0..2 {
        assert!(harness.wait_of_next() >= 5_000, "{}", harness.wait_of_next());
        let attempt = harness.attempt();
        harness.at += 32_500;
        harness.answer(&attempt, response(408));
    }
    // What is answered goes on at once.
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    let now = harness.now();
    harness.registration.deregister(now);
    harness.answer(&attempt, ok(600));
    assert_eq!((harness.wait_of_next(), harness.attempt().purpose), (0, Purpose::Deregister));
}

#[test]
fn a_removal_heeds_no_min_expires() {
    let mut harness = Harness::new(1, 1).registered(600);
    let now = harness.now();
    harness.registration.deregister(now);
    for finished in [false, false, true] {
        let attempt = harness.attempt();
        let effect = harness.answer(&attempt, RegisterResponse { min_expires: Some(900), ..response(423) });
        assert_eq!((attempt.expires, effect.finished), (0, finished));
        assert!(finished || harness.wait_of_next() >= 1_000);
    }
}

#[test]
fn f3_a_removal_goes_through_the_edge_port_that_the_binding_was_made_through() {
    let mut harness = Harness::new(1, 3).registered(600);
    // Another EdgePort takes over, and the first one's Contact is still bound.
    harness.at += 100_000;
    harness.registration.refresh_now(harness.now().at);
    let attempt = harness.attempt();
    harness.answer(&attempt, response(503));
    let attempt = harness.attempt();
    assert_ne!(attempt.edge, EdgePortRank(0));
    harness.answer(&attempt, ok(600));
    let now = harness.now();
    harness.registration.deregister(now);
    let first = harness.attempt();
    assert_eq!(first.bound_edge, Some(EdgePortId(attempt.edge.0.into())));
    assert!(!harness.answer(&first, response(200)).finished, "the binding of before is left");
    let second = harness.attempt();
    assert_eq!((second.purpose, second.bound_edge), (Purpose::Deregister, Some(EdgePortId(0))));
    assert!(harness.answer(&second, response(200)).finished);
}

#[test]
fn a_binding_that_may_last_longer_than_is_believed_is_removed_after_that_time_too() {
    let listed = |expires, own| ReportedBinding { expires: Some(expires), own };
    let not_ours =
        RegisterResponse { bindings: vec![listed(42, false), listed(600, false)], ..response(200) };
    let ours = RegisterResponse { bindings: vec![listed(42, true), listed(600, false)], ..response(200) };
    let all = ok(600);
    for (granted, is_removed) in [(not_ours, true), (ok(42), true), (ours, false), (all, false)] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        harness.answer(&attempt, granted.clone());
        harness.at += 601_000;
        let now = harness.now();
        assert_eq!(harness.registration.deregister(now), !is_removed, "{granted:?}");
        if is_removed {
            assert!(!harness.registration.abandon_deregistration(now.at));
            let attempt = harness.attempt();
            assert_eq!((attempt.purpose, attempt.expires), (Purpose::Deregister, 0));
            assert_eq!(attempt.bound_edge, Some(EdgePortId(0)), "the EdgePort that it was made through");
            assert!(harness.answer(&attempt, ok(0)).finished, "one REGISTER removes it");
        }
    }
}

#[test]
fn a_binding_that_the_registrar_says_lasts_longer_than_is_believed_is_removed_after_that_time_too() {
    let wants = |seconds| RegisterResponse { min_expires: Some(seconds), ..response(423) };
    let own = ReportedBinding { expires: Some(7_200), own: true };
    let ours = RegisterResponse { bindings: vec![own], ..response(200) };
    let all_that_was_asked = RegisterResponse { contact_expires: None, ..response(200) };
    for granted in [ours, all_that_was_asked] {
        let mut harness = Harness::new(1, 1);
        while harness.registration.binding().is_none() {
            let attempt = harness.attempt();
            let short = attempt.expires < 7_200;
            harness.answer(&attempt, if short { wants(7_200) } else { granted.clone() });
            harness.at += 1_000;
        }
        harness.at += 3_700_000;
        let now = harness.now();
        assert!(!harness.registration.deregister(now), "{granted:?}");
        assert_eq!(harness.attempt().purpose, Purpose::Deregister);
    }
}
