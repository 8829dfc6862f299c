//! Connections for SIP, gRPC and Redis: rules for addresses, Happy Eyeballs (RFC 8305), TLS whose files are
//! followed, and the descriptors that all of it takes.

pub mod addresses;
pub mod connect;
pub mod descriptors;
pub mod files;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
