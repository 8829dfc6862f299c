//! Knowledge of the administrator: the trunks as they are at the API server, and every Call-ID that any
//! version of them has had.

use std::collections::BTreeMap;

use rand::{RngExt, rngs::SmallRng};
pub use routr_registration::testing::Item;
use routr_registration::{
    registration::{
        identity::RegistryId,
        target::{UriPreference, uri_order},
    },
    trunk::{Credentials, Trunk, TrunkProblem, TrunkUri},
};
use routr_types::{
    host::{HostPort, Transport},
    secret::Secret,
};

use crate::history::SECRET;

/// Returns the identity that every Call-ID of a world is made of.
pub fn registry() -> RegistryId {
    RegistryId::new("simulated")
}

/// The Call-IDs of a trunk's URIs.
pub fn calls_of(trunk: &Trunk) -> Vec<Box<str>> {
    let call_id = |uri: &TrunkUri| registry().call_id(&trunk.reference, &uri.registrar.host, &uri.user);
    trunk.uris.iter().map(|uri| call_id(uri).into()).collect()
}

/// One trunk at the API server.
#[derive(Clone, Debug)]
pub struct Entry {
    pub revision: u64,
    /// The last good version.
    pub trunk: Trunk,
    /// It is spoilt at the moment.
    pub problem: Option<TrunkProblem>,
    /// The Call-IDs of its URIs.
    pub calls: Vec<Box<str>>,
}

/// One Call-ID.
#[derive(Clone, Debug)]
pub struct Call {
    pub reference: String,
    pub user: Box<str>,
    pub domain: Box<str>,
    /// Short and stable, for the history.
    pub name: String,
}

/// Trunks at the API server, and every Call-ID that they have had.
#[derive(Default)]
pub struct Catalogue {
    pub entries: BTreeMap<String, Entry>,
    pub calls: BTreeMap<Box<str>, Call>,
    /// Password that each registrar accepts for a user.
    pub accounts: BTreeMap<(Box<str>, Box<str>), String>,
    pub revision: u64,
    /// Time of an update as the API server writes it, in seconds since the Unix epoch; 0: nothing.
    pub clock_s: u32,
    passwords: u64,
    users: u64,
}

impl Catalogue {
    /// Another trunk, or another version of it.
    pub fn put(&mut self, trunk: Trunk) {
        let trunk = Trunk { updated_at_s: self.clock_s, ..trunk };
        self.revision += 1;
        let calls = calls_of(&trunk);
        for (uri, id) in trunk.uris.iter().zip(calls.iter().cloned()) {
            let name = format!("{}@{}", uri.user, uri.registrar.host);
            self.calls.entry(id).or_insert_with(|| Call {
                reference: trunk.reference.to_string(),
                user: uri.user.clone(),
                domain: uri.registrar.host.clone(),
                name: format!("{}:{name}", trunk.reference),
            });
            if let Some(credentials) = &trunk.credentials {
                let key = (uri.user.clone(), uri.registrar.host.clone());
                self.accounts.entry(key).or_insert_with(|| credentials.password.expose().to_owned());
            }
        }
        let entry = Entry { revision: self.revision, trunk, problem: None, calls };
        self.entries.insert(entry.trunk.reference.to_string(), entry);
    }

    /// A trunk with some URIs at some of the hosts.
    pub fn draw(&mut self, reference: &str, hosts: &[String], rng: &mut SmallRng) -> Trunk {
        let count = [1, 1, 1, 2, 3][rng.random_range(0..5)];
        let mut trunk = Trunk {
            reference: reference.into(),
            name: format!("Trunk {reference}").into(),
            region: ["eu", "us"].get(rng.random_range(0..4)).map(|region| (*region).into()),
            uris: Vec::new(),
            credentials: None,
            digest: routr_types::digest_minimum::DigestMinimum::default(),
            tls_uri_scheme: None,
            outbound_proxy: None,
            problem: None,
            updated_at_s: 0,
        };
        for _ in 0..count {
            let uri = self.draw_uri(hosts, rng);
            if !trunk.uris.iter().any(|other| other.registrar == uri.registrar) {
                trunk.uris.push(uri);
            }
        }
        if rng.random_bool(0.8) {
            trunk.credentials = Some(self.draw_credentials());
        }
        trunk
    }

    pub fn draw_uri(&mut self, hosts: &[String], rng: &mut SmallRng) -> TrunkUri {
        self.users += 1;
        let transport = [Transport::Udp, Transport::Tcp, Transport::Tls][rng.random_range(0..3)];
        TrunkUri {
            user: format!("u{}", self.users).into(),
            registrar: HostPort::new(&hosts[rng.random_range(0..hosts.len())], 5060),
            names_port: true,
            transport,
            priority: rng.random_range(0..3),
            weight: rng.random_range(0..3),
        }
    }

    pub fn draw_credentials(&mut self) -> Credentials {
        self.passwords += 1;
        Credentials {
            username: "auth".into(),
            password: Secret::new(format!("{SECRET}{:05}", self.passwords)),
        }
    }

    /// The URI positions of a trunk, preferred first.
    pub fn order(trunk: &Trunk) -> Vec<u8> {
        let ranks = trunk.uris.iter().map(|uri| UriPreference { priority: uri.priority, weight: uri.weight });
        uri_order(&trunk.reference, ranks).iter().map(u8::from).collect()
    }

    /// Returns whether this Call-ID is one that the trunk registers with as it is.
    pub fn wants(&self, call_id: &str) -> bool {
        let Some(call) = self.calls.get(call_id) else { return false };
        self.entries.get(&call.reference).is_some_and(|entry| {
            entry.is_wanted()
                && entry
                    .trunk
                    .uris
                    .iter()
                    .any(|uri| uri.user == call.user && uri.registrar.host == call.domain)
        })
    }
}

impl Entry {
    /// Returns whether it should be registered: a spoilt one stays registered as it was, one that is wholly
    /// disabled does not.
    pub fn is_wanted(&self) -> bool {
        !matches!(self.problem, Some(TrunkProblem::AllDisabled))
    }

    /// Returns whether it cannot be read as it is now.
    pub fn is_spoilt(&self) -> bool {
        matches!(self.problem, Some(TrunkProblem::Malformed { .. }))
    }
}
