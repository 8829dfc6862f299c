//! Bindings are removed: where, how often that is tried, and what may be bound besides.

use super::*;
use crate::ports::ReportedBinding;

#[test]
fn leaving_removes_the_binding_where_it_is() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(600));
    let now = bench.now();
    assert!(!bench.registration.leave(now));
    let attempt = bench.attempt();
    assert_eq!((attempt.purpose, attempt.expires, attempt.uri), (Purpose::Leave, 0, UriChoice::Position(1)));
    assert!(bench.answer(&attempt, ok(0)).finished);
}

#[test]
fn three_tries_to_leave_then_it_is_forgotten() {
    let mut bench = Bench::new(1, 1).registered(600);
    let now = bench.now();
    bench.registration.leave(now);
    let finished: Vec<bool> = (0..3)
        .map(|_| {
            let attempt = bench.attempt();
            bench.answer(&attempt, reply(500)).finished
        })
        .collect();
    assert_eq!(finished, [false, false, true]);
    assert_eq!(bench.registration.due(), Moment::NEVER);
}

#[test]
fn without_a_binding_there_is_nothing_to_leave() {
    let mut bench = Bench::new(1, 1);
    bench.round(403, 0);
    let now = bench.now();
    assert!(bench.registration.leave(now));
    // A request that nobody answered may have created one.
    let mut bench = Bench::new(1, 1);
    bench.round(408, 32_500);
    let now = bench.now();
    assert!(!bench.registration.leave(now));
}

#[test]
fn leaving_removes_whatever_may_be_bound_one_after_the_other() {
    let mut bench = Bench::new(2, 1);
    let tried = [bench.round(408, 32_500).uri, bench.round(408, 32_500).uri];
    assert_eq!(tried, [UriChoice::Rank(0), UriChoice::Rank(1)], "the second try went elsewhere");
    let now = bench.now();
    assert!(!bench.registration.leave(now));
    let removals: Vec<_> = [500, 408, 500, 408, 200]
        .into_iter()
        .map(|code| {
            let attempt = bench.attempt();
            assert_eq!((attempt.purpose, attempt.expires), (Purpose::Leave, 0));
            let finished = bench.answer(&attempt, reply(code)).finished;
            (attempt.uri, finished)
        })
        .collect();
    let (first, second) = (UriChoice::Position(0), UriChoice::Position(1));
    // Three tries for one do not count for the next.
    let all = [(first, false), (first, false), (first, false), (second, false), (second, true)];
    assert_eq!(removals, all);
    assert!(bench.registration.gave_up(), "the first one was left to lapse");
}

#[test]
fn one_address_of_record_is_removed_once_by_the_last_way() {
    let mut bench = Bench { one_address: true, ..Bench::new(2, 1) };
    bench.round(408, 32_500);
    bench.round(408, 32_500);
    let now = bench.now();
    bench.registration.leave(now);
    let removals: Vec<_> = (0..3).map(|_| bench.round(500, 0).uri).collect();
    assert_eq!(removals, [UriChoice::Position(1); 3]);
    assert_eq!(bench.registration.due(), Moment::NEVER, "a fourth try");
    // Where it is bound by another way, by that.
    let mut bench = Bench { one_address: true, ..Bench::new(2, 1) }.registered(600);
    bench.round(500, 0);
    assert_eq!(bench.round(408, 32_500).uri, UriChoice::Rank(1));
    let now = bench.now();
    bench.registration.leave(now);
    let removals: Vec<_> = (0..3).map(|_| bench.round(500, 0).uri).collect();
    assert_eq!(removals, [UriChoice::Position(0); 3]);
    assert_eq!(bench.registration.due(), Moment::NEVER, "a fourth try");
}

#[test]
fn leaving_removes_what_may_be_bound_besides_the_binding() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(600));
    let probe = bench.round(408, 32_500);
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(0)));
    let now = bench.now();
    bench.registration.leave(now);
    for (position, last) in [(1, false), (0, true)] {
        let attempt = bench.attempt();
        assert_eq!(attempt.uri, UriChoice::Position(position));
        assert_eq!(bench.answer(&attempt, ok(0)).finished, last);
    }
    assert!(!bench.registration.gave_up());
}

#[test]
fn a_removal_outlives_the_binding_that_a_silent_refresh_may_have_prolonged() {
    for doubtful in [false, true] {
        let mut bench = Bench::new(1, 1).registered(600);
        bench.round(if doubtful { 408 } else { 500 }, 32_500);
        let now = bench.now();
        assert!(!bench.registration.leave(now));
        bench.at += 600_000;
        assert_eq!(bench.registration.give_up_leaving(Moment(bench.at)), !doubtful);
        if doubtful {
            let attempt = bench.attempt();
            assert_eq!((attempt.purpose, attempt.uri), (Purpose::Leave, UriChoice::Position(0)));
            assert!(bench.answer(&attempt, ok(0)).finished);
        }
    }
}

#[test]
fn after_a_success_only_that_is_removed() {
    let mut bench = Bench::new(2, 1);
    bench.round(408, 32_500);
    bench.round(408, 32_500);
    let mut bench = bench.registered(600);
    let now = bench.now();
    bench.registration.leave(now);
    let attempt = bench.attempt();
    assert!(bench.answer(&attempt, ok(0)).finished);
}

#[test]
fn what_may_be_bound_moves_with_the_uris_of_the_trunk() {
    let mut bench = Bench::new(3, 1);
    for position in 0..3 {
        bench.registration.presume(position, Positions::from_iter([position]));
    }
    let now = bench.now();
    bench.registration.changed(
        |position| [Some(1), None, Some(0)][usize::from(position)],
        |_| None,
        3,
        now.at,
    );
    assert_eq!(bench.registration.maybe_bound().iter().collect::<Vec<_>>(), [0, 1]);
    // The one that has gone is another registration's to remove.
    let lost = Positions::from_iter([1]);
    let mut removal = Registration::removal(lost, Vec::new(), 7, now.at);
    assert!(removal.is_leaving() && !removal.give_up_leaving(now.at));
    assert_eq!((removal.ranks().0, removal.due()), (UriChoice::Position(1), now.at));
    assert!(removal.withdraw(lost, now.at), "what another one has taken over is removed");
}

#[test]
fn leaving_waits_for_the_answer_in_flight() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let now = bench.now();
    assert!(!bench.registration.leave(now));
    assert_eq!(bench.registration.due(), Moment::NEVER, "two in flight");
    assert!(!bench.answer(&attempt, ok(600)).finished);
    let leave = bench.attempt();
    assert_eq!(leave.expires, 0);
    assert!(bench.answer(&leave, ok(0)).finished);
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let now = bench.now();
    bench.registration.leave(now);
    assert!(bench.answer(&attempt, reply(403)).finished);
}

#[test]
fn a_removal_that_nobody_answers_offers_the_password_again_only_after_a_pause() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let now = bench.now();
    assert!(!bench.registration.leave(now));
    bench.at += 32_500;
    bench.answer(&attempt, reply(408));
    for _ in 0..2 {
        assert!(bench.wait_of_next() >= 5_000, "{}", bench.wait_of_next());
        let attempt = bench.attempt();
        bench.at += 32_500;
        bench.answer(&attempt, reply(408));
    }
    // What is answered goes on at once.
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let now = bench.now();
    bench.registration.leave(now);
    bench.answer(&attempt, ok(600));
    assert_eq!((bench.wait_of_next(), bench.attempt().purpose), (0, Purpose::Leave));
}

#[test]
fn a_removal_is_never_too_brief() {
    let mut bench = Bench::new(1, 1).registered(600);
    let now = bench.now();
    bench.registration.leave(now);
    for finished in [false, false, true] {
        let attempt = bench.attempt();
        let effect = bench.answer(&attempt, Reply { min_expires: Some(900), ..reply(423) });
        assert_eq!((attempt.expires, effect.finished), (0, finished));
        assert!(finished || bench.wait_of_next() >= 1_000);
    }
}

#[test]
fn f3_a_removal_goes_through_the_edge_port_that_the_binding_was_made_through() {
    let mut bench = Bench::new(1, 3).registered(600);
    // Another EdgePort takes over, and the first one's Contact is still bound.
    bench.at += 100_000;
    bench.registration.refresh_now(bench.now().at);
    let attempt = bench.attempt();
    bench.answer(&attempt, reply(503));
    let attempt = bench.attempt();
    assert_ne!(attempt.edge, 0);
    bench.answer(&attempt, ok(600));
    let now = bench.now();
    bench.registration.leave(now);
    let first = bench.attempt();
    assert_eq!(first.bound_edge, Some(EdgeId(attempt.edge.into())));
    assert!(!bench.answer(&first, reply(200)).finished, "the binding of before is left");
    let second = bench.attempt();
    assert_eq!((second.purpose, second.bound_edge), (Purpose::Leave, Some(EdgeId(0))));
    assert!(bench.answer(&second, reply(200)).finished);
}

#[test]
fn a_binding_that_may_last_longer_than_is_believed_is_removed_after_that_time_too() {
    let listed = |expires, own| ReportedBinding { expires: Some(expires), own };
    let not_ours = Reply { bindings: vec![listed(42, false), listed(600, false)], ..reply(200) };
    let ours = Reply { bindings: vec![listed(42, true), listed(600, false)], ..reply(200) };
    let all = ok(600);
    for (granted, is_removed) in [(not_ours, true), (ok(42), true), (ours, false), (all, false)] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, granted.clone());
        bench.at += 601_000;
        let now = bench.now();
        assert_eq!(bench.registration.leave(now), !is_removed, "{granted:?}");
        if is_removed {
            assert!(!bench.registration.give_up_leaving(now.at));
            let attempt = bench.attempt();
            assert_eq!((attempt.purpose, attempt.expires), (Purpose::Leave, 0));
            assert_eq!(attempt.bound_edge, Some(EdgeId(0)), "the EdgePort that it was made through");
            assert!(bench.answer(&attempt, ok(0)).finished, "one REGISTER removes it");
        }
    }
}
