//! Waits after failures, as pure functions of their number and a random number generator.

use rand::{Rng, RngExt};

/// One second, in the milliseconds that all waits are counted in.
pub const SECOND_MS: u64 = 1_000;
/// Rounds in which all targets have failed (RFC 5626 §4.5).
const ROUNDS: Backoff = Backoff::new(30 * SECOND_MS, 1_800 * SECOND_MS);
/// Refused credentials, or an unknown account.
const REJECTIONS: Backoff = Backoff::new(300 * SECOND_MS, 3_600 * SECOND_MS);
/// Calls to the Requester that failed, and were this trunk's own failure.
const FAILED_CALLS: Backoff = Backoff::new(30 * SECOND_MS, 120 * SECOND_MS);
/// Tries to remove a binding.
const DEREGISTRATIONS: Backoff = Backoff::new(2 * SECOND_MS, 32 * SECOND_MS);
/// Longest Retry-After that is honoured.
const MAX_RETRY_AFTER_MS: u64 = 3_600 * SECOND_MS;
/// While a binding is valid, a back-off is never shorter than this.
const MIN_WAIT_MS: u64 = 2 * SECOND_MS;

/// Exponential backoff: a first wait that doubles up to a longest one, both in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first_ms: u64,
    max_ms: u64,
}

impl Backoff {
    /// A backoff with these bounds.
    pub const fn new(first_ms: u64, max_ms: u64) -> Self {
        Self { first_ms, max_ms }
    }

    /// The first wait, in milliseconds.
    pub const fn first(self) -> u64 {
        self.first_ms
    }

    /// The longest wait, in milliseconds.
    pub const fn max(self) -> u64 {
        self.max_ms
    }

    /// Returns the wait after `failures` earlier ones in a row, in milliseconds: 0 gives the first wait.
    pub fn wait(self, failures: u32) -> u64 {
        let factor = 1_u64.checked_shl(failures).unwrap_or(u64::MAX);
        self.first_ms.saturating_mul(factor).min(self.max_ms)
    }

    /// Returns the wait that follows `wait_ms`, in milliseconds: 0 gives the first wait.
    pub fn after(self, wait_ms: u64) -> u64 {
        wait_ms.saturating_mul(2).clamp(self.first_ms, self.max_ms)
    }

    /// As [`Backoff::wait`], jittered: uniform in 50 to 100 % of it.
    pub fn jittered(self, failures: u32, rng: &mut impl Rng) -> u64 {
        let full = self.wait(failures);
        uniform(rng, full / 2, full)
    }
}

/// A uniformly random number of milliseconds in `[low, high]`.
pub(super) fn uniform(rng: &mut impl Rng, low: u64, high: u64) -> u64 {
    if low >= high { low } else { rng.random_range(low..=high) }
}

/// Returns how long to wait after `failures` failed rounds in a row, the last one counted: `30 s ×
/// 2^failures`, at most 1800 s, uniform in 50 to 100 % of it (RFC 5626 §4.5: 30 to 60 s after the first).
/// While a binding is valid for `left_ms` more, never longer than half of that, but at least 2 s.
pub fn back_off(failures: u32, left_ms: Option<u64>, rng: &mut impl Rng) -> u64 {
    let wait = ROUNDS.jittered(failures, rng);
    match left_ms {
        Some(left) => wait.min((left / 2).max(MIN_WAIT_MS)),
        None => wait,
    }
}

/// Returns how long to wait after the `times`th rejection in a row (0 for the first): 5 min, doubling, at
/// most 1 h; up to a tenth more, so that trunks that were rejected together do not come back together.
pub fn after_rejection(times: u32, rng: &mut impl Rng) -> u64 {
    let base = REJECTIONS.wait(times);
    base + uniform(rng, 0, base / 10)
}

/// The longest wait after so many rejections in a row, the last one counted, in milliseconds.
pub fn longest_after_rejection(times: u32) -> u64 {
    let base = REJECTIONS.wait(times.saturating_sub(1));
    base + base / 10
}

/// Returns how long a trunk waits after `times` (at least 1) failed calls in a row that were its own failure:
/// 15 to 30 s, 30 to 60 s, then 1 to 2 min. Never longer, because a call that fails costs no registrar
/// anything. While a binding is valid for `left_ms` more, never longer than half of that, but at least 5 s.
pub fn after_failed_call(times: u8, left_ms: Option<u64>, rng: &mut impl Rng) -> u64 {
    let wait = FAILED_CALLS.jittered(u32::from(times.saturating_sub(1)), rng);
    left_ms.map_or(wait, |left| wait.min((left / 2).max(5 * SECOND_MS)))
}

/// Returns how long a trunk waits after a failed call while calls of all trunks fail: 5 to 10 s. Others probe
/// the Requester meanwhile.
pub fn after_shared_failure(rng: &mut impl Rng) -> u64 {
    uniform(rng, 5 * SECOND_MS, 10 * SECOND_MS)
}

/// Retry-After in milliseconds, at most an hour.
pub fn retry_after(seconds: u32) -> u64 {
    (u64::from(seconds) * SECOND_MS).min(MAX_RETRY_AFTER_MS)
}

/// The pause between a silence and the one other target that is tried after it: 5 to 10 s.
pub fn after_silence(rng: &mut impl Rng) -> u64 {
    uniform(rng, 5 * SECOND_MS, 10 * SECOND_MS)
}

/// The pause before the next try to remove a binding: 2 s, doubling, uniform in 50 to 100 %.
pub fn deregister_pause(tries: u32, rng: &mut impl Rng) -> u64 {
    DEREGISTRATIONS.jittered(tries, rng)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn a_backoff_doubles_up_to_its_longest_wait() {
        let backoff = Backoff::new(2_000, 60_000);
        let waits: Vec<u64> = (0..7).map(|failures| backoff.wait(failures)).collect();
        assert_eq!(waits, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        let mut after = vec![backoff.after(0)];
        (0..6).for_each(|_| after.push(backoff.after(after[after.len() - 1])));
        assert_eq!(after, waits);
        assert_eq!([63, 64, u32::MAX].map(|failures| backoff.wait(failures)), [60_000; 3], "it overflowed");
        assert_eq!(backoff.after(u64::MAX), 60_000);
    }

    proptest! {
        #[test]
        fn a_jittered_wait_is_at_least_half_of_the_full_one(seed: u64, failures: u32, first in 0_u64..100_000, more in 0_u64..100_000) {
            let backoff = Backoff::new(first, first + more);
            let (full, wait) = (backoff.wait(failures), backoff.jittered(failures, &mut SmallRng::seed_from_u64(seed)));
            prop_assert!(wait >= full / 2 && wait <= full);
        }

        #[test]
        fn back_off_keeps_its_bounds(seed: u64, failures in 0_u32..100, left in proptest::option::of(0_u64..10_000_000)) {
            let wait = back_off(failures, left, &mut SmallRng::seed_from_u64(seed));
            let full = if failures >= 6 { 1_800_000 } else { 30_000 << failures };
            prop_assert!(wait <= full);
            match left {
                None => prop_assert!(wait >= full / 2),
                Some(left) => {
                    prop_assert!(wait <= (left / 2).max(2_000));
                    prop_assert!(wait >= 2_000);
                }
            }
        }

        #[test]
        fn rejections_double_to_an_hour(seed: u64, times in 0_u32..100) {
            let wait = after_rejection(times, &mut SmallRng::seed_from_u64(seed));
            let base = [300, 600, 1_200, 2_400, 3_600][times.min(4) as usize] * SECOND_MS;
            prop_assert!(wait >= base && wait <= base + base / 10);
            prop_assert_eq!(longest_after_rejection(times + 1), base + base / 10);
        }
    }

    #[test]
    fn retry_after_is_bounded() {
        assert_eq!(retry_after(7), 7_000);
        assert_eq!(retry_after(1_000_000), 3_600_000);
    }
}
