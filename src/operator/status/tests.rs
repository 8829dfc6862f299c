//! Tables for each condition and fault, transitions, and what must hold of every status.

mod bounds;
mod events;
mod faults;
mod outages;
mod reference;
mod transition_times;
mod whole_causes;

use super::*;
use routr_registration::{
    engine::view::{Counts, DependencyFailure, Down, Health, TrunkFailure, TrunkView},
    registration::state::TrunkState,
};

/// 2026-09-21T14:13:20Z.
pub(super) const NOW: u64 = 1_790_000_000_000;
pub(super) const MINUTE: u64 = 60_000;

pub(super) fn healthy() -> Health {
    Health { ok: Some(true), message: None, reason: None, since_ms: NOW - 60 * MINUTE }
}

pub(super) fn broken(fault: DependencyFailure, message: &str) -> Health {
    Health {
        ok: Some(false),
        message: Some(message.to_owned()),
        reason: Some(fault),
        since_ms: NOW - 5 * MINUTE,
    }
}

pub(super) fn counts(registered: u64, at_risk: u64, failing: u64, invalid: u64, pending: u64) -> Counts {
    Counts { registered, at_risk, failing, invalid, pending, deregistering: 0 }
}

/// All dependencies work, and Redis keeps the state.
pub(super) fn snapshot(counts: Counts) -> Snapshot {
    let summary = Summary {
        counts,
        api: healthy(),
        requester: healthy(),
        cache: healthy(),
        last_sync_ms: Some(NOW - 10_000),
        next_expiry_ms: Some(NOW + 42_500),
        ..Summary::default()
    };
    Snapshot { summary, durable: true, ..Snapshot::default() }
}

/// Nothing was read or tried yet.
pub(super) fn fresh() -> Snapshot {
    Snapshot { durable: true, ..Snapshot::default() }
}

pub(super) fn trunk(reference: &str, state: TrunkState, reason: &str, message: &str) -> TrunkView {
    TrunkView {
        reference: reference.to_owned(),
        name: format!("pbx of {reference}"),
        state,
        aor: "pbx@sip.provider.net".to_owned(),
        registrar: "sip.provider.net:5060/UDP".to_owned(),
        edge_port: "edge:5060".to_owned(),
        failed_over: false,
        redirected: None,
        omitted_option_tags: Vec::new(),
        expires_at_ms: (state == TrunkState::AtRisk).then_some(NOW + 90_000),
        next_at_ms: Some(NOW + 30_000),
        in_flight: false,
        next: "retry".to_owned(),
        failures: 3,
        failure: Some(TrunkFailure {
            reason: reason.to_owned(),
            code: Some(403),
            message: message.to_owned(),
            since_ms: NOW - 7 * MINUTE,
        }),
        call_id: "call".to_owned(),
        cseq: 9,
    }
}

pub(super) const REFUSED: &str = "the registrar responded with 403 Forbidden; check username and password";

/// Adds trunks that the registrar refuses, and counts them.
pub(super) fn rejecting(mut snapshot: Snapshot, refs: &[&str], reason: &str) -> Snapshot {
    snapshot.summary.counts.failing += refs.len() as u64;
    *snapshot.failures.by_reason.entry(reason.to_owned()).or_default() += refs.len() as u64;
    let trunks = refs.iter().map(|reference| trunk(reference, TrunkState::Failing, reason, REFUSED));
    snapshot.failures.worst.extend(trunks);
    snapshot
}

pub(super) fn situation(phase: Phase) -> Situation {
    Situation { generation: 3, now_ms: NOW, stall: None, phase }
}

pub(super) fn running(snapshot: Snapshot) -> Situation {
    situation(Phase::Running(snapshot))
}

pub(super) fn stalled(reason: reasons::ConditionReason, phase: Phase) -> Situation {
    let message = "spec.edgePorts[0].address: \"a b\" is no address: write host:port".to_owned();
    Situation { stall: Some(Stall { reason, message }), ..situation(phase) }
}

/// The same, `ms` milliseconds later.
pub(super) fn later(situation: Situation, ms: u64) -> Situation {
    Situation { now_ms: situation.now_ms + ms, ..situation }
}

/// Returns whether docs/status.md has the reason of an event.
pub(super) fn is_documented(reason: &str) -> bool {
    let own = reasons::EVENTS.map(reasons::EventReason::name);
    own.contains(&reason) || reasons::STALLS.map(reasons::ConditionReason::name).contains(&reason)
}

/// `True/AllRegistered`.
pub(super) fn brief(status: &RegistryStatus, kind: &str) -> String {
    let condition = conditions::find(status, kind).unwrap();
    format!("{}/{}", condition.status, condition.reason)
}

pub(super) fn message(status: &RegistryStatus, kind: &str) -> String {
    conditions::find(status, kind).unwrap().message.clone()
}

/// Returns the time when a condition changed, in milliseconds since the Unix epoch.
pub(super) fn changed(status: &RegistryStatus, kind: &str) -> u64 {
    let time = conditions::find(status, kind).unwrap().last_transition_time.0;
    u64::try_from(time.as_millisecond()).unwrap()
}
