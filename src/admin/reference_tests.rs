//! docs/admin.md against the code.

use std::collections::BTreeSet;

use super::fake::{NOW, failing};
use crate::{
    metrics::{Metrics, Scrape},
    quota::sockets::Connections,
    registry::{RegistryName, RegistryState},
    runtime::ports::Observer,
};
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

#[test]
fn every_metric_is_explained_and_no_other() {
    let metrics = Metrics::new(NOW);
    let name = RegistryName { namespace: Some("n".to_owned()), name: "r".to_owned() };
    let observer = metrics.registry(name.clone());
    observer.register_finished("sip.example", "registered", 0.1);
    observer.refresh_sent(0.1);
    observer.sync_finished(true, 0.1);
    observer.store_write(true);
    metrics.operator().status_write("success");
    metrics.operator().reconciled("success");
    let mut summary = Summary { last_sync_ms: Some(NOW), next_expiry_ms: Some(NOW), ..Summary::default() };
    summary.api.ok = Some(true);
    let states = vec![(name.clone(), RegistryState::default())];
    summary.counts.registered = 1;
    let registries = vec![(name, Some(summary))];
    let connections = Some(Connections { open: vec![("n".to_owned(), 1)], limit: 64 });
    let scrape = Scrape { states, registries, connections, leading: Some(true), now_unix_ms: NOW };
    let text = metrics.render(&scrape);
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(rows("Metrics"), shown);
}
