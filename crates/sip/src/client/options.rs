//! Settings of a client, and destinations of requests.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use super::{ConnectionBounds, KeepAlive, ResponseOrigin};
use crate::transaction::Timers;
use routr_net::{addresses::AddressPolicy, tls::SipTls};
use routr_types::host::{Transport, UriHost};

/// Settings of a [`Client`](super::Client).
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The local address of the UDP socket and of connections. `0.0.0.0` reaches IPv4 only, `::` both
    /// families.
    pub bind: IpAddr,
    /// The local port of the UDP socket; 0 for any.
    pub udp_port: u16,
    /// Trust in servers over TLS, and the certificate to show to them; `None` refuses TLS.
    pub tls: Option<Arc<SipTls>>,
    /// The base values of the timers.
    pub timers: Timers,
    /// Time limit for making a connection, over all addresses of the target, TLS handshake included.
    pub connect_timeout: Duration,
    /// Time limit for looking up a host name.
    pub resolve_timeout: Duration,
    /// Addresses that requests may go to.
    pub targets: AddressPolicy,
    /// Bounds on the number of connections, and on their idle time.
    pub connections: ConnectionBounds,
    /// Keep-alives on connections; `None` for none.
    pub keep_alive: Option<KeepAlive>,
    /// Addresses that a response over UDP may come from.
    pub responses_from: ResponseOrigin,
    /// Explanation in the log, as the end of a sentence, when a call comes to the address that requests are
    /// sent from.
    pub incoming_note: &'static str,
}

impl Default for ClientOptions {
    /// Any IPv4 address and port, no TLS, the timers of RFC 3261, 5 s to connect, 5 s to look up, no
    /// keep-alives.
    ///
    /// No keep-alives, for RFC 5626 is optional and a registrar may take them for garbage; TCP's own go out
    /// after a minute of silence in any case.
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::UNSPECIFIED.into(),
            udp_port: 0,
            tls: None,
            timers: Timers::default(),
            connect_timeout: Duration::from_secs(5),
            resolve_timeout: Duration::from_secs(5),
            targets: AddressPolicy::default(),
            connections: ConnectionBounds::default(),
            keep_alive: None,
            responses_from: ResponseOrigin::default(),
            incoming_note: "there is no server here",
        }
    }
}

/// Destination of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Host name or IP address, without brackets. With TLS it is what the certificate must name.
    pub host: String,
    /// Port; `None` where the DNS is to name it (RFC 3263 §4), for an IP address the transport's default.
    pub port: Option<u16>,
    /// UDP, TCP or TLS.
    pub transport: Transport,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", UriHost(&self.host))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.transport)
    }
}
