//! Pauses between attempts. Pure: the caller counts the failures, and draws the random number.

use std::time::Duration;

/// Pauses that double with each failure in a row, from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    jitter_percent: u32,
}

impl Backoff {
    /// Pauses without jitter.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, jitter_percent: 0 }
    }

    /// Makes each pause longer by a random part of it, at most `percent` percent; the longest pause, too.
    pub const fn with_jitter(self, percent: u32) -> Self {
        Self { jitter_percent: percent, ..self }
    }

    /// The pause after a failure that came after `earlier` others in a row; `random` is any number.
    pub fn pause(&self, earlier: u32, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(earlier).unwrap_or(u32::MAX);
        jittered(self.first.saturating_mul(factor).min(self.longest), self.jitter_percent, random)
    }
}

/// Makes a time longer by a random part of it, at most `percent` percent; `random` is any number.
fn jittered(time: Duration, percent: u32, random: u64) -> Duration {
    let steps = u64::from(percent) * 10 + 1;
    time + time / 1_000 * u32::try_from(random % steps).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u64> = [0, 1, 2, 3, 4, 31, 32, u32::MAX]
            .map(|earlier| BACKOFF.pause(earlier, u64::MAX).as_secs())
            .to_vec();
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15, 15, 15]);
    }

    #[test]
    fn jitter_is_added_and_is_at_most_the_part_that_was_given() {
        let jittered = BACKOFF.with_jitter(20);
        let pauses: Vec<Duration> = (0..=200).map(|random| jittered.pause(0, random)).collect();
        assert_eq!(pauses.iter().min(), Some(&Duration::from_secs(1)));
        assert_eq!(pauses.iter().max(), Some(&Duration::from_millis(1_200)));
        assert_eq!(jittered.pause(9, 200), Duration::from_secs(18));
    }
}
