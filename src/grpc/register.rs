//! A REGISTER as the protobuf message that asks a Requester to send it.
//!
//! Most of its header fields are the same in all of them. They are encoded once: making them again was a
//! third of what it takes to make a message.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prost::Message;

use crate::proto::{common, processor, sipmessage as sip};
use routr_registration::{model::RegisterRequest, trunk::Credentials};
use routr_sip::uri::escape_user;
use routr_types::{
    extension::{self, Features},
    host::{Transport, UriHost},
    secret::Secret,
};

/// Max-Forwards of each REGISTER (RFC 3261 §8.1.1.6).
const MAX_FORWARDS: i32 = 70;
/// A URI without a port, as the Java side understands it.
const NO_PORT: i32 = -1;

/// Parts that are the same in all REGISTERs of a registry.
#[doc(hidden)] // public for fuzz/
#[derive(Debug)]
pub struct Template {
    /// The header fields before CSeq, encoded.
    before: Vec<u8>,
    /// Those after it up to the credentials, encoded, with all option tags.
    after: Vec<u8>,
    user_agent: String,
    option_tags: Vec<String>,
}

/// `SendMessageRequest` with a message that is encoded already: to protobuf these are bytes like any.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(string, tag = "1")]
    target: String,
    #[prost(enumeration = "processor::Method", tag = "2")]
    method: i32,
    #[prost(enumeration = "common::Transport", tag = "3")]
    transport: i32,
    #[prost(bytes = "vec", tag = "4")]
    message: Vec<u8>,
}

impl Template {
    /// An Allow for each of `methods`, a User-Agent, and `option_tags` in Require and Proxy-Require.
    pub fn new(methods: &[String], user_agent: &str, option_tags: &[String]) -> Self {
        let allow = methods.iter().map(|method| header("Allow", method.clone())).collect();
        let mut template = Self {
            before: encoded(allow),
            after: Vec::new(),
            user_agent: user_agent.to_owned(),
            option_tags: option_tags.to_vec(),
        };
        template.after = template.after_cseq(0);
        template
    }

    /// The message, encoded, with no more beyond the contract than the Requester understands. Its header
    /// fields keep the order of the contract: a field that is repeated may
    /// be interrupted by others, and its values stay in order.
    #[doc(hidden)] // public for fuzz/
    pub fn encode(&self, register: &RegisterRequest, features: Features) -> Bytes {
        let mut message = self.before.clone();
        message.extend(variable(register).encode_to_vec());
        match register.without_tags {
            0 => message.extend(&self.after),
            without => message.extend(self.after_cseq(without)),
        }
        if let Some(credentials) = &register.credentials {
            message.extend(encoded(vec![header("X-Gateway-Auth", gateway_auth(credentials))]));
        }
        if let Some(contact) = register.contact.as_ref().filter(|_| features.contact) {
            message.extend(encoded(vec![header(extension::CONTACT, contact.to_string())]));
        }
        if features.digest && !register.digest.is_none() {
            message.extend(encoded(vec![header(extension::DIGEST, register.digest.to_string())]));
        }
        let envelope = Envelope {
            target: match register.names_port || !features.srv {
                true => register.target.to_string(),
                false => UriHost(&register.target.host).to_string(),
            },
            method: processor::Method::Register.into(),
            transport: transport(register.transport).into(),
            message,
        };
        envelope.encode_to_vec().into()
    }

    /// Returns the fields after CSeq, without the option tags whose bits are set in `without`.
    fn after_cseq(&self, without: u32) -> Vec<u8> {
        let mut all = vec![
            header("User-Agent", self.user_agent.clone()),
            header("Allow-Events", "presence".to_owned()),
        ];
        let tags = self
            .option_tags
            .iter()
            .enumerate()
            .filter(|(position, _)| without & 1_u32.checked_shl(*position as u32).unwrap_or(0) == 0);
        for name in ["Proxy-Require", "Require"] {
            all.extend(tags.clone().map(|(_, tag)| header(name, tag.clone())));
        }
        all.push(header("Supported", "path".to_owned()));
        encoded(all)
    }
}

/// Returns what differs from one REGISTER to the next. Out of line, so that the two kilobytes of such a
/// message are no part of a call's future.
#[inline(never)]
fn variable(register: &RegisterRequest) -> sip::SipMessage {
    // As it stands in a URI (RFC 3261 §25.1): Routr's Requester writes it as it is.
    let uri = |user: &str, host: &str, port: i32, transport: Transport| sip::SipUri {
        user: escape_user(user),
        host: UriHost(host).to_string(),
        port,
        transport_param: transport.parameter().to_owned(),
        ttl_param: NO_PORT,
        secure: register.secure,
        ..sip::SipUri::default()
    };
    let aor = || {
        let uri = Some(uri(&register.user, &register.domain, NO_PORT, register.request_transport));
        Some(sip::Address { uri, ..sip::Address::default() })
    };
    let route = |host: &str, port: i32| {
        let uri = sip::SipUri { lr_param: true, secure: false, ..uri("", host, port, register.transport) };
        sip::Route {
            address: Some(sip::Address { uri: Some(uri), ..sip::Address::default() }),
            ..sip::Route::default()
        }
    };
    let mut routes = vec![route(&register.edge_port.host, i32::from(register.edge_port.port))];
    let (target, request_port) = (&register.target, register.request_port);
    if (&target.host, target.port) != (&register.request_host, request_port) {
        // Behind the EdgePort comes the outbound proxy (RFC 3261 §8.1.2). A Requester that goes straight to
        // the target passes over both.
        let port = if register.names_port { i32::from(target.port) } else { NO_PORT };
        routes.push(route(&target.host, port));
    }
    let request_uri = sip::SipUri {
        method_param: "REGISTER".to_owned(),
        ..uri("", &register.request_host, i32::from(request_port), register.request_transport)
    };
    sip::SipMessage {
        from: Some(sip::From { address: aor(), tag: register.from_tag.to_string(), ..sip::From::default() }),
        to: Some(sip::To { address: aor(), ..sip::To::default() }),
        call_id: Some(sip::CallId { call_id: register.call_id.to_string() }),
        content_length: Some(sip::ContentLength { content_length: 0 }),
        expires: Some(sip::Expires { expires: i32::try_from(register.expires).unwrap_or(i32::MAX) }),
        max_forwards: Some(sip::MaxForwards { max_forwards: MAX_FORWARDS }),
        extensions: vec![header("CSeq", format!("{} REGISTER", register.cseq))],
        route: routes,
        message_type: Some(sip::sip_message::MessageType::RequestUri(request_uri)),
        ..sip::SipMessage::default()
    }
}

fn header(name: &str, value: String) -> sip::Extension {
    sip::Extension { name: name.to_owned(), value }
}

/// A message of header fields only: put after another, it adds them.
fn encoded(extensions: Vec<sip::Extension>) -> Vec<u8> {
    sip::SipMessage { extensions, ..sip::SipMessage::default() }.encode_to_vec()
}

/// Returns what the Requester gets as credentials: Base64 of `username:password`.
pub(super) fn gateway_auth(credentials: &Credentials) -> String {
    let plain = Secret::new(format!("{}:{}", credentials.username, credentials.password.expose()));
    BASE64_STANDARD.encode(plain.expose())
}

fn transport(transport: Transport) -> common::Transport {
    match transport {
        Transport::Udp => common::Transport::Udp,
        Transport::Tcp => common::Transport::Tcp,
        Transport::Tls => common::Transport::Tls,
        Transport::Sctp => common::Transport::Sctp,
        Transport::Ws => common::Transport::Ws,
        Transport::Wss => common::Transport::Wss,
    }
}

#[cfg(test)]
pub(super) mod tests;
