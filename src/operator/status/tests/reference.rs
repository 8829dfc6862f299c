//! docs/status.md against the code.

use std::collections::BTreeSet;

use super::*;
use crate::registration::reply::Reason;

const TEXT: &str = include_str!("../../../../docs/status.md");

/// The rows of the tables under a heading, as cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = TEXT.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn code(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_reason_of_a_condition_is_explained_and_no_other() {
    let rows = rows("Conditions");
    assert!(
        rows.iter().all(|cells| cells.len() == 5 && cells[3..].iter().all(|cell| cell.len() > 4)),
        "{rows:?}"
    );
    let documented: Vec<(&str, &str, &str)> = rows
        .iter()
        .filter_map(|cells| Some((code(cells[0]).next()?, cells[1], code(cells[2]).next()?)))
        .collect();
    let stalls = reasons::STALLS.map(|reason| (reasons::STALLED, Truth::True, reason));
    let known: BTreeSet<(&str, &str, &str)> = reasons::REASONS
        .into_iter()
        .chain(stalls)
        .map(|(kind, truth, reason)| (kind, truth.name(), reason))
        .collect();
    assert_eq!(documented.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(documented.len(), known.len(), "one is there twice");
}

#[test]
fn every_reason_of_an_event_is_explained_and_no_other() {
    let rows = rows("Events");
    let documented: BTreeSet<&str> = rows.iter().flat_map(|cells| code(cells[0])).collect();
    let known: BTreeSet<&str> = reasons::EVENTS.into_iter().chain(reasons::STALLS).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_reason_of_a_failure_is_explained_and_no_other() {
    let all = [
        Reason::CredentialsRejected,
        Reason::UnknownAccount,
        Reason::NoAnswer,
        Reason::OutcomeUnknown,
        Reason::IntervalTooBrief,
        Reason::BadExtension,
        Reason::RedirectFailed,
        Reason::Unreachable,
        Reason::AskedToWait,
        Reason::RegistrarFailed,
        Reason::Refused,
        Reason::MalformedReply,
        Reason::RequesterUnavailable,
        Reason::RequesterRefused,
        Reason::Lapsed,
        Reason::InvalidTrunk,
    ];
    let known: BTreeSet<&str> = all.into_iter().map(Reason::name).chain(["Unknown"]).collect();
    let documented: BTreeSet<&str> = rows("Failures").iter().flat_map(|cells| code(cells[0])).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_field_is_explained() {
    let mut now = rejecting(snapshot(counts(15, 1, 0, 1, 2)), &["a"], "CredentialsRejected");
    now.summary.counts.leaving = 4;
    let shown = serde_json::to_value(status(None, &running(now))).unwrap();
    let documented: BTreeSet<&str> =
        rows("Fields").iter().filter_map(|cells| code(cells[0]).next()).collect();
    let known: BTreeSet<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(documented, known);
}
