//! The value of a header field.

use std::fmt;

/// Text, and the bytes that came where these are not UTF-8: a realm in Latin-1 has to be hashed and sent back
/// byte by byte.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderValue {
    text: String,
    /// Only where they are not the bytes of `text`.
    bytes: Option<Box<[u8]>>,
}

impl HeaderValue {
    /// The text, with U+FFFD for what is not UTF-8.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes as they travel.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.text.as_bytes())
    }

    /// Makes one comma-separated list of this and what follows it; an empty item leaves no comma.
    pub(super) fn append(&mut self, item: &Self) {
        if item.text.is_empty() {
            return;
        }
        if self.text.is_empty() {
            *self = item.clone();
        } else if self.bytes.is_none() && item.bytes.is_none() {
            self.text.push_str(", ");
            self.text.push_str(&item.text);
        } else {
            *self = [self.as_bytes(), b", ", item.as_bytes()].concat().into();
        }
    }
}

impl AsRef<[u8]> for HeaderValue {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self { text, bytes: None }
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Vec<u8>> for HeaderValue {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(
            |error| {
                let bytes = error.into_bytes();
                Self { text: String::from_utf8_lossy(&bytes).into_owned(), bytes: Some(bytes.into()) }
            },
            Self::from,
        )
    }
}

/// Never the value: it may be a secret.
impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderValue({} bytes)", self.as_bytes().len())
    }
}
