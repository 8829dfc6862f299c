//! The times of an election: how long a term lasts, and what happens how often within it.

use std::time::Duration;

/// The longest duration of a foreign holder that is believed; anything else counts as this replica's own.
pub(super) const MAX_LEASE_DURATION_S: i32 = 300;

/// The times of an election, all of them derived from the duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// Time that the others wait after they saw a record for the first time; whole seconds.
    pub lease_duration: Duration,
    /// Time that a renewal lets its writer lead, from the moment of sending: 70 % of the duration.
    pub renew_deadline: Duration,
    /// Interval between sending one renewal and sending the next: 15 % of the duration.
    pub renew_period: Duration,
    /// Interval between two looks at a foreign record: half a second. Together with a second for the work of
    /// the old leader to end, and the two requests that release and take the Lease, a hand-over takes less
    /// than 2 s.
    pub poll_period: Duration,
    /// Pause before a renewal that failed is tried again: 2.5 % of the duration.
    pub retry_period: Duration,
    /// Silence after which the same request is sent once more, by another connection, beside the first one:
    /// 15 % of the duration. So four renewals are sent before a term ends, even when none has a response, an
    /// API server that is silent for a third of the duration at the worst moment costs no term, and each
    /// renewal may take what is left of the term.
    pub hedge_delay: Duration,
    /// Longest time that each request may take for a leader to stay one: 35 % of the duration, half of a
    /// term. Requests that no term limits have the same timeout.
    pub request_timeout: Duration,
}

impl LeaseTimes {
    /// The times for a lease of this duration, which is rounded up to a whole second from 1 to 300.
    #[must_use]
    pub fn of(duration: Duration) -> Self {
        let up = u64::from(duration.subsec_nanos() > 0);
        let seconds =
            duration.as_secs().saturating_add(up).clamp(1, u64::from(MAX_LEASE_DURATION_S.unsigned_abs()));
        let duration = Duration::from_secs(seconds);
        Self {
            lease_duration: duration,
            renew_deadline: duration * 7 / 10,
            renew_period: duration * 3 / 20,
            poll_period: (duration / 4).min(Duration::from_millis(500)),
            retry_period: duration / 40,
            hedge_delay: duration * 3 / 20,
            request_timeout: duration * 7 / 20,
        }
    }

    /// The duration as the record carries it.
    pub(super) fn seconds(&self) -> i32 {
        i32::try_from(self.lease_duration.as_secs()).unwrap_or(MAX_LEASE_DURATION_S)
    }
}
