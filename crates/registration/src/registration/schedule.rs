//! When to send: refreshes, back-off and waits, as pure functions of time and a random number generator.

use rand::{Rng, RngExt};

use super::time::Moment;

/// One second, in the milliseconds that all of this module counts in.
pub const SECOND_MS: u64 = 1_000;
/// Base of the back-off (RFC 5626 §4.5), when all flows have failed.
const BACKOFF_BASE_MS: u64 = 30 * SECOND_MS;
/// Its bound (RFC 5626 §4.5).
const MAX_BACKOFF_MS: u64 = 1_800 * SECOND_MS;
/// What must be left of a binding, beyond the deadline of a probe of another target, for the probe to be
/// worth it.
pub const PROBE_MARGIN_MS: u64 = 5 * SECOND_MS;
/// First wait after refused credentials or an unknown account.
const REJECTION_BASE_MS: u64 = 300 * SECOND_MS;
/// Longest wait after those.
const MAX_REJECTION_MS: u64 = 3_600 * SECOND_MS;
/// Longest Retry-After that is honoured.
const MAX_RETRY_AFTER_MS: u64 = 3_600 * SECOND_MS;
/// While a binding is valid, a back-off is never shorter than this.
const MIN_WAIT_MS: u64 = 2 * SECOND_MS;
/// Shortest lead of a refresh.
const MIN_LEAD_MS: u64 = 5 * SECOND_MS;

/// A uniformly random number of milliseconds in `[low, high]`.
fn uniform(rng: &mut impl Rng, low: u64, high: u64) -> u64 {
    if low >= high { low } else { rng.random_range(low..=high) }
}

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

/// Returns how long to wait after `failures` failed rounds in a row, the last one counted: `30 s ×
/// 2^failures`, at most 1800 s, uniform in 50 to 100 % of it (RFC 5626 §4.5: 30 to 60 s after the first).
/// While a binding is valid for `left_ms` more, never longer than half of that, but at least 2 s.
pub fn back_off(failures: u32, left_ms: Option<u64>, rng: &mut impl Rng) -> u64 {
    let full = BACKOFF_BASE_MS
        .saturating_mul(1_u64.checked_shl(failures.min(16)).unwrap_or(u64::MAX))
        .min(MAX_BACKOFF_MS);
    let wait = uniform(rng, full / 2, full);
    match left_ms {
        Some(left) => wait.min((left / 2).max(MIN_WAIT_MS)),
        None => wait,
    }
}

/// Returns how long to wait after the `times`th rejection in a row (0 for the first): 5 min, doubling, at
/// most 1 h; up to a tenth more, so that trunks that were rejected together do not come back together.
pub fn after_rejection(times: u32, rng: &mut impl Rng) -> u64 {
    let base = REJECTION_BASE_MS.saturating_mul(1 << times.min(8)).min(MAX_REJECTION_MS);
    base + uniform(rng, 0, base / 10)
}

/// Returns how long a trunk waits after `times` (at least 1) failed calls in a row that were its own failure:
/// 15 to 30 s, 30 to 60 s, then 1 to 2 min. Never longer, because a call that fails costs no registrar
/// anything. While a binding is valid for `left_ms` more, never longer than half of that, but at least 5 s.
pub fn after_failed_call(times: u8, left_ms: Option<u64>, rng: &mut impl Rng) -> u64 {
    let full = BACKOFF_BASE_MS << times.saturating_sub(1).min(2);
    let wait = uniform(rng, full / 2, full);
    left_ms.map_or(wait, |left| wait.min((left / 2).max(5 * SECOND_MS)))
}

/// Returns how long a trunk waits after a failed call while calls of all trunks fail: 5 to 10 s. Others probe
/// the Requester meanwhile.
pub fn after_shared_failure(rng: &mut impl Rng) -> u64 {
    uniform(rng, 5 * SECOND_MS, 10 * SECOND_MS)
}

/// The longest wait after so many rejections in a row, the last one counted, in milliseconds.
pub fn longest_after_rejection(times: u32) -> u64 {
    let base = REJECTION_BASE_MS.saturating_mul(1 << times.saturating_sub(1).min(8)).min(MAX_REJECTION_MS);
    base + base / 10
}

/// Retry-After in milliseconds, at most an hour.
pub fn retry_after(seconds: u32) -> u64 {
    (u64::from(seconds) * SECOND_MS).min(MAX_RETRY_AFTER_MS)
}

/// The pause between a silence and the one other target that is tried after it: 5 to 10 s.
pub fn after_silence(rng: &mut impl Rng) -> u64 {
    uniform(rng, 5 * SECOND_MS, 10 * SECOND_MS)
}

/// The pause before the next try to remove a binding: 2 s, doubling, uniform in 50 to 100 %.
pub fn deregister_pause(tries: u32, rng: &mut impl Rng) -> u64 {
    let full = (2 * SECOND_MS) << tries.min(4);
    uniform(rng, full / 2, full)
}

/// Returns when to refresh early because the Requester's Contact may have changed: spread over a quarter of
/// what is left.
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

        #[test]
        fn back_off_keeps_its_bounds(seed: u64, failures in 0_u32..100, left in proptest::option::of(0_u64..10_000_000)) {
            let wait = back_off(failures, left, &mut SmallRng::seed_from_u64(seed));
            let full = if failures >= 6 { 1_800_000 } else { 30_000 << failures };
            prop_assert!(wait <= full);
            match left {
                None => prop_assert!(wait >= full / 2),
                Some(left) => {
                    prop_assert!(wait <= (left / 2).max(2_000));
                    prop_assert!(wait >= 2_000);
                }
            }
        }

        #[test]
        fn rejections_double_to_an_hour(seed: u64, times in 0_u32..100) {
            let wait = after_rejection(times, &mut SmallRng::seed_from_u64(seed));
            let base = [300, 600, 1_200, 2_400, 3_600][times.min(4) as usize] * SECOND_MS;
            prop_assert!(wait >= base && wait <= base + base / 10);
            prop_assert_eq!(longest_after_rejection(times + 1), base + base / 10);
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

    #[test]
    fn retry_after_is_bounded() {
        assert_eq!(retry_after(7), 7_000);
        assert_eq!(retry_after(1_000_000), 3_600_000);
    }
}
