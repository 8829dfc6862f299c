//! Text that stands between quotes.

use std::{borrow::Cow, fmt};

/// The inside of a quoted string byte by byte, its escapes and what is not UTF-8 included: it is sent back as
/// it came.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct QuotedText(Box<[u8]>);

impl QuotedText {
    /// Takes what stood between quotes, or without any. What could not stand between quotes is escaped.
    pub(super) fn read(inside: &[u8]) -> Self {
        let mut escaped = false;
        let fits = inside.iter().all(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            !ends
        });
        if fits && !escaped { Self(inside.into()) } else { Self::escaped(inside) }
    }

    fn escaped(text: &[u8]) -> Self {
        Self(escape(text).collect())
    }

    /// The bytes between the quotes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns what the text says, byte by byte: without escapes.
    pub(super) fn said(&self) -> Cow<'_, [u8]> {
        unescaped(&self.0)
    }

    /// Returns what the text says: without escapes, U+FFFD for what is not UTF-8.
    pub fn plain(&self) -> String {
        String::from_utf8_lossy(&self.said()).into_owned()
    }

    /// Writes it with its quotes.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        into.push(b'"');
        into.extend_from_slice(&self.0);
        into.push(b'"');
    }
}

fn escape(text: &[u8]) -> impl Iterator<Item = u8> {
    let escape = |byte: &u8| matches!(byte, b'"' | b'\\').then_some(b'\\');
    text.iter().flat_map(move |byte| escape(byte).into_iter().chain([*byte]))
}

/// Resolves the escapes of a quoted string.
pub(super) fn unescaped(inside: &[u8]) -> Cow<'_, [u8]> {
    if !inside.contains(&b'\\') {
        return Cow::Borrowed(inside);
    }
    let mut escaped = false;
    let said = inside.iter().filter(|byte| {
        escaped = **byte == b'\\' && !escaped;
        !escaped
    });
    said.copied().collect()
}

impl From<&str> for QuotedText {
    fn from(text: &str) -> Self {
        Self::escaped(text.as_bytes())
    }
}

impl From<String> for QuotedText {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl PartialEq<str> for QuotedText {
    fn eq(&self, other: &str) -> bool {
        self.0.iter().copied().eq(escape(other.as_bytes()))
    }
}

impl PartialEq<&str> for QuotedText {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<String> for QuotedText {
    fn eq(&self, other: &String) -> bool {
        self == other.as_str()
    }
}

impl fmt::Display for QuotedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plain())
    }
}

impl fmt::Debug for QuotedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}
