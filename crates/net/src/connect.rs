//! TCP connections: addresses raced as RFC 8305 says, with the options of the socket.

mod race;
mod socket;

use std::{collections::HashSet, io, net::SocketAddr, time::Duration};

pub use self::{
    race::{ATTEMPT_DELAY, race, race_apart},
    socket::{SocketOptions, tcp},
};

/// Longest wait for a connection to one address.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Puts IPv4 and IPv6 in turn, beginning with the family of the first address (RFC 8305 §4), and leaves
/// repetitions out.
pub fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let distinct = addresses.into_iter().filter(|address| seen.insert(*address));
    let (first, second): (Vec<_>, Vec<_>) = distinct.partition(|address| address.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::with_capacity(first.len() + second.len());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

/// The words for an operating system's error, without its number where there are words.
pub fn io_cause(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "connection refused".to_owned(),
        Kind::ConnectionReset => "connection reset by the peer".to_owned(),
        Kind::ConnectionAborted => "connection aborted".to_owned(),
        Kind::BrokenPipe => "the peer closed the connection".to_owned(),
        Kind::TimedOut => "the peer acknowledges nothing".to_owned(),
        Kind::HostUnreachable => "host unreachable".to_owned(),
        Kind::NetworkUnreachable => "network unreachable".to_owned(),
        Kind::UnexpectedEof => "the peer closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

/// Returns the words for an address that does not respond.
pub fn no_connection_within(limit: Duration) -> String {
    format!("no connection within {} s", limit.as_secs_f32())
}
