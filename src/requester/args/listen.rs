//! The addresses that are listened on and sent from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::PORT;

/// Reads `IP:PORT`, or what other programs take for it: `:PORT` for all addresses, `localhost:PORT`, an IP
/// address or a port alone.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if text.is_empty() {
        // A variable that is there and empty says nothing.
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
    }
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let with = |host: &str, port: &str| {
        let host = match host {
            "" | "*" => any,
            _ if host.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
            _ => return None,
        };
        Some(SocketAddr::new(host, port.parse().ok()?))
    };
    let bare = || {
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()
            .map(|ip: IpAddr| SocketAddr::new(ip, PORT))
    };
    let read = text
        .parse()
        .ok()
        .or_else(bare)
        .or_else(|| text.rsplit_once(':').and_then(|(host, port)| with(host, port)));
    read.ok_or_else(|| {
        format!("expected an IP address and a port, such as 127.0.0.1:{PORT} or 0.0.0.0:{PORT}")
    })
}

/// Every local address: of both families, where this machine has IPv6.
pub(super) fn any_address() -> IpAddr {
    let both = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    match std::net::UdpSocket::bind((both, 0)) {
        Ok(_) => both,
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}
