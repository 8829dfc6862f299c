//! Every reason that a condition or an event can have: docs/status.md explains each, and a test holds it to
//! that.

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

/// The spec has an error that the schema did not refuse.
pub const INVALID_SPEC: &str = "InvalidSpec";
/// A Secret that the spec refers to is not there, or lacks the key.
pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
/// A Secret cannot be read, or what is in it cannot be used.
pub const SECRET_UNREADABLE: &str = "SecretUnreadable";
/// The operator runs as many Registries as it may, all of them older.
pub const TOO_MANY_REGISTRIES: &str = "TooManyRegistries";
/// Another Registry has the same `spec.instanceId`.
pub const INSTANCE_ID_IN_USE: &str = "InstanceIdInUse";
/// A dependency cannot be set up with what the spec says.
pub const CANNOT_START: &str = "CannotStart";

/// Reasons that a spec may not be followed: the values of [`super::Stall::reason`].
pub const STALLS: [&str; 6] = [
    INVALID_SPEC,
    SECRET_NOT_FOUND,
    SECRET_UNREADABLE,
    INSTANCE_ID_IN_USE,
    TOO_MANY_REGISTRIES,
    CANNOT_START,
];

/// Every status and reason that a condition can have, but for [`STALLS`], which Ready (False) and Stalled
/// (True) can have as well.
pub const REASONS: [(&str, ConditionStatus, &str); 54] = [
    (READY, True, "AllRegistered"),
    (READY, True, "TrunksAtRisk"),
    (READY, True, "BudgetTooSmall"),
    (READY, True, "RemovalsPendingConfirmation"),
    (READY, True, "NoTrunks"),
    (READY, False, "TrunksFailing"),
    (READY, False, "InvalidTrunks"),
    (READY, False, "OverLimit"),
    (READY, False, "Registering"),
    (READY, False, "RequesterUnreachable"),
    (READY, False, "APIUnreachable"),
    (READY, False, "Syncing"),
    (READY, False, "Starting"),
    (READY, False, "Suspended"),
    (READY, False, "Deregistering"),
    (RECONCILING, True, "Starting"),
    (RECONCILING, True, "Syncing"),
    (RECONCILING, True, "Registering"),
    (RECONCILING, True, "Deregistering"),
    (RECONCILING, False, "Settled"),
    (RECONCILING, False, "TrunksPending"),
    (RECONCILING, False, "TrunksUnhealthy"),
    (RECONCILING, False, "RequesterUnreachable"),
    (RECONCILING, False, "Suspended"),
    (RECONCILING, False, "Stalled"),
    (STALLED, False, "NotStalled"),
    (API_REACHABLE, True, "Reachable"),
    (API_REACHABLE, False, "Unreachable"),
    (API_REACHABLE, False, "Timeout"),
    (API_REACHABLE, False, "Refused"),
    (API_REACHABLE, False, "MalformedResponse"),
    (API_REACHABLE, False, "OverLimit"),
    (API_REACHABLE, Unknown, "NotProbed"),
    (API_REACHABLE, Unknown, "NotRunning"),
    (REQUESTER_REACHABLE, True, "Reachable"),
    (REQUESTER_REACHABLE, False, "Unreachable"),
    (REQUESTER_REACHABLE, False, "Timeout"),
    (REQUESTER_REACHABLE, False, "Refused"),
    (REQUESTER_REACHABLE, Unknown, "NotProbed"),
    (REQUESTER_REACHABLE, Unknown, "NotRunning"),
    (CACHE_REACHABLE, True, "Reachable"),
    (CACHE_REACHABLE, True, "InMemory"),
    (CACHE_REACHABLE, False, "Unreachable"),
    (CACHE_REACHABLE, False, "CredentialsRejected"),
    (CACHE_REACHABLE, False, "Refused"),
    (CACHE_REACHABLE, False, "SharedKeys"),
    (CACHE_REACHABLE, Unknown, "NotProbed"),
    (CACHE_REACHABLE, Unknown, "NotRunning"),
    (CREDENTIALS_ACCEPTED, True, "Accepted"),
    (CREDENTIALS_ACCEPTED, False, "CredentialsRejected"),
    (CREDENTIALS_ACCEPTED, False, "UnknownAccount"),
    (CREDENTIALS_ACCEPTED, Unknown, "AwaitingResponse"),
    (CREDENTIALS_ACCEPTED, Unknown, "NoTrunks"),
    (CREDENTIALS_ACCEPTED, Unknown, "NotRunning"),
];

/// Every reason of an event that [`super::events()`], [`super::deregistered`], [`super::not_deregistered`]
/// and [`super::definition_differs`] give, but for [`STALLS`].
pub const EVENTS: [&str; 19] = [
    "Ready",
    "NotReady",
    "TrunksRejected",
    "APIUnreachable",
    "APIReachable",
    "RequesterUnreachable",
    "RequesterReachable",
    "CacheUnreachable",
    "CacheReachable",
    "Stalled",
    "SpecAccepted",
    "Suspended",
    "Resumed",
    "RemovalsPendingConfirmation",
    "BudgetTooSmall",
    "Deregistering",
    "Deregistered",
    "NotDeregistered",
    "DefinitionDiffers",
];
