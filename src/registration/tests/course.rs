//! How a registration goes on while little happens to it: refreshes, CSeq numbers, restarts, changes.

use std::num::NonZeroU32;

use super::*;

#[test]
fn what_is_granted_counts_from_when_it_was_asked_for() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.at += 30_000;
    bench.answer(&attempt, ok(600));
    assert_eq!(bench.registration.left(Moment(bench.at)), Some(570_000));
    // An answer that comes after the end of what it grants: refreshed at once.
    let attempt = bench.attempt();
    bench.at += 30_000;
    bench.answer(&attempt, ok(20));
    assert_eq!(bench.registration.left(Moment(bench.at)), None);
    assert_eq!(bench.registration.due(), Moment(bench.at));
}

#[test]
fn a_new_trunk_registers_at_once_and_refreshes_in_time() {
    let mut bench = Bench::new(1, 1);
    assert_eq!((bench.state(), bench.registration.class()), (TrunkState::Pending, Class::First));
    let attempt = bench.attempt();
    assert_eq!((attempt.expires, attempt.purpose, bench.at), (600, Purpose::Register, START));
    assert_eq!(bench.registration.due(), Moment::NEVER, "two in flight");
    bench.answer(&attempt, ok(300));
    assert_eq!((bench.state(), bench.registration.class()), (TrunkState::Registered, Class::Refresh));
    between(bench.wait_of_next(), 210_000, 240_000);
    assert_eq!(bench.registration.left(Moment(bench.at)), Some(300_000));
}

#[test]
fn a_success_clears_the_failure_count_and_the_reason() {
    let mut bench = Bench::new(1, 1);
    bench.round(500, 0);
    bench.round(500, 0);
    assert_eq!((bench.registration.failures(), bench.reason()), (2, Some("RegistrarFailed")));
    let mut bench = bench.registered(600);
    assert_eq!((bench.registration.failures(), bench.reason()), (0, None));
    bench.round(500, 0);
    assert_eq!(bench.registration.failures(), 1, "the count did not start anew");
}

#[test]
fn since_is_when_the_trouble_began() {
    let mut bench = Bench::new(1, 1);
    bench.round(500, 0);
    let since = bench.registration.cause().unwrap().1;
    bench.round(403, 0);
    assert_eq!(bench.registration.cause().unwrap().1, since);
}

#[test]
fn a_change_while_in_flight_is_sent_afterwards() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let now = bench.now();
    bench.registration.changed(|_| None, |_| None, 1, now.at);
    assert_eq!(bench.registration.due(), Moment::NEVER, "two in flight");
    bench.answer(&attempt, ok(600));
    assert_eq!((bench.wait_of_next(), bench.registration.class()), (0, Class::Refresh));
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut bench = Bench::new(1, 1);
    let old = bench.attempt();
    bench.answer(&old, reply(500));
    let new = bench.attempt();
    bench.answer(&old, ok(600));
    assert_eq!((bench.state(), bench.registration.in_flight()), (TrunkState::Failing, true));
    bench.answer(&new, ok(600));
    let due = bench.registration.due();
    bench.answer(&new, reply(403));
    assert_eq!((bench.state(), bench.registration.due()), (TrunkState::Registered, due));
}

#[test]
fn the_cseq_of_the_answer_counts_and_a_lost_answer_leaves_room() {
    let mut bench = Bench::new(1, 1);
    let first = bench.attempt();
    bench.answer(&first, Reply { cseq: Some(first.cseq + 5), ..ok(600) });
    assert_eq!(bench.registration.cseq(), first.cseq + 5);
    let now = bench.now();
    bench.registration.refresh_now(now.at);
    let second = bench.attempt();
    assert!(second.cseq > first.cseq + 5);
    bench.answer(&second, Reply { cseq: Some(u32::MAX), ..ok(600) });
    assert!(bench.registration.cseq() < second.cseq + 10, "an absurd CSeq was believed");
    let now = bench.now();
    bench.registration.refresh_now(now.at);
    let third = bench.attempt();
    bench.answer_with(&third, &Err(SendError::Unavailable("gone".into())));
    assert!(bench.attempt().cseq > third.cseq + 2, "a challenge may have used two more");
}

#[test]
fn a_resumed_registration_is_not_sent_before_its_time() {
    let settings = Bench::new(1, 1).settings;
    let now = Moment(START);
    let mut rng = SmallRng::seed_from_u64(3);
    let binding = |left: u64| Binding {
        expires_at: now.plus(left),
        granted_s: NonZeroU32::new(600).unwrap(),
        position: 0,
        edge: EdgeId(0),
        longer: false,
    };
    let valid = Registration::resume(77, Some((binding(400_000), 0)), &settings, now, &mut rng);
    between(valid.due().since(now), 280_000, 340_000);
    assert_eq!((valid.state(now), valid.cseq()), (TrunkState::Registered, 77));
    let near = Registration::resume(77, Some((binding(20_000), 0)), &settings, now, &mut rng);
    assert_eq!(near.due(), now);
    let lapsed = Binding {
        expires_at: now.minus(5_000),
        granted_s: NonZeroU32::new(600).unwrap(),
        position: 0,
        edge: EdgeId(0),
        longer: false,
    };
    let lapsed = Registration::resume(77, Some((lapsed, 0)), &settings, now, &mut rng);
    assert_eq!((lapsed.due(), lapsed.class()), (now.minus(5_000), Class::Retry));
}

#[test]
fn after_a_restart_the_numbers_of_a_request_that_nobody_kept_are_left_out() {
    let mut bench = Bench::new(1, 1);
    // A clock that is far behind: the numbers go by what was kept alone.
    let kept = next_cseq(0, bench.now().unix_ms) + 100_000;
    bench.registration.raise_cseq(kept);
    let last = bench.attempt_now().cseq + CSEQ_RESERVE;
    let now = Moment(bench.at);
    bench.registration = Registration::resume(kept, None, &bench.settings, now, &mut bench.rng);
    let next = bench.attempt_now();
    assert!(next.cseq > last, "{} after {last}", next.cseq);
    bench.answer(&next, ok(600));
    let known = bench.registration.cseq();
    assert_eq!(bench.attempt().cseq, known + 1, "only once");
}

#[test]
fn after_a_reconnection_refreshes_come_early_and_spread() {
    let dues: Vec<u64> = (0..200)
        .map(|seed| {
            let mut bench = Bench::new(1, 1).registered(600);
            bench.registration.refresh_early(Moment(bench.at), &mut SmallRng::seed_from_u64(seed));
            bench.wait_of_next()
        })
        .collect();
    assert!(dues.iter().all(|due| *due <= 150_000));
    assert!(dues.iter().any(|due| *due < 30_000) && dues.iter().any(|due| *due > 120_000), "{dues:?}");
}

#[test]
fn a_registration_is_small() {
    assert!(size_of::<Registration>() <= 64, "{} bytes", size_of::<Registration>());
}

#[test]
fn what_a_registrar_wants_to_be_asked_in_another_way_waits_behind_nobody_who_was_not_answered() {
    let too_brief = Reply { min_expires: Some(900), ..reply(423) };
    let redirected = redirect(302, "elsewhere", None);
    for answer in [too_brief, reply(420), redirected] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        let answer = Reply { unsupported: vec!["gin".into()], ..answer };
        bench.answer(&attempt, answer.clone());
        assert_eq!(bench.wait_of_next(), 0, "{answer:?}");
        let (can_wait, moment, _) = bench.registration.urgency();
        // A refresh of what expires within half a minute goes before.
        assert_eq!((can_wait, moment), (false, Moment(START + 30_000)), "{answer:?}");
    }
}
