//! The result of a reconcile: the state that is desired for one Registry, and what came of it.

use std::time::Duration;

use crate::{
    operator::{status::Stall, validate::Plan},
    registry::RegistryName,
};
use routr_registration::engine::view::DeregistrationReport;

/// The state that is desired for one Registry: all that a reconcile decides, handed over in one call of
/// [`apply`](super::EngineManager::apply).
#[derive(Debug)]
pub enum Desired {
    /// An engine runs by this plan: one is started, or what differs is changed in the one that runs.
    Run {
        /// The valid spec, with its Secrets.
        plan: Box<Plan>,
        /// An engine ran for it before, in this process or another.
        has_run: bool,
    },
    /// The spec cannot be followed. An engine that runs continues by its last valid plan.
    Stall {
        /// The correction that a user has to make.
        stall: Stall,
        /// Pauses or resumes the engine that runs, because an emergency brake works in any case; `None` where
        /// the spec does not say.
        suspend: Option<bool>,
    },
    /// The Registry is being deleted: its bindings are removed, and nothing runs afterwards.
    Deregister {
        /// Longest time that it may take.
        deadline: Duration,
        /// The state to bring about before, where no engine runs yet: a new leader has to read the trunks and
        /// their credentials first.
        first: Option<Box<Desired>>,
    },
    /// The Registry is being deleted while it is suspended: its engine ends without sending anything.
    End,
    /// Its own finalizer is off, and those of others keep the Registry: nothing runs, and it stays listed.
    Released(RegistryName),
    /// The resource is gone: nothing runs, and nothing is reported. Bindings stay.
    Gone,
}

/// Result of bringing a [`Desired`] state about.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was brought about.
    Applied,
    /// The status shows a stall with this reason.
    Stalled(crate::operator::status::reasons::ConditionReason),
    /// Nothing runs any more; `None` where nothing ran, or nothing had to be removed.
    Deregistered(Option<DeregistrationResult>),
}

/// End of a deregistration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeregistrationResult {
    /// Nothing is left to remove.
    Complete(DeregistrationReport),
    /// The deadline came first.
    DeadlineExceeded {
        /// Number of trunks that were left.
        left: u64,
        /// In plain words.
        why: String,
    },
}

/// A deregistration did not come to its end: another reconcile, or another leader, begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deregistration was interrupted: {0}")]
pub struct Interrupted(pub(super) &'static str);
