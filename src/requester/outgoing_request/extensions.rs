//! The extensions of a request.

use std::fmt;

use super::MAX_CSEQ;
use crate::{
    proto::sipmessage as proto,
    requester::{
        check::{self, RequestError},
        credentials,
    },
};
use routr_types::{digest_minimum::DigestMinimum, extension, host::HostPort};

/// Header fields that are made from fields of their own, or here: an extension of that name would contradict
/// them.
const RESERVED: [&str; 9] =
    ["Via", "From", "To", "Call-ID", "Contact", "Expires", "Max-Forwards", "Content-Length", "Route"];

/// The extensions of a request: checked, those that are kept back apart.
pub(super) struct Extensions<'a> {
    /// Path, name and value of those that become header fields as they are.
    pub(super) fields: Vec<(Path<'a>, &'a str, &'a str)>,
    pub(super) gateway_auth: Option<(Path<'a>, &'a str)>,
    pub(super) cseq: u32,
    pub(super) minimum: DigestMinimum,
    /// Host of Contact.
    pub(super) contact: Option<HostPort>,
}

/// Path of an extension's value, for an error. The number alone says little where the field is one of many.
#[derive(Clone, Copy)]
pub(super) struct Path<'a>(usize, &'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message.extensions[{}].value ({})", self.0, self.1)
    }
}

impl<'a> Extensions<'a> {
    pub(super) fn read(extensions: &'a [proto::Extension], method: &str) -> Result<Self, RequestError> {
        let (mut fields, mut gateway_auth, mut cseq, mut contact) = (Vec::new(), None, None, None);
        let mut minimum = DigestMinimum::default();
        for (at, proto::Extension { name, value }) in extensions.iter().enumerate() {
            check::token(format_args!("message.extensions[{at}].name"), name)?;
            let blame = |problem: String| {
                RequestError::invalid(format_args!("message.extensions[{at}].name"), problem)
            };
            // One-letter names are compact forms of others (RFC 3261 §7.3.3): none is needed here.
            let reserved = RESERVED.iter().any(|r| r.eq_ignore_ascii_case(name)) || name.len() == 1;
            if reserved {
                let problem =
                    format!("{name} cannot be an extension: it has a field of its own, or is written here");
                return Err(blame(problem));
            }
            let twice = || blame(format!("{name} comes twice"));
            let path = Path(at, name);
            check::plain_text(path, value)?;
            if name.eq_ignore_ascii_case(credentials::HEADER) {
                if gateway_auth.replace((path, value.as_str())).is_some() {
                    return Err(twice());
                }
                continue;
            }
            if name.eq_ignore_ascii_case(extension::DIGEST) {
                let read = value.parse().map_err(|error| RequestError::invalid(path, format!("{error}")));
                minimum = minimum.and(read?);
                continue;
            }
            if name.eq_ignore_ascii_case(extension::CONTACT) {
                if contact.replace(read_contact(path, value)?).is_some() {
                    return Err(twice());
                }
                continue;
            }
            if name.eq_ignore_ascii_case("CSeq") && cseq.replace(read_cseq(path, value, method)?).is_some() {
                return Err(twice());
            }
            fields.push((path, name.as_str(), value.as_str()));
        }
        let missing =
            || RequestError::invalid("message.extensions", format!("no CSeq; expected `CSeq: <n> {method}`"));
        Ok(Self { fields, gateway_auth, cseq: cseq.ok_or_else(missing)?, minimum, contact })
    }
}

/// Reads `host:port`, an IPv6 address in brackets.
fn read_contact(field: impl fmt::Display + Copy, value: &str) -> Result<HostPort, RequestError> {
    let read = || {
        let (host, port) = value.trim().rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        // Without brackets a colon could belong to either.
        let host =
            check::host(field, host).ok().filter(|bare| !bare.contains(':') || host.starts_with('['))?;
        Some(HostPort::new(&host, port))
    };
    read().ok_or_else(|| {
        let problem = format!("{}; expected host:port, an IPv6 address in brackets", check::shown(value));
        RequestError::invalid(field, problem)
    })
}

fn read_cseq(field: impl fmt::Display, value: &str, method: &str) -> Result<u32, RequestError> {
    let read = || {
        let (number, name) = value.trim().split_once(' ')?;
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse().ok().filter(|n| digits && *n <= MAX_CSEQ)?;
        (name.trim() == method).then_some(number)
    };
    read().ok_or_else(|| {
        let problem = format!("{}; expected `<n> {method}` with n from 0 to {MAX_CSEQ}", check::shown(value));
        RequestError::invalid(field, problem)
    })
}
