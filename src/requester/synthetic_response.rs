//! Responses that no registrar sent: made up here, so that every call gets one.

use std::time::Duration;

use super::response;
use crate::proto::sipmessage as proto;
use routr_sip::{
    client::{ClientError, Destination},
    message::{Request, Response},
};
use routr_types::{
    extension::{self, Hop, Local, LocalKind},
    host::{HostPort, UriHost},
    text,
};

/// The extension by which a response made up here differs from a registrar's own; its value is a [`Local`].
/// The same header field in a registrar's response is dropped.
pub const HEADER: &str = extension::LOCAL;

/// Reason that there is no response of the registrar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: LocalKind,
    error: ClientError,
}

impl Failure {
    /// The word of the extension: `timeout`, `transport-error`, ...
    pub fn what(&self) -> &'static str {
        self.kind.name()
    }

    fn code(&self) -> u16 {
        match self.kind {
            LocalKind::Timeout => 408,
            LocalKind::Transport | LocalKind::Tls | LocalKind::UnknownHost => 503,
        }
    }

    /// The cause comes first, so that it is still there where a text is cut further on; then who it is about.
    fn reason(&self, at: Hop, destination: &Destination, waited: Duration) -> String {
        let place = match destination.port {
            Some(port) => HostPort::new(&destination.host, port).to_string(),
            None => UriHost(&destination.host).to_string(),
        };
        let peer = format!("{} {place}", name(at));
        let (transport, seconds) = (destination.transport, waited.as_secs_f32());
        let text = match &self.error {
            ClientError::Timeout => format!("no response from {peer} ({transport}) within {seconds:.1} s"),
            ClientError::OnlyProvisional(code) => {
                format!("no final response, only {code}, from {peer} ({transport}) within {seconds:.1} s")
            }
            ClientError::Resolve(cause) => {
                format!("{cause}: the {}'s name {}", name(at), destination.host)
            }
            error => format!("{error} ({peer}, {transport})"),
        };
        // A reason phrase is one line, whatever an operating system's words are.
        text::one_line(&text)
    }
}

fn name(hop: Hop) -> &'static str {
    match hop {
        Hop::Registrar => "registrar",
        Hop::EdgePort => "EdgePort",
    }
}

/// Writes the response to the last request that was sent; `at` is whom it was sent to.
pub fn write(
    failure: &Failure,
    at: Hop,
    request: &Request,
    destination: &Destination,
    waited: Duration,
) -> proto::SipMessage {
    let reason = failure.reason(at, destination, waited);
    let response = Response::to_request(request, failure.code(), &reason);
    let mut message = response::write(&response, None);
    let value = Local { kind: failure.kind, at: Some(at) }.to_string();
    message.extensions.push(proto::Extension { name: HEADER.to_owned(), value });
    message
}

/// Returns what the SIP client's error means for the caller.
///
/// # Errors
/// The error itself, where the request is at fault and not the path.
pub fn from_client(error: ClientError) -> Result<Failure, ClientError> {
    let kind = match &error {
        ClientError::Timeout | ClientError::OnlyProvisional(_) => LocalKind::Timeout,
        ClientError::Transport(_) | ClientError::ConnectionLost(_) | ClientError::Unreadable(_) => {
            LocalKind::Transport
        }
        // As if it could not be reached: it is one target's matter, and no fault of the request.
        ClientError::Denied(_) => LocalKind::Transport,
        ClientError::Tls(_) => LocalKind::Tls,
        ClientError::Resolve(_) => LocalKind::UnknownHost,
        ClientError::UnsupportedTransport(_) | ClientError::TooLarge { .. } | ClientError::Invalid(_) => {
            return Err(error);
        }
    };
    Ok(Failure { kind, error })
}
