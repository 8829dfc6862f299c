//! The challenge of a 401 as Routr's `WWWAuthenticate`.

use crate::{
    proto::sipmessage::WwwAuthenticate,
    sip::{grammar, message::Response},
};

/// The challenge that comes back as a field, and where it stands among all header fields: the first one that is Digest,
/// else the first.
pub fn write(response: &Response) -> Option<(usize, WwwAuthenticate)> {
    let challenges: Vec<_> = response
        .headers
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| name.eq_ignore_ascii_case("WWW-Authenticate"))
        .map(|(at, (_, value))| (at, read(value)))
        .collect();
    let digest = challenges.iter().find(|(_, challenge)| challenge.scheme.eq_ignore_ascii_case("Digest"));
    digest.or(challenges.first()).cloned()
}

fn read(value: &str) -> WwwAuthenticate {
    let (scheme, rest) = value.trim().split_once([' ', '\t']).unwrap_or((value.trim(), ""));
    let mut challenge = WwwAuthenticate { scheme: scheme.to_owned(), ..WwwAuthenticate::default() };
    for (name, value) in grammar::list(rest).filter_map(|item| item.split_once('=')) {
        let value = unquote(value.trim());
        match name.trim().to_ascii_lowercase().as_str() {
            "realm" => challenge.realm = value,
            "domain" => challenge.domain = value,
            "nonce" => challenge.nonce = value,
            "algorithm" => challenge.algorithm = value,
            "qop" => challenge.qop = value,
            "opaque" => challenge.opaque = value,
            "stale" => challenge.stale = value.eq_ignore_ascii_case("true"),
            _ => {}
        }
    }
    challenge
}

fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut said = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            said.push(c);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let value = r#"Digest realm="a \"b\", c", domain="sip:x", nonce="n,1", algorithm=SHA-256, qop="auth,auth-int", opaque="o", stale=TRUE"#;
        let expected = WwwAuthenticate {
            realm: r#"a "b", c"#.into(),
            domain: "sip:x".into(),
            scheme: "Digest".into(),
            nonce: "n,1".into(),
            algorithm: "SHA-256".into(),
            qop: "auth,auth-int".into(),
            opaque: "o".into(),
            stale: true,
        };
        assert_eq!(read(value), expected);
    }
}
