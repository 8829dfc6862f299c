//! Trunks for people: a table, a summary under it, and a one-line form for logs and pipes.
//!
//! It shows someone woken at night which trunk is down, since when, why, and what happens next. Names and
//! phrases come from outside, so whatever could move a cursor or colour a terminal is made harmless first.

use std::{cmp::Reverse, collections::BTreeMap};

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};

use routr_registration::{
    engine::view::{Summary, TrunkView},
    registration::state::TrunkState,
};

mod outages;
mod registries;
mod screen;
mod text;
mod why;

#[cfg(test)]
mod tests;

pub use outages::down;
pub use registries::{registry_label, registry_line, registry_lines, registry_totals, sort_registries};
pub use screen::{Screen, Terminal};
pub use text::{clean, duration, label};
pub use why::{Clock, why};

/// Width from which the reason has a column of its own, in columns. Below, it stands on lines under its
/// trunk.
const MIN_WIDTH_FOR_REASON: u16 = 120;

/// Width from which the EdgePort has a column, too, in columns. Below, the usual one is named under the
/// table, and another one with the reason.
const MIN_WIDTH_FOR_EDGE_PORT: u16 = 160;

/// The narrowest table that is drawn, in columns.
const MIN_WIDTH: u16 = 60;

/// Indent of the lines under a trunk.
const INDENT: &str = "    ";

const HEADERS: [&str; 5] = ["TRUNK", "REGISTRAR", "STATE", "EXPIRES IN", "NEXT TRY"];
const EDGE_PORT: &str = "EDGEPORT";

/// Draws the table and the summary under it, without a line break at the end. Trunks stay in the order given.
///
/// `width` is the terminal's in columns; `None` draws as wide as the content, one line for each trunk.
/// `colour` allows ANSI colours. `now_ms` is in milliseconds since the Unix epoch.
pub fn render(
    trunks: &[TrunkView],
    summary: &Summary,
    now_ms: u64,
    width: Option<u16>,
    colour: bool,
) -> String {
    let mut lines = trunk_lines(trunks, now_ms, width, colour);
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.extend(edge_port_line(trunks, width));
    lines.extend(summary_lines(summary, now_ms, width));
    lines.join("\n")
}

/// Returns what stands under a table that has no column for the EdgePort: the one that most of these trunks
/// use. `None` where there is such a column, or no EdgePort.
pub fn edge_port_line(trunks: &[TrunkView], width: Option<u16>) -> Option<String> {
    let usual = usual_edge_port(trunks).filter(|_| !has_edge_port_column(width))?;
    let others = trunks.iter().any(|trunk| !trunk.edge_port.is_empty() && trunk.edge_port != usual);
    let usual = clean(usual);
    Some(if others {
        format!("Through EdgePort {usual} where no other is named.")
    } else {
        format!("All through EdgePort {usual}.")
    })
}

fn has_edge_port_column(width: Option<u16>) -> bool {
    width.is_none_or(|width| width >= MIN_WIDTH_FOR_EDGE_PORT)
}

/// The EdgePort that most of these trunks use; among equals the first by its name.
fn usual_edge_port(trunks: &[TrunkView]) -> Option<&str> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for trunk in trunks.iter().filter(|trunk| !trunk.edge_port.is_empty()) {
        *counts.entry(&trunk.edge_port).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(name, count)| (*count, Reverse(*name))).map(|(name, _)| name)
}

/// The upper part of [`render`], line by line: a heading and the trunks. Empty without trunks.
pub fn trunk_lines(trunks: &[TrunkView], now_ms: u64, width: Option<u16>, colour: bool) -> Vec<String> {
    lines_with(Reasons::Whole, trunks, now_ms, width, colour)
}

/// Returns [`trunk_lines`] for a screen with room for `rows` rows: where they do not suffice, each reason is
/// cut to one line, so that more trunks are to be seen.
pub fn trunk_lines_within(
    rows: usize,
    trunks: &[TrunkView],
    now_ms: u64,
    width: u16,
    colour: bool,
) -> Vec<String> {
    let whole = lines_with(Reasons::Whole, trunks, now_ms, Some(width), colour);
    if whole.len() <= rows { whole } else { lines_with(Reasons::Cut, trunks, now_ms, Some(width), colour) }
}

/// Returns what a screen of this width and height shows of the trunks above `footer`, and the footer: with
/// [`edge_port_line`] in front of it where that hides no trunk.
pub fn page(
    trunks: &[TrunkView],
    mut footer: Vec<String>,
    now_ms: u64,
    (width, height): (u16, u16),
    colour: bool,
) -> (Vec<String>, Vec<String>) {
    // An empty line stands between them.
    let rows = usize::from(height).saturating_sub(footer.len() + 1);
    let body = |rows| trunk_lines_within(rows, trunks, now_ms, width, colour);
    if let Some(line) = edge_port_line(trunks, Some(width)) {
        let with_line = rows.saturating_sub(1);
        let body = body(with_line);
        if body.len() <= with_line {
            footer.insert(0, cut(&line, "", width.max(MIN_WIDTH)));
            return (body, footer);
        }
    }
    (body(rows), footer)
}

/// Length of the reason that is shown for a trunk which is not registered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reasons {
    /// All, on as many lines as it takes.
    Whole,
    /// Part that fits on one line.
    Cut,
}

fn lines_with(
    reasons: Reasons,
    trunks: &[TrunkView],
    now: u64,
    width: Option<u16>,
    colour: bool,
) -> Vec<String> {
    match width.map(|w| w.max(MIN_WIDTH)) {
        _ if trunks.is_empty() => Vec::new(),
        Some(width) if width < MIN_WIDTH_FOR_REASON => narrow(reasons, trunks, now, width, colour),
        width => wide(reasons, trunks, now, width, colour),
    }
}

/// The lower part of [`render`], line by line: trunks by state and the next expiry, then what is wrong around
/// them.
pub fn summary_lines(summary: &Summary, now_ms: u64, width: Option<u16>) -> Vec<String> {
    let width = width.map(|w| w.max(MIN_WIDTH));
    text::summary(summary, now_ms, usize::MAX).iter().flat_map(|line| wrapped(line, "", width)).collect()
}

/// Returns [`summary_lines`] for a screen with room for `rows` rows: where they do not suffice, each line is
/// cut to one row.
pub fn summary_lines_within(rows: usize, summary: &Summary, now_ms: u64, width: u16) -> Vec<String> {
    let whole = summary_lines(summary, now_ms, Some(width));
    if whole.len() <= rows {
        return whole;
    }
    let width = width.max(MIN_WIDTH);
    let names = usize::from(width / 4);
    text::summary(summary, now_ms, names).iter().map(|line| cut(line, "", width)).collect()
}

/// One trunk on one line, without colours and without a line break.
pub fn line(trunk: &TrunkView, now_ms: u64) -> String {
    let mut line = format!("{}: {}", text::label(trunk), text::state(trunk.state));
    if !trunk.registrar.is_empty() {
        line += &format!(" at {}", clean(&trunk.registrar));
    }
    if !trunk.edge_port.is_empty() {
        line += &format!(" through EdgePort {}", clean(&trunk.edge_port));
    }
    if let Some(redirection) = text::redirection(trunk, now_ms) {
        line += &format!(" ({redirection})");
    }
    if trunk.failed_over {
        line += " (failed over)";
    }
    match trunk.expires_at_ms {
        Some(expires) if expires > now_ms => line += &format!(", expires in {}", duration(expires - now_ms)),
        Some(expires) => line += &format!(", expired {} ago", duration(now_ms - expires)),
        None => {}
    }
    let next = text::next(trunk, now_ms);
    if next != text::NOTHING {
        line += &format!("; next: {next}");
    }
    let reason = text::reason(trunk, now_ms);
    if !reason.is_empty() {
        line += &format!("; {reason}");
    }
    line
}

/// Puts the trunks that need someone first: failing, invalid, at risk; then the others. Equals by name, then
/// ref.
pub fn sort_by_urgency(trunks: &mut [TrunkView]) {
    trunks.sort_by(|a, b| {
        (urgency(a.state), &a.name, &a.reference).cmp(&(urgency(b.state), &b.name, &b.reference))
    });
}

fn urgency(state: TrunkState) -> u8 {
    match state {
        TrunkState::Failing => 0,
        TrunkState::Invalid => 1,
        TrunkState::AtRisk => 2,
        TrunkState::Pending => 3,
        TrunkState::Deregistering => 4,
        TrunkState::Registered => 5,
    }
}

fn wide(reasons: Reasons, trunks: &[TrunkView], now: u64, width: Option<u16>, colour: bool) -> Vec<String> {
    let mut table = new_table(width, colour);
    let column = has_edge_port_column(width);
    let mut headers: Vec<&str> = HEADERS.into_iter().chain(["REASON"]).collect();
    if column {
        headers.insert(2, EDGE_PORT);
    }
    table.set_header(headers.into_iter().map(|header| heading(header, colour)));
    // Where there is a column, no EdgePort is named beside it.
    let usual = usual_edge_port(trunks).filter(|_| !column);
    for trunk in trunks {
        let next = if width.is_some() { text::next_brief(trunk, now) } else { text::next_time(trunk, now) };
        let mut cells = cells(trunk, next, now, colour);
        if column {
            cells.insert(2, Cell::new_owned(text::or_nothing(clean(&trunk.edge_port))));
        }
        let mut row = Row::from(cells);
        row.add_cell(Cell::new_owned(match reasons {
            Reasons::Whole => text::remark(trunk, usual, now),
            Reasons::Cut => text::brief_remark(trunk, usual),
        }));
        if reasons == Reasons::Cut {
            row.max_height(1);
        }
        table.add_row(row);
    }
    if let Some(width) = width {
        let most = |columns| ColumnConstraint::UpperBoundary(Width::Fixed(columns));
        let mut constraints = vec![
            most(width / 5),
            most(width / 4),
            ColumnConstraint::ContentWidth,
            ColumnConstraint::ContentWidth,
            most(16),
            ColumnConstraint::LowerBoundary(Width::Fixed(24)),
        ];
        if column {
            constraints.insert(2, most(width / 6));
        }
        table.set_constraints(constraints);
    }
    lines_of(&mut table)
}

/// Five columns cut to one line for each trunk; under an unhealthy trunk, or one away from its usual place,
/// the part that was cut off and the reason, indented.
fn narrow(reasons: Reasons, trunks: &[TrunkView], now: u64, width: u16, colour: bool) -> Vec<String> {
    let mut table = new_table(Some(width), colour);
    table.set_header(HEADERS.into_iter().map(|header| heading(header, colour)));
    for trunk in trunks {
        let mut row = Row::from(cells(trunk, text::next_word(trunk, now), now, colour));
        row.max_height(1);
        table.add_row(row);
    }
    table.set_constraints([
        ColumnConstraint::UpperBoundary(Width::Fixed(width * 3 / 10)),
        ColumnConstraint::UpperBoundary(Width::Fixed(width / 2)),
        ColumnConstraint::ContentWidth,
        ColumnConstraint::ContentWidth,
        ColumnConstraint::ContentWidth,
    ]);
    let mut rows = lines_of(&mut table).into_iter();
    let mut lines: Vec<String> = rows.next().into_iter().collect();
    let usual = usual_edge_port(trunks);
    for (trunk, row) in trunks.iter().zip(rows) {
        let reason = match reasons {
            Reasons::Whole => text::remark(trunk, usual, now),
            // Without room for more, the line under the table alone says how many are redirected.
            Reasons::Cut => text::unredirected_remark(trunk, usual, now),
        };
        if reasons == Reasons::Cut && !reason.is_empty() {
            lines.push(row);
            lines.push(cut(&reason, INDENT, width));
        } else if !reason.is_empty() {
            let (label, registrar) = (text::label(trunk), clean(&trunk.registrar));
            let cut = !row.contains(&label) || !row.contains(&registrar);
            lines.push(row);
            if cut {
                let whole = if registrar.is_empty() { label } else { format!("{label} at {registrar}") };
                lines.extend(wrapped(&whole, INDENT, Some(width)));
            }
            lines.extend(wrapped(&reason, INDENT, Some(width)));
        } else {
            lines.push(row);
        }
    }
    lines
}

/// Cuts a text to what fits on one line after `indent`.
fn cut(text: &str, indent: &str, width: u16) -> String {
    let mut table = new_table(Some(width.saturating_sub(u16::try_from(indent.len()).unwrap_or(0))), false);
    let mut row = Row::from([text]);
    row.max_height(1);
    table.add_row(row);
    for column in table.column_iter_mut() {
        column.set_padding((0, 0));
    }
    table.lines().next().map(|line| format!("{indent}{}", line.trim_end())).unwrap_or_default()
}

fn cells(trunk: &TrunkView, next: String, now: u64, colour: bool) -> Vec<Cell> {
    let mut state = Cell::new(text::state(trunk.state));
    if colour {
        state = state.fg(paint(trunk.state));
    }
    vec![
        Cell::new_owned(text::label(trunk)),
        Cell::new_owned(text::or_nothing(clean(&trunk.registrar))),
        state,
        Cell::new_owned(text::expires(trunk, now)),
        Cell::new_owned(next),
    ]
}

fn heading(text: &str, colour: bool) -> Cell {
    let cell = Cell::new(text);
    if colour { cell.add_attribute(comfy_table::Attribute::Bold) } else { cell }
}

fn paint(state: TrunkState) -> Color {
    match state {
        TrunkState::Registered => Color::Green,
        TrunkState::AtRisk => Color::Yellow,
        TrunkState::Failing | TrunkState::Invalid => Color::Red,
        TrunkState::Pending | TrunkState::Deregistering => Color::Cyan,
    }
}

fn new_table(width: Option<u16>, colour: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty().style_text_only();
    if colour {
        table.enforce_styling();
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

fn lines_of(table: &mut Table) -> Vec<String> {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Breaks a text between words to fit `width` columns, each line after `indent`. Without a width it stays
/// whole.
pub fn wrapped(text: &str, indent: &str, width: Option<u16>) -> Vec<String> {
    let room = width.map(|w| w.saturating_sub(u16::try_from(indent.len()).unwrap_or(0)));
    let mut table = new_table(room, false);
    table.add_row([text]);
    for column in table.column_iter_mut() {
        column.set_padding((0, 0));
    }
    table.lines().map(|line| format!("{indent}{}", line.trim_end())).collect()
}
