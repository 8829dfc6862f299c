//! Time as an argument: nothing in [`crate::registration`] reads a clock.

/// A moment on the engine's monotonic clock, in milliseconds. Its zero lies before the engine's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than everything: «never».
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment and `ms` milliseconds.
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// `ms` milliseconds before this moment, not before the start.
    pub fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 where it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The present, on both clocks. The wall clock may jump; only what must outlive the process or be shown
/// depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic.
    pub at: Moment,
    /// Wall clock, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Now {
    /// Returns what the wall clock shows at a moment, by what it shows now.
    pub fn unix_ms_of(&self, moment: Moment) -> u64 {
        if moment >= self.at {
            self.unix_ms.saturating_add(moment.since(self.at))
        } else {
            self.unix_ms.saturating_sub(self.at.since(moment))
        }
    }
}

/// From so many milliseconds on two wall clocks, or one before and after it was set, differ by more than
/// right ones do. What was written to the store by the other one is written again: by it the next process
/// would take expired bindings for valid ones, or the other way round.
pub const MIN_CLOCK_DIFFERENCE_MS: u64 = 1_000;
