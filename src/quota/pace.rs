//! A Registry's share of processor time for its lists: a token bucket of seconds.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Seconds that may be used at once: the first list of 500,000 trunks.
const BURST: f64 = 2.0;
/// The share of one processor in the long run.
const SHARE: f64 = 0.1;
/// No pause is longer, in seconds: what a machine that is busy with something else counts as used is not held
/// against it for long.
const MAX_PAUSE: f64 = 30.0;

/// Seconds that a Registry has left, and the moment of that count; `None` before the first use.
#[derive(Debug)]
pub struct Pace(Mutex<Option<(f64, Instant)>>);

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl Pace {
    /// Takes so much. Returns how long to pause where it was more than there is.
    pub fn spend(&self, busy: Duration, now: Instant) -> Option<Duration> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = state.unwrap_or((BURST, now));
        let refilled = (left + now.saturating_duration_since(at).as_secs_f64() * SHARE).min(BURST);
        let left = (refilled - busy.as_secs_f64()).max(-MAX_PAUSE * SHARE);
        *state = Some((left, now));
        (left < 0.0).then(|| Duration::from_secs_f64(-left / SHARE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_long_run_share_is_a_tenth_of_a_processor() {
        let (pace, began, slice) = (Pace::default(), Instant::now(), Duration::from_millis(100));
        let mut used = Duration::ZERO;
        while began.elapsed() < Duration::from_secs(300) {
            used += slice;
            tokio::time::advance(slice).await;
            if let Some(pause) = pace.spend(slice, Instant::now()) {
                tokio::time::advance(pause).await;
            }
        }
        let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
        assert!((0.09..0.12).contains(&share), "{share}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_no_pause_is_without_end() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.spend(Duration::from_secs(2), now), None);
        assert_eq!(pace.spend(Duration::from_secs(1), now), Some(Duration::from_secs(10)));
        assert_eq!(pace.spend(Duration::from_secs(3_600), now), Some(Duration::from_secs(30)));
    }
}
