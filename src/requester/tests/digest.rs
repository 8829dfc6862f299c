//! Digests by our own arithmetic, and peers that challenge.

use sha2::Digest as _;

use super::{
    super::Mode,
    peer::{Peer, Raw},
    setup::*,
};
use crate::proto::sipmessage::SipMessage;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn hash(algorithm: &str, bytes: &[u8]) -> String {
    match algorithm.to_ascii_uppercase().trim_end_matches("-SESS") {
        "MD5" => hex(&md5::Md5::digest(bytes)),
        "SHA-256" => hex(&sha2::Sha256::digest(bytes)),
        "SHA-512-256" => hex(&sha2::Sha512_256::digest(bytes)),
        other => panic!("{other}"),
    }
}

/// Parameters that the response in a set of credentials must match, for a request without a body.
pub struct Expected<'a> {
    pub algorithm: &'a str,
    pub username: &'a str,
    pub realm: &'a [u8],
    pub password: &'a str,
}

impl Expected<'_> {
    /// H(A1), by what the credentials say of nonce and cnonce.
    pub fn key(&self, credentials: &Credentials) -> String {
        let Self { algorithm, username, realm, password } = self;
        let plain = [username.as_bytes(), b":", realm, b":", password.as_bytes()].concat();
        let key = hash(algorithm, &plain);
        if !algorithm.to_ascii_lowercase().ends_with("-sess") {
            return key;
        }
        hash(
            algorithm,
            format!("{key}:{}:{}", credentials.need("nonce"), credentials.need("cnonce")).as_bytes(),
        )
    }

    pub fn response(&self, credentials: &Credentials, method: &str) -> String {
        let hash = |text: String| hash(self.algorithm, text.as_bytes());
        let (key, nonce, uri) = (self.key(credentials), credentials.need("nonce"), credentials.need("uri"));
        let qop = credentials.get("qop");
        let request = match qop.as_deref() {
            Some("auth-int") => hash(format!("{method}:{uri}:{}", hash(String::new()))),
            _ => hash(format!("{method}:{uri}")),
        };
        match qop {
            None => hash(format!("{key}:{nonce}:{request}")),
            Some(qop) => {
                let (nc, cnonce) = (credentials.need("nc"), credentials.need("cnonce"));
                hash(format!("{key}:{nonce}:{nc}:{cnonce}:{qop}:{request}"))
            }
        }
    }

    pub fn check(&self, credentials: &Credentials, raw: &Raw) {
        let uri = raw.start_line().split(' ').nth(1).unwrap();
        assert_eq!(credentials.need("uri"), uri);
        assert_eq!(credentials.need("response"), self.response(credentials, "REGISTER"), "{raw:?}");
    }
}

pub const ALICE: Expected<'static> =
    Expected { algorithm: "MD5", username: "alice-auth", realm: b"r", password: PASSWORD };

/// The value of an Authorization or Proxy-Authorization.
#[derive(Debug)]
pub struct Credentials(pub String);

impl Credentials {
    pub fn all(raw: &Raw, name: &str) -> Vec<Self> {
        raw.headers(name)
            .into_iter()
            .map(|value| Self(value.strip_prefix("Digest ").unwrap().to_owned()))
            .collect()
    }

    pub fn one(raw: &Raw, name: &str) -> Self {
        let mut all = Self::all(raw, name);
        assert_eq!(all.len(), 1, "{raw:?}");
        all.remove(0)
    }

    pub fn get(&self, name: &str) -> Option<String> {
        let found = self.0.split(", ").find_map(|item| item.strip_prefix(&format!("{name}=")))?;
        let inside = found.strip_prefix('"').and_then(|found| found.strip_suffix('"'));
        Some(inside.unwrap_or(found).to_owned())
    }

    pub fn need(&self, name: &str) -> String {
        self.get(name).unwrap_or_else(|| panic!("{name} in {self:?}"))
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// A peer that responds to the first request with that status and these lines, and to the next with 200.
pub async fn challenging(status: &'static str, text: &str) -> Peer {
    let lines = lines(text);
    Peer::udp(move |raw, number| match number {
        0 => vec![raw.reply(status, &lines.iter().map(String::as_str).collect::<Vec<_>>())],
        _ => vec![raw.ok()],
    })
    .await
}

pub async fn sent(peer: &Peer) -> SipMessage {
    start(Mode::Direct).await.send(register(&peer.address.to_string())).await
}

pub fn authentication(reply: &SipMessage) -> String {
    let said = extensions(reply, "X-Routr-Authentication");
    assert!(said.len() <= 1);
    said.concat()
}
