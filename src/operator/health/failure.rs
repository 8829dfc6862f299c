//! Failures: a kind of request, and one failure of it from its beginning to its end.

use std::time::Duration;

use tokio::time::Instant;

use routr_kube_errors::{ApiError, Kind};

/// Failures that take turns are a line each only after this long.
pub(super) const LOG_PERIOD: Duration = Duration::from_secs(10);
/// A failure that goes on is said again this often.
pub(super) const REMIND_EVERY: Duration = Duration::from_secs(20);
/// Of many requests some fail and some succeed: a failure is over when none has failed for this long.
pub(super) const QUIET_PERIOD: Duration = Duration::from_secs(5);

/// Purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Any of them: the API server is unavailable.
    Requests,
    /// Finalizers of Registries.
    Finalizers,
    /// Statuses of Registries.
    Statuses,
    /// Events about Registries.
    Events,
}

impl Area {
    pub(super) const ALL: [Self; 4] = [Self::Requests, Self::Finalizers, Self::Statuses, Self::Events];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Finalizers => "finalizers",
            Self::Statuses => "statuses",
            Self::Events => "events",
        }
    }

    pub(super) fn problem(self) -> &'static str {
        match self {
            Self::Requests => {
                "requests to the Kubernetes API server fail: statuses, finalizers and Secrets wait"
            }
            Self::Finalizers => "cannot set finalizers: new Registries do not run, and deleted ones stay",
            Self::Statuses => "cannot write statuses: they are out of date",
            Self::Events => "cannot record events: `kubectl describe registry` shows none",
        }
    }
}

/// A failure that may last.
#[derive(Debug, Default)]
pub(super) struct Failure {
    /// The error, and since when there is one, in milliseconds since the Unix epoch.
    pub(super) current: Option<(ApiError, u64)>,
    failed_at: Option<Instant>,
    logged: Option<((Kind, Option<u16>), Instant)>,
}

impl Failure {
    /// Notes a failure. Returns whether a line is due: it is the first one, another one than before, or goes
    /// on for long.
    pub(super) fn begin(&mut self, error: &ApiError) -> bool {
        let now = Instant::now();
        let key = (error.kind, error.code);
        let since = self.current.as_ref().map_or_else(routr_environment::unix_ms, |(_, since)| *since);
        let first = self.current.is_none();
        self.current = Some((error.clone(), since));
        self.failed_at = Some(now);
        let due = match self.logged {
            Some((logged, at)) => {
                let pause = if logged == key { REMIND_EVERY } else { LOG_PERIOD };
                first || now.duration_since(at) >= pause
            }
            None => true,
        };
        if due {
            self.logged = Some((key, now));
        }
        due
    }

    /// Returns for how many seconds it has failed.
    pub(super) fn failing_s(&self) -> u64 {
        self.current
            .as_ref()
            .map_or(0, |(_, since)| routr_environment::unix_ms().saturating_sub(*since) / 1_000)
    }

    /// Notes a success. Returns for how many seconds it had failed, if it had.
    pub(super) fn end(&mut self) -> Option<u64> {
        let (_, since) = self.current.take()?;
        (self.failed_at, self.logged) = (None, None);
        Some(routr_environment::unix_ms().saturating_sub(since) / 1_000)
    }

    pub(super) fn is_calm(&self) -> bool {
        self.failed_at.is_none_or(|at| at.elapsed() >= QUIET_PERIOD)
    }
}
