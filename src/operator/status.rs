//! From what an engine says of itself to the status of its resource, and to events: pure, no clock and no client.

use crate::{
    engine::view::{Summary, Troubles},
    spec::status::RegistryStatus,
};

/// What is known of one Registry at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// `metadata.generation` of the spec that was last looked at.
    pub generation: i64,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// What stands in the way of the spec being followed; the last good one, if there was one, goes on meanwhile.
    pub stall: Option<Stall>,
    /// What the operator is doing.
    pub phase: Phase,
}

/// Why a spec is not followed. It takes a person to change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// In CamelCase: `InvalidSpec`, `SecretNotFound`, `InstanceIdInUse`, ...
    pub reason: &'static str,
    /// In plain words, with the field at fault and what would be right; no secret.
    pub message: String,
}

/// What the operator is doing about a Registry.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// No engine runs: there never was a good spec.
    Idle,
    /// Its engine runs.
    Running(Snapshot),
    /// Its engine runs, and sends nothing.
    Suspended(Snapshot),
    /// It is being deleted: bindings are being removed, until the deadline at the latest.
    Leaving {
        /// How far it is.
        snapshot: Snapshot,
        /// Milliseconds since the Unix epoch.
        deadline_ms: u64,
    },
}

/// What an engine says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// At one glance.
    pub summary: Summary,
    /// The worst.
    pub troubles: Troubles,
    /// Whether state outlives the process (Redis).
    pub durable: bool,
}

/// How much two statuses differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Not at all.
    None,
    /// Only in times that move on by themselves: the next lapse, the last sync, the next tries.
    Slight,
    /// In what somebody waits for.
    Real,
}

/// Something for `kubectl describe` to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether something is wrong: a Warning, else Normal.
    pub warning: bool,
    /// In CamelCase.
    pub reason: &'static str,
    /// What the operator did or does about it, in CamelCase: `Register`, `Deregister`, `Configure`, `Connect`.
    pub action: &'static str,
    /// In plain words, at most 1 KiB.
    pub message: String,
}

/// The status as it should be now. What did not change in `before` keeps its times.
pub fn status(before: Option<&RegistryStatus>, situation: &Situation) -> RegistryStatus {
    let _ = (before, situation);
    RegistryStatus::default()
}

/// How much there is to write.
pub fn difference(before: &RegistryStatus, after: &RegistryStatus) -> Difference {
    if before == after { Difference::None } else { Difference::Real }
}

/// A deleted Registry went with trunks that are still registered.
pub fn left_behind(trunks: u64, deadline_s: u64) -> Notice {
    Notice {
        warning: true,
        reason: "DeregistrationIncomplete",
        action: "Deregister",
        message: format!(
            "{trunks} trunks could not be de-registered within {deadline_s} s; their bindings lapse by themselves"
        ),
    }
}

/// What a person would want to be told of the change.
pub fn notices(before: Option<&RegistryStatus>, after: &RegistryStatus) -> Vec<Notice> {
    let _ = (before, after);
    Vec::new()
}
