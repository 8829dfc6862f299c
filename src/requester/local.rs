//! Replies that no registrar gave: made up here, so that every call is answered.

use std::time::Duration;

use super::reply;
use crate::{
    proto::sipmessage as proto,
    sip::{
        client::{ClientError, Destination},
        message::{Request, Response},
    },
    trunk::HostPort,
};

/// The extension that tells a reply made up here from a registrar's own. Its value is that of [`Failure::what`]. The
/// same header field in a registrar's reply is dropped.
pub const HEADER: &str = "X-Routr-Local";

/// Why there is no reply of the registrar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered, or only provisionally.
    Timeout,
    /// The request could not be sent, or the connection broke before an answer came: a few words why.
    Transport(String),
    /// The host name is unknown, or names no address: a few words why.
    UnknownHost(String),
}

impl Failure {
    /// What the extension says: `timeout`, `transport-error` or `unknown-host`.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Transport(_) => "transport-error",
            Self::UnknownHost(_) => "unknown-host",
        }
    }

    fn code(&self) -> u16 {
        match self {
            Self::Timeout => 408,
            Self::Transport(_) | Self::UnknownHost(_) => 503,
        }
    }

    fn reason(&self, destination: &Destination, waited: Duration) -> String {
        let address = HostPort::new(&destination.host, destination.port);
        let transport = destination.transport;
        let text = match self {
            Self::Timeout => {
                format!("no final answer from {address} ({transport}) within {:.1} s", waited.as_secs_f32())
            }
            // The SIP client's words name the address, or the host, themselves.
            Self::Transport(why) => format!("transport error: {why}"),
            Self::UnknownHost(why) => format!("unknown host: {why}"),
        };
        // A reason phrase is one line, whatever an operating system's words are.
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// Writes the reply to the last request that was sent.
pub fn write(
    failure: &Failure,
    request: &Request,
    destination: &Destination,
    waited: Duration,
) -> proto::SipMessage {
    let response = Response::to_request(request, failure.code(), &failure.reason(destination, waited));
    let mut message = reply::write(&response, None);
    message.extensions.push(proto::Extension { name: HEADER.to_owned(), value: failure.what().to_owned() });
    message
}

/// What the SIP client's error means for the caller.
///
/// # Errors
/// The error itself, where it is the request that is at fault and not the way.
pub fn from_client(error: ClientError) -> Result<Failure, ClientError> {
    match error {
        ClientError::Timeout => Ok(Failure::Timeout),
        ClientError::Transport(why) => Ok(Failure::Transport(why.to_string())),
        ClientError::Resolve(why) => Ok(Failure::UnknownHost(why.to_string())),
        other => Err(other),
    }
}
