//! Reasons that there is no connection.

use std::{fmt::Display, io};

use routr_registration::model::Excess;

/// Reason that there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address, or cannot be looked up.
    #[error("{host} cannot be looked up: {cause}")]
    Resolve {
        /// The name.
        host: Box<str>,
        /// Error of the resolver.
        cause: Box<str>,
    },
    /// No address takes the connection; the cause at each.
    #[error("{0}")]
    Transport(Box<str>),
    /// The operator's limits leave no room for it.
    #[error("{0}")]
    OverLimit(Excess),
    /// TLS, or the protocol over it, cannot be spoken with the peer.
    #[error("{0}")]
    Tls(Box<str>),
}

impl ConnectError {
    /// Names the cause at each address.
    pub fn at_each(causes: &[(impl Display, impl Display)]) -> Self {
        let causes: Vec<String> =
            causes.iter().map(|(address, cause)| format!("{cause}, at {address}")).collect();
        Self::Transport(causes.join("; ").into())
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        Self::other(error)
    }
}
