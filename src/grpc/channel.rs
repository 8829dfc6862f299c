//! A connection to a gRPC neighbour.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Uri};

use super::GrpcError;
use crate::config::Endpoint;

/// Longest wait for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for this long is gone. HTTP/2 pings are not used: grpc-java takes more than one in
/// five minutes for an attack and hangs up.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for the large answers of an API server.
const WINDOW: u32 = 4 << 20;

/// How often a connection was made again.
#[derive(Clone, Debug, Default)]
pub struct Reconnections(Arc<AtomicU64>);

impl Reconnections {
    /// So far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A channel that connects at its first call, and again after each loss, which `reconnections` counts.
///
/// # Errors
/// When the address or the CA file is of no use.
pub fn open(endpoint: &Endpoint, reconnections: &Reconnections) -> Result<Channel, GrpcError> {
    let scheme = if endpoint.tls { "https" } else { "http" };
    let address = format!("{scheme}://{}", endpoint.address);
    let wrong = |source| GrpcError::Address { address: endpoint.address.to_string(), source };
    let mut builder = Channel::from_shared(address.clone())
        .map_err(|_| GrpcError::CaFile { path: address, source: io::ErrorKind::InvalidInput.into() })?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW);
    if endpoint.tls {
        let mut tls = ClientTlsConfig::new();
        tls = match &endpoint.ca_file {
            None => tls.with_native_roots(),
            Some(path) => {
                let pem = std::fs::read(path)
                    .map_err(|source| GrpcError::CaFile { path: path.display().to_string(), source })?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
        };
        builder = builder.tls_config(tls).map_err(wrong)?;
    }
    let (made, counter) = (Arc::new(AtomicU64::new(0)), reconnections.clone());
    let connector = tower::service_fn(move |uri: Uri| {
        let (made, counter) = (made.clone(), counter.clone());
        async move {
            let stream = connect(&uri).await?;
            if made.fetch_add(1, Ordering::Relaxed) > 0 {
                counter.0.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
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
