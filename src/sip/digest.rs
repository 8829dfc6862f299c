//! Digest authentication, both sides (RFC 3261 §22, RFC 2617, RFC 7616, RFC 8760).
//!
//! Algorithms MD5, SHA-256 and SHA-512-256, `qop=auth` or none. Not the `-sess` variants, not `auth-int`.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    grammar::{self, MAX_PARAMS, is_token, quote},
    message::Response,
};
use crate::secret::Secret;

/// Why a challenge cannot be answered, or credentials cannot be read. Values are never shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Another scheme than Digest.
    #[error("authentication scheme: expected Digest")]
    Scheme,
    /// A parameter is missing or malformed.
    #[error("digest parameter {0} is missing or malformed")]
    Parameter(&'static str),
    /// An algorithm that is not implemented.
    #[error("digest algorithm {0:?}: expected MD5, SHA-256 or SHA-512-256")]
    Algorithm(String),
    /// A quality of protection that is not implemented.
    #[error("digest qop {0:?}: expected auth, or none")]
    Qop(String),
}

/// Hash algorithms, the weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// MD5, also where a challenge names none.
    #[default]
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512_256];

    /// The name as it stands in a header field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    fn parse(name: &str) -> Result<Self, DigestError> {
        Self::ALL
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| DigestError::Algorithm(name.chars().take(40).collect()))
    }

    /// The hash of the parts with `:` between them, in lower-case hexadecimal digits.
    fn hash(self, parts: &[&str]) -> Zeroizing<String> {
        fn with<D: sha2::Digest>(parts: &[&str]) -> Zeroizing<String> {
            let mut hash = D::new();
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    hash.update(b":");
                }
                hash.update(part.as_bytes());
            }
            let digits = b"0123456789abcdef";
            let nibbles = hash.finalize().to_vec().into_iter().flat_map(|b| [b >> 4, b & 15]);
            Zeroizing::new(nibbles.map(|n| char::from(digits[usize::from(n)])).collect())
        }
        match self {
            Self::Md5 => with::<md5::Md5>(parts),
            Self::Sha256 => with::<sha2::Sha256>(parts),
            Self::Sha512_256 => with::<sha2::Sha512_256>(parts),
        }
    }
}

/// What a server demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Whose password is asked for.
    pub realm: String,
    /// The server's number used once.
    pub nonce: String,
    /// To be sent back unchanged.
    pub opaque: Option<String>,
    /// Which hash.
    pub algorithm: Algorithm,
    /// Whether `qop=auth` is offered, and so used.
    pub qop_auth: bool,
    /// The nonce was too old and the password not at fault: answer again with this nonce.
    pub stale: bool,
    /// From a proxy (407): the answer goes into Proxy-Authorization.
    pub proxy: bool,
}

impl Challenge {
    /// The strongest challenge of a 401 or 407 that can be answered; among equals the first. `None` where the response
    /// is another one, or carries no challenge at all.
    ///
    /// # Errors
    /// When there are challenges and none of them can be answered: why not, for the first one.
    pub fn from_response(response: &Response) -> Result<Option<Self>, DigestError> {
        let (name, proxy) = match response.code {
            401 => ("WWW-Authenticate", false),
            407 => ("Proxy-Authenticate", true),
            _ => return Ok(None),
        };
        let mut best: Option<Self> = None;
        let mut trouble = None;
        for value in response.headers.get_all(name) {
            match Self::parse(value, proxy) {
                Ok(challenge) if best.as_ref().is_none_or(|b| b.algorithm < challenge.algorithm) => {
                    best = Some(challenge);
                }
                Ok(_) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        match (best, trouble) {
            (None, Some(error)) => Err(error),
            (best, _) => Ok(best),
        }
    }

    /// Reads the value of one WWW-Authenticate or Proxy-Authenticate.
    ///
    /// # Errors
    /// When it cannot be answered.
    pub fn parse(value: &str, proxy: bool) -> Result<Self, DigestError> {
        let params = AuthParams::parse(value)?;
        let qop_auth = match params.get("qop") {
            None => false,
            Some(offered) if offered.split(',').any(|o| o.trim().eq_ignore_ascii_case("auth")) => true,
            Some(other) => return Err(DigestError::Qop(other.chars().take(40).collect())),
        };
        Ok(Self {
            realm: params.need("realm")?,
            nonce: params.need("nonce")?,
            opaque: params.get("opaque").map(str::to_owned),
            algorithm: Algorithm::parse(params.get("algorithm").unwrap_or("MD5"))?,
            qop_auth,
            stale: params.get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
            proxy,
        })
    }

    /// The header field that answers the challenge: its name and its value. `uri` is the Request-URI as it is written,
    /// `cnonce` a random text of token characters, `nc` how many requests have used this nonce, this one included.
    pub fn authorize(
        &self,
        username: &str,
        password: &Secret,
        method: &str,
        uri: &str,
        cnonce: &str,
        nc: u32,
    ) -> (&'static str, String) {
        let nc = format!("{nc:08x}");
        let qop = self.qop_auth.then_some(("auth", nc.as_str(), cnonce));
        let ha1 = self.algorithm.hash(&[username, &self.realm, password.expose()]);
        let response = answer(self.algorithm, &ha1, &self.nonce, qop, method, uri);
        let mut value = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{}\", algorithm={}",
            quote(username),
            quote(&self.realm),
            quote(&self.nonce),
            quote(uri),
            *response,
            self.algorithm.name(),
        );
        if self.qop_auth {
            value.push_str(&format!(", qop=auth, nc={nc}, cnonce={}", quote(cnonce)));
        }
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque={}", quote(opaque)));
        }
        (if self.proxy { "Proxy-Authorization" } else { "Authorization" }, value)
    }

    /// The header field that makes the challenge: its name and its value.
    pub fn to_header(&self) -> (&'static str, String) {
        let mut value = format!(
            "Digest realm={}, nonce={}, algorithm={}",
            quote(&self.realm),
            quote(&self.nonce),
            self.algorithm.name()
        );
        if self.qop_auth {
            value.push_str(", qop=\"auth\"");
        }
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque={}", quote(opaque)));
        }
        if self.stale {
            value.push_str(", stale=true");
        }
        (if self.proxy { "Proxy-Authenticate" } else { "WWW-Authenticate" }, value)
    }
}

/// RFC 7616 §3.4.1, with H(A1) given: KD(H(A1), nonce [: nc : cnonce : qop] : H(A2)).
fn answer(
    algorithm: Algorithm,
    ha1: &str,
    nonce: &str,
    qop: Option<(&str, &str, &str)>,
    method: &str,
    uri: &str,
) -> Zeroizing<String> {
    let ha2 = algorithm.hash(&[method, uri]);
    match qop {
        Some((qop, nc, cnonce)) => algorithm.hash(&[ha1, nonce, nc, cnonce, qop, &ha2]),
        None => algorithm.hash(&[ha1, nonce, &ha2]),
    }
}

/// The credentials of a request, as a server reads them. `Debug` shows neither the response nor the cnonce.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Who it claims to be.
    pub username: String,
    /// The realm that was answered; the server compares it with its own.
    pub realm: String,
    /// The nonce that was answered; the server checks that it is its own, and fresh.
    pub nonce: String,
    /// The digest URI; the server compares it with the Request-URI.
    pub uri: String,
    /// Which hash.
    pub algorithm: Algorithm,
    /// What the challenge said.
    pub opaque: Option<String>,
    /// nc and cnonce where `qop=auth` is used.
    qop: Option<(String, String)>,
    response: Zeroizing<String>,
}

impl Authorization {
    /// Reads the value of Authorization or Proxy-Authorization.
    ///
    /// # Errors
    /// When it is not Digest, lacks a parameter, or uses what is not implemented.
    pub fn parse(value: &str) -> Result<Self, DigestError> {
        let params = AuthParams::parse(value)?;
        let qop = match params.get("qop") {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                Some((params.need("nc")?, params.need("cnonce")?))
            }
            Some(other) => return Err(DigestError::Qop(other.chars().take(40).collect())),
        };
        let authorization = Self {
            username: params.need("username")?,
            realm: params.need("realm")?,
            nonce: params.need("nonce")?,
            uri: params.need("uri")?,
            algorithm: Algorithm::parse(params.get("algorithm").unwrap_or("MD5"))?,
            opaque: params.get("opaque").map(str::to_owned),
            qop,
            response: Zeroizing::new(params.need("response")?.to_ascii_lowercase()),
        };
        if authorization.qop.is_some() && authorization.nonce_count().is_none() {
            return Err(DigestError::Parameter("nc"));
        }
        Ok(authorization)
    }

    /// How many requests have used the nonce, this one included; `None` without `qop=auth`.
    pub fn nonce_count(&self) -> Option<u32> {
        let (nc, _) = self.qop.as_ref()?;
        let digits = nc.len() == 8 && nc.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u32::from_str_radix(nc, 16).ok()).flatten()
    }

    /// Whether `qop=auth` is used.
    pub fn has_qop(&self) -> bool {
        self.qop.is_some()
    }
}

/// Whether the credentials were made with that password for that method. Takes the same time wherever they differ.
/// Realm, nonce and URI are taken as the credentials have them: the caller compares them with its own first.
pub fn verify(authorization: &Authorization, password: &Secret, method: &str) -> bool {
    let Authorization { username, realm, nonce, uri, algorithm, qop, response, .. } = authorization;
    let ha1 = algorithm.hash(&[username, realm, password.expose()]);
    let qop = qop.as_ref().map(|(nc, cnonce)| ("auth", nc.as_str(), cnonce.as_str()));
    let expected = answer(*algorithm, &ha1, nonce, qop, method, uri);
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

/// The `name=value` list after the scheme. Of a name that comes twice the first counts.
struct AuthParams(Vec<(String, String)>);

impl AuthParams {
    fn parse(value: &str) -> Result<Self, DigestError> {
        let (scheme, rest) = value.trim().split_once([' ', '\t']).ok_or(DigestError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Err(DigestError::Scheme);
        }
        let mut params = Vec::new();
        for piece in grammar::list(rest).take(MAX_PARAMS) {
            let malformed = DigestError::Parameter("list");
            let Some((name, value)) = piece.split_once('=') else { return Err(malformed) };
            match (name.trim(), grammar::param_value(value.trim())) {
                (name, Some(value)) if is_token(name) => params.push((name.to_owned(), value)),
                _ => return Err(malformed),
            }
        }
        Ok(Self(params))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &'static str) -> Result<String, DigestError> {
        self.get(name).map(str::to_owned).ok_or(DigestError::Parameter(name))
    }
}

#[cfg(test)]
mod tests;
