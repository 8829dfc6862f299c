//! Many registries at a glance.

use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, Row};

use super::{INDENT, MIN_WIDTH, clean, duration, heading, lines_of, new_table, text, wrapped};
use crate::{admin_api::RegistryResponse, registry::RegistryPhase};
use routr_registration::{
    engine::view::{Counts, Health, Summary},
    registration::state::TrunkState,
};

/// Width from which each state has a column, in columns; below, the less usual ones stand on a line under
/// their registry.
const MIN_WIDTH_FOR_ALL: u16 = 100;

/// The states that have a column, and whether they always have one.
const COLUMNS: [(TrunkState, &str, bool); 5] = [
    (TrunkState::Registered, "REGISTERED", true),
    (TrunkState::AtRisk, "AT RISK", false),
    (TrunkState::Failing, "FAILING", true),
    (TrunkState::Invalid, "INVALID", false),
    (TrunkState::Pending, "PENDING", false),
];

/// A table with a row for each registry, and under it what is wrong around its trunks. Empty without
/// registries.
pub fn registry_lines(
    registries: &[RegistryResponse],
    now_ms: u64,
    width: Option<u16>,
    colour: bool,
) -> Vec<String> {
    if registries.is_empty() {
        return Vec::new();
    }
    let width = width.map(|width| width.max(MIN_WIDTH));
    let roomy = width.is_none_or(|width| width >= MIN_WIDTH_FOR_ALL);
    let columns: Vec<(TrunkState, &str)> = COLUMNS
        .into_iter()
        .filter(|(_, _, always)| roomy || *always)
        .map(|(state, header, _)| (state, header))
        .collect();
    let mut table = new_table(width, colour);
    let headers = columns.iter().map(|(_, header)| *header);
    table.set_header(
        ["REGISTRY", "TRUNKS"].into_iter().chain(headers).chain(["NEXT EXPIRY"]).enumerate().map(
            |(index, header)| match index {
                0 => heading(header, colour),
                _ => heading(header, colour).set_alignment(CellAlignment::Right),
            },
        ),
    );
    for one in registries {
        let mut row = Row::from(cells(one, &columns, now_ms, colour));
        if width.is_some() {
            row.max_height(1);
        }
        table.add_row(row);
    }
    if width.is_some() {
        for column in table.column_iter_mut().skip(1) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut rows = lines_of(&mut table).into_iter();
    let mut lines: Vec<String> = rows.next().into_iter().collect();
    for (one, row) in registries.iter().zip(rows) {
        let name = registry_label(one);
        let cut = !row.contains(&name);
        lines.push(row);
        if cut {
            lines.extend(wrapped(&name, INDENT, width));
        }
        if !roomy {
            lines.extend(unusual(one).map(|states| format!("{INDENT}{states}")));
        }
        lines.extend(remarks(one, now_ms).iter().flat_map(|line| wrapped(line, INDENT, width)));
    }
    lines
}

/// Returns what a registry is called: `NAMESPACE/NAME`, or `NAME` outside Kubernetes.
pub fn registry_label(registry: &RegistryResponse) -> String {
    match &registry.namespace {
        Some(namespace) => clean(&format!("{namespace}/{}", registry.name)),
        None => clean(&registry.name),
    }
}

/// One registry on one line, without colours and without a line break.
pub fn registry_line(registry: &RegistryResponse, now_ms: u64) -> String {
    let label = registry_label(registry);
    let totals = match &registry.summary {
        Some(summary) if summary.last_sync_ms.is_some() => Some(trunks(&summary.counts)),
        _ => None,
    };
    let parts: Vec<String> = totals.into_iter().chain(remarks(registry, now_ms)).collect();
    format!("{label}: {}", parts.join("; "))
}

/// Returns how many registries and trunks there are, and the next expiry among them.
pub fn registry_totals(registries: &[RegistryResponse], now_ms: u64) -> String {
    let mut counts = Counts::default();
    let mut expiry: Option<u64> = None;
    for summary in registries.iter().filter_map(|one| one.summary.as_ref()) {
        for state in TrunkState::ALL {
            *counts.of_mut(state) += summary.counts.of(state);
        }
        expiry = expiry.into_iter().chain(summary.next_expiry_ms).min();
    }
    let registries = u64::try_from(registries.len()).unwrap_or(u64::MAX);
    let registries = text::plural(registries, "registry", "registries");
    format!("{registries}, {}{}", trunks(&counts), text::expiry(expiry, now_ms))
}

/// Puts the registries that need someone first, equals by name.
pub fn sort_registries(registries: &mut [RegistryResponse]) {
    registries.sort_by_cached_key(|one| (urgency(one), one.namespace.clone(), one.name.clone()));
}

fn urgency(registry: &RegistryResponse) -> u8 {
    let phase = registry.state.as_ref().map(|state| state.state);
    if phase == Some(RegistryPhase::Stalled) {
        return 0;
    }
    let Some(summary) = &registry.summary else {
        return match phase {
            Some(RegistryPhase::Suspended) if registry.problem.is_none() => 3,
            Some(_) if registry.problem.is_none() => 2,
            _ => 0,
        };
    };
    let counts = &summary.counts;
    if counts.failing + counts.invalid > 0 || summary.last_sync_ms.is_none() || is_down(&summary.requester) {
        1
    } else if counts.at_risk > 0 || is_down(&summary.api) || is_down(&summary.cache) {
        2
    } else {
        3
    }
}

fn is_down(health: &Health) -> bool {
    health.ok == Some(false)
}

fn trunks(counts: &Counts) -> String {
    text::states(counts).unwrap_or_else(|| "no trunks".to_owned())
}

/// Returns how many trunks are in states that have no column where there is little room.
fn unusual(registry: &RegistryResponse) -> Option<String> {
    let counts = registry.summary.as_ref()?.counts;
    let states: Vec<String> = COLUMNS
        .into_iter()
        .filter(|(state, _, always)| !always && counts.of(*state) > 0)
        .map(|(state, _, _)| format!("{} {}", counts.of(state), text::state(state)))
        .collect();
    (!states.is_empty()).then(|| states.join(", "))
}

/// Returns why its numbers are not the whole story.
fn remarks(registry: &RegistryResponse, now: u64) -> Vec<String> {
    let state = registry.state.as_ref().filter(|state| state.state != RegistryPhase::Running);
    let state = state.map(|state| clean(&state.to_string()));
    let Some(summary) = &registry.summary else {
        let silent = if state.is_some() { None } else { Some("it does not answer") };
        let problem = registry.problem.as_deref().or(silent).map(clean);
        return state.into_iter().chain(problem).collect();
    };
    let unread = summary.last_sync_ms.is_none() && !is_down(&summary.api);
    let unread = unread.then(|| "the API server has not been read yet".to_owned());
    state.into_iter().chain(unread).chain(text::around(summary, now, usize::MAX)).collect()
}

fn cells(
    registry: &RegistryResponse,
    columns: &[(TrunkState, &'static str)],
    now: u64,
    colour: bool,
) -> Vec<Cell> {
    let summary = registry.summary.as_ref().filter(|summary| {
        // Zeros would say that there are none.
        summary.last_sync_ms.is_some() || total(summary) > 0
    });
    let number = |value: Option<u64>, paint: Option<Color>| {
        let text = value.map_or_else(|| text::NOTHING.to_owned(), |value| value.to_string());
        let cell = Cell::new_owned(text).set_alignment(CellAlignment::Right);
        match paint.filter(|_| colour && value.is_some_and(|value| value > 0)) {
            Some(paint) => cell.fg(paint),
            None => cell,
        }
    };
    let mut cells = vec![Cell::new_owned(registry_label(registry)), number(summary.map(total), None)];
    cells.extend(columns.iter().map(|(state, _)| {
        let paint = match state {
            TrunkState::Failing | TrunkState::Invalid => Some(Color::Red),
            TrunkState::AtRisk => Some(Color::Yellow),
            _ => None,
        };
        number(summary.map(|summary| summary.counts.of(*state)), paint)
    }));
    let expiry = match summary.and_then(|summary| summary.next_expiry_ms) {
        Some(at) if at > now => duration(at - now),
        Some(_) => "expired".to_owned(),
        None => text::NOTHING.to_owned(),
    };
    cells.push(Cell::new_owned(expiry).set_alignment(CellAlignment::Right));
    cells
}

/// Trunks that want to be registered: those that are being deregistered do not.
fn total(summary: &Summary) -> u64 {
    TrunkState::ALL
        .into_iter()
        .filter(|state| *state != TrunkState::Deregistering)
        .map(|state| summary.counts.of(state))
        .sum()
}

#[cfg(test)]
mod tests {
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
            state: Some(RegistryState { state, ready: false, reason, message }),
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
        let counts = Counts {
            registered: 1_200_000,
            at_risk: 12,
            failing: 3,
            invalid: 1,
            pending: 7,
            deregistering: 0,
        };
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
        let unread: Vec<&str> = lines
            .iter()
            .find(|line| line.starts_with("telephony/new "))
            .unwrap()
            .split_whitespace()
            .collect();
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
}
