//! Checks of the texts that become parts of a SIP message. What passes here cannot end a header field, a URI
//! or a parameter early.

use std::fmt;

use routr_types::{host::is_host, text};

/// Reason that a request is refused before anything is sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A field of the request is missing, or holds what cannot be sent.
    #[error("{field}: {problem}")]
    Invalid {
        /// Path of the field in `SendMessageRequest`.
        field: String,
        /// Problem and suggested correction. Never a secret.
        problem: String,
    },
    /// The request is fine, but asks for something that is not offered here.
    #[error("{0}")]
    Unsupported(String),
    /// The request is fine, but asks for something that the rules do not allow: the field, and the flag that
    /// allows it.
    #[error("{0}")]
    Denied(String),
}

impl RequestError {
    /// Blames one field.
    pub fn invalid(field: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.to_string(), problem: problem.into() }
    }
}

/// A value as an error may show it: escaped, and cut where it is long.
pub fn shown(value: &str) -> String {
    text::quoted(value, 64)
}

/// A `token` of RFC 3261 §25.1.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

/// Refuses control characters (CR, LF and NUL among them). The value is not shown: it may be a secret.
pub fn plain_text(field: impl fmt::Display, value: &str) -> Result<&str, RequestError> {
    match value.char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
        None => Ok(value),
        Some((at, c)) => Err(RequestError::invalid(
            field,
            format!(
                "has the control character U+{:04X} at byte {at}; a header field is one line of text",
                u32::from(c)
            ),
        )),
    }
}

/// A token, as tags, methods and the names of header fields are.
pub fn token(field: impl fmt::Display, value: &str) -> Result<&str, RequestError> {
    if is_token(value) {
        Ok(value)
    } else {
        Err(RequestError::invalid(field, format!("{} is not a token (RFC 3261 §25.1)", shown(value))))
    }
}

/// A Call-ID: visible ASCII characters without a space.
pub fn call_id(field: impl fmt::Display, value: &str) -> Result<&str, RequestError> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(value)
    } else {
        Err(RequestError::invalid(
            field,
            format!("{} is not a Call-ID: visible ASCII characters, no space", shown(value)),
        ))
    }
}

/// A host name or IP address; brackets around an IPv6 address are dropped.
pub fn host(field: impl fmt::Display, value: &str) -> Result<String, RequestError> {
    let bracketed = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
    let bare = bracketed.unwrap_or(value);
    if is_host(bare) && (bracketed.is_none() || bare.contains(':')) {
        Ok(bare.to_owned())
    } else {
        Err(RequestError::invalid(field, format!("{} is not a host name or an IP address", shown(value))))
    }
}

/// A port, where -1 and 0 mean «none».
pub fn port(field: impl fmt::Display, value: i32) -> Result<Option<u16>, RequestError> {
    match value {
        -1 | 0 => Ok(None),
        _ => u16::try_from(value).map(Some).map_err(|_| {
            RequestError::invalid(field, format!("{value} is not a port: 1 to 65535, or -1 for none"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(host("f", "[::1]").unwrap(), "::1");
        assert_eq!(host("f", "fe80::1").unwrap(), "fe80::1");
        assert_eq!(host("f", "sip_1.example.com").unwrap(), "sip_1.example.com");
        for bad in ["", "[]", "[a]", "a b", "a\r\nX: y", "a;b", "a>b", "1:2", "a@b"] {
            let text = host("f", bad).unwrap_err().to_string();
            assert!(text.starts_with("f: \""), "{text}");
            assert!(!text.contains(['\r', '\n']), "{text:?}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(port("f", -1), Ok(None));
        assert_eq!(port("f", 0), Ok(None));
        assert_eq!(port("f", 65535), Ok(Some(65535)));
        assert!(port("f", 65536).is_err());
        assert!(port("f", -2).is_err());
    }

    #[test]
    fn control_characters_are_refused_without_showing_the_text() {
        assert!(plain_text("f", "some text\twith a tab, \"quotes\" and é").is_ok());
        for bad in ["secret\r\nVia: x", "secret\n", "secret\0", "secret\u{7f}", "secret\u{85}"] {
            let text = plain_text("f", bad).unwrap_err().to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn long_values_are_cut() {
        let text = shown(&"x".repeat(10_000));
        assert!(text.len() < 80 && text.ends_with("...\""), "{text}");
    }
}
