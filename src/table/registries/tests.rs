//! Tables of registries at several widths.

use super::*;
use crate::admin::fake::NOW;
use crate::registry::RegistryState;

fn registry(namespace: &str, name: &str, counts: Counts) -> RegistryResponse {
    RegistryResponse {
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
        summary: Some(Summary {
            counts,
            last_sync_ms: Some(NOW),
            next_expiry_ms: (counts.registered > 0).then_some(NOW + 252_000),
            ..Summary::default()
        }),
        problem: None,
        state: None,
    }
}

/// One for which no engine runs.
fn idle(name: &str, state: RegistryPhase, reason: &str, message: &str) -> RegistryResponse {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    RegistryResponse {
        summary: None,
        state: Some(RegistryState { state, ready: false, reason, message, ..RegistryState::default() }),
        ..registry("telephony", name, Counts::default())
    }
}

#[test]
fn k10_a_registry_without_an_engine_has_its_row_and_says_why() {
    let mut all = healthy();
    all.push(idle("spare", RegistryPhase::Suspended, "Suspended", "spec.suspend is true"));
    all.push(idle("broken", RegistryPhase::Stalled, "SecretNotFound", "there is no Secret \"redis\""));
    sort_registries(&mut all);
    assert_eq!(
        registry_lines(&all, NOW, Some(80), false),
        [
            "REGISTRY                  TRUNKS  REGISTERED  FAILING  NEXT EXPIRY",
            "telephony/broken               -           -        -            -",
            "    stalled (SecretNotFound): there is no Secret \"redis\"",
            "telephony/branch-offices      37          37        0     4 m 12 s",
            "telephony/carriers          1200        1200        0     4 m 12 s",
            "telephony/spare                -           -        -            -",
            "    suspended: spec.suspend is true",
        ]
    );
    assert!(registry_totals(&all, NOW).starts_with("4 registries, "));
    assert_eq!(
        registry_line(&all[0], NOW),
        "telephony/broken: stalled (SecretNotFound): there is no Secret \"redis\""
    );
}

fn healthy() -> Vec<RegistryResponse> {
    vec![
        registry("telephony", "carriers", Counts { registered: 1_200, ..Counts::default() }),
        registry(
            "telephony",
            "branch-offices",
            Counts { registered: 37, deregistering: 2, ..Counts::default() },
        ),
    ]
}

/// Every state, a silent engine, one that was never read, and dependencies that are down.
fn troubled() -> Vec<RegistryResponse> {
    let counts =
        Counts { registered: 1_200_000, at_risk: 12, failing: 3, invalid: 1, pending: 7, deregistering: 0 };
    let mut all = healthy();
    all.push(registry("a-rather-long-namespace", "main", counts));
    let silent = RegistryResponse {
        summary: None,
        problem: Some("the engine did not respond within 2 s".to_owned()),
        ..registry("telephony", "stuck", Counts::default())
    };
    all.push(silent);
    let mut unread = registry("telephony", "new", Counts::default());
    let summary = unread.summary.as_mut().unwrap();
    summary.last_sync_ms = None;
    summary.api = Health {
        ok: Some(false),
        message: Some("connection refused by api.telephony.svc.cluster.local:51907".to_owned()),
        since_ms: NOW - 65_000,
        ..Health::default()
    };
    all.push(unread);
    sort_registries(&mut all);
    all
}

#[test]
fn at_80_columns_the_usual_states_have_columns_and_the_others_a_line() {
    let lines = registry_lines(&troubled(), NOW, Some(80), false);
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    assert_eq!(
        lines,
        [
            "REGISTRY                       TRUNKS  REGISTERED  FAILING  NEXT EXPIRY",
            "telephony/stuck                     -           -        -            -",
            "    the engine did not respond within 2 s",
            "a-rather-long-namespace/main  1200023     1200000        3     4 m 12 s",
            "    12 at risk, 1 invalid, 7 pending",
            "telephony/new                       -           -        -            -",
            "    API server: not working for 1 m 5 s: connection refused by",
            "    api.telephony.svc.cluster.local:51907; the trunks of the last sync are kept",
            "telephony/branch-offices           37          37        0     4 m 12 s",
            "telephony/carriers               1200        1200        0     4 m 12 s",
        ]
    );
}

#[test]
fn a_name_that_is_cut_stands_whole_under_its_row() {
    let all = [registry("a-namespace-of-many-words", "and-a-registry-of-many", Counts::default())];
    let lines = registry_lines(&all, NOW, Some(80), false);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[1].contains('…') && lines[1].chars().count() <= 80, "{lines:#?}");
    assert_eq!(lines[2], "    a-namespace-of-many-words/and-a-registry-of-many");
}

#[test]
fn at_140_columns_each_state_has_a_column() {
    let lines = registry_lines(&troubled(), NOW, Some(140), false);
    assert_eq!(
        lines[0],
        "REGISTRY                       TRUNKS  REGISTERED  AT RISK  FAILING  INVALID  PENDING  NEXT EXPIRY"
    );
    assert_eq!(
        lines[3],
        "a-rather-long-namespace/main  1200023     1200000       12        3        1        7     4 m 12 s"
    );
    assert_eq!(lines.len(), 1 + 5 + 2, "{lines:#?}");
}

#[test]
fn without_a_width_each_row_is_whole() {
    let lines = registry_lines(&troubled(), NOW, None, false);
    assert_eq!(lines.len(), 1 + 5 + 2, "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("a-rather-long-namespace/main  ")), "{lines:#?}");
    let unread: Vec<&str> =
        lines.iter().find(|line| line.starts_with("telephony/new ")).unwrap().split_whitespace().collect();
    assert_eq!(unread[1..], ["-"; 7]);
}

#[test]
fn those_that_need_somebody_come_first() {
    let names: Vec<String> = troubled().iter().map(registry_label).collect();
    assert_eq!(
        names,
        [
            "telephony/stuck",
            "a-rather-long-namespace/main",
            "telephony/new",
            "telephony/branch-offices",
            "telephony/carriers",
        ]
    );
}

#[test]
fn totals_are_of_all() {
    assert_eq!(
        registry_totals(&healthy(), NOW),
        "2 registries, 1239 trunks: 1237 registered, 2 deregistering; next expiry in 4 m 12 s"
    );
    assert_eq!(registry_totals(&[registry("n", "a", Counts::default())], NOW), "1 registry, no trunks");
}

#[test]
fn one_line_says_it_all() {
    let all = troubled();
    assert_eq!(registry_line(&all[0], NOW), "telephony/stuck: the engine did not respond within 2 s");
    assert_eq!(
        registry_line(&all[2], NOW),
        "telephony/new: API server: not working for 1 m 5 s: connection refused by \
         api.telephony.svc.cluster.local:51907; the trunks of the last sync are kept"
    );
    let mut new = registry("n", "a", Counts::default());
    new.summary.as_mut().unwrap().last_sync_ms = None;
    assert_eq!(registry_line(&new, NOW), "n/a: the API server has not been read yet");
}

#[test]
fn colours_come_only_when_asked_for_and_nothing_from_outside_brings_its_own() {
    let plain = registry_lines(&troubled(), NOW, Some(80), false).join("\n");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let coloured = registry_lines(&troubled(), NOW, Some(80), true).join("\n");
    assert!(coloured.contains("\u{1b}[38;5;9m") && !coloured.contains("\u{1b}[38;5;11m"), "{coloured:?}");
    let wide = registry_lines(&troubled(), NOW, Some(140), true).join("\n");
    assert!(wide.contains("\u{1b}[38;5;11m"), "{wide:?}");
    let evil = registry("n\u{1b}[2J", "a\nb", Counts::default());
    let text = registry_lines(std::slice::from_ref(&evil), NOW, Some(80), false).join("|");
    assert!(!text.contains(['\u{1b}', '\n']), "{text:?}");
}
