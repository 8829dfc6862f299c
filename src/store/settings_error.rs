//! Reasons that settings of Redis cannot be used.

use routr_net::tls::TlsFileError;
use routr_types::host::HostPort;

/// Reason that settings cannot be used, before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisSettingsError {
    /// A file of TLS cannot be read or used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The address cannot be used.
    #[error("the address of the cache, {address}, cannot be used: {cause}")]
    Address {
        /// The address.
        address: HostPort,
        /// Problem with it.
        cause: Box<str>,
    },
}
