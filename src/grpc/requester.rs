//! Sends REGISTERs through a Requester: domain -> protobuf, and back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{Code, Request, Status, codegen::http::uri::PathAndQuery};

use super::{
    Ended, GrpcError,
    balance::SentMarker,
    choice::Choice,
    codec::RawCodec,
    ended,
    register::{Template, gateway_auth},
    restarts::hash,
    said,
    shared::{Client, Connections, MAX_RESPONSE, RequesterConnections, Shared},
    shortened, wire,
};
use crate::{
    config::Config,
    proto::{requester::SendMessageResponse, sipmessage as sip},
    quota::{Quota, Received},
    runtime::ports::Requester,
};
use routr_registration::{
    model::{Link, RedirectContact, RedirectTarget, RegisterRequest, RegisterResponse, SendError},
    trunk::Credentials,
};
use routr_types::{
    extension::{self, Authentication, Features, Local, Target},
    host::{HostPort, Transport, is_host},
    text,
};

/// Bytes of the buffer for a REGISTER: holds one with gRPC's prefix, as a rule, and is small enough for the
/// quick lists of an allocator (glibc's go up to 1,032 bytes).
const SEND_BUFFER_BYTES: usize = 1_000;
/// The same for a response.
const RECEIVE_BUFFER_BYTES: usize = 500;
/// Bounds on a response, before it is decoded: a SIP message over UDP has 64 KiB at most. 4 MB of empty
/// header fields would become 1 GB.
const LIMITS: wire::Limits = wire::Limits { bytes: MAX_RESPONSE, fields: 4_096, depth: 16 };
/// Targets of one redirection that are looked at.
const MAX_TARGETS: usize = 16;
/// Advice for a Requester that does not let this registry in.
const LOGIN_HINT: &str = "; give the registry the Requester's token by spec.requesterTokenSecretRef, or in a file by \
                          spec.requesterTokenFile";
/// Characters of what the Requester says in front of it.
const MAX_BEFORE_HINT: usize = 180;
/// See [`GrpcRequester::register`].
const DEADLINE_MARGIN: Duration = Duration::from_secs(1);

/// A Requester over gRPC.
#[derive(Debug)]
pub struct GrpcRequester {
    connections: Shared<RequesterConnections>,
    template: Template,
    quota: Arc<Quota>,
}

impl GrpcRequester {
    /// Connects at the first request, by connections of its own.
    ///
    /// # Errors
    /// When the address or a file of TLS cannot be used.
    pub fn new(config: &Config) -> Result<Self, GrpcError> {
        Self::sharing(config, &Connections::default())
    }

    /// Connects at the first request, by connections that others may use too.
    ///
    /// # Errors
    /// When the address or a file of TLS cannot be used.
    pub fn sharing(config: &Config, connections: &Connections) -> Result<Self, GrpcError> {
        let connections = connections.requester(&config.requester);
        // One that never sends holds none.
        connections.check()?;
        let template =
            Template::new(&config.methods, &config.registration.user_agent, &config.registration.require);
        Ok(Self { connections, template, quota: Quota::unlimited() })
    }

    /// Takes what it needs from a Registry's quota.
    #[must_use]
    pub fn within(self, quota: &Arc<Quota>) -> Self {
        self.connections.paid_by(quota);
        Self { quota: quota.clone(), ..self }
    }
}

impl Requester for GrpcRequester {
    async fn register(
        &self,
        request: RegisterRequest,
        deadline: Duration,
    ) -> Result<RegisterResponse, SendError> {
        let connections =
            self.connections.get().map_err(|error| SendError::Unavailable(error.to_string().into()))?;
        let about = connections.about();
        about.ask_once();
        let (features, left) = match goes_beyond(&request) {
            true => {
                let begun = Instant::now();
                let features = timeout(deadline, about.features()).await.unwrap_or_default();
                (features, deadline.saturating_sub(begun.elapsed()))
            }
            false => (Features::default(), deadline),
        };
        let (client, _in_flight) = connections.client();
        let mut message = Request::new(self.template.encode(&request, features));
        // For the Requester to know when no one waits any more. tonic, too, ends the call then, but says that
        // it was cancelled: so a little later than ours.
        message.set_timeout(left + DEADLINE_MARGIN);
        let sent = SentMarker::default();
        message.extensions_mut().insert(sent.clone());
        message.extensions_mut().insert(Choice::kept(&request.call_id));
        // tonic keeps the timeout for the answer only; connecting counts as well.
        let received = self.quota.reply();
        match timeout(left, send(client, message, &received)).await {
            // No registrar and no EdgePort was silent: none was asked.
            Err(_) if !sent.is_set() => {
                let said = format!("no connection took the request within {} s", deadline.as_secs_f32());
                Err(SendError::Unavailable(said.into()))
            }
            Err(_) => Err(SendError::Deadline(deadline)),
            Ok(Ok(mut reply)) => {
                if let (Some(200), Some(contact)) = (reply.code, reply.requester_contact) {
                    about.saw_contact(contact, &request.call_id);
                }
                // A phrase is shown when it says why there is no binding.
                if reply.code != Some(200) {
                    reply.phrase = redact(&reply.phrase, request.credentials.as_ref());
                }
                Ok(reply)
            }
            Ok(Err(status)) => {
                // An error text may quote what was sent. What is cut off in the middle would not be
                // recognised.
                let said = || with_hint(&status, &redact(&said(&status), request.credentials.as_ref()));
                Err(match ended(&status) {
                    Ended::Unreachable => SendError::Unavailable(said()),
                    Ended::Broken { after_response } => {
                        SendError::Disconnected { cause: said(), after_response }
                    }
                    Ended::Late => SendError::Deadline(deadline),
                    Ended::Failed => SendError::Failed(said()),
                    Ended::Refused => SendError::Refused(said()),
                })
            }
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.connections.link()
    }

    fn rest(&self) {
        self.connections.rest();
    }
}

/// Returns whether a request says what Routr's contract has no words for.
fn goes_beyond(request: &RegisterRequest) -> bool {
    request.contact.is_some() || !request.names_port || !request.digest.is_none()
}

/// Returns what a status says, and what to do about it where the Requester does not let this registry in.
fn with_hint(status: &Status, said: &str) -> Box<str> {
    match status.code() {
        Code::Unauthenticated => format!("{}{LOGIN_HINT}", text::clean(said, MAX_BEFORE_HINT)).into(),
        _ => shortened(said),
    }
}

async fn send(
    client: Client,
    message: Request<Bytes>,
    received: &Arc<Received>,
) -> Result<RegisterResponse, Status> {
    const METHOD: &str = "/fonoster.routr.requester.v2beta1.Requester/SendMessage";
    let mut client = client.grpc(received);
    client.ready().await.map_err(Status::from_error)?;
    let codec = RawCodec::with_buffers(SEND_BUFFER_BYTES, RECEIVE_BUFFER_BYTES);
    let response = client.unary(message, PathAndQuery::from_static(METHOD), codec).await?.into_inner();
    wire::check(&response, &wire::SEND_MESSAGE_RESPONSE, &LIMITS)
        .map_err(|excess| Status::out_of_range(format!("the response is too large: {excess}")))?;
    let response =
        SendMessageResponse::decode(response).map_err(|error| Status::internal(error.to_string()))?;
    Ok(response.message.map(decode).unwrap_or_default())
}

/// The text without the credentials, should it have them.
fn redact(text: &str, credentials: Option<&Credentials>) -> Box<str> {
    let Some(credentials) = credentials.filter(|c| !c.password.expose().is_empty()) else {
        return text.into();
    };
    let password = credentials.password.expose();
    // The Requester sanitises phrases before they get here, and may have changed what they quote.
    let sanitised = text::one_line(password);
    let hidden = text.replace(&gateway_auth(credentials), "***").replace(password, "***");
    if sanitised.is_empty() { hidden.into() } else { hidden.replace(&sanitised, "***").into() }
}

/// Returns the content of a Requester's response.
#[doc(hidden)] // public for fuzz/
pub fn decode(message: sip::SipMessage) -> RegisterResponse {
    let code = match &message.message_type {
        Some(sip::sip_message::MessageType::ResponseType(number)) => {
            sip::ResponseType::try_from(*number).ok().and_then(status_code)
        }
        _ => None,
    };
    let headers = |name: &'static str| {
        let named = message.extensions.iter().filter(move |one| one.name.eq_ignore_ascii_case(name));
        named.map(|one| one.value.as_str())
    };
    let header = |name| headers(name).next();
    let contact = message.contact.as_ref();
    let contact_expires = contact.map(|contact| contact.expires).filter(|expires| *expires != -1);
    let mut targets: Vec<_> = headers(extension::TARGET)
        .take(MAX_TARGETS)
        .filter_map(Target::parse)
        .filter_map(named_target)
        .collect();
    if targets.is_empty() {
        let first =
            contact.and_then(|contact| contact.address.as_ref()?.uri.as_ref()).and_then(redirect_target);
        let expires = contact_expires.and_then(|seconds| u32::try_from(seconds).ok());
        targets.extend(first.map(|to| RedirectContact { to, expires }));
    }
    // The code as it was sent: the contract has no response type for many of them.
    let status = header(extension::STATUS).map(|status| status.split_once(' ').unwrap_or((status, "")));
    let sent = status.and_then(|(code, phrase)| Some((code.parse().ok()?, phrase)));
    let sent = sent.filter(|(code, _)| (100..700).contains(code));
    RegisterResponse {
        code: sent.map(|(code, _)| code).or(code),
        contact_expires,
        bindings: header(extension::BINDINGS).map(extension::parse_bindings).unwrap_or_default(),
        targets,
        expires: message.expires.as_ref().map(|expires| expires.expires).filter(|expires| *expires != -1),
        min_expires: header("Min-Expires").and_then(leading_number),
        retry_after: header("Retry-After").and_then(leading_number),
        unsupported: headers("Unsupported")
            .flat_map(|value| value.split(','))
            .map(|tag| tag.trim().into())
            .collect(),
        cseq: header("CSeq").and_then(leading_number),
        requester_contact: contact.and_then(own_contact),
        local: header(extension::LOCAL).map(Local::parse),
        authentication: header(extension::AUTHENTICATION).and_then(Authentication::parse),
        phrase: match sent {
            Some((_, phrase)) => phrase.into(),
            None => message.reason_phrase.as_str().into(),
        },
    }
}

/// Returns where the Contact is the Requester's own (RFC 6140 §5.1: `bnc`): its host and port, as a hash.
fn own_contact(contact: &sip::Contact) -> Option<u64> {
    let uri = contact.address.as_ref()?.uri.as_ref().filter(|uri| uri.bnc_param)?;
    Some(hash((&*uri.host, uri.port)))
}

/// A target that our Requester names.
fn named_target(target: Target) -> Option<RedirectContact> {
    let transport = target.transport.as_deref().and_then(Transport::parse);
    let port = target.port.unwrap_or(transport.unwrap_or(Transport::Udp).default_port());
    let to = is_host(&target.host)
        .then(|| RedirectTarget { address: HostPort::new(&target.host, port), transport })?;
    Some(RedirectContact { to, expires: target.expires })
}

/// The number that a header field's value begins with: `120 (in a meeting);duration=60` is 120.
fn leading_number(value: &str) -> Option<u32> {
    let digits = value.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    // A number too large for its type is «very long», not «absent».
    (end > 0).then(|| digits[..end].parse().unwrap_or(u32::MAX))
}

fn redirect_target(uri: &sip::SipUri) -> Option<RedirectTarget> {
    let host = uri.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&uri.host);
    // What is no host makes no REGISTER that could be sent: the Requester would be blamed for what a
    // registrar said.
    if !is_host(host) {
        return None;
    }
    let transport = Transport::parse(&uri.transport_param).or(uri.secure.then_some(Transport::Tls));
    let default = transport.unwrap_or(Transport::Udp).default_port();
    let port = u16::try_from(uri.port).ok().filter(|port| *port > 0).unwrap_or(default);
    Some(RedirectTarget { address: HostPort::new(host, port), transport })
}

/// The status code of a response type; `None` for the one that says nothing. Where only the class is known,
/// its first code stands for it (RFC 3261 §8.1.3.2).
fn status_code(response_type: sip::ResponseType) -> Option<u16> {
    use sip::ResponseType as T;
    Some(match response_type {
        T::Unknown => return None,
        T::Trying => 100,
        T::Ringing => 180,
        T::CallIsBeingForwarded => 181,
        T::Queued => 182,
        T::SessionProgress => 183,
        T::Success | T::Ok => 200,
        T::Accepted => 202,
        T::Redirection | T::MultipleChoices => 300,
        T::MovedPermanently => 301,
        T::MovedTemporarily => 302,
        T::UseProxy => 305,
        T::AlternativeService => 380,
        T::ClientError | T::BadRequest => 400,
        T::Unauthorized => 401,
        T::PaymentRequired => 402,
        T::Forbidden => 403,
        T::NotFound => 404,
        T::MethodNotAllowed => 405,
        T::NotAcceptable => 406,
        T::ProxyAuthenticationRequired => 407,
        T::RequestTimeout => 408,
        T::Gone => 410,
        T::RequestEntityTooLarge => 413,
        T::RequestUriTooLong => 414,
        T::UnsupportedMediaType => 415,
        T::UnsupportedUriScheme => 416,
        T::BadExtension => 420,
        T::ExtensionRequired => 421,
        T::IntervalTooBrief => 423,
        T::TemporarilyUnavailable => 480,
        T::CallOrTransactionDoesNotExist => 481,
        T::LoopDetected => 482,
        T::TooManyHops => 483,
        T::AddressIncomplete => 484,
        T::Ambiguous => 485,
        T::BusyHere => 486,
        T::RequestTerminated => 487,
        T::NotAcceptableHere => 488,
        T::BadEvent => 489,
        T::RequestPending => 491,
        T::Undecipherable => 493,
        T::ServerError | T::ServerInternalError => 500,
        T::NotImplemented => 501,
        T::BadGateway => 502,
        T::ServiceUnavailable => 503,
        T::ServerTimeout => 504,
        T::VersionNotSupported => 505,
        T::MessageTooLarge => 513,
        T::GlobalError | T::BusyEverywhere => 600,
        T::Decline => 603,
        T::DoesNotExistAnywhere => 604,
        T::SessionNotAcceptable => 606,
    })
}

#[cfg(test)]
#[path = "requester_tests.rs"]
mod tests;
