//! Conversion of a SIP response to Routr's `SIPMessage`.

mod contacts;

use self::contacts::Contacts;
use super::{address, challenge, response_type};
use crate::proto::sipmessage as proto;
use routr_sip::{
    grammar,
    message::Response,
    uri::{NameAddr, SipUri},
    via::Via,
};
use routr_types::{
    extension::{self, Authentication},
    text,
};

/// Header fields that have a field of their own in `SIPMessage`, and so are no extensions.
const MAPPED: [&str; 10] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "Contact",
    "Expires",
    "Max-Forwards",
    "Content-Length",
    "Route",
    "Record-Route",
];

/// Header fields that are lists, of which each item is handed over alone.
const LISTS: [&str; 7] =
    ["Unsupported", "Warning", "Allow", "Allow-Events", "Supported", "Require", "Proxy-Require"];

/// Most extensions that items of lists make; beyond that a list stays whole.
const MAX_ITEMS: usize = 256;

/// Longest reason phrase that is handed over, in characters.
const MAX_PHRASE: usize = 256;

/// Request that a final response belongs to.
#[derive(Clone, Debug, Default)]
pub struct Sent<'a> {
    /// It was a REGISTER.
    pub register: bool,
    /// Its Contact.
    pub contact: Option<&'a SipUri>,
    /// Outcome of the challenge.
    pub authentication: Option<Authentication>,
}

/// Writes a final response of a registrar, with what Routr's message has no field for in extensions
/// ([`routr_types::extension`]).
pub fn write_final(response: &Response, sent: &Sent<'_>) -> proto::SipMessage {
    let reason = phrase(&response.reason);
    let status = format!("{} {reason}", response.code);
    let mut message = write_with(response, reason, sent.contact);
    let mut put = |name: &str, value: String| message.extensions.push(extension(name, &value));
    put(extension::STATUS, status.trim_end().to_owned());
    let contacts = Contacts::read(response);
    match response.code {
        200..=299 if sent.register => {
            let bindings = contacts.bindings(sent.contact);
            if !bindings.is_empty() {
                put(extension::BINDINGS, extension::write_bindings(&bindings));
            }
        }
        300..=399 => {
            contacts.targets().iter().for_each(|target| put(extension::TARGET, target.to_string()));
        }
        401 | 403 | 407 => {
            if let Some(authentication) = &sent.authentication {
                put(extension::AUTHENTICATION, authentication.to_string());
            }
        }
        _ => {}
    }
    message
}

/// Writes a final response without what only a registrar's has, its reason phrase whole. Of several Contacts
/// the one comes back that equals `sent`, the Contact of the request, else the first; of a 3xx the one to try
/// first.
pub fn write(response: &Response, sent: Option<&SipUri>) -> proto::SipMessage {
    write_with(response, response.reason.clone(), sent)
}

fn write_with(response: &Response, reason: String, sent: Option<&SipUri>) -> proto::SipMessage {
    let headers = &response.headers;
    let address = |name: &str| headers.get(name).and_then(|value| NameAddr::parse(value).ok());
    let challenge = challenge::write(response);
    let (response_type, reason_phrase) = match response_type::exact(response.code) {
        Some(exact) => (exact, reason),
        None => {
            let phrase = format!("{} {reason}", response.code);
            (response_type::class(response.code), phrase.trim_end().to_owned())
        }
    };
    proto::SipMessage {
        message_type: Some(proto::sip_message::MessageType::ResponseType(response_type.into())),
        from: address("From").map(|from| proto::From {
            address: Some(address::write(&from)),
            tag: from.tag().unwrap_or_default().to_owned(),
            parameters: address::write_parameters(&from),
        }),
        to: address("To").map(|to| proto::To {
            address: Some(address::write(&to)),
            tag: to.tag().unwrap_or_default().to_owned(),
            parameters: address::write_parameters(&to),
        }),
        contact: contact(response, sent),
        call_id: headers.call_id().map(|id| proto::CallId { call_id: id.to_owned() }),
        content_length: Some(proto::ContentLength { content_length: number(response.body.len()) }),
        expires: headers.expires().map(|seconds| proto::Expires { expires: number(seconds) }),
        extensions: extensions(response, challenge.as_ref().and_then(|(at, _)| *at)),
        www_authenticate: challenge.map(|(_, challenge)| challenge),
        max_forwards: headers
            .get("Max-Forwards")
            .and_then(|hops| hops.trim().parse::<u8>().ok())
            .map(|hops| proto::MaxForwards { max_forwards: hops.into() }),
        authorization: None,
        via: headers
            .list("Via")
            .filter_map(|value| Via::parse(value).ok())
            .map(|via| write_via(&via))
            .collect(),
        route: headers
            .list("Route")
            .filter_map(|value| NameAddr::parse(value).ok())
            .map(|route| proto::Route {
                address: Some(address::write(&route)),
                parameters: address::write_parameters(&route),
            })
            .collect(),
        record_route: headers
            .list("Record-Route")
            .filter_map(|value| NameAddr::parse(value).ok())
            .map(|route| proto::RecordRoute {
                address: Some(address::write(&route)),
                parameters: address::write_parameters(&route),
            })
            .collect(),
        reason_phrase,
        body: String::from_utf8_lossy(&response.body).into_owned(),
    }
}

/// The header fields that have no field of their own. Only this service may say what its extensions say.
fn extensions(response: &Response, challenge: Option<usize>) -> Vec<proto::Extension> {
    let is_one_of = |names: &[&str], name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let (mut extensions, mut challenges) = (Vec::new(), 0..);
    for (name, value) in response.headers.iter() {
        let is_challenge = name.eq_ignore_ascii_case("WWW-Authenticate") && challenges.next() == challenge;
        if is_challenge || is_one_of(&MAPPED, name) || is_one_of(&extension::ALL, name) {
            continue;
        }
        let items: Vec<&str> = match is_one_of(&LISTS, name) {
            true => grammar::list(value).take(MAX_ITEMS).collect(),
            false => Vec::new(),
        };
        if items.is_empty() || extensions.len() + items.len() > MAX_ITEMS {
            extensions.push(extension(name, value));
        } else {
            extensions.extend(items.into_iter().map(|item| extension(name, item)));
        }
    }
    extensions
}

fn extension(name: &str, value: &str) -> proto::Extension {
    proto::Extension { name: name.to_owned(), value: value.to_owned() }
}

/// A reason phrase as it can be shown: one line of a bounded length.
fn phrase(reason: &str) -> String {
    text::clean(reason, MAX_PHRASE)
}

/// Returns what does not fit becomes the greatest number that does.
fn number(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

fn contact(response: &Response, sent: Option<&SipUri>) -> Option<proto::Contact> {
    if response.headers.get("Contact").is_some_and(|value| value.trim() == "*") {
        let address = proto::Address { wildcard: true, ..proto::Address::default() };
        return Some(proto::Contact { address: Some(address), expires: -1, q_value: -1.0 });
    }
    let contacts = Contacts::read(response);
    let chosen = match response.code {
        300..=399 => contacts.by_preference().first().copied(),
        _ => contacts.own_or_first(sent),
    };
    chosen.map(|chosen| proto::Contact {
        address: Some(address::write(chosen)),
        expires: contacts::expires(chosen).map_or(-1, number),
        q_value: contacts::q_value(chosen).unwrap_or(-1.0),
    })
}

fn write_via(via: &Via) -> proto::Via {
    let text = |name: &str| via.param(name).flatten().unwrap_or_default().to_owned();
    let port =
        |name: &str| via.param(name).flatten().and_then(|p| p.parse::<u16>().ok()).map_or(-1, i32::from);
    proto::Via {
        host: via.host.clone(),
        port: via.port.map_or(-1, i32::from),
        branch: text("branch"),
        transport: via.transport.clone(),
        r_port_flag: via.param("rport").is_some(),
        r_port: port("rport"),
        received: text("received"),
        m_addr: text("maddr"),
        ttl: via.param("ttl").flatten().and_then(|t| t.parse::<u8>().ok()).map_or(-1, i32::from),
    }
}
