//! Header fields: an ordered list that cannot hold what would break out of its line.

mod value;

use std::{borrow::Cow, fmt};

pub use self::value::HeaderValue;
use super::{
    grammar::{self, is_one_line, is_token},
    via::Via,
};

/// Most header fields that one message may have.
pub const MAX_HEADERS: usize = 256;

/// Header fields that hold credentials, or what can be made into them: their values are never shown.
const SECRET: [&str; 3] = ["Authorization", "Proxy-Authorization", "X-Gateway-Auth"];

/// Reason that a message cannot be written.
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

type Field = (Cow<'static, str>, HeaderValue);

/// Header fields in their order. Names are compared in any case and compact forms count as the long ones.
///
/// No value holds CR, LF or NUL; bytes that are not UTF-8 are kept. `Debug` leaves out the values of fields
/// that hold credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<Field>,
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
        self.values(name).map(HeaderValue::as_str)
    }

    /// Returns the values of [`Headers::get_all`] as bytes: one that is not UTF-8 is as it came.
    pub fn get_all_bytes<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.values(name).map(HeaderValue::as_bytes)
    }

    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a HeaderValue> + use<'a> {
        let name = canonical(name);
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(&name)).map(|(_, value)| value)
    }

    /// The items of all fields of that name, with comma-separated lists taken apart. Not for WWW-Authenticate
    /// and its kin, whose values contain commas.
    pub fn list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get_all(name).flat_map(grammar::list)
    }

    /// Appends a field.
    ///
    /// # Errors
    /// When the name is not a token, the value contains CR, LF or NUL, or there are [`MAX_HEADERS`] already.
    pub fn push(&mut self, name: &str, value: impl Into<HeaderValue>) -> Result<(), BuildError> {
        let field = self.checked(name, value.into())?;
        self.fields.push(field);
        Ok(())
    }

    /// Puts a field before all others.
    ///
    /// # Errors
    /// As [`Headers::push`].
    pub fn push_front(&mut self, name: &str, value: impl Into<HeaderValue>) -> Result<(), BuildError> {
        let field = self.checked(name, value.into())?;
        self.fields.insert(0, field);
        Ok(())
    }

    /// Replaces all fields of that name by one, in the place of the first; appends it where there is none.
    ///
    /// # Errors
    /// As [`Headers::push`].
    pub fn set(&mut self, name: &str, value: impl Into<HeaderValue>) -> Result<(), BuildError> {
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

    /// Returns how many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// All fields with the bytes of their values, in their order.
    pub(super) fn iter_bytes(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), value.as_bytes()))
    }

    /// Appends a field that was read. Beyond [`MAX_HEADERS`] the items of a list join the field of that name
    /// before them, other fields that are known take the place of one that is not, and unknown ones are
    /// passed over: whatever else a message has, what it says is not lost.
    pub(super) fn push_read(&mut self, name: &str, value: HeaderValue) {
        let Ok((name, value)) = checked_field(name, value) else { return };
        if self.fields.len() >= MAX_HEADERS {
            // Known names are those that are held without a copy.
            if !matches!(name, Cow::Borrowed(_)) {
                return;
            }
            if let Some((_, before)) = self.fields.iter_mut().rfind(|(n, _)| *n == name) {
                // Of what is no list the first counts.
                return if is_list(&name) {
                    before.append(&value)
                };
            }
            if !self.make_room() {
                return;
            }
        }
        self.fields.push((name, value));
    }

    fn make_room(&mut self) -> bool {
        if let Some(unknown) = self.fields.iter().rposition(|(name, _)| matches!(name, Cow::Owned(_))) {
            self.fields.remove(unknown);
            return true;
        }
        let repeated = self.fields.iter().enumerate().rev().find_map(|(at, (name, _))| {
            let before = self.fields[..at].iter().rposition(|(other, _)| other == name);
            before.map(|before| (before, at))
        });
        let Some((before, at)) = repeated else { return false };
        let (name, item) = self.fields.remove(at);
        if is_list(&name) {
            self.fields[before].1.append(&item);
        }
        true
    }

    fn checked(&self, name: &str, value: HeaderValue) -> Result<Field, BuildError> {
        if self.fields.len() >= MAX_HEADERS {
            return Err(BuildError::TooMany);
        }
        checked_field(name, value)
    }
}

fn checked_field(name: &str, value: HeaderValue) -> Result<Field, BuildError> {
    if !is_token(name) {
        return Err(BuildError::Name(routr_types::text::escaped(name, 60)));
    }
    if !is_one_line(value.as_str()) {
        return Err(BuildError::Value(name.to_owned()));
    }
    Ok((canonical(name), value))
}

/// Readers of the fields that this project needs. A field that is missing or malformed reads as `None`; of
/// several the first counts.
impl Headers {
    /// CSeq: the number and the method.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let value = self.get("CSeq")?.trim();
        let (number, method) = value.split_at(value.bytes().take_while(u8::is_ascii_digit).count());
        let method = method.trim();
        is_token(method).then_some((number.parse().ok()?, method))
    }

    /// Call-ID.
    pub fn call_id(&self) -> Option<&str> {
        self.get("Call-ID").map(str::trim).filter(|id| !id.is_empty())
    }

    /// The topmost Via.
    pub fn via(&self) -> Option<Via> {
        Via::parse(self.list("Via").next()?).ok()
    }

    /// The branch of the topmost Via, whatever else is odd about that: with the method of CSeq it names the
    /// transaction (RFC 3261 §17.1.3).
    pub fn via_branch(&self) -> Option<String> {
        Via::branch_of(self.list("Via").next()?)
    }

    /// The topmost Via; `None` where it is missing or malformed.
    pub fn via_sent_by(&self) -> Option<Via> {
        Via::parse(self.list("Via").next()?).ok()
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
        self.get("Retry-After").and_then(grammar::seconds)
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

/// Returns whether the field may come several times instead of as one list (RFC 3261 §7.3.1), by its
/// canonical name.
fn is_list(name: &str) -> bool {
    const LISTS: [&str; 16] = [
        "Via",
        "Contact",
        "Route",
        "Record-Route",
        "Path",
        "Service-Route",
        "Allow",
        "Allow-Events",
        "Supported",
        "Unsupported",
        "Require",
        "Proxy-Require",
        "Warning",
        // Several challenges in one field are taken apart too.
        "WWW-Authenticate",
        "Proxy-Authenticate",
        "Content-Length",
    ];
    LISTS.contains(&name)
}

/// Returns whether the value of that field must never be shown.
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
const KNOWN: [&str; 33] = [
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
    "Proxy-Authentication-Info",
    "Min-Expires",
    "Retry-After",
    "Warning",
    "Date",
    "X-Gateway-Auth",
];
