//! The time of a refresh, as a pure function of what was granted and a random number generator.

use rand::Rng;

use super::{
    backoff::{SECOND_MS, uniform},
    time::Moment,
};

/// Rest of a binding, beyond the deadline of a probe of another target, that makes the probe worth it.
pub const PROBE_MARGIN_MS: u64 = 5 * SECOND_MS;
/// Shortest lead of a refresh.
const MIN_LEAD_MS: u64 = 5 * SECOND_MS;

/// Returns when to refresh a binding that was granted for `granted_ms` and expires at `expires_at`: a
/// uniformly random moment in `[E − lead − E/10, E − lead]`, with `lead = clamp(interval, 5 s, E/2)`. Never
/// before `now`, never after `expires_at`.
pub fn refresh_at(
    expires_at: Moment,
    granted_ms: u64,
    interval_ms: u64,
    now: Moment,
    rng: &mut impl Rng,
) -> Moment {
    let latest = refresh_by(expires_at, granted_ms, interval_ms);
    let earliest = latest.minus(granted_ms / 10);
    Moment(uniform(rng, earliest.0, latest.0)).max(now).min(expires_at.max(now))
}

/// The end of the time to refresh a binding in: see [`refresh_at`].
pub fn refresh_by(expires_at: Moment, granted_ms: u64, interval_ms: u64) -> Moment {
    expires_at.minus(interval_ms.max(MIN_LEAD_MS).min(granted_ms / 2))
}

/// Returns when to refresh early because the Requester's Contact may have changed: at random within a quarter
/// of the time that is left.
pub fn early_refresh(left_ms: u64, now: Moment, rng: &mut impl Rng) -> Moment {
    now.plus(uniform(rng, 0, left_ms / 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    proptest! {
        #[test]
        fn a_refresh_is_never_past_and_never_after_expiry(
            seed: u64, now in 0_u64..10_000_000, left in 1_u64..90_000_000, granted in 1_u64..90_000_000, interval in 1_u64..90_000_000,
        ) {
            let now = Moment(now);
            let expires_at = now.plus(left);
            let at = refresh_at(expires_at, granted, interval, now, &mut SmallRng::seed_from_u64(seed));
            prop_assert!(at >= now && at <= expires_at);
        }

        #[test]
        fn a_fresh_grant_is_refreshed_in_its_window(seed: u64, granted_s in 1_u64..86_400, interval_s in 1_u64..86_400) {
            let (granted, interval) = (granted_s * SECOND_MS, interval_s * SECOND_MS);
            let at = refresh_at(Moment(granted), granted, interval, Moment(0), &mut SmallRng::seed_from_u64(seed)).0;
            let lead = interval.max(5_000).min(granted / 2);
            prop_assert!(at <= granted - lead);
            prop_assert!(at >= (granted - lead).saturating_sub(granted / 10));
        }
    }

    #[test]
    fn six_hundred_seconds_and_a_minute_of_lead() {
        let mut rng = SmallRng::seed_from_u64(1);
        let at: Vec<u64> = (0..1_000)
            .map(|_| refresh_at(Moment(600_000), 600_000, 60_000, Moment(0), &mut rng).0 / SECOND_MS)
            .collect();
        assert!(at.iter().all(|s| (480..=540).contains(s)));
        assert!(at.iter().any(|s| *s < 490) && at.iter().any(|s| *s > 530), "not spread: {at:?}");
    }
}
