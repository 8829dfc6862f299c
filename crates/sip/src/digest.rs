//! Digest authentication, both sides (RFC 3261 §22, RFC 2617, RFC 7616, RFC 8760).
//!
//! MD5, SHA-256 and SHA-512-256, each with and without `-sess`; `qop` `auth`, `auth-int` or none. [`Offer`]
//! is what a response asks for, [`Challenge`] one that can be answered, [`Answer`] the header field that does
//! so. [`Authorization`] is the side of a server.

mod algorithm;
mod answer;
mod offer;
mod quoted;
mod scan;
mod server;

use std::fmt;

pub use self::{
    algorithm::Algorithm,
    answer::{Answer, next_nonce},
    offer::Offer,
    quoted::QuotedText,
    scan::{Scheme, schemes},
    server::{Authorization, verify, verify_signed},
};
use self::{answer::Protected, offer::of_value};
use super::{grammar::is_token, headers::HeaderValue};
pub use routr_types::digest_minimum::{DigestMinimum, UnknownMinimum};
use routr_types::secret::Secret;

/// Reason that a challenge cannot be answered, or credentials cannot be read. Values of credentials are never
/// shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Another scheme than Digest, or none.
    #[error("authentication scheme {0:?}: expected Digest")]
    Scheme(String),
    /// A parameter is missing or malformed.
    #[error("digest parameter {0} is missing or malformed")]
    Parameter(&'static str),
    /// An algorithm that is not implemented.
    #[error("digest algorithm {0:?}: expected MD5, SHA-256 or SHA-512-256, or one of them with -sess")]
    Algorithm(String),
    /// A quality of protection that is not implemented.
    #[error("digest qop {0:?}: expected auth, auth-int, or none")]
    Qop(String),
}

impl DigestError {
    /// Returns what was asked for, in a few words.
    pub fn asked(&self) -> String {
        match self {
            Self::Scheme(scheme) if scheme.is_empty() => "a challenge without a scheme".to_owned(),
            Self::Scheme(scheme) => scheme.clone(),
            Self::Parameter(name) => format!("Digest without a {name}"),
            Self::Algorithm(name) => format!("Digest with algorithm {name}"),
            Self::Qop(names) => format!("Digest with qop {names}"),
        }
    }
}

/// Protection beyond the Request-URI: the quality of protection (RFC 7616 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qop {
    /// Nothing.
    Auth,
    /// The body.
    AuthInt,
}

impl Qop {
    /// The name as it stands in a header field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }

    /// Reads a list of names in any case, with or without quotes; `auth` goes before `auth-int`. An empty
    /// list is none.
    fn parse_list(names: &str) -> Result<Option<Self>, DigestError> {
        let names = || names.split(',').map(|name| name.trim_matches([' ', '\t', '"']));
        let offered = |qop: &Self| names().any(|name| name.eq_ignore_ascii_case(qop.name()));
        match [Self::Auth, Self::AuthInt].into_iter().find(offered) {
            None if names().any(|name| !name.is_empty()) => {
                Err(DigestError::Qop(shortened(&names().collect::<Vec<_>>().join(","))))
            }
            found => Ok(found),
        }
    }
}

/// Demand of a server. `Debug` shows neither nonce nor opaque.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Realm whose password is asked for.
    pub realm: QuotedText,
    /// The server's number used once.
    pub nonce: QuotedText,
    /// Opaque value, which is sent back unchanged.
    pub opaque: Option<QuotedText>,
    /// Hash algorithm.
    pub algorithm: Algorithm,
    /// Spelling of the algorithm by the server, where that is not its usual name: it is sent back so.
    pub spelled: Option<Box<str>>,
    /// The quality of protection that is used of those that are offered; `None` where none is.
    pub qop: Option<Qop>,
    /// The server takes a hash in place of the username (RFC 7616 §3.4.4).
    pub userhash: bool,
    /// Hash realm and nonce with the escapes that they are quoted with: see [`Challenge::as_written`].
    pub with_escapes: bool,
    /// The nonce was too old and the password not at fault: try again with this nonce.
    pub stale: bool,
    /// True for a challenge of a proxy: the credentials go into Proxy-Authorization.
    pub proxy: bool,
}

/// Username and password for a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The username.
    pub username: &'a str,
    /// The password.
    pub password: &'a Secret,
}

/// Parts of a request that a digest is made of.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// The Request-URI as it is written.
    pub uri: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl fmt::Debug for Signed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("method", &self.method).field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("realm", &self.realm)
            .field("algorithm", &self.algorithm)
            .field("qop", &self.qop)
            .field("stale", &self.stale)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

impl Challenge {
    /// Returns whether it offers the minimum.
    pub fn offers(&self, minimum: DigestMinimum) -> bool {
        let strong = self.algorithm.strength() >= Algorithm::Sha256.strength();
        (strong || !minimum.sha256) && (self.qop.is_some() || !minimum.qop)
    }

    /// Reads the value of one WWW-Authenticate or Proxy-Authenticate; of several challenges in it the
    /// strongest that can be answered, among equals the first.
    ///
    /// # Errors
    /// When none can be answered: the reason for the first one.
    pub fn parse(value: impl AsRef<[u8]>, proxy: bool) -> Result<Self, DigestError> {
        let mut trouble = None;
        let mut best: Option<Self> = None;
        for challenge in of_value(value.as_ref(), proxy) {
            match challenge {
                Ok(challenge) if best.as_ref().is_none_or(|best| challenge.is_stronger_than(best)) => {
                    best = Some(challenge);
                }
                Ok(_) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        best.ok_or_else(|| trouble.unwrap_or(DigestError::Scheme(String::new())))
    }

    fn from_scheme(scheme: &Scheme<'_>, proxy: bool) -> Result<Self, DigestError> {
        if !scheme.is("Digest") {
            return Err(DigestError::Scheme(shortened(scheme.name())));
        }
        let name = scheme.text("algorithm").filter(|name| !name.is_empty());
        let algorithm = name.as_deref().map_or(Ok(Algorithm::Md5), Algorithm::parse)?;
        let is_true = |name| scheme.text(name).is_some_and(|said| said.eq_ignore_ascii_case("true"));
        Ok(Self {
            realm: scheme.quoted("realm").ok_or(DigestError::Parameter("realm"))?,
            nonce: scheme.quoted("nonce").ok_or(DigestError::Parameter("nonce"))?,
            opaque: scheme.quoted("opaque"),
            algorithm,
            spelled: name.filter(|name| name != algorithm.name()).map(Into::into),
            qop: scheme.text("qop").map_or(Ok(None), |names| Qop::parse_list(&names))?,
            userhash: is_true("userhash"),
            with_escapes: false,
            stale: is_true("stale"),
            proxy,
        })
    }

    /// The challenge with the other reading of an escaped realm; `None` where it has no escapes.
    ///
    /// Servers disagree on what they hash of `realm="a \"b\""`: what it says, as RFC 9110 §5.6.4 reads a
    /// quoted string, or the bytes between the quotes, as RFC 2617 can be read and several SIP stacks do.
    /// What is sent back is the same.
    pub fn as_written(&self) -> Option<Self> {
        self.realm.as_bytes().contains(&b'\\').then(|| Self { with_escapes: true, ..self.clone() })
    }

    fn is_stronger_than(&self, other: &Self) -> bool {
        self.algorithm.strength() > other.algorithm.strength()
    }

    fn write_algorithm(&self, into: &mut Vec<u8>) {
        let name = self.spelled.as_deref().unwrap_or(self.algorithm.name());
        if is_token(name) {
            into.extend_from_slice(name.as_bytes());
        } else {
            QuotedText::from(name).write(into);
        }
    }

    /// Answers the challenge. `cnonce` is a random text of token characters, the same for all requests that
    /// use this nonce; `nc` says how many have, this one included.
    pub fn authorize(&self, login: Login<'_>, signed: Signed<'_>, cnonce: &str, nc: u32) -> Answer {
        let Self { realm, nonce, algorithm, qop, .. } = self;
        let hashed = |text: &QuotedText| match self.with_escapes {
            true => text.as_bytes().to_vec(),
            false => text.said().into_owned(),
        };
        let (realm_bytes, nonce_bytes) = (hashed(realm), hashed(nonce));
        let nc = format!("{nc:08x}");
        let username = login.username.as_bytes();
        let password = login.password.expose().as_bytes();
        let key = algorithm.key(username, &realm_bytes, password, &nonce_bytes, cnonce.as_bytes());
        let protected = Protected { algorithm: *algorithm, nonce: &nonce_bytes, qop: *qop, nc: &nc, cnonce };
        let response = protected.digest(&key, signed.method.as_bytes(), signed.uri.as_bytes(), signed.body);

        let mut value = b"Digest username=".to_vec();
        if self.userhash {
            let hashed = algorithm.hash(&[username, &realm_bytes]);
            QuotedText::from(hashed.as_str()).write(&mut value);
            value.extend_from_slice(b", userhash=true");
        } else {
            QuotedText::from(login.username).write(&mut value);
        }
        let mut put = |name: &str, text: &QuotedText| {
            value.extend_from_slice(name.as_bytes());
            text.write(&mut value);
        };
        put(", realm=", realm);
        put(", nonce=", nonce);
        put(", uri=", &signed.uri.into());
        put(", response=", &response.as_str().into());
        value.extend_from_slice(b", algorithm=");
        self.write_algorithm(&mut value);
        if let Some(qop) = qop {
            value.extend_from_slice(format!(", qop={}, nc={nc}", qop.name()).as_bytes());
        }
        // A session key cannot be made without it.
        if qop.is_some() || algorithm.is_session() {
            value.extend_from_slice(b", cnonce=");
            QuotedText::from(cnonce).write(&mut value);
        }
        if let Some(opaque) = &self.opaque {
            value.extend_from_slice(b", opaque=");
            opaque.write(&mut value);
        }
        Answer {
            proxy: self.proxy,
            value: value.into(),
            algorithm: *algorithm,
            key,
            nonce: nonce_bytes,
            qop: *qop,
            nc,
            cnonce: cnonce.to_owned(),
            uri: signed.uri.to_owned(),
        }
    }

    /// The header field that makes the challenge: its name and its value.
    pub fn to_header(&self) -> (&'static str, HeaderValue) {
        let mut value = b"Digest realm=".to_vec();
        self.realm.write(&mut value);
        value.extend_from_slice(b", nonce=");
        self.nonce.write(&mut value);
        value.extend_from_slice(b", algorithm=");
        self.write_algorithm(&mut value);
        if let Some(qop) = self.qop {
            value.extend_from_slice(format!(", qop=\"{}\"", qop.name()).as_bytes());
        }
        if let Some(opaque) = &self.opaque {
            value.extend_from_slice(b", opaque=");
            opaque.write(&mut value);
        }
        if self.userhash {
            value.extend_from_slice(b", userhash=true");
        }
        if self.stale {
            value.extend_from_slice(b", stale=true");
        }
        (if self.proxy { "Proxy-Authenticate" } else { "WWW-Authenticate" }, value.into())
    }
}

/// A name as an error shows it.
fn shortened(name: &str) -> String {
    routr_types::text::escaped(name, 40)
}

#[cfg(test)]
mod tests;
