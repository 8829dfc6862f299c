//! Events: changes that a person would want to know of. They follow the conditions, which change seldom;
//! anyone who publishes them limits how many there are.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    ConditionStatus, StatusEvent,
    conditions::{MAX_NAMED_TRUNKS, find, is_rejection, named},
    failures::MAX_FAILURES,
    reasons::{self, ConditionReason, EventReason},
    text::{agree, clean, count},
};
use crate::spec::status::{RegistryStatus, TrunkFailure};

/// Bytes of a message, as JSON.
const MAX_MESSAGE_BYTES: usize = 1_000;
/// Ready is False for one of these, and it is no news: it goes on by itself, or a person wanted it so, or
/// another event reports it.
const EXPECTED_REASONS: [ConditionReason; 5] = [
    ConditionReason::Starting,
    ConditionReason::Syncing,
    ConditionReason::Registering,
    ConditionReason::Suspended,
    ConditionReason::Deregistering,
];
/// Ready is False for one of these, and another event reports it.
const REPORTED_ELSEWHERE: [ConditionReason; 2] =
    [ConditionReason::RequesterUnreachable, ConditionReason::ApiUnreachable];

/// Returns what a person would want to know of the change. At the first status, what is wrong, and that it is
/// ready.
pub fn events(before: Option<&RegistryStatus>, after: &RegistryStatus) -> Vec<StatusEvent> {
    let change = Change { before, after };
    let mut events = Vec::new();
    events.extend(change.stalled());
    events.extend(change.suspended());
    events.extend(change.deregistering());
    events.extend(change.dependencies());
    let rejected = change.rejected();
    let reported = rejected.is_some();
    events.extend(rejected);
    events.extend(change.ready(reported));
    events
}

/// Returns the event for the end of a deletion: all went well.
pub fn deregistered(trunks: u64) -> StatusEvent {
    let message = match trunks {
        0 => "no binding had to be removed".to_owned(),
        n => format!("the bindings of {} were removed", count(n, "trunk")),
    };
    event(false, EventReason::Deregistered, "Deregister", message)
}

/// Returns the event for the end of a deletion: not everything could be removed.
pub fn not_deregistered(left: u64, why: &str) -> StatusEvent {
    let bindings = if left == 0 {
        "bindings may be left at the registrars".to_owned()
    } else {
        format!("{} {} left at the registrars", count(left, "binding"), agree(left, "is", "are"))
    };
    let message = format!("{bindings}, and will expire: {why}");
    event(true, EventReason::NotDeregistered, "Deregister", message)
}

/// The definition in the cluster is of another version than the operator.
pub fn definition_differs(message: &str) -> StatusEvent {
    event(true, EventReason::DefinitionDiffers, "Configure", message)
}

fn event(
    warning: bool,
    reason: impl Into<&'static str>,
    action: &'static str,
    message: impl AsRef<str>,
) -> StatusEvent {
    StatusEvent {
        warning,
        reason: reason.into(),
        action,
        message: clean(message.as_ref(), MAX_MESSAGE_BYTES),
    }
}

struct Change<'a> {
    before: Option<&'a RegistryStatus>,
    after: &'a RegistryStatus,
}

impl<'a> Change<'a> {
    fn pair(&self, kind: &str) -> (Option<&'a Condition>, Option<&'a Condition>) {
        (self.before.and_then(|before| find(before, kind)), find(self.after, kind))
    }

    fn stalled(&self) -> Option<StatusEvent> {
        let (before, after) = self.pair(reasons::STALLED);
        let after = after?;
        let (was, is) = (holds(before), holds(Some(after)));
        if is {
            // Another error of a specification that was changed in vain is news too.
            let same = was
                && before.is_some_and(|before| {
                    before.reason == after.reason
                        && (before.message == after.message
                            || before.observed_generation == after.observed_generation)
                });
            let known = reasons::STALLS.into_iter().find(|reason| reason.name() == after.reason);
            return (!same).then(|| {
                event(
                    true,
                    known.map_or(EventReason::Stalled.name(), ConditionReason::name),
                    "Configure",
                    &after.message,
                )
            });
        }
        let deregistering = has_reason(self.pair(reasons::READY).1, ConditionReason::Deregistering);
        (was && !deregistering).then(|| {
            event(false, EventReason::SpecAccepted, "Configure", "the spec is valid again, and applied")
        })
    }

    fn suspended(&self) -> Option<StatusEvent> {
        let (before, after) = self.pair(reasons::READY);
        let (was, is) =
            (has_reason(before, ConditionReason::Suspended), has_reason(after, ConditionReason::Suspended));
        match (was, is) {
            (false, true) => Some(event(
                false,
                EventReason::Suspended,
                "Suspend",
                "spec.suspend is true: nothing is sent, and bindings expire",
            )),
            (true, false) if !has_reason(after, ConditionReason::Deregistering) => Some(event(
                false,
                EventReason::Resumed,
                "Resume",
                "spec.suspend is no longer true: sending again",
            )),
            _ => None,
        }
    }

    fn deregistering(&self) -> Option<StatusEvent> {
        let (before, after) = self.pair(reasons::READY);
        let begins = has_reason(after, ConditionReason::Deregistering)
            && !has_reason(before, ConditionReason::Deregistering);
        let message = after.map_or("", |after| &*after.message);
        begins.then(|| event(false, EventReason::Deregistering, "Deregister", message))
    }

    fn dependencies(&self) -> Vec<StatusEvent> {
        let dependencies = [
            (
                reasons::API_REACHABLE,
                EventReason::ApiUnreachable,
                EventReason::ApiReachable,
                "the API server is back",
            ),
            (
                reasons::REQUESTER_REACHABLE,
                EventReason::RequesterUnreachable,
                EventReason::RequesterReachable,
                "the Requester is back: what is due is sent within the budgets",
            ),
            (
                reasons::CACHE_REACHABLE,
                EventReason::CacheUnreachable,
                EventReason::CacheReachable,
                "the cache is back: everything is written to it",
            ),
        ];
        let reported = dependencies.into_iter().filter_map(|(kind, lost, found, back)| {
            let (before, after) = self.pair(kind);
            let after = after?;
            let was = before.is_some_and(|before| before.status == ConditionStatus::False.name());
            match &*after.status {
                "False" if !was => Some(event(true, lost, "Connect", &after.message)),
                "True" if was => Some(event(false, found, "Connect", back)),
                _ => None,
            }
        });
        reported.collect()
    }

    /// One event for all trunks that are newly refused.
    fn rejected(&self) -> Option<StatusEvent> {
        let refused = |failure: &&TrunkFailure| is_rejection(&failure.reason);
        let before = self.before.map_or(&[][..], |before| &before.failures);
        let known: HashSet<&str> = before.iter().filter(refused).map(|failure| &*failure.reference).collect();
        // Of a list that was full, others come in that have been failing for as long.
        let full = before.len() >= MAX_FAILURES;
        let newest = before.iter().filter_map(|failure| failure.since_time.as_ref()).max().filter(|_| full);
        let new: Vec<&TrunkFailure> = self
            .after
            .failures
            .iter()
            .filter(refused)
            .filter(|failure| !known.contains(&*failure.reference))
            .filter(|failure| newest.is_none_or(|newest| failure.since_time.as_ref() >= Some(newest)))
            .collect();
        if new.is_empty() {
            return None;
        }
        let names: Vec<String> = new.iter().take(MAX_NAMED_TRUNKS).map(|failure| describe(failure)).collect();
        let more = match new.len().saturating_sub(MAX_NAMED_TRUNKS) {
            0 => String::new(),
            _ if new.len() >= MAX_FAILURES => "; and more, see status.failures".to_owned(),
            n => format!("; and {n} more, see status.failures"),
        };
        let verb = agree(new.len() as u64, "is", "are");
        let many = if new.len() >= MAX_FAILURES {
            format!("at least {MAX_FAILURES} trunks")
        } else {
            count(new.len() as u64, "trunk")
        };
        let message = format!("{many} {verb} rejected by the registrar: {}{more}", names.join("; "));
        Some(event(true, EventReason::TrunksRejected, "Register", message))
    }

    /// `describe`: rejections were.
    fn ready(&self, reported: bool) -> Vec<StatusEvent> {
        let (before, after) = self.pair(reasons::READY);
        let Some(after) = after else { return Vec::new() };
        if holds(Some(after)) {
            let new = !holds(before);
            let mut events = Vec::new();
            let advised = [
                (ConditionReason::RemovalsPendingConfirmation, EventReason::RemovalsPendingConfirmation),
                (ConditionReason::BudgetTooSmall, EventReason::BudgetTooSmall),
            ];
            let advised = advised.into_iter().find(|(reason, _)| has_reason(Some(after), *reason));
            if let Some((_, reason)) = advised.filter(|(reason, _)| !has_reason(before, *reason)) {
                events.push(event(true, reason, "Register", &after.message));
            } else if new {
                events.push(event(false, EventReason::Ready, "Register", &after.message));
            }
            return events;
        }
        let news = |ready: &str| {
            let quiet = EXPECTED_REASONS.iter().chain(&REPORTED_ELSEWHERE).chain(&reasons::STALLS);
            quiet.into_iter().all(|reason| reason.name() != ready)
        };
        let told_before =
            |ready: &str| news(ready) || REPORTED_ELSEWHERE.iter().any(|reason| reason.name() == ready);
        let was_told = before.is_some_and(|before| !holds(Some(before)) && told_before(&before.reason));
        let nothing_else = self.after.failures.iter().all(|failure| is_rejection(&failure.reason));
        if news(&after.reason) && !was_told && !(reported && nothing_else) {
            return vec![event(true, EventReason::NotReady, "Register", &after.message)];
        }
        Vec::new()
    }
}

/// A trunk that is refused, and why.
fn describe(failure: &TrunkFailure) -> String {
    let name = named(&failure.reference, &failure.name, &failure.registrar);
    let why = clean(&failure.message, 120);
    if why.is_empty() { name } else { format!("{name}: {why}") }
}

fn holds(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|condition| condition.status == ConditionStatus::True.name())
}

fn has_reason(condition: Option<&Condition>, reason: ConditionReason) -> bool {
    condition.is_some_and(|condition| condition.reason == reason.name())
}
