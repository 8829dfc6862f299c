//! Places in flight, and which of them are as good as free.
//!
//! A call to a registrar that does not respond lasts for half a minute, and says nothing of the Requester.
//! One that is older than a call usually takes counts as *stalled* and leaves its place to another, as far as
//! the Requester can take more at a time: as many as it says; where it does not say so, only a few more than
//! have been seen to be overtaken by others.

use crate::registration::time::Moment;

/// After so many milliseconds without a response a call is stalled, at the least and at the most.
const STALLED_AFTER_MS: (u64, u64) = (300, 3_000);
/// Stalled calls of a Requester that says nothing and has not responded so far.
const MAX_STALLED_UNPROVEN: u32 = 12;
/// The same for one that has: so many beyond those that were overtaken.
const MAX_STALLED_BEYOND: u32 = 1;
/// Places that doubt may add while nothing at all comes back, in all.
const MAX_EXTRA_SLOTS: u32 = 512;

/// Places in flight.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    in_flight: u32,
    stalled: u32,
    /// Number of requests that the Requester says it takes at a time.
    capacity: Option<u32>,
    /// The most stalled calls that a response has overtaken.
    overtaken: u32,
    responded: bool,
    /// Times at which something came back last, and at which the newest of the stalled calls was sent.
    responded_at: Moment,
    newest_stalled: Moment,
}

impl Occupancy {
    /// All calls under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Those of them that hold a place.
    pub fn active(&self) -> u32 {
        self.in_flight - self.stalled
    }

    /// Returns whether there is a place beyond all that the Requester can take.
    pub fn is_full(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.in_flight >= capacity)
    }

    /// Places to add while nothing comes back and it is not known whether the Requester or the registrars are
    /// silent: as many as are stalled, so that they double each time. A Requester that says how much it takes
    /// can stand them.
    pub fn doubt(&self) -> u32 {
        if self.capacity.is_some() && self.responded_at < self.newest_stalled {
            self.stalled.min(MAX_EXTRA_SLOTS)
        } else {
            0
        }
    }

    /// Sets the number of requests that the Requester says it takes at a time; `None` where it does not say.
    pub fn set_capacity(&mut self, capacity: Option<u32>) {
        self.capacity = capacity.map(|capacity| capacity.max(1));
    }

    /// Returns what it says that it takes.
    pub fn capacity(&self) -> Option<u32> {
        self.capacity
    }

    /// After how many milliseconds a call is stalled, where the quickest one took `baseline` ms.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn stalled_after(&self, baseline: f64) -> u64 {
        if self.capacity.is_some() || !baseline.is_finite() {
            return STALLED_AFTER_MS.0;
        }
        ((baseline * 4.0) as u64).clamp(STALLED_AFTER_MS.0, STALLED_AFTER_MS.1)
    }

    pub fn sent(&mut self) {
        self.in_flight += 1;
    }

    /// A call has lasted for [`Occupancy::stalled_after`]. Returns whether it leaves its place to another.
    pub fn stall(&mut self, sent_at: Moment) -> bool {
        let most = match (self.capacity, self.responded) {
            (Some(capacity), _) => capacity,
            (None, false) => MAX_STALLED_UNPROVEN,
            (None, true) => self.overtaken.saturating_add(MAX_STALLED_BEYOND + self.overtaken / 2),
        };
        let stalls = self.stalled < most;
        if stalls {
            self.stalled += 1;
            self.newest_stalled = self.newest_stalled.max(sent_at);
        }
        stalls
    }

    /// A call that was sent then is over; `responded` where something came back for it.
    pub fn ended(&mut self, stalled: bool, responded: bool, sent_at: Moment, now: Moment) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if stalled {
            self.stalled = self.stalled.saturating_sub(1);
        }
        if responded {
            self.responded = true;
            self.responded_at = now;
            // Only where all the stalled ones were sent before this one: a queue responds in its order.
            if !stalled && sent_at > self.newest_stalled {
                self.overtaken = self.overtaken.max(self.stalled);
            }
        }
    }

    /// Another Requester, or the same after an outage: what was seen of it before proves nothing.
    pub fn forget(&mut self) {
        (self.overtaken, self.responded) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(occupancy: &mut Occupancy, limit: u32, steps: u32) -> Vec<u32> {
        let mut sent = Vec::new();
        for step in 0..steps {
            let at = Moment(u64::from(step) * 300 + 1);
            let mut new = 0;
            while occupancy.active() < limit + occupancy.doubt() && !occupancy.is_full() {
                occupancy.sent();
                new += 1;
            }
            (0..new).for_each(|_| _ = occupancy.stall(at));
            sent.push(occupancy.in_flight());
        }
        sent
    }

    #[test]
    fn silence_at_the_start_is_got_over_within_seconds_where_the_requester_takes_more() {
        let mut occupancy = Occupancy::default();
        occupancy.set_capacity(Some(4_096));
        let in_flight = silent(&mut occupancy, 4, 8);
        assert_eq!(in_flight[..4], [4, 12, 28, 60]);
        assert!(in_flight[7] > 500, "{in_flight:?}");
    }

    #[test]
    fn a_requester_that_says_nothing_gets_few_more_than_it_has_shown() {
        let mut occupancy = Occupancy::default();
        assert_eq!(silent(&mut occupancy, 4, 20).last(), Some(&16));
        let mut occupancy = Occupancy::default();
        occupancy.sent();
        occupancy.ended(false, true, Moment(1), Moment(5));
        assert_eq!(
            silent(&mut occupancy, 4, 20).last(),
            Some(&5),
            "more than one beyond those that were overtaken"
        );
        for at in (10_000..30_000).step_by(1_000) {
            occupancy.sent();
            occupancy.ended(false, true, Moment(at), Moment(at + 5));
            (0..8).for_each(|_| _ = occupancy.stall(Moment(at + 500)));
        }
        assert!(occupancy.stalled > 10, "{occupancy:?}");
    }
}
