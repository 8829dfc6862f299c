//! Waiting for a condition with a deadline. No test sleeps to wait.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// Time that a test waits for what has to come. A bound for what never comes, on a machine that has far more
/// to do than this run; it says nothing about how quick anything is. A test that asserts a duration is a
/// benchmark, and belongs to `benches`.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Period at which a condition is looked at.
const POLL: Duration = Duration::from_millis(10);
/// Time that a look which has begun just before the deadline may take.
const HUNG: Duration = Duration::from_millis(500);

/// Waits until `condition` holds. Panics after `deadline`, naming `what` did not come true and the caller's
/// line.
#[track_caller]
pub fn wait_until(
    mut condition: impl AsyncFnMut() -> bool,
    deadline: Duration,
    what: &str,
) -> impl Future<Output = ()> {
    wait_for(
        async move || if condition().await { Ok(()) } else { Err("the condition is still false") },
        deadline,
        what,
    )
}

/// Waits until `probe` returns a value, and returns it. Panics after `deadline` with the last error of the
/// probe, so say there what was seen instead. One look that hangs is cut off at the deadline too.
#[track_caller]
pub fn wait_for<T, E: Display>(
    probe: impl AsyncFnMut() -> Result<T, E>,
    deadline: Duration,
    what: &str,
) -> impl Future<Output = T> {
    wait_at_pace(POLL, probe, deadline, what)
}

/// Waits as [`wait_for`] does, looking only once in each `pace`: for looks that cost the machine something.
#[track_caller]
pub fn wait_at_pace<T, E: Display>(
    pace: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
    deadline: Duration,
    what: &str,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = "it was never looked at".to_owned();
        // Once at least, however late this thread gets its turn.
        loop {
            ticks.tick().await;
            let began = Instant::now();
            match tokio::time::timeout_at(end.max(began + HUNG), probe()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = format!("the look itself hung; before that: {last}"),
            }
            if Instant::now() >= end {
                break;
            }
        }
        panic!("waited {deadline:?} in vain for: {what}\n  at {caller}\n  last seen: {last}");
    }
}
