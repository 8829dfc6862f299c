//! A token bucket: so many REGISTERs per second, half a second's worth of them at once.

use crate::registration::time::Moment;

/// Token bucket. Without a rate there is no bound.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: f64,
    refilled_at: Moment,
}

impl Budget {
    /// A full one.
    pub fn new(rate: Option<f64>, now: Moment) -> Self {
        Self { tokens: rate.map_or(1.0, burst), refilled_at: now }
    }

    /// Returns when the next token is there.
    pub fn token_at(&mut self, rate: Option<f64>, now: Moment) -> Moment {
        let Some(rate) = rate else { return now };
        self.refill(rate, now);
        // The sum of many small refills may fall short of a whole token by a rounding error.
        if self.tokens >= 1.0 - 1e-9 {
            return now;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wait = ((1.0 - self.tokens) / rate * 1_000.0).ceil() as u64;
        now.plus(wait.max(1))
    }

    /// Takes a token, whether there is one or not.
    pub fn take(&mut self, rate: Option<f64>, now: Moment) {
        if let Some(rate) = rate {
            self.refill(rate, now);
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
    }

    fn refill(&mut self, rate: f64, now: Moment) {
        #[allow(clippy::cast_precision_loss)]
        let elapsed = now.since(self.refilled_at) as f64 / 1_000.0;
        self.tokens = (self.tokens + elapsed * rate).min(burst(rate));
        self.refilled_at = self.refilled_at.max(now);
    }
}

fn burst(rate: f64) -> f64 {
    (rate / 2.0).max(1.0)
}
