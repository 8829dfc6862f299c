//! One address of a gRPC dependency: the connection to it, and how long it rests after failures.

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready},
};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::{
    net::UnixStream,
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tracing::Instrument as _;

use super::{
    guard::Guard,
    recorded_stream::{PeerPreface, RecordedStream, Stream, StreamRecord},
};
use crate::{backoff::Backoff, connect::ConnectError, quota::sockets::Payers};
use routr_net::{
    addresses::AddressPolicy,
    connect::{CONNECT_TIMEOUT, SocketOptions, io_cause, no_connection_within},
    tls::{
        Followed, Noticed,
        cause::{self, Asked},
    },
};

/// A peer that acknowledges nothing for this long is gone. HTTP/2 pings are not used: grpc-java takes more
/// than one in five minutes for an attack and hangs up.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for the large responses of an API server. It is also what a peer can make each of its connections
/// hold that no one reads.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Pauses of an address after failures in a row.
const REST: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
/// Calls in a row without a response after which a connection is taken for hung.
const MAX_UNANSWERED_CALLS: usize = 3;
/// A connection that ends sooner counts as a failure of its address.
const MIN_CONNECTION_LIFETIME: Duration = Duration::from_secs(1);

/// Address that a peer listens on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Settings that all peers of a dependency share.
#[derive(Debug)]
pub(super) struct Dialing {
    /// TLS, and the name that the certificate must have.
    pub(super) tls: Option<(Followed, Box<str>)>,
    /// The addresses that may be connected to.
    pub(super) policy: Arc<AddressPolicy>,
    /// Registries that the sockets count for.
    pub(super) payers: Payers,
    /// Looks after the streams.
    pub(super) guard: Option<Guard>,
    /// There is more than one address.
    pub(super) several: AtomicBool,
    /// The addresses should be looked up again.
    pub(super) doubtful: AtomicBool,
}

/// An open connection. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Body>,
    pub(super) at: Arc<At>,
    peer: Weak<Peer>,
    id: usize,
    since: Instant,
    /// It has brought a response.
    pub(super) responded: Arc<AtomicBool>,
    /// Calls in a row that were given up without a response.
    unanswered: Arc<AtomicUsize>,
}

/// The end of a connection that had brought a response to another call.
#[derive(Debug, thiserror::Error)]
#[error("the connection ended after a response to another call")]
pub(super) struct AfterResponse(#[source] pub(super) hyper::Error);

/// A call under way. Dropped without [`Waiting::over`], it was given up by its caller.
pub(super) struct Waiting<'a> {
    connection: &'a Connection,
    over: bool,
}

impl Connection {
    pub(super) fn wait(&self) -> Waiting<'_> {
        Waiting { connection: self, over: false }
    }
}

impl Waiting<'_> {
    /// There was a response, or an error of the connection, which ends by itself then.
    pub(super) fn over(mut self) {
        self.over = true;
        self.connection.unanswered.store(0, Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over || self.connection.unanswered.fetch_add(1, Ordering::Relaxed) + 1 < MAX_UNANSWERED_CALLS
        {
            return;
        }
        if let Some(peer) = self.connection.peer.upgrade() {
            peer.hangs(self.connection.id);
        }
    }
}

type Connecting = Shared<BoxFuture<'static, Result<Connection, ConnectError>>>;

/// One address.
pub(super) struct Peer {
    pub(super) at: Arc<At>,
    dialing: Arc<Dialing>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    connecting: Option<Connecting>,
    connections: usize,
    failures: u32,
    rests_until: Option<Instant>,
    retired: bool,
}

impl Peer {
    pub(super) fn new(at: At, dialing: &Arc<Dialing>) -> Arc<Self> {
        Arc::new(Self { at: Arc::new(at), dialing: dialing.clone(), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, where it is open.
    pub(super) fn open(&self) -> Option<Connection> {
        self.state().connection.as_ref().filter(|connection| !connection.sender.is_closed()).cloned()
    }

    /// Returns whether the connection is open.
    pub(super) fn is_open(&self) -> bool {
        self.state().connection.as_ref().is_some_and(|connection| !connection.sender.is_closed())
    }

    /// Returns whether it failed, and is left alone for a while.
    pub(super) fn rests(&self) -> bool {
        self.state().rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// Joins those who wait for the connection, or begins to make it, which goes on without a caller.
    pub(super) fn connect(self: &Arc<Self>) -> Connecting {
        let mut state = self.state();
        if let Some(connection) = state.connection.as_ref().filter(|open| !open.sender.is_closed()) {
            return ready(Ok(connection.clone())).boxed().shared();
        }
        if let Some(connecting) = &state.connecting {
            return connecting.clone();
        }
        state.connections += 1;
        let (this, id) = (self.clone(), state.connections);
        let task = tokio::spawn(
            async move {
                let connected = this.dial(id).await;
                this.connected(&connected);
                connected
            }
            .in_current_span(),
        );
        let stopped = || ConnectError::Transport("this process is stopping".into());
        let connecting = async move { task.await.unwrap_or_else(|_| Err(stopped())) }.boxed().shared();
        state.connecting = Some(connecting.clone());
        connecting
    }

    fn connected(&self, connected: &Result<Connection, ConnectError>) {
        let mut state = self.state();
        state.connecting = None;
        match connected {
            Ok(_) if state.retired => {}
            Ok(connection) if !connection.sender.is_closed() => state.connection = Some(connection.clone()),
            // The second ended as soon as it was made.
            Err(_) | Ok(_) => {
                state.rest();
                drop(state);
                self.dialing.doubtful.store(true, Ordering::Relaxed);
                tracing::debug!(at = %self.at, error = ?connected.as_ref().err(), "no connection");
            }
        }
    }

    /// Takes the connection out of use: calls on it are completed.
    pub(super) fn retire(&self) {
        let mut state = self.state();
        state.retired = true;
        state.connection = None;
    }

    /// The connection `id` brings no responses: where there are other addresses, it is taken out of use, and
    /// this one rests. Calls on it keep their time.
    fn hangs(&self, id: usize) {
        if !self.dialing.several.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        if state.connection.take_if(|connection| connection.id == id).is_some() {
            state.rest();
            drop(state);
            tracing::info!(at = %self.at, "no response to {MAX_UNANSWERED_CALLS} calls in a row: the other addresses are used");
        }
    }

    /// The connection `id` has ended by itself. Nothing is done for one that was not in use.
    fn ended(&self, id: usize) {
        let mut state = self.state();
        let Some(connection) = state.connection.take_if(|connection| connection.id == id) else { return };
        if connection.since.elapsed() < MIN_CONNECTION_LIFETIME {
            state.rest();
        } else {
            state.failures = 0;
        }
        self.dialing.doubtful.store(true, Ordering::Relaxed);
    }

    fn guarded(&self, stream: impl Stream + 'static) -> Box<dyn Stream> {
        match &self.dialing.guard {
            Some(guard) => Box::new(guard.watch(stream)),
            None => Box::new(stream),
        }
    }

    async fn dial(self: &Arc<Self>, id: usize) -> Result<Connection, ConnectError> {
        let until = Instant::now() + CONNECT_TIMEOUT;
        let transport = |cause: String| ConnectError::Transport(cause.into());
        let late = |_| transport(no_connection_within(CONNECT_TIMEOUT));
        let socket = self.dialing.payers.socket().map_err(ConnectError::OverLimit)?;
        let stream: Box<dyn Stream> = match &*self.at {
            At::Ip(address) => {
                let options = SocketOptions::within(PEER_TIMEOUT, &self.dialing.policy);
                let tcp =
                    timeout_at(until, routr_net::connect::tcp(*address, &options)).await.map_err(late)?;
                self.guarded(socket.hold(tcp.map_err(|error| transport(io_cause(&error)))?))
            }
            At::Unix(path) => {
                let stream = timeout_at(until, UnixStream::connect(path)).await.map_err(late)?;
                self.guarded(socket.hold(stream.map_err(|error| transport(io_cause(&error)))?))
            }
        };
        let asked = Noticed::default();
        let stream = match &self.dialing.tls {
            None => stream,
            Some((tls, host)) => {
                timeout_at(until, handshake(stream, tls, host, &asked)).await.unwrap_or_else(|_| {
                    let happened =
                        format!("TLS handshake not finished within {} s", CONNECT_TIMEOUT.as_secs());
                    let words = cause::handshake_words(&happened, asked.get(), &cause::Settings::GRPC);
                    Err(ConnectError::Tls(words.into()))
                })?
            }
        };
        let notes = StreamRecord::default();
        let stream = TokioIo::new(RecordedStream::new(stream, &notes));
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_connection_window_size(STREAM_WINDOW_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .handshake(stream)
            .await
            .map_err(|error| transport(error.to_string()))?;
        let (over, ended) = oneshot::channel::<()>();
        let (peer, at) = (Arc::downgrade(self), self.at.clone());
        tokio::spawn(async move {
            let end = connection.await;
            tracing::debug!(%at, error = ?end.err(), "connection closed");
            drop(over);
            if let Some(peer) = Weak::upgrade(&peer) {
                peer.ended(id);
            }
        });
        // A server of HTTP/2 says something at once (RFC 9113 §3.4). What does not is no peer: it may be of
        // another kind, hung, or only now refuse the client's certificate.
        let began = tokio::select! {
            biased;
            () = notes.heard() => notes.began(),
            _ = ended => notes.began(),
            () = tokio::time::sleep_until(until) => PeerPreface::Not,
        };
        if began != PeerPreface::Http2 {
            return Err(self.no_beginning(&notes, &asked, Instant::now() >= until));
        }
        Ok(Connection {
            sender,
            at: self.at.clone(),
            peer: Arc::downgrade(self),
            id,
            since: Instant::now(),
            responded: Arc::default(),
            unanswered: Arc::default(),
        })
    }

    /// Returns why a peer that took the connection did not begin as HTTP/2 does.
    fn no_beginning(&self, notes: &StreamRecord, asked: &Noticed, late: bool) -> ConnectError {
        if let Some(words) = notes.first_words() {
            return ConnectError::Tls(words.into());
        }
        let happened = match notes.take_error() {
            _ if late => {
                format!("connected, but the peer sent nothing within {} s", CONNECT_TIMEOUT.as_secs())
            }
            Some(error) => {
                let host = self.dialing.tls.as_ref().map_or("", |(_, host)| host);
                if let Some(words) = cause::of(&error, asked.get(), host, &cause::Settings::GRPC) {
                    return ConnectError::Tls(words.into());
                }
                io_cause(&error)
            }
            None => "the peer closed the connection".to_owned(),
        };
        match (&self.dialing.tls, asked.get()) {
            (Some(_), Asked::None | Asked::Shown) => ConnectError::Tls(
                cause::handshake_words(&happened, asked.get(), &cause::Settings::GRPC).into(),
            ),
            (Some(_), Asked::Nothing) => ConnectError::Transport(happened.into()),
            (None, _) if late => ConnectError::Transport(happened.into()),
            (None, _) => ConnectError::Transport(
                format!("{happened} before it sent any HTTP/2; does it require TLS (https://)?").into(),
            ),
        }
    }
}

impl State {
    fn rest(&mut self) {
        let rest = REST.pause(self.failures, 0);
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(Instant::now() + rest);
    }
}

async fn handshake(
    stream: Box<dyn Stream>,
    tls: &Followed,
    host: &str,
    asked: &Noticed,
) -> Result<Box<dyn Stream>, ConnectError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        ConnectError::Tls(format!("no certificate can match {host}: it is not a DNS name").into())
    })?;
    let config = asked.watch(&tls.config());
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        let happened = format!("TLS handshake ended: {}", io_cause(&error));
        let words = cause::of(&error, asked.get(), host, &cause::Settings::GRPC);
        let words =
            words.unwrap_or_else(|| cause::handshake_words(&happened, asked.get(), &cause::Settings::GRPC));
        ConnectError::Tls(words.into())
    })?;
    // RFC 9113 §3.2: over TLS, HTTP/2 is agreed on by ALPN.
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        let words = "the peer does not offer HTTP/2 in its TLS handshake (ALPN), which gRPC needs";
        return Err(ConnectError::Tls(words.into()));
    }
    Ok(Box::new(stream))
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.at).finish()
    }
}
