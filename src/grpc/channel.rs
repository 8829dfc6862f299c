//! A connection to a gRPC neighbour.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Uri};

use super::{GrpcError, innermost};
use crate::{
    config::{Endpoint, files::read},
    ports::Link,
    trunk::HostPort,
};

/// Longest wait for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for this long is gone. HTTP/2 pings are not used: grpc-java takes more than one in
/// five minutes for an attack and hangs up.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for the large answers of an API server.
const WINDOW: u32 = 4 << 20;

/// Between two attempts to reach a neighbour that was lost.
const RETRY: Duration = Duration::from_millis(500);

/// Looks after the connections to one neighbour: tonic makes a lost one again only for the next call, which may be minutes
/// away.
#[derive(Debug)]
pub struct Monitor {
    lost: Arc<Notify>,
    link: Arc<watch::Sender<Link>>,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Begins, for connections that are yet to be opened.
    pub fn start(endpoint: &Endpoint) -> Self {
        let lost = Arc::new(Notify::new());
        let link = Arc::new(watch::Sender::new(Link::default()));
        let (sender, notified, address) = (link.clone(), lost.clone(), endpoint.address.clone());
        let task = tokio::spawn(async move {
            loop {
                notified.notified().await;
                sender.send_modify(|link| link.lost = true);
                while !listens(&address).await {
                    tokio::time::sleep(RETRY).await;
                }
                sender.send_modify(|link| (link.lost, link.reconnections) = (false, link.reconnections + 1));
            }
        });
        Self { lost, link, task }
    }

    /// How the connections fare.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Where what is learnt of the other side is to go.
    pub(super) fn sender(&self) -> Arc<watch::Sender<Link>> {
        self.link.clone()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listens(address: &HostPort) -> bool {
    let connect = TcpStream::connect((&*address.host, address.port));
    matches!(tokio::time::timeout(CONNECT_TIMEOUT, connect).await, Ok(Ok(_)))
}

/// A connection that tells when it is dropped, which is what happens to a lost one.
#[derive(Debug)]
struct Watched {
    stream: TcpStream,
    lost: Option<Arc<Notify>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(lost) = &self.lost {
            lost.notify_one();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A channel that connects at its first call, and again after each loss, of which `monitor` is told.
///
/// # Errors
/// When the address or the CA file is of no use.
pub fn open(endpoint: &Endpoint, monitor: Option<&Monitor>) -> Result<Channel, GrpcError> {
    let scheme = if endpoint.tls { "https" } else { "http" };
    let wrong = |problem: String| GrpcError::Address { address: endpoint.address.to_string(), problem };
    let mut builder = Channel::from_shared(format!("{scheme}://{}", endpoint.address))
        .map_err(|error| wrong(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW);
    if endpoint.tls {
        let mut tls = ClientTlsConfig::new();
        tls = match &endpoint.ca_file {
            None => tls.with_native_roots(),
            Some(path) => {
                let pem = read(path)
                    .map_err(|source| GrpcError::CaFile { path: path.display().to_string(), source })?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
        };
        builder = builder.tls_config(tls).map_err(|error| wrong(innermost(&error)))?;
    }
    let lost = monitor.map(|monitor| monitor.lost.clone());
    let connector = tower::service_fn(move |uri: Uri| {
        let lost = lost.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(Watched { stream: connect(&uri).await?, lost })) }
    });
    Ok(builder.connect_with_connector_lazy(connector))
}

async fn connect(uri: &Uri) -> io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
    // Without it a small request beside a large one waits for Nagle's algorithm.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive =
        TcpKeepalive::new().with_time(PEER_TIMEOUT / 2).with_interval(PEER_TIMEOUT / 4).with_retries(2);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))?;
    Ok(stream)
}
