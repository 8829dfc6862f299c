//! The one backoff for requests to the Kubernetes API server.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::runtime::utils;

use crate::backoff::Backoff;
use routr_kube_errors::ApiError;

/// Longest pause of our own, without jitter: an API server that works again is noticed within it.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), MAX_BACKOFF).with_jitter(20);
/// Longest pause that a `Retry-After` gets. A proxy that says an hour must not keep trunks from being
/// registered.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// The pause after `failures` failures in a row before this one, jittered by a fifth: 1 s, doubling to 5 s;
/// what the API server asks for counts up to 10 s.
pub fn pause(failures: u32, retry_after: Option<Duration>) -> Duration {
    BACKOFF
        .pause(failures, routr_environment::random())
        .max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// The backoff of a watch. kube resets a backoff with each event, and a list that fails begins with one: this
/// one is reset by what has really succeeded.
#[derive(Clone, Debug, Default)]
pub struct WatchBackoff(Arc<Mutex<Failures>>);

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    retry_after: Option<Duration>,
}

impl WatchBackoff {
    /// Notes a failure, which a pause follows.
    pub fn failed(&self, error: &ApiError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retry_after = error.retry_after;
    }

    /// Notes a list or a watch that succeeded.
    pub fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Failures::default();
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = pause(failures.in_a_row, failures.retry_after.take());
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        Some(pause)
    }
}

impl utils::Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use kube::{core::Status, runtime::utils::Backoff as _};
    use serde_json::json;

    use super::*;

    const INITIAL_BACKOFF: Duration = Duration::from_secs(1);

    #[test]
    fn k1_pauses_grow_to_some_seconds_and_no_retry_after_makes_them_longer_than_ten() {
        let mut backoff = WatchBackoff::default();
        let pauses: Vec<Duration> = backoff.by_ref().take(20).collect();
        assert!(pauses[0] >= INITIAL_BACKOFF && pauses[0] <= INITIAL_BACKOFF * 6 / 5, "{pauses:?}");
        assert!(
            pauses[3..].iter().all(|pause| (MAX_BACKOFF..=MAX_BACKOFF * 6 / 5).contains(pause)),
            "{pauses:?}"
        );
        assert!(pauses[3..].iter().any(|pause| *pause != pauses[3]), "not jittered: {pauses:?}");
        backoff.reset();
        assert!(backoff.next().unwrap() >= MAX_BACKOFF, "an event before a list is no success");
        let status = json!({ "code": 429, "details": { "retryAfterSeconds": 90 } });
        let status: Status = serde_json::from_value(status).unwrap();
        backoff.failed(&ApiError::of_status(&status));
        assert_eq!(backoff.next(), Some(MAX_RETRY_AFTER));
        backoff.succeeded();
        assert!(backoff.next().unwrap() <= INITIAL_BACKOFF * 6 / 5);
    }
}
