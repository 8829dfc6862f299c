use rand::{SeedableRng, rngs::SmallRng};

use super::*;

struct Harness {
    concurrency: ConcurrencyLimit,
    at: u64,
    rng: SmallRng,
}

impl Harness {
    fn new(max: u32) -> Self {
        Self { concurrency: ConcurrencyLimit::new(max), at: 1_000_000, rng: SmallRng::seed_from_u64(7) }
    }

    fn now(&self) -> Now {
        Now { at: Moment(self.at), unix_ms: self.at }
    }

    /// Sends as many as the gate lets through, and answers them all.
    fn round(&mut self, result: CallResult, took_ms: u64) -> u32 {
        let mut sent = 0;
        while self.concurrency.admission(Moment(self.at)) != Admission::None {
            self.concurrency.sent(Moment(self.at));
            sent += 1;
        }
        self.at += took_ms;
        for _ in 0..sent {
            self.concurrency.finished(result, false, took_ms, Some("down"), self.now(), &mut self.rng);
        }
        sent
    }
}

const QUICK: CallResult = CallResult::Answered { brisk: true };
const DEADLINE: CallResult = CallResult::Deadline { silent: false };

#[test]
fn the_bound_starts_small_and_doubles_while_answers_stay_quick() {
    let mut harness = Harness::new(1_000);
    let rounds: Vec<u32> = (0..5).map(|_| harness.round(QUICK, 10)).collect();
    assert_eq!(rounds[0], 4);
    assert!(rounds.windows(2).all(|pair| pair[1] > pair[0] * 5 / 4), "{rounds:?}");
    for _ in 0..150 {
        harness.round(QUICK, 10);
    }
    assert_eq!(harness.concurrency.limit(), 1_000);
}

/// Sends as much as the gate lets through for so many milliseconds to a Requester that takes so many at a
/// time, each for `period_ms`, while the others wait. Returns the highest bound of the second half, and the
/// last.
fn pressed(harness: &mut Harness, occupancy: u32, period_ms: u64, for_ms: u64) -> (u32, u32) {
    let mut busy: std::collections::VecDeque<(u64, u64)> = std::collections::VecDeque::new();
    let (began, mut most) = (harness.at, 0);
    let mut free: std::collections::BinaryHeap<_> =
        (0..occupancy).map(|_| std::cmp::Reverse(harness.at)).collect();
    while harness.at < began + for_ms {
        while harness.concurrency.admission(Moment(harness.at)) != Admission::None {
            harness.concurrency.sent(Moment(harness.at));
            let std::cmp::Reverse(from) = free.pop().unwrap();
            let until = from.max(harness.at) + period_ms;
            free.push(std::cmp::Reverse(until));
            busy.push_back((harness.at, until));
        }
        let (sent, done) = busy.pop_front().unwrap();
        harness.at = done;
        harness.concurrency.finished(QUICK, false, done - sent, None, harness.now(), &mut harness.rng);
        if harness.at > began + for_ms / 2 {
            most = most.max(harness.concurrency.limit());
        }
    }
    while let Some((sent, done)) = busy.pop_front() {
        harness.at = harness.at.max(done);
        harness.concurrency.finished(QUICK, false, harness.at - sent, None, harness.now(), &mut harness.rng);
    }
    (most, harness.concurrency.limit())
}

#[test]
fn the_bound_ends_where_more_requests_only_wait_for_each_other() {
    // A hundred answer twice as many within twice the time, so the bound grows freely as far as it ever does;
    // from there a step is tried.
    for (occupancy, bound) in [(4, 100), (20, 100), (100, 320), (300, 750)] {
        let (most, last) = pressed(&mut Harness::new(1_000), occupancy, 10, 200_000);
        assert!(last >= occupancy && most <= bound, "{most}, {last} for {occupancy} places");
    }
    assert_eq!(pressed(&mut Harness::new(1_000), 5_000, 10, 200_000).1, 1_000);
    // Two places of half a second, like the Requester that Routr brings.
    let (most, last) = pressed(&mut Harness::new(1_000), 2, 500, 3_600_000);
    assert!(most <= 20 && last <= 12, "{most}, {last}");
}

#[test]
fn answers_that_take_longer_hold_the_bound_down_only_where_they_wait_for_each_other() {
    // A registrar far away, or a busy machine, after one that answered at once.
    for period in [70, 150, 400] {
        let mut harness = Harness::new(1_000);
        harness.round(QUICK, 1);
        let (_, last) = pressed(&mut harness, 5_000, period, period * 60);
        assert!(last >= 60, "{last} with {period} ms");
    }
    let mut harness = Harness::new(1_000);
    harness.round(QUICK, 1);
    let (most, _) = pressed(&mut harness, 8, 150, 600_000);
    assert!(most <= 32, "{most}");
}

#[test]
fn a_bound_that_is_not_used_does_not_grow() {
    let mut harness = Harness::new(1_000);
    for took_ms in std::iter::repeat_n(1, 100).chain(std::iter::repeat_n(500, 100)) {
        harness.concurrency.sent(Moment(harness.at));
        harness.at += took_ms;
        harness.concurrency.finished(QUICK, false, took_ms, None, harness.now(), &mut harness.rng);
    }
    assert_eq!(harness.concurrency.limit(), 4);
}

#[test]
fn a_silent_registrar_does_not_lower_the_bound_where_the_requester_answers_others_as_quickly_as_ever() {
    let mut harness = Harness::new(1_000);
    harness.round(QUICK, 10);
    let before = harness.concurrency.limit();
    for _ in 0..20 {
        harness.concurrency.sent(Moment(harness.at));
        harness.at += 15_000;
        harness.round(QUICK, 10);
        harness.concurrency.finished(DEADLINE, false, 15_010, None, harness.now(), &mut harness.rng);
    }
    assert!(harness.concurrency.limit() >= before);
    // Here the others wait as well.
    let before = harness.concurrency.limit();
    harness.concurrency.sent(Moment(harness.at));
    harness.at += 15_000;
    harness.round(QUICK, 9_000);
    harness.concurrency.finished(DEADLINE, false, 24_000, None, harness.now(), &mut harness.rng);
    assert_eq!(harness.concurrency.limit(), before / 2);
}

#[test]
fn a_registrar_known_as_silent_never_takes_the_last_places_away() {
    let mut harness = Harness::new(1_000);
    for _ in 0..8 {
        harness.round(QUICK, 10);
    }
    for _ in 0..20 {
        harness.round(CallResult::Deadline { silent: true }, 30_000);
    }
    assert_eq!(harness.concurrency.limit(), 4);
    // Nor does it raise the bound where that is lower.
    let mut harness = Harness::new(2);
    harness.round(CallResult::Deadline { silent: true }, 30_000);
    assert_eq!(harness.concurrency.limit(), 2);
}

#[test]
fn as_many_places_as_at_a_start_are_there_again_as_soon_as_there_are_answers_whatever_they_took() {
    let mut harness = Harness::new(1_000);
    harness.round(QUICK, 1);
    for _ in 0..20 {
        harness.round(DEADLINE, 40_000);
    }
    assert_eq!(harness.concurrency.limit(), 1);
    // Each takes a place, and another one is silent beside it: a rate of answers would not rise.
    for _ in 0..3 {
        harness.round(QUICK, 150);
    }
    assert_eq!(harness.concurrency.limit(), 4);
    harness.round(QUICK, 150);
    assert_eq!(harness.concurrency.limit(), 4, "beyond that it has to pay");
}

#[test]
fn an_answer_that_is_later_than_the_least_but_prompt_shows_who_is_silent() {
    let mut harness = Harness::new(1_000);
    harness.round(QUICK, 10);
    let before = harness.concurrency.limit();
    harness.concurrency.sent(Moment(harness.at));
    harness.at += 15_000;
    harness.round(QUICK, 300);
    harness.concurrency.finished(DEADLINE, false, 15_300, None, harness.now(), &mut harness.rng);
    assert_eq!(harness.concurrency.limit(), before);
}

#[test]
fn the_bound_halves_at_timeouts_and_never_reaches_zero() {
    let mut harness = Harness::new(1_000);
    for _ in 0..8 {
        harness.round(QUICK, 10);
    }
    let before = harness.concurrency.limit();
    harness.round(DEADLINE, 40_000);
    assert_eq!(harness.concurrency.limit(), before / 2);
    for _ in 0..20 {
        assert!(harness.round(DEADLINE, 40_000) > 0);
    }
    assert_eq!(harness.concurrency.limit(), 1);
    assert_eq!(harness.concurrency.health().ok, Some(false));
}

#[test]
fn an_unavailable_requester_is_probed_by_one_request_at_a_time() {
    let mut harness = Harness::new(1_000);
    for _ in 0..4 {
        harness.round(QUICK, 10);
    }
    harness.round(CallResult::Unavailable, 1);
    assert_eq!(harness.concurrency.admission(Moment(harness.at)), Admission::None);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let opens = harness.concurrency.opens_at().unwrap();
        pauses.push(opens.since(Moment(harness.at)));
        harness.at = opens.0;
        assert_eq!(harness.round(CallResult::Unavailable, 1), 1);
    }
    assert!(pauses.iter().all(|pause| *pause <= 5_000), "{pauses:?}");
    assert!(pauses[11] >= 2_500, "{pauses:?}");
    harness.at = harness.concurrency.opens_at().unwrap().0;
    harness.concurrency.sent(Moment(harness.at));
    let change = harness.concurrency.finished(QUICK, false, 5, None, harness.now(), &mut harness.rng);
    assert!(change.is_some(), "not reported as recovered");
    assert!(!harness.concurrency.is_open());
    assert!(harness.concurrency.limit() <= 5, "a burst after the outage: {}", harness.concurrency.limit());
}

#[test]
fn a_connection_that_is_back_proves_nothing_while_calls_fail() {
    let mut harness = Harness::new(10);
    harness.concurrency.link_changed(true, harness.now());
    assert_eq!(harness.concurrency.health().ok, Some(false));
    harness.concurrency.link_changed(false, harness.now());
    assert_eq!(harness.concurrency.health().ok, Some(true), "nobody called meanwhile");

    harness.round(CallResult::Unavailable, 1);
    harness.concurrency.link_changed(true, harness.now());
    harness.concurrency.link_changed(false, harness.now());
    assert_eq!(harness.concurrency.health().ok, Some(false));
    harness.at = harness.concurrency.opens_at().unwrap().0;
    harness.round(QUICK, 1);
    assert_eq!(harness.concurrency.health().ok, Some(true));
}

#[test]
fn a_probe_that_is_not_answered_is_followed_by_another() {
    let mut harness = Harness::new(10);
    harness.round(CallResult::Unavailable, 1);
    harness.at = harness.concurrency.opens_at().unwrap().0;
    harness.concurrency.sent(Moment(harness.at));
    assert_eq!(harness.concurrency.admission(Moment(harness.at + 4_999)), Admission::None);
    harness.at += 5_000;
    assert_eq!(harness.concurrency.opens_at(), Some(Moment(harness.at)));
    assert_eq!(harness.round(QUICK, 1), 1);
    assert!(!harness.concurrency.is_open());
}

fn refused(slot: u32) -> CallResult {
    CallResult::Failed(FailedCall { slot, first: true, trunks: 100, responded: true, among_others: true })
}

#[test]
fn one_refusal_stops_nobody_many_in_a_row_do() {
    let mut harness = Harness::new(100);
    for slot in 0..20 {
        harness.concurrency.sent(Moment(harness.at));
        harness.concurrency.finished(refused(slot), false, 1, Some("no"), harness.now(), &mut harness.rng);
        harness.concurrency.sent(Moment(harness.at));
        harness.concurrency.finished(QUICK, false, 1, None, harness.now(), &mut harness.rng);
    }
    assert!(!harness.concurrency.is_open());
    for slot in 0..5 {
        harness.concurrency.sent(Moment(harness.at));
        harness.concurrency.finished(refused(slot), false, 1, Some("no"), harness.now(), &mut harness.rng);
    }
    assert!(harness.concurrency.is_open());
    assert_eq!(harness.concurrency.health().message.as_deref(), Some("no"));
}

#[test]
fn the_last_places_are_kept_for_refreshes() {
    let mut harness = Harness::new(1_000);
    for _ in 0..4 {
        harness.round(QUICK, 10);
    }
    let limit = harness.concurrency.limit();
    for _ in 0..limit - limit / 4 {
        assert_eq!(harness.concurrency.admission(Moment(harness.at)), Admission::All);
        harness.concurrency.sent(Moment(harness.at));
    }
    assert_eq!(harness.concurrency.admission(Moment(harness.at)), Admission::UrgentOnly);
}

#[test]
fn after_an_outage_the_bound_starts_small_whatever_was_being_measured_before() {
    // Some of these end in the middle of a step up.
    for periods in 30..60 {
        let mut harness = Harness::new(1_000);
        harness.round(QUICK, 1);
        pressed(&mut harness, 5_000, 150, 150 * periods);
        assert!(harness.concurrency.limit() > 64, "{}", harness.concurrency.limit());
        harness.concurrency.sent(Moment(harness.at));
        harness.concurrency.finished(
            CallResult::Unavailable,
            false,
            0,
            None,
            harness.now(),
            &mut harness.rng,
        );
        harness.at += 10_000;
        for _ in 0..8 {
            harness.round(QUICK, 150);
            assert!(
                harness.concurrency.limit() <= 64,
                "{} after {periods} periods",
                harness.concurrency.limit()
            );
        }
    }
}

#[test]
fn another_requester_is_got_to_know_anew() {
    let mut harness = Harness::new(1_000);
    for _ in 0..20 {
        harness.round(QUICK, 1);
    }
    harness.concurrency.sent(Moment(harness.at));
    harness.concurrency.replaced();
    assert_eq!(
        (harness.concurrency.limit(), harness.concurrency.in_flight(), harness.concurrency.health().ok),
        (4, 1, None)
    );
    assert_eq!(harness.concurrency.admission(Moment(harness.at)), Admission::All);
}

#[test]
fn after_a_break_among_several_calls_they_go_one_at_a_time_for_a_while() {
    let mut way = ConcurrencyLimit::new(1_000);
    let mut rng = SmallRng::seed_from_u64(1);
    let at = |ms| Now { at: Moment(ms), unix_ms: 0 };
    let broken = |slot| {
        CallResult::Failed(FailedCall { slot, first: true, trunks: 20, responded: false, among_others: true })
    };
    let answered = CallResult::Answered { brisk: true };
    (0..4).for_each(|_| way.sent(Moment(1_000)));
    way.finished(answered, false, 5, None, at(1_005), &mut rng);
    for slot in 1..4 {
        way.finished(broken(slot), false, 6, None, at(1_006), &mut rng);
    }
    assert!(!way.is_open(), "they are no row");
    assert_eq!(way.admission(Moment(1_006)), Admission::All);
    way.sent(Moment(1_006));
    assert_eq!(way.admission(Moment(1_006)), Admission::None);
    way.finished(answered, false, 5, None, at(1_011), &mut rng);
    assert_eq!(way.admission(Moment(1_011)), Admission::All);
    way.sent(Moment(1_011));
    assert_eq!(way.admission(Moment(3_000)), Admission::None);
    assert_ne!(way.admission(Moment(3_010)), Admission::None, "two seconds are over");
    // By itself, a call is the reason; five of those and it opens.
    for slot in 0..5 {
        let alone = FailedCall { slot, first: true, trunks: 20, responded: false, among_others: false };
        way.finished(CallResult::Failed(alone), false, 5, None, at(4_000), &mut rng);
    }
    assert!(way.is_open());
}
