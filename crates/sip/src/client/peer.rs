//! The peer that sent a response, so that a later request can go to the very same one.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use super::connection::Connection;

/// The peer that responded to a request: its address, and over TCP or TLS the connection. A name with several
/// addresses may stand for servers that do not share their digest state: the credentials for a challenge go
/// to the peer that sent it.
///
/// Over UDP it is the address that the request was sent to, whatever address the response came from: there
/// requests are taken. Keeps no connection open.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    /// Over UDP all addresses that the registrar's name had.
    registrar: Arc<[SocketAddr]>,
    connection: Option<Weak<Connection>>,
}

impl Peer {
    pub(super) fn datagram(address: SocketAddr, registrar: Arc<[SocketAddr]>) -> Self {
        Self { address, registrar, connection: None }
    }

    pub(super) fn stream(connection: &Arc<Connection>) -> Self {
        let registrar = Arc::new([]);
        Self { address: connection.remote(), registrar, connection: Some(Arc::downgrade(connection)) }
    }

    /// That address, over a connection to be made.
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { address, registrar: Arc::new([]), connection: None }
    }

    /// Its IP address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Over UDP all addresses that the registrar's name had.
    pub(super) fn registrar(&self) -> &Arc<[SocketAddr]> {
        &self.registrar
    }

    /// The connection, while it is open and trusted.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.as_ref().and_then(Weak::upgrade).filter(|connection| connection.is_usable())
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        let same_connection = match (&self.connection, &other.connection) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Weak::ptr_eq(ours, theirs),
            _ => false,
        };
        self.address == other.address && same_connection
    }
}

impl Eq for Peer {}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.address).finish()
    }
}
