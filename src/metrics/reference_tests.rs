//! docs/metrics.md against the code, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use super::{exposition::Format, *};
use crate::{
    operator::{reconcile::ReconcileError, status::reasons::CONDITIONS},
    registry::{ConditionState, RegistryPhase, RegistryState},
};
use routr_registration::registration::{outcome::OUTCOME_LABELS, state::TrunkState};

const TEXT: &str = include_str!("../../docs/metrics.md");
const NOW: u64 = 1_800_000_000_000;
const OWNER: [&str; 2] = ["namespace", "registry"];

/// Type and labels of a metric.
type Description = (String, BTreeSet<String>);

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Cells of the rows of the table under a heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = TEXT.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("no section {heading:?}"));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" |").map(str::trim).collect()).collect()
}

/// The metrics that the tables under these headings explain.
fn explained(headings: &[&str]) -> BTreeMap<String, Description> {
    let mut found = BTreeMap::new();
    for cells in headings.iter().flat_map(|heading| rows(heading)) {
        let [name, kind, labels, meaning] = cells[..] else { panic!("four cells: {cells:?}") };
        let name = name.trim_matches('`').to_owned();
        assert!(meaning.ends_with('.') || meaning.ends_with(')'), "{name}: {meaning}");
        assert!(found.insert(name.clone(), (kind.to_owned(), quoted(labels))).is_none(), "twice: {name}");
    }
    found
}

/// The metrics of a scrape in the text format.
fn shown(text: &str) -> BTreeMap<String, Description> {
    let mut found = BTreeMap::<String, Description>::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            found.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let series = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let family = family.filter(|family| found.contains_key(*family)).unwrap_or(name);
            let (_, known) = found.get_mut(family).unwrap_or_else(|| panic!("not described: {line}"));
            let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('='));
            known.extend(labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le"));
        }
    }
    found
}

/// A scrape with everything that there can be, of a registry of this name.
fn scrape_of(name: &RegistryName, is_operator: bool) -> String {
    let metrics = Metrics::new(NOW);
    let observer = metrics.registry(name.clone());
    observer.register_finished("sip.example", "registered", 0.1);
    observer.refresh_sent(0.1);
    observer.sync_finished(true, 0.1);
    observer.store_write(true);
    metrics.operator().reconciled(Some("Interrupted"));
    let mut summary = Summary { last_sync_ms: Some(NOW), next_expiry_ms: Some(NOW), ..Summary::default() };
    summary.api.ok = Some(true);
    summary.counts.failing = 1;
    let mut scrape = Scrape { now_unix_ms: NOW, ..Scrape::default() };
    scrape.failures = vec![(name.clone(), BTreeMap::from([("Timeout".to_owned(), 1)]))];
    scrape.registries = vec![(name.clone(), Some(summary))];
    if is_operator {
        scrape.leading = Some(true);
        scrape.connections = Some(Connections { open: vec![("n".to_owned(), 1)], limit: 64 });
        let ready =
            ConditionState { kind: "Ready".into(), status: Some(true), reason: "AllRegistered".into() };
        let state = RegistryState {
            conditions: [ready].into(),
            observed_generation: Some(1),
            ..RegistryState::default()
        };
        scrape.resources = vec![ResourceState { name: name.clone(), state, generation: Some(2) }];
    }
    Format::Text.convert(metrics.render(&scrape))
}

#[test]
fn every_metric_of_the_operator_is_explained_and_no_other() {
    let expected = explained(&["Each registry", "Each Registry resource", "The operator", "The process"]);
    assert_eq!(shown(&scrape_of(&RegistryName::of("n", "r"), true)), expected);
}

#[test]
fn every_metric_of_a_registry_from_a_file_is_explained_and_no_other() {
    let mut expected = explained(&["Each registry", "The process"]);
    for (_, labels) in expected.values_mut() {
        labels.retain(|label| !OWNER.contains(&label.as_str()));
    }
    assert_eq!(shown(&scrape_of(&RegistryName::plain("registry"), false)), expected);
}

#[test]
fn every_value_of_a_label_is_explained_and_no_other() {
    let mut values: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for cells in rows("Label values") {
        let [label, metrics, shown] = cells[..] else { panic!("three cells: {cells:?}") };
        for metric in quoted(metrics) {
            let key = (label.trim_matches('`').to_owned(), metric);
            assert!(values.insert(key.clone(), quoted(shown)).is_none(), "twice: {key:?}");
        }
    }
    let all = ["Each registry", "Each Registry resource", "The operator", "The process", "The Requester"];
    let labels = explained(&all)
        .into_iter()
        .flat_map(|(metric, (_, labels))| labels.into_iter().map(move |label| (label, metric.clone())));
    let named = labels.filter(|(label, _)| !OWNER.contains(&label.as_str()) && label != "version");
    assert_eq!(named.collect::<BTreeSet<_>>(), values.keys().cloned().collect(), "each label of each metric");

    let phases = [
        RegistryPhase::Starting,
        RegistryPhase::Running,
        RegistryPhase::Suspended,
        RegistryPhase::Stalled,
        RegistryPhase::Deregistering,
    ];
    let owned = |names: &[&str]| -> BTreeSet<String> { names.iter().map(ToString::to_string).collect() };
    for (label, metric, expected) in [
        ("state", "routr_registry_trunks", owned(&TrunkState::ALL.map(TrunkState::name))),
        ("state", "routr_registry_ready", owned(&phases.map(RegistryPhase::name))),
        ("type", "routr_registry_condition", CONDITIONS.iter().map(ToString::to_string).collect()),
        ("reason", "routr_registry_reconcile_errors_total", owned(&ReconcileError::REASONS)),
        ("outcome", "routr_registry_register_requests_total", owned(&OUTCOME_LABELS)),
    ] {
        assert_eq!(values[&(label.to_owned(), metric.to_owned())], expected, "{label} of {metric}");
    }
    // One style: what the status names as there, all else in lowerCamelCase.
    for ((label, metric), values) in &values {
        let upper = ["type", "reason"].contains(&label.as_str());
        for value in values {
            let good =
                value.starts_with(char::is_uppercase) == upper && value.chars().all(char::is_alphanumeric);
            assert!(good, "{label} of {metric}: {value}");
        }
    }
}
