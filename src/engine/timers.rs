//! When to look at which trunk again.
//!
//! A timer means no more than «look at this slot»: one that fires in vain is harmless, so nothing is ever cancelled. What
//! is out of date is thrown away in bulk when it outweighs what is not.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::registration::time::Moment;

/// Timers for slots, 16 bytes each.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, u32)>>,
    compact_at: usize,
}

/// Below this length nothing is thrown away.
const COMPACT_FROM: usize = 1_024;

impl Timers {
    /// Looks at the slot at that moment.
    pub fn arm(&mut self, moment: Moment, slot: u32) {
        if moment != Moment::NEVER {
            self.heap.push(Reverse((moment, slot)));
        }
    }

    /// The next slot to look at now.
    pub fn pop(&mut self, now: Moment) -> Option<u32> {
        let Reverse((moment, _)) = self.heap.peek()?;
        if *moment > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, slot))| slot)
    }

    /// When the next one fires.
    pub fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((moment, _))| *moment)
    }

    /// Throws away what `current` says is out of date, when there is enough of it (`live` slots have a timer or two).
    pub fn compact(&mut self, live: usize, current: impl Fn(Moment, u32) -> bool) {
        self.compact_at = self.compact_at.max(COMPACT_FROM).max(live * 2);
        if self.heap.len() > self.compact_at {
            let mut timers = std::mem::take(&mut self.heap).into_vec();
            timers.retain(|Reverse((moment, slot))| current(*moment, *slot));
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
