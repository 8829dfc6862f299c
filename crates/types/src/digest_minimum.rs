//! The least that a challenge must offer: a weaker one gets no credentials, no matter who asks for them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Minimum that a challenge must offer. By default anything will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DigestMinimum {
    /// No MD5: SHA-256 or SHA-512-256.
    pub sha256: bool,
    /// A quality of protection, so that the response covers a nonce count and a nonce of ours.
    pub qop: bool,
}

impl DigestMinimum {
    /// Returns whether anything will do.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Returns what satisfies both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { sha256: self.sha256 || other.sha256, qop: self.qop || other.qop }
    }

    /// The minimum in words.
    pub fn words(self) -> &'static str {
        match (self.sha256, self.qop) {
            (true, true) => "SHA-256 or better with qop",
            (true, false) => "SHA-256 or better",
            (false, true) => "qop",
            (false, false) => "none",
        }
    }
}

/// Writes the value of the header field X-Routr-Digest: `sha-256`, `qop`, or both with a comma between them.
impl fmt::Display for DigestMinimum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.sha256, self.qop) {
            (true, true) => "sha-256, qop",
            (true, false) => "sha-256",
            (false, true) => "qop",
            (false, false) => "",
        })
    }
}

/// A text that is no [`DigestMinimum`]: a word of it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected sha-256, qop, or both with a comma between them")]
pub struct UnknownMinimum;

impl FromStr for DigestMinimum {
    type Err = UnknownMinimum;

    /// An unknown word is an error: what a later version demands must not be passed over.
    fn from_str(text: &str) -> Result<Self, UnknownMinimum> {
        let mut minimum = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.to_ascii_lowercase().as_str() {
                "sha-256" => minimum.sha256 = true,
                "qop" => minimum.qop = true,
                _ => return Err(UnknownMinimum),
            }
        }
        Ok(minimum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_written() {
        for (sha256, qop) in [(false, false), (false, true), (true, false), (true, true)] {
            let minimum = DigestMinimum { sha256, qop };
            assert_eq!(minimum.to_string().parse(), Ok(minimum));
        }
        assert_eq!(" QOP ,".parse(), Ok(DigestMinimum { sha256: false, qop: true }));
        assert_eq!("sha-3".parse::<DigestMinimum>(), Err(UnknownMinimum));
    }
}
