//! Ready and Reconciling: the two that sum up the others.

use super::{
    Phase, Situation, Snapshot,
    conditions::{ConditionStatus, ConditionUpdate, MAX_NAMED_TRUNKS, find, name, never_synced, stall_text},
    failures::total,
    outages::outages,
    reasons::{self, ConditionReason},
    text::{agree, at, clean, count, time},
};
use crate::spec::status::RegistryStatus;
use routr_registration::registration::state::TrunkState;

/// Bytes of a trunk's failure, within a message.
const MAX_FAILURE_BYTES: usize = 120;
/// Registrars over their budget that a message names.
const MAX_NAMED_REGISTRARS: usize = 3;
/// Ready is False for one of these when the trunks themselves are unhealthy.
const TRUNK_REASONS: [ConditionReason; 2] = [ConditionReason::TrunksFailing, ConditionReason::InvalidTrunks];
/// Time after which trunks that wait for their first response no longer count as in progress, in
/// milliseconds.
const PENDING_GRACE_MS: u64 = 600_000;

/// See the table of [`super`] for which reason goes first.
pub(super) fn ready(before: Option<&RegistryStatus>, situation: &Situation) -> ConditionUpdate {
    let not = |reason: ConditionReason, message: String| {
        ConditionUpdate::new(ConditionStatus::False, reason, message)
    };
    let snapshot = match &situation.phase {
        Phase::Deregistering { snapshot, deadline_ms } => {
            return not(ConditionReason::Deregistering, deregistering(snapshot, *deadline_ms));
        }
        Phase::Suspended(snapshot) => return not(ConditionReason::Suspended, suspended(snapshot)),
        Phase::Idle => {
            return match &situation.stall {
                Some(stall) => not(stall.reason, stall_text(stall)),
                None => not(
                    ConditionReason::Starting,
                    "nothing runs yet: the operator has just started to process this".to_owned(),
                ),
            };
        }
        Phase::Running(snapshot) => snapshot,
    };
    if never_synced(snapshot) {
        return not_read_yet(before, snapshot);
    }
    let mut finding = running(snapshot);
    let mut more = advisories(situation, snapshot);
    let counts = &snapshot.summary.counts;
    // The last one: it is not about registrations. Before there are any, something else is to do.
    if finding.truth == ConditionStatus::True && counts.registered + counts.at_risk > 0 {
        more.extend(snapshot.edge_port_advice.as_deref().map(str::to_owned));
    }
    for more in more {
        finding.message.push_str("; ");
        finding.message.push_str(&more);
    }
    finding
}

/// Nothing was read since the engine started. What the last one found of the trunks holds until there is
/// something new to say: a hand-over from one replica to another is no outage.
fn not_read_yet(before: Option<&RegistryStatus>, snapshot: &Snapshot) -> ConditionUpdate {
    if snapshot.summary.api.ok == Some(false) {
        let said = snapshot.summary.api.message.as_deref().unwrap_or("the API server cannot be reached");
        let message = format!("no sync has succeeded since the start: {}", clean(said, 300));
        return ConditionUpdate::new(ConditionStatus::False, ConditionReason::ApiUnreachable, message)
            .since(snapshot.summary.api.since_ms);
    }
    match before.and_then(|before| find(before, reasons::READY)) {
        Some(ready)
            if ready.status == ConditionStatus::True.name()
                || TRUNK_REASONS.iter().any(|reason| reason.name() == ready.reason) =>
        {
            ConditionUpdate::kept(ready)
        }
        _ => ConditionUpdate::new(
            ConditionStatus::False,
            ConditionReason::Syncing,
            "the first sync is under way",
        ),
    }
}

fn running(snapshot: &Snapshot) -> ConditionUpdate {
    let summary = &snapshot.summary;
    let counts = &summary.counts;
    let total = total(counts);
    let not = |reason: ConditionReason, message: String| {
        ConditionUpdate::new(ConditionStatus::False, reason, message)
    };
    let fine = |reason: ConditionReason, message: String| {
        ConditionUpdate::new(ConditionStatus::True, reason, message)
    };
    // `0 of 1 trunk is`, `0 of 2 trunks are`.
    let of = |n: u64| {
        format!(
            "{n} of {} {}",
            count(total, "trunk"),
            if n == 0 { agree(total, "is", "are") } else { agree(n, "is", "are") }
        )
    };
    if summary.requester.ok == Some(false) {
        let said = summary.requester.message.as_deref().unwrap_or("no reason given");
        let bound = counts.registered + counts.at_risk;
        let message =
            format!("the Requester does not work: {}; {} still registered", clean(said, 300), of(bound));
        return not(ConditionReason::RequesterUnreachable, message).since(summary.requester.since_ms);
    }
    // The trunks that are named may take all the room: what they wait for goes before them.
    let down = outages(summary).map_or_else(String::new, |down| format!("; {down}"));
    let list = |state, of| match list(snapshot, state, of) {
        list if list.is_empty() => down.clone(),
        list if down.is_empty() => format!(": {list}"),
        list => format!("{down}; the trunks: {list}"),
    };
    if counts.failing > 0 {
        let invalid = match counts.invalid {
            0 => String::new(),
            n => format!("; {} not valid", of(n)),
        };
        let list = list(TrunkState::Failing, counts.failing);
        return not(
            ConditionReason::TrunksFailing,
            format!("{} not registered{list}{invalid}", of(counts.failing)),
        );
    }
    if counts.invalid > 0 {
        let list = list(TrunkState::Invalid, counts.invalid);
        return not(ConditionReason::InvalidTrunks, format!("{} not valid{list}", of(counts.invalid)));
    }
    if summary.left_out > 0 {
        let why = summary.over_limits.first();
        let why = why.map_or(
            "there are as many as spec.sync.maxTrunks, or the operator's --max-trunks, allows",
            |why| why,
        );
        let left_out = summary.left_out;
        return not(
            ConditionReason::OverLimit,
            format!("{} {} left out: {why}", count(left_out, "trunk"), agree(left_out, "is", "are")),
        );
    }
    if counts.pending > 0 {
        let verb = agree(counts.pending, "waits", "wait");
        let message = format!(
            "{} registered, {} {verb} for the first response{down}",
            of(counts.registered + counts.at_risk),
            counts.pending
        );
        return not(ConditionReason::Registering, message);
    }
    let message = if counts.at_risk > 0 {
        let list = list(TrunkState::AtRisk, counts.at_risk);
        format!("{} registered, but the last refresh failed{list}", of(counts.at_risk))
    } else {
        match total {
            0 => "the API server lists no trunk with sendRegister: true".to_owned(),
            1 => format!("the only trunk is registered{down}"),
            n => format!("all {n} trunks are registered{down}"),
        }
    };
    let reason = if counts.at_risk > 0 {
        ConditionReason::TrunksAtRisk
    } else if !summary.over_budget.is_empty() {
        ConditionReason::BudgetTooSmall
    } else if summary.removals_pending_confirmation > 0 {
        ConditionReason::RemovalsPendingConfirmation
    } else if total == 0 {
        ConditionReason::NoTrunks
    } else {
        ConditionReason::AllRegistered
    };
    fine(reason, message)
}

/// Returns what is worth a word whatever else is said. Those that matter most come first: the end may be cut.
fn advisories(situation: &Situation, snapshot: &Snapshot) -> Vec<String> {
    let summary = &snapshot.summary;
    let mut advisories = Vec::new();
    if situation.stall.is_some() {
        advisories.push("the current spec is not applied: see Stalled".to_owned());
    }
    if summary.api.ok == Some(false) {
        advisories.push("changes of trunks are not seen: see APIReachable".to_owned());
    }
    // Where nothing can be sent at all, it is not the budget that is too small.
    if summary.requester.ok != Some(false) {
        advisories.extend(over_budget(&summary.over_budget));
    }
    // What left trunks out is said above.
    advisories.extend(summary.over_limits.iter().skip(usize::from(summary.left_out > 0)).cloned());
    if summary.removals_pending_confirmation > 0 {
        advisories.push(removals_pending_confirmation(summary.removals_pending_confirmation));
    }
    advisories
}

/// Returns what is said of registrars over their budget, if there are any.
pub(super) fn over_budget(registrars: &[String]) -> Option<String> {
    let named: Vec<String> =
        registrars.iter().take(MAX_NAMED_REGISTRARS).map(|host| clean(host, 60)).collect();
    let more = registrars.len().saturating_sub(MAX_NAMED_REGISTRARS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| {
        format!(
            "the trunks at {}{more} are too many for spec.registration.ratePerRegistrar: bindings will expire there",
            named.join(", ")
        )
    })
}

pub(super) fn removals_pending_confirmation(n: u64) -> String {
    format!(
        "{} {} no longer listed; a second sync has to confirm it before they are deregistered",
        count(n, "trunk"),
        agree(n, "is", "are")
    )
}

/// `a since ...: why; b ...; and 5 more`, the worst in that state; empty where none is at hand.
fn list(snapshot: &Snapshot, state: TrunkState, of: u64) -> String {
    let named: Vec<String> = snapshot
        .failures
        .worst
        .iter()
        .filter(|trunk| trunk.state == state)
        .take(MAX_NAMED_TRUNKS)
        .map(|trunk| {
            let failure = trunk.failure.as_ref();
            let since = failure.filter(|failure| failure.since_ms > 0);
            let since = since.map_or_else(String::new, |failure| format!(" since {}", at(failure.since_ms)));
            let why = failure.map_or_else(String::new, |failure| clean(&failure.message, MAX_FAILURE_BYTES));
            let why = if why.is_empty() { why } else { format!(": {why}") };
            format!("{}{since}{why}", name(trunk))
        })
        .collect();
    if named.is_empty() {
        return String::new();
    }
    let more = of.saturating_sub(named.len() as u64);
    let more = if more > 0 { format!("; and {more} more, see status.failures") } else { String::new() };
    format!("{}{more}", named.join("; "))
}

fn suspended(snapshot: &Snapshot) -> String {
    let why = "nothing is sent because spec.suspend is true: bindings expire";
    if never_synced(snapshot) {
        return why.to_owned();
    }
    let counts = &snapshot.summary.counts;
    let total = total(counts);
    let bound = counts.registered + counts.at_risk;
    format!("{why}; {bound} of {} still {} one", count(total, "trunk"), agree(bound, "has", "have"))
}

fn deregistering(snapshot: &Snapshot, deadline_ms: u64) -> String {
    let counts = &snapshot.summary.counts;
    let left = match counts.deregistering + counts.registered + counts.at_risk {
        _ if never_synced(snapshot) => "the first sync has to complete".to_owned(),
        left => format!("{left} left"),
    };
    let mut message = format!(
        "the bindings are being removed because the resource is being deleted: {left}, until {} at the latest",
        at(deadline_ms)
    );
    if snapshot.summary.requester.ok == Some(false) {
        message.push_str("; the Requester does not work: see RequesterReachable");
    } else if let Some(down) = outages(&snapshot.summary) {
        message.push_str("; ");
        message.push_str(&down);
    }
    message
}

/// kstatus: whether it is in progress, so that waiting helps.
pub(super) fn reconciling(before: Option<&RegistryStatus>, situation: &Situation) -> ConditionUpdate {
    let yes =
        |reason: ConditionReason, message: &str| ConditionUpdate::new(ConditionStatus::True, reason, message);
    let no = |reason: ConditionReason, message: &str| {
        ConditionUpdate::new(ConditionStatus::False, reason, message)
    };
    let snapshot = match &situation.phase {
        Phase::Deregistering { .. } => {
            return yes(ConditionReason::Deregistering, "the bindings are being removed");
        }
        _ if situation.stall.is_some() => {
            return no(ConditionReason::Stalled, "the spec has to be corrected: see Stalled");
        }
        Phase::Idle => {
            return yes(ConditionReason::Starting, "the operator has just started to process this");
        }
        Phase::Suspended(_) => return no(ConditionReason::Suspended, "spec.suspend is true"),
        Phase::Running(snapshot) => snapshot,
    };
    let counts = &snapshot.summary.counts;
    if never_synced(snapshot) {
        return yes(ConditionReason::Syncing, "the first sync since the start is under way");
    }
    if snapshot.summary.requester.ok == Some(false) {
        return no(
            ConditionReason::RequesterUnreachable,
            "the Requester has to work first: see RequesterReachable",
        );
    }
    if counts.failing + counts.invalid > 0 {
        return no(
            ConditionReason::TrunksUnhealthy,
            "trunks fail or are invalid: see Ready and status.failures",
        );
    }
    if counts.pending == 0 {
        return no(ConditionReason::Settled, "every trunk was registered");
    }
    let earlier = before.and_then(|before| find(before, reasons::RECONCILING));
    let too_long = earlier.is_some_and(|earlier| match (&*earlier.status, &*earlier.reason) {
        ("True", reason) if reason == ConditionReason::Registering.name() => {
            earlier.last_transition_time <= time(situation.now_ms.saturating_sub(PENDING_GRACE_MS))
        }
        (_, reason) => reason == ConditionReason::TrunksPending.name(),
    });
    if too_long {
        no(
            ConditionReason::TrunksPending,
            "trunks have been waiting for their first response for more than ten minutes",
        )
    } else {
        yes(ConditionReason::Registering, "trunks wait for their first response")
    }
}
