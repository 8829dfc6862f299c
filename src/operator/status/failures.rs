//! Counts, and the worst failures.

use super::{
    Snapshot,
    words::{clean, known_time, signed},
};
use crate::{
    engine::view::{Counts, RedirectedTrunk, Summary, TrunkState, TrunkView},
    spec::status::{TrunkCounts, TrunkFailure, TrunkRedirection},
};

/// Most failures that are shown.
pub const MAX_FAILURES: usize = 50;
/// Most redirected trunks that are shown.
const MAX_REDIRECTIONS: usize = 10;
/// Bytes of a ref or a name, as JSON.
const MAX_NAME: usize = 128;
/// Bytes of a registrar (the longest host name, port and transport) or an EdgePort.
const MAX_TARGET: usize = 280;
/// Bytes of a message. Fifty failures stay under 75 KiB.
const MAX_MESSAGE: usize = 400;

/// Trunks that are to be registered.
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
        leaving: signed(counts.leaving),
        failed_over: signed(summary.failed_over),
        redirected: signed(summary.redirected),
    }
}

pub(super) fn failures(snapshot: &Snapshot) -> Vec<TrunkFailure> {
    let bad = [TrunkState::AtRisk, TrunkState::Failing, TrunkState::Invalid];
    let worst = snapshot.troubles.worst.iter().filter(|trunk| bad.contains(&trunk.state));
    worst.take(MAX_FAILURES).map(failure).collect()
}

/// Trunks that are redirected.
pub(super) fn redirections(summary: &Summary) -> Vec<TrunkRedirection> {
    let one = |trunk: &RedirectedTrunk| TrunkRedirection {
        reference: clean(&trunk.reference, MAX_NAME),
        from: clean(&trunk.redirection.from, MAX_TARGET),
        to: clean(&trunk.redirection.to, MAX_TARGET),
        until_time: known_time(trunk.redirection.until_ms),
    };
    summary.redirections.iter().take(MAX_REDIRECTIONS).map(one).collect()
}

fn failure(trunk: &TrunkView) -> TrunkFailure {
    let trouble = trunk.trouble.as_ref();
    let reason = trouble.map_or_else(String::new, |trouble| clean(&trouble.reason, 64));
    TrunkFailure {
        reference: clean(&trunk.reference, MAX_NAME),
        name: clean(&trunk.name, MAX_NAME),
        state: trunk.state.name().to_owned(),
        registrar: clean(&trunk.registrar, MAX_TARGET),
        edge_port: clean(&trunk.edge_port, MAX_TARGET),
        failed_over: trunk.failed_over,
        code: trouble.and_then(|trouble| trouble.code).map(i64::from),
        reason: if reason.is_empty() { "Unknown".to_owned() } else { reason },
        message: trouble.map_or_else(String::new, |trouble| clean(&trouble.message, MAX_MESSAGE)),
        since: trouble.and_then(|trouble| known_time(trouble.since_ms)),
        next_try: trunk.next_at_ms.and_then(known_time),
        lapses: trunk.expires_at_ms.filter(|_| trunk.state == TrunkState::AtRisk).and_then(known_time),
    }
}
