//! A gRPC dependency at all its addresses: those that are connected take turns, or a call names what it keeps
//! to ([`Choice`]).
//!
//! A name is looked up at the first call, then every 10 s while there are calls, and soon after a failure.
//! New addresses are connected to in the background, those that are gone are left, and one that fails rests
//! for a while. While no address is connected, calls wait for the first (RFC 8305: none of them holds the
//! others up).

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
    stream::FuturesUnordered,
};
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Service,
        http::{
            HeaderValue, Request, Response, Uri,
            header::{AUTHORIZATION, USER_AGENT},
            uri::{Authority, Scheme},
        },
    },
};

use zeroize::Zeroizing;

use super::{
    choice::{Choice, Responded, Responder, weight},
    peer::{AfterResponse, At, Connection, Dialing, Peer},
};
use crate::connect::{ConnectError, Resolver};
use routr_net::connect::ATTEMPT_DELAY;
use routr_types::{host::HostPort, secret::Secret};

/// Most addresses of one dependency that are used.
const MAX_PEERS: usize = 32;
/// Greatest age of a name server's response while there are calls.
const LOOK_UP_PERIOD: Duration = Duration::from_secs(10);
/// Pause between two look-ups after failures.
const LOOK_UP_RETRY_PERIOD: Duration = Duration::from_secs(1);
/// Connections that one request is offered to: each may be closed before it is taken.
const MAX_CONNECTIONS_TRIED: usize = 3;
/// User-Agent of the client.
const AGENT: &str = concat!("routr-registry/", env!("CARGO_PKG_VERSION"));

/// Connections to all addresses of a dependency, made when there is a call. Clones share them.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Balance>,
}

/// Source of the addresses.
#[derive(Debug)]
pub(super) enum Source {
    /// They are given.
    Given(Vec<At>),
    /// A name has them.
    Name(HostPort, Resolver),
}

struct Balance {
    source: Source,
    scheme: Scheme,
    authority: Authority,
    /// Sent with each request.
    authorization: Option<HeaderValue>,
    dialing: Arc<Dialing>,
    peers: Mutex<Peers>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Peers {
    all: Vec<Arc<Peer>>,
    looked_up: Option<Instant>,
    /// A look-up under way.
    looking: Option<LookUp>,
}

type LookUp = Shared<BoxFuture<'static, Result<(), ConnectError>>>;

impl Channel {
    pub(super) fn new(
        source: Source,
        scheme: Scheme,
        authority: Authority,
        dialing: Dialing,
        turn: usize,
    ) -> Self {
        let dialing = Arc::new(dialing);
        let all = match &source {
            Source::Given(all) => all.iter().map(|at| Peer::new(at.clone(), &dialing)).collect(),
            Source::Name(..) => Vec::new(),
        };
        dialing.several.store(all.len() > 1, Ordering::Relaxed);
        let peers = Mutex::new(Peers { all, ..Peers::default() });
        let turn = AtomicUsize::new(turn);
        let authorization = None;
        Self { shared: Arc::new(Balance { source, scheme, authority, authorization, dialing, peers, turn }) }
    }

    /// Sends a bearer token with each request.
    ///
    /// # Errors
    /// It has characters that no header field may have.
    pub(super) fn with_token(self, token: &Secret) -> Result<Self, &'static str> {
        let value = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = HeaderValue::from_str(&value).map_err(|_| "the token cannot be sent")?;
        // Neither shown nor kept in the table of a connection (RFC 7541 §7.1.3).
        value.set_sensitive(true);
        let mut shared = self.shared;
        let Some(unused) = Arc::get_mut(&mut shared) else { return Err("the channel is in use") };
        unused.authorization = Some(value);
        Ok(Self { shared })
    }
}

impl Balance {
    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self: Arc<Self>, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        self.address(&mut request)?;
        let choice = request.extensions().get::<Choice>().cloned();
        let responder = request.extensions().get::<Responder>().cloned();
        let mut offers = 0;
        loop {
            let connection = self.connection(choice.as_ref()).await.map_err(unavailable)?;
            offers += 1;
            let mut sender = connection.sender.clone();
            let waiting = connection.wait();
            if let Some(sent) = request.extensions().get::<SentMarker>() {
                sent.set();
            }
            let done = sender.try_send_request(request).await;
            waiting.over();
            match done {
                Ok(response) => {
                    connection.responded.store(true, Ordering::Relaxed);
                    if let Some(responder) = responder {
                        responder.set(Responded { at: connection.at.clone(), all: self.alive() });
                    }
                    return Ok(response.map(Body::new));
                }
                Err(mut error) => match TrySendError::take_message(&mut error) {
                    // It never left.
                    Some(unsent) if offers < MAX_CONNECTIONS_TRIED => request = unsent,
                    _ if connection.responded.load(Ordering::Relaxed) => {
                        return Err(Status::from_error(Box::new(AfterResponse(error.into_error()))));
                    }
                    _ => return Err(Status::from_error(Box::new(error.into_error()))),
                },
            }
        }
    }

    fn address(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| Status::internal(error.to_string()))?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(())
    }

    /// Returns the addresses that are open, or may be soon.
    fn alive(&self) -> Vec<Arc<At>> {
        let peers = self.peers();
        let alive = peers.all.iter().filter(|peer| peer.is_open() || !peer.rests());
        alive.map(|peer| peer.at.clone()).collect()
    }

    /// The connection for the next call.
    async fn connection(self: &Arc<Self>, choice: Option<&Choice>) -> Result<Connection, ConnectError> {
        let peers = self.current().await?;
        if let Some(connection) = Self::preferred(&peers, choice).await {
            return Ok(connection);
        }
        if let Some(connection) = self.next_open(&peers, choice, true) {
            return Ok(connection);
        }
        // Those that rest are asked too: else nothing could be said but that they rest.
        let mut connecting: FuturesUnordered<_> = peers
            .iter()
            .enumerate()
            .map(|(index, peer)| peer.connect().map(move |connected| (index, connected)))
            .collect();
        // All that can be had within a moment take part in the first calls, and one that says nothing does
        // not hold them up.
        let (mut open, mut causes) = (0, Vec::new());
        let moment = Instant::now() + ATTEMPT_DELAY;
        loop {
            tokio::select! {
                biased;
                ended = connecting.next() => match ended {
                    Some((_, Ok(_))) => open += 1,
                    Some((index, Err(error))) => causes.push((index, error)),
                    None => break,
                },
                () = sleep_until(moment), if open > 0 => break,
            }
            if open > 0 && Instant::now() >= moment {
                break;
            }
        }
        if open > 0 {
            // It may have been closed meanwhile.
            let closed = || ConnectError::Transport("the connection was closed at once".into());
            return self.next_open(&peers, choice, false).ok_or_else(closed);
        }
        causes.sort_by_key(|(index, _)| *index);
        Err(self.explain(&peers, causes.into_iter().map(|(_, error)| error).collect()))
    }

    /// The connection to the address that a call keeps to. Where that has none at the moment, because it
    /// ended in order or the address has just been found, it is waited for: else the call would move for
    /// once, and find neither its nonces nor its connection there. `None` where the call keeps to none, where
    /// none is open, and where this one cannot be had within a moment.
    async fn preferred(peers: &[Arc<Peer>], choice: Option<&Choice>) -> Option<Connection> {
        let Some(Choice::Kept(number)) = choice else { return None };
        if peers.len() < 2 || !peers.iter().any(|peer| peer.is_open()) {
            return None;
        }
        let alive = peers.iter().filter(|peer| peer.is_open() || !peer.rests());
        let peer = alive.max_by_key(|peer| weight(*number, &peer.at))?;
        match peer.open() {
            Some(connection) => Some(connection),
            None => timeout(ATTEMPT_DELAY, peer.connect()).await.ok()?.ok(),
        }
    }

    /// One of the open connections, by the choice, else the next; one is being made to each other address,
    /// where `connect`.
    fn next_open(&self, peers: &[Arc<Peer>], choice: Option<&Choice>, connect: bool) -> Option<Connection> {
        let mut open = Vec::with_capacity(peers.len());
        let mut closed = Vec::new();
        for peer in peers {
            match peer.open() {
                Some(connection) => open.push(connection),
                None => closed.push(peer),
            }
        }
        if open.is_empty() {
            return None;
        }
        for peer in closed.into_iter().filter(|peer| connect && !peer.rests()) {
            drop(peer.connect());
        }
        let chosen = match choice {
            Some(Choice::Kept(number)) => {
                let weights = open.iter().map(|connection| weight(*number, &connection.at));
                weights.enumerate().max_by_key(|(_, weight)| *weight).map(|(index, _)| index)
            }
            Some(Choice::Address(at)) => open.iter().position(|connection| connection.at == *at),
            None => None,
        };
        let chosen = chosen.unwrap_or_else(|| self.turn.fetch_add(1, Ordering::Relaxed) % open.len());
        Some(open.swap_remove(chosen))
    }

    fn explain(&self, peers: &[Arc<Peer>], causes: Vec<ConnectError>) -> ConnectError {
        // An address that was given needs no repetition: the caller names it.
        if let ([_], Source::Given(_)) = (peers, &self.source) {
            return causes.into_iter().next().unwrap_or(ConnectError::Transport("no address".into()));
        }
        if let Some(ConnectError::OverLimit(excess)) = causes.first()
            && causes.iter().all(|cause| matches!(cause, ConnectError::OverLimit(_)))
        {
            return ConnectError::OverLimit(*excess);
        }
        let named: Vec<_> = peers.iter().map(|peer| peer.at.clone()).zip(causes).collect();
        ConnectError::at_each(&named)
    }

    /// The addresses as they are known, looked up where they are not.
    async fn current(self: &Arc<Self>) -> Result<Vec<Arc<Peer>>, ConnectError> {
        let Source::Name(host, resolver) = &self.source else { return Ok(self.peers().all.clone()) };
        let (known, looking) = {
            let mut peers = self.peers();
            let doubtful = self.dialing.doubtful.load(Ordering::Relaxed);
            let limit = if doubtful { LOOK_UP_RETRY_PERIOD } else { LOOK_UP_PERIOD };
            let due = peers.looking.is_none() && peers.looked_up.is_none_or(|at| at.elapsed() >= limit);
            let looking = (due || peers.all.is_empty()).then(|| self.look_up(&mut peers, host, resolver));
            (peers.all.clone(), looking)
        };
        match looking {
            None => return Ok(known),
            Some(looking) if known.is_empty() => looking.await?,
            // As a rule it ends at once, and then counts for this call.
            Some(looking) => drop(timeout(ATTEMPT_DELAY, looking).await),
        }
        Ok(self.peers().all.clone())
    }

    /// Joins those who look up, or begins to.
    fn look_up(self: &Arc<Self>, peers: &mut Peers, host: &HostPort, resolver: &Resolver) -> LookUp {
        if let Some(looking) = &peers.looking {
            return looking.clone();
        }
        self.dialing.doubtful.store(false, Ordering::Relaxed);
        let (this, host, resolver) = (self.clone(), host.clone(), resolver.clone());
        let task = tokio::spawn(async move {
            let found = resolver.resolve(&host, &this.dialing.payers).await;
            this.take_over(found)
        });
        let stopped = || ConnectError::Transport("this process is stopping".into());
        let looking = async move { task.await.unwrap_or_else(|_| Err(stopped())) }.boxed().shared();
        peers.looking = Some(looking.clone());
        looking
    }

    /// Uses the addresses that were found. After a failure, those that are known are used further.
    fn take_over(&self, found: Result<Vec<SocketAddr>, ConnectError>) -> Result<(), ConnectError> {
        let mut peers = self.peers();
        (peers.looked_up, peers.looking) = (Some(Instant::now()), None);
        let found = found.inspect_err(|error| tracing::debug!(%error, "no addresses"))?;
        let mut before = std::mem::take(&mut peers.all);
        for address in found.into_iter().take(MAX_PEERS) {
            let at = At::Ip(address);
            let known = before.iter().position(|peer| *peer.at == at);
            let peer = known.map_or_else(|| Peer::new(at, &self.dialing), |index| before.swap_remove(index));
            peers.all.push(peer);
        }
        before.iter().for_each(|peer| peer.retire());
        self.dialing.several.store(peers.all.len() > 1, Ordering::Relaxed);
        Ok(())
    }
}

/// Extension of a request that tells its caller whether a connection took it.
#[derive(Clone, Debug, Default)]
pub(super) struct SentMarker(Arc<AtomicBool>);

impl SentMarker {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Balance {
    fn drop(&mut self) {
        // A connection that is being made would otherwise be kept by its task.
        self.peers().all.iter().for_each(|peer| peer.retire());
    }
}

/// The status of a call that found no connection.
fn unavailable(error: ConnectError) -> Status {
    let mut status = Status::unavailable(error.to_string());
    // The type by which tonic's own channel says so.
    status.set_source(Arc::new(tonic::ConnectError(Box::new(error))));
    status
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.shared.clone().send(request))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("source", &self.shared.source).finish_non_exhaustive()
    }
}
