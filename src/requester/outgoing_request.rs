//! Conversion of `SendMessageRequest` to a SIP request that lacks only its Contact (where that is the
//! Requester's own address) and its Via.

mod contact;
mod extensions;

use std::fmt;

pub use self::contact::{ContactHost, ContactPlan};
use self::{
    contact::{edge_contact, own_contact, plan_contact},
    extensions::Extensions,
};
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
