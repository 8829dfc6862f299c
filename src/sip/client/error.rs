//! Why there is no response.

use std::sync::Arc;

use crate::{
    sip::{headers::BuildError, message::MAX_MESSAGE},
    trunk::Transport,
};

/// Why a request got no final response. Whatever a server answered is a response, not an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No final response within Timer F (RFC 3261 §17.1.2.2).
    #[error("no final response in time (Timer F)")]
    Timeout,
    /// The other side cannot be reached, refused the connection, or closed it before it answered.
    #[error("{0}")]
    Transport(Arc<str>),
    /// The host name has no address, or cannot be looked up.
    #[error("{0}")]
    Resolve(Arc<str>),
    /// Not UDP or TCP, nor TLS where that is set up.
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

    pub(super) fn build(error: BuildError, transport: Transport) -> Self {
        match error {
            BuildError::TooLarge(size) => Self::TooLarge { size, limit: MAX_MESSAGE, transport },
            other => Self::Invalid(other),
        }
    }
}
