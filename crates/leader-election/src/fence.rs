//! The fence around what only a leader may do (client-go's word: fencing).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::{Duration, Instant};

/// The right to act, asked for before each request that only a leader may send and each write that only a
/// leader may do. Cheap to ask and to clone.
///
/// Work stops when a term is lost; this is for the moment between the loss and that, which a process that was
/// frozen may be in without knowing.
#[derive(Clone)]
pub struct Fence(Arc<dyn Fn() -> bool + Send + Sync>);

impl Fence {
    /// Holds for ever: nothing else acts.
    #[must_use]
    pub fn always() -> Self {
        Self::when(|| true)
    }

    /// Holds as long as `valid` returns true, which has to be quick.
    pub fn when(valid: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(valid))
    }

    /// Returns whether it holds at this very moment.
    ///
    /// The result is right also in a process that was stopped for a while and whose timers have not fired
    /// yet. Between the question and the sending there is no protection but the margin.
    #[must_use]
    pub fn holds(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fence").field(&self.holds()).finish()
    }
}

/// The end of a term, which each renewal moves. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct TermEnd(Arc<Until>);

#[derive(Debug)]
struct Until {
    /// The moment that `after` counts from.
    origin: Instant,
    /// Microseconds; 0: over.
    after: AtomicU64,
}

impl TermEnd {
    pub(super) fn new(until: Instant) -> Self {
        let end = Self(Arc::new(Until { origin: Instant::now(), after: AtomicU64::new(0) }));
        end.extend(until);
        end
    }

    /// Makes the fence that holds until then.
    pub(super) fn fence(&self) -> Fence {
        let end = self.clone();
        Fence::when(move || end.is_ahead())
    }

    pub(super) fn extend(&self, until: Instant) {
        let after = until.saturating_duration_since(self.0.origin).as_micros();
        self.0.after.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Ends the term now.
    pub(super) fn end(&self) {
        self.0.after.store(0, Ordering::Release);
    }

    fn is_ahead(&self) -> bool {
        let after = Duration::from_micros(self.0.after.load(Ordering::Acquire));
        Instant::now().saturating_duration_since(self.0.origin) < after
    }
}
