//! Hosts, ports and transports, as SIP URIs name them.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

/// Transport of a SIP message (RFC 3261 §18, RFC 4168 for SCTP, RFC 7118 for WebSocket).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// SCTP.
    Sctp,
    /// WebSocket.
    Ws,
    /// Secure WebSocket.
    Wss,
}

impl Transport {
    /// Reads the name in upper or lower case, as trunks carry it.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Udp, Self::Tcp, Self::Tls, Self::Sctp, Self::Ws, Self::Wss];
        all.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// The name in upper case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Sctp => "SCTP",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The `transport` URI parameter: the name in lower case.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Sctp => "sctp",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The port that is meant where none is given (RFC 3261 §19.1.2, RFC 7118 §8 for WebSocket).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp | Self::Sctp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// Returns whether the transport is protected by TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A host and port; IPv6 addresses are held without brackets and shown with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Host name in lower case, or an IP address without brackets.
    pub host: Box<str>,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl HostPort {
    /// Pairs a host with a port; brackets around an IPv6 address are dropped.
    pub fn new(host: &str, port: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Self { host: bare.to_ascii_lowercase().into(), port }
    }

    /// The address where the host is one, not a name.
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", UriHost(&self.host), self.port)
    }
}

/// The longest host name, in characters (RFC 1035 §2.3.4, written with dots).
pub const MAX_HOST: usize = 253;

/// Returns whether a text is a host name (in the letters, digits and signs of one; underscores are let
/// through) of [`MAX_HOST`] characters at most, or an IP address, without brackets.
pub fn is_host(text: &str) -> bool {
    let in_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_name = (1..=MAX_HOST).contains(&text.len()) && text.bytes().all(in_name);
    is_name || text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Shows a host as it stands in a URI: an IPv6 address in brackets.
#[derive(Clone, Copy, Debug)]
pub struct UriHost<'a>(pub &'a str);

impl fmt::Display for UriHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}
