//! Connections over TCP and TLS: one for each target, made by the first request and shared by all that follow.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Destination, error::ClientError, resolve::Names, table::Table, udp::Udp};
use crate::{
    sip::message::{Message, StreamParser},
    trunk::Transport,
};

/// Requests that wait for their turn to be written to one connection; further senders wait.
const WRITE_QUEUE: usize = 1024;

/// How long a connection takes requests that was made for one address of its destination: time for the answer to a
/// challenge. Without that, each address that a name ever had could keep one.
const PINNED_FOR: Duration = Duration::from_secs(60);

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    destination: Destination,
    /// This address only, whatever others the name has.
    pinned: Option<SocketAddr>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)
    }
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    target: Target,
    local: SocketAddr,
    remote: SocketAddr,
    outgoing: mpsc::Sender<Bytes>,
    closed: AtomicBool,
    /// Taken out of use: it lives on until what is open on it has had its time.
    retired: CancellationToken,
    opened: Instant,
    /// Milliseconds after `opened` at which something came in last.
    heard_ms: AtomicU64,
}

impl Connection {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether requests may go over it: it is open, and not suspected to be dead.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_closed() && !self.retired.is_cancelled()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Queues bytes for writing. An error means that none of them were sent.
    pub(super) async fn write(&self, bytes: Bytes) -> Result<(), ()> {
        self.outgoing.send(bytes).await.map_err(|_| ())
    }

    fn heard(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(elapsed, Ordering::Relaxed);
    }

    fn silent_since(&self, then: Instant) -> bool {
        self.opened + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed)) < then
    }
}

type Connecting = Shared<BoxFuture<'static, Result<Arc<Connection>, ClientError>>>;

/// What is open or being opened, by target.
pub(super) struct Connections {
    slots: Mutex<HashMap<Target, (u64, Connecting)>>,
    last: AtomicU64,
    table: Arc<Table>,
    names: Arc<Names>,
    udp: Arc<Udp>,
    settings: Settings,
    stop: CancellationToken,
}

/// What connecting needs to know.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) bind: IpAddr,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// For one target with all its addresses, TLS handshake included.
    pub(super) connect_within: Duration,
    /// How long a retired connection lives on: Timer F.
    pub(super) grace: Duration,
}

impl Connections {
    pub(super) fn new(
        table: Arc<Table>,
        names: Arc<Names>,
        udp: Arc<Udp>,
        settings: Settings,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (slots, last) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { slots, last, table, names, udp, settings, stop })
    }

    /// Whether TLS is set up.
    pub(super) fn has_tls(&self) -> bool {
        self.settings.tls.is_some()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Target, (u64, Connecting)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a destination, or to one address of it. Callers that come while it is being made share it, and
    /// its failure too; the next one after a failure tries again.
    pub(super) async fn get(
        self: &Arc<Self>,
        destination: &Destination,
        address: Option<SocketAddr>,
    ) -> Result<Arc<Connection>, ClientError> {
        let mut target = Target { destination: destination.clone(), pinned: None };
        if let Some(address) = address
            && !self.leads_to(&target, address)
        {
            target.pinned = Some(address);
        }
        let connection = self.connect(&target).await?;
        if connection.is_usable() {
            return Ok(connection);
        }
        // It was closed a moment ago, and is not yet taken out.
        self.remove(&target, connection.id);
        self.connect(&target).await
    }

    /// Whether the connection to a target is open, and to that address.
    fn leads_to(&self, target: &Target, address: SocketAddr) -> bool {
        let slots = self.slots();
        let open = slots.get(target).and_then(|(_, connecting)| connecting.peek());
        matches!(open, Some(Ok(connection)) if connection.is_usable() && connection.remote == address)
    }

    /// Joins those who wait for the connection, or begins to make it.
    fn connect(self: &Arc<Self>, target: &Target) -> Connecting {
        let mut slots = self.slots();
        if let Some((_, connecting)) = slots.get(target) {
            return connecting.clone();
        }
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (this, key) = (self.clone(), target.clone());
        // A task of its own: it goes on when the caller that began it gives up.
        let task = tokio::spawn(async move {
            let connected = tokio::select! {
                connected = this.open(id, &key) => connected,
                () = this.stop.cancelled() => Err(ClientError::transport("the SIP client has stopped")),
            };
            if connected.is_err() {
                this.remove(&key, id);
            }
            connected
        });
        let stopped = || Err(ClientError::transport("the SIP client has stopped"));
        let connecting = async move { task.await.unwrap_or_else(|_| stopped()) }.boxed().shared();
        slots.insert(target.clone(), (id, connecting.clone()));
        connecting
    }

    fn remove(&self, target: &Target, id: u64) {
        let mut slots = self.slots();
        if slots.get(target).is_some_and(|(current, _)| *current == id) {
            slots.remove(target);
        }
    }

    /// A transaction that began then got no answer: where nothing else came in since, the connection is taken for dead
    /// and the next request makes another. What is open on it keeps its time.
    pub(super) fn suspect(&self, connection: &Connection, since: Instant) {
        if connection.silent_since(since) && !connection.is_closed() {
            tracing::debug!(to = %connection.target, "nothing comes from this connection: the next request makes another");
            self.retire(connection);
        }
    }

    /// Takes a connection out of use. What is open on it keeps its time.
    fn retire(&self, connection: &Connection) {
        self.remove(&connection.target, connection.id);
        connection.retired.cancel();
    }

    async fn open(self: &Arc<Self>, id: u64, target: &Target) -> Result<Arc<Connection>, ClientError> {
        let Target { destination, pinned } = target;
        let usable = |address| self.udp.reaches(address);
        let addresses = match pinned {
            Some(address) => vec![*address],
            None => self.names.addresses(&destination.host, destination.port, usable).await?,
        };
        let share = self.settings.connect_within / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let mut trouble = Vec::new();
        for address in addresses {
            match timeout(share, self.open_address(id, target, address)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => trouble.push(format!("{address}: {error}")),
                Err(_) => trouble.push(format!("{address}: no connection within {} s", share.as_secs_f32())),
            }
        }
        Err(ClientError::transport(format!("{destination} cannot be reached: {}", trouble.join("; "))))
    }

    async fn open_address(
        self: &Arc<Self>,
        id: u64,
        target: &Target,
        address: SocketAddr,
    ) -> io::Result<Arc<Connection>> {
        let tcp = self.connect_tcp(address).await?;
        let (outgoing, queue) = mpsc::channel(WRITE_QUEUE);
        let connection = Arc::new(Connection {
            id,
            target: target.clone(),
            local: tcp.local_addr()?,
            remote: address,
            outgoing,
            closed: AtomicBool::new(false),
            retired: CancellationToken::new(),
            opened: Instant::now(),
            heard_ms: AtomicU64::new(0),
        });
        let destination = &target.destination;
        match (destination.transport, &self.settings.tls) {
            (Transport::Tls, Some(config)) => {
                let name = ServerName::try_from(destination.host.clone()).map_err(io::Error::other)?;
                let tls = TlsConnector::from(config.clone()).connect(name, tcp).await?;
                tokio::spawn(self.clone().drive(tls, connection.clone(), queue));
            }
            _ => {
                tokio::spawn(self.clone().drive(tcp, connection.clone(), queue));
            }
        }
        Ok(connection)
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if !self.settings.bind.is_unspecified() {
            socket.bind(SocketAddr::new(self.settings.bind, 0))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        // So that a peer that vanished without a word, or a NAT that forgot, is found out between two refreshes.
        let probe =
            TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
        SockRef::from(&stream).set_tcp_keepalive(&probe)?;
        Ok(stream)
    }

    /// Reads and writes until either ends; then fails what is still open.
    async fn drive<S>(self: Arc<Self>, stream: S, connection: Arc<Connection>, queue: mpsc::Receiver<Bytes>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (reader, writer) = tokio::io::split(stream);
        let out_of_use = async {
            let pinned = connection.target.pinned.is_some();
            tokio::select! {
                () = connection.retired.cancelled() => (),
                () = tokio::time::sleep(PINNED_FOR), if pinned => self.retire(&connection),
            }
            tokio::time::sleep(self.settings.grace).await;
        };
        let reason = tokio::select! {
            reason = read(reader, &connection, &self.table) => reason,
            reason = write(writer, queue) => reason,
            () = out_of_use => "it was out of use".to_owned(),
            () = self.stop.cancelled() => "the SIP client has stopped".to_owned(),
        };
        tracing::debug!(to = %connection.target, reason, "a connection is closed");
        // In this order: a request that is opened from here on sees the flag, one before that is failed here.
        connection.closed.store(true, Ordering::SeqCst);
        self.remove(&connection.target, connection.id);
        let text = format!("the connection to {} was lost: {reason}", connection.target);
        self.table.fail_connection(&connection, &ClientError::transport(text));
    }
}

/// Hands responses to their transactions until the stream ends; says why it did.
async fn read(mut reader: impl AsyncRead + Unpin, connection: &Connection, table: &Table) -> String {
    let mut parser = StreamParser::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return "the other side closed it".to_owned(),
            Ok(length) => parser.push(&buffer[..length]),
            Err(error) => return error.to_string(),
        }
        connection.heard();
        loop {
            match parser.next() {
                Ok(Some(Message::Response(response))) => table.on_response(response),
                Ok(Some(Message::Request(request))) => {
                    tracing::debug!(method = request.method, "a request came: there is no server here");
                }
                Ok(None) => break,
                Err(error) if parser.is_broken() => return format!("what came is not SIP ({error})"),
                Err(error) => tracing::debug!(%error, "a message is passed over"),
            }
        }
    }
}

/// Writes what is queued, as much at a time as there is; says why it ended.
async fn write(mut writer: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Bytes>) -> String {
    let (mut batch, mut bytes) = (Vec::new(), Vec::new());
    while queue.recv_many(&mut batch, 64).await > 0 {
        bytes.clear();
        for request in batch.drain(..) {
            bytes.extend_from_slice(&request);
        }
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error.to_string();
        }
    }
    "it is not used any more".to_owned()
}
