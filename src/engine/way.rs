//! The way to the registrars, that is the Requester: how many REGISTERs it can take at a time, and whether it is there.
//!
//! * The bound on requests in flight starts small, grows while answers come as quickly as before or that brings more of
//!   them (see [`climb`]), and halves when answers stay away or the Requester is unavailable. Registrars that do not answer
//!   must not lower it: one place that is held for half a minute again and again serves nobody else.
//! * The breaker opens when the Requester is unavailable or refuses everything; then one request at a time probes it.

mod climb;

use rand::{Rng, RngExt};

use self::climb::Climb;
use super::view::{Fault, Health};
use crate::registration::time::{Moment, Now};

/// What the bound starts with, at first and after each outage.
const INITIAL: f64 = 4.0;
/// An answer is as quick as before up to twice the usual time, or so many milliseconds more.
const SLACK_MS: f64 = 50.0;
/// A Requester that answers so soon, in milliseconds, is not what another request waits for.
const PROMPT_MS: u64 = 1_000;
/// The bound is halved at most once in so many milliseconds.
const HALVE_PAUSE: u64 = 1_000;
/// First and longest pause between two probes, in milliseconds.
const PROBE_PAUSE: (u64, u64) = (250, 5_000);
/// So many refusals in a row, and the breaker opens. One alone may be one trunk's (a transport that is not set up).
const REFUSALS: u32 = 5;
/// So many calls in a row without an answer, and the Requester is reported as not answering.
const DEADLINES: u32 = 3;

/// What came of a call, as far as the Requester itself is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallResult {
    /// It answered. `brisk` is false for answers that had to wait for a silent registrar: they tell nothing of its speed.
    Answered { brisk: bool },
    /// It did not answer in time. `silent` where the registrar has answered nobody for a while: that may be all there is to it.
    Deadline { silent: bool },
    /// It cannot be reached.
    Unavailable,
    /// It answered with an error.
    Refused,
}

/// Who may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Everybody.
    All,
    /// Only what must not wait: the last places are kept for refreshes.
    Urgent,
    /// Nobody.
    Shut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaker {
    Closed,
    /// Open until then; the pause before the probe was so long.
    Open {
        until: Moment,
        pause: u64,
    },
    /// A probe is under way; it may be to a silent registrar, so another one goes out after a while.
    Probing {
        pause: u64,
        again_at: Moment,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Way {
    limit: f64,
    max: f64,
    in_flight: u32,
    /// The least time that an answer took, in milliseconds.
    baseline: f64,
    /// When the latest request was sent that was answered promptly.
    prompt_sent_at: Option<Moment>,
    halved_at: Option<Moment>,
    climb: Climb,
    /// When so many were in flight last that what can wait had to wait.
    full_at: Option<Moment>,
    breaker: Breaker,
    refusals: u32,
    deadlines: u32,
    health: Health,
}

impl Way {
    pub fn new(max_in_flight: u32) -> Self {
        Self {
            limit: INITIAL.min(f64::from(max_in_flight)),
            max: f64::from(max_in_flight.max(1)),
            in_flight: 0,
            baseline: f64::INFINITY,
            prompt_sent_at: None,
            halved_at: None,
            climb: Climb::default(),
            full_at: None,
            breaker: Breaker::Closed,
            refusals: 0,
            deadlines: 0,
            health: Health::default(),
        }
    }

    /// Changes the bound that the configuration sets.
    pub fn set_max(&mut self, max_in_flight: u32) {
        self.max = f64::from(max_in_flight.max(1));
        self.limit = self.limit.min(self.max);
    }

    /// Who may be sent now.
    pub fn gate(&self, now: Moment) -> Gate {
        match self.breaker {
            Breaker::Open { until: from, .. } | Breaker::Probing { again_at: from, .. } => {
                // Not even probes go above what the configuration allows, should they all hang.
                if now >= from && f64::from(self.in_flight) < self.max { Gate::All } else { Gate::Shut }
            }
            Breaker::Closed => {
                let (in_flight, limit) = (f64::from(self.in_flight), self.limit.floor());
                if in_flight >= limit {
                    Gate::Shut
                } else if in_flight >= self.for_all() {
                    Gate::Urgent
                } else {
                    Gate::All
                }
            }
        }
    }

    /// Places for everybody; the others are kept for what must not wait.
    fn for_all(&self) -> f64 {
        let limit = self.limit.floor();
        limit - (limit / 4.0).floor()
    }

    /// When the gate opens by itself.
    pub fn opens_at(&self) -> Option<Moment> {
        match self.breaker {
            Breaker::Open { until: from, .. } | Breaker::Probing { again_at: from, .. } => Some(from),
            Breaker::Closed => None,
        }
    }

    /// Whether the breaker is open or probing.
    pub fn is_open(&self) -> bool {
        self.breaker != Breaker::Closed
    }

    /// A request goes out.
    pub fn sent(&mut self, now: Moment) {
        self.in_flight += 1;
        if self.for_all() <= f64::from(self.in_flight) {
            self.full_at = Some(now);
        }
        if let Breaker::Open { pause, .. } | Breaker::Probing { pause, .. } = self.breaker {
            self.breaker = Breaker::Probing { pause, again_at: now.plus(PROBE_PAUSE.1) };
        }
    }

    /// A request is over. Returns whether that brought the Requester back after an outage.
    pub fn finished(
        &mut self,
        result: CallResult,
        took_ms: u64,
        message: Option<&str>,
        now: Now,
        rng: &mut impl Rng,
    ) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        match result {
            CallResult::Answered { brisk } => {
                (self.refusals, self.deadlines) = (0, 0);
                if brisk {
                    self.grow(took_ms, now.at);
                }
                self.set_health(None, now);
                let recovered = self.is_open();
                if recovered {
                    self.breaker = Breaker::Closed;
                }
                return recovered;
            }
            CallResult::Deadline { silent } => {
                // Where one that was sent later was answered promptly, the Requester is not what was slow: it waited for a
                // silent registrar.
                let sent_at = now.at.minus(took_ms);
                if self.prompt_sent_at.is_none_or(|prompt| prompt < sent_at) {
                    // Where there are few places, none may have been left for one that is answered.
                    self.halve(if silent { INITIAL } else { 1.0 }, now.at);
                }
                self.deadlines += 1;
                if self.deadlines >= DEADLINES {
                    self.set_health(Some((Fault::NoAnswer, message)), now);
                }
                self.probe_failed(now.at, rng);
            }
            CallResult::Unavailable => {
                self.set_health(Some((Fault::Unreachable, message)), now);
                self.trip(now.at, rng);
            }
            CallResult::Refused => {
                self.refusals += 1;
                if self.refusals >= REFUSALS {
                    self.set_health(Some((Fault::Refused, message)), now);
                    self.trip(now.at, rng);
                } else {
                    self.probe_failed(now.at, rng);
                }
            }
        }
        false
    }

    #[allow(clippy::cast_precision_loss)]
    fn grow(&mut self, took_ms: u64, now: Moment) {
        let (took, sent_at) = (took_ms as f64, now.minus(took_ms));
        self.baseline = self.baseline.min(took);
        let quick = took <= (2.0 * self.baseline).max(self.baseline + SLACK_MS);
        if quick || took_ms <= PROMPT_MS {
            self.prompt_sent_at = self.prompt_sent_at.max(Some(sent_at));
        }
        // A bound that was not used while this request was under way proves nothing.
        if self.full_at.is_none_or(|at| at < sent_at) {
            self.climb.pause();
        } else if self.limit < INITIAL {
            // It answers again: as many as at a start are no risk, and too few to measure anything by.
            self.limit = (self.limit + 1.0).min(INITIAL).min(self.max);
        } else {
            self.limit = self.climb.answered(self.limit, quick, now).min(self.max);
        }
    }

    fn halve(&mut self, least: f64, now: Moment) {
        if self.limit > least && self.halved_at.is_none_or(|at| now.since(at) >= HALVE_PAUSE) {
            self.halved_at = Some(now);
            self.limit = (self.limit / 2.0).max(least);
            self.climb.forget();
        }
    }

    fn trip(&mut self, now: Moment, rng: &mut impl Rng) {
        match self.breaker {
            Breaker::Closed => {
                self.limit = self.limit.min(INITIAL);
                self.open(PROBE_PAUSE.0, now, rng);
            }
            Breaker::Probing { .. } => self.probe_failed(now, rng),
            // Others that were under way when it opened.
            Breaker::Open { .. } => {}
        }
    }

    fn probe_failed(&mut self, now: Moment, rng: &mut impl Rng) {
        if let Breaker::Probing { pause, .. } = self.breaker {
            self.open((pause * 2).min(PROBE_PAUSE.1), now, rng);
        }
    }

    fn open(&mut self, pause: u64, now: Moment, rng: &mut impl Rng) {
        let jittered = rng.random_range(pause / 2..=pause);
        self.breaker = Breaker::Open { until: now.plus(jittered), pause };
    }

    fn set_health(&mut self, wrong: Option<(Fault, Option<&str>)>, now: Now) {
        let ok = wrong.is_none();
        if self.health.ok != Some(ok) {
            self.health.since_ms = now.unix_ms;
        }
        self.health.ok = Some(ok);
        self.health.reason = wrong.map(|(fault, _)| fault);
        self.health.message = wrong.and_then(|(_, message)| message).map(str::to_owned);
    }

    /// The connection was lost, or is back. A connection alone is no answer: where calls have failed, only the answer to one
    /// tells that the Requester works again. A load balancer with nothing behind it takes connections, too.
    pub fn link_changed(&mut self, lost: bool, now: Now) {
        if !lost && self.is_open() {
            return;
        }
        let wrong = (Fault::Unreachable, Some("the connection to the Requester is lost"));
        self.set_health(lost.then_some(wrong), now);
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }
}

#[cfg(test)]
mod tests {
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
                self.way.finished(result, took_ms, Some("down"), self.now(), &mut self.rng);
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
            bench.way.finished(QUICK, done - sent, None, bench.now(), &mut bench.rng);
            if bench.at > began + for_ms / 2 {
                most = most.max(bench.way.limit());
            }
        }
        while let Some((sent, done)) = busy.pop_front() {
            bench.at = bench.at.max(done);
            bench.way.finished(QUICK, bench.at - sent, None, bench.now(), &mut bench.rng);
        }
        (most, bench.way.limit())
    }

    #[test]
    fn the_bound_ends_where_more_requests_only_wait_for_each_other() {
        for places in [4, 20, 100, 300] {
            let (most, last) = pressed(&mut Bench::new(1_000), places, 10, 200_000);
            assert!(
                last >= places && most <= (places * 5 / 2).max(100),
                "{most}, {last} for {places} places"
            );
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
            bench.way.finished(QUICK, took_ms, None, bench.now(), &mut bench.rng);
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
            bench.way.finished(DEADLINE, 15_010, None, bench.now(), &mut bench.rng);
        }
        assert!(bench.way.limit() >= before);
        // Here the others wait as well.
        let before = bench.way.limit();
        bench.way.sent(Moment(bench.at));
        bench.at += 15_000;
        bench.round(QUICK, 9_000);
        bench.way.finished(DEADLINE, 24_000, None, bench.now(), &mut bench.rng);
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
        bench.way.finished(DEADLINE, 15_300, None, bench.now(), &mut bench.rng);
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
        assert!(bench.way.finished(QUICK, 5, None, bench.now(), &mut bench.rng), "not reported as recovered");
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

    #[test]
    fn one_refusal_stops_nobody_many_in_a_row_do() {
        let mut bench = Bench::new(100);
        for _ in 0..20 {
            bench.way.sent(Moment(bench.at));
            bench.way.finished(CallResult::Refused, 1, Some("no"), bench.now(), &mut bench.rng);
            bench.way.sent(Moment(bench.at));
            bench.way.finished(QUICK, 1, None, bench.now(), &mut bench.rng);
        }
        assert!(!bench.way.is_open());
        for _ in 0..5 {
            bench.way.sent(Moment(bench.at));
            bench.way.finished(CallResult::Refused, 1, Some("no"), bench.now(), &mut bench.rng);
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
}
