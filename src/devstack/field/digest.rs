//! Digest authentication over bytes (RFC 7616, RFC 8760): all algorithms, `-sess`, `auth-int`. Not that of
//! `routr_sip`, which it judges.

use std::fmt;

use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::wire::Wire;
use routr_types::secret::Secret;

/// Result of checking the credentials of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// There are none for that realm.
    #[default]
    None,
    /// Made with the right password, as the case demands it, for a nonce of this node.
    Right,
    /// Another password, algorithm, qop, opaque or digest URI.
    Wrong,
    /// Made with the right password for a nonce that this node did not issue.
    Foreign,
    /// Made with the right password, with an `nc` that is no higher than one before.
    Replayed,
}

/// Demands of a case on credentials: an entry of `digest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Demand {
    /// The realm, with escapes as templates have them.
    pub realm: String,
    /// The algorithm, as a challenge names it; any where it is absent.
    #[serde(default)]
    pub algorithm: Option<String>,
    /// `auth`, `auth-int` or `none`; any where it is absent.
    #[serde(default)]
    pub qop: Option<String>,
    /// Value that opaque must have; anything where it is absent.
    #[serde(default)]
    pub opaque: Option<String>,
}

/// The hash of an algorithm, by the name without `-sess`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Md5,
    Sha256,
    Sha512_256,
}

impl Hash {
    fn hex(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        fn with<D: sha2::Digest>(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
            let text = Zeroizing::new(parts.join(&b':'));
            let digits = b"0123456789abcdef";
            let hash = D::digest(&*text).to_vec();
            let nibbles = hash.into_iter().flat_map(|b| [b >> 4, b & 15]);
            Zeroizing::new(nibbles.map(|n| digits[usize::from(n)]).collect())
        }
        match self {
            Self::Md5 => with::<md5::Md5>(parts),
            Self::Sha256 => with::<sha2::Sha256>(parts),
            Self::Sha512_256 => with::<sha2::Sha512_256>(parts),
        }
    }
}

/// The `name=value` list of a challenge or of credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Params(Vec<(String, Vec<u8>)>);

impl Params {
    /// Reads what follows `Digest`; `None` for another scheme.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let at = value.iter().position(u8::is_ascii_whitespace)?;
        if !value[..at].eq_ignore_ascii_case(b"Digest") {
            return None;
        }
        let mut params = Vec::new();
        for piece in split(&value[at..]) {
            let Some(equals) = piece.iter().position(|b| *b == b'=') else { continue };
            let name = String::from_utf8_lossy(piece[..equals].trim_ascii()).to_ascii_lowercase();
            params.push((name, unquote(piece[equals + 1..].trim_ascii())));
        }
        Some(Self(params))
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    fn algorithm(&self) -> Option<(Hash, bool)> {
        let name = self.text("algorithm").unwrap_or_else(|| "MD5".to_owned()).to_ascii_uppercase();
        let (name, sess) = name.strip_suffix("-SESS").map_or((name.as_str(), false), |name| (name, true));
        let hash = match name {
            "MD5" => Hash::Md5,
            "SHA-256" => Hash::Sha256,
            "SHA-512-256" => Hash::Sha512_256,
            _ => return None,
        };
        Some((hash, sess))
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// All digest credentials of a request: those of the registrar and those of proxies.
pub(super) fn credentials(request: &Wire) -> Vec<Params> {
    let names = ["Authorization", "Proxy-Authorization"];
    names.iter().flat_map(|name| request.all(name)).filter_map(Params::parse).collect()
}

/// Returns whether credentials were made with that password for that request, whatever nonce they use.
pub(super) fn verify(params: &Params, demand: &Demand, password: &Secret, request: &Wire) -> bool {
    let Some((method, uri)) = request.request() else { return false };
    let named = |wanted: &Option<String>, name: &str, default: &str| {
        let given = params.text(name).unwrap_or_else(|| default.to_owned());
        wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(&given))
    };
    let as_demanded = named(&demand.algorithm, "algorithm", "MD5")
        && named(&demand.qop, "qop", "none")
        && demand.opaque.as_ref().is_none_or(|wanted| params.text("opaque").as_ref() == Some(wanted))
        && params.get("uri") == Some(uri.as_bytes());
    let expected = response(params, password, method.as_bytes(), &request.body);
    let given = params.get("response").map(<[u8]>::to_ascii_lowercase);
    let equal = match (expected, given) {
        (Some(expected), Some(given)) => expected.ct_eq(&given).into(),
        _ => false,
    };
    as_demanded && equal
}

/// The `rspauth` of RFC 7616 §3.5 for these credentials, over an empty body.
pub(super) fn rspauth(params: &Params, password: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    response(params, password, b"", b"")
}

/// `response` of RFC 7616 §3.4.1; `None` where a parameter is missing or unknown.
fn response(params: &Params, password: &Secret, method: &[u8], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (hash, sess) = params.algorithm()?;
    let need = |name| params.get(name);
    let (nonce, uri) = (need("nonce")?, need("uri")?);
    let mut ha1 = hash.hex(&[need("username")?, need("realm")?, password.expose().as_bytes()]);
    if sess {
        ha1 = hash.hex(&[&ha1, nonce, need("cnonce")?]);
    }
    let ha2 = match need("qop") {
        Some(qop) if qop.eq_ignore_ascii_case(b"auth-int") => hash.hex(&[method, uri, &hash.hex(&[body])]),
        _ => hash.hex(&[method, uri]),
    };
    Some(match need("qop") {
        Some(qop) => hash.hex(&[&ha1, nonce, need("nc")?, need("cnonce")?, qop, &ha2]),
        None => hash.hex(&[&ha1, nonce, &ha2]),
    })
}

/// Returns an EdgePort's credentials for a challenge: a Digest value with `qop=auth` where it is offered.
/// `None` where there can be none for the challenge.
pub(super) fn answer(
    challenge: &[u8],
    username: &str,
    password: &Secret,
    method: &str,
    uri: &str,
    cnonce: &str,
) -> Option<Vec<u8>> {
    let asked = Params::parse(challenge)?;
    let mut params = vec![
        ("username", username.as_bytes().to_vec()),
        ("realm", asked.get("realm")?.to_vec()),
        ("nonce", asked.get("nonce")?.to_vec()),
        ("uri", uri.as_bytes().to_vec()),
    ];
    params.extend(asked.get("opaque").map(|opaque| ("opaque", opaque.to_vec())));
    let mut bare = vec![("algorithm", asked.get("algorithm").unwrap_or(b"MD5").to_vec())];
    if asked
        .get("qop")
        .is_some_and(|offered| offered.split(|b| *b == b',').any(|q| q.trim_ascii() == b"auth"))
    {
        bare.extend([("qop", b"auth".to_vec()), ("nc", b"00000001".to_vec())]);
        params.push(("cnonce", cnonce.as_bytes().to_vec()));
    }
    let all = params.iter().chain(&bare).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let response = response(&Params(all), password, method.as_bytes(), b"")?;
    params.push(("response", response.to_vec()));
    let quoted = params.iter().map(|(name, value)| [name.as_bytes(), b"=\"", &quote(value), b"\""].concat());
    let bare = bare.iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat());
    Some([b"Digest ", quoted.chain(bare).collect::<Vec<_>>().join(&b", "[..]).as_slice()].concat())
}

fn quote(value: &[u8]) -> Vec<u8> {
    value.iter().flat_map(|b| if b"\"\\".contains(b) { vec![b'\\', *b] } else { vec![*b] }).collect()
}

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    bytes.split(move |b| {
        match (*b, escaped) {
            (_, true) => escaped = false,
            (b'\\', false) if quoted => escaped = true,
            (b'"', false) => quoted = !quoted,
            _ => {}
        }
        *b == b',' && !quoted
    })
}

fn unquote(value: &[u8]) -> Vec<u8> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) else {
        return value.to_vec();
    };
    let (mut text, mut escaped) = (Vec::with_capacity(inner.len()), false);
    for byte in inner {
        escaped = *byte == b'\\' && !escaped;
        if !escaped {
            text.push(*byte);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(value: &str) -> Params {
        Params::parse(value.as_bytes()).unwrap()
    }

    /// RFC 7616 §3.9.1, with its correction of the realm for both hashes.
    #[test]
    fn the_examples_of_the_rfc() {
        let base = r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", nc=00000001, qop=auth,
            nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ""#;
        let password = Secret::new("Circle of Life");
        let expected = [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ];
        for (algorithm, hash) in expected {
            let params = params(&format!("{base}, algorithm={algorithm}"));
            assert_eq!(*response(&params, &password, b"GET", b"").unwrap(), hash.as_bytes(), "{algorithm}");
        }
    }

    #[test]
    fn sess_auth_int_and_bytes_that_are_no_utf_8() {
        let password = Secret::new("p");
        let mut value = b"Digest username=\"u\", realm=\"caf\xE9 \\\"x\\\"\", nonce=\"n\", uri=\"sip:h\", nc=00000001, qop=auth-int, \
            cnonce=\"c\", algorithm=MD5-sess"
            .to_vec();
        let asked = Params::parse(&value).unwrap();
        assert_eq!(asked.get("realm"), Some(&b"caf\xE9 \"x\""[..]));
        let md5 = |parts: &[&[u8]]| Hash::Md5.hex(parts);
        let ha1 = md5(&[&md5(&[b"u", b"caf\xE9 \"x\"", b"p"]), b"n", b"c"]);
        let ha2 = md5(&[b"REGISTER", b"sip:h", &md5(&[b"body"])]);
        let right = md5(&[&ha1, b"n", b"00000001", b"c", b"auth-int", &ha2]);
        value.extend_from_slice(&[b", response=\"", right.as_slice(), b"\""].concat());
        let request =
            Wire { start: b"REGISTER sip:h SIP/2.0".to_vec(), body: b"body".to_vec(), fields: Vec::new() };
        let given = Params::parse(&value).unwrap();
        let demand = |qop: &str| Demand { qop: Some(qop.to_owned()), ..Demand::default() };
        assert!(verify(&given, &demand("auth-int"), &password, &request));
        assert!(!verify(&given, &demand("auth"), &password, &request));
        assert!(!verify(&given, &Demand::default(), &Secret::new("q"), &request));
        let other = Demand { algorithm: Some("MD5".to_owned()), ..Demand::default() };
        assert!(!verify(&given, &other, &password, &request));
        assert!(!format!("{given:?}").contains("response=") && !format!("{given:?}").contains("caf"));
    }

    #[test]
    fn an_edge_port_answers_what_a_registrar_verifies() {
        let password = Secret::new("p");
        for challenge in [
            r#"Digest realm="a \"b\", c", nonce="n""#,
            r#"Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth-int,auth", opaque="o""#,
            r#"Digest realm="r", nonce="n", algorithm=MD5-sess, qop="auth""#,
        ] {
            let value = answer(challenge.as_bytes(), "u", &password, "REGISTER", "sip:h", "c").unwrap();
            let request = Wire { start: b"REGISTER sip:h SIP/2.0".to_vec(), ..Wire::default() };
            let given = Params::parse(&value).unwrap();
            assert!(verify(&given, &Demand::default(), &password, &request), "{challenge}");
        }
        assert_eq!(answer(b"Basic realm=\"r\"", "u", &password, "REGISTER", "sip:h", "c"), None);
    }
}
