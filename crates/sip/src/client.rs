//! The SIP client: sends a request, brings back the final response.
//!
//! One UDP socket, one connection for each TCP or TLS target, one table of open transactions with one timer
//! queue: a request in flight costs an entry there, not a task. Everything ends when the last clone of the
//! [`Client`] is dropped.

mod bounds;
mod connect;
mod connection;
mod datagrams;
mod error;
mod incoming;
mod keep_alive;
mod options;
mod origin;
mod peer;
mod pool;
mod reachability;
mod resolve;
mod streams;
mod transactions;
mod udp;

use std::{
    borrow::Borrow,
    collections::hash_map::DefaultHasher,
    fmt,
    hash::{Hash as _, Hasher as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::{
    bounds::ConnectionBounds,
    error::ClientError,
    keep_alive::KeepAlive,
    options::{ClientOptions, Destination},
    origin::ResponseOrigin,
    peer::Peer,
};
use self::{
    incoming::Incoming,
    pool::{Connections, Settings},
    reachability::Reachability,
    resolve::Names,
    transactions::{Branch, Due, TransactionLayer},
    udp::Udp,
};
use super::{
    message::{Request, Response},
    via::Via,
};
use routr_types::host::Transport;

/// Most bytes of a request over UDP. RFC 3261 §18.1.1 wants TCP from 1,300 bytes on; here what is said to go
/// by UDP goes by UDP, and IP fragments it: the registrar's transport is the trunk's to choose.
pub const MAX_DATAGRAM: usize = 65_000;

/// Number of T1 that an address may be silent over UDP until the next one is asked too: the request was sent
/// four times then. RFC 3263 §4.3 waits for Timer F, 64 T1, which is longer than callers wait.
const SILENT_T1: u32 = 8;

/// Sends requests. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transactions: Arc<TransactionLayer>,
    names: Arc<Names>,
    udp: Arc<Udp>,
    connections: Arc<Connections>,
    reachability: Arc<Reachability>,
    /// Time that an address may be silent until the next one is asked too.
    failover: Duration,
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

    /// Starts with a hosts file of this text in place of the system's, and without name servers.
    #[cfg(any(test, feature = "testing"))]
    pub fn start_with_hosts(options: ClientOptions, hosts: &str) -> Result<Self, ClientError> {
        Self::start_with(options, Names::with_hosts(hosts)?)
    }

    fn start_with(options: ClientOptions, names: Names) -> Result<Self, ClientError> {
        let stop = CancellationToken::new();
        let names = names.restricted(options.targets, options.connections.look_ups);
        let transactions = Arc::new(TransactionLayer::new(options.timers, options.responses_from));
        let (names, incoming) = (Arc::new(names), Arc::new(Incoming::new(options.incoming_note)));
        let udp = Arc::new(Udp::bind(SocketAddr::new(options.bind, options.udp_port))?);
        let settings = Settings {
            bind: options.bind,
            tls: options.tls,
            connect_within: options.connect_timeout,
            grace: options.timers.f(),
            keep_alive: options.keep_alive,
            bounds: options.connections,
            stop: stop.clone(),
        };
        let reachability = Arc::<Reachability>::default();
        let failover = options.timers.t1 * SILENT_T1;
        let connections = Connections::new(
            transactions.clone(),
            incoming.clone(),
            (names.clone(), reachability.clone()),
            udp.clone(),
            settings,
        );
        tokio::spawn({
            let (transactions, udp, stop) = (transactions.clone(), udp.clone(), stop.clone());
            async move {
                tokio::select! {
                    () = udp.receive(&transactions, &incoming) => (),
                    () = stop.cancelled() => (),
                }
            }
        });
        tokio::spawn({
            let (transactions, udp, connections, stop) =
                (transactions.clone(), udp.clone(), connections.clone(), stop.clone());
            async move {
                tokio::select! {
                    () = run_timers(&transactions, &udp, &connections) => (),
                    () = stop.cancelled() => (),
                }
            }
        });
        let inner =
            Inner { transactions, names, udp, connections, reachability, failover, _stop: stop.drop_guard() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sends a request and waits for its final response; provisional ones are awaited, never returned. The
    /// topmost Via is added here; Max-Forwards, CSeq and all the rest are the caller's. Returns the peer that
    /// responded, too.
    ///
    /// It ends after Timer F at the latest, plus, where a name is looked up and a connection made, the time
    /// that [`ClientOptions`] gives to these; again so where a connection is taken for dead before the
    /// request was written to it. Dropping the future gives up the response, and nothing else: a connection
    /// that stays silent until Timer F is found out all the same.
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

    /// Sends a request to the peer that responded to another one to the same destination: over TCP and TLS on
    /// the same connection while that is open and trusted, else on a new one to the same address.
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
            Transport::Tcp => self.send_stream_or_others(request, to, peer).await,
            Transport::Tls if self.inner.connections.has_tls() => {
                self.send_stream_or_others(request, to, peer).await
            }
            other => Err(ClientError::UnsupportedTransport(other)),
        }
    }

    /// Our own address as that destination sees it (but for NAT), with the port of the UDP socket whatever
    /// the transport: for Contact, which must stay the same when a connection is made again.
    ///
    /// # Errors
    /// When the host is unknown, or there is no route to it.
    pub async fn local_address(&self, destination: &Destination) -> Result<SocketAddr, ClientError> {
        let address = self.address(destination).await?;
        self.inner.udp.local_for(address.ip())
    }

    /// Returns how many responses over UDP were dropped because they came from elsewhere than the registrar,
    /// or were meant for another sender.
    pub fn dropped_responses(&self) -> u64 {
        self.inner.transactions.dropped()
    }

    /// Returns how many requests wait for their final response.
    pub fn in_flight(&self) -> usize {
        self.inner.transactions.len()
    }

    async fn address(&self, to: &Destination) -> Result<SocketAddr, ClientError> {
        let Inner { names, udp, .. } = &*self.inner;
        let all = names.locate(to, 0, |address| udp.reaches(address)).await?;
        all.first().map(|one| one.address).ok_or_else(|| ClientError::resolve("no address"))
    }

    /// The addresses of a destination in the order to try them; at least one.
    async fn ordered(&self, request: &Request, to: &Destination) -> Result<Vec<SocketAddr>, ClientError> {
        let Inner { names, udp, reachability, .. } = &*self.inner;
        let all = names.locate(to, seed(request), |address| udp.reaches(address)).await?;
        Ok(reachability.order(all, to.transport, None))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// Retry-After in seconds; none where there is none.
fn retry_after(response: &Response) -> Duration {
    let value = response.headers.get("Retry-After").unwrap_or_default();
    let digits = value.trim_start().bytes().take_while(u8::is_ascii_digit).count();
    Duration::from_secs(value.trim_start()[..digits].parse().unwrap_or(0))
}

/// The same for all requests of a registration: it stays with one of several servers, which knows its nonce.
fn seed(request: &Request) -> u64 {
    let mut hash = DefaultHasher::new();
    request.headers.get("Call-ID").hash(&mut hash);
    hash.finish()
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
async fn run_timers(transactions: &TransactionLayer, udp: &Udp, connections: &Connections) {
    loop {
        match std::future::poll_fn(|context| transactions.poll_due(context)).await {
            Some(Due::Retransmit(bytes, to)) => udp.send_again(&bytes, to),
            Some(Due::TimedOut(connection)) => connections.on_timeout(&connection),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
