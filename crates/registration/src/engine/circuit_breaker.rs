//! Circuit breaker for calls to the Requester: what many calls say together.
//!
//! Three things are kept apart:
//!
//! * **A connection.** Where none can be made, no call can succeed: the breaker opens at once. That one ends
//!   in order, or is replaced, is no event (`routr_registry::grpc::connection`).
//! * **A call.** A status on a live connection (UNAVAILABLE, UNKNOWN, a proxy's HTTP 502) is the failure of
//!   that call: its trunk backs off, the others go on. So is a connection that breaks while the call is under
//!   way, for the call may be the reason.
//! * **Many calls.** Where calls of several trunks fail, with no response between them, the Requester counts
//!   as failing and the breaker opens. A trunk whose call before failed as well is no new evidence, unless
//!   all trunks fail: a few trunks that fail for ever never open it.
//!
//! While it is open, one call at a time probes. A trunk whose call failed goes behind all others
//! ([`crate::registration::Registration::urgency`]), so no few trunks are always the probes; and as long as
//! each probe is by another trunk, the pause between them stays short, so that one trunk whose calls would
//! succeed is soon found among many.

use std::collections::HashSet;

use rand::{Rng, RngExt};

use crate::registration::{backoff::Backoff, time::Moment};

/// Pause between two probes.
const PROBE_PAUSE: Backoff = Backoff::new(250, 5_000);
/// Trunks whose calls have to fail in a row for the breaker to open: half of all, within these bounds.
const FAILING_TRUNKS_TO_OPEN: (usize, usize) = (2, 5);
/// Trunks of a row that are remembered.
const MAX_REMEMBERED_TRUNKS: usize = 64;

/// A call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FailedCall {
    /// Slot of its trunk.
    pub slot: u32,
    /// The trunk's call before this one did not fail.
    pub first: bool,
    /// Number of trunks there are.
    pub trunks: usize,
    /// A response came, rather than that the connection broke.
    pub responded: bool,
    /// Other calls were under way at the same time, or the connection had brought a response to another one.
    pub among_others: bool,
}

impl FailedCall {
    /// Returns whether it broke with a connection that carried other calls as well: none of them is known to
    /// be the reason.
    pub fn broke_among_others(&self) -> bool {
        !self.responded && self.among_others
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// Open until then; the pause before the probe has that length, in milliseconds.
    Open { until: Moment, pause: u64 },
    /// A probe is under way; it may be to a silent registrar, so another one goes out after a while.
    Probing { pause: u64, again_at: Moment },
}

/// Circuit breaker for calls to the Requester.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    state: State,
    /// Trunks whose calls failed since the last response, and how many of them had not failed before.
    row: HashSet<u32>,
    new_in_row: usize,
}

impl CircuitBreaker {
    /// Returns when the next probe may go; `None` while it is closed.
    pub fn probe_at(&self) -> Option<Moment> {
        match self.state {
            State::Closed => None,
            State::Open { until: from, .. } | State::Probing { again_at: from, .. } => Some(from),
        }
    }

    /// A call goes out; a probe, where it is open.
    pub fn sent(&mut self, now: Moment) {
        if let State::Open { pause, .. } | State::Probing { pause, .. } = self.state {
            self.state = State::Probing { pause, again_at: now.plus(PROBE_PAUSE.max()) };
        }
    }

    /// A response came.
    pub fn succeeded(&mut self) {
        self.state = State::Closed;
        self.forget_failures();
    }

    /// No connection can be made. Returns whether that opened it.
    pub fn connection_failed(&mut self, now: Moment, rng: &mut impl Rng) -> bool {
        match self.state {
            State::Closed => {
                self.open(PROBE_PAUSE.first(), now, rng);
                return true;
            }
            State::Probing { pause, .. } => self.open(PROBE_PAUSE.after(pause), now, rng),
            // Others that were under way when it opened.
            State::Open { .. } => {}
        }
        false
    }

    /// A call failed. Returns the trunks of the row where that opened it: what they met with was not theirs.
    pub fn call_failed(&mut self, call: FailedCall, now: Moment, rng: &mut impl Rng) -> Option<Vec<u32>> {
        let new = self.row.len() < MAX_REMEMBERED_TRUNKS && self.row.insert(call.slot);
        self.new_in_row += usize::from(new && call.first);
        match self.state {
            State::Closed => {
                let (least, most) = FAILING_TRUNKS_TO_OPEN;
                let several = self.new_in_row >= call.trunks.div_ceil(2).clamp(least, most);
                let all = self.row.len() >= call.trunks.max(least);
                if several || all {
                    self.open(PROBE_PAUSE.first(), now, rng);
                    let mut row: Vec<u32> = self.row.iter().copied().collect();
                    // In an order that does not depend on the hasher.
                    row.sort_unstable();
                    self.forget_failures();
                    return Some(row);
                }
            }
            State::Probing { .. } if call.first => self.open(PROBE_PAUSE.first(), now, rng),
            State::Probing { pause, .. } => self.open(PROBE_PAUSE.after(pause), now, rng),
            State::Open { .. } => {}
        }
        None
    }

    /// A call timed out: as a probe it has failed, and otherwise it says nothing.
    pub fn timed_out(&mut self, now: Moment, rng: &mut impl Rng) {
        if let State::Probing { pause, .. } = self.state {
            self.open(PROBE_PAUSE.after(pause), now, rng);
        }
    }

    fn open(&mut self, pause: u64, now: Moment, rng: &mut impl Rng) {
        let jittered = rng.random_range(pause / 2..=pause);
        self.state = State::Open { until: now.plus(jittered), pause };
    }

    fn forget_failures(&mut self) {
        self.row.clear();
        self.new_in_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    fn fail(breaker: &mut CircuitBreaker, slot: u32, first: bool, trunks: usize) -> bool {
        let call = FailedCall { slot, first, trunks, responded: true, among_others: true };
        breaker.call_failed(call, Moment(1_000), &mut SmallRng::seed_from_u64(slot.into())).is_some()
    }

    #[test]
    fn a_few_trunks_that_fail_for_ever_never_open_it_and_several_in_a_row_do() {
        let mut breaker = CircuitBreaker::default();
        for round in 0..100 {
            for slot in 0..3 {
                assert!(!fail(&mut breaker, slot, round == 0, 20), "{round} {slot}");
            }
        }
        assert!(!fail(&mut breaker, 3, true, 20));
        breaker.succeeded();
        for slot in 4..8 {
            assert!(!fail(&mut breaker, slot, true, 20));
        }
        assert!(fail(&mut breaker, 8, true, 20));
        assert!(breaker.probe_at().is_some());
        breaker.succeeded();
        assert_eq!(breaker.probe_at(), None);
    }

    #[test]
    fn all_of_few_trunks_open_it_even_when_they_failed_before() {
        let mut breaker = CircuitBreaker::default();
        assert!(!fail(&mut breaker, 1, false, 3) && !fail(&mut breaker, 2, false, 3));
        assert!(fail(&mut breaker, 3, false, 3));
        let mut alone = CircuitBreaker::default();
        assert!((0..50).all(|_| !fail(&mut alone, 1, false, 1)), "one trunk's failures are its own");
    }

    #[test]
    fn probes_by_other_trunks_follow_soon_and_those_by_the_same_ones_ever_later() {
        let mut breaker = CircuitBreaker::default();
        (0..5).for_each(|slot| _ = fail(&mut breaker, slot, true, 1_000));
        for slot in 5..100 {
            breaker.sent(Moment(1_000));
            fail(&mut breaker, slot, true, 1_000);
            assert!(breaker.probe_at().unwrap().since(Moment(1_000)) <= 250);
        }
        for _ in 0..8 {
            breaker.sent(Moment(1_000));
            fail(&mut breaker, 7, false, 1_000);
        }
        assert!(breaker.probe_at().unwrap().since(Moment(1_000)) >= 2_500);
    }
}
