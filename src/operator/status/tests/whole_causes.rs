//! Wherever a text is cut, its cause is what is kept, and the cut is marked. Field case N6: a TLS error was
//! cut off before its reason.
//!
//! [`every_place_that_cuts_a_text_is_known`] finds the places in the source; the other tests feed a long text
//! whose cause comes first through each surface.

use std::{fs, path::Path};

use super::{
    outages::{edge_port, registrar},
    *,
};
use crate::{admin_api::RegistryResponse, table};

/// Short enough for the narrowest table.
const CAUSE: &str = "cert expired";

/// Its cause, and far more than fits anywhere.
fn long() -> String {
    format!("{CAUSE}: {}THE END", "the quick brown fox jumps over the lazy dog, ".repeat(200))
}

/// Asserts that a shown text has the cause, and a mark where its end is missing.
#[track_caller]
fn holds(what: &str, shown: &str) {
    assert!(shown.contains(CAUSE), "{what}: the cause is lost: {shown}");
    let marked = shown.contains('…') || shown.contains("...");
    assert!(shown.contains("THE END") || marked, "{what}: the cut is not marked: {shown}");
}

fn long_names(mut now: Snapshot) -> Snapshot {
    for trunk in &mut now.failures.worst {
        trunk.name = "a trunk with a name that is far too long ".repeat(20);
        trunk.registrar = format!("{}.example:5061/TLS", "registrar-with-a-long-name".repeat(8));
        trunk.edge_port = format!("{}.example:5061", "edge-port-with-a-long-name".repeat(8));
    }
    now
}

/// A trunk that fails for a long reason, in a state.
fn troubled(state: TrunkState, counts: Counts) -> Snapshot {
    let mut now = snapshot(counts);
    now.failures.worst = vec![trunk("t", state, "TlsFailed", &long()); 3];
    long_names(now)
}

#[test]
fn in_conditions_and_failures() {
    let ready = |now| message(&status(None, &running(now)), reasons::READY);
    holds("failing", &ready(troubled(TrunkState::Failing, counts(0, 0, 3, 0, 0))));
    holds("invalid", &ready(troubled(TrunkState::Invalid, counts(0, 0, 0, 3, 0))));
    holds("at risk", &ready(troubled(TrunkState::AtRisk, counts(0, 3, 0, 0, 0))));
    let failures = status(None, &running(troubled(TrunkState::Failing, counts(0, 0, 3, 0, 0)))).failures;
    assert_eq!(failures.len(), 3);
    failures.iter().for_each(|failure| holds("failures", &failure.message));

    let mut down = troubled(TrunkState::Failing, counts(0, 0, 3, 0, 0));
    down.failures.worst.iter_mut().for_each(|trunk| trunk.failure.as_mut().unwrap().message.clear());
    down.summary.down = vec![edge_port(&"e".repeat(5_000)), registrar(&"r".repeat(5_000), &long())];
    (down.summary.registrars_down, down.summary.edge_ports_down) = (1, 1);
    holds("a registrar that is down", &ready(down));

    let mut broken_all = snapshot(counts(3, 0, 0, 0, 0));
    let wrong = broken(DependencyFailure::Unreachable, &long());
    (broken_all.summary.api, broken_all.summary.requester, broken_all.summary.cache) =
        (wrong.clone(), wrong.clone(), wrong.clone());
    let found = status(None, &running(broken_all.clone()));
    let concerned =
        [reasons::READY, reasons::API_REACHABLE, reasons::REQUESTER_REACHABLE, reasons::CACHE_REACHABLE];
    concerned.iter().for_each(|kind| holds(kind, &message(&found, kind)));
    let mut never_synced = fresh();
    never_synced.summary.api = wrong;
    holds("never read", &ready(never_synced));
    for phase in [Phase::Idle, Phase::Running(broken_all)] {
        let stall = Some(Stall { reason: reasons::ConditionReason::InvalidSpec, message: long() });
        let found = status(None, &Situation { stall, ..situation(phase) });
        holds("stalled", &message(&found, reasons::STALLED));
    }
}

#[test]
fn in_events() {
    let fine = status(None, &running(snapshot(counts(3, 0, 0, 0, 0))));
    let events = |now: Situation| events(Some(&fine), &status(Some(&fine), &now));
    let mut broken_all = snapshot(counts(3, 0, 0, 0, 0));
    let wrong = broken(DependencyFailure::Unreachable, &long());
    (broken_all.summary.api, broken_all.summary.requester, broken_all.summary.cache) =
        (wrong.clone(), wrong.clone(), wrong);
    let mut refused = troubled(TrunkState::Failing, counts(0, 0, 3, 0, 0));
    for trunk in &mut refused.failures.worst {
        trunk.failure.as_mut().unwrap().reason = "CredentialsRejected".to_owned();
    }
    let stall = Some(Stall { reason: reasons::ConditionReason::InvalidSpec, message: long() });
    let stalled = Situation { stall, ..running(snapshot(counts(3, 0, 0, 0, 0))) };
    let mut all = events(running(broken_all));
    assert_eq!(all.len(), 3, "{all:?}");
    all.extend(events(running(troubled(TrunkState::Failing, counts(0, 0, 3, 0, 0)))));
    all.extend(events(running(refused)));
    all.extend(events(stalled));
    all.push(not_deregistered(3, &long()));
    assert_eq!(all.len(), 7, "{all:?}");
    all.iter().for_each(|event| holds(event.reason, &event.message));
}

#[test]
fn in_tables_and_lines() {
    let now = troubled(TrunkState::Failing, counts(0, 0, 3, 0, 0));
    let trunks = now.failures.worst;
    for width in (60..=220).step_by(16) {
        let cut = table::trunk_lines_within(1, &trunks, NOW, width, false);
        holds(&format!("a cut table of {width} columns"), &cut.join("\n"));
        assert_eq!(cut.iter().filter(|line| line.contains(CAUSE)).count(), 3, "{width}: {cut:#?}");
    }
    for width in [None, Some(60), Some(80), Some(100), Some(140), Some(200)] {
        let whole = table::render(&trunks, &now.summary, NOW, width, false);
        let text = whole.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(CAUSE) && text.contains("END"), "{width:?}: {whole}");
    }
    holds("one line", &table::line(&trunks[0], NOW));

    let wrong = broken(DependencyFailure::Unreachable, &long());
    let summary = Summary {
        api: wrong.clone(),
        requester: wrong.clone(),
        cache: wrong,
        registrars_down: 1,
        down: vec![registrar(&"r".repeat(5_000), &long())],
        ..Summary::default()
    };
    for width in (60..=220).step_by(16) {
        let cut = table::summary_lines_within(1, &summary, NOW, width);
        assert_eq!(cut.len(), 5, "{cut:#?}");
        cut[1..].iter().for_each(|line| holds(&format!("a cut summary of {width} columns"), line));
        let whole = table::summary_lines(&summary, NOW, Some(width));
        assert_eq!(whole.join(" ").matches(CAUSE).count(), 4, "{whole:#?}");
    }
    let registry = |summary| RegistryResponse {
        namespace: None,
        name: "demo".to_owned(),
        state: None,
        summary,
        problem: Some(long()),
    };
    for registry in [registry(Some(summary)), registry(None)] {
        holds("one line of a registry", &table::registry_line(&registry, NOW));
        let lines = table::registry_lines(&[registry], NOW, Some(80), false);
        holds("a table of registries", &lines.join(" "));
    }
}

/// Files that cut a text, how often, and why no cause is lost there. `value`: a value within an error that
/// says around it what is wrong.
const CUTS: [(&str, usize, &str); 9] = [
    ("crates/sip/src/grammar.rs", 1, "value"),
    (
        "crates/types/src/text.rs",
        1,
        "keeps the beginning, where the cause is; this module, grpc::status_tests",
    ),
    ("crates/types/src/text/log_line.rs", 1, "four digits of an escape"),
    ("src/config/map_reader.rs", 1, "value"),
    ("src/devstack/api/reader.rs", 1, "value"),
    ("src/table.rs", 3, "this module"),
    ("src/table/outages.rs", 1, "a name; this module"),
    ("src/table/registries.rs", 1, "a name, which then stands whole under its row"),
    ("src/table/text.rs", 1, "a word of what comes next"),
];

/// Returns how often a source cuts a text, by any of the methods that there are.
fn cuts(source: &str) -> usize {
    let dense: String = source.chars().filter(|c| !c.is_whitespace()).collect();
    let taken = dense.split(".chars()").skip(1).filter(|rest| {
        let statement = rest.split(';').next().unwrap_or_default();
        statement.chars().take(90).collect::<String>().contains(".take(")
    });
    let others =
        [".max_height(", "out.truncate(", "text.truncate(", "message.truncate(", "floor_char_boundary"];
    taken.count() + others.iter().map(|way| dense.matches(way).count()).sum::<usize>()
}

fn sources(folder: &Path, found: &mut Vec<(String, usize)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.contains("test") && name != "src/admin/fake.rs" {
            let source = fs::read_to_string(&path).unwrap();
            found.push((name, cuts(without_tests(&source))));
        }
    }
}

/// A source without the test modules at its end.
fn without_tests(source: &str) -> &str {
    let begins = |at: &usize| source[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let tests = source.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at).find(begins);
    &source[..tests.unwrap_or(source.len())]
}

/// Anyone who adds a place that cuts a text adds it here, and to the tests around where it can hold a cause.
#[test]
fn every_place_that_cuts_a_text_is_known() {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(&root.join("src"), &mut found);
    sources(&root.join("crates"), &mut found);
    assert!(found.len() > 100, "the sources are not where they were");
    found.retain(|(_, cuts)| *cuts > 0);
    found.sort();
    let known: Vec<(String, usize)> = CUTS.iter().map(|(file, n, _)| ((*file).to_owned(), *n)).collect();
    assert_eq!(found, known);
}

#[test]
fn a_cut_is_found_however_it_is_written() {
    for source in [
        "let shown: String = text.chars().take(60).collect();",
        "text.chars()\n    .filter(|c| !c.is_control())\n    .take(most)\n    .collect()",
        "row.max_height(1);",
        "let end = text.floor_char_boundary(80);",
    ] {
        assert_eq!(cuts(source), 1, "{source}");
    }
    assert_eq!(cuts("let long = text.chars().count(); let first = items.iter().take(3);"), 0);
}
