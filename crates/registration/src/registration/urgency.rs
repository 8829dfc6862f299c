//! Urgency: the place of a registration in a queue, and how long a probe may wait there.

use super::{Phase, Priority, Registration, Settings, backoff, refresh, time::Moment};

/// Time to expiry, in milliseconds, by which a request ranks among refreshes that follows a response which
/// only said how to ask, or where.
const FOLLOW_UP_MS: u64 = 30_000;
impl Registration {
    /// Returns how urgent it is, and since when: what a queue sorts by, smallest first. A refresh goes by the
    /// time of its expiry. A trunk whose last call failed goes behind those that never failed, and behind
    /// those that failed before it: no few trunks are always first. A probe of the preferred target is in no
    /// hurry: the trunk is registered.
    pub fn urgency(&self) -> (bool, Moment, Priority) {
        match (self.class, self.binding) {
            _ if self.failed_calls() > 0 => (true, self.due, Priority::Retry),
            (_, Some(_)) if self.probe_next => (true, self.due, Priority::First),
            (Priority::Refresh, Some(binding)) => (false, binding.expires_at, Priority::Refresh),
            // Its registrar has just said how to ask, and where nothing is bound yet it must not wait behind
            // those that are silent.
            (Priority::Refresh, None) => (false, self.due.plus(FOLLOW_UP_MS), Priority::Refresh),
            (class, _) => (true, self.due, class),
        }
    }

    /// Until when the probe that is next may wait for its turn, where it is due: then the binding is
    /// refreshed without it.
    pub fn probe_may_wait_until(&self, settings: &Settings) -> Option<Moment> {
        let binding = self.binding.filter(|_| self.probe_next)?;
        let worst = settings.deadline_ms + refresh::PROBE_MARGIN_MS;
        let granted_ms = u64::from(binding.granted_s.get()) * backoff::SECOND_MS;
        let latest = refresh::refresh_by(binding.expires_at, granted_ms, settings.interval_ms);
        Some(if self.due.plus(worst) < latest { latest } else { binding.expires_at.minus(worst) })
    }

    /// Returns whether the probe that is next, if one is, has waited until the binding has to be refreshed
    /// without it, or could not be over before the binding expires.
    pub fn is_probe_too_late(&self, settings: &Settings, now: Moment) -> bool {
        let worst = settings.deadline_ms + refresh::PROBE_MARGIN_MS;
        self.probe_next
            && (self.probe_may_wait_until(settings).is_some_and(|until| until <= now)
                || self.remaining_ms(now).unwrap_or(0) < worst)
    }

    /// Returns whether the next attempt is a refresh that keeps a binding from expiring.
    pub fn refreshes(&self) -> bool {
        self.class == Priority::Refresh && self.binding.is_some() && self.phase == Phase::Active
    }

    /// Returns how urgent it is.
    pub fn class(&self) -> Priority {
        self.class
    }
}
