//! Views of the engine: for the admin port, the metrics, the demo and the operator's status. No
//! secrets.

use serde::{Deserialize, Serialize};

use crate::registration::state::TrunkState;
use crate::{
    model::{SourceError, StoreError},
    registration::{outcome::Reason, time::Now},
};

/// Reason of a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrunkFailure {
    /// In CamelCase, one of a fixed set: `CredentialsRejected`, `UnknownAccount`, `Timeout`, ...
    pub reason: String,
    /// SIP status code, where the registrar sent one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<u16>,
    /// In plain words, with the registrar's own phrase.
    pub message: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl TrunkFailure {
    pub(super) fn new(reason: Reason, message: String, since_ms: u64) -> Self {
        Self { reason: reason.name().to_owned(), code: None, message, since_ms }
    }
}

/// A redirection that is followed. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirection {
    /// The trunk's own registrar, `host:port/TRANSPORT`.
    pub from: String,
    /// Target where it is registered instead, written likewise.
    pub to: String,
    /// Until when; then the trunk's own registrar is asked again.
    pub until_ms: u64,
}

/// A trunk that is redirected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedirectedTrunk {
    /// The trunk's ref.
    pub reference: String,
    /// From where to where, until when.
    #[serde(flatten)]
    pub redirection: Redirection,
}

/// One trunk's registration. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrunkView {
    /// The trunk's ref.
    pub reference: String,
    /// The trunk's name.
    pub name: String,
    /// State now.
    pub state: TrunkState,
    /// Address of record in use, `user@host`; empty for an invalid trunk.
    pub aor: String,
    /// Registrar in use, `host:port/TRANSPORT`; empty for an invalid trunk.
    pub registrar: String,
    /// EdgePort in use.
    pub edge_port: String,
    /// Set where the binding, or the next attempt, is not at the preferred URI and EdgePort.
    #[serde(default)]
    pub failed_over: bool,
    /// Target of a redirection from `registrar`; absent where none is followed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub redirected: Option<Redirection>,
    /// Option tags that are left out because the registrar does not take them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub omitted_option_tags: Vec<String>,
    /// Time at which the binding expires.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at_ms: Option<u64>,
    /// Time at which the next REGISTER is due; absent while one is in flight.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_at_ms: Option<u64>,
    /// Set while a REGISTER is in flight.
    pub in_flight: bool,
    /// Next step, in plain words: `refresh`, `retry`, `waiting for the Requester`, ...
    pub next: String,
    /// Rounds that failed in a row.
    pub failures: u32,
    /// Failure that keeps it from being simply registered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<TrunkFailure>,
    /// Call-ID in use.
    pub call_id: String,
    /// Last CSeq number sent.
    pub cseq: u32,
}

/// The worst troubles, and how many there are of each kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureSummary {
    /// Trunks without a binding first, then those that are invalid, then those at risk; among equals the
    /// oldest first.
    pub worst: Vec<TrunkView>,
    /// Number of trunks that fail or are at risk, by reason.
    pub by_reason: std::collections::BTreeMap<String, u64>,
}

/// Filter of the trunks to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those in one of these states; empty for all.
    pub states: Vec<TrunkState>,
    /// Only those at this registrar host, in any case.
    pub registrar: Option<String>,
    /// Only those whose ref, name or address of record contains this, in any case.
    pub text: Option<String>,
}

/// A part of the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The trunks.
    pub items: Vec<TrunkView>,
    /// Pass it to get the next part; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_page_token: Option<String>,
}

/// In which way a dependency fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DependencyFailure {
    /// There is no connection, or it is not able to answer now.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// It answers with an error.
    Refused,
    /// It refuses the credentials.
    Unauthorized,
    /// Malformed responses.
    Malformed,
    /// It answers with more than a limit allows.
    TooMuch,
    /// Another process acts for this registry: this one waits, and sends nothing.
    Taken,
    /// Another process writes the same keys of the cache.
    Shared,
}

impl From<&SourceError> for DependencyFailure {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Unavailable(_) | SourceError::Abandoned => Self::Unreachable,
            SourceError::Deadline(_) => Self::Timeout,
            SourceError::Refused(_) => Self::Refused,
            SourceError::Malformed(_) => Self::Malformed,
            SourceError::TooMuch(_) | SourceError::NoRoom(_) => Self::TooMuch,
        }
    }
}

impl From<&StoreError> for DependencyFailure {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unreachable,
            StoreError::Denied(_) => Self::Unauthorized,
            StoreError::Refused(_) => Self::Refused,
            StoreError::Taken(_) => Self::Taken,
            StoreError::Shared(_) => Self::Shared,
        }
    }
}

/// Health of a dependency (API server, Requester, store).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `None` until it has been tried.
    pub ok: Option<bool>,
    /// Failure in plain words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// In which way it fails.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<DependencyFailure>,
    /// Since when it is as it is, in milliseconds since the Unix epoch; 0 until it has been tried.
    pub since_ms: u64,
}

impl Health {
    /// Takes what is known now; `wrong` is how it fails. Returns since when (Unix milliseconds; 0: never
    /// tried) it stood otherwise, where that changed.
    pub(super) fn update(&mut self, wrong: Option<(DependencyFailure, String)>, now: Now) -> Option<u64> {
        let ok = Some(wrong.is_none());
        let before = (self.ok != ok).then_some(self.since_ms);
        if before.is_some() {
            self.since_ms = now.unix_ms;
        }
        let (reason, message) = wrong.unzip();
        (self.ok, self.reason) = (ok, reason);
        self.message = message.filter(|message| !message.is_empty());
        before
    }
}

/// Number of trunks in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// See [`TrunkState::Pending`].
    pub pending: u64,
    /// See [`TrunkState::Registered`].
    pub registered: u64,
    /// See [`TrunkState::AtRisk`].
    pub at_risk: u64,
    /// See [`TrunkState::Failing`].
    pub failing: u64,
    /// See [`TrunkState::Invalid`].
    pub invalid: u64,
    /// See [`TrunkState::Deregistering`].
    pub deregistering: u64,
}

impl Counts {
    /// The count of one state.
    pub fn of(&self, state: TrunkState) -> u64 {
        match state {
            TrunkState::Pending => self.pending,
            TrunkState::Registered => self.registered,
            TrunkState::AtRisk => self.at_risk,
            TrunkState::Failing => self.failing,
            TrunkState::Invalid => self.invalid,
            TrunkState::Deregistering => self.deregistering,
        }
    }

    /// The count of one state, to change it.
    pub fn of_mut(&mut self, state: TrunkState) -> &mut u64 {
        match state {
            TrunkState::Pending => &mut self.pending,
            TrunkState::Registered => &mut self.registered,
            TrunkState::AtRisk => &mut self.at_risk,
            TrunkState::Failing => &mut self.failing,
            TrunkState::Invalid => &mut self.invalid,
            TrunkState::Deregistering => &mut self.deregistering,
        }
    }
}

/// A registrar or an EdgePort that fails for several trunks in a row; one trunk at a time probes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Down {
    /// `registrar` or `edgePort`.
    pub what: String,
    /// Its `host:port`.
    pub name: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Message of the last trunk before it counted as down; empty for an EdgePort.
    pub message: String,
}

impl Down {
    /// Returns whether it is an EdgePort, else a registrar.
    pub fn is_edge_port(&self) -> bool {
        self.what == "edgePort"
    }
}

/// The engine at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Trunks by state.
    pub counts: Counts,
    /// The API server.
    pub api: Health,
    /// The Requester.
    pub requester: Health,
    /// The cache.
    pub cache: Health,
    /// Time at which trunks were last read completely, in milliseconds since the Unix epoch.
    pub last_sync_ms: Option<u64>,
    /// Number of trunks that a sync saw missing and does not deregister before a second sync says the same.
    pub removals_pending_confirmation: u64,
    /// Time at which the next binding expires if nothing is done, in milliseconds since the Unix epoch.
    pub next_expiry_ms: Option<u64>,
    /// Number of trunks of the last list that are left out, because a limit leaves no room for them.
    #[serde(default)]
    pub left_out: u64,
    /// Limits of the operator that the registry exceeds, or has exceeded in the last minutes; in
    /// plain words.
    #[serde(default)]
    pub over_limits: Vec<String>,
    /// Set while it has to send nothing.
    #[serde(default)]
    pub paused: bool,
    /// REGISTERs in flight.
    pub in_flight: u64,
    /// Number of REGISTERs that may be in flight at the moment.
    pub in_flight_limit: u64,
    /// Trunks whose REGISTER is due and waits for its turn.
    pub waiting: u64,
    /// Registrars whose budget is too small for the trunks they have: bindings there will expire.
    pub over_budget: Vec<String>,
    /// Number of trunks that hold a binding elsewhere than at their preferred URI and EdgePort.
    #[serde(default)]
    pub failed_over: u64,
    /// Number of trunks that are registered elsewhere because of a redirection, or are about to be.
    #[serde(default)]
    pub redirected: u64,
    /// Of these at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub redirections: Vec<RedirectedTrunk>,
    /// Number of registrars that are down.
    #[serde(default)]
    pub registrars_down: u64,
    /// Number of EdgePorts that are down.
    #[serde(default)]
    pub edge_ports_down: u64,
    /// Registrars and EdgePorts that are down: at most 20, EdgePorts first, among equals the one that has
    /// been down for longest.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub down: Vec<Down>,
}

/// The result of a request to register one trunk now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The REGISTER is queued and goes out as soon as the budgets allow.
    Queued,
    /// One is in flight already.
    InFlight,
    /// The trunk cannot be registered as it is configured.
    Invalid,
    /// There is no such trunk.
    NotFound,
}

/// The result of deregistering all trunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeregistrationReport {
    /// The registrar says that they are gone.
    pub removed: u64,
    /// It did not say so in any of the tries.
    pub abandoned: u64,
}
