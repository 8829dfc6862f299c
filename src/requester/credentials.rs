//! `X-Gateway-Auth`: how Routr passes the digest credentials of a trunk along.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::check::RequestError;
use routr_registration::trunk::Credentials;
use routr_types::secret::Secret;

/// The header field that carries base64 of `username:password`.
pub const HEADER: &str = "X-Gateway-Auth";

/// Reads the value of the header field: the username ends at the first colon, so a password may contain
/// colons.
///
/// # Errors
/// When it is not base64 of `username:password`. The value is not shown.
pub fn decode(field: impl fmt::Display, value: &str) -> Result<Credentials, RequestError> {
    let malformed =
        || RequestError::invalid(&field, "expected base64 of username:password; the value is not shown");
    let bytes = Zeroizing::new(STANDARD.decode(value.trim()).map_err(|_| malformed())?);
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
    let (username, password) = text.split_once(':').ok_or_else(malformed)?;
    // The password is only ever hashed; the username becomes a part of a header field.
    if username.chars().any(char::is_control) {
        return Err(RequestError::invalid(
            &field,
            "the username has a control character; the value is not shown",
        ));
    }
    Ok(Credentials { username: username.into(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_colon_splits() {
        let credentials = decode("f", &STANDARD.encode("alice:a:b:c")).unwrap();
        assert_eq!(&*credentials.username, "alice");
        assert_eq!(credentials.password.expose(), "a:b:c");
    }

    #[test]
    fn what_cannot_be_read_is_refused_unseen() {
        for bad in [
            "hunter2!",
            &STANDARD.encode("hunter2"),
            &STANDARD.encode([0xff, b':']),
            &STANDARD.encode("a\r\n:hunter2"),
        ] {
            let text = decode("message.extensions[3].value", bad).unwrap_err().to_string();
            assert!(text.starts_with("message.extensions[3].value: "), "{text}");
            assert!(!text.contains("hunter2") && !text.contains(bad), "{text}");
        }
    }
}
