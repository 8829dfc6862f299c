//! The SIP client: sends a request, brings back the final response.
//!
//! One UDP socket, one connection for each TCP or TLS target, one table of open transactions with one timer queue: a
//! request in flight costs an entry there, not a task. Everything ends when the last clone of the [`Client`] is dropped.

mod error;
mod peer;
mod resolve;
mod stream;
mod table;
mod udp;

use std::{
    borrow::Borrow,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::{error::ClientError, peer::Peer};
use self::{
    resolve::Names,
    stream::{Connections, Settings},
    table::{Branch, Due, Table, Way},
    udp::Udp,
};
use super::{
    message::{Request, Response},
    transaction::Timers,
    via::Via,
};
use crate::trunk::{Transport, UriHost};

/// Most bytes of a request over UDP. RFC 3261 §18.1.1 wants TCP from 1,300 bytes on; here what is said to go by UDP
/// goes by UDP, and IP fragments it: the registrar's transport is the trunk's to choose.
pub const MAX_DATAGRAM: usize = 65_000;

/// How a [`Client`] is set up.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The local address of the UDP socket and of connections. `0.0.0.0` reaches IPv4 only, `::` both families.
    pub bind: IpAddr,
    /// The local port of the UDP socket; 0 for any.
    pub udp_port: u16,
    /// How to do TLS; `None` refuses it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The base values of the timers.
    pub timers: Timers,
    /// How long a connection may take to be made, over all addresses of the target, TLS handshake included.
    pub connect_timeout: Duration,
    /// How long looking up a host name may take.
    pub resolve_timeout: Duration,
}

impl Default for ClientOptions {
    /// Any IPv4 address and port, no TLS, the timers of RFC 3261, 5 s to connect, 5 s to look up.
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::UNSPECIFIED.into(),
            udp_port: 0,
            tls: None,
            timers: Timers::default(),
            connect_timeout: Duration::from_secs(5),
            resolve_timeout: Duration::from_secs(5),
        }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Host name or IP address, without brackets. With TLS it is what the certificate must name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// UDP, TCP or TLS.
    pub transport: Transport,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", UriHost(&self.host), self.port, self.transport)
    }
}

/// Sends requests. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    table: Arc<Table>,
    names: Arc<Names>,
    udp: Arc<Udp>,
    connections: Arc<Connections>,
    _stop: DropGuard,
}

impl Client {
    /// Binds the socket and starts the tasks that read it and run the timers. Within a tokio runtime only.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn start(options: ClientOptions) -> Result<Self, ClientError> {
        let names = Names::new(options.resolve_timeout)?;
        Self::start_with(options, names)
    }

    fn start_with(options: ClientOptions, names: Names) -> Result<Self, ClientError> {
        let ClientOptions { bind, udp_port, tls, timers, connect_timeout, resolve_timeout: _ } = options;
        let stop = CancellationToken::new();
        let (table, names) = (Arc::new(Table::new(timers)), Arc::new(names));
        let udp = Arc::new(Udp::bind(SocketAddr::new(bind, udp_port))?);
        let settings = Settings { bind, tls, connect_within: connect_timeout, grace: timers.f() };
        let connections = Connections::new(table.clone(), names.clone(), udp.clone(), settings, stop.clone());
        tokio::spawn({
            let (table, udp, stop) = (table.clone(), udp.clone(), stop.clone());
            async move {
                tokio::select! { () = udp.receive(&table) => (), () = stop.cancelled() => () }
            }
        });
        tokio::spawn({
            let (table, udp, connections, stop) =
                (table.clone(), udp.clone(), connections.clone(), stop.clone());
            async move {
                tokio::select! { () = run_timers(&table, &udp, &connections) => (), () = stop.cancelled() => () }
            }
        });
        let inner = Inner { table, names, udp, connections, _stop: stop.drop_guard() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sends a request and waits for its final response; provisional ones are awaited, never returned. The topmost Via
    /// is added here; Max-Forwards, CSeq and all the rest are the caller's. Returns the peer that answered too.
    ///
    /// It ends after Timer F at the latest, plus, where a name is looked up and a connection made, the time that
    /// [`ClientOptions`] gives to these. Dropping the future forgets the transaction.
    ///
    /// # Errors
    /// When there is no final response: see [`ClientError`].
    pub async fn send(
        &self,
        request: impl Borrow<Request>,
        destination: &Destination,
    ) -> Result<(Response, Peer), ClientError> {
        self.send_maybe_to(request.borrow(), destination, None).await
    }

    /// Sends a request to the peer that answered another one to the same destination: over TCP and TLS on the same
    /// connection while that is open and trusted, else on a new one to the same address.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_to(
        &self,
        request: impl Borrow<Request>,
        destination: &Destination,
        peer: &Peer,
    ) -> Result<(Response, Peer), ClientError> {
        self.send_maybe_to(request.borrow(), destination, Some(peer)).await
    }

    async fn send_maybe_to(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        match to.transport {
            Transport::Udp => self.send_datagram(request, to, peer).await,
            Transport::Tcp => self.send_stream(request, to, peer).await,
            Transport::Tls if self.inner.connections.has_tls() => self.send_stream(request, to, peer).await,
            other => Err(ClientError::UnsupportedTransport(other)),
        }
    }

    async fn send_datagram(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        let Inner { table, udp, .. } = &*self.inner;
        let address = match peer {
            Some(peer) => peer.address(),
            None => self.address(to).await?,
        };
        let branch = table.branch();
        let bytes = with_via(request, to.transport, udp.local_for(address.ip())?, branch)?;
        if bytes.len() > MAX_DATAGRAM {
            let (size, transport) = (bytes.len(), to.transport);
            return Err(ClientError::TooLarge { size, limit: MAX_DATAGRAM, transport });
        }
        let mut ticket = table.open(branch, &request.method, Way::Datagram(address), bytes.clone());
        udp.send(&bytes, address).await?;
        Ok((ticket.outcome().await?, Peer::datagram(address)))
    }

    async fn send_stream(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        let Inner { table, connections, .. } = &*self.inner;
        // A connection can turn out to be closed before anything was written to it: then another is made, once.
        for _ in 0..2 {
            let connection = match peer.and_then(Peer::connection) {
                Some(connection) => connection,
                None => connections.get(to, peer.map(Peer::address)).await?,
            };
            let branch = table.branch();
            let bytes = with_via(request, to.transport, connection.local(), branch)?;
            let mut ticket =
                table.open(branch, &request.method, Way::Stream(connection.clone()), bytes.clone());
            if connection.is_closed() {
                continue;
            }
            tokio::select! {
                biased;
                // The queue of a peer that does not read is full: Timer F still holds.
                outcome = ticket.outcome() => return Ok((outcome?, Peer::stream(&connection))),
                written = connection.write(bytes) => if written.is_err() { continue },
            }
            return Ok((ticket.outcome().await?, Peer::stream(&connection)));
        }
        Err(ClientError::transport(format!("{to} closes every connection at once")))
    }

    /// Our own address as that destination sees it (but for NAT), with the port of the UDP socket whatever the
    /// transport: for Contact, which must stay the same when a connection is made anew.
    ///
    /// # Errors
    /// When the host is unknown, or there is no way to it.
    pub async fn local_address(&self, destination: &Destination) -> Result<SocketAddr, ClientError> {
        let address = self.address(destination).await?;
        self.inner.udp.local_for(address.ip())
    }

    /// How many requests wait for their final response.
    pub fn in_flight(&self) -> usize {
        self.inner.table.len()
    }

    async fn address(&self, to: &Destination) -> Result<SocketAddr, ClientError> {
        let Inner { names, udp, .. } = &*self.inner;
        let addresses = names.addresses(&to.host, to.port, |address| udp.reaches(address)).await?;
        addresses.first().copied().ok_or_else(|| ClientError::resolve(format!("{to} has no address")))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// The request as it travels: with our Via on top (RFC 3261 §18.1.1, RFC 3581).
fn with_via(
    request: &Request,
    transport: Transport,
    local: SocketAddr,
    branch: Branch,
) -> Result<Bytes, ClientError> {
    let via = Via {
        transport: transport.name().to_owned(),
        host: local.ip().to_canonical().to_string(),
        port: Some(local.port()),
        params: vec![("branch".to_owned(), Some(branch.text())), ("rport".to_owned(), None)],
    };
    let bytes = request.to_bytes_below(&via.to_string());
    bytes.map(Bytes::from).map_err(|error| ClientError::build(error, transport))
}

/// Waits for each timer in turn and does what it calls for.
async fn run_timers(table: &Table, udp: &Udp, connections: &Connections) {
    loop {
        match std::future::poll_fn(|context| table.poll_due(context)).await {
            Some(Due::Retransmit(bytes, to)) => udp.send_again(&bytes, to),
            Some(Due::Silent(connection, since)) => connections.suspect(&connection, since),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
