//! The way to the registrars, that is the Requester: how many REGISTERs it can take at a time, and whether it is there.
//!
//! * The bound on requests in flight starts small, grows while answers come as quickly as before or that brings more of
//!   them (see [`climb`]), halves when answers stay away, and starts again where the Requester is unavailable. Registrars that
//!   do not answer must not lower it: one place that is held for half a minute again and again serves nobody else.
//! * Where a connection breaks that carried several calls, one call at a time is sent for a while: a Requester that ends its
//!   connection after each response, or breaks it at one REGISTER, fails nobody else then.
//! * The breaker opens when no connection can be made, or calls of several trunks fail in a row (see [`circuit_breaker`]);
//!   then one request at a time probes it.

mod circuit_breaker;
mod climb;
mod places;

use rand::Rng;

pub(super) use self::circuit_breaker::FailedCall;
use self::{circuit_breaker::CircuitBreaker, climb::Climb, places::Places};
use super::view::{Fault, Health};
use crate::registration::time::{Moment, Now};

/// What the bound starts with, at first and after each outage.
const INITIAL: f64 = 4.0;
/// An answer is as quick as before up to twice the usual time, or so many milliseconds more.
const SLACK_MS: f64 = 50.0;
/// It comes at once up to twice the usual time, or so many milliseconds more.
const AT_ONCE_MS: f64 = 10.0;
/// A Requester that answers so soon, in milliseconds, is not what another request waits for.
const PROMPT_MS: u64 = 1_000;
/// The bound is halved at most once in so many milliseconds.
const HALVE_PAUSE: u64 = 1_000;
/// Probes of one registrar, or of one EdgePort, at a time, of a Requester that takes many: one on a connection that has gone silent
/// lasts for half a minute, and the next one may have a better one. So many that the first has ended when the last one goes out.
const PROBES_EACH: u32 = 7;
/// So many calls in a row without an answer, and the Requester is reported as not answering.
const DEADLINES: u32 = 3;

/// First and longest time in which one call at a time is sent, in milliseconds, after a connection broke that carried several.
const SINGLY: (u64, u64) = (2_000, 60_000);
/// Without such a break for so long after that time, in milliseconds, it begins with the first again.
const CALM: u64 = 120_000;

/// What came of a call, as far as the Requester itself is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallResult {
    /// It answered. `brisk` is false for answers that had to wait for a silent registrar: they say nothing of its speed.
    Answered { brisk: bool },
    /// It did not answer in time. `silent` where the registrar leaves others unanswered too: that may be all there is to it.
    Deadline { silent: bool },
    /// No connection can be made to it.
    Unavailable,
    /// The call failed, or its connection broke.
    Failed(FailedCall),
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

/// See the module.
#[derive(Debug)]
pub(super) struct Way {
    limit: f64,
    max: f64,
    places: Places,
    /// The least time that an answer took, in milliseconds.
    baseline: f64,
    /// When the latest request was sent that was answered promptly.
    prompt_sent_at: Option<Moment>,
    halved_at: Option<Moment>,
    climb: Climb,
    /// When so many were in flight last that what can wait had to wait.
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

impl Way {
    pub fn new(max_in_flight: u32) -> Self {
        Self {
            limit: INITIAL.min(f64::from(max_in_flight)),
            max: f64::from(max_in_flight.max(1)),
            places: Places::default(),
            baseline: f64::INFINITY,
            prompt_sent_at: None,
            halved_at: None,
            climb: Climb::default(),
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

    /// Another Requester from now on: what was learnt of the one before says nothing. What is in flight is, still.
    pub fn replaced(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        places.forget();
        *self = Self { max: self.max, limit: INITIAL.min(self.max), places, ..Self::new(1) };
    }

    /// Who may be sent now.
    pub fn gate(&self, now: Moment) -> Gate {
        match self.breaker.probe_at() {
            Some(from) => {
                // Not even probes go above what the configuration allows, should they all hang.
                if now >= from && !self.is_full() { Gate::All } else { Gate::Shut }
            }
            None => {
                let active = f64::from(self.places.active());
                let doubt = f64::from(self.places.doubt());
                if self.is_single(now) {
                    return if active >= 1.0 + doubt || self.is_full() { Gate::Shut } else { Gate::All };
                }
                let limit = self.limit.floor() + doubt;
                if active >= limit || self.is_full() {
                    Gate::Shut
                } else if active >= self.for_all() + doubt {
                    Gate::Urgent
                } else {
                    Gate::All
                }
            }
        }
    }

    /// Neither the configuration nor the Requester allows one more.
    fn is_full(&self) -> bool {
        f64::from(self.places.in_flight()) >= self.max || self.places.is_full()
    }

    /// What the Requester says that it takes at a time.
    pub fn set_capacity(&mut self, capacity: Option<u32>) {
        self.places.set_capacity(capacity);
    }

    /// After how many milliseconds without a response a call is to be reported to [`Way::stall`].
    pub fn stalled_after(&self) -> u64 {
        self.places.stalled_after(self.baseline)
    }

    /// A call that was sent then has had no response for [`Way::stalled_after`]. Returns whether it holds no place any
    /// more; that is to be said again when it is over.
    pub fn stall(&mut self, sent_at: Moment) -> bool {
        self.places.stall(sent_at)
    }

    /// Probes of registrars that are down: how many at a time for each, and for all together.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn probes(&self) -> (u32, u32) {
        match self.places.capacity() {
            Some(capacity) => (PROBES_EACH, (capacity.min(self.max as u32) / 2).max(1)),
            // Each may hold one of two places for half a minute.
            None => (1, (self.limit as u32 / 2).max(1)),
        }
    }

    /// Places for everybody; the others are kept for what must not wait.
    fn for_all(&self) -> f64 {
        let limit = self.limit.floor();
        limit - (limit / 4.0).floor()
    }

    /// When the gate opens by itself.
    pub fn opens_at(&self) -> Option<Moment> {
        self.breaker.probe_at()
    }

    /// The trunks whose failed calls have opened the breaker, once: it was not their own failure.
    pub fn take_row(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.row)
    }

    /// Whether the breaker is open or probing.
    pub fn is_open(&self) -> bool {
        self.breaker.probe_at().is_some()
    }

    /// A request goes out.
    pub fn sent(&mut self, now: Moment) {
        self.places.sent();
        if self.for_all() <= f64::from(self.places.active()) {
            self.full_at = Some(now);
        }
        self.breaker.sent(now);
    }

    /// A request is over. Returns since when (Unix milliseconds) its health was what it is no longer, where that changed.
    /// `stalled` is what [`Way::stall`] said of it.
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
        self.places.ended(stalled, responded, now.at.minus(took_ms), now.at);
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
                // Where one that was sent later was answered promptly, the Requester is not what was slow: it waited for a
                // silent registrar.
                let sent_at = now.at.minus(took_ms);
                if self.prompt_sent_at.is_none_or(|prompt| prompt < sent_at) {
                    // Where there are few places, none may have been left for one that is answered.
                    self.halve(if silent { INITIAL } else { 1.0 }, now.at);
                }
                self.deadlines += 1;
                self.breaker.timed_out(now.at, rng);
                if self.deadlines >= DEADLINES {
                    return self.set_health(Some((Fault::NoAnswer, message)), now);
                }
            }
            CallResult::Unavailable => {
                if self.breaker.connection_failed(now.at, rng) {
                    self.start_small();
                }
                return self.set_health(Some((Fault::Unreachable, message)), now);
            }
            CallResult::Failed(call) if call.broke_among_others() && !self.is_open() => {
                self.send_singly(now.at)
            }
            CallResult::Failed(call) => {
                if let Some(row) = self.breaker.call_failed(call, now.at, rng) {
                    self.row = row;
                    self.start_small();
                }
                if self.is_open() {
                    return self.set_health(Some((Fault::Refused, message)), now);
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
            Some((until, pause)) if now.since(until) < CALM => (pause * 2).min(SINGLY.1),
            _ => SINGLY.0,
        };
        self.singly = Some((now.plus(pause), pause));
    }

    #[allow(clippy::cast_precision_loss)]
    fn grow(&mut self, took_ms: u64, now: Moment) {
        let (took, sent_at) = (took_ms as f64, now.minus(took_ms));
        self.baseline = self.baseline.min(took);
        let within = |slack: f64| took <= (2.0 * self.baseline).max(self.baseline + slack);
        let quick = within(SLACK_MS);
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
            let free = if within(AT_ONCE_MS) {
                climb::FREE_AT_ONCE
            } else if quick {
                climb::FREE
            } else {
                0.0
            };
            self.limit = self.climb.answered(self.limit, free, now).min(self.max);
        }
    }

    fn halve(&mut self, least: f64, now: Moment) {
        if self.limit > least && self.halved_at.is_none_or(|at| now.since(at) >= HALVE_PAUSE) {
            self.halved_at = Some(now);
            self.limit = (self.limit / 2.0).max(least);
            self.climb.forget();
        }
    }

    /// The breaker has opened: what was learnt before says nothing of how much it takes when it is back.
    fn start_small(&mut self) {
        self.limit = self.limit.min(INITIAL);
        self.climb.forget();
        self.places.forget();
    }

    fn set_health(&mut self, wrong: Option<(Fault, Option<&str>)>, now: Now) -> Option<u64> {
        self.health.update(wrong.map(|(fault, message)| (fault, message.unwrap_or_default().to_owned())), now)
    }

    /// No connection can be made any more, or again. A connection alone is no answer: where calls have failed, only the answer to one
    /// tells that the Requester works again. A load balancer with nothing behind it takes connections, too.
    pub fn link_changed(&mut self, lost: bool, now: Now) -> Option<u64> {
        let changed = std::mem::replace(&mut self.lost, lost) != lost;
        if !changed || (!lost && self.is_open()) {
            return None;
        }
        let wrong =
            (Fault::Unreachable, Some("the connection to the Requester is lost, and no new one can be made"));
        self.set_health(lost.then_some(wrong), now)
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// REGISTERs in flight that hold a place, and how many may.
    #[cfg(test)]
    pub fn active(&self) -> (u32, u32) {
        (self.places.active(), self.limit() + self.places.doubt())
    }

    pub fn in_flight(&self) -> u32 {
        self.places.in_flight()
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }
}

#[cfg(test)]
mod tests;
