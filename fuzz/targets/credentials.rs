//! Credentials as they are handed on: X-Gateway-Auth, the Authorization of a caller, and back.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use routr_registry::{
    proto::sipmessage as proto,
    requester::{authorization, credentials},
    secret::Secret,
    sip::digest::{Authorization, verify},
};

use super::support::{assert_presentable, is_distinct, is_one_line, text};

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
    match credentials::decode("message.extensions[0].value (X-Gateway-Auth)", value) {
        Ok(found) => {
            assert!(!found.username.contains(':') && !found.username.contains(char::is_control));
            let password = found.password.expose();
            assert!(!is_distinct(data, password) || !format!("{found:?}").contains(password));
            Some((found.username.into(), password.to_owned()))
        }
        Err(error) => {
            let said = assert_presentable(&error);
            assert!(!is_distinct(data, value) || !said.contains(value), "{said}");
            None
        }
    }
}

/// What a caller gives field by field is written so that a server reads the same fields.
fn authorize(given: &proto::Authorization, data: &[u8]) {
    assert!(!is_distinct(data, &given.response) || !format!("{given:?}").contains(&given.response));
    let written = match authorization::read(given) {
        Ok(written) => written,
        Err(error) => {
            let said = assert_presentable(&error);
            return assert!(!is_distinct(data, &given.response) || !said.contains(&given.response), "{said}");
        }
    };
    assert!(is_one_line(&written));
    let Ok(read) = Authorization::parse(&written) else { return };
    assert_eq!((&read.username, &read.realm, &read.nonce), (&given.username, &given.realm, &given.nonce));
    assert_eq!((&read.uri, read.opaque.as_deref().unwrap_or_default()), (&given.uri, given.opaque.as_str()));
    assert!(read.nonce_count().is_none_or(|count| i64::from(count) == i64::from(given.nonce_count)));
    // Nobody has found a password by chance.
    assert!(!verify(&read, &Secret::new(super::SECRET), "REGISTER") || given.response.len() >= 32);
}
