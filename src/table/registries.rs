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
mod tests;
