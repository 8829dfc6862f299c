//! docs/status.md against the code.

use std::collections::BTreeSet;

use strum::VariantArray as _;

use super::{
    reasons::{ConditionReason, EventReason},
    *,
};
use routr_registration::{engine::view::RedirectedTrunk, registration::outcome::Reason};

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
    let stalls = reasons::STALLS.map(|reason| (reasons::STALLED, ConditionStatus::True, reason));
    let known: BTreeSet<(&str, &str, &str)> = reasons::REASONS
        .into_iter()
        .chain(stalls)
        .map(|(kind, truth, reason)| (kind, truth.name(), reason.name()))
        .collect();
    assert_eq!(documented.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(documented.len(), known.len(), "one is there twice");
}

#[test]
fn every_reason_of_an_event_is_explained_and_no_other() {
    let rows = rows("Events");
    let documented: BTreeSet<&str> = rows.iter().flat_map(|cells| code(cells[0])).collect();
    let known: BTreeSet<&str> = reasons::EVENTS
        .map(EventReason::name)
        .into_iter()
        .chain(reasons::STALLS.map(ConditionReason::name))
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn every_reason_of_a_failure_is_explained_and_no_other() {
    let all = Reason::VARIANTS.iter().copied();
    let known: BTreeSet<&str> = all.map(Reason::name).chain(["Unknown"]).collect();
    let rows = rows("Reasons");
    assert!(
        rows.iter().all(|cells| cells.len() == 3 && cells[1..].iter().all(|cell| cell.len() > 4)),
        "{rows:?}"
    );
    let documented: BTreeSet<&str> = rows.iter().filter_map(|cells| code(cells[0]).next()).collect();
    assert_eq!(documented, known);
    assert_eq!(rows.len(), known.len(), "one is there twice");
}

#[test]
fn every_field_is_explained() {
    let fields = |heading| -> BTreeSet<&str> {
        rows(heading).iter().filter_map(|cells| code(cells[0]).next()).collect()
    };
    let mut now = rejecting(snapshot(counts(15, 1, 0, 1, 2)), &["a"], "CredentialsRejected");
    now.summary.counts.deregistering = 4;
    let at_risk = trunk("b", TrunkState::AtRisk, "Timeout", "no answer in time");
    now.failures.worst = vec![TrunkView { failed_over: true, ..at_risk }];
    now.summary.redirections = vec![RedirectedTrunk::default()];
    let mut status = status(None, &running(now));
    // Each write sets it.
    status.observed_time = status.last_sync_time.clone();
    let shown = serde_json::to_value(status).unwrap();
    let keys = |value: &serde_json::Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert!(keys(&shown).iter().map(String::as_str).eq(fields("Fields")), "{shown}");
    let failure = &shown["failures"][0];
    assert!(keys(failure).iter().map(String::as_str).eq(fields("Failures")), "{failure}");
}
