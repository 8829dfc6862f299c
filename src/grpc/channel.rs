//! Makes channels to a gRPC neighbour.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Uri};

use super::{GrpcError, connection::Guard, innermost};
use crate::config::{Endpoint, files::read};

/// Longest wait for a TCP connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for this long is gone. HTTP/2 pings are not used: grpc-java takes more than one in
/// five minutes for an attack and hangs up.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for the large answers of an API server.
const WINDOW: u32 = 4 << 20;

/// A channel that connects at its first call, and again after each loss; `guard` looks after its streams.
///
/// # Errors
/// When the address or the CA file is of no use.
pub fn open(endpoint: &Endpoint, guard: &Guard) -> Result<Channel, GrpcError> {
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
    let guard = guard.clone();
    let connector = tower::service_fn(move |uri: Uri| {
        let guard = guard.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(guard.watch(connect(&uri).await?))) }
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
