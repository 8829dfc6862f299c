//! Trunks as the registry sees them: where to register, as whom, with what. No protobuf here.
//!
//! A [`Trunk`] is parsed, not validated: what could not be used is already gone or reported as a
//! [`TrunkProblem`].

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{secret::Secret, sip::digest::DigestMinimum};

/// How a SIP message travels (RFC 3261 §18, RFC 4168 for SCTP, RFC 7118 for WebSocket).
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

/// The digest credentials of a trunk; the username may differ from the user of the address of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Digest username.
    pub username: Box<str>,
    /// Digest password.
    pub password: Secret,
}

/// One place where a trunk can register. `user`@`host` is its address of record there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkUri {
    /// User part of the address of record.
    pub user: Box<str>,
    /// The registrar: host (also the registrar domain) and port, with the transport's default filled in.
    pub registrar: HostPort,
    /// How to reach it.
    pub transport: Transport,
    /// Lower first (RFC 2782).
    pub priority: i32,
    /// Share of the load among equal priorities (RFC 2782), 0 to 65535.
    pub weight: u16,
}

/// One trunk with `sendRegister`, as parsed: at least one usable URI, in the order in which the API server
/// gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// The API server's identifier of the trunk; never empty.
    pub reference: Box<str>,
    /// Friendly name, possibly empty.
    pub name: Box<str>,
    /// Where the trunk prefers its EdgePort to be (`extended.region`).
    pub region: Option<Box<str>>,
    /// Enabled, usable URIs; never empty.
    pub uris: Vec<TrunkUri>,
    /// Digest credentials, where the trunk has them.
    pub credentials: Option<Credentials>,
    /// What a digest challenge has to offer at least (`extended.digest`).
    pub digest: DigestMinimum,
    /// What was wrong with the URIs that were left out, in plain words.
    pub problem: Option<Box<str>>,
    /// When the API server says that it was changed last, in seconds since the Unix epoch; 0 where it does
    /// not say. It does not move with every change.
    pub updated_at_s: u32,
}

impl Trunk {
    /// Bytes of all its texts, and a few for each URI.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let credentials = self.credentials.as_ref();
        let credentials = credentials.map_or(0, |one| one.username.len() + one.password.expose().len());
        let optional = [&self.region, &self.problem].into_iter().flatten().map(|text| text.len());
        let uris = self.uris.iter().map(|uri| uri.user.len() + uri.registrar.host.len() + 8);
        self.reference.len() + self.name.len() + credentials + optional.sum::<usize>() + uris.sum::<usize>()
    }
}

/// Why a trunk as a whole cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrunkProblem {
    /// The trunk has no URI at all, or none that is usable; `message` names the field at fault, its value and
    /// what would be right. An earlier registration of it is kept.
    #[error("{message}")]
    Malformed {
        /// Plain words.
        message: Box<str>,
    },
    /// Every URI has `enabled: false`: nothing is wrong, but an earlier registration must end.
    #[error("uris: all are disabled; set enabled: true on one of them")]
    AllDisabled,
}
