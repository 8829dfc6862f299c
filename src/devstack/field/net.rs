//! The sockets of the nodes, and the performance of steps.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    case::{Over, Step},
    dialogue::Way,
    script::{Arrival, Decision, Performance, Script},
    wire::{Wire, WireError},
};

/// Attempts to find a port where several sockets need the same one.
pub(super) const PORT_TRIES: usize = 50;
/// Most requests that are being dealt with at a time.
const MAX_PERFORMANCES: usize = 4096;
/// Most connections of one listener.
const MAX_CONNECTIONS: usize = 1024;
/// Time limit of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most orders that wait for one connection.
const MAX_ORDERS: usize = 64;

/// Tasks that end with the play.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), shutdown }
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Ends all of them, and waits until they are gone.
    pub async fn end(&self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// A socket of a node.
pub(super) enum Socket {
    Udp(UdpSocket),
    Stream(TcpListener, Option<TlsAcceptor>),
    /// Holds a port where no one listens.
    Held(#[allow(dead_code, reason = "held for its port")] socket2::Socket),
}

/// Destination of the messages that steps send.
#[derive(Clone)]
enum Outlet {
    Udp { socket: Arc<UdpSocket>, back: SocketAddr, source: SocketAddr },
    Stream { orders: mpsc::Sender<Order>, peer: SocketAddr },
}

enum Order {
    Write(Vec<u8>),
    Mute,
    Close,
    Reset,
}

impl Outlet {
    async fn send(&self, bytes: &[u8], response: bool) {
        match self {
            // A client that has gone away needs no response.
            Self::Udp { socket, back, source } => {
                let _ = socket.send_to(bytes, if response { back } else { source }).await;
            }
            Self::Stream { .. } => self.order(Order::Write(bytes.to_vec())).await,
        }
    }

    async fn order(&self, order: Order) {
        if let Self::Stream { orders, .. } = self {
            // The connection may be closed by now.
            let _ = orders.send(order).await;
        }
    }

    fn peer(&self) -> SocketAddr {
        match self {
            Self::Udp { back, .. } => *back,
            Self::Stream { peer, .. } => *peer,
        }
    }
}

/// State that the sockets of one node share.
#[derive(Clone)]
pub(super) struct Server {
    pub script: Arc<Script>,
    pub node: usize,
    pub tasks: Tasks,
    places: Arc<Semaphore>,
    connections: Arc<AtomicU64>,
}

impl Server {
    pub fn new(script: Arc<Script>, node: usize, tasks: Tasks) -> Self {
        let (places, connections) = (Arc::new(Semaphore::new(MAX_PERFORMANCES)), Arc::default());
        Self { script, node, tasks, places, connections }
    }

    fn name(&self) -> &str {
        self.script.nodes.get(self.node).map_or("", |node| &node.name)
    }

    /// Serves one socket until the play ends.
    pub fn serve(&self, over: Over, socket: Socket) {
        let server = self.clone();
        match socket {
            Socket::Udp(socket) => self.tasks.spawn(async move { server.datagrams(Arc::new(socket)).await }),
            Socket::Stream(listener, tls) => {
                self.tasks.spawn(async move { server.accept(over, listener, tls).await });
            }
            Socket::Held(socket) => self.tasks.spawn(async move {
                std::future::pending::<()>().await;
                drop(socket);
            }),
        }
    }

    async fn datagrams(&self, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; 65_536];
        loop {
            // An ICMP error about an earlier response: nothing to do with the next request.
            let Ok((length, source)) = socket.recv_from(&mut buffer).await else { continue };
            let datagram = &buffer[..length];
            if datagram.iter().all(|byte| b"\r\n\0".contains(byte)) {
                continue;
            }
            self.shown(Way::In, Over::Udp, source, "", datagram);
            let Ok(wire) = Wire::datagram(datagram) else { continue };
            let back = back(&wire, source);
            let outlet = Outlet::Udp { socket: Arc::clone(&socket), back, source };
            let arrival = Arrival { node: self.node, over: Over::Udp, source, connection: None, wire };
            self.arrived(arrival, outlet);
        }
    }

    async fn accept(&self, over: Over, listener: TcpListener, tls: Option<TlsAcceptor>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            // A failure costs time only.
            let _ = stream.set_nodelay(true);
            let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
            self.script.dialogue.note(&format!("{}/{over} <- {peer} connection {number}", self.name()));
            let (server, tls) = (self.clone(), tls.clone());
            self.tasks.spawn(async move {
                let ended = match tls {
                    None => server.connection(over, stream, |stream| stream, peer, number).await,
                    Some(tls) => match timeout(HANDSHAKE, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            server.connection(over, stream, |stream| stream.get_ref().0, peer, number).await
                        }
                        Ok(Err(error)) => Err(error),
                        Err(_) => Err(io::Error::other("no TLS handshake in time")),
                    },
                };
                let why = ended.err().map_or_else(String::new, |error| format!(": {error}"));
                let name = server.name();
                server
                    .script
                    .dialogue
                    .note(&format!("{name}/{over} -- {peer} connection {number} ended{why}"));
                drop(place);
            });
        }
    }

    /// Serves one connection until either side ends it.
    async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        over: Over,
        mut stream: S,
        tcp: impl Fn(&S) -> &TcpStream,
        peer: SocketAddr,
        number: u64,
    ) -> io::Result<()> {
        let (orders, mut received) = mpsc::channel(MAX_ORDERS);
        let outlet = Outlet::Stream { orders, peer };
        let (mut chunk, mut buffer, mut mute, mut requests) = (vec![0; 16_384], Vec::new(), false, 0);
        loop {
            tokio::select! {
                read = stream.read(&mut chunk) => {
                    let length = read?;
                    if length == 0 {
                        return Ok(());
                    }
                    if mute {
                        self.shown(Way::In, over, peer, "passed over", &chunk[..length]);
                        continue;
                    }
                    buffer.extend_from_slice(&chunk[..length]);
                    while let Some(wire) = Wire::take(&mut buffer).map_err(unframeable)? {
                        self.shown(Way::In, over, peer, "", &wire.bytes());
                        requests += u64::from(wire.request().is_some());
                        let connection = Some((number, requests));
                        let arrival = Arrival { node: self.node, over, source: peer, connection, wire };
                        self.arrived(arrival, outlet.clone());
                    }
                }
                Some(order) = received.recv() => match order {
                    Order::Write(bytes) => {
                        stream.write_all(&bytes).await?;
                        stream.flush().await?;
                    }
                    Order::Mute => mute = true,
                    Order::Close => {
                        // The client may have closed it already.
                        let _ = stream.shutdown().await;
                        return Ok(());
                    }
                    Order::Reset => {
                        socket2::SockRef::from(tcp(&stream)).set_linger(Some(Duration::ZERO))?;
                        return Ok(());
                    }
                },
            }
        }
    }

    fn arrived(&self, arrival: Arrival, outlet: Outlet) {
        if arrival.wire.request().is_none() {
            self.script.response(self.node, arrival.source, &arrival.wire);
            return;
        }
        let over = arrival.over;
        let Some(decision) = self.script.decide(arrival) else { return };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.script.dialogue.note("too many requests at a time: one was passed over");
            return;
        };
        let server = self.clone();
        self.tasks.spawn(async move {
            match decision {
                Decision::Replay(sent) => {
                    for bytes in sent {
                        server.shown(Way::Out, over, outlet.peer(), "again", &bytes);
                        outlet.send(&bytes, true).await;
                    }
                }
                Decision::Perform(performance) => server.perform(&performance, &outlet).await,
            }
            drop(place);
        });
    }

    async fn perform(&self, performance: &Performance, outlet: &Outlet) {
        let (context, over) = (&performance.context, performance.context.over);
        let name = self.name();
        let event =
            |text: &str| self.script.dialogue.note(&format!("{name}/{over} -- {}: {text}", outlet.peer()));
        let mut rest = Vec::new();
        for step in &performance.steps {
            let (bytes, response) = match step {
                Step::Respond(template) => (context.respond(template), true),
                Step::Raw(template) => (context.exact(template), true),
                Step::Half(template) => {
                    let mut bytes = context.respond(template);
                    // Sent whole to one that sends the request again: the transaction is over.
                    rest = bytes.split_off(bytes.len() / 2);
                    (bytes, true)
                }
                Step::Rest => (std::mem::take(&mut rest), true),
                Step::Request(template) => (context.ask(template), false),
                Step::Wait(pause) => {
                    sleep(pause.0).await;
                    continue;
                }
                Step::Silence => {
                    event("silence");
                    continue;
                }
                Step::Mute => {
                    event("passes over what comes from now on");
                    outlet.order(Order::Mute).await;
                    continue;
                }
                Step::Close => {
                    event("closes the connection");
                    outlet.order(Order::Close).await;
                    continue;
                }
                Step::Reset => {
                    event("resets the connection");
                    outlet.order(Order::Reset).await;
                    continue;
                }
            };
            self.shown(Way::Out, over, outlet.peer(), "", &bytes);
            if response {
                self.script.sent(performance, &bytes, !matches!(step, Step::Half(_) | Step::Rest));
            }
            outlet.send(&bytes, response).await;
        }
    }

    fn shown(&self, way: Way, over: Over, peer: SocketAddr, note: &str, bytes: &[u8]) {
        self.script.dialogue.message(way, self.name(), over, peer, note, bytes);
    }
}

fn unframeable(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Returns where the response to a datagram goes: RFC 3261 §18.2.2, RFC 3581 §4.
pub(super) fn back(request: &Wire, source: SocketAddr) -> SocketAddr {
    let via = request.text("Via").unwrap_or_default();
    let top = via.split(',').next().unwrap_or_default();
    if top.to_ascii_lowercase().contains(";rport") {
        return source;
    }
    let sent_by =
        top.split(';').next().unwrap_or_default().split_ascii_whitespace().last().unwrap_or_default();
    let port = super::wire::port(&format!("sip:{sent_by}"));
    SocketAddr::new(source.ip(), port.unwrap_or(5060))
}

/// Binds one socket of a node.
pub(super) async fn bind(
    over: Over,
    address: SocketAddr,
    closed: bool,
    tls: Option<TlsAcceptor>,
) -> io::Result<(Socket, SocketAddr)> {
    if closed {
        let kind = if over == Over::Udp { socket2::Type::DGRAM } else { socket2::Type::STREAM };
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
        socket.bind(&address.into())?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        if over == Over::Udp {
            // Datagrams from any other peer find no socket, so that the system sends ICMP errors.
            socket.connect(&SocketAddr::new(bound.ip(), 9).into())?;
        }
        return Ok((Socket::Held(socket), bound));
    }
    if over == Over::Udp {
        let socket = UdpSocket::bind(address).await?;
        let bound = socket.local_addr()?;
        return Ok((Socket::Udp(socket), bound));
    }
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((Socket::Stream(listener, tls), bound))
}
