//! Reasons that there is no response.

use std::sync::Arc;

use crate::{headers::BuildError, message::MAX_MESSAGE};
use routr_net::addresses::DeniedAddress;
pub(super) use routr_net::connect::io_cause;
use routr_types::host::Transport;

/// Reason that a request got no final response. Whatever a server responded is a response, not an error.
///
/// Each text begins with the cause, so that it survives wherever a text is cut; it does not name the
/// destination, which the caller knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nothing came within Timer F (RFC 3261 §17.1.2.2).
    #[error("no response in time (Timer F)")]
    Timeout,
    /// Nothing but a provisional response of that code came within Timer F.
    #[error("no final response in time (Timer F), only a provisional {0}")]
    OnlyProvisional(u16),
    /// A response came that cannot be read, and no other one within Timer F: what is wrong with it.
    #[error("the response cannot be read: {0}")]
    Unreadable(Arc<str>),
    /// The other side cannot be reached, or refused the connection. The request was not sent.
    #[error("{0}")]
    Transport(Arc<str>),
    /// The connection broke before the response came: the request may have been processed. It may be sent
    /// again, with a higher CSeq (RFC 3261 §10.3, step 7): the next one makes a new connection.
    #[error("connection lost before the response: {0}")]
    ConnectionLost(Arc<str>),
    /// The TLS handshake failed, or the peer ended the connection for a reason of TLS.
    #[error("{0}")]
    Tls(Arc<str>),
    /// The host name has no address, or cannot be looked up.
    #[error("{0}")]
    Resolve(Arc<str>),
    /// All addresses of the destination are denied; this is the first of them.
    #[error("{0}; see --deny-target and --allow-target of the Requester")]
    Denied(Box<DeniedAddress>),
    /// Transport other than UDP and TCP, or TLS where that is not set up.
    #[error("SIP over {0} is not available here; expected UDP, TCP or, where it is set up, TLS")]
    UnsupportedTransport(Transport),
    /// More than [`MAX_MESSAGE`], or over UDP more than [`super::MAX_DATAGRAM`].
    #[error("the request has {size} bytes, more than the {limit} that are allowed over {transport}")]
    TooLarge {
        /// Bytes of the request.
        size: usize,
        /// The bound.
        limit: usize,
        /// Over which transport.
        transport: Transport,
    },
    /// The request cannot be written.
    #[error("the request cannot be sent: {0}")]
    Invalid(BuildError),
}

impl ClientError {
    pub(super) fn transport(text: impl Into<Arc<str>>) -> Self {
        Self::Transport(text.into())
    }

    pub(super) fn resolve(text: impl Into<Arc<str>>) -> Self {
        Self::Resolve(text.into())
    }

    pub(super) fn stopped() -> Self {
        Self::transport("the SIP client has stopped")
    }

    pub(super) fn build(error: BuildError, transport: Transport) -> Self {
        match error {
            BuildError::TooLarge(size) => Self::TooLarge { size, limit: MAX_MESSAGE, transport },
            other => Self::Invalid(other),
        }
    }
}
