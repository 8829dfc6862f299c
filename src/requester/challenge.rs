//! The challenge of a 401 as Routr's `WWWAuthenticate`.

use crate::proto::sipmessage::WwwAuthenticate;
use routr_sip::{
    digest::{Scheme, schemes},
    message::Response,
};

/// The challenge that comes back as a field, and the number of the WWW-Authenticate that says nothing else:
/// the first that is Digest, else the first.
pub fn write(response: &Response) -> Option<(Option<usize>, WwwAuthenticate)> {
    let mut first = None;
    for (at, value) in response.headers.get_all_bytes("WWW-Authenticate").enumerate() {
        let schemes = schemes(value);
        let alone = (schemes.len() == 1).then_some(at);
        if let Some(digest) = schemes.iter().find(|scheme| scheme.is("Digest")) {
            return Some((alone, read(digest)));
        }
        first = first.or_else(|| schemes.first().map(|scheme| (alone, read(scheme))));
    }
    first
}

fn read(scheme: &Scheme<'_>) -> WwwAuthenticate {
    let text = |name| scheme.text(name).unwrap_or_default();
    WwwAuthenticate {
        realm: text("realm"),
        domain: text("domain"),
        scheme: scheme.name().to_owned(),
        nonce: text("nonce"),
        algorithm: text("algorithm"),
        qop: text("qop"),
        opaque: text("opaque"),
        stale: text("stale").eq_ignore_ascii_case("true"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let value = r#"Basic realm="x", Digest realm="a \"b\", c", domain="sip:x", nonce="n,1", algorithm=SHA-256, qop="auth,auth-int", opaque="o", stale=TRUE"#;
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
        let schemes = schemes(value.as_bytes());
        assert_eq!(schemes.len(), 2);
        assert_eq!(read(&schemes[1]), expected);
    }
}
