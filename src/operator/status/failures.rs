//! Counts, and the worst failures.

use super::{
    Snapshot,
    text::{clean, known_time, signed},
};
use crate::spec::status::{TrunkCounts, TrunkFailure, TrunkRedirection};
use routr_registration::{
    engine::view::{Counts, RedirectedTrunk, Summary, TrunkView},
    registration::state::TrunkState,
};

/// Most failures that are shown.
pub const MAX_FAILURES: usize = 50;
/// Most redirected trunks that are shown.
const MAX_REDIRECTIONS: usize = 10;
/// Bytes of a ref or a name, as JSON.
const MAX_NAME_BYTES: usize = 128;
/// Bytes of a registrar (the longest host name, port and transport) or an EdgePort.
const MAX_TARGET: usize = 280;
/// Bytes of a message. Fifty failures stay under 75 KiB.
const MAX_MESSAGE_BYTES: usize = 400;

/// Trunks that want to be registered.
pub(super) fn total(counts: &Counts) -> u64 {
    counts.registered + counts.at_risk + counts.failing + counts.invalid + counts.pending
}

pub(super) fn counts(summary: &Summary) -> TrunkCounts {
    let counts = &summary.counts;
    TrunkCounts {
        total: signed(total(counts)),
        registered: signed(counts.registered),
        at_risk: signed(counts.at_risk),
        failing: signed(counts.failing),
        invalid: signed(counts.invalid),
        pending: signed(counts.pending),
        deregistering: signed(counts.deregistering),
        failed_over: signed(summary.failed_over),
        redirected: signed(summary.redirected),
    }
}

pub(super) fn failures(snapshot: &Snapshot) -> Vec<TrunkFailure> {
    let bad = [TrunkState::AtRisk, TrunkState::Failing, TrunkState::Invalid];
    let worst = snapshot.failures.worst.iter().filter(|trunk| bad.contains(&trunk.state));
    worst.take(MAX_FAILURES).map(failure).collect()
}

/// Trunks that are redirected.
pub(super) fn redirections(summary: &Summary) -> Vec<TrunkRedirection> {
    let one = |trunk: &RedirectedTrunk| TrunkRedirection {
        reference: clean(&trunk.reference, MAX_NAME_BYTES),
        from: clean(&trunk.redirection.from, MAX_TARGET),
        to: clean(&trunk.redirection.to, MAX_TARGET),
        until_time: known_time(trunk.redirection.until_ms),
    };
    summary.redirections.iter().take(MAX_REDIRECTIONS).map(one).collect()
}

fn failure(trunk: &TrunkView) -> TrunkFailure {
    let failure = trunk.failure.as_ref();
    let reason = failure.map_or_else(String::new, |failure| clean(&failure.reason, 64));
    TrunkFailure {
        reference: clean(&trunk.reference, MAX_NAME_BYTES),
        name: clean(&trunk.name, MAX_NAME_BYTES),
        state: trunk.state.name().to_owned(),
        registrar: clean(&trunk.registrar, MAX_TARGET),
        edge_port: clean(&trunk.edge_port, MAX_TARGET),
        failed_over: trunk.failed_over,
        code: failure.and_then(|failure| failure.code).map(i64::from),
        reason: if reason.is_empty() { "Unknown".to_owned() } else { reason },
        message: failure.map_or_else(String::new, |failure| clean(&failure.message, MAX_MESSAGE_BYTES)),
        since_time: failure.and_then(|failure| known_time(failure.since_ms)),
        next_attempt_time: trunk.next_at_ms.and_then(known_time),
        expiry_time: trunk.expires_at_ms.filter(|_| trunk.state == TrunkState::AtRisk).and_then(known_time),
    }
}
