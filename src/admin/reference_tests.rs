//! docs/admin.md against the code.

use std::collections::BTreeSet;

use super::fake::{NOW, failing};
use routr_registration::{
    engine::{
        history::{HistoryAttempt, HistoryEntry, HistoryEvent, TrunkDetail},
        view::{Down, RedirectedTrunk, Redirection, Summary, TrunkView},
    },
    registration::state::TrunkState,
};

const TEXT: &str = include_str!("../../docs/admin.md");

/// Returns what the rows of the table under a heading are about.
fn rows(heading: &str) -> BTreeSet<&'static str> {
    let section = TEXT.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| line.split('`').nth(1).unwrap()).collect()
}

fn keys(shown: &serde_json::Value) -> BTreeSet<&str> {
    shown.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_field_of_a_trunk_is_explained_and_no_other() {
    let trunk = TrunkView {
        omitted_option_tags: vec!["gin".to_owned()],
        expires_at_ms: Some(NOW),
        redirected: Some(Redirection::default()),
        ..failing("t", "North")
    };
    let shown = serde_json::to_value(trunk).unwrap();
    assert_eq!(rows("A trunk"), keys(&shown));
}

#[test]
fn every_field_of_a_summary_is_explained_and_no_other() {
    let redirections = vec![RedirectedTrunk::default()];
    let summary = Summary { down: vec![Down::default()], redirections, ..Summary::default() };
    let shown = serde_json::to_value(summary).unwrap();
    assert_eq!(rows("The summary"), keys(&shown));
    assert_eq!(keys(&shown["down"][0]), BTreeSet::from(["what", "name", "sinceMs", "message"]));
}

#[test]
fn every_field_that_a_single_trunk_adds_is_explained_and_no_other() {
    let trunk = failing("t", "North");
    let detail = TrunkDetail {
        trunk: trunk.clone(),
        now_ms: NOW,
        suspended: false,
        stands_by: false,
        history: Vec::new(),
        history_omitted: 0,
    };
    let detail = serde_json::to_value(detail).unwrap();
    let trunk = serde_json::to_value(trunk).unwrap();
    let explained: BTreeSet<&str> = rows("A trunk's history")
        .into_iter()
        .filter(|row| !["what", "state", "attempt", "wait"].contains(row))
        .collect();
    let added: BTreeSet<&str> = keys(&detail).difference(&keys(&trunk)).copied().collect();
    assert_eq!(explained, added);
}

#[test]
fn every_field_of_an_entry_is_explained_and_is_read_back() {
    let attempt = HistoryAttempt {
        registrar: "sip.example:5060/UDP".into(),
        edge_port: "edge.example:5060".into(),
        failed_over: true,
        probe: false,
        reason: Some("CredentialsRejected".into()),
        code: Some(403),
        message: "the registrar responded with 403 Forbidden".into(),
        next_at_ms: Some(NOW),
    };
    let events = [
        HistoryEvent::State { from: TrunkState::Pending, to: TrunkState::AtRisk, failed_over: false },
        HistoryEvent::Attempt(attempt),
        HistoryEvent::Wait { waited_for: "registrar sip.example:5060/UDP, which is down".into() },
    ];
    let section = TEXT.split("\n## ").find(|section| section.starts_with("A trunk's history")).unwrap();
    for event in events {
        let entry = HistoryEntry { first_ms: NOW - 1, last_ms: NOW, times: 2, event };
        let shown = serde_json::to_value(&entry).unwrap();
        for key in keys(&shown) {
            assert!(section.contains(&format!("`{key}`")), "{key}");
        }
        assert!(section.contains(&format!("| `{}` |", shown["what"].as_str().unwrap())), "{shown}");
        assert_eq!(serde_json::from_value::<HistoryEntry>(shown).unwrap(), entry);
    }
}
