//! One TCP connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use crate::addresses::AddressPolicy;

/// Options of a socket. Nagle's algorithm is always off: a small request would wait for it beside a large
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// The local address; `None` for any.
    pub bind: Option<IpAddr>,
    /// Silence after which TCP asks whether the peer is there.
    pub keepalive_time: Duration,
    /// Interval between two such probes.
    pub keepalive_interval: Duration,
    /// Number of probes without a response after which the connection counts as broken; `None` for the
    /// system's number.
    pub keepalive_retries: Option<u32>,
    /// A peer that acknowledges nothing for this long is gone (Linux only).
    pub user_timeout: Duration,
    /// The addresses that may be connected to.
    pub policy: Arc<AddressPolicy>,
}

impl SocketOptions {
    /// Options for a dependency whose loss must be detected within `timeout`, at an address that `policy`
    /// allows.
    pub fn within(timeout: Duration, policy: &Arc<AddressPolicy>) -> Self {
        Self {
            bind: None,
            keepalive_time: timeout / 2,
            keepalive_interval: timeout / 4,
            keepalive_retries: Some(2),
            user_timeout: timeout,
            policy: policy.clone(),
        }
    }
}

/// Connects to one address.
///
/// # Errors
/// The operating system's, or `PermissionDenied` with the rule that denies the address.
pub async fn tcp(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
    let denied = |denied| io::Error::new(io::ErrorKind::PermissionDenied, denied);
    options.policy.check(address).map_err(denied)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = options.bind {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let mut keepalive =
        TcpKeepalive::new().with_time(options.keepalive_time).with_interval(options.keepalive_interval);
    if let Some(retries) = options.keepalive_retries {
        keepalive = keepalive.with_retries(retries);
    }
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    Ok(stream)
}
