//! Counts, and the worst failures.

use super::{
    Snapshot,
    words::{clean, known_time, signed},
};
use crate::{
    engine::view::{Counts, TrunkState, TrunkView},
    spec::status::{TrunkCounts, TrunkFailure},
};

/// Most failures that are shown.
pub const MAX_FAILURES: usize = 50;
/// Bytes of a ref, a name, a registrar and a message, as JSON. Fifty of each stay under 60 KiB.
const MAX_BYTES: (usize, usize, usize, usize) = (128, 128, 280, 400);

/// Trunks that are to be registered.
pub(super) fn total(counts: &Counts) -> u64 {
    counts.registered + counts.at_risk + counts.failing + counts.invalid + counts.pending
}

pub(super) fn counts(counts: &Counts) -> TrunkCounts {
    TrunkCounts {
        total: signed(total(counts)),
        registered: signed(counts.registered),
        at_risk: signed(counts.at_risk),
        failing: signed(counts.failing),
        invalid: signed(counts.invalid),
        pending: signed(counts.pending),
        leaving: signed(counts.leaving),
    }
}

pub(super) fn failures(snapshot: &Snapshot) -> Vec<TrunkFailure> {
    let bad = [TrunkState::AtRisk, TrunkState::Failing, TrunkState::Invalid];
    let worst = snapshot.troubles.worst.iter().filter(|trunk| bad.contains(&trunk.state));
    worst.take(MAX_FAILURES).map(failure).collect()
}

fn failure(trunk: &TrunkView) -> TrunkFailure {
    let trouble = trunk.trouble.as_ref();
    let reason = trouble.map_or_else(String::new, |trouble| clean(&trouble.reason, 64));
    TrunkFailure {
        reference: clean(&trunk.reference, MAX_BYTES.0),
        name: clean(&trunk.name, MAX_BYTES.1),
        state: trunk.state.name().to_owned(),
        registrar: clean(&trunk.registrar, MAX_BYTES.2),
        code: trouble.and_then(|trouble| trouble.code).map(i64::from),
        reason: if reason.is_empty() { "Unknown".to_owned() } else { reason },
        message: trouble.map_or_else(String::new, |trouble| clean(&trouble.message, MAX_BYTES.3)),
        since: trouble.and_then(|trouble| known_time(trouble.since_ms)),
        next_try: trunk.next_at_ms.and_then(known_time),
        lapses: trunk.expires_at_ms.filter(|_| trunk.state == TrunkState::AtRisk).and_then(known_time),
    }
}
