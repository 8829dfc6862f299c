//! Trunks, settings, responses and registrars for tests, here and of what runs an engine.
#![allow(missing_docs, clippy::unwrap_used)]

pub mod registrar;

use routr_types::{
    host::{HostPort, Transport},
    secret::Secret,
};

use crate::{
    engine::EngineSettings,
    model::{EdgePort, PublicAddresses, RegisterResponse, TrunkItem},
    registration::{
        Settings,
        redirect_policy::{RedirectDomain, RedirectPolicy},
    },
    trunk::{Credentials, TlsUriScheme, Trunk, TrunkProblem, TrunkUri},
};

pub const SECOND_MS: u64 = 1_000;

pub const MINUTE: u64 = 60 * SECOND_MS;

pub const HOUR: u64 = 60 * MINUTE;

/// Item of the API server's list.
#[derive(Clone, Debug)]
pub struct Item {
    pub reference: Option<String>,
    pub revision: u64,
    pub trunk: Result<Trunk, TrunkProblem>,
}

impl TrunkItem for Item {
    fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    fn fingerprint(&self) -> u64 {
        self.revision
    }

    fn decode(&self) -> Result<Trunk, TrunkProblem> {
        self.trunk.clone()
    }
}

pub fn settings(edges: u8, rate: Option<f64>) -> EngineSettings {
    let edge = |n: u8| EdgePort {
        address: HostPort::new(&format!("edge-{n}.example"), 5060),
        region: None,
        public: PublicAddresses::default(),
    };
    EngineSettings {
        max_trunks: usize::MAX,
        registration: Settings {
            interval_ms: MINUTE,
            expires_s: 600,
            deadline_ms: 40_000,
            tags: vec!["gin".into(), "path".into()],
            redirects: RedirectPolicy {
                domains: vec![RedirectDomain::Any],
                credentials: true,
                ..RedirectPolicy::default()
            },
        },
        edge_ports: (0..edges).map(edge).collect(),
        max_in_flight: 256,
        rate_per_registrar: rate,
        digest: routr_types::digest_minimum::DigestMinimum::default(),
        tls_uri_scheme: TlsUriScheme::default(),
    }
}

/// A trunk with URIs written as `user@host`, `user@host:port` or `user@host:port;tcp`, preferred first.
pub fn trunk(reference: &str, uris: &[&str]) -> Trunk {
    let uris = uris.iter().enumerate().map(|(rank, text)| {
        let (rest, transport) = text.split_once(';').unwrap_or((text, "udp"));
        let (user, address) = rest.split_once('@').unwrap();
        let (host, port) = address.split_once(':').unwrap_or((address, "5060"));
        TrunkUri {
            user: user.into(),
            registrar: HostPort::new(host, port.parse().unwrap()),
            names_port: true,
            transport: Transport::parse(transport).unwrap(),
            priority: i32::try_from(rank).unwrap(),
            weight: 10,
        }
    });
    Trunk {
        reference: reference.into(),
        name: "".into(),
        region: None,
        uris: uris.collect(),
        credentials: Some(Credentials { username: "user".into(), password: Secret::new("right") }),
        digest: routr_types::digest_minimum::DigestMinimum::default(),
        tls_uri_scheme: None,
        outbound_proxy: None,
        problem: None,
        updated_at_s: 0,
    }
}

pub fn code(code: u16) -> RegisterResponse {
    RegisterResponse { code: Some(code), phrase: "Because".into(), ..RegisterResponse::default() }
}
