//! Trunks as the registry sees them: where to register, as whom, with what. No protobuf here.
//!
//! A [`Trunk`] is parsed, not validated: what could not be used is already gone or reported as a
//! [`TrunkProblem`].

use routr_types::{
    digest_minimum::DigestMinimum,
    host::{HostPort, Transport},
    secret::Secret,
};
use serde::{Deserialize, Serialize};

/// Most URIs of a trunk: further ones are left out, and reported.
pub const MAX_URIS: usize = 32;

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
    /// The port is the trunk's own word; otherwise the DNS may name others (RFC 3263 §4.2).
    pub names_port: bool,
    /// Transport to the registrar.
    pub transport: Transport,
    /// Lower first (RFC 2782).
    pub priority: i32,
    /// Share of the load among equal priorities (RFC 2782), 0 to 65535.
    pub weight: u16,
}

/// Scheme of the URIs in To, From, Contact and the Request-URI over TLS; over other transports it is `sip:`.
/// Either way the connection is TLS, and the certificate is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsUriScheme {
    /// `sips:`, which asks for TLS at each hop (RFC 3261 §26.2.2).
    #[default]
    Sips,
    /// `sip:`, for registrars that respond to `sips:` with 416.
    Sip,
}

/// Host that a trunk's requests go to in place of the registrar (RFC 3261 §8.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundProxy {
    /// Host name or IP address.
    pub host: Box<str>,
    /// Port; `None` for the transport's default, or those that the DNS names (RFC 3263 §4.2).
    pub port: Option<u16>,
    /// Transport to it; `None` for that of the URI.
    pub transport: Option<Transport>,
}

/// One trunk with `sendRegister`, as parsed: at least one usable URI, in the order in which the API server
/// gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// The API server's identifier of the trunk; never empty.
    pub reference: Box<str>,
    /// Friendly name, possibly empty.
    pub name: Box<str>,
    /// Region that the trunk prefers its EdgePort to be in (`extended.region`).
    pub region: Option<Box<str>>,
    /// Enabled, usable URIs: never empty, at most [`MAX_URIS`].
    pub uris: Vec<TrunkUri>,
    /// Digest credentials, where the trunk has them.
    pub credentials: Option<Credentials>,
    /// Minimum that a digest challenge has to offer (`extended.digest`).
    pub digest: DigestMinimum,
    /// Scheme of URIs over TLS (`extended.tlsUriScheme`); `None` for what the settings say.
    pub tls_uri_scheme: Option<TlsUriScheme>,
    /// Host that requests go to in place of the registrar (`extended.outboundProxy`).
    pub outbound_proxy: Option<OutboundProxy>,
    /// Problem of the URIs that were left out, in plain words.
    pub problem: Option<Box<str>>,
    /// Time at which the API server says that it was changed last, in seconds since the Unix epoch; 0 where
    /// it does not say. It does not move with every change.
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
        let proxy = self.outbound_proxy.as_ref().map_or(0, |proxy| proxy.host.len());
        let texts = self.reference.len() + self.name.len() + credentials + proxy;
        texts + optional.sum::<usize>() + uris.sum::<usize>()
    }
}

/// Problem that keeps a trunk as a whole from being registered.
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
