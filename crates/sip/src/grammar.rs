//! The lexical ground of RFC 3261 §25: tokens, quoted strings, lists and parameters. Shared by the other
//! files here.

/// Reason that a text is not what it should be.
///
/// The excerpt of the value is short and never holds a secret: the user part of a URI and the values of
/// header fields are left out of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A part does not follow the grammar.
    #[error("{what} {value:?}: expected {expected}")]
    Malformed {
        /// Name of the part.
        what: &'static str,
        /// A short excerpt.
        value: String,
        /// Correct form of the part.
        expected: &'static str,
    },
    /// A bound is exceeded.
    #[error("{what}: more than the {limit} that are allowed")]
    TooMuch {
        /// Name of the things that there are too many of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A URI of another scheme than `sip` or `sips`, such as `tel`.
    #[error("URI scheme {0:?}: expected sip or sips")]
    Scheme(String),
    /// The message ends before its header fields do, or before its body does.
    #[error("the message is cut off: expected {0}")]
    Truncated(&'static str),
}

impl ParseError {
    pub(super) fn malformed(what: &'static str, value: &str, expected: &'static str) -> Self {
        Self::Malformed { what, value: excerpt(value), expected }
    }
}

/// Returns at most 60 characters of a text, for an error message.
fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// Parameters, in their order: a name, and a value where there is one.
pub type Params = Vec<(String, Option<String>)>;

/// Most parameters that one URI, header field value or credential may have.
pub const MAX_PARAMS: usize = 64;

/// The value of a parameter by name, in any case: `None` where it is missing, `Some(None)` where it has no
/// value.
pub(super) fn find_param<'a>(params: &'a Params, name: &str) -> Option<Option<&'a str>> {
    params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_deref())
}

/// Returns whether all of it is a `token` (and at least one character).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Returns whether the text is safe to stand in a header field or start line: no CR, LF or NUL.
pub(super) fn is_one_line(text: &str) -> bool {
    !text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// Splits at a separator that stands outside quoted strings and outside `<...>`. Pieces are trimmed; an empty
/// text has one empty piece. From a quote or `<` on that nothing ends, quotes and `<...>` have no meaning:
/// one odd item of a list does not swallow those after it.
pub(super) fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut rest, mut enclosed) = (Some(text), true);
    std::iter::from_fn(move || {
        let current = rest?;
        let position = if enclosed { position_outside(current, separator) } else { Err(Unterminated) };
        let position = position.unwrap_or_else(|Unterminated| {
            enclosed = false;
            current.bytes().position(|byte| byte == separator)
        });
        match position {
            Some(at) => {
                rest = Some(&current[at + 1..]);
                Some(current[..at].trim())
            }
            None => {
                rest = None;
                Some(current.trim())
            }
        }
    })
}

/// The items of a comma-separated header field value; empty ones are left out.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    split(text, b',').filter(|item| !item.is_empty())
}

/// A quote or `<` that nothing ends.
struct Unterminated;

/// Returns where an ASCII separator first stands outside quoted strings and `<...>`.
fn position_outside(text: &str, separator: u8) -> Result<Option<usize>, Unterminated> {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted {
            match byte {
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
        } else if byte == separator && !angle {
            return Ok(Some(at));
        } else {
            match byte {
                b'"' => quoted = true,
                b'<' => angle = true,
                b'>' => angle = false,
                _ => {}
            }
        }
    }
    if quoted || angle { Err(Unterminated) } else { Ok(None) }
}

/// Reads a quoted string at the start of the text: what it says, and what follows it. `None` where there is
/// none, or where it does not end.
pub(super) fn take_quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut said = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((said, &inner[at + 1..])),
            '\\' => said.push(chars.next()?.1),
            _ => said.push(c),
        }
    }
    None
}

/// Writes a quoted string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// Reads the value of a parameter: a quoted string (what follows it is passed over), or text as it stands. A
/// quote that nothing ends is left out.
fn param_value(text: &str) -> Option<String> {
    match take_quoted(text) {
        Some((said, _)) => Some(said),
        None => {
            let bare = text.strip_prefix('"').unwrap_or(text);
            (!bare.contains('"')).then(|| bare.to_owned())
        }
    }
}

/// Reads `;name=value;name` as it follows an address or a Via: what stands before the first `;`, and
/// parameters that are malformed, are passed over, and so is what comes after [`MAX_PARAMS`].
pub(super) fn header_params(text: &str) -> Params {
    let pieces = split(text, b';').skip(1).filter(|piece| !piece.is_empty());
    let parsed = pieces.filter_map(|piece| {
        let (name, value) = match piece.split_once('=') {
            Some((name, value)) => (name.trim(), Some(param_value(value.trim())?)),
            None => (piece, None),
        };
        is_token(name).then(|| (name.to_owned(), value))
    });
    parsed.take(MAX_PARAMS).collect()
}

/// Writes parameters as [`header_params`] reads them.
pub(super) fn write_header_params(f: &mut std::fmt::Formatter<'_>, params: &Params) -> std::fmt::Result {
    for (name, value) in params {
        match value {
            None => write!(f, ";{name}")?,
            Some(value) if is_plain_value(value) => write!(f, ";{name}={value}")?,
            Some(value) => write!(f, ";{name}={}", quote(value))?,
        }
    }
    Ok(())
}

/// `token / host` of RFC 3261's gen-value: what needs no quotes.
fn is_plain_value(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| is_token_byte(b) || b"[]:".contains(&b))
}

/// Reads the number that a text begins with; what follows it (a unit, a fraction, a comment) is passed over.
/// A number too great for 32 bits becomes the greatest one (a duration beyond 136 years is «for ever»); a
/// negative one is none.
pub fn seconds(text: &str) -> Option<u32> {
    let text = text.trim_start();
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    (end > 0).then(|| text[..end].parse().unwrap_or(u32::MAX))
}
