//! Credentials in response to a challenge, and the proof that the server knows the password.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Algorithm, Qop, QuotedText, scan};
use crate::headers::HeaderValue;

/// Credentials in response to a challenge: a header field, and what proves later that the server knows the
/// password too. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Answer {
    pub(super) proxy: bool,
    pub(super) value: HeaderValue,
    pub(super) algorithm: Algorithm,
    pub(super) key: Zeroizing<String>,
    pub(super) nonce: Vec<u8>,
    pub(super) qop: Option<Qop>,
    pub(super) nc: String,
    pub(super) cnonce: String,
    pub(super) uri: String,
}

impl Answer {
    /// The header field: its name and its value.
    pub fn header(&self) -> (&'static str, HeaderValue) {
        (if self.proxy { "Proxy-Authorization" } else { "Authorization" }, self.value.clone())
    }

    /// Returns whether the server proves that it knows the password: `info` is the value of an
    /// Authentication-Info (for a proxy: Proxy-Authentication-Info) of the response to the request that
    /// carried these credentials, `body` that of the response (RFC 7616 §3.5). `None` where it says nothing
    /// about that.
    pub fn is_proven_by(&self, info: &[u8], body: &[u8]) -> Option<bool> {
        let info = scan::parameters(info);
        let rspauth = Zeroizing::new(info.text("rspauth")?.to_ascii_lowercase());
        let Self { algorithm, nonce, qop, nc, cnonce, .. } = self;
        let count = |nc: &str| u32::from_str_radix(nc, 16).ok();
        let same = info.text("cnonce").is_none_or(|said| said == *cnonce)
            && info.text("nc").is_none_or(|said| count(&said) == count(nc))
            && info.text("qop").is_none_or(|said| qop.is_some_and(|q| said.eq_ignore_ascii_case(q.name())));
        let protected = Protected { algorithm: *algorithm, nonce, qop: *qop, nc, cnonce };
        let expected = protected.digest(&self.key, b"", self.uri.as_bytes(), body);
        Some(same && bool::from(expected.as_bytes().ct_eq(rspauth.as_bytes())))
    }

    /// Returns whether it is for a proxy.
    pub fn is_for_proxy(&self) -> bool {
        self.proxy
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

/// The nonce that a server wants to be used next: of the value of an Authentication-Info or
/// Proxy-Authentication-Info (RFC 7616 §3.5).
pub fn next_nonce(info: &[u8]) -> Option<QuotedText> {
    scan::parameters(info).quoted("nextnonce").filter(|nonce| !nonce.as_bytes().is_empty())
}

/// Input of a digest beside key, method, URI and body.
pub(super) struct Protected<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) nonce: &'a [u8],
    pub(super) qop: Option<Qop>,
    pub(super) nc: &'a str,
    pub(super) cnonce: &'a str,
}

impl Protected<'_> {
    /// KD(H(A1), nonce [: nc : cnonce : qop] : H(A2)) of RFC 7616 §3.4.1, with H(A1) given. Without a method
    /// it is the `rspauth` of §3.5.
    pub(super) fn digest(&self, key: &str, method: &[u8], uri: &[u8], body: &[u8]) -> Zeroizing<String> {
        let Self { algorithm, nonce, qop, nc, cnonce } = self;
        let request = match qop {
            Some(Qop::AuthInt) => algorithm.hash(&[method, uri, algorithm.hash(&[body]).as_bytes()]),
            Some(Qop::Auth) | None => algorithm.hash(&[method, uri]),
        };
        let (key, request) = (key.as_bytes(), request.as_bytes());
        match qop {
            Some(qop) => algorithm.hash(&[
                key,
                nonce,
                nc.as_bytes(),
                cnonce.as_bytes(),
                qop.name().as_bytes(),
                request,
            ]),
            None => algorithm.hash(&[key, nonce, request]),
        }
    }
}
