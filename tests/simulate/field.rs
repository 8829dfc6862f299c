//! Habits of the field that a world has: its Requester, its EdgePorts, the number of its registrars, and what
//! is wrong from the start.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::rules::{MINUTE, SECOND};

/// Separates the draws of this module from those of [`crate::rules`], which a plain world shares.
const SALT: u64 = 0xf1e1_d000;

/// A Requester, by what it tells the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequesterKind {
    /// Ours: tells its capacity, all Contacts, all targets, who failed, and what became of a challenge.
    Ours { capacity: u32 },
    /// Takes any number at a time and tells nothing that Routr's contract has no field for.
    Quiet,
    /// Routr's Java one: two slots, the first Contact only, no response at all for a status code that it does
    /// not know.
    Java,
}

/// Path between the Requester and the registrars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Nothing: an EdgePort is only the host of the Contact.
    Direct,
    /// EdgePorts that pass on what the registrar responds.
    EdgePorts,
    /// Routr's EdgePorts: each refused password starts a loop that offers it forever, and the call times out.
    LoopingEdgePorts,
}

/// Habits of the field that a world has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    pub requester: RequesterKind,
    pub path: Path,
    /// Many registrars, each with one trunk or many.
    pub crowd: bool,
    /// Registrars that are silent at the start, and for how many milliseconds.
    pub silent_at_start: usize,
    pub silence_ms: u64,
    /// Weight of an outage of a registrar or an EdgePort, beside the other events.
    pub outages: u32,
}

impl Field {
    /// Draws it; `None` for a plain world, one in six.
    pub fn draw(seed: u64) -> Option<Self> {
        let mut rng = SmallRng::seed_from_u64(seed ^ SALT);
        if rng.random_ratio(1, 6) {
            return None;
        }
        let requester = match rng.random_range(0..6) {
            0 => RequesterKind::Quiet,
            1 => RequesterKind::Java,
            _ => RequesterKind::Ours { capacity: [16, 64, 1_024][rng.random_range(0..3)] },
        };
        let path = match (requester, rng.random_range(0..4)) {
            (RequesterKind::Ours { .. }, 0 | 1) => Path::Direct,
            (_, 2) => Path::EdgePorts,
            _ => Path::LoopingEdgePorts,
        };
        let crowd = requester != RequesterKind::Java && rng.random_ratio(1, 5);
        let silent_at_start =
            if rng.random_bool(0.4) { rng.random_range(1..=if crowd { 30 } else { 3 }) } else { 0 };
        Some(Self {
            requester,
            path,
            crowd,
            silent_at_start,
            silence_ms: [30 * SECOND, 2 * MINUTE, 10 * MINUTE, 60 * MINUTE][rng.random_range(0..4)],
            outages: [2, 6, 14][rng.random_range(0..3)],
        })
    }

    /// Returns whether the Requester is ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.requester, RequesterKind::Ours { .. })
    }

    /// Returns how many requests the Requester says that it takes at a time.
    pub fn capacity(&self) -> Option<u32> {
        match self.requester {
            RequesterKind::Ours { capacity } => Some(capacity),
            RequesterKind::Quiet | RequesterKind::Java => None,
        }
    }
}
