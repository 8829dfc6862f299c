//! Conversion of `SendMessageRequest` to a SIP request that lacks only its Contact (where that is the
//! Requester's own address) and its Via.

use std::fmt;

use clap::ValueEnum;

use super::{
    Mode,
    address::{self, Place},
    authorization,
    check::{self, RequestError},
    credentials,
};
use crate::proto::{common, processor::Method, requester::SendMessageRequest, sipmessage as proto};
use routr_registration::trunk::Credentials;
use routr_sip::{
    client::Destination,
    message::Request,
    uri::{NameAddr, SipUri},
};
use routr_types::{
    digest_minimum::DigestMinimum,
    extension,
    host::{HostPort, Transport},
};

/// Header fields that are made from fields of their own, or here: an extension of that name would contradict
/// them.
const RESERVED: [&str; 9] =
    ["Via", "From", "To", "Call-ID", "Contact", "Expires", "Max-Forwards", "Content-Length", "Route"];

/// Methods whose requests may have a Contact (RFC 3261 §20 table 2, RFC 3311, 3515, 6665); RFC 3428 forbids
/// it for MESSAGE.
const WITH_CONTACT: [&str; 6] = ["REGISTER", "OPTIONS", "SUBSCRIBE", "NOTIFY", "REFER", "UPDATE"];

/// Greatest CSeq number (RFC 3261 §8.1.1.5: below 2^31).
pub const MAX_CSEQ: u32 = (1 << 31) - 1;

/// A request that is checked and almost complete.
#[derive(Debug)]
pub struct OutgoingRequest {
    /// Everything but Contact and Via.
    pub request: Request,
    /// Destination of the request.
    pub destination: Destination,
    /// Credentials for digest challenges; only in direct mode.
    pub credentials: Option<Credentials>,
    /// Plan for Contact.
    pub contact: ContactPlan,
    /// Number of the CSeq in `request`.
    pub cseq: u32,
    /// Minimum that a challenge must offer to be answered here.
    pub minimum: DigestMinimum,
}

/// Host of the Contact of requests through an EdgePort, in proxied mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ContactHost {
    /// To the EdgePort, where calls are heard.
    #[default]
    EdgePort,
    /// To the Requester itself, as Routr's own Requester does: for providers that route calls by the address
    /// that a REGISTER came from.
    Requester,
}

/// Settings of Contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContactPlan {
    /// The method has none.
    None,
    /// This: where the EdgePort hears calls.
    Given(SipUri),
    /// This, with the Requester's own host and port put in.
    Own(SipUri),
}

impl OutgoingRequest {
    /// Reads and checks a request.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] names the field at fault, [`RequestError::Unsupported`] what is not offered.
    pub fn read(sent: &SendMessageRequest, mode: Mode, contacts: ContactHost) -> Result<Self, RequestError> {
        let method = read_method(sent.method)?;
        let transport = read_transport(sent.transport)?;
        let message = sent.message.as_ref().ok_or_else(|| RequestError::invalid("message", "is missing"))?;
        let uri = read_request_uri(message)?;
        let route = read_route(message)?;

        let destination = match (mode, route.first()) {
            (Mode::Proxied, Some(edge)) => edge_destination(&edge.uri, transport)?,
            (Mode::Direct, _) | (Mode::Proxied, None) => read_target(&sent.target, transport)?,
        };
        supported(destination.transport)?;

        let mut request = Request::new(method, uri);
        let mut put = |field: &dyn fmt::Display, name: &str, value: String| {
            request.headers.push(name, value).map_err(|error| RequestError::invalid(field, error.to_string()))
        };
        if mode == Mode::Proxied {
            for route in &route {
                put(&"message.route", "Route", route.to_string())?;
            }
        }
        put(&"message.max_forwards", "Max-Forwards", read_max_forwards(message)?)?;
        let from = read_from(message)?;
        let to = read_to(message)?;
        let user = to.uri.user.clone();
        put(&"message.from", "From", from.to_string())?;
        put(&"message.to", "To", to.to_string())?;
        let call_id = message.call_id.as_ref().map_or("", |c| c.call_id.as_str());
        let call_id = check::call_id("message.call_id.call_id", call_id)?;
        put(&"message.call_id", "Call-ID", call_id.to_owned())?;
        if let Some(expires) = &message.expires {
            let field = "message.expires.expires";
            let seconds = u32::try_from(expires.expires)
                .map_err(|_| RequestError::invalid(field, format!("{} is below 0", expires.expires)))?;
            put(&field, "Expires", seconds.to_string())?;
        }
        if let Some(given) = &message.authorization {
            put(&"message.authorization", "Authorization", authorization::read(given)?)?;
        }
        let extensions = Extensions::read(&message.extensions, method)?;
        for (field, name, value) in extensions.fields {
            put(&field, name, value.to_owned())?;
        }
        if mode == Mode::Proxied && !extensions.minimum.is_none() {
            let problem = "a minimum for digest is demanded, but in proxied mode the EdgePort answers challenges, which knows none: \
                           run the Requester with --mode direct, or remove the minimum";
            return Err(RequestError::Unsupported(format!("{}: {problem}", extension::DIGEST)));
        }
        let credentials = match (extensions.gateway_auth, mode, route.is_empty()) {
            (None, ..) => None,
            (Some((field, value)), Mode::Direct, _) => Some(credentials::decode(field, value)?),
            (Some((field, value)), Mode::Proxied, false) => {
                put(&field, credentials::HEADER, value.to_owned())?;
                None
            }
            // The Java Requester sends it to the registrar in clear then.
            (Some(_), Mode::Proxied, true) => {
                let problem =
                    "is empty, but there is an X-Gateway-Auth: in proxied mode that goes to an EdgePort only";
                return Err(RequestError::invalid("message.route", problem));
            }
        };
        request.body = message.body.clone().into_bytes();
        let contact = match contacts {
            ContactHost::Requester if mode == Mode::Proxied => {
                own_contact(&request, true, None, destination.transport)
            }
            _ => {
                let edge = edge_contact(route.first(), extensions.contact, transport)?;
                plan_contact(&request, edge, mode, user, &destination)
            }
        };
        let (cseq, minimum) = (extensions.cseq, extensions.minimum);
        Ok(Self { request, destination, credentials, contact, cseq, minimum })
    }
}

/// The extensions of a request: checked, those that are kept back apart.
struct Extensions<'a> {
    /// Path, name and value of those that become header fields as they are.
    fields: Vec<(Path<'a>, &'a str, &'a str)>,
    gateway_auth: Option<(Path<'a>, &'a str)>,
    cseq: u32,
    minimum: DigestMinimum,
    /// Host of Contact.
    contact: Option<HostPort>,
}

/// Path of an extension's value, for an error. The number alone says little where the field is one of many.
#[derive(Clone, Copy)]
struct Path<'a>(usize, &'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message.extensions[{}].value ({})", self.0, self.1)
    }
}

impl<'a> Extensions<'a> {
    fn read(extensions: &'a [proto::Extension], method: &str) -> Result<Self, RequestError> {
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

fn read_method(number: i32) -> Result<&'static str, RequestError> {
    match Method::try_from(number) {
        Err(_) | Ok(Method::Unknown) => {
            Err(RequestError::invalid("method", format!("{number} is not a method")))
        }
        Ok(method @ (Method::Invite | Method::Ack | Method::Cancel)) => Err(RequestError::Unsupported(
            format!("method {}: only requests outside INVITE transactions are sent", method.as_str_name()),
        )),
        Ok(method) => Ok(method.as_str_name()),
    }
}

fn read_transport(number: i32) -> Result<Transport, RequestError> {
    match common::Transport::try_from(number) {
        Ok(common::Transport::Udp) => Ok(Transport::Udp),
        Ok(common::Transport::Tcp) => Ok(Transport::Tcp),
        Ok(common::Transport::Tls) => Ok(Transport::Tls),
        Ok(common::Transport::Sctp) => Ok(Transport::Sctp),
        Ok(common::Transport::Ws) => Ok(Transport::Ws),
        Ok(common::Transport::Wss) => Ok(Transport::Wss),
        Err(_) => Err(RequestError::invalid("transport", format!("{number} is not a transport"))),
    }
}

fn supported(transport: Transport) -> Result<(), RequestError> {
    match transport {
        Transport::Udp | Transport::Tcp | Transport::Tls => Ok(()),
        Transport::Sctp | Transport::Ws | Transport::Wss => {
            Err(RequestError::Unsupported(format!("transport {transport}: UDP, TCP and TLS are offered")))
        }
    }
}

fn read_request_uri(message: &proto::SipMessage) -> Result<SipUri, RequestError> {
    let field = "message.request_uri";
    match &message.message_type {
        Some(proto::sip_message::MessageType::RequestUri(uri)) => {
            address::read_uri(field, uri, Place::RequestUri)
        }
        Some(proto::sip_message::MessageType::ResponseType(_)) => Err(RequestError::invalid(
            "message.response_type",
            "a response cannot be sent; expected request_uri",
        )),
        None => Err(RequestError::invalid(field, "is missing")),
    }
}

fn read_route(message: &proto::SipMessage) -> Result<Vec<NameAddr>, RequestError> {
    let mut routes = Vec::with_capacity(message.route.len());
    for (at, route) in message.route.iter().enumerate() {
        let field = format!("message.route[{at}]");
        let mut address = address::read(&field, route.address.as_ref(), Place::Route)?;
        address::read_parameters(&field, &route.parameters, &mut address)?;
        routes.push(address);
    }
    Ok(routes)
}

fn read_from(message: &proto::SipMessage) -> Result<NameAddr, RequestError> {
    let from = message.from.as_ref().ok_or_else(|| RequestError::invalid("message.from", "is missing"))?;
    let mut address = address::read("message.from", from.address.as_ref(), Place::Identity)?;
    if from.tag.is_empty() {
        return Err(RequestError::invalid("message.from.tag", "is missing (RFC 3261 §8.1.1.3)"));
    }
    let tag = check::token("message.from.tag", &from.tag)?;
    address.params.push(("tag".to_owned(), Some(tag.to_owned())));
    address::read_parameters("message.from", &from.parameters, &mut address)?;
    Ok(address)
}

fn read_to(message: &proto::SipMessage) -> Result<NameAddr, RequestError> {
    let to = message.to.as_ref().ok_or_else(|| RequestError::invalid("message.to", "is missing"))?;
    let mut address = address::read("message.to", to.address.as_ref(), Place::Identity)?;
    if !to.tag.is_empty() {
        let tag = check::token("message.to.tag", &to.tag)?;
        address.params.push(("tag".to_owned(), Some(tag.to_owned())));
    }
    address::read_parameters("message.to", &to.parameters, &mut address)?;
    Ok(address)
}

/// 70 where it is not given (RFC 3261 §8.1.1.6).
fn read_max_forwards(message: &proto::SipMessage) -> Result<String, RequestError> {
    let hops = message.max_forwards.as_ref().map_or(70, |m| m.max_forwards);
    u8::try_from(hops).map(|hops| hops.to_string()).map_err(|_| {
        RequestError::invalid("message.max_forwards.max_forwards", format!("{hops}; expected 0 to 255"))
    })
}

/// Reads `host:port`, `host`, `[IPv6]:port`, `[IPv6]`; where no port is given, the DNS names it.
fn read_target(target: &str, transport: Transport) -> Result<Destination, RequestError> {
    let invalid = || {
        let problem = format!("{}; expected host:port, an IPv6 address in brackets", check::shown(target));
        RequestError::invalid("target", problem)
    };
    let after_host = target.find(']').map_or(0, |at| at + 1);
    let (host, port) = match target[after_host..].rsplit_once(':') {
        Some((_, port)) => (&target[..target.len() - port.len() - 1], Some(port)),
        None => (target, None),
    };
    // Without brackets a colon could belong to either.
    if !host.starts_with('[') && host.contains(':') {
        return Err(invalid());
    }
    let host = check::host("target", host).map_err(|_| invalid())?;
    let port = match port {
        None => None,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?)
        }
        Some(_) => return Err(invalid()),
    };
    Ok(Destination { host, port, transport })
}

fn edge_destination(edge: &SipUri, transport: Transport) -> Result<Destination, RequestError> {
    let transport = match edge.param("transport").flatten() {
        Some(name) => address::transport("message.route[0].address.uri.transport_param", name)?,
        None => transport,
    };
    let HostPort { host, port } = HostPort::new(&edge.host, edge.port.unwrap_or(transport.default_port()));
    Ok(Destination { host: host.into(), port: Some(port), transport })
}

/// Host, port and transport at which an EdgePort hears calls.
type EdgeContact = (String, Option<u16>, Transport);

/// Address for calls: the public one of the EdgePort, else its own, with the transport that the Route
/// names. An EdgePort whose own address has the port of UDP hears TLS at that of TLS (RFC 3261 §19.1.2).
fn edge_contact(
    edge: Option<&NameAddr>,
    given: Option<HostPort>,
    transport: Transport,
) -> Result<Option<EdgeContact>, RequestError> {
    let public = |public: HostPort, transport| (public.host.into(), Some(public.port), transport);
    let Some(edge) = edge else { return Ok(given.map(|given| public(given, transport))) };
    let transport = match edge.uri.param("transport").flatten() {
        Some(name) => address::transport("message.route[0].address.uri.transport_param", name)?,
        None => transport,
    };
    let port = match edge.uri.port {
        Some(port) if port == Transport::Udp.default_port() && transport.is_secure() => {
            Some(transport.default_port())
        }
        port => port,
    };
    Ok(Some(match given {
        Some(given) => public(given, transport),
        None => (edge.uri.host.clone(), port, transport),
    }))
}

fn plan_contact(
    request: &Request,
    edge: Option<EdgeContact>,
    mode: Mode,
    user: Option<String>,
    destination: &Destination,
) -> ContactPlan {
    let Some((host, port, transport)) = edge else {
        let all_numbers = mode == Mode::Proxied;
        return own_contact(request, all_numbers, user.filter(|_| !all_numbers), destination.transport);
    };
    if !WITH_CONTACT.contains(&request.method.as_str()) {
        return ContactPlan::None;
    }
    // RFC 3261 §8.1.1.8: a sips Request-URI asks for a sips Contact.
    let secure = request.uri.secure;
    let params = vec![("transport".to_owned(), Some(transport.parameter().to_owned()))];
    ContactPlan::Given(SipUri { secure, user, host, port, params })
}

/// A Contact that names the Requester; `all_numbers` as the Java one has it: all numbers behind this address,
/// so no user (RFC 6140 §5.2).
fn own_contact(
    request: &Request,
    all_numbers: bool,
    user: Option<String>,
    transport: Transport,
) -> ContactPlan {
    if !WITH_CONTACT.contains(&request.method.as_str()) {
        return ContactPlan::None;
    }
    let mut params = vec![("transport".to_owned(), Some(transport.parameter().to_owned()))];
    if all_numbers {
        params.push(("bnc".to_owned(), None));
    }
    ContactPlan::Own(SipUri { secure: request.uri.secure, user, params, ..SipUri::default() })
}
