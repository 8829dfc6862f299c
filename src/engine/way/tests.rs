use rand::{SeedableRng, rngs::SmallRng};

use super::*;

struct Bench {
    way: Way,
    at: u64,
    rng: SmallRng,
}

impl Bench {
    fn new(max: u32) -> Self {
        Self { way: Way::new(max), at: 1_000_000, rng: SmallRng::seed_from_u64(7) }
    }

    fn now(&self) -> Now {
        Now { at: Moment(self.at), unix_ms: self.at }
    }

    /// Sends as many as the gate lets through, and answers them all.
    fn round(&mut self, result: CallResult, took_ms: u64) -> u32 {
        let mut sent = 0;
        while self.way.gate(Moment(self.at)) != Gate::Shut {
            self.way.sent(Moment(self.at));
            sent += 1;
        }
        self.at += took_ms;
        for _ in 0..sent {
            self.way.finished(result, false, took_ms, Some("down"), self.now(), &mut self.rng);
        }
        sent
    }
}

const QUICK: CallResult = CallResult::Answered { brisk: true };
const DEADLINE: CallResult = CallResult::Deadline { silent: false };

#[test]
fn the_bound_starts_small_and_doubles_while_answers_stay_quick() {
    let mut bench = Bench::new(1_000);
    let rounds: Vec<u32> = (0..5).map(|_| bench.round(QUICK, 10)).collect();
    assert_eq!(rounds[0], 4);
    assert!(rounds.windows(2).all(|pair| pair[1] > pair[0] * 5 / 4), "{rounds:?}");
    for _ in 0..150 {
        bench.round(QUICK, 10);
    }
    assert_eq!(bench.way.limit(), 1_000);
}

/// Sends as much as the gate lets through for so many milliseconds to a Requester that takes so many at a time, each for
/// `period_ms`, while the others wait. Returns the highest bound of the second half, and the last.
fn pressed(bench: &mut Bench, places: u32, period_ms: u64, for_ms: u64) -> (u32, u32) {
    let mut busy: std::collections::VecDeque<(u64, u64)> = std::collections::VecDeque::new();
    let (began, mut most) = (bench.at, 0);
    let mut free: std::collections::BinaryHeap<_> =
        (0..places).map(|_| std::cmp::Reverse(bench.at)).collect();
    while bench.at < began + for_ms {
        while bench.way.gate(Moment(bench.at)) != Gate::Shut {
            bench.way.sent(Moment(bench.at));
            let std::cmp::Reverse(from) = free.pop().unwrap();
            let until = from.max(bench.at) + period_ms;
            free.push(std::cmp::Reverse(until));
            busy.push_back((bench.at, until));
        }
        let (sent, done) = busy.pop_front().unwrap();
        bench.at = done;
        bench.way.finished(QUICK, false, done - sent, None, bench.now(), &mut bench.rng);
        if bench.at > began + for_ms / 2 {
            most = most.max(bench.way.limit());
        }
    }
    while let Some((sent, done)) = busy.pop_front() {
        bench.at = bench.at.max(done);
        bench.way.finished(QUICK, false, bench.at - sent, None, bench.now(), &mut bench.rng);
    }
    (most, bench.way.limit())
}

#[test]
fn the_bound_ends_where_more_requests_only_wait_for_each_other() {
    // A hundred answer twice as many within twice the time, so the bound grows freely as far as it ever does; from there a step is
    // tried.
    for (places, bound) in [(4, 100), (20, 100), (100, 320), (300, 750)] {
        let (most, last) = pressed(&mut Bench::new(1_000), places, 10, 200_000);
        assert!(last >= places && most <= bound, "{most}, {last} for {places} places");
    }
    assert_eq!(pressed(&mut Bench::new(1_000), 5_000, 10, 200_000).1, 1_000);
    // Two places of half a second, like the Requester that Routr brings.
    let (most, last) = pressed(&mut Bench::new(1_000), 2, 500, 3_600_000);
    assert!(most <= 20 && last <= 12, "{most}, {last}");
}

#[test]
fn answers_that_take_longer_hold_the_bound_down_only_where_they_wait_for_each_other() {
    // A registrar far away, or a busy machine, after one that answered at once.
    for period in [70, 150, 400] {
        let mut bench = Bench::new(1_000);
        bench.round(QUICK, 1);
        let (_, last) = pressed(&mut bench, 5_000, period, period * 60);
        assert!(last >= 60, "{last} with {period} ms");
    }
    let mut bench = Bench::new(1_000);
    bench.round(QUICK, 1);
    let (most, _) = pressed(&mut bench, 8, 150, 600_000);
    assert!(most <= 32, "{most}");
}

#[test]
fn a_bound_that_is_not_used_does_not_grow() {
    let mut bench = Bench::new(1_000);
    for took_ms in std::iter::repeat_n(1, 100).chain(std::iter::repeat_n(500, 100)) {
        bench.way.sent(Moment(bench.at));
        bench.at += took_ms;
        bench.way.finished(QUICK, false, took_ms, None, bench.now(), &mut bench.rng);
    }
    assert_eq!(bench.way.limit(), 4);
}

#[test]
fn a_silent_registrar_does_not_lower_the_bound_where_the_requester_answers_others_as_quickly_as_ever() {
    let mut bench = Bench::new(1_000);
    bench.round(QUICK, 10);
    let before = bench.way.limit();
    for _ in 0..20 {
        bench.way.sent(Moment(bench.at));
        bench.at += 15_000;
        bench.round(QUICK, 10);
        bench.way.finished(DEADLINE, false, 15_010, None, bench.now(), &mut bench.rng);
    }
    assert!(bench.way.limit() >= before);
    // Here the others wait as well.
    let before = bench.way.limit();
    bench.way.sent(Moment(bench.at));
    bench.at += 15_000;
    bench.round(QUICK, 9_000);
    bench.way.finished(DEADLINE, false, 24_000, None, bench.now(), &mut bench.rng);
    assert_eq!(bench.way.limit(), before / 2);
}

#[test]
fn a_registrar_known_as_silent_never_takes_the_last_places_away() {
    let mut bench = Bench::new(1_000);
    for _ in 0..8 {
        bench.round(QUICK, 10);
    }
    for _ in 0..20 {
        bench.round(CallResult::Deadline { silent: true }, 30_000);
    }
    assert_eq!(bench.way.limit(), 4);
    // Nor does it raise the bound where that is lower.
    let mut bench = Bench::new(2);
    bench.round(CallResult::Deadline { silent: true }, 30_000);
    assert_eq!(bench.way.limit(), 2);
}

#[test]
fn as_many_places_as_at_a_start_are_there_again_as_soon_as_there_are_answers_whatever_they_took() {
    let mut bench = Bench::new(1_000);
    bench.round(QUICK, 1);
    for _ in 0..20 {
        bench.round(DEADLINE, 40_000);
    }
    assert_eq!(bench.way.limit(), 1);
    // Each takes a place, and another one is silent beside it: a rate of answers would not rise.
    for _ in 0..3 {
        bench.round(QUICK, 150);
    }
    assert_eq!(bench.way.limit(), 4);
    bench.round(QUICK, 150);
    assert_eq!(bench.way.limit(), 4, "beyond that it has to pay");
}

#[test]
fn an_answer_that_is_later_than_the_least_but_prompt_shows_who_is_silent() {
    let mut bench = Bench::new(1_000);
    bench.round(QUICK, 10);
    let before = bench.way.limit();
    bench.way.sent(Moment(bench.at));
    bench.at += 15_000;
    bench.round(QUICK, 300);
    bench.way.finished(DEADLINE, false, 15_300, None, bench.now(), &mut bench.rng);
    assert_eq!(bench.way.limit(), before);
}

#[test]
fn the_bound_halves_at_timeouts_and_never_reaches_zero() {
    let mut bench = Bench::new(1_000);
    for _ in 0..8 {
        bench.round(QUICK, 10);
    }
    let before = bench.way.limit();
    bench.round(DEADLINE, 40_000);
    assert_eq!(bench.way.limit(), before / 2);
    for _ in 0..20 {
        assert!(bench.round(DEADLINE, 40_000) > 0);
    }
    assert_eq!(bench.way.limit(), 1);
    assert_eq!(bench.way.health().ok, Some(false));
}

#[test]
fn an_unavailable_requester_is_probed_by_one_request_at_a_time() {
    let mut bench = Bench::new(1_000);
    for _ in 0..4 {
        bench.round(QUICK, 10);
    }
    bench.round(CallResult::Unavailable, 1);
    assert_eq!(bench.way.gate(Moment(bench.at)), Gate::Shut);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let opens = bench.way.opens_at().unwrap();
        pauses.push(opens.since(Moment(bench.at)));
        bench.at = opens.0;
        assert_eq!(bench.round(CallResult::Unavailable, 1), 1);
    }
    assert!(pauses.iter().all(|pause| *pause <= 5_000), "{pauses:?}");
    assert!(pauses[11] >= 2_500, "{pauses:?}");
    bench.at = bench.way.opens_at().unwrap().0;
    bench.way.sent(Moment(bench.at));
    let change = bench.way.finished(QUICK, false, 5, None, bench.now(), &mut bench.rng);
    assert!(change.is_some(), "not reported as recovered");
    assert!(!bench.way.is_open());
    assert!(bench.way.limit() <= 5, "a burst after the outage: {}", bench.way.limit());
}

#[test]
fn a_connection_that_is_back_proves_nothing_while_calls_fail() {
    let mut bench = Bench::new(10);
    bench.way.link_changed(true, bench.now());
    assert_eq!(bench.way.health().ok, Some(false));
    bench.way.link_changed(false, bench.now());
    assert_eq!(bench.way.health().ok, Some(true), "nobody called meanwhile");

    bench.round(CallResult::Unavailable, 1);
    bench.way.link_changed(true, bench.now());
    bench.way.link_changed(false, bench.now());
    assert_eq!(bench.way.health().ok, Some(false));
    bench.at = bench.way.opens_at().unwrap().0;
    bench.round(QUICK, 1);
    assert_eq!(bench.way.health().ok, Some(true));
}

#[test]
fn a_probe_that_is_not_answered_is_followed_by_another() {
    let mut bench = Bench::new(10);
    bench.round(CallResult::Unavailable, 1);
    bench.at = bench.way.opens_at().unwrap().0;
    bench.way.sent(Moment(bench.at));
    assert_eq!(bench.way.gate(Moment(bench.at + 4_999)), Gate::Shut);
    bench.at += 5_000;
    assert_eq!(bench.way.opens_at(), Some(Moment(bench.at)));
    assert_eq!(bench.round(QUICK, 1), 1);
    assert!(!bench.way.is_open());
}

fn refused(slot: u32) -> CallResult {
    CallResult::Failed(FailedCall { slot, first: true, trunks: 100, responded: true, among_others: true })
}

#[test]
fn one_refusal_stops_nobody_many_in_a_row_do() {
    let mut bench = Bench::new(100);
    for slot in 0..20 {
        bench.way.sent(Moment(bench.at));
        bench.way.finished(refused(slot), false, 1, Some("no"), bench.now(), &mut bench.rng);
        bench.way.sent(Moment(bench.at));
        bench.way.finished(QUICK, false, 1, None, bench.now(), &mut bench.rng);
    }
    assert!(!bench.way.is_open());
    for slot in 0..5 {
        bench.way.sent(Moment(bench.at));
        bench.way.finished(refused(slot), false, 1, Some("no"), bench.now(), &mut bench.rng);
    }
    assert!(bench.way.is_open());
    assert_eq!(bench.way.health().message.as_deref(), Some("no"));
}

#[test]
fn the_last_places_are_kept_for_refreshes() {
    let mut bench = Bench::new(1_000);
    for _ in 0..4 {
        bench.round(QUICK, 10);
    }
    let limit = bench.way.limit();
    for _ in 0..limit - limit / 4 {
        assert_eq!(bench.way.gate(Moment(bench.at)), Gate::All);
        bench.way.sent(Moment(bench.at));
    }
    assert_eq!(bench.way.gate(Moment(bench.at)), Gate::Urgent);
}

#[test]
fn after_an_outage_the_bound_starts_small_whatever_was_being_measured_before() {
    // Some of these end in the middle of a step up.
    for periods in 30..60 {
        let mut bench = Bench::new(1_000);
        bench.round(QUICK, 1);
        pressed(&mut bench, 5_000, 150, 150 * periods);
        assert!(bench.way.limit() > 64, "{}", bench.way.limit());
        bench.way.sent(Moment(bench.at));
        bench.way.finished(CallResult::Unavailable, false, 0, None, bench.now(), &mut bench.rng);
        bench.at += 10_000;
        for _ in 0..8 {
            bench.round(QUICK, 150);
            assert!(bench.way.limit() <= 64, "{} after {periods} periods", bench.way.limit());
        }
    }
}

#[test]
fn another_requester_is_got_to_know_anew() {
    let mut bench = Bench::new(1_000);
    for _ in 0..20 {
        bench.round(QUICK, 1);
    }
    bench.way.sent(Moment(bench.at));
    bench.way.replaced();
    assert_eq!((bench.way.limit(), bench.way.in_flight(), bench.way.health().ok), (4, 1, None));
    assert_eq!(bench.way.gate(Moment(bench.at)), Gate::All);
}

#[test]
fn after_a_break_among_several_calls_they_go_one_at_a_time_for_a_while() {
    let mut way = Way::new(1_000);
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
    assert_eq!(way.gate(Moment(1_006)), Gate::All);
    way.sent(Moment(1_006));
    assert_eq!(way.gate(Moment(1_006)), Gate::Shut);
    way.finished(answered, false, 5, None, at(1_011), &mut rng);
    assert_eq!(way.gate(Moment(1_011)), Gate::All);
    way.sent(Moment(1_011));
    assert_eq!(way.gate(Moment(3_000)), Gate::Shut);
    assert_ne!(way.gate(Moment(3_010)), Gate::Shut, "two seconds are over");
    // By itself, a call is the reason; five of those and it opens.
    for slot in 0..5 {
        let alone = FailedCall { slot, first: true, trunks: 20, responded: false, among_others: false };
        way.finished(CallResult::Failed(alone), false, 5, None, at(4_000), &mut rng);
    }
    assert!(way.is_open());
}
