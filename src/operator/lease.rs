//! Who leads: a Lease (coordination.k8s.io/v1) that one replica holds at a time.
//!
//! Time is judged as client-go does it: by how long a record was seen unchanged on this machine's monotonic clock, never by
//! the clock that the holder wrote. Every write names the resourceVersion that it replaces, so that of two candidates one
//! wins.

use std::time::Duration;

/// Which Lease, held by whom, for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// What this replica is called: unique among the replicas.
    pub identity: String,
    /// How long a record counts after it was last renewed; whole seconds.
    pub duration: Duration,
}

/// How this replica stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Standing {
    /// Nothing is known yet.
    #[default]
    Starting,
    /// Another replica leads, and this one is ready to take over.
    Following {
        /// Who leads; `None` where nobody holds the Lease at the moment.
        leader: Option<String>,
    },
    /// The Lease cannot be read: this replica could not take over.
    Blind {
        /// In plain words.
        problem: String,
    },
    /// This replica leads.
    Leading,
}
