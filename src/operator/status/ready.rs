//! Ready and Reconciling: the two that sum up the others.

use super::{
    Phase, Situation, Snapshot,
    conditions::{Finding, NAMED, Truth, find, name, never_read, words_of},
    failures::total,
    outages::outages,
    reasons,
    words::{agree, at, clean, count, time},
};
use crate::{engine::view::TrunkState, spec::status::RegistryStatus};

/// Bytes of a trunk's trouble, within a message.
const MAX_TROUBLE: usize = 120;
/// Registrars over their budget that a message names.
const NAMED_REGISTRARS: usize = 3;
/// Ready is False for one of these when the trunks themselves are in trouble.
const ABOUT_TRUNKS: [&str; 2] = ["TrunksFailing", "InvalidTrunks"];
/// Trunks that wait for their first answer for longer than this are no longer a way to somewhere, in milliseconds.
const PATIENCE_MS: u64 = 600_000;

/// See the table of [`super`] for which reason goes first.
pub(super) fn ready(before: Option<&RegistryStatus>, situation: &Situation) -> Finding {
    let not = |reason: &str, message: String| Finding::new(Truth::False, reason, message);
    let snapshot = match &situation.phase {
        Phase::Leaving { snapshot, deadline_ms } => {
            return not("Deregistering", deregistering(snapshot, *deadline_ms));
        }
        Phase::Suspended(snapshot) => return not("Suspended", suspended(snapshot)),
        Phase::Idle => {
            return match &situation.stall {
                Some(stall) => not(stall.reason, words_of(stall)),
                None => not(
                    "Starting",
                    "nothing runs yet: the operator has just started to process this".to_owned(),
                ),
            };
        }
        Phase::Running(snapshot) => snapshot,
    };
    if never_read(snapshot) {
        return not_read_yet(before, snapshot);
    }
    let mut finding = running(snapshot);
    for more in asides(situation, snapshot) {
        finding.message.push_str("; ");
        finding.message.push_str(&more);
    }
    finding
}

/// Nothing was read since the engine started. What the last one found of the trunks holds until there is something new to
/// say: a hand-over from one replica to another is no outage.
fn not_read_yet(before: Option<&RegistryStatus>, snapshot: &Snapshot) -> Finding {
    if snapshot.summary.api.ok == Some(false) {
        let said = snapshot.summary.api.message.as_deref().unwrap_or("the API server cannot be reached");
        let message = format!("no sync has succeeded since the start: {}", clean(said, 300));
        return Finding::new(Truth::False, "APIUnreachable", message).since(snapshot.summary.api.since_ms);
    }
    match before.and_then(|before| find(before, reasons::READY)) {
        Some(ready) if ready.status == Truth::True.name() || ABOUT_TRUNKS.contains(&&*ready.reason) => {
            Finding::kept(ready)
        }
        _ => Finding::new(Truth::False, "ReadingTrunks", "the first sync is under way"),
    }
}

fn running(snapshot: &Snapshot) -> Finding {
    let summary = &snapshot.summary;
    let counts = &summary.counts;
    let total = total(counts);
    let not = |reason: &str, message: String| Finding::new(Truth::False, reason, message);
    let fine = |reason: &str, message: String| Finding::new(Truth::True, reason, message);
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
        return not("RequesterUnreachable", message).since(summary.requester.since_ms);
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
        return not("TrunksFailing", format!("{} not registered{list}{invalid}", of(counts.failing)));
    }
    if counts.invalid > 0 {
        let list = list(TrunkState::Invalid, counts.invalid);
        return not("InvalidTrunks", format!("{} not valid{list}", of(counts.invalid)));
    }
    if summary.left_out > 0 {
        let why = summary.over_limits.first();
        let why = why.map_or(
            "there are as many as spec.sync.maxTrunks, or the operator's --max-trunks, allows",
            |why| why,
        );
        let left_out = summary.left_out;
        return not(
            "OverLimit",
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
        return not("Registering", message);
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
        "TrunksAtRisk"
    } else if !summary.over_budget.is_empty() {
        "BudgetTooSmall"
    } else if summary.removals_held > 0 {
        "RemovalsHeld"
    } else if total == 0 {
        "NoTrunks"
    } else {
        "AllRegistered"
    };
    fine(reason, message)
}

/// What is worth a word whatever else is said. Those that matter most come first: the end may be cut.
fn asides(situation: &Situation, snapshot: &Snapshot) -> Vec<String> {
    let summary = &snapshot.summary;
    let mut asides = Vec::new();
    if situation.stall.is_some() {
        asides.push("the current spec is not applied: see Stalled".to_owned());
    }
    if summary.api.ok == Some(false) {
        asides.push("changes of trunks are not seen: see APIReachable".to_owned());
    }
    // Where nothing can be sent at all, it is not the budget that is too small.
    if summary.requester.ok != Some(false) {
        asides.extend(over_budget(&summary.over_budget));
    }
    // What left trunks out is said above.
    asides.extend(summary.over_limits.iter().skip(usize::from(summary.left_out > 0)).cloned());
    if summary.removals_held > 0 {
        asides.push(removals_held(summary.removals_held));
    }
    asides
}

/// What is said of registrars over their budget, if there are any.
pub(super) fn over_budget(registrars: &[String]) -> Option<String> {
    let named: Vec<String> = registrars.iter().take(NAMED_REGISTRARS).map(|host| clean(host, 60)).collect();
    let more = registrars.len().saturating_sub(NAMED_REGISTRARS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| {
        format!(
            "the trunks at {}{more} are too many for spec.registration.ratePerRegistrar: bindings will expire there",
            named.join(", ")
        )
    })
}

pub(super) fn removals_held(n: u64) -> String {
    format!(
        "{} {} no longer listed; a second sync has to confirm it before they are deregistered",
        count(n, "trunk"),
        agree(n, "is", "are")
    )
}

/// `a since ...: why; b ...; and 5 more`, the worst in that state; empty where none is at hand.
fn list(snapshot: &Snapshot, state: TrunkState, of: u64) -> String {
    let named: Vec<String> = snapshot
        .troubles
        .worst
        .iter()
        .filter(|trunk| trunk.state == state)
        .take(NAMED)
        .map(|trunk| {
            let trouble = trunk.trouble.as_ref();
            let since = trouble.filter(|trouble| trouble.since_ms > 0);
            let since = since.map_or_else(String::new, |trouble| format!(" since {}", at(trouble.since_ms)));
            let why = trouble.map_or_else(String::new, |trouble| clean(&trouble.message, MAX_TROUBLE));
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
    if never_read(snapshot) {
        return why.to_owned();
    }
    let counts = &snapshot.summary.counts;
    let total = total(counts);
    let bound = counts.registered + counts.at_risk;
    format!("{why}; {bound} of {} still {} one", count(total, "trunk"), agree(bound, "has", "have"))
}

fn deregistering(snapshot: &Snapshot, deadline_ms: u64) -> String {
    let counts = &snapshot.summary.counts;
    let left = match counts.leaving + counts.registered + counts.at_risk {
        _ if never_read(snapshot) => "the first sync has to complete".to_owned(),
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

/// kstatus: whether it is on its way, and waiting makes sense.
pub(super) fn reconciling(before: Option<&RegistryStatus>, situation: &Situation) -> Finding {
    let yes = |reason: &str, message: &str| Finding::new(Truth::True, reason, message);
    let no = |reason: &str, message: &str| Finding::new(Truth::False, reason, message);
    let snapshot = match &situation.phase {
        Phase::Leaving { .. } => return yes("Deregistering", "the bindings are being removed"),
        _ if situation.stall.is_some() => {
            return no("Stalled", "the spec has to be corrected: see Stalled");
        }
        Phase::Idle => return yes("Starting", "the operator has just started to process this"),
        Phase::Suspended(_) => return no("Suspended", "spec.suspend is true"),
        Phase::Running(snapshot) => snapshot,
    };
    let counts = &snapshot.summary.counts;
    if never_read(snapshot) {
        return yes("ReadingTrunks", "the first sync since the start is under way");
    }
    if snapshot.summary.requester.ok == Some(false) {
        return no("RequesterUnreachable", "the Requester has to work first: see RequesterReachable");
    }
    if counts.failing + counts.invalid > 0 {
        return no("TrunksInTrouble", "trunks fail or are invalid: see Ready and status.failures");
    }
    if counts.pending == 0 {
        return no("Settled", "every trunk was registered");
    }
    let earlier = before.and_then(|before| find(before, reasons::RECONCILING));
    let too_long = earlier.is_some_and(|earlier| match (&*earlier.status, &*earlier.reason) {
        ("True", "Registering") => {
            earlier.last_transition_time <= time(situation.now_ms.saturating_sub(PATIENCE_MS))
        }
        (_, reason) => reason == "TrunksPending",
    });
    if too_long {
        no("TrunksPending", "trunks have been waiting for their first response for more than ten minutes")
    } else {
        yes("Registering", "trunks wait for their first response")
    }
}
