//! The engine's time: a monotonic clock for what is scheduled, the wall clock for what is kept and shown.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::runtime::ports::Environment;
use routr_registration::registration::time::{Moment, Now};

/// The engine's clock does not start at zero, so that moments before its start differ from each other:
/// bindings that expired while the process was down are overdue by different times. In milliseconds, a year.
const CLOCK_ORIGIN_MS: u64 = 365 * 24 * 3_600 * 1_000;

/// Clock of an engine: monotonic and wall time in one. Tests pause tokio's clock, and bring an
/// [`Environment`] of their own.
#[derive(Clone)]
pub struct Clock {
    start: Instant,
    environment: Arc<dyn Environment>,
}

impl Clock {
    /// Starts now.
    pub fn start(environment: Arc<dyn Environment>) -> Self {
        Self { start: Instant::now(), environment }
    }

    /// The present.
    pub fn now(&self) -> Now {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - CLOCK_ORIGIN_MS);
        Now { at: Moment(CLOCK_ORIGIN_MS + elapsed), unix_ms: self.environment.unix_ms() }
    }

    /// Returns when tokio's clock reaches a moment.
    pub fn instant(&self, moment: Moment) -> Instant {
        // A millisecond more: the clock counts whole ones, and must not wake before its time.
        self.start + Duration::from_millis(moment.0.saturating_sub(CLOCK_ORIGIN_MS) + 1)
    }

    /// The environment that it reads the wall clock from.
    pub fn environment(&self) -> &Arc<dyn Environment> {
        &self.environment
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").field("start", &self.start).finish_non_exhaustive()
    }
}
