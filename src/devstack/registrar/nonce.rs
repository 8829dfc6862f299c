//! Nonces that need no table: the time of issue, and a keyed hash of it (RFC 7616 §5.4 suggests the like).

use std::time::Duration;

use ring::hmac;

/// Bytes of the keyed hash that a nonce carries.
const TAG: usize = 16;

/// Issues nonces and knows them again.
pub(super) struct Nonces {
    key: hmac::Key,
    lifetime: Duration,
}

/// Validity of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Issued here, within its lifetime.
    Fresh,
    /// Too old, or not issued here (perhaps before a restart).
    Stale,
}

impl Nonces {
    /// Makes a key of its own, so that nonces of another registrar are not accepted.
    pub(super) fn new(lifetime: Duration) -> Self {
        let secret: Vec<u8> = (0..4).flat_map(|_| routr_environment::random().to_be_bytes()).collect();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), lifetime }
    }

    /// A nonce that is issued at `now`.
    pub(super) fn issue(&self, now: Duration) -> String {
        let time = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).to_be_bytes();
        let tag = hmac::sign(&self.key, &time);
        time.iter().chain(tag.as_ref().iter().take(TAG)).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns what `nonce` is worth at `now`.
    pub(super) fn check(&self, nonce: &str, now: Duration) -> Worth {
        let issued =
            nonce.get(..16).and_then(|time| u64::from_str_radix(time, 16).ok()).map(Duration::from_millis);
        let fresh = issued.is_some_and(|issued| {
            let genuine: bool =
                subtle::ConstantTimeEq::ct_eq(self.issue(issued).as_bytes(), nonce.as_bytes()).into();
            genuine && now >= issued && now - issued <= self.lifetime
        });
        if fresh { Worth::Fresh } else { Worth::Stale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_fresh_for_its_lifetime_and_only_where_it_was_issued() {
        let nonces = Nonces::new(Duration::from_secs(10));
        let at = Duration::from_secs(5);
        let nonce = nonces.issue(at);
        assert_eq!(nonces.check(&nonce, at), Worth::Fresh);
        assert_eq!(nonces.check(&nonce, at + Duration::from_secs(10)), Worth::Fresh);
        assert_eq!(nonces.check(&nonce, at + Duration::from_millis(10_001)), Worth::Stale);
        assert_eq!(nonces.check(&nonce, Duration::from_secs(4)), Worth::Stale, "from the future");
        assert_eq!(Nonces::new(Duration::from_secs(10)).check(&nonce, at), Worth::Stale, "another key");
        let mut later = nonce.clone();
        later.replace_range(..16, &nonces.issue(Duration::from_secs(9))[..16]);
        assert_eq!(nonces.check(&later, Duration::from_secs(9)), Worth::Stale, "another time, the old hash");
        for odd in ["", "zz", "0000000000000000", "ä".repeat(30).as_str()] {
            assert_eq!(nonces.check(odd, at), Worth::Stale);
        }
    }
}
