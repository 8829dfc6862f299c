//! The hashes.

use zeroize::Zeroizing;

use super::DigestError;

/// Hash algorithms, each also with a key for each session (RFC 7616 §3.4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5, also where a challenge names none.
    #[default]
    Md5,
    /// MD5 with a session key.
    Md5Sess,
    /// SHA-256.
    Sha256,
    /// SHA-256 with a session key.
    Sha256Sess,
    /// SHA-512/256.
    Sha512_256,
    /// SHA-512/256 with a session key.
    Sha512_256Sess,
}

impl Algorithm {
    const ALL: [Self; 6] =
        [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess, Self::Sha512_256, Self::Sha512_256Sess];

    /// The name as it stands in a header field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
            Self::Sha512_256 => "SHA-512-256",
            Self::Sha512_256Sess => "SHA-512-256-sess",
        }
    }

    /// Returns whether the key belongs to one session.
    pub fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess | Self::Sha512_256Sess)
    }

    /// The place among all: a greater number is a stronger hash (RFC 8760 §2.4); a session key makes no
    /// difference.
    pub fn strength(self) -> u8 {
        match self {
            Self::Md5 | Self::Md5Sess => 0,
            Self::Sha256 | Self::Sha256Sess => 1,
            Self::Sha512_256 | Self::Sha512_256Sess => 2,
        }
    }

    /// Reads a name in any case; `SHA256` and `SHA-512/256`, which are seen too, count.
    pub(super) fn parse(name: &str) -> Result<Self, DigestError> {
        let plain = name.replace('/', "-");
        let same = |known: &&Self| {
            let known = known.name();
            known.eq_ignore_ascii_case(&plain) || known.replacen('-', "", 1).eq_ignore_ascii_case(&plain)
        };
        let known = Self::ALL.iter().find(same);
        known.copied().ok_or_else(|| DigestError::Algorithm(super::shortened(name)))
    }

    /// The hash of the parts with `:` between them, in lower-case hexadecimal digits.
    pub(super) fn hash(self, parts: &[&[u8]]) -> Zeroizing<String> {
        fn with<D: sha2::Digest>(parts: &[&[u8]]) -> Zeroizing<String> {
            let mut hash = D::new();
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    hash.update(b":");
                }
                hash.update(part);
            }
            let digits = b"0123456789abcdef";
            let nibbles = hash.finalize().to_vec().into_iter().flat_map(|b| [b >> 4, b & 15]);
            Zeroizing::new(nibbles.map(|n| char::from(digits[usize::from(n)])).collect())
        }
        match self {
            Self::Md5 | Self::Md5Sess => with::<md5::Md5>(parts),
            Self::Sha256 | Self::Sha256Sess => with::<sha2::Sha256>(parts),
            Self::Sha512_256 | Self::Sha512_256Sess => with::<sha2::Sha512_256>(parts),
        }
    }

    /// H(A1) of RFC 7616 §3.4.2.
    pub(super) fn key(
        self,
        username: &[u8],
        realm: &[u8],
        password: &[u8],
        nonce: &[u8],
        cnonce: &[u8],
    ) -> Zeroizing<String> {
        let key = self.hash(&[username, realm, password]);
        if self.is_session() { self.hash(&[key.as_bytes(), nonce, cnonce]) } else { key }
    }
}
