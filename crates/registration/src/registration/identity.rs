//! The identity of a registration: its Call-ID, its CSeq, and the stable choices that depend on it.

use sha2::{Digest, Sha256};

use routr_types::text::hex;

/// CSeq numbers count the half seconds since this moment, 2026-01-01T00:00:00Z, so that they rise across
/// restarts even when nothing was kept: a REGISTER that is challenged takes two of them, and no restart takes
/// less than a second. They reach 2^31, the bound of RFC 3261 §8.1.1.5, in 2060.
const CSEQ_EPOCH_MS: u64 = 1_767_225_600_000;
/// Milliseconds for each CSeq number.
const CSEQ_TICK_MS: u64 = 500;
/// The highest CSeq number (RFC 3261 §8.1.1.5: less than 2^31).
const CSEQ_MAX: u32 = (1 << 31) - 1;
/// Numbers that one REGISTER may use up beyond its own when its response is lost: a digest challenge and a
/// stale nonce are each answered by the Requester with the next number.
pub const CSEQ_RESERVE: u32 = 2;
/// After so many milliseconds the numbers of the clock are higher than any that one REGISTER, sent before,
/// has used.
pub const CSEQ_SETTLED_MS: u64 = (CSEQ_RESERVE as u64 + 1) * CSEQ_TICK_MS;

/// Identity that tells this registry's Call-IDs from those of every other installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryId(Box<str>);

impl RegistryId {
    /// The resource's UID in a cluster, the instance id elsewhere.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Returns where nothing else is known: from what the installation is called and talks to. Two
    /// installations with the same name and addresses get the same one, so it is the last resort.
    pub fn derived(name: &str, api: &str, requester: &str) -> Self {
        Self(hex(&hash(&["instance", name, api, requester])[..16]).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The Call-ID of one registration, for life: the same registry, trunk, registrar domain and address of
    /// record give the same one, after a restart, on a new leader, with an empty cache (RFC 3261 §10.2.4:
    /// «SHOULD use the same Call-ID for registrations sent to a particular registrar»).
    pub fn call_id(&self, trunk: &str, domain: &str, user: &str) -> String {
        // The host of a domain is compared without case (RFC 3261 §19.1.4); the user is not.
        let domain = domain.to_ascii_lowercase();
        hex(&hash(&["call-id", &self.0, trunk, &domain, user])[..20])
    }
}

/// SHA-256 over the parts, each preceded by its length so that no two lists run together.
fn hash(parts: &[&str]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    }
    sha.finalize().into()
}

/// The CSeq number after `last`: the half seconds since a fixed epoch, or `last + 1` where that is higher.
pub fn next_cseq(last: u32, unix_ms: u64) -> u32 {
    let ticks = unix_ms.saturating_sub(CSEQ_EPOCH_MS) / CSEQ_TICK_MS;
    let ticks = u32::try_from(ticks).unwrap_or(CSEQ_MAX);
    ticks.max(last.saturating_add(1)).clamp(1, CSEQ_MAX)
}

/// A 64-bit hash that stays the same across processes, machines and versions (FNV-1a, mixed by SplitMix64's
/// last step): choices that depend on it survive a restart.
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_hangs_on_all_four_parts_and_nothing_else() {
        let id = RegistryId::new("one");
        let call_id = id.call_id("trunk-1", "sip.example.com", "alice");
        assert_eq!(call_id, id.call_id("trunk-1", "SIP.example.com", "alice"));
        assert_ne!(call_id, RegistryId::new("two").call_id("trunk-1", "sip.example.com", "alice"));
        assert_ne!(call_id, id.call_id("trunk-2", "sip.example.com", "alice"));
        assert_ne!(call_id, id.call_id("trunk-1", "sip.example.org", "alice"));
        assert_ne!(call_id, id.call_id("trunk-1", "sip.example.com", "bob"));
        assert_ne!(id.call_id("ab", "c", "d"), id.call_id("a", "bc", "d"));
        assert_eq!(call_id.len(), 40);
    }

    #[test]
    fn the_call_id_of_a_release_is_the_call_id_of_the_next() {
        // A change of this value would add a second binding at every registrar on upgrade.
        let call_id = RegistryId::new("11111111-2222-3333-4444-555555555555").call_id(
            "trunk-01",
            "sip.provider.net",
            "pbx-1",
        );
        assert_eq!(call_id, "a19dea3c914c990bce318dce208123ec1f73c3a7");
    }

    #[test]
    fn cseq_rises_with_time_and_within_a_second() {
        let at = CSEQ_EPOCH_MS + 500_000;
        assert_eq!(next_cseq(0, at), 1_000);
        assert_eq!(next_cseq(0, at + 1_000), 1_002);
        assert_eq!(next_cseq(1_000, at), 1_001);
        assert_eq!(next_cseq(5_000, at), 5_001);
        assert_eq!(next_cseq(5_000, 0), 5_001, "a clock that jumped back");
        assert_eq!(next_cseq(7, u64::MAX), CSEQ_MAX);
        assert_eq!(next_cseq(0, 0), 1);
    }

    #[test]
    fn numbers_that_were_used_unnoticed_are_passed_by_after_a_pause() {
        for at in (CSEQ_EPOCH_MS + 500..CSEQ_EPOCH_MS + 2_500).step_by(50) {
            let used = next_cseq(0, at) + CSEQ_RESERVE;
            assert!(next_cseq(0, at + CSEQ_SETTLED_MS) > used);
        }
    }

    #[test]
    fn the_stable_hash_is_stable() {
        assert_eq!(stable_hash(&[b"a", b"b"]), stable_hash(&[b"a", b"b"]));
        assert_ne!(stable_hash(&[b"ab", b""]), stable_hash(&[b"a", b"b"]));
    }
}
