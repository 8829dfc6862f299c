//! Servers of a Redis, and the choice of the one to ask: the only one, the master that a sentinel names, or
//! the node of a cluster that has the keys of a registry. They are all in one slot, so one node is enough.

use std::sync::{Mutex, PoisonError};

use super::stream::Place;
use crate::config::{RedisDeployment, RedisSettings};
use routr_types::{host::HostPort, secret::Secret};

/// Credentials of a server.
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Secret,
}

impl Login {
    /// `None` where neither is given.
    pub(super) fn new(username: Option<&str>, password: Option<&Secret>) -> Option<Self> {
        if username.is_none() && password.is_none() {
            return None;
        }
        // A user that needs no password is let in with any.
        let password = password.cloned().unwrap_or_else(|| Secret::new(""));
        Some(Self { username: username.map(str::to_owned), password })
    }
}

/// The servers.
pub(super) enum Servers {
    /// One.
    One(Place),
    /// Sentinels, which say who the master is. They are asked for each connection.
    Sentinels {
        /// They are asked in their order.
        sentinels: Vec<HostPort>,
        /// Its name.
        master: String,
        /// Credentials of the sentinels.
        login: Option<Login>,
    },
    /// Nodes of a cluster.
    Nodes {
        /// Nodes as they are configured.
        seeds: Vec<HostPort>,
        /// Nodes that other nodes have named.
        known: Mutex<Known>,
    },
}

/// Nodes that others named, which are kept at most: a node that the configuration does not name may be the
/// only one left.
const MOST_NAMED: usize = 8;

/// Known state of a cluster beyond its configuration.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The node that has the keys.
    home: Option<HostPort>,
    /// Nodes that had the keys, the latest one last.
    named: Vec<HostPort>,
    /// The node that could not be reached last, and why.
    unreachable: Option<(HostPort, Box<str>)>,
}

impl Servers {
    /// Reads the configured servers.
    pub(super) fn new(settings: &RedisSettings) -> Self {
        match (&settings.deployment, &settings.socket) {
            (RedisDeployment::Single, Some(socket)) => Self::One(Place::Socket(socket.clone())),
            (RedisDeployment::Single, None) => Self::One(Place::Tcp(settings.address.clone())),
            (RedisDeployment::Sentinel { sentinels, master, username, password }, _) => Self::Sentinels {
                sentinels: sentinels.clone(),
                master: master.clone(),
                login: Login::new(username.as_deref(), password.as_ref()),
            },
            (RedisDeployment::Cluster { nodes }, _) => {
                Self::Nodes { seeds: nodes.clone(), known: Mutex::default() }
            }
        }
    }

    /// Returns whether they are a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Nodes { .. })
    }

    /// The nodes of a cluster in the order in which they are tried: the one that is known to have the keys,
    /// those of the configuration, those that others have named. The first one is forgotten: a node that does
    /// not have them says which one does.
    pub(super) fn nodes(&self) -> Vec<HostPort> {
        let Self::Nodes { seeds, known } = self else { return Vec::new() };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nodes: Vec<HostPort> = Vec::new();
        let home = known.home.take();
        for node in home.iter().chain(seeds).chain(known.named.iter().rev()) {
            if !nodes.contains(node) {
                nodes.push(node.clone());
            }
        }
        nodes
    }

    /// Notes that a node of a cluster cannot be reached.
    pub(super) fn is_unreachable(&self, node: &HostPort, cause: &str) {
        if let Self::Nodes { known, .. } = self {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.unreachable = Some((node.clone(), cause.into()));
        }
    }

    /// Returns why that node could not be reached, where it was the last one that could not.
    pub(super) fn cause(&self, node: &HostPort) -> Option<Box<str>> {
        let Self::Nodes { known, .. } = self else { return None };
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.unreachable.as_ref().filter(|(other, _)| other == node).map(|(_, cause)| cause.clone())
    }

    /// Notes that a node of a cluster said which one has the keys.
    pub(super) fn moved_to(&self, node: HostPort) {
        let Self::Nodes { known, .. } = self else { return };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.named.retain(|other| *other != node);
        known.named.push(node.clone());
        if known.named.len() > MOST_NAMED {
            known.named.remove(0);
        }
        known.home = Some(node);
    }
}

/// The servers in a few words, for messages.
pub(super) fn name(settings: &RedisSettings) -> String {
    let first = |addresses: &[HostPort]| addresses.first().map(ToString::to_string).unwrap_or_default();
    match (&settings.deployment, &settings.socket) {
        (RedisDeployment::Single, Some(socket)) => socket.display().to_string(),
        (RedisDeployment::Single, None) => settings.address.to_string(),
        (RedisDeployment::Sentinel { sentinels, master, .. }, _) => {
            format!("master {master} of the sentinel {}", first(sentinels))
        }
        (RedisDeployment::Cluster { nodes }, _) => format!("cluster of {}", first(nodes)),
    }
}

/// The node in the words of a MOVED or an ASK: `3999 127.0.0.1:6381`. One without a host means the node that
/// said so, which is no other.
pub(super) fn moved(details: &str) -> Option<HostPort> {
    let (host, port) = details.split_whitespace().nth(1)?.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty() && host != "?").then(|| HostPort::new(host, port))
}
