//! Takes the values of WWW-Authenticate, Authorization and Authentication-Info apart (RFC 7235 §2.1, RFC 3261
//! §25.1).
//!
//! A value may be a list of challenges whose own parts are lists: a word that no `=` follows begins the next
//! one. Any bytes are read, in time in proportion to their number; what is no parameter is passed over.

use std::borrow::Cow;

use super::quoted::{QuotedText, unescaped};
use crate::grammar::{MAX_PARAMS, is_token_byte};

/// Most challenges of one value; more are passed over.
const MAX_CHALLENGES: usize = 16;

/// Schemes that come without parameters, or with a lone word.
const SCHEMES: [&str; 8] = ["Digest", "Basic", "NTLM", "Negotiate", "Kerberos", "Bearer", "AKA", "Mutual"];

/// The parameters of digest, which a sloppy server may leave without a value: no schemes.
const PARAMETERS: [&str; 12] = [
    "realm",
    "domain",
    "nonce",
    "opaque",
    "stale",
    "algorithm",
    "qop",
    "charset",
    "userhash",
    "auth",
    "auth-int",
    "rspauth",
];

/// One challenge or one set of credentials: a scheme and its parameters.
#[derive(Debug, Default)]
pub struct Scheme<'a> {
    name: &'a str,
    params: Vec<Param<'a>>,
}

#[derive(Debug)]
struct Param<'a> {
    name: &'a str,
    /// Text between the quotes, or without any.
    value: Cow<'a, [u8]>,
    quoted: bool,
}

impl<'a> Scheme<'a> {
    /// The bytes of a parameter, as they stand between the quotes. Of a name that comes twice the first
    /// counts.
    fn get(&self, name: &str) -> Option<&Param<'a>> {
        self.params.iter().find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// A parameter to be kept as it came.
    pub(super) fn quoted(&self, name: &str) -> Option<QuotedText> {
        self.get(name).map(|param| QuotedText::read(&param.value))
    }

    /// Returns what a parameter says, as bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.get(name).map(|param| if param.quoted { unescaped(&param.value) } else { (*param.value).into() })
    }

    /// The name; empty where the value begins with a parameter.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Returns what a parameter says, as text, without quotes and escapes; U+FFFD for what is not UTF-8.
    pub fn text(&self, name: &str) -> Option<String> {
        self.bytes(name).map(|said| String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// Returns whether it is of that scheme.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The challenges of one header field value, in their order.
pub fn schemes(value: &[u8]) -> Vec<Scheme<'_>> {
    let mut schemes = Vec::new();
    let mut rest = value;
    loop {
        rest = after_blank(rest, b" \t,");
        let (word, after) = token(rest);
        if word.is_empty() {
            match rest.split_first() {
                None => return schemes,
                // A stray quoted string, or a stray byte.
                Some((b'"', inside)) => rest = quoted_string(inside).1,
                Some((_, others)) => rest = others,
            }
            continue;
        }
        let next = after_blank(after, b" \t");
        if let Some(value) = next.strip_prefix(b"=") {
            rest = parameter(word, value, &mut schemes);
            continue;
        }
        let begins = next.len() < after.len() && begins_parameter(next) && !is_one_of(&PARAMETERS, word);
        if schemes.is_empty() || begins || is_one_of(&SCHEMES, word) {
            if schemes.len() == MAX_CHALLENGES {
                return schemes;
            }
            schemes.push(Scheme { name: word, params: Vec::new() });
        } else if let Some(Param { name, value, quoted: false }) =
            schemes.last_mut().and_then(|scheme| scheme.params.last_mut())
            && name.eq_ignore_ascii_case("qop")
        {
            // `qop=auth,auth-int` without quotes.
            let value = value.to_mut();
            value.push(b',');
            value.extend_from_slice(word.as_bytes());
        }
        rest = after;
    }
}

/// The parameters of a value that has no scheme, as Authentication-Info.
pub(super) fn parameters(value: &[u8]) -> Scheme<'_> {
    schemes(value).into_iter().next().unwrap_or_default()
}

/// Keeps a parameter, and returns what follows it.
fn parameter<'a>(name: &'a str, value: &'a [u8], schemes: &mut Vec<Scheme<'a>>) -> &'a [u8] {
    let value = after_blank(value, b" \t");
    let (value, quoted, rest) = match value.strip_prefix(b"\"") {
        Some(inside) => {
            let (said, rest) = quoted_string(inside);
            (said, true, rest)
        }
        None => {
            let end = bare_end(value);
            (value[..end].trim_ascii_end(), false, &value[end..])
        }
    };
    if schemes.is_empty() {
        schemes.push(Scheme::default());
    }
    if let Some(scheme) = schemes.last_mut()
        && scheme.params.len() < MAX_PARAMS
    {
        scheme.params.push(Param { name, value: Cow::Borrowed(value), quoted });
    }
    rest
}

/// The inside of a quoted string whose first quote is read already, and what follows it. One that nothing
/// ends goes to the end.
fn quoted_string(inside: &[u8]) -> (&[u8], &[u8]) {
    let mut escaped = false;
    let end = inside.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or((inside, &[]), |end| (&inside[..end], &inside[end + 1..]))
}

/// Returns where a value without quotes ends: at a comma, or where a blank and another parameter follow.
fn bare_end(value: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match byte {
            b',' => return at,
            b' ' | b'\t' => {
                let rest = after_blank(&value[at..], b" \t");
                let next = value.len() - rest.len();
                let word = token(rest).0.len();
                if begins_parameter(rest) {
                    return at;
                }
                // What was looked at is not looked at again.
                at = next + word;
            }
            _ => at += 1,
        }
    }
    value.len()
}

fn begins_parameter(text: &[u8]) -> bool {
    let (name, rest) = token(text);
    !name.is_empty() && after_blank(rest, b" \t").starts_with(b"=")
}

fn token(text: &[u8]) -> (&str, &[u8]) {
    let end = text.iter().take_while(|byte| is_token_byte(**byte)).count();
    (std::str::from_utf8(&text[..end]).unwrap_or_default(), &text[end..])
}

fn after_blank<'a>(text: &'a [u8], blank: &[u8]) -> &'a [u8] {
    &text[text.iter().take_while(|byte| blank.contains(byte)).count()..]
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}
