//! Status and events of a resource, from what its engine reports: pure, no clock and no client.
//!
//! docs/status.md explains every condition and reason; [`reasons`] lists them, and a test compares the two.
//!
//! Choice of the reason of Ready when several apply, the first that does:
//!
//! | | Ready | reason |
//! |---|---|---|
//! | the resource is being deleted | False | Deregistering |
//! | `spec.suspend` is true | False | Suspended |
//! | no engine runs | False | the reason of the [`Stall`], else Starting |
//! | trunks were never read, and cannot be | False | APIUnreachable |
//! | trunks were never read | as before if that was True or about trunks, else False | as before, else Syncing |
//! | the Requester does not work | False | RequesterUnreachable |
//! | trunks without a binding whose last attempt failed | False | TrunksFailing |
//! | trunks that cannot be registered as configured | False | InvalidTrunks |
//! | trunks are left out, because a limit leaves no room for them | False | OverLimit |
//! | trunks wait for their first response | False | Registering |
//! | the last refresh of trunks failed, their bindings hold | True | TrunksAtRisk |
//! | registrars with more trunks than their budget can refresh | True | BudgetTooSmall |
//! | trunks missing from a list, so many at once or so unsure that it takes a second one | True | RemovalsPendingConfirmation |
//! | no trunk at all | True | NoTrunks |
//! | | True | AllRegistered |
//!
//! A cause goes before what follows from it: without a Requester all trunks fail in the end. Registrars and
//! EdgePorts that are down are named before the trunks that wait for them. Stalled does not make Ready false
//! while the last good spec is followed, nor does an API server that is down: Ready's message mentions both.
//!
//! A message holds no time that moves on by itself: it would cause a write to the API server at each refresh.

mod conditions;
mod diff;
mod events;
mod failures;
mod outages;
mod own_words;
mod ready;
pub mod reasons;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use self::{
    conditions::ConditionStatus,
    diff::diff,
    events::{definition_differs, deregistered, events, not_deregistered},
    failures::MAX_FAILURES,
    own_words::{fingerprint, without_foreign_text},
    text::{clean, known_time as time_of},
};
use crate::{
    registry::{ConditionState, RegistryPhase, RegistryState},
    spec::status::RegistryStatus,
};
use routr_registration::engine::view::{FailureSummary, Summary};

/// State of one Registry at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// `metadata.generation` of the spec that was last looked at.
    pub generation: i64,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Reason that the spec cannot be followed; the last good one, if there was one, stays in force
    /// meanwhile.
    pub stall: Option<Stall>,
    /// Phase of the Registry.
    pub phase: Phase,
}

/// Reason that a spec is not followed. It takes a person to change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// One of [`reasons::STALLS`].
    pub reason: reasons::ConditionReason,
    /// Message in plain words, with the field at fault and what would be right; no secret.
    pub message: String,
}

/// Phase of a Registry, by the operator's work on it.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// No engine runs: there never was a good spec.
    Idle,
    /// Its engine runs.
    Running(Snapshot),
    /// Its engine runs, and sends nothing.
    Suspended(Snapshot),
    /// It is being deleted: bindings are being removed, until the deadline at the latest.
    Deregistering {
        /// State of its engine.
        snapshot: Snapshot,
        /// Milliseconds since the Unix epoch.
        deadline_ms: u64,
    },
}

/// State of an engine, as it reports it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Summary of its trunks and dependencies.
    pub summary: Summary,
    /// Worst failures.
    pub failures: FailureSummary,
    /// True when state outlives the process (Redis).
    pub durable: bool,
    /// Advice of the configuration about EdgePorts whose address providers can hardly reach: then no call
    /// arrives, however well trunks are registered.
    pub edge_port_advice: Option<Arc<str>>,
}

/// Degree to which two statuses differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Diff {
    /// Equal.
    None,
    /// Different only in what moves on by itself: the next expiry, the last sync, the next attempts, the
    /// words of messages.
    Cosmetic,
    /// Different in something that someone waits for.
    Significant,
}

/// Something for `kubectl describe` to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusEvent {
    /// True when something is wrong: a Warning, else Normal.
    pub warning: bool,
    /// One of [`reasons::EVENTS`] or [`reasons::STALLS`].
    pub reason: &'static str,
    /// Action that the operator took or takes, in CamelCase: `Register`, `Deregister`, `Configure`,
    /// `Connect`.
    pub action: &'static str,
    /// Message in plain words, at most 1 KiB.
    pub message: String,
}

/// The status as it should be now. What did not change in `before` keeps its times.
///
/// It takes less than 100 KiB as JSON, whatever trunks are called and registrars say.
pub fn status(before: Option<&RegistryStatus>, situation: &Situation) -> RegistryStatus {
    let mut status = RegistryStatus {
        observed_generation: Some(situation.generation),
        conditions: conditions::all(before, situation),
        last_sync_time: before.and_then(|before| before.last_sync_time.clone()),
        // Anyone who writes it says when.
        observed_time: before.and_then(|before| before.observed_time.clone()),
        ..RegistryStatus::default()
    };
    let Some(snapshot) = conditions::snapshot(situation) else { return status };
    let summary = &snapshot.summary;
    if let Some(ms) = summary.last_sync_ms {
        status.trunks = Some(failures::counts(summary));
        status.last_sync_time = text::known_time(ms);
        status.next_expiry_time = summary.next_expiry_ms.and_then(text::known_time);
        status.failures = failures::failures(snapshot);
        status.redirections = failures::redirections(summary);
    } else if let Some(before) = before.filter(|_| summary.api.ok != Some(false)) {
        // An engine that has just started knows nothing yet. Until then, the state of the last one is shown.
        status.trunks = before.trunks;
        status.next_expiry_time = before.next_expiry_time.clone();
        status.failures = before.failures.clone();
        status.redirections = before.redirections.clone();
    }
    status
}

/// Returns what the directory shows of a Registry: the Ready condition of its status, and what is being done.
pub fn registry_state(situation: &Situation, status: &RegistryStatus) -> RegistryState {
    let state = match (&situation.phase, &situation.stall) {
        (Phase::Deregistering { .. }, _) => RegistryPhase::Deregistering,
        (Phase::Suspended(_), _) => RegistryPhase::Suspended,
        (_, Some(_)) => RegistryPhase::Stalled,
        (Phase::Running(_), None) => RegistryPhase::Running,
        (Phase::Idle, None) => RegistryPhase::Starting,
    };
    let ready = conditions::find(status, reasons::READY);
    // Of a stall that an engine runs in spite of, Ready says nothing.
    let stalled = conditions::find(status, reasons::STALLED).filter(|_| state == RegistryPhase::Stalled);
    let shown = stalled.or(ready);
    RegistryState {
        state,
        ready: ready.is_some_and(|ready| ready.status == ConditionStatus::True.name()),
        reason: shown.map(|shown| shown.reason.clone()).unwrap_or_default(),
        message: shown.map(|shown| shown.message.clone()).unwrap_or_default(),
        conditions: status.conditions.iter().map(condition_state).collect(),
        observed_generation: status.observed_generation,
    }
}

fn condition_state(condition: &Condition) -> ConditionState {
    let status = [(ConditionStatus::True, true), (ConditionStatus::False, false)];
    let status = status.into_iter().find(|(status, _)| status.name() == condition.status);
    ConditionState {
        kind: condition.type_.as_str().into(),
        status: status.map(|(_, holds)| holds),
        reason: condition.reason.as_str().into(),
    }
}
