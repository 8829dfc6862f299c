//! The side of a server.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    Algorithm, DigestError, Protected, Qop, QuotedText, Signed,
    scan::{Scheme, schemes},
    shortened,
};
use routr_types::secret::Secret;

/// The credentials of a request, as a server reads them. `Debug` shows neither the response nor the cnonce.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Username that it claims; with `userhash` a hash of that.
    pub username: String,
    /// The username is hashed (RFC 7616 §3.4.4).
    pub userhash: bool,
    /// The realm that was answered; the server compares it with its own.
    pub realm: QuotedText,
    /// The nonce that was answered; the server checks that it is its own, and fresh.
    pub nonce: QuotedText,
    /// The digest URI; the server compares it with the Request-URI.
    pub uri: String,
    /// Hash algorithm.
    pub algorithm: Algorithm,
    /// Opaque value of the challenge.
    pub opaque: Option<QuotedText>,
    /// The quality of protection, where one is used.
    pub qop: Option<Qop>,
    nc: String,
    cnonce: String,
    response: Zeroizing<String>,
}

impl Authorization {
    /// Reads the value of Authorization or Proxy-Authorization.
    ///
    /// # Errors
    /// When it is not Digest, lacks a parameter, or uses what is not implemented.
    pub fn parse(value: impl AsRef<[u8]>) -> Result<Self, DigestError> {
        let schemes = schemes(value.as_ref());
        let params = schemes.first().ok_or_else(|| DigestError::Scheme(String::new()))?;
        if !params.is("Digest") {
            return Err(DigestError::Scheme(shortened(params.name())));
        }
        let qop = params.text("qop").map_or(Ok(None), |name| Qop::parse_list(&name))?;
        let algorithm = params.text("algorithm").filter(|name| !name.is_empty());
        let algorithm = algorithm.as_deref().map_or(Ok(Algorithm::Md5), Algorithm::parse)?;
        let quoted = |name| params.quoted(name).ok_or(DigestError::Parameter(name));
        let (mut nc, mut cnonce) = (String::new(), String::new());
        if qop.is_some() {
            nc = text(params, "nc")?;
        }
        if qop.is_some() || algorithm.is_session() {
            cnonce = text(params, "cnonce")?;
        }
        let authorization = Self {
            username: text(params, "username")?,
            userhash: params.text("userhash").is_some_and(|said| said.eq_ignore_ascii_case("true")),
            realm: quoted("realm")?,
            nonce: quoted("nonce")?,
            uri: text(params, "uri")?,
            algorithm,
            opaque: params.quoted("opaque"),
            qop,
            nc,
            cnonce,
            response: Zeroizing::new(text(params, "response")?.to_ascii_lowercase()),
        };
        if authorization.qop.is_some() && authorization.nonce_count().is_none() {
            return Err(DigestError::Parameter("nc"));
        }
        Ok(authorization)
    }

    /// Returns how many requests have used the nonce, this one included; `None` without a `qop`.
    pub fn nonce_count(&self) -> Option<u32> {
        let digits = self.nc.len() == 8 && self.nc.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u32::from_str_radix(&self.nc, 16).ok()).flatten()
    }

    /// Returns whether a `qop` is used.
    pub fn has_qop(&self) -> bool {
        self.qop.is_some()
    }
}

fn text(params: &Scheme<'_>, name: &'static str) -> Result<String, DigestError> {
    let said = params.bytes(name).ok_or(DigestError::Parameter(name))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Returns whether the credentials were made with that password for that method, without a body: see
/// [`verify_signed`].
pub fn verify(authorization: &Authorization, password: &Secret, method: &str) -> bool {
    let signed = Signed { method, uri: &authorization.uri, body: b"" };
    verify_signed(authorization, &authorization.username, password, signed)
}

/// Returns whether the credentials were made with that username and password for that request. Takes the same
/// time wherever they differ. Realm and nonce are taken as the credentials have them: the caller compares
/// them with its own first.
pub fn verify_signed(
    authorization: &Authorization,
    username: &str,
    password: &Secret,
    signed: Signed<'_>,
) -> bool {
    let Authorization { realm, nonce, algorithm, qop, nc, cnonce, response, .. } = authorization;
    let (username, password) = (username.as_bytes(), password.expose().as_bytes());
    let (realm, nonce) = (realm.said(), nonce.said());
    let key = algorithm.key(username, &realm, password, &nonce, cnonce.as_bytes());
    let protected = Protected { algorithm: *algorithm, nonce: &nonce, qop: *qop, nc, cnonce };
    let expected = protected.digest(&key, signed.method.as_bytes(), signed.uri.as_bytes(), signed.body);
    expected.as_bytes().ct_eq(response.as_bytes()).into()
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .field("uri", &self.uri)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
