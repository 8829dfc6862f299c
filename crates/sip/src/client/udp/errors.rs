//! ICMP errors: the host or port that a datagram went to is not there. The kernel keeps them in the error
//! queue
//! of the socket, each with the address and the beginning of the datagram (ip(7), `IP_RECVERR`).

use std::{
    io::IoSliceMut,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
};

use nix::sys::socket::{
    MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4RecvErr, Ipv6RecvErr},
};
use socket2::Socket;
use tokio::net::UdpSocket;

/// Bytes of a datagram that are looked at: our Via is the first of its header fields.
const MAX_BYTES: usize = 2048;
/// Most errors that are taken at once.
const MAX_ERRORS: usize = 1024;

/// Has the kernel keep errors.
pub(super) fn enable(socket: &Socket, is_v6: bool) -> nix::Result<()> {
    // A socket of both families gets those of IPv4 by the options of IPv4.
    setsockopt(socket, Ipv4RecvErr, &true)?;
    if is_v6 {
        setsockopt(socket, Ipv6RecvErr, &true)?;
    }
    Ok(())
}

/// Takes what the error queue has: where each datagram went, and its beginning.
pub(super) fn take(socket: &UdpSocket) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    let mut buffer = [0; MAX_BYTES];
    for _ in 0..MAX_ERRORS {
        match receive(socket, &mut buffer) {
            Ok(Some((address, length))) => all.push((address, buffer[..length].to_vec())),
            Ok(None) => {}
            Err(_) => break,
        }
    }
    all
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> nix::Result<Option<(SocketAddr, usize)>> {
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, None, flags)?;
    let address = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(SocketAddrV4::from(*v4)));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(SocketAddrV6::from(*v6))))
    });
    Ok(address.map(|address| (address, message.bytes)))
}
