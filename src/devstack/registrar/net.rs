//! The sockets of a registrar: one task for each UDP socket, each TCP listener and each connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket, tcp::OwnedWriteHalf},
    sync::{Mutex, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{Shared, answer::Delivery};
use routr_sip::{
    message::{Message, Request, Response, StreamParser},
    via::Via,
};
use routr_types::host::Transport;

/// Most connections that one listener serves at a time.
const MAX_CONNECTIONS: usize = 4096;
/// Bytes that the kernel may hold for a UDP socket: bursts of REGISTERs arrive faster than the responses
/// leave.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// State that the tasks of one run share.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

/// Binds a UDP socket with a large receive buffer.
pub(super) fn bind_udp(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        debug!(%error, "the receive buffer keeps its size");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Responds to datagrams.
pub(super) async fn serve_udp(run: Run, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, source) = tokio::select! {
            () = run.shutdown.cancelled() => return,
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An ICMP message about an earlier response: nothing to do with the next request.
                Err(error) => {
                    debug!(%error, "a datagram could not be received");
                    continue;
                }
            },
        };
        // Keep-alives (RFC 5626 §3.5.1, RFC 3261 §7.5) are no messages.
        let datagram = &buffer[..length];
        if datagram.iter().all(|byte| b"\r\n\0".contains(byte)) {
            continue;
        }
        let Ok(Message::Request(request)) = Message::parse_datagram(datagram) else {
            run.shared.malformed();
            continue;
        };
        let to = reply_address(&request, source);
        let delivery = run.shared.answer(&request, Transport::Udp, source);
        let Delivery::Send { provisional, after, response } = delivery else { continue };
        if let Some(bytes) = provisional.and_then(|response| on_the_wire(&request, response, source)) {
            send_udp(&socket, &bytes, to).await;
        }
        let Some(bytes) = on_the_wire(&request, *response, source) else { continue };
        if after.is_zero() {
            send_udp(&socket, &bytes, to).await;
        } else {
            let socket = Arc::clone(&socket);
            later(&run, &request, after, async move { send_udp(&socket, &bytes, to).await });
        }
    }
}

async fn send_udp(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, to).await {
        debug!(%error, %to, "an answer could not be sent");
    }
}

/// Returns the address that the response to a datagram goes to: RFC 3261 §18.2.2, RFC 3581 §4.
fn reply_address(request: &Request, source: SocketAddr) -> SocketAddr {
    match request.headers.via() {
        Some(via) if via.param("rport").is_none() => SocketAddr::new(source.ip(), via.port.unwrap_or(5060)),
        _ => source,
    }
}

/// Accepts connections.
pub(super) async fn serve_tcp(run: Run, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = run.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            warn!(%source, "a connection too many was closed");
            continue;
        };
        let connection = serve_connection(run.clone(), stream, source);
        run.tasks.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

async fn serve_connection(run: Run, stream: TcpStream, source: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set");
    }
    let (mut reader, writer) = stream.into_split();
    let writer = Arc::new(Mutex::new(writer));
    let mut parser = StreamParser::new();
    let mut buffer = vec![0; 16_384];
    loop {
        let length = tokio::select! {
            () = run.shutdown.cancelled() => return,
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            },
        };
        parser.push(&buffer[..length]);
        loop {
            match parser.next() {
                Ok(Some(Message::Request(request))) => {
                    if !answer_tcp(&run, &writer, &request, source).await {
                        return;
                    }
                }
                Ok(Some(Message::Response(_))) => run.shared.malformed(),
                Ok(None) => break,
                Err(error) => {
                    // The messages that follow cannot be separated any more.
                    debug!(%error, %source, "a connection carries no SIP");
                    run.shared.malformed();
                    return;
                }
            }
        }
    }
}

/// Responds to one request; `false` closes the connection.
async fn answer_tcp(
    run: &Run,
    writer: &Arc<Mutex<OwnedWriteHalf>>,
    request: &Request,
    source: SocketAddr,
) -> bool {
    let (provisional, after, response) = match run.shared.answer(request, Transport::Tcp, source) {
        Delivery::Nothing => return true,
        Delivery::Disconnect => return false,
        Delivery::Send { provisional, after, response } => (provisional, after, response),
    };
    if let Some(bytes) = provisional.and_then(|response| on_the_wire(request, response, source)) {
        send_tcp(writer, &bytes).await;
    }
    let Some(bytes) = on_the_wire(request, *response, source) else { return true };
    if after.is_zero() {
        send_tcp(writer, &bytes).await;
    } else {
        let writer = Arc::clone(writer);
        later(run, request, after, async move { send_tcp(&writer, &bytes).await });
    }
    true
}

async fn send_tcp(writer: &Mutex<OwnedWriteHalf>, bytes: &[u8]) {
    if let Err(error) = writer.lock().await.write_all(bytes).await {
        debug!(%error, "an answer could not be sent");
    }
}

/// Sends a response after a while, and counts its Call-ID as in flight until then.
fn later(run: &Run, request: &Request, after: Duration, send: impl Future<Output = ()> + Send + 'static) {
    let call_id = request.headers.call_id().unwrap_or_default().to_owned();
    let cseq = request.headers.cseq().map_or(0, |(number, _)| number);
    run.shared.waits(&call_id, cseq);
    let Run { shared, shutdown, .. } = run.clone();
    run.tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(after) => send.await,
        }
        shared.answered(&call_id, cseq);
    });
}

/// The bytes of a response, with `received` and `rport` in its top Via (RFC 3261 §18.2.1, RFC 3581 §4).
fn on_the_wire(request: &Request, mut response: Response, source: SocketAddr) -> Option<Vec<u8>> {
    let mut vias = request.headers.list("Via").map(str::to_owned);
    if let Some(mut via) = vias.next().and_then(|top| Via::parse(&top).ok()) {
        let rport = via.param("rport").is_some();
        if rport || via.host != source.ip().to_string() {
            via.params
                .retain(|(name, _)| !["rport", "received"].contains(&name.to_ascii_lowercase().as_str()));
            via.params.push(("received".to_owned(), Some(source.ip().to_string())));
        }
        if rport {
            via.params.push(("rport".to_owned(), Some(source.port().to_string())));
        }
        let vias: Vec<String> = std::iter::once(via.to_string()).chain(vias).collect();
        if let Err(error) = response.headers.set("Via", vias.join(", ")) {
            warn!(%error, "Via could not be completed");
        }
    }
    response.to_bytes().map_err(|error| warn!(%error, "an answer could not be written")).ok()
}
