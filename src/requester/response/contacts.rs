//! The Contacts of a response: the bindings of a 2xx (RFC 3261 §10.3), the targets of a 3xx (§8.1.3.4).

use std::net::IpAddr;

use routr_sip::{
    grammar,
    message::Response,
    uri::{NameAddr, ParseError, SipUri},
};
use routr_types::{
    extension::{ReportedBinding, Target},
    host::{Transport, is_host},
};

/// Most targets of one redirection that are handed over.
const MAX_TARGETS: usize = 16;

/// The Contacts of a response, one by one: a malformed one hides none of the others.
pub struct Contacts {
    all: Vec<Contact>,
    /// Expires of the response, in seconds.
    expires: Option<u32>,
}

enum Contact {
    Good(NameAddr),
    /// Its URI makes none, so that it may be any binding: its own expiry.
    Malformed(Option<u32>),
}

impl Contacts {
    /// Reads all Contact header fields. Contacts of other schemes than `sip` and `sips` are left out.
    pub fn read(response: &Response) -> Self {
        let one = |text| match NameAddr::parse(text) {
            Ok(contact) => Some(Contact::Good(contact)),
            Err(ParseError::Scheme(_)) => None,
            Err(_) => Some(Contact::Malformed(seconds(&NameAddr::parse_params(text)))),
        };
        let all = response.headers.list("Contact").filter(|text| *text != "*").filter_map(one).collect();
        Self { all, expires: response.headers.expires() }
    }

    fn good(&self) -> impl Iterator<Item = &NameAddr> {
        self.all.iter().filter_map(|contact| match contact {
            Contact::Good(contact) => Some(contact),
            Contact::Malformed(_) => None,
        })
    }

    /// The binding that equals `sent`, the Contact of the request, else the first.
    pub fn own_or_first(&self, sent: Option<&SipUri>) -> Option<&NameAddr> {
        let own = Own::find(self, sent);
        self.good().find(|contact| own.is(contact)).or_else(|| self.good().next())
    }

    /// The expiry of each binding.
    pub fn bindings(&self, sent: Option<&SipUri>) -> Vec<ReportedBinding> {
        let own = Own::find(self, sent);
        let one = |contact: &Contact| {
            let (expires, own) = match contact {
                Contact::Good(contact) => (seconds(&contact.params), own.is(contact)),
                Contact::Malformed(expires) => (*expires, false),
            };
            ReportedBinding { expires: expires.or(self.expires), own }
        };
        self.all.iter().map(one).collect()
    }

    /// Returns them in the order to try them: by q, the greatest first, then as they stand.
    pub fn by_preference(&self) -> Vec<&NameAddr> {
        let mut contacts: Vec<_> = self.good().collect();
        contacts.sort_by(|a, b| preference(b).total_cmp(&preference(a)));
        contacts
    }

    /// Returns the targets of a 3xx, in the order to try them; the same target once.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for contact in self.by_preference() {
            let target = target(contact, self.expires);
            let same = |other: &Target| {
                (&other.host, other.port, &other.transport) == (&target.host, target.port, &target.transport)
            };
            if targets.len() < MAX_TARGETS && !targets.iter().any(same) {
                targets.push(target);
            }
        }
        targets
    }
}

/// Rule that finds the binding equal to the Contact that was sent.
struct Own<'a> {
    sent: Option<&'a SipUri>,
    /// One names the same transport: one that names none is another then.
    with_transport: bool,
}

impl<'a> Own<'a> {
    fn find(contacts: &Contacts, sent: Option<&'a SipUri>) -> Self {
        let names_it = |sent: &SipUri, contact: &NameAddr| {
            let transport =
                |uri: &SipUri| uri.param("transport").map(|name| name.unwrap_or("").to_ascii_lowercase());
            same(&contact.uri, sent) && transport(&contact.uri) == transport(sent)
        };
        let with_transport = sent.is_some_and(|sent| contacts.good().any(|contact| names_it(sent, contact)));
        Self { sent, with_transport }
    }

    fn is(&self, contact: &NameAddr) -> bool {
        let Some(sent) = self.sent else { return false };
        let names = |uri: &SipUri| uri.param("transport").is_some();
        same(&contact.uri, sent) && !(self.with_transport && names(sent) && !names(&contact.uri))
    }
}

/// Returns whether two Contacts name the same place, compared as values. More lenient than RFC 3261 §19.1.4,
/// as registrars rewrite what they store: a default port equals none, and a transport that one of them leaves
/// out is no difference.
fn same(a: &SipUri, b: &SipUri) -> bool {
    let name =
        |uri: &SipUri| uri.param("transport").map(|name| name.unwrap_or_default().to_ascii_lowercase());
    let (ours, theirs) = (name(a), name(b));
    let transport = ours.as_deref().or(theirs.as_deref()).and_then(Transport::parse);
    let default = if a.secure { Transport::Tls } else { transport.unwrap_or(Transport::Udp) }.default_port();
    a.secure == b.secure
        && a.user == b.user
        && same_host(&a.host, &b.host)
        && a.port.unwrap_or(default) == b.port.unwrap_or(default)
        && (ours.is_none() || theirs.is_none() || ours == theirs)
}

fn same_host(a: &str, b: &str) -> bool {
    let address = |host: &str| host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    match (address(a), address(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => {
            let name = |host| -> &str { str::strip_suffix(host, ".").unwrap_or(host) };
            name(a).eq_ignore_ascii_case(name(b))
        }
        _ => false,
    }
}

/// The `expires` parameter, in seconds.
fn seconds(params: &grammar::Params) -> Option<u32> {
    let expires = params.iter().find(|(name, _)| name.eq_ignore_ascii_case("expires"))?;
    expires.1.as_deref().and_then(grammar::seconds)
}

/// The `expires` parameter of a Contact, in seconds.
pub fn expires(contact: &NameAddr) -> Option<u32> {
    seconds(&contact.params)
}

/// The `q` parameter, from 0 to 1; `None` where it is missing or malformed.
pub fn q_value(contact: &NameAddr) -> Option<f32> {
    let q: f32 = contact.param("q").flatten()?.trim().parse().ok()?;
    (0.0..=1.0).contains(&q).then_some(q)
}

/// Returns what counts without a q is 1 (RFC 3261 §20.10).
fn preference(contact: &NameAddr) -> f32 {
    q_value(contact).unwrap_or(1.0)
}

fn target(contact: &NameAddr, expires: Option<u32>) -> Target {
    let uri = &contact.uri;
    // RFC 3261 §19.1.1: maddr is where the request goes to.
    let maddr =
        uri.param("maddr").flatten().map(|host| host.trim_matches(['[', ']'])).filter(|host| is_host(host));
    let name = uri.param("transport").flatten();
    let transport = match name.and_then(Transport::parse) {
        Some(Transport::Ws | Transport::Wss) if uri.secure => Some(Transport::Wss.parameter()),
        _ if uri.secure => Some(Transport::Tls.parameter()),
        Some(known) => Some(known.parameter()),
        None => None,
    };
    let unknown = || {
        let token =
            |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        name.filter(token).map(str::to_ascii_lowercase)
    };
    Target {
        host: maddr.unwrap_or(&uri.host).to_owned(),
        port: uri.port,
        transport: transport.map(str::to_owned).or_else(unknown),
        expires: self::expires(contact).or(expires),
    }
}

#[cfg(test)]
mod tests;
