//! Conditions: what is found of each, and since when it is so.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    Phase, Situation, Snapshot, Stall,
    reasons::{self, ConditionReason},
    text::{agree, clean, count, time},
};
use crate::spec::status::RegistryStatus;
use routr_registration::{
    engine::view::{DependencyFailure, Health, TrunkView},
    registration::outcome::Reason,
};

/// Bytes of a condition's message.
const MAX_MESSAGE_BYTES: usize = 1_000;
/// Bytes of what a dependency or the engine said of itself, within a message.
const MAX_QUOTED_BYTES: usize = 400;
/// Bytes of a name within a message.
const MAX_NAME_BYTES: usize = 60;
/// Trunks that a message names.
pub(super) const MAX_NAMED_TRUNKS: usize = 3;
/// Rejections by the registrars that concern the user or the password.
pub(super) const REJECTION_REASONS: [Reason; 2] = [Reason::CredentialsRejected, Reason::UnknownAccount];

/// Returns whether a trunk's reason is a rejection of the user or the password.
pub(super) fn is_rejection(reason: &str) -> bool {
    REJECTION_REASONS.iter().any(|rejection| rejection.name() == reason)
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// No one knows.
    Unknown,
}

impl ConditionStatus {
    /// Returns the word that Kubernetes writes.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// New state of a condition.
#[derive(Debug, PartialEq)]
pub(super) struct ConditionUpdate {
    pub truth: ConditionStatus,
    pub reason: Cow<'static, str>,
    pub message: String,
    /// Moment since which it is so, in milliseconds since the Unix epoch; 0 where that is not known.
    pub since_ms: u64,
}

impl ConditionUpdate {
    pub fn new(truth: ConditionStatus, reason: ConditionReason, message: impl Into<String>) -> Self {
        Self { truth, reason: reason.name().into(), message: message.into(), since_ms: 0 }
    }

    pub fn since(self, since_ms: u64) -> Self {
        Self { since_ms, ..self }
    }

    /// It stays as it was.
    pub fn kept(condition: &Condition) -> Self {
        let truth = match &*condition.status {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        };
        let (reason, message) = (condition.reason.clone().into(), condition.message.clone());
        Self { truth, reason, message, since_ms: 0 }
    }

    /// The condition. Its time is kept from `before` while its status stays the same; else it is the moment
    /// when it changed, where that is known and can be, or now.
    pub fn condition(self, kind: &str, before: Option<&RegistryStatus>, situation: &Situation) -> Condition {
        let before = before.and_then(|before| find(before, kind));
        let status = self.truth.name();
        let last_transition_time = match before {
            Some(before) if before.status == status => before.last_transition_time.clone(),
            _ => {
                let possible = self.since_ms > 0
                    && self.since_ms <= situation.now_ms
                    && before.is_none_or(|before| time(self.since_ms) >= before.last_transition_time);
                time(if possible { self.since_ms } else { situation.now_ms })
            }
        };
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason.into_owned(),
            message: clean(&self.message, MAX_MESSAGE_BYTES),
            last_transition_time,
            observed_generation: Some(situation.generation),
        }
    }
}

/// A condition of a status.
pub(super) fn find<'a>(status: &'a RegistryStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Returns what an engine says of itself, where one runs.
pub(super) fn snapshot(situation: &Situation) -> Option<&Snapshot> {
    match &situation.phase {
        Phase::Idle => None,
        Phase::Running(snapshot) | Phase::Suspended(snapshot) | Phase::Deregistering { snapshot, .. } => {
            Some(snapshot)
        }
    }
}

/// The conditions, in the order of [`reasons::CONDITIONS`].
pub(super) fn all(before: Option<&RegistryStatus>, situation: &Situation) -> Vec<Condition> {
    let findings = [
        super::ready::ready(before, situation),
        super::ready::reconciling(before, situation),
        stalled(situation),
        handed_over(before, situation, reasons::API_REACHABLE, api(situation)),
        handed_over(before, situation, reasons::REQUESTER_REACHABLE, requester(situation)),
        handed_over(before, situation, reasons::CACHE_REACHABLE, cache(situation)),
        credentials(before, situation),
    ];
    let named = reasons::CONDITIONS.into_iter().zip(findings);
    named.map(|(kind, finding)| finding.condition(kind, before, situation)).collect()
}

fn stalled(situation: &Situation) -> ConditionUpdate {
    match (&situation.stall, &situation.phase) {
        (None, _) | (_, Phase::Deregistering { .. }) => ConditionUpdate::new(
            ConditionStatus::False,
            ConditionReason::NotStalled,
            "the spec is valid and applied",
        ),
        (Some(stall), phase) => {
            let goes_on = match phase {
                Phase::Idle
                    if [ConditionReason::CannotStart, ConditionReason::TooManyRegistries]
                        .contains(&stall.reason) =>
                {
                    "; nothing runs"
                }
                Phase::Idle => "; nothing runs until that is corrected",
                _ => "; the last valid spec keeps running",
            };
            ConditionUpdate::new(
                ConditionStatus::True,
                stall.reason,
                format!("{}{goes_on}", stall_text(stall)),
            )
        }
    }
}

/// Returns what a stall says, which leaves room for more.
pub(super) fn stall_text(stall: &Stall) -> String {
    let words = clean(&stall.message, MAX_MESSAGE_BYTES - 100);
    if words.is_empty() { "the spec cannot be applied".to_owned() } else { words }
}

/// A dependency is taken to be as it was for the engine before this one until it has been tried: a hand-over
/// after which nothing is due for minutes is no news. What worked is no longer believed after a change of the
/// specification; what did not work has to be seen to work.
fn handed_over(
    before: Option<&RegistryStatus>,
    situation: &Situation,
    kind: &str,
    finding: ConditionUpdate,
) -> ConditionUpdate {
    let was = before.and_then(|before| find(before, kind)).filter(|was| {
        let same = was.observed_generation == Some(situation.generation);
        was.status == "False"
            || (same && was.status == "True" && was.reason == ConditionReason::Reachable.name())
    });
    match was {
        Some(was)
            if finding.truth == ConditionStatus::Unknown
                && finding.reason == ConditionReason::NotProbed.name() =>
        {
            ConditionUpdate::kept(was)
        }
        _ => finding,
    }
}

fn not_running() -> ConditionUpdate {
    ConditionUpdate::new(ConditionStatus::Unknown, ConditionReason::NotRunning, "nothing runs yet")
}

/// Returns what a dependency said, or that it said nothing.
fn said(health: &Health) -> String {
    match &health.message {
        Some(message) if !message.is_empty() => clean(message, MAX_QUOTED_BYTES),
        _ => "no reason given".to_owned(),
    }
}

fn api(situation: &Situation) -> ConditionUpdate {
    let Some(snapshot) = snapshot(situation) else { return not_running() };
    let health = &snapshot.summary.api;
    let (truth, reason, message) = match (health.ok, health.reason) {
        (None, _) => (
            ConditionStatus::Unknown,
            ConditionReason::NotProbed,
            "the first sync since the start is under way".to_owned(),
        ),
        (Some(true), _) => {
            (ConditionStatus::True, ConditionReason::Reachable, "the last sync was complete".to_owned())
        }
        (Some(false), fault) => {
            let reason = match fault {
                Some(DependencyFailure::Timeout) => ConditionReason::Timeout,
                Some(
                    DependencyFailure::Refused
                    | DependencyFailure::Unauthorized
                    | DependencyFailure::Taken
                    | DependencyFailure::Shared,
                ) => ConditionReason::Refused,
                Some(DependencyFailure::Malformed) => ConditionReason::MalformedResponse,
                Some(DependencyFailure::TooMuch) => ConditionReason::OverLimit,
                Some(DependencyFailure::Unreachable) | None => ConditionReason::Unreachable,
            };
            let effect = if snapshot.summary.last_sync_ms.is_some() {
                "the trunks of the last sync stay registered, changes are not seen, and the operator retries"
            } else {
                "no trunk is known yet, and the operator retries"
            };
            (ConditionStatus::False, reason, format!("{}; {effect}", said(health)))
        }
    };
    ConditionUpdate::new(truth, reason, message).since(health.since_ms)
}

fn requester(situation: &Situation) -> ConditionUpdate {
    let Some(snapshot) = snapshot(situation) else { return not_running() };
    let health = &snapshot.summary.requester;
    let (truth, reason, message) = match (health.ok, health.reason) {
        (None, _) => (
            ConditionStatus::Unknown,
            ConditionReason::NotProbed,
            "nothing has been sent through it since the start".to_owned(),
        ),
        (Some(true), _) => {
            (ConditionStatus::True, ConditionReason::Reachable, "the Requester responds".to_owned())
        }
        (Some(false), fault) => {
            let reason = match fault {
                Some(DependencyFailure::Timeout) => ConditionReason::Timeout,
                Some(
                    DependencyFailure::Refused
                    | DependencyFailure::Unauthorized
                    | DependencyFailure::Malformed
                    | DependencyFailure::TooMuch
                    | DependencyFailure::Taken
                    | DependencyFailure::Shared,
                ) => ConditionReason::Refused,
                Some(DependencyFailure::Unreachable) | None => ConditionReason::Unreachable,
            };
            let effect = "nothing can be registered or refreshed until it works; the operator tries it every few \
                 seconds";
            (ConditionStatus::False, reason, format!("{}; {effect}", said(health)))
        }
    };
    ConditionUpdate::new(truth, reason, message).since(health.since_ms)
}

fn cache(situation: &Situation) -> ConditionUpdate {
    let Some(snapshot) = snapshot(situation) else { return not_running() };
    if !snapshot.durable {
        let message = "state is in memory only: a restart registers every trunk again; spec.cache.provider: \
                       redis stores it";
        return ConditionUpdate::new(ConditionStatus::True, ConditionReason::InMemory, message);
    }
    let health = &snapshot.summary.cache;
    let (truth, reason, message) = match (health.ok, health.reason) {
        (None, _) => {
            (ConditionStatus::Unknown, ConditionReason::NotProbed, "Redis has not been asked yet".to_owned())
        }
        (Some(true), _) => {
            (ConditionStatus::True, ConditionReason::Reachable, "Redis stores the state".to_owned())
        }
        (Some(false), fault) => {
            let reason = match fault {
                Some(DependencyFailure::Unauthorized) => ConditionReason::CredentialsRejected,
                Some(DependencyFailure::Refused) => ConditionReason::Refused,
                Some(DependencyFailure::Shared) => ConditionReason::SharedKeys,
                _ => ConditionReason::Unreachable,
            };
            let effect = if fault == Some(DependencyFailure::Shared) {
                "both send REGISTERs for the same trunks; end one of the two, or give one of them another spec.instanceId, or \
                 another prefix in spec.cache.parameters"
            } else {
                "registrations continue from memory, and everything is written once it works again"
            };
            (ConditionStatus::False, reason, format!("{}; {effect}", said(health)))
        }
    };
    ConditionUpdate::new(truth, reason, message).since(health.since_ms)
}

fn credentials(before: Option<&RegistryStatus>, situation: &Situation) -> ConditionUpdate {
    let Some(snapshot) = snapshot(situation) else { return not_running() };
    let summary = &snapshot.summary;
    let [rejected, unknown] =
        REJECTION_REASONS.map(|reason| snapshot.failures.by_reason.get(reason.name()).copied().unwrap_or(0));
    if rejected + unknown > 0 {
        let mut parts = Vec::new();
        if rejected > 0 {
            let whose = agree(rejected, "its user name or password", "their user names or passwords");
            parts.push(format!(
                "{} {} refused for {whose}",
                count(rejected, "trunk"),
                agree(rejected, "is", "are")
            ));
        }
        if unknown > 0 {
            let verb = agree(unknown, "has", "have");
            parts.push(format!(
                "{} {verb} an account that the registrar does not know",
                count(unknown, "trunk")
            ));
        }
        let refused = snapshot
            .failures
            .worst
            .iter()
            .filter(|trunk| trunk.failure.as_ref().is_some_and(|failure| is_rejection(&failure.reason)));
        let message = format!(
            "{}{}; each is retried after 5 minutes to an hour, and immediately when it changes",
            parts.join(", "),
            names(refused, rejected + unknown)
        );
        let reason = match rejected {
            0 => ConditionReason::UnknownAccount,
            _ => ConditionReason::CredentialsRejected,
        };
        return ConditionUpdate::new(ConditionStatus::False, reason, message);
    }
    let known = before
        .and_then(|before| find(before, reasons::CREDENTIALS_ACCEPTED))
        .filter(|before| before.status != ConditionStatus::Unknown.name());
    let accepted = || {
        ConditionUpdate::new(
            ConditionStatus::True,
            ConditionReason::Accepted,
            "no registrar rejects a trunk's user or password",
        )
    };
    let trunks = super::failures::total(&summary.counts);
    let deregistering = matches!(situation.phase, Phase::Deregistering { .. });
    let nothing_new = summary.requester.ok == Some(false) && trunks > 0;
    match known {
        // No registrar says anything at the moment: what they said last still holds.
        Some(known) if nothing_new || deregistering || never_synced(snapshot) => ConditionUpdate::kept(known),
        _ if summary.counts.registered + summary.counts.at_risk > 0 => accepted(),
        Some(known) if trunks > 0 && known.status == ConditionStatus::True.name() => {
            ConditionUpdate::kept(known)
        }
        _ if trunks == 0 && !never_synced(snapshot) => ConditionUpdate::new(
            ConditionStatus::Unknown,
            ConditionReason::NoTrunks,
            "there is no trunk to register",
        ),
        _ => ConditionUpdate::new(
            ConditionStatus::Unknown,
            ConditionReason::AwaitingResponse,
            "no registrar has accepted or rejected a trunk yet",
        ),
    }
}

/// Returns whether this engine has not read its trunks yet.
pub(super) fn never_synced(snapshot: &Snapshot) -> bool {
    snapshot.summary.last_sync_ms.is_none()
}

/// `: a, b, c and 5 more`, or nothing where no trunk is at hand.
fn names<'a>(trunks: impl Iterator<Item = &'a TrunkView>, of: u64) -> String {
    let named: Vec<String> = trunks.take(MAX_NAMED_TRUNKS).map(name).collect();
    if named.is_empty() {
        return String::new();
    }
    let more = of.saturating_sub(named.len() as u64);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(": {}{rest}", named.join(", "))
}

/// A trunk as a message names it: `trunk-07 (pbx-7 at sip.provider.net:5060/UDP)`.
pub(super) fn name(trunk: &TrunkView) -> String {
    named(&trunk.reference, &trunk.name, &trunk.registrar)
}

/// Names a trunk as [`name`] does.
pub(super) fn named(reference: &str, name: &str, registrar: &str) -> String {
    let [reference, name, registrar] = [reference, name, registrar].map(|text| clean(text, MAX_NAME_BYTES));
    let name = if name == reference { String::new() } else { name };
    match (&*name, &*registrar) {
        ("", "") => reference,
        ("", registrar) => format!("{reference} (at {registrar})"),
        (name, "") => format!("{reference} ({name})"),
        (name, registrar) => format!("{reference} ({name} at {registrar})"),
    }
}
