//! Header fields: an ordered list that cannot hold what would break out of its line.

use std::{borrow::Cow, fmt};

use super::{
    grammar::{self, is_one_line, is_token},
    via::Via,
};

/// Most header fields that one message may have.
pub const MAX_HEADERS: usize = 256;

/// Header fields that hold credentials, or what can be made into them: their values are never shown.
const SECRET: [&str; 3] = ["Authorization", "Proxy-Authorization", "X-Gateway-Auth"];

/// Why a message cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The name of a header field is not a token.
    #[error("header field name {0:?}: expected a token (RFC 3261 §25.1)")]
    Name(String),
    /// The value of a header field would end its line. The value itself is not shown: it may be a secret.
    #[error("header field {0}: the value contains CR, LF or NUL; expected one line")]
    Value(String),
    /// The method, the Request-URI, the status code or the reason phrase would break the start line.
    #[error("the {0} cannot stand in a start line")]
    StartLine(&'static str),
    /// More than [`MAX_HEADERS`].
    #[error("more than {MAX_HEADERS} header fields")]
    TooMany,
    /// More than [`super::message::MAX_MESSAGE`].
    #[error("the message has {0} bytes, more than the {max} that are allowed", max = super::message::MAX_MESSAGE)]
    TooLarge(usize),
}

/// Header fields in their order. Names are compared in any case and compact forms count as the long ones.
///
/// No value holds CR, LF or NUL. `Debug` leaves out the values of fields that hold credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(Cow<'static, str>, String)>,
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of the first field of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// The values of all fields of that name, in their order, each as it stands: a value may itself be a
    /// comma-separated list (see [`Headers::list`]).
    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let name = canonical(name);
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(&name)).map(|(_, v)| v.as_str())
    }

    /// The items of all fields of that name, with comma-separated lists taken apart. Not for WWW-Authenticate and its
    /// kin, whose values contain commas.
    pub fn list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get_all(name).flat_map(grammar::list)
    }

    /// Appends a field.
    ///
    /// # Errors
    /// When the name is not a token, the value contains CR, LF or NUL, or there are [`MAX_HEADERS`] already.
    pub fn push(&mut self, name: &str, value: impl Into<String>) -> Result<(), BuildError> {
        let field = self.checked(name, value.into())?;
        self.fields.push(field);
        Ok(())
    }

    /// Puts a field before all others.
    ///
    /// # Errors
    /// As [`Headers::push`].
    pub fn push_front(&mut self, name: &str, value: impl Into<String>) -> Result<(), BuildError> {
        let field = self.checked(name, value.into())?;
        self.fields.insert(0, field);
        Ok(())
    }

    /// Replaces all fields of that name by one, in the place of the first; appends it where there is none.
    ///
    /// # Errors
    /// As [`Headers::push`].
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> Result<(), BuildError> {
        let place = self.fields.iter().position(|(n, _)| n.eq_ignore_ascii_case(&canonical(name)));
        let Some(place) = place else { return self.push(name, value) };
        let field = checked_field(name, value.into())?;
        self.remove(name);
        self.fields.insert(place, field);
        Ok(())
    }

    /// Removes all fields of that name and says how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.fields.len();
        let name = canonical(name);
        self.fields.retain(|(n, _)| !n.eq_ignore_ascii_case(&name));
        before - self.fields.len()
    }

    /// All fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), value.as_str()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn checked(&self, name: &str, value: String) -> Result<(Cow<'static, str>, String), BuildError> {
        if self.fields.len() >= MAX_HEADERS {
            return Err(BuildError::TooMany);
        }
        checked_field(name, value)
    }
}

fn checked_field(name: &str, value: String) -> Result<(Cow<'static, str>, String), BuildError> {
    if !is_token(name) {
        return Err(BuildError::Name(name.chars().take(60).collect()));
    }
    if !is_one_line(&value) {
        return Err(BuildError::Value(name.to_owned()));
    }
    Ok((canonical(name), value))
}

/// What the fields say, as far as this project needs it. A field that is missing or malformed reads as `None`; of
/// several the first counts.
impl Headers {
    /// CSeq: the number and the method.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.get("CSeq")?.trim().split_once([' ', '\t'])?;
        let method = method.trim();
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| number.parse().ok()).flatten()?;
        is_token(method).then_some((number, method))
    }

    /// Call-ID.
    pub fn call_id(&self) -> Option<&str> {
        self.get("Call-ID").map(str::trim).filter(|id| !id.is_empty())
    }

    /// The topmost Via.
    pub fn via(&self) -> Option<Via> {
        Via::parse(self.list("Via").next()?).ok()
    }

    /// The branch of the topmost Via: with the method of CSeq it names the transaction (RFC 3261 §17.1.3).
    pub fn via_branch(&self) -> Option<String> {
        self.via()?.branch().map(str::to_owned)
    }

    /// Expires in seconds.
    pub fn expires(&self) -> Option<u32> {
        self.get("Expires").and_then(grammar::seconds)
    }

    /// Min-Expires in seconds.
    pub fn min_expires(&self) -> Option<u32> {
        self.get("Min-Expires").and_then(grammar::seconds)
    }

    /// Retry-After in seconds; its comment and parameters are passed over (RFC 3261 §20.33).
    pub fn retry_after(&self) -> Option<u32> {
        self.get("Retry-After")?.split([';', '(', ' ', '\t']).next().and_then(grammar::seconds)
    }

    /// The From tag.
    pub fn from_tag(&self) -> Option<String> {
        tag(self.get("From")?)
    }

    /// The To tag.
    pub fn to_tag(&self) -> Option<String> {
        tag(self.get("To")?)
    }
}

fn tag(address: &str) -> Option<String> {
    super::uri::NameAddr::parse(address).ok()?.tag().map(str::to_owned)
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if is_secret(name) { "***" } else { value });
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

/// Whether the value of that field must never be shown.
pub fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

/// The long name of a field, in its usual spelling where it is a known one.
fn canonical(name: &str) -> Cow<'static, str> {
    if let [letter] = name.as_bytes() {
        let long = COMPACT.iter().find(|(short, _)| *short == letter.to_ascii_lowercase());
        if let Some((_, long)) = long {
            return Cow::Borrowed(long);
        }
    }
    match KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.to_owned()),
    }
}

/// Compact forms: RFC 3261 §7.3.3 and the IANA registry.
const COMPACT: [(u8, &str); 18] = [
    (b'a', "Accept-Contact"),
    (b'b', "Referred-By"),
    (b'c', "Content-Type"),
    (b'd', "Request-Disposition"),
    (b'e', "Content-Encoding"),
    (b'f', "From"),
    (b'i', "Call-ID"),
    (b'j', "Reject-Contact"),
    (b'k', "Supported"),
    (b'l', "Content-Length"),
    (b'm', "Contact"),
    (b'o', "Event"),
    (b'r', "Refer-To"),
    (b's', "Subject"),
    (b't', "To"),
    (b'u', "Allow-Events"),
    (b'v', "Via"),
    (b'x', "Session-Expires"),
];

/// Names that are held without a copy, in their usual spelling.
const KNOWN: [&str; 32] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Expires",
    "Max-Forwards",
    "Route",
    "Record-Route",
    "Path",
    "Service-Route",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Server",
    "Allow",
    "Allow-Events",
    "Supported",
    "Unsupported",
    "Require",
    "Proxy-Require",
    "Authorization",
    "Proxy-Authorization",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "Authentication-Info",
    "Min-Expires",
    "Retry-After",
    "Warning",
    "Date",
    "X-Gateway-Auth",
];
