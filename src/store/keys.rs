//! The names of the keys in Redis. They are a format: a later version must find what an earlier one wrote.

use sha2::{Digest, Sha256};

use routr_types::text::hex;

/// Number of hashes that the registrations of one registry are distributed over.
pub const BUCKETS: usize = 256;

/// The keys of one registry.
#[derive(Debug)]
pub struct Keys {
    /// Prefix of each key up to its last part, the user's own prefix included.
    prefix: String,
}

impl Keys {
    /// The keys of an instance id, with the user's own prefix before each; it has no braces. Any text is good
    /// as an instance id: one that is not plain, or longer than 64 bytes, is replaced by its hash. A plain
    /// one has no colon, so it cannot be taken for a hash.
    pub fn new(before: &str, instance: &str) -> Self {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let readable = !instance.is_empty() && instance.len() <= 64 && instance.bytes().all(plain);
        let name =
            if readable { instance.to_owned() } else { format!("sha256:{}", hex(&Sha256::digest(instance))) };
        Self { prefix: format!("{before}routr-registry:{{{name}}}:") }
    }

    /// The hash of one bucket.
    pub fn bucket(&self, bucket: u8) -> String {
        format!("{}regs:{bucket:02x}", self.prefix)
    }

    /// The mark by which a loss of data is noticed.
    pub fn alive(&self) -> String {
        format!("{}alive", self.prefix)
    }

    /// Returns who acts for the registry.
    pub fn owner(&self) -> String {
        format!("{}owner", self.prefix)
    }
}

/// The bucket of a trunk.
pub fn bucket_of(reference: &str) -> u8 {
    let [first, ..]: [u8; 32] = Sha256::digest(reference).into();
    first
}

/// Returns what all keys begin with, with the user's own prefix before it.
pub fn root(before: &str) -> String {
    format!("{before}routr-registry:")
}

/// Returns the key of a registry's instance id, with the user's own prefix before it.
pub fn identity(before: &str, registry_key: &str) -> String {
    format!("{before}routr-registry:instance:{}", hex(&Sha256::digest(registry_key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_as_they_were_first_written() {
        let keys = Keys::new("", "9f3c2c5e-7a0e-4f53-9d43-0a6f5a1f2b7c");
        assert_eq!(keys.bucket(0xa), "routr-registry:{9f3c2c5e-7a0e-4f53-9d43-0a6f5a1f2b7c}:regs:0a");
        assert_eq!(keys.alive(), "routr-registry:{9f3c2c5e-7a0e-4f53-9d43-0a6f5a1f2b7c}:alive");
        // First byte of the well-known SHA-256 of "abc" and of the empty text.
        assert_eq!(bucket_of("abc"), 0xba);
        assert_eq!(bucket_of(""), 0xe3);
        assert_eq!(
            identity("", "abc"),
            "routr-registry:instance:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(keys.owner(), "routr-registry:{9f3c2c5e-7a0e-4f53-9d43-0a6f5a1f2b7c}:owner");
        assert_eq!(Keys::new("app1:", "x").alive(), "app1:routr-registry:{x}:alive");
        assert!(identity("app1:", "abc").starts_with("app1:routr-registry:instance:ba78"));
    }

    #[test]
    fn any_text_is_a_safe_instance_id() {
        let long = "x".repeat(65);
        let odd = ["", "a}b", "a:b", "a b\r\n", "*", "ключ", &long, "sha256:abc"];
        let mut seen = std::collections::HashSet::new();
        for instance in odd {
            let prefix = Keys::new("", instance).prefix;
            let inner = prefix
                .strip_prefix("routr-registry:{sha256:")
                .and_then(|p| p.strip_suffix("}:"))
                .unwrap_or_else(|| panic!("{prefix}"));
            assert_eq!(inner.len(), 64);
            assert!(inner.bytes().all(|b| b.is_ascii_hexdigit()), "{prefix}");
            assert!(seen.insert(prefix));
        }
    }
}
