//! The table.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use crate::report::{Figure, Goal};

/// The figures, grouped by section.
pub fn table(figures: &[Figure], colour: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["", "what", "figure", "reference", "ratio", "goal", "met", "note"]);
    for section in sections(figures) {
        for (position, figure) in figures.iter().filter(|figure| figure.section == section).enumerate() {
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            let met = Cell::new(met(figure));
            let met = match (figure.met(), colour) {
                (Some(true), true) => met.fg(Color::Green),
                (Some(false), true) => met.fg(Color::Red),
                _ => met,
            };
            table.add_row([
                Cell::new(if position == 0 { section } else { "" }),
                Cell::new(&figure.what),
                right(value(figure)),
                right(reference(figure)),
                right(ratio(figure)),
                right(goal(figure)),
                met,
                Cell::new(&figure.note),
            ]);
        }
    }
    table
}

/// The figures as a table of Markdown.
pub fn markdown(figures: &[Figure]) -> String {
    let mut text = String::from(
        "| section | what | figure | reference | ratio | goal | met | note |\n|---|---|--:|--:|--:|--:|---|---|\n",
    );
    for section in sections(figures) {
        for figure in figures.iter().filter(|figure| figure.section == section) {
            let cells = [
                section.to_owned(),
                figure.what.clone(),
                value(figure),
                reference(figure),
                ratio(figure),
                goal(figure),
                met(figure).to_owned(),
                figure.note.clone(),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    text
}

/// One figure on one line.
pub fn line(figure: &Figure) -> String {
    let ratio = figure.ratio().map(|ratio| format!(", {ratio:.2} of the reference")).unwrap_or_default();
    let met = match figure.met() {
        Some(true) => ", goal met",
        Some(false) => ", GOAL MISSED",
        None => "",
    };
    format!("{}: {}{ratio}{met}", figure.what, value(figure))
}

/// Returns the sections in the order in which they first came up.
fn sections(figures: &[Figure]) -> Vec<&'static str> {
    let mut all: Vec<&'static str> = Vec::new();
    for figure in figures {
        if !all.contains(&figure.section) {
            all.push(figure.section);
        }
    }
    all
}

fn value(figure: &Figure) -> String {
    format!("{} {}", number(figure.value), figure.unit).trim_end().to_owned()
}

fn reference(figure: &Figure) -> String {
    figure.reference.map(|(value, what)| format!("{} ({what})", number(value))).unwrap_or_default()
}

fn ratio(figure: &Figure) -> String {
    figure.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
}

fn goal(figure: &Figure) -> String {
    match figure.goal {
        None => String::new(),
        Some(Goal::RatioAtLeast(least)) => format!("ratio ≥ {least}"),
        Some(Goal::RatioAtMost(most)) => format!("ratio ≤ {most}"),
        Some(Goal::AtMost(most)) => format!("≤ {}", number(most)),
    }
}

fn met(figure: &Figure) -> &'static str {
    match figure.met() {
        None => "",
        Some(true) => "yes",
        Some(false) => "MISSED",
    }
}

/// Writes a number with as many places as are significant.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => crate::report::grouped(value.round() as u64),
        large if large >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
