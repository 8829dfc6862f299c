//! The SIP client: sends a request, brings back the final response.
//!
//! One UDP socket, one connection for each TCP or TLS target, one table of open transactions with one timer
//! queue: a request in flight costs an entry there, not a task. Everything ends when the last clone of the
//! [`Client`] is dropped.

mod bounds;
mod connect;
mod connection;
mod error;
mod incoming;
mod keep_alive;
mod origin;
mod peer;
mod pool;
mod reachability;
mod resolve;
mod transactions;
mod udp;

use std::{
    borrow::Borrow,
    collections::hash_map::DefaultHasher,
    fmt,
    hash::{Hash as _, Hasher as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::{
    bounds::ConnectionBounds, error::ClientError, keep_alive::KeepAlive, origin::ResponseOrigin, peer::Peer,
};
use self::{
    incoming::Incoming,
    pool::{Connections, Settings},
    reachability::Reachability,
    resolve::Names,
    transactions::{Branch, Datagram, Due, Failure, Flow, TransactionLayer},
    udp::Udp,
};
use super::{
    message::{Request, Response},
    transaction::Timers,
    via::Via,
};
use routr_net::{addresses::AddressPolicy, connect::race_apart, tls::SipTls};
use routr_types::host::{Transport, UriHost};

/// Most bytes of a request over UDP. RFC 3261 §18.1.1 wants TCP from 1,300 bytes on; here what is said to go
/// by UDP goes by UDP, and IP fragments it: the registrar's transport is the trunk's to choose.
pub const MAX_DATAGRAM: usize = 65_000;

/// Most connections that one request is queued for: the next one each time that the last went before it was
/// written.
const MAX_CONNECTIONS: usize = 2;

/// Time from a datagram to the first look at whether it could be delivered; the next ones are twice as late
/// each.
const FIRST_ERROR_LOOK: Duration = Duration::from_millis(5);

/// Number of T1 that an address may be silent over UDP until the next one is asked too: the request was sent
/// four times then. RFC 3263 §4.3 waits for Timer F, 64 T1, which is longer than callers wait.
const SILENT_T1: u32 = 8;

/// Most addresses that are asked for one request over TCP or TLS, where one after the other answers 503.
const MAX_UNAVAILABLE: usize = 4;

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The local address of the UDP socket and of connections. `0.0.0.0` reaches IPv4 only, `::` both
    /// families.
    pub bind: IpAddr,
    /// The local port of the UDP socket; 0 for any.
    pub udp_port: u16,
    /// Trust in servers over TLS, and the certificate to show to them; `None` refuses TLS.
    pub tls: Option<Arc<SipTls>>,
    /// The base values of the timers.
    pub timers: Timers,
    /// Time limit for making a connection, over all addresses of the target, TLS handshake included.
    pub connect_timeout: Duration,
    /// Time limit for looking up a host name.
    pub resolve_timeout: Duration,
    /// Addresses that requests may go to.
    pub targets: AddressPolicy,
    /// Bounds on the number of connections, and on their idle time.
    pub connections: ConnectionBounds,
    /// Keep-alives on connections; `None` for none.
    pub keep_alive: Option<KeepAlive>,
    /// Addresses that a response over UDP may come from.
    pub responses_from: ResponseOrigin,
    /// Explanation in the log, as the end of a sentence, when a call comes to the address that requests are
    /// sent from.
    pub incoming_note: &'static str,
}

impl Default for ClientOptions {
    /// Any IPv4 address and port, no TLS, the timers of RFC 3261, 5 s to connect, 5 s to look up, no
    /// keep-alives.
    ///
    /// No keep-alives, for RFC 5626 is optional and a registrar may take them for garbage; TCP's own go out
    /// after a minute of silence in any case.
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::UNSPECIFIED.into(),
            udp_port: 0,
            tls: None,
            timers: Timers::default(),
            connect_timeout: Duration::from_secs(5),
            resolve_timeout: Duration::from_secs(5),
            targets: AddressPolicy::default(),
            connections: ConnectionBounds::default(),
            keep_alive: None,
            responses_from: ResponseOrigin::default(),
            incoming_note: "there is no server here",
        }
    }
}

/// Destination of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Host name or IP address, without brackets. With TLS it is what the certificate must name.
    pub host: String,
    /// Port; `None` where the DNS is to name it (RFC 3263 §4), for an IP address the transport's default.
    pub port: Option<u16>,
    /// UDP, TCP or TLS.
    pub transport: Transport,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", UriHost(&self.host))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.transport)
    }
}

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

    async fn send_datagram(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        // All addresses of the registrar: a response may come from another one than that which the request
        // goes to.
        if let Some(peer) = peer {
            return self.send_to_address(request, to, peer.address(), peer.registrar()).await;
        }
        let all = self.ordered(request, to).await?;
        let registrar: Arc<[SocketAddr]> = all.as_slice().into();
        if let [only] = *all {
            return self.send_to_address(request, to, only, &registrar).await;
        }
        let attempt = |address| self.attempt(request, to, address, &registrar);
        race_apart(self.inner.failover, &all, attempt).await.unwrap_or_else(best_of)
    }

    /// Sends to one of several addresses. An error means that the next one is to be tried (RFC 3263 §4.3).
    async fn attempt(
        &self,
        request: &Request,
        to: &Destination,
        address: SocketAddr,
        registrar: &Arc<[SocketAddr]>,
    ) -> Result<Result<(Response, Peer), ClientError>, Refusal> {
        let inner = &*self.inner;
        let transport = to.transport;
        let mut silence = SilenceGuard { inner, address, transport, since: Instant::now(), ended: false };
        let outcome = self.send_to_address(request, to, address, registrar).await;
        silence.ended = true;
        let since = silence.since;
        let failed = |at_least, why: &str| {
            inner.reachability.failed(address, transport, since, at_least, why);
        };
        match outcome {
            Ok((response, peer)) if response.code == 503 => {
                failed(retry_after(&response), "503");
                Err(Refusal::Unavailable(Box::new((response, peer))))
            }
            Ok(responded) => {
                inner.reachability.responded(address, transport);
                Ok(Ok(responded))
            }
            // The request's own fault: no other address takes it.
            Err(error @ (ClientError::TooLarge { .. } | ClientError::Invalid(_))) => Ok(Err(error)),
            Err(error) => {
                failed(Duration::ZERO, &error.to_string());
                Err(Refusal::Failed(error))
            }
        }
    }

    async fn send_to_address(
        &self,
        request: &Request,
        to: &Destination,
        address: SocketAddr,
        registrar: &Arc<[SocketAddr]>,
    ) -> Result<(Response, Peer), ClientError> {
        let Inner { transactions, udp, .. } = &*self.inner;
        let branch = transactions.branch();
        let local = udp.local_for(address.ip())?;
        let bytes = with_via(request, to.transport, local, branch)?;
        if bytes.len() > MAX_DATAGRAM {
            let (size, transport) = (bytes.len(), to.transport);
            return Err(ClientError::TooLarge { size, limit: MAX_DATAGRAM, transport });
        }
        let flow = Flow::Datagram(Datagram { address, local, registrar: registrar.clone() });
        let mut pending = transactions.open(branch, &request.method, flow, bytes.clone());
        udp.send(&bytes, address).await?;
        let mut pause = FIRST_ERROR_LOOK;
        let outcome = loop {
            tokio::select! {
                outcome = pending.outcome() => break outcome,
                // Whether the host or the port is not there: then the next address is tried.
                () = tokio::time::sleep(pause), if registrar.len() > 1 => {
                    udp.take_errors(transactions);
                    pause *= 2;
                }
            }
        };
        match outcome {
            Ok(response) => Ok((response, Peer::datagram(address, registrar.clone()))),
            Err(Failure::Failed(error)) => Err(error),
            Err(Failure::Unsent) => Err(ClientError::transport("not sent")),
        }
    }

    /// As [`Client::send_stream`]; a server that answers 503 is passed over, where there are others (RFC 3263
    /// §4.3).
    async fn send_stream_or_others(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        let (response, answered) = self.send_stream(request, to, peer).await?;
        if response.code != 503 || peer.is_some() {
            return Ok((response, answered));
        }
        let Ok(all) = self.ordered(request, to).await else { return Ok((response, answered)) };
        let reachability = &self.inner.reachability;
        let others = all.iter().filter(|other| **other != answered.address()).take(MAX_UNAVAILABLE - 1);
        let mut asked = false;
        for other in others {
            if !std::mem::replace(&mut asked, true) {
                let pause = retry_after(&response);
                reachability.failed(answered.address(), to.transport, Instant::now(), pause, "503");
                // The next request makes another connection.
                self.inner.connections.leave(to, answered.address());
            }
            match self.send_stream(request, to, Some(&Peer::at(*other))).await {
                Ok((next, from)) if next.code != 503 => return Ok((next, from)),
                Ok((next, from)) => {
                    let pause = retry_after(&next);
                    reachability.failed(from.address(), to.transport, Instant::now(), pause, "503");
                }
                Err(_) => {}
            }
        }
        Ok((response, answered))
    }

    async fn send_stream(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        let Inner { transactions, connections, .. } = &*self.inner;
        let mut end = None;
        for _ in 0..MAX_CONNECTIONS {
            let connection = match peer.and_then(Peer::connection) {
                Some(connection) => connection,
                None => connections.get(to, peer.map(Peer::address), seed(request)).await?,
            };
            let _in_use = connection.start_use();
            let branch = transactions.branch();
            let bytes = with_via(request, to.transport, connection.local(), branch)?;
            let flow = Flow::Stream(connection.clone());
            let mut pending = transactions.open(branch, &request.method, flow, bytes.clone());
            // Only now: a connection that ends from here on fails the transaction.
            let number = pending.number();
            let outcome = tokio::select! {
                biased;
                () = std::future::ready(()), if !connection.is_usable() => Err(Failure::Unsent),
                // The queue of a peer that does not read is full: Timer F holds for those who wait for room,
                // too.
                outcome = pending.outcome() => outcome,
                written = connection.write(number, bytes) => match written {
                    Ok(()) => {
                        pending.keep_watch();
                        pending.outcome().await
                    }
                    Err(()) => Err(Failure::Unsent),
                },
            };
            match outcome {
                Ok(response) => return Ok((response, Peer::stream(&connection))),
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Unsent) => {}
            }
            end = connection.end().cloned();
            if matches!(end, Some(ClientError::Tls(_))) {
                break;
            }
        }
        Err(end.unwrap_or_else(|| ClientError::transport("no connection takes the request")))
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

/// Reason to try another address.
enum Refusal {
    /// 503: overloaded, or down for maintenance.
    Unavailable(Box<(Response, Peer)>),
    Failed(ClientError),
}

/// Result of the failures of all addresses: a response where there is one, else the error that says most.
fn best_of(refusals: Vec<(SocketAddr, Refusal)>) -> Result<(Response, Peer), ClientError> {
    let (mut silent, mut causes) = (None, Vec::new());
    for (address, refusal) in refusals {
        match refusal {
            Refusal::Unavailable(answered) => return Ok(*answered),
            Refusal::Failed(error @ (ClientError::OnlyProvisional(_) | ClientError::Unreadable(_))) => {
                silent = Some(error);
            }
            Refusal::Failed(ClientError::Timeout) => silent = silent.or(Some(ClientError::Timeout)),
            Refusal::Failed(error) if causes.is_empty() => causes.push(error.to_string()),
            // Errors of sockets name the address themselves.
            Refusal::Failed(error) => {
                let text = error.to_string();
                let named = text.contains(&address.ip().to_string());
                causes.push(if named { text } else { format!("{text}, at {address}") });
            }
        }
    }
    Err(silent.unwrap_or_else(|| ClientError::transport(causes.join("; "))))
}

/// Notes, when it is dropped, that an address was silent for so long that another one was asked.
struct SilenceGuard<'a> {
    inner: &'a Inner,
    address: SocketAddr,
    transport: Transport,
    since: Instant,
    ended: bool,
}

impl Drop for SilenceGuard<'_> {
    fn drop(&mut self) {
        if !self.ended && self.since.elapsed() >= self.inner.failover {
            let Self { inner, address, transport, since, .. } = self;
            inner.reachability.failed(*address, *transport, *since, Duration::ZERO, "no response");
        }
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
