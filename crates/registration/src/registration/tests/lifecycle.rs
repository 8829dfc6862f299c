//! Life of a registration that little happens to: refreshes, CSeq numbers, restarts, changes.

use std::num::NonZeroU32;

use super::*;

#[test]
fn what_is_granted_counts_from_when_it_was_asked_for() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.at += 30_000;
    harness.answer(&attempt, ok(600));
    assert_eq!(harness.registration.remaining_ms(Moment(harness.at)), Some(570_000));
    // An answer that comes after the end of what it grants: refreshed at once.
    let attempt = harness.attempt();
    harness.at += 30_000;
    harness.answer(&attempt, ok(20));
    assert_eq!(harness.registration.remaining_ms(Moment(harness.at)), None);
    assert_eq!(harness.registration.due(), Moment(harness.at));
}

#[test]
fn a_new_trunk_registers_at_once_and_refreshes_in_time() {
    let mut harness = Harness::new(1, 1);
    assert_eq!((harness.state(), harness.registration.class()), (TrunkState::Pending, Priority::First));
    let attempt = harness.attempt();
    assert_eq!((attempt.expires, attempt.purpose, harness.at), (600, Purpose::Register, START));
    assert_eq!(harness.registration.due(), Moment::NEVER, "two in flight");
    harness.answer(&attempt, ok(300));
    assert_eq!((harness.state(), harness.registration.class()), (TrunkState::Registered, Priority::Refresh));
    between(harness.wait_of_next(), 210_000, 240_000);
    assert_eq!(harness.registration.remaining_ms(Moment(harness.at)), Some(300_000));
}

#[test]
fn a_success_clears_the_failure_count_and_the_reason() {
    let mut harness = Harness::new(1, 1);
    harness.round(500, 0);
    harness.round(500, 0);
    assert_eq!((harness.registration.failures(), harness.reason()), (2, Some("RegistrarFailed")));
    let mut harness = harness.registered(600);
    assert_eq!((harness.registration.failures(), harness.reason()), (0, None));
    harness.round(500, 0);
    assert_eq!(harness.registration.failures(), 1, "the count did not start again");
}

#[test]
fn since_is_when_the_trouble_began() {
    let mut harness = Harness::new(1, 1);
    harness.round(500, 0);
    let since = harness.registration.cause().unwrap().1;
    harness.round(403, 0);
    assert_eq!(harness.registration.cause().unwrap().1, since);
}

#[test]
fn a_change_while_in_flight_is_sent_afterwards() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    let now = harness.now();
    harness.registration.changed(|_| None, |_| None, 1, now.at);
    assert_eq!(harness.registration.due(), Moment::NEVER, "two in flight");
    harness.answer(&attempt, ok(600));
    assert_eq!((harness.wait_of_next(), harness.registration.class()), (0, Priority::Refresh));
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut harness = Harness::new(1, 1);
    let old = harness.attempt();
    harness.answer(&old, response(500));
    let new = harness.attempt();
    harness.answer(&old, ok(600));
    assert_eq!((harness.state(), harness.registration.in_flight()), (TrunkState::Failing, true));
    harness.answer(&new, ok(600));
    let due = harness.registration.due();
    harness.answer(&new, response(403));
    assert_eq!((harness.state(), harness.registration.due()), (TrunkState::Registered, due));
}

#[test]
fn the_cseq_of_the_answer_counts_and_a_lost_answer_leaves_room() {
    let mut harness = Harness::new(1, 1);
    let first = harness.attempt();
    harness.answer(&first, RegisterResponse { cseq: Some(first.cseq + 5), ..ok(600) });
    assert_eq!(harness.registration.cseq(), first.cseq + 5);
    let now = harness.now();
    harness.registration.refresh_now(now.at);
    let second = harness.attempt();
    assert!(second.cseq > first.cseq + 5);
    harness.answer(&second, RegisterResponse { cseq: Some(u32::MAX), ..ok(600) });
    assert!(harness.registration.cseq() < second.cseq + 10, "an absurd CSeq was believed");
    let now = harness.now();
    harness.registration.refresh_now(now.at);
    let third = harness.attempt();
    harness.answer_with(&third, &Err(SendError::Unavailable("gone".into())));
    assert!(harness.attempt().cseq > third.cseq + 2, "a challenge may have used two more");
}

#[test]
fn a_resumed_registration_is_not_sent_before_its_time() {
    let settings = Harness::new(1, 1).settings;
    let now = Moment(START);
    let mut rng = SmallRng::seed_from_u64(3);
    let binding = |left: u64| Binding {
        expires_at: now.plus(left),
        granted_s: NonZeroU32::new(600).unwrap(),
        index: UriIndex(0),
        edge: EdgePortId(0),
        longer: false,
    };
    let valid = Registration::resume(77, Some((binding(400_000), UriRank(0))), &settings, now, &mut rng);
    between(valid.due().since(now), 280_000, 340_000);
    assert_eq!((valid.state(now), valid.cseq()), (TrunkState::Registered, 77));
    let near = Registration::resume(77, Some((binding(20_000), UriRank(0))), &settings, now, &mut rng);
    assert_eq!(near.due(), now);
    let expired = Binding {
        expires_at: now.minus(5_000),
        granted_s: NonZeroU32::new(600).unwrap(),
        index: UriIndex(0),
        edge: EdgePortId(0),
        longer: false,
    };
    let expired = Registration::resume(77, Some((expired, UriRank(0))), &settings, now, &mut rng);
    assert_eq!((expired.due(), expired.class()), (now.minus(5_000), Priority::Retry));
}

#[test]
fn after_a_restart_the_numbers_of_a_request_that_nobody_kept_are_left_out() {
    let mut harness = Harness::new(1, 1);
    // A clock that is far behind: the numbers go by what was kept alone.
    let kept = next_cseq(0, harness.now().unix_ms) + 100_000;
    harness.registration.raise_cseq(kept);
    let last = harness.attempt_now().cseq + CSEQ_RESERVE;
    let now = Moment(harness.at);
    harness.registration = Registration::resume(kept, None, &harness.settings, now, &mut harness.rng);
    let next = harness.attempt_now();
    assert!(next.cseq > last, "{} after {last}", next.cseq);
    harness.answer(&next, ok(600));
    let known = harness.registration.cseq();
    assert_eq!(harness.attempt().cseq, known + 1, "only once");
}

#[test]
fn after_a_reconnection_refreshes_come_early_and_spread() {
    let dues: Vec<u64> = (0..200)
        .map(|seed| {
            let mut harness = Harness::new(1, 1).registered(600);
            harness.registration.refresh_early(Moment(harness.at), &mut SmallRng::seed_from_u64(seed));
            harness.wait_of_next()
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
    let too_brief = RegisterResponse { min_expires: Some(900), ..response(423) };
    let redirected = redirect(302, "elsewhere", None);
    for answer in [too_brief, response(420), redirected] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        let answer = RegisterResponse { unsupported: vec!["gin".into()], ..answer };
        harness.answer(&attempt, answer.clone());
        assert_eq!(harness.wait_of_next(), 0, "{answer:?}");
        let (can_wait, moment, _) = harness.registration.urgency();
        // A refresh of what expires within half a minute goes before.
        assert_eq!((can_wait, moment), (false, Moment(START + 30_000)), "{answer:?}");
    }
}
