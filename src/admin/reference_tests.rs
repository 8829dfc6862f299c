//! docs/admin.md against the code.

use std::collections::BTreeSet;

use super::fake::{NOW, failing};
use routr_registration::engine::view::{Down, RedirectedTrunk, Redirection, Summary, TrunkView};

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
