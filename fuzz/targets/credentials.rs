//! Credentials as they are handed on: X-Gateway-Auth, the Authorization of a caller, and back.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use routr_registration::trunk::Credentials;
use routr_registry::{
    proto::sipmessage as proto,
    requester::{authorization, credentials},
};
use routr_sip::digest::{Authorization, verify};
use routr_types::secret::Secret;

use super::support::{assert_presentable, is_distinct, is_one_line, shows, text};

pub fn run(data: &[u8]) {
    let text = text(data);
    decode(&text, data);
    // The text as what is encoded.
    let encoded = BASE64_STANDARD.encode(&text);
    if let Some((username, password)) = decode(&encoded, encoded.as_bytes()) {
        assert_eq!(format!("{username}:{password}"), text);
    }
    if let Ok(given) = proto::Authorization::decode(data) {
        authorize(&given, data);
    }
}

fn decode(value: &str, data: &[u8]) -> Option<(String, String)> {
    let read = |value: &str| credentials::decode("message.extensions[0].value (X-Gateway-Auth)", value);
    match read(value) {
        Ok(found) => {
            assert!(!found.username.contains(':') && !found.username.contains(char::is_control));
            let password = found.password.expose();
            let other = Credentials { password: Secret::new("another"), ..found.clone() };
            assert_eq!(format!("{found:?}"), format!("{other:?}"));
            Some((found.username.into(), password.to_owned()))
        }
        Err(error) => {
            let said = assert_presentable(&error);
            let others = ["!".to_owned(), BASE64_STANDARD.encode("\n:")]
                .map(|bad| read(&bad).unwrap_err().to_string());
            let others = others.iter().map(String::as_str);
            assert!(!is_distinct(data, value) || !shows(&said, value, others), "{said}");
            None
        }
    }
}

/// Asserts that credentials which a caller gives field by field are written so that a server reads the same
/// fields.
fn authorize(given: &proto::Authorization, data: &[u8]) {
    let with = |response: &str| proto::Authorization { response: response.into(), ..given.clone() };
    assert_eq!(format!("{given:?}"), format!("{:?}", with("another")));
    let written = match authorization::read(given) {
        Ok(written) => written,
        Err(error) => {
            let said = assert_presentable(&error);
            let others = ["another", "\n"].map(|other| authorization::read(&with(other)));
            let others = others.map(|other| other.err().map_or_else(String::new, |error| error.to_string()));
            let others = others.iter().map(String::as_str);
            return assert!(
                !is_distinct(data, &given.response) || !shows(&said, &given.response, others),
                "{said}"
            );
        }
    };
    assert!(is_one_line(&written));
    let Ok(read) = Authorization::parse(&written) else { return };
    assert!(read.username == given.username && read.realm == given.realm && read.nonce == given.nonce);
    let opaque = read.opaque.as_ref().map(|opaque| opaque.plain()).unwrap_or_default();
    assert_eq!((&read.uri, opaque), (&given.uri, given.opaque.clone()));
    assert!(read.nonce_count().is_none_or(|count| i64::from(count) == i64::from(given.nonce_count)));
    // No one has found a password by chance.
    assert!(!verify(&read, &Secret::new(super::SECRET), "REGISTER") || given.response.len() >= 32);
}
