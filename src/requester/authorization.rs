//! The `Authorization` field of a request, for callers that answer a challenge themselves.

use super::check::{self, RequestError};
use crate::proto::sipmessage::Authorization;

/// Writes the header field value from those fields that are set.
///
/// # Errors
/// A text with a control character, or a scheme, algorithm or qop that is no token. Nothing but these three
/// is shown.
pub fn read(given: &Authorization) -> Result<String, RequestError> {
    let field = |name: &str| format!("message.authorization.{name}");
    let scheme = if given.scheme.is_empty() { "Digest" } else { &given.scheme };
    check::token(field("scheme"), scheme)?;
    let mut parts = Vec::new();
    let quoted = [
        ("username", &given.username),
        ("realm", &given.realm),
        ("nonce", &given.nonce),
        ("uri", &given.uri),
        ("response", &given.response),
        ("cnonce", &given.c_nonce),
        ("opaque", &given.opaque),
    ];
    for (name, value) in quoted.into_iter().filter(|(_, value)| !value.is_empty()) {
        let value = check::plain_text(field(name), value)?;
        parts.push(format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    let bare = [("algorithm", &given.algorithm), ("qop", &given.qop)];
    for (name, value) in bare.into_iter().filter(|(_, value)| !value.is_empty()) {
        parts.push(format!("{name}={}", check::token(field(name), value)?));
    }
    if given.nonce_count > 0 {
        parts.push(format!("nc={:08x}", given.nonce_count));
    }
    Ok(format!("{scheme} {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_written_and_quotes_are_escaped() {
        let given = Authorization {
            username: "a\"b".into(),
            realm: "r".into(),
            response: "00ff".into(),
            qop: "auth".into(),
            nonce_count: 10,
            ..Authorization::default()
        };
        let written = read(&given).unwrap();
        assert_eq!(written, r#"Digest username="a\"b", realm="r", response="00ff", qop=auth, nc=0000000a"#);
    }

    #[test]
    fn a_line_break_is_refused_unseen() {
        let given = Authorization { response: "hunter2\r\nX: y".into(), ..Authorization::default() };
        let text = read(&given).unwrap_err().to_string();
        assert!(text.starts_with("message.authorization.response: ") && !text.contains("hunter2"), "{text}");
    }
}
