//! The way to the registrars, that is the Requester: how many REGISTERs it can take at a time, and whether it
//! is there.
//!
//! * The bound on requests in flight starts small, grows while answers come as quickly as before or that
//!   brings more of them (see [`ramp_up`]), halves when answers stay away, and starts again where the
//!   Requester is unavailable. Registrars that do not answer must not lower it: one place that is held for
//!   half a minute again and again serves no one else.
//! * Where a connection breaks that carried several calls, one call at a time is sent for a while: a
//!   Requester that ends its connection after each response, or breaks it at one REGISTER, fails no one else
//!   then.
//! * The breaker opens when no connection can be made, or calls of several trunks fail in a row (see
//!   [`super::circuit_breaker`]); then one request at a time probes it.

mod occupancy;
mod ramp_up;

use rand::Rng;

use self::{occupancy::Occupancy, ramp_up::RampUp};
use super::circuit_breaker::CircuitBreaker;
pub(super) use super::circuit_breaker::FailedCall;
use super::view::{DependencyFailure, Health};
use crate::registration::{
    backoff::Backoff,
    time::{Moment, Now},
};

/// Bound at the start and after each outage.
const INITIAL_LIMIT: f64 = 4.0;
/// An answer is as quick as before up to twice the usual time, or so many milliseconds more.
const LATENCY_SLACK_MS: f64 = 50.0;
/// It comes at once up to twice the usual time, or so many milliseconds more.
const FAST_SLACK_MS: f64 = 10.0;
/// A Requester that answers so soon, in milliseconds, is not what another request waits for.
const FAST_RESPONSE_MS: u64 = 1_000;
/// The bound is halved at most once in so many milliseconds.
const MIN_HALVE_PERIOD_MS: u64 = 1_000;
/// Probes of one registrar, or of one EdgePort, at a time, of a Requester that takes many: one on a
/// connection that has gone silent lasts for half a minute, and the next one may have a better one. So many
/// that the first has ended when the last one goes out.
const MAX_PROBES_PER_TARGET: u32 = 7;
/// So many calls in a row without an answer, and the Requester is reported as not answering.
const MAX_TIMEOUTS_IN_A_ROW: u32 = 3;

/// Time in which one call at a time is sent, after a connection broke that carried several.
const SINGLY: Backoff = Backoff::new(2_000, 60_000);
/// Without such a break for so long after that time, in milliseconds, it begins with the first again.
const CALM: u64 = 120_000;

/// Result of a call, as far as the Requester itself is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallResult {
    /// It answered. `brisk` is false for answers that had to wait for a silent registrar: they say nothing of
    /// its speed.
    Answered { brisk: bool },
    /// It did not answer in time. `silent` where the registrar leaves others unanswered too: that may be all
    /// there is to it.
    Deadline { silent: bool },
    /// No connection can be made to it.
    Unavailable,
    /// The call failed, or its connection broke.
    Failed(FailedCall),
}

/// Requests that may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Everybody.
    All,
    /// Only what must not wait: the last places are kept for refreshes.
    UrgentOnly,
    /// No one.
    None,
}

/// Adaptive bound on requests in flight, and the circuit breaker beside it.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    limit: f64,
    max: f64,
    occupancy: Occupancy,
    /// The least time that an answer took, in milliseconds.
    baseline: f64,
    /// Time at which the latest request was sent that was answered promptly.
    prompt_sent_at: Option<Moment>,
    halved_at: Option<Moment>,
    ramp_up: RampUp,
    /// Latest time at which so many were in flight that what can wait had to wait.
    full_at: Option<Moment>,
    breaker: CircuitBreaker,
    /// Trunks of the row that opened the breaker, until they are taken.
    row: Vec<u32>,
    /// Until when one call at a time is sent, and for how long that is, in milliseconds.
    singly: Option<(Moment, u64)>,
    deadlines: u32,
    /// The connection is lost.
    lost: bool,
    health: Health,
}

impl ConcurrencyLimit {
    pub fn new(max_in_flight: u32) -> Self {
        Self {
            limit: INITIAL_LIMIT.min(f64::from(max_in_flight)),
            max: f64::from(max_in_flight.max(1)),
            occupancy: Occupancy::default(),
            baseline: f64::INFINITY,
            prompt_sent_at: None,
            halved_at: None,
            ramp_up: RampUp::default(),
            full_at: None,
            breaker: CircuitBreaker::default(),
            row: Vec::new(),
            singly: None,
            deadlines: 0,
            lost: false,
            health: Health::default(),
        }
    }

    /// Changes the bound that the configuration sets.
    pub fn set_max(&mut self, max_in_flight: u32) {
        self.max = f64::from(max_in_flight.max(1));
        self.limit = self.limit.min(self.max);
    }

    /// Another Requester from now on: what was learnt of the one before says nothing. What is in flight is,
    /// still.
    pub fn replaced(&mut self) {
        let mut occupancy = std::mem::take(&mut self.occupancy);
        occupancy.forget();
        *self = Self { max: self.max, limit: INITIAL_LIMIT.min(self.max), occupancy, ..Self::new(1) };
    }

    /// Returns who may be sent now.
    pub fn admission(&self, now: Moment) -> Admission {
        match self.breaker.probe_at() {
            Some(from) => {
                // Not even probes go above what the configuration allows, should they all hang.
                if now >= from && !self.is_full() { Admission::All } else { Admission::None }
            }
            None => {
                let active = f64::from(self.occupancy.active());
                let doubt = f64::from(self.occupancy.doubt());
                if self.is_single(now) {
                    return if active >= 1.0 + doubt || self.is_full() {
                        Admission::None
                    } else {
                        Admission::All
                    };
                }
                let limit = self.limit.floor() + doubt;
                if active >= limit || self.is_full() {
                    Admission::None
                } else if active >= self.shared_slots() + doubt {
                    Admission::UrgentOnly
                } else {
                    Admission::All
                }
            }
        }
    }

    /// Neither the configuration nor the Requester allows one more.
    fn is_full(&self) -> bool {
        f64::from(self.occupancy.in_flight()) >= self.max || self.occupancy.is_full()
    }

    /// Number of requests that the Requester says it takes at a time.
    pub fn set_capacity(&mut self, capacity: Option<u32>) {
        self.occupancy.set_capacity(capacity);
    }

    /// After how many milliseconds without a response a call is to be reported to
    /// [`ConcurrencyLimit::stall`].
    pub fn stalled_after(&self) -> u64 {
        self.occupancy.stalled_after(self.baseline)
    }

    /// A call that was sent then has had no response for [`ConcurrencyLimit::stalled_after`]. Returns whether
    /// it holds no place any more; that is to be said again when it is over.
    pub fn stall(&mut self, sent_at: Moment) -> bool {
        self.occupancy.stall(sent_at)
    }

    /// Probes of registrars that are down: how many at a time for each, and for all together.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn probes(&self) -> (u32, u32) {
        match self.occupancy.capacity() {
            Some(capacity) => (MAX_PROBES_PER_TARGET, (capacity.min(self.max as u32) / 2).max(1)),
            // Each may hold one of two places for half a minute.
            None => (1, (self.limit as u32 / 2).max(1)),
        }
    }

    /// Places for everybody; the others are kept for what must not wait.
    fn shared_slots(&self) -> f64 {
        let limit = self.limit.floor();
        limit - (limit / 4.0).floor()
    }

    /// Returns when the gate opens by itself.
    pub fn opens_at(&self) -> Option<Moment> {
        self.breaker.probe_at()
    }

    /// The trunks whose failed calls have opened the breaker, once: it was not their own failure.
    pub fn take_failed_trunks(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.row)
    }

    /// Returns whether the breaker is open or probing.
    pub fn is_open(&self) -> bool {
        self.breaker.probe_at().is_some()
    }

    /// A request goes out.
    pub fn sent(&mut self, now: Moment) {
        self.occupancy.sent();
        if self.shared_slots() <= f64::from(self.occupancy.active()) {
            self.full_at = Some(now);
        }
        self.breaker.sent(now);
    }

    /// A request is over. Returns since when (Unix milliseconds) its health was what it is no longer, where
    /// that changed. `stalled` is what [`ConcurrencyLimit::stall`] said of it.
    pub fn finished(
        &mut self,
        result: CallResult,
        stalled: bool,
        took_ms: u64,
        message: Option<&str>,
        now: Now,
        rng: &mut impl Rng,
    ) -> Option<u64> {
        let responded = matches!(
            result,
            CallResult::Answered { brisk: true } | CallResult::Failed(FailedCall { responded: true, .. })
        );
        self.occupancy.ended(stalled, responded, now.at.minus(took_ms), now.at);
        match result {
            CallResult::Answered { brisk } => {
                self.deadlines = 0;
                if brisk {
                    self.grow(took_ms, now.at);
                }
                self.breaker.succeeded();
                return self.set_health(None, now);
            }
            CallResult::Deadline { silent } => {
                // Where one that was sent later was answered promptly, the Requester is not what was slow: it
                // waited for a silent registrar.
                let sent_at = now.at.minus(took_ms);
                if self.prompt_sent_at.is_none_or(|prompt| prompt < sent_at) {
                    // Where there are few places, none may have been left for one that is answered.
                    self.back_off(if silent { INITIAL_LIMIT } else { 1.0 }, now.at);
                }
                self.deadlines += 1;
                self.breaker.timed_out(now.at, rng);
                if self.deadlines >= MAX_TIMEOUTS_IN_A_ROW {
                    return self.set_health(Some((DependencyFailure::Timeout, message)), now);
                }
            }
            CallResult::Unavailable => {
                if self.breaker.connection_failed(now.at, rng) {
                    self.reset_limit();
                }
                return self.set_health(Some((DependencyFailure::Unreachable, message)), now);
            }
            CallResult::Failed(call) if call.broke_among_others() && !self.is_open() => {
                self.send_singly(now.at)
            }
            CallResult::Failed(call) => {
                if let Some(row) = self.breaker.call_failed(call, now.at, rng) {
                    self.row = row;
                    self.reset_limit();
                }
                if self.is_open() {
                    return self.set_health(Some((DependencyFailure::Refused, message)), now);
                }
            }
        }
        None
    }

    fn is_single(&self, now: Moment) -> bool {
        self.singly.is_some_and(|(until, _)| now < until)
    }

    /// A connection broke that carried several calls. Those that broke with it say no more.
    fn send_singly(&mut self, now: Moment) {
        let pause = match self.singly {
            Some((until, _)) if now < until => return,
            Some((until, pause)) if now.since(until) < CALM => SINGLY.after(pause),
            _ => SINGLY.first(),
        };
        self.singly = Some((now.plus(pause), pause));
    }

    #[allow(clippy::cast_precision_loss)]
    fn grow(&mut self, took_ms: u64, now: Moment) {
        let (took, sent_at) = (took_ms as f64, now.minus(took_ms));
        self.baseline = self.baseline.min(took);
        let within = |slack: f64| took <= (2.0 * self.baseline).max(self.baseline + slack);
        let quick = within(LATENCY_SLACK_MS);
        if quick || took_ms <= FAST_RESPONSE_MS {
            self.prompt_sent_at = self.prompt_sent_at.max(Some(sent_at));
        }
        // A bound that was not used while this request was under way proves nothing.
        if self.full_at.is_none_or(|at| at < sent_at) {
            self.ramp_up.pause();
        } else if self.limit < INITIAL_LIMIT {
            // It answers again: as many as at a start are no risk, and too few to measure anything by.
            self.limit = (self.limit + 1.0).min(INITIAL_LIMIT).min(self.max);
        } else {
            let free = if within(FAST_SLACK_MS) {
                ramp_up::FAST_GROWTH_LIMIT
            } else if quick {
                ramp_up::FREE_GROWTH_LIMIT
            } else {
                0.0
            };
            self.limit = self.ramp_up.on_response(self.limit, free, now).min(self.max);
        }
    }

    fn back_off(&mut self, least: f64, now: Moment) {
        if self.limit > least && self.halved_at.is_none_or(|at| now.since(at) >= MIN_HALVE_PERIOD_MS) {
            self.halved_at = Some(now);
            self.limit = (self.limit / 2.0).max(least);
            self.ramp_up.forget();
        }
    }

    /// The breaker has opened: what was learnt before says nothing of how much it takes when it is back.
    fn reset_limit(&mut self) {
        self.limit = self.limit.min(INITIAL_LIMIT);
        self.ramp_up.forget();
        self.occupancy.forget();
    }

    fn set_health(&mut self, wrong: Option<(DependencyFailure, Option<&str>)>, now: Now) -> Option<u64> {
        self.health.update(wrong.map(|(fault, message)| (fault, message.unwrap_or_default().to_owned())), now)
    }

    /// No connection can be made any more, or again. A connection alone is no answer: where calls have
    /// failed, only the answer to one tells that the Requester works again. A load balancer with nothing
    /// behind it takes connections, too.
    pub fn link_changed(&mut self, lost: bool, now: Now) -> Option<u64> {
        let changed = std::mem::replace(&mut self.lost, lost) != lost;
        if !changed || (!lost && self.is_open()) {
            return None;
        }
        let wrong = (
            DependencyFailure::Unreachable,
            Some("the connection to the Requester is lost, and no new one can be made"),
        );
        self.set_health(lost.then_some(wrong), now)
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// REGISTERs in flight that hold a place, and how many may.
    #[cfg(test)]
    pub fn active(&self) -> (u32, u32) {
        (self.occupancy.active(), self.limit() + self.occupancy.doubt())
    }

    pub fn in_flight(&self) -> u32 {
        self.occupancy.in_flight()
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }
}

#[cfg(test)]
mod tests;
