//! The one UDP socket that all transactions share.

#[cfg(target_os = "linux")]
mod errors;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::Instant};

use super::{
    error::{ClientError, io_cause},
    incoming::Incoming,
    transactions::TransactionLayer,
};
use crate::message::Message;

/// Bytes of unread messages that the kernel is asked to hold; it may grant less (`net.core.rmem_max`).
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Time that the local address for a destination is remembered, and most destinations.
const MAX_ROUTE_AGE: Duration = Duration::from_secs(30);
const MAX_ROUTES: usize = 4096;

/// Number of times that a datagram is handed to the kernel, where that reports on others and sends nothing.
const SEND_TRIES: u32 = 8;

pub(super) struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    routes: Mutex<HashMap<IpAddr, (IpAddr, Instant)>>,
}

impl Udp {
    pub(super) fn bind(address: SocketAddr) -> Result<Self, ClientError> {
        let bound = || -> io::Result<Self> {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            if address.is_ipv6() {
                socket.set_only_v6(!address.ip().is_unspecified())?;
            }
            socket.set_nonblocking(true)?;
            if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
                tracing::debug!(%error, "the UDP receive buffer stays as it is");
            }
            #[cfg(target_os = "linux")]
            if let Err(error) = errors::enable(&socket, address.is_ipv6()) {
                tracing::debug!(%error, "hosts and ports that are not there are found out by silence only");
            }
            socket.bind(&address.into())?;
            let socket = UdpSocket::from_std(socket.into())?;
            let local = socket.local_addr()?;
            Ok(Self { socket, local, routes: Mutex::default() })
        };
        bound().map_err(|error| ClientError::transport(format!("UDP {address} cannot be bound: {error}")))
    }

    /// Returns whether an address is of a family that the socket can reach.
    pub(super) fn reaches(&self, to: IpAddr) -> bool {
        match self.local.ip() {
            IpAddr::V4(_) => to.is_ipv4(),
            IpAddr::V6(bound) => to.is_ipv6() || bound.is_unspecified(),
        }
    }

    pub(super) async fn send(&self, bytes: &[u8], to: SocketAddr) -> Result<(), ClientError> {
        let mut tries = SEND_TRIES;
        loop {
            match self.socket.send_to(bytes, self.mapped(to)).await {
                Ok(_) => return Ok(()),
                // It may be what became of an earlier datagram, to anyone: the kernel says so at the next
                // call.
                Err(error) if tries > 1 && is_about_a_peer(&error) => tries -= 1,
                Err(error) => return Err(ClientError::transport(format!("{}, at {to}", io_cause(&error)))),
            }
        }
    }

    /// Sends without waiting. What the kernel does not take at once is lost, as any datagram may be.
    pub(super) fn send_again(&self, bytes: &[u8], to: SocketAddr) {
        let mut sent = self.socket.try_send_to(bytes, self.mapped(to));
        if sent.as_ref().is_err_and(is_about_a_peer) {
            sent = self.socket.try_send_to(bytes, self.mapped(to));
        }
        if let Err(error) = sent {
            tracing::debug!(%to, %error, "a datagram was not sent");
        }
    }

    /// An IPv4 destination as an IPv6 socket wants it.
    fn mapped(&self, to: SocketAddr) -> SocketAddr {
        match (self.local, to.ip()) {
            (SocketAddr::V6(_), IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }

    /// Our own address as that destination sees it, but for NAT: the port is this socket's.
    pub(super) fn local_for(&self, to: IpAddr) -> Result<SocketAddr, ClientError> {
        let port = self.local.port();
        if !self.local.ip().is_unspecified() {
            return Ok(self.local);
        }
        let now = Instant::now();
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((address, found)) = routes.get(&to)
            && now.duration_since(*found) < MAX_ROUTE_AGE
        {
            return Ok(SocketAddr::new(*address, port));
        }
        let address = route(to)
            .map_err(|error| ClientError::transport(format!("{}: no route to {to}", io_cause(&error))))?;
        if routes.len() >= MAX_ROUTES {
            routes.clear();
        }
        routes.insert(to, (address, now));
        Ok(SocketAddr::new(address, port))
    }

    /// Fails the transactions whose datagrams cannot be delivered, as far as it is known by now.
    pub(super) fn take_errors(&self, transactions: &TransactionLayer) {
        #[cfg(target_os = "linux")]
        for (address, bytes) in errors::take(&self.socket) {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            transactions.on_unreachable(&bytes, address);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = transactions;
    }

    /// Reads for ever: hands responses to their transactions, and answers requests.
    pub(super) async fn receive(&self, transactions: &TransactionLayer, incoming: &Incoming) {
        let mut buffer = vec![0; 65_536];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, from)) => match Message::parse_datagram(&buffer[..length]) {
                    Ok(Message::Response(response)) => {
                        transactions.on_datagram(response, from);
                    }
                    Ok(Message::Request(request)) => {
                        if let Some(response) = incoming.respond(&request, from) {
                            self.send_again(&response.bytes, response.to);
                        }
                    }
                    // Keep-alives of one or two line ends are not worth a word.
                    Err(_) if length <= 4 => {}
                    Err(error) => {
                        tracing::debug!(%from, %error, "ignored a datagram that cannot be read");
                        transactions.on_unreadable(&buffer[..length], &error, Some(from));
                    }
                },
                // What became of an earlier datagram: see `take_errors`.
                Err(error) if is_about_a_peer(&error) => {}
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    // An error that stays must not keep a core busy.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

/// Returns whether an error says that some peer cannot be reached, rather than that this call is at fault.
fn is_about_a_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::PermissionDenied
    )
}

/// The local address that the kernel would send from: found by connecting a socket, which sends nothing.
fn route(to: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect((to, 5060))?;
    Ok(socket.local_addr()?.ip())
}
