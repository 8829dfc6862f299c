//! SIP URIs and addresses (RFC 3261 §19.1 and §20.10).

use std::{fmt, net::Ipv6Addr, str::FromStr};

pub use super::grammar::ParseError;
use super::grammar::{self, MAX_PARAMS, Params, find_param};
use routr_types::host::UriHost;

/// A `sip:` or `sips:` URI.
///
/// The password of the user information (deprecated by RFC 3261 §19.1.1) and the header part (`?subject=...`)
/// are dropped when a URI is read. Parts are held decoded and percent-escaped where they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SipUri {
    /// `sips:`.
    pub secure: bool,
    /// The user part, decoded.
    pub user: Option<String>,
    /// A host name, or an IP address without brackets, as it was written.
    pub host: String,
    /// The port, where the URI names one; never 0.
    pub port: Option<u16>,
    /// URI parameters such as `transport` and `lr`, decoded; at most [`MAX_PARAMS`].
    pub params: Params,
}

impl SipUri {
    /// `sip:host`, with neither user nor port.
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned(), ..Self::default() }
    }

    /// Reads a URI.
    ///
    /// # Errors
    /// When the scheme is another one, or a part is malformed.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').ok_or_else(|| {
            ParseError::malformed("URI", without_user(text), "sip:user@host:port;parameters")
        })?;
        let secure = match scheme {
            s if s.eq_ignore_ascii_case("sip") => false,
            s if s.eq_ignore_ascii_case("sips") => true,
            other => return Err(ParseError::Scheme(routr_types::text::escaped(other, 20))),
        };
        let (user, rest) = match user_end(rest) {
            Some(at) => (parse_user(&rest[..at])?, &rest[at + 1..]),
            None => (None, rest),
        };
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        let (address, params) = match rest.split_once(';') {
            Some((address, params)) => (address, uri_params(params)),
            None => (rest, Params::new()),
        };
        let (host, port) = parse_host_port(address)?;
        Ok(Self { secure, user, host, port, params })
    }

    /// The value of a URI parameter by name: `None` where it is missing, `Some(None)` where it has no value.
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        find_param(&self.params, name)
    }

    /// Returns whether what is written from these parts can be read again: the host is one.
    pub(super) fn is_writable(&self) -> bool {
        is_host(&self.host) && self.params.iter().all(|(name, _)| !name.is_empty())
    }
}

/// Returns what follows the `@`: the part of a URI that holds no password, for an error message.
fn without_user(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, after)| after)
}

/// Returns where the `@` stands that ends the user part: the last one before the host, so that a user may
/// have one that is not escaped; one among the parameters or header fields is none.
fn user_end(text: &str) -> Option<usize> {
    let first = text.find('@')?;
    let host = &text[first + 1..];
    let host = &host[..host.find([';', '?']).unwrap_or(host.len())];
    Some(host.rfind('@').map_or(first, |at| first + 1 + at))
}

/// Reads the user part without its password; none where it is empty, as some write it.
fn parse_user(text: &str) -> Result<Option<String>, ParseError> {
    let user = text.split_once(':').map_or(text, |(user, _password)| user);
    if user.is_empty() && text.is_empty() {
        return Ok(None);
    }
    if user.is_empty() || user.contains(['"', '<', '>']) {
        return Err(ParseError::malformed("user part of a URI", "", "a user, with %XX escapes"));
    }
    Ok(Some(unescape_or_keep(user)))
}

/// Parameters without a name, and those after [`MAX_PARAMS`], are passed over.
fn uri_params(text: &str) -> Params {
    let pieces = text.split(';').filter_map(|piece| {
        let (name, value) = match piece.split_once('=') {
            Some((name, value)) => (name, Some(unescape_or_keep(value))),
            None => (piece, None),
        };
        let name = unescape_or_keep(name);
        (!name.is_empty()).then_some((name, value))
    });
    pieces.take(MAX_PARAMS).collect()
}

/// Reads `host[:port]`; an IPv6 address stands in brackets, or alone. An empty port, and 0, are none.
pub(super) fn parse_host_port(text: &str) -> Result<(String, Option<u16>), ParseError> {
    let malformed = || ParseError::malformed("host", text, "a host name or IP address, then perhaps :port");
    if Ipv6Addr::from_str(text).is_ok() {
        return Ok((text.to_owned(), None));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(malformed)?;
        Ipv6Addr::from_str(host).map_err(|_| malformed())?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or_else(malformed)?),
        };
        (host, port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if !is_host(host) {
            return Err(malformed());
        }
        (host, port)
    };
    let port = match port {
        None | Some("") => None,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            Some(port.parse().map_err(|_| malformed())?).filter(|port| *port != 0)
        }
        Some(_) => return Err(malformed()),
    };
    Ok((host.to_owned(), port))
}

/// A host name (underscores are tolerated), an IPv4 address, or an IPv6 address without brackets.
pub(super) fn is_host(text: &str) -> bool {
    let name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (!text.is_empty() && text.len() <= 255 && text.bytes().all(name)) || Ipv6Addr::from_str(text).is_ok()
}

/// Resolves %XX escapes; a `%` that begins none stays. `None` where the outcome is not UTF-8.
pub fn unescape(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, others @ ..] = rest {
        rest = others;
        let escaped = match rest {
            [high, low, others @ ..] if *byte == b'%' => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, others))
            }
            _ => None,
        };
        match escaped {
            Some((byte, others)) => {
                bytes.push(byte);
                rest = others;
            }
            None => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Unescapes as [`unescape`] does; escapes of bytes that are not UTF-8 stay as they are.
fn unescape_or_keep(text: &str) -> String {
    unescape(text).unwrap_or_else(|| text.to_owned())
}

/// Writes a user as it stands in a URI (RFC 3261 §25.1): everything escaped that must be.
pub fn escape_user(user: &str) -> String {
    struct Escaped<'a>(&'a str);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_escaped(f, self.0, USER_UNRESERVED)
        }
    }
    Escaped(user).to_string()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// `user-unreserved` of RFC 3261 §25.1.
const USER_UNRESERVED: &[u8] = b"&=+$,;?/";

/// Writes a text with everything escaped but `unreserved` and the extra characters.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str, extra: &[u8]) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) || extra.contains(&byte) {
            write!(f, "{}", char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            write_escaped(f, user, USER_UNRESERVED)?;
            f.write_str("@")?;
        }
        write!(f, "{}", UriHost(&self.host))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        for (name, value) in &self.params {
            f.write_str(";")?;
            write_escaped(f, name, b"[]/:&+$")?;
            if let Some(value) = value {
                f.write_str("=")?;
                write_escaped(f, value, b"[]/:&+$")?;
            }
        }
        Ok(())
    }
}

impl FromStr for SipUri {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// An address as From, To, Contact, Route and Path hold it: a URI with a name and parameters of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameAddr {
    /// The name to show, without quotes.
    pub display_name: Option<String>,
    /// The URI.
    pub uri: SipUri,
    /// Parameters of the header field, such as `tag` and `expires`, without quotes; at most [`MAX_PARAMS`].
    pub params: Params,
}

impl NameAddr {
    /// An address with neither name nor parameters.
    pub fn new(uri: SipUri) -> Self {
        Self { display_name: None, uri, params: Vec::new() }
    }

    /// Reads one address. Without `<>` all parameters belong to the header field (RFC 3261 §20). What stands
    /// between `>` and the parameters, and parameters that are malformed, are passed over.
    ///
    /// # Errors
    /// When it is malformed, its URI is neither `sip` nor `sips`, or more follows than one address. The
    /// Contact `*` is an error here: it is the caller's to treat.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let (display_name, rest) = match grammar::take_quoted(text) {
            Some((name, rest)) => (Some(name), rest.trim_start()),
            None => match text.split_once('<') {
                Some((name, _)) if !name.contains(['>', ',']) => {
                    (Some(name.trim().replace('"', "")), &text[name.len()..])
                }
                Some(_) => return Err(malformed_address()),
                None => (None, text),
            },
        };
        let (uri, params) = match rest.strip_prefix('<') {
            Some(rest) => rest.split_once('>').ok_or_else(malformed_address)?,
            None => rest.find(';').map_or((rest, ""), |at| rest.split_at(at)),
        };
        if grammar::split(params, b',').nth(1).is_some() {
            return Err(malformed_address());
        }
        let display_name = display_name.filter(|name| !name.is_empty());
        Ok(Self { display_name, uri: SipUri::parse(uri)?, params: grammar::header_params(params) })
    }

    /// Reads the parameters of one address whose URI may be anything.
    pub fn parse_params(text: &str) -> Params {
        grammar::header_params(text.rsplit_once('>').map_or(text, |(_, params)| params))
    }

    /// Reads a comma-separated list. Addresses with a URI of another scheme (`tel:`, `mailto:`) are left out.
    ///
    /// # Errors
    /// When one of them is malformed.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ParseError> {
        grammar::list(text)
            .map(Self::parse)
            .filter(|parsed| !matches!(parsed, Err(ParseError::Scheme(_))))
            .collect()
    }

    /// The value of a header field parameter by name: `None` where it is missing, `Some(None)` where it has
    /// no value.
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        find_param(&self.params, name)
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&str> {
        self.param("tag").flatten()
    }
}

fn malformed_address() -> ParseError {
    ParseError::malformed("address", "", "\"name\" <sip:user@host>;parameters")
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.display_name {
            write!(f, "{} ", grammar::quote(name))?;
        }
        write!(f, "<{}>", self.uri)?;
        grammar::write_header_params(f, &self.params)
    }
}

impl FromStr for NameAddr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;
