//! Every reason that a condition or an event can have: docs/status.md explains each, and a test holds it to
//! that.

use strum::IntoStaticStr;

use super::conditions::ConditionStatus::{self, False, True, Unknown};

/// Types of the conditions, in the order in which they are shown.
pub const CONDITIONS: [&str; 7] =
    [READY, RECONCILING, STALLED, API_REACHABLE, REQUESTER_REACHABLE, CACHE_REACHABLE, CREDENTIALS_ACCEPTED];

/// Every trunk has a binding, and refreshes can go on.
pub const READY: &str = "Ready";
/// Progress towards what the spec asks for (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// No progress, and waiting will not help (kstatus).
pub const STALLED: &str = "Stalled";
/// The last reading of the trunks succeeded.
pub const API_REACHABLE: &str = "APIReachable";
/// The Requester responds.
pub const REQUESTER_REACHABLE: &str = "RequesterReachable";
/// State is kept.
pub const CACHE_REACHABLE: &str = "CacheReachable";
/// Registrars accept users and passwords.
pub const CREDENTIALS_ACCEPTED: &str = "CredentialsAccepted";

/// Reason of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[allow(missing_docs)] // docs/status.md explains each.
pub enum ConditionReason {
    AllRegistered,
    TrunksAtRisk,
    BudgetTooSmall,
    RemovalsPendingConfirmation,
    NoTrunks,
    TrunksFailing,
    InvalidTrunks,
    OverLimit,
    Registering,
    RequesterUnreachable,
    #[strum(serialize = "APIUnreachable")]
    ApiUnreachable,
    Syncing,
    Starting,
    Suspended,
    Deregistering,
    Settled,
    TrunksPending,
    TrunksUnhealthy,
    Stalled,
    NotStalled,
    Reachable,
    Unreachable,
    Timeout,
    Refused,
    MalformedResponse,
    NotProbed,
    NotRunning,
    InMemory,
    CredentialsRejected,
    SharedKeys,
    Accepted,
    UnknownAccount,
    AwaitingResponse,
    /// The spec has an error that the schema did not refuse.
    InvalidSpec,
    /// A Secret that the spec refers to is not there, or lacks the key.
    SecretNotFound,
    /// A Secret cannot be read, or what is in it cannot be used.
    SecretUnreadable,
    /// The operator runs as many Registries as it may, all of them older.
    TooManyRegistries,
    /// Another Registry has the same `spec.instanceId`.
    InstanceIdInUse,
    /// A dependency cannot be set up with what the spec says.
    CannotStart,
}

impl ConditionReason {
    /// Returns the word that Kubernetes shows.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Reason of an event; what stalls a Registry is one, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[allow(missing_docs)] // docs/status.md explains each.
pub enum EventReason {
    Ready,
    NotReady,
    TrunksRejected,
    #[strum(serialize = "APIUnreachable")]
    ApiUnreachable,
    #[strum(serialize = "APIReachable")]
    ApiReachable,
    RequesterUnreachable,
    RequesterReachable,
    CacheUnreachable,
    CacheReachable,
    Stalled,
    SpecAccepted,
    Suspended,
    Resumed,
    RemovalsPendingConfirmation,
    BudgetTooSmall,
    Deregistering,
    Deregistered,
    NotDeregistered,
    DefinitionDiffers,
}

impl EventReason {
    /// Returns the word that Kubernetes shows.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Reasons that a spec may not be followed: the values of [`super::Stall::reason`].
pub const STALLS: [ConditionReason; 6] = [
    ConditionReason::InvalidSpec,
    ConditionReason::SecretNotFound,
    ConditionReason::SecretUnreadable,
    ConditionReason::InstanceIdInUse,
    ConditionReason::TooManyRegistries,
    ConditionReason::CannotStart,
];

/// Every status and reason that a condition can have, but for [`STALLS`], which Ready (False) and Stalled
/// (True) can have as well.
pub const REASONS: [(&str, ConditionStatus, ConditionReason); 54] = [
    (READY, True, ConditionReason::AllRegistered),
    (READY, True, ConditionReason::TrunksAtRisk),
    (READY, True, ConditionReason::BudgetTooSmall),
    (READY, True, ConditionReason::RemovalsPendingConfirmation),
    (READY, True, ConditionReason::NoTrunks),
    (READY, False, ConditionReason::TrunksFailing),
    (READY, False, ConditionReason::InvalidTrunks),
    (READY, False, ConditionReason::OverLimit),
    (READY, False, ConditionReason::Registering),
    (READY, False, ConditionReason::RequesterUnreachable),
    (READY, False, ConditionReason::ApiUnreachable),
    (READY, False, ConditionReason::Syncing),
    (READY, False, ConditionReason::Starting),
    (READY, False, ConditionReason::Suspended),
    (READY, False, ConditionReason::Deregistering),
    (RECONCILING, True, ConditionReason::Starting),
    (RECONCILING, True, ConditionReason::Syncing),
    (RECONCILING, True, ConditionReason::Registering),
    (RECONCILING, True, ConditionReason::Deregistering),
    (RECONCILING, False, ConditionReason::Settled),
    (RECONCILING, False, ConditionReason::TrunksPending),
    (RECONCILING, False, ConditionReason::TrunksUnhealthy),
    (RECONCILING, False, ConditionReason::RequesterUnreachable),
    (RECONCILING, False, ConditionReason::Suspended),
    (RECONCILING, False, ConditionReason::Stalled),
    (STALLED, False, ConditionReason::NotStalled),
    (API_REACHABLE, True, ConditionReason::Reachable),
    (API_REACHABLE, False, ConditionReason::Unreachable),
    (API_REACHABLE, False, ConditionReason::Timeout),
    (API_REACHABLE, False, ConditionReason::Refused),
    (API_REACHABLE, False, ConditionReason::MalformedResponse),
    (API_REACHABLE, False, ConditionReason::OverLimit),
    (API_REACHABLE, Unknown, ConditionReason::NotProbed),
    (API_REACHABLE, Unknown, ConditionReason::NotRunning),
    (REQUESTER_REACHABLE, True, ConditionReason::Reachable),
    (REQUESTER_REACHABLE, False, ConditionReason::Unreachable),
    (REQUESTER_REACHABLE, False, ConditionReason::Timeout),
    (REQUESTER_REACHABLE, False, ConditionReason::Refused),
    (REQUESTER_REACHABLE, Unknown, ConditionReason::NotProbed),
    (REQUESTER_REACHABLE, Unknown, ConditionReason::NotRunning),
    (CACHE_REACHABLE, True, ConditionReason::Reachable),
    (CACHE_REACHABLE, True, ConditionReason::InMemory),
    (CACHE_REACHABLE, False, ConditionReason::Unreachable),
    (CACHE_REACHABLE, False, ConditionReason::CredentialsRejected),
    (CACHE_REACHABLE, False, ConditionReason::Refused),
    (CACHE_REACHABLE, False, ConditionReason::SharedKeys),
    (CACHE_REACHABLE, Unknown, ConditionReason::NotProbed),
    (CACHE_REACHABLE, Unknown, ConditionReason::NotRunning),
    (CREDENTIALS_ACCEPTED, True, ConditionReason::Accepted),
    (CREDENTIALS_ACCEPTED, False, ConditionReason::CredentialsRejected),
    (CREDENTIALS_ACCEPTED, False, ConditionReason::UnknownAccount),
    (CREDENTIALS_ACCEPTED, Unknown, ConditionReason::AwaitingResponse),
    (CREDENTIALS_ACCEPTED, Unknown, ConditionReason::NoTrunks),
    (CREDENTIALS_ACCEPTED, Unknown, ConditionReason::NotRunning),
];

/// Every reason of an event that [`super::events()`], [`super::deregistered`], [`super::not_deregistered`]
/// and [`super::definition_differs`] give, but for [`STALLS`].
pub const EVENTS: [EventReason; 19] = [
    EventReason::Ready,
    EventReason::NotReady,
    EventReason::TrunksRejected,
    EventReason::ApiUnreachable,
    EventReason::ApiReachable,
    EventReason::RequesterUnreachable,
    EventReason::RequesterReachable,
    EventReason::CacheUnreachable,
    EventReason::CacheReachable,
    EventReason::Stalled,
    EventReason::SpecAccepted,
    EventReason::Suspended,
    EventReason::Resumed,
    EventReason::RemovalsPendingConfirmation,
    EventReason::BudgetTooSmall,
    EventReason::Deregistering,
    EventReason::Deregistered,
    EventReason::NotDeregistered,
    EventReason::DefinitionDiffers,
];
