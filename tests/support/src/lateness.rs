//! Lateness of refreshes, as the registrars see it.

use std::{collections::HashMap, ops::Range, time::Duration};

use tokio::time::Instant;

use super::registrars::Register;

/// Configuration of the registry, as far as it decides when a binding is refreshed.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// `registerInterval`.
    pub interval: Duration,
}

impl Window {
    /// The shortest lead of a refresh.
    const LEAST_LEAD: Duration = Duration::from_secs(5);

    /// Returns the latest moment of a refresh after the grant: E − lead, with lead = clamp(registerInterval,
    /// 5 s, E/2).
    fn latest(self, granted: Duration) -> Duration {
        granted - self.interval.max(Self::LEAST_LEAD).min(granted / 2)
    }
}

/// Result of the refreshes that were due within some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// Refreshes that came.
    pub refreshes: usize,
    /// The most that one came after the latest moment of its window; zero where none did.
    pub worst: Duration,
    /// Bindings that expired before they were refreshed.
    pub expired: usize,
    /// The least that was left of a binding when it was refreshed; zero where one had expired.
    pub least_left: Option<Duration>,
}

struct Binding {
    latest: Instant,
    expires: Instant,
}

/// Measures the refreshes at these registrars that came, or should have come, from `from` until `until`.
pub fn lateness(
    log: &[Register],
    registrars: &Range<usize>,
    window: Window,
    from: Instant,
    until: Instant,
) -> Lateness {
    let mut found = Lateness::default();
    let mut bindings: HashMap<(usize, &str), Binding> = HashMap::new();
    let mut judge = |binding: &Binding, at: Instant| {
        found.worst = found.worst.max(at.saturating_duration_since(binding.latest));
        found.expired += usize::from(at > binding.expires);
        let left = binding.expires.saturating_duration_since(at);
        found.least_left = Some(found.least_left.map_or(left, |least| least.min(left)));
    };
    let mut refreshes = 0;
    for register in
        log.iter().filter(|register| registrars.contains(&register.registrar) && register.at <= until)
    {
        let key = (register.registrar, &*register.user);
        if let Some(binding) = bindings.get(&key)
            && !register.repeated
            && register.at >= from
        {
            refreshes += 1;
            judge(binding, register.at);
        }
        if let Some(seconds) = register.granted {
            let granted = Duration::from_secs(seconds.into());
            let (latest, expires) = (register.at + window.latest(granted), register.at + granted);
            bindings.insert(key, Binding { latest, expires });
        }
    }
    // Those that should have been refreshed by now.
    bindings.values().filter(|binding| binding.latest < until).for_each(|binding| judge(binding, until));
    found.refreshes = refreshes;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { interval: Duration::from_secs(10) };

    /// REGISTERs of one trunk at these seconds, each granted 60 s.
    fn log(start: Instant, seconds: &[u64]) -> Vec<Register> {
        let at = |second: &u64| start + Duration::from_secs(*second);
        let register =
            |at| Register { at, registrar: 0, user: "u".into(), repeated: false, granted: Some(60) };
        seconds.iter().map(at).map(register).collect()
    }

    fn of(seconds: &[u64], until: u64) -> (usize, u64, usize, Option<u64>) {
        let start = Instant::now();
        let until = start + Duration::from_secs(until);
        let found = lateness(&log(start, seconds), &(0..1), WINDOW, start + Duration::from_secs(1), until);
        let left = found.least_left.map(|left| left.as_secs());
        (found.refreshes, found.worst.as_secs(), found.expired, left)
    }

    #[test]
    fn a_refresh_is_late_from_the_end_of_its_window_on() {
        assert_eq!(of(&[0, 50, 97], 100), (2, 0, 0, Some(10)));
        assert_eq!(of(&[0, 53, 100], 110), (2, 3, 0, Some(7)));
        assert_eq!(of(&[0, 61], 70), (1, 11, 1, Some(0)));
        // One that never came.
        assert_eq!(of(&[0], 49), (0, 0, 0, None));
        assert_eq!(of(&[0], 58), (0, 8, 0, Some(2)));
        assert_eq!(of(&[0], 61), (0, 11, 1, Some(0)));
    }

    #[test]
    fn the_lead_is_at_most_half_of_a_short_grant() {
        assert_eq!(WINDOW.latest(Duration::from_secs(12)), Duration::from_secs(6));
        let brief = Window { interval: Duration::from_secs(1) };
        assert_eq!(brief.latest(Duration::from_secs(60)), Duration::from_secs(55));
    }
}
