//! Timers: moments at which to look at a trunk again.
//!
//! A timer means no more than «look at this slot»: one that fires in vain is harmless, so nothing is ever
//! cancelled. What is out of date is thrown away in bulk when it outweighs what is not.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::registration::time::Moment;

/// Timers for slots.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    compact_at: usize,
}

/// A moment and a slot in 12 bytes, where a tuple of them takes 16: a million trunks have a timer or two
/// each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    // First what is compared first.
    high: u32,
    low: u32,
    slot: u32,
}

impl Timer {
    #[allow(clippy::cast_possible_truncation)] // That is the purpose.
    fn new(Moment(at): Moment, slot: u32) -> Self {
        Self { high: (at >> 32) as u32, low: at as u32, slot }
    }

    fn moment(self) -> Moment {
        Moment(u64::from(self.high) << 32 | u64::from(self.low))
    }
}

/// Below this length nothing is thrown away.
const COMPACT_FROM: usize = 1_024;

impl Timers {
    /// Looks at the slot at that moment.
    pub fn arm(&mut self, moment: Moment, slot: u32) {
        if moment != Moment::NEVER {
            self.heap.push(Reverse(Timer::new(moment, slot)));
        }
    }

    /// The next slot to look at now.
    pub fn pop(&mut self, now: Moment) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer.slot)
    }

    /// Returns when the next one fires.
    pub fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse(timer)| timer.moment())
    }

    /// Throws away what `current` says is out of date, when there is enough of it (`live` slots have a timer
    /// or two).
    pub fn compact(&mut self, live: usize, current: impl Fn(Moment, u32) -> bool) {
        self.compact_at = self.compact_at.max(COMPACT_FROM).max(live * 2);
        if self.heap.len() > self.compact_at {
            let mut timers = std::mem::take(&mut self.heap).into_vec();
            timers.retain(|Reverse(timer)| current(timer.moment(), timer.slot));
            timers.sort_unstable();
            timers.dedup();
            self.compact_at = (timers.len() * 2).max(live * 2);
            self.heap = timers.into();
            self.heap.shrink_to(self.compact_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_before_their_time() {
        let mut timers = Timers::default();
        for (moment, slot) in [(30, 3), (10, 1), (20, 2)] {
            timers.arm(Moment(moment), slot);
        }
        timers.arm(Moment::NEVER, 9);
        assert_eq!(timers.next(), Some(Moment(10)));
        assert_eq!(timers.pop(Moment(9)), None);
        assert_eq!(timers.pop(Moment(20)), Some(1));
        assert_eq!(timers.pop(Moment(20)), Some(2));
        assert_eq!(timers.pop(Moment(20)), None);
        assert_eq!(timers.pop(Moment(99)), Some(3));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_timer_is_small_and_in_the_order_of_its_moment() {
        assert_eq!(size_of::<Timer>(), 12);
        let moments = [0, 1, u64::from(u32::MAX), 1 << 32, (1 << 32) + 1, 7 << 32, u64::MAX - 1];
        let timers = moments.map(|at| Timer::new(Moment(at), 9 - u32::try_from(at % 5).unwrap_or(0)));
        assert!(timers.is_sorted());
        assert_eq!(timers.map(|timer| timer.moment().0), moments);
    }

    #[test]
    fn what_is_out_of_date_does_not_pile_up() {
        let mut timers = Timers::default();
        for moment in 0..100_000 {
            timers.arm(Moment(moment), 7);
            timers.compact(1, |at, _| at == Moment(moment));
        }
        assert!(timers.heap.len() <= COMPACT_FROM + 1, "{} timers for one slot", timers.heap.len());
        assert!((0..100_000).any(|_| timers.pop(Moment(99_999)).is_some() && timers.next().is_none()));
    }
}
