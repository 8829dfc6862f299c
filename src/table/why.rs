//! One trunk for people: what is wrong, since when, why, what happens next; then a time line.

use comfy_table::{Cell, ColumnConstraint, Width};

use super::{MIN_WIDTH, MIN_WIDTH_FOR_REASON, heading, lines_of, new_table, outages, text, wrapped};
use routr_registration::{
    engine::{
        history::{HistoryAttempt, HistoryEntry, HistoryEvent, TrunkDetail},
        view::{Summary, TrunkView},
    },
    registration::state::TrunkState,
};
use routr_types::text::{duration, one_line as clean};

mod advice;
mod clock;
#[cfg(test)]
mod tests;

pub use clock::Clock;

use advice::advice;

/// Width of the labels `Why`, `Where`, `Next` and of the gap behind them, in columns.
const LABEL_WIDTH: u16 = 7;
/// Indent of the outcome under an entry of the time line.
const INDENT: &str = "    ";

/// Draws the story of one trunk, line by line: the trouble and its beginning, its reason, the next step, the
/// time line. `summary` is its registry's. `width` and `colour` as in [`super::render`].
pub fn why(
    detail: &TrunkDetail,
    summary: &Summary,
    clock: &Clock,
    width: Option<u16>,
    colour: bool,
) -> Vec<String> {
    let width = width.map(|width| width.max(MIN_WIDTH));
    let mut lines = wrapped(&headline(detail, clock), "", width);
    if colour {
        let code = paint(&detail.trunk);
        lines.iter_mut().for_each(|line| *line = format!("\x1b[1;{code}m{line}\x1b[0m"));
    }
    let labelled = |label: &str, text: &str| {
        let room = width.map(|width| width - LABEL_WIDTH);
        let rows = wrapped(text, "", room).into_iter().enumerate();
        let pad = usize::from(LABEL_WIDTH);
        rows.map(|(n, row)| format!("{:pad$}{row}", if n == 0 { label } else { "" })).collect::<Vec<_>>()
    };
    lines.extend(reasons(detail, clock).iter().flat_map(|reason| labelled("Why", reason)));
    let failure = detail.trunk.failure.as_ref();
    lines.extend(
        failure.and_then(|failure| advice(&failure.reason)).iter().flat_map(|todo| labelled("Do", todo)),
    );
    lines.extend(place(detail, clock).iter().flat_map(|place| labelled("Where", place)));
    lines.extend(labelled("Next", &next(detail, clock)));
    for note in around(&detail.trunk, summary, detail.now_ms) {
        lines.extend(labelled("Also", &note));
    }
    let healthy = detail.trunk.state == TrunkState::Registered && !detail.trunk.failed_over;
    if detail.history.is_empty() && healthy {
        return lines;
    }
    lines.push(String::new());
    if detail.history.is_empty() {
        let none = "No history: nothing has happened since this process started, or the histories of too many \
                    other trunks are kept.";
        lines.extend(wrapped(none, "", width));
        return lines;
    }
    if detail.history_omitted > 0 {
        lines.push(format!("({} before, no longer kept)", entries(detail.history_omitted)));
    }
    let clock = clock.with_dates_for(detail.history.iter().map(|entry| entry.last_ms), detail.now_ms);
    lines.extend(match width {
        Some(width) if width < MIN_WIDTH_FOR_REASON => narrow(detail, &clock, width, colour),
        width => wide(detail, &clock, width, colour),
    });
    lines
}

fn entries(n: u32) -> String {
    text::plural(n.into(), "entry", "entries")
}

/// Number of the ANSI colour of the first line.
fn paint(trunk: &TrunkView) -> u8 {
    match trunk.state {
        TrunkState::Failing | TrunkState::Invalid => 31,
        TrunkState::AtRisk => 33,
        TrunkState::Registered if trunk.failed_over => 33,
        TrunkState::Registered => 32,
        TrunkState::Pending | TrunkState::Deregistering => 36,
    }
}

/// Returns the trunk, what is wrong with it, since when, for how long.
fn headline(detail: &TrunkDetail, clock: &Clock) -> String {
    let trunk = &detail.trunk;
    let (label, reference) = (text::label(trunk), clean(&trunk.reference));
    let name = if label == reference { label } else { format!("{label} ({reference})") };
    let bound = trunk.expires_at_ms.is_some_and(|at| at > detail.now_ms);
    let standing = match trunk.state {
        TrunkState::Registered if trunk.failed_over => "is registered, but failed over",
        TrunkState::Registered => "is registered",
        TrunkState::AtRisk => "is at risk: still registered, but its refresh failed or waits",
        TrunkState::Failing => "is failing: not registered",
        TrunkState::Invalid if bound => "is invalid as configured; its last good version is registered",
        TrunkState::Invalid => "is invalid: it cannot be registered as configured",
        TrunkState::Pending => "is pending: it has had no response yet",
        TrunkState::Deregistering => "is being deregistered",
    };
    let since = since(detail).map_or_else(String::new, |since| {
        format!(
            ", for {}, since {}",
            duration(detail.now_ms.saturating_sub(since)),
            clock.moment(since, detail.now_ms)
        )
    });
    let suspended = match (detail.suspended, detail.stands_by) {
        (true, _) => "; its registry is suspended",
        (false, true) => "; another process acts for its registry",
        (false, false) => "",
    };
    format!("{name} {standing}{since}{suspended}")
}

/// Since when it has stood as it stands, in milliseconds since the Unix epoch, where that is known.
fn since(detail: &TrunkDetail) -> Option<u64> {
    let trunk = &detail.trunk;
    let last = detail.history.iter().rev().find_map(|entry| match entry.event {
        HistoryEvent::State { to, failed_over, .. } => Some((to, failed_over, entry.last_ms)),
        _ => None,
    });
    let same = last.filter(|(to, failed_over, _)| {
        *to == trunk.state && (*to != TrunkState::Registered || *failed_over == trunk.failed_over)
    });
    let failure = trunk.failure.as_ref().map(|failure| failure.since_ms).filter(|since| *since > 0);
    same.map(|(_, _, since)| since).or(failure)
}

fn reasons(detail: &TrunkDetail, clock: &Clock) -> Vec<String> {
    let (trunk, now) = (&detail.trunk, detail.now_ms);
    let mut reasons = Vec::new();
    if trunk.failure.is_some() {
        let rounds = match trunk.failures {
            0 => String::new(),
            1 => " (1 round failed)".to_owned(),
            failed => format!(" ({failed} rounds in a row failed)"),
        };
        reasons.push(format!("{}{rounds}", text::reason(trunk, now)));
    }
    if trunk.failed_over && trunk.state == TrunkState::Registered {
        let preferred = detail.history.iter().rev().find_map(|entry| match &entry.event {
            HistoryEvent::Attempt(attempt) if !attempt.failed_over && attempt.reason.is_some() => {
                Some((attempt, entry.last_ms))
            }
            _ => None,
        });
        reasons.extend(preferred.map(|(attempt, at)| {
            format!(
                "the preferred target, {} through EdgePort {}, failed at {}: {}",
                clean(&attempt.registrar),
                clean(&attempt.edge_port),
                clock.moment(at, now),
                outcome_of(attempt)
            )
        }));
    }
    reasons
}

/// Returns where it is registered, else where the next attempt goes.
fn place(detail: &TrunkDetail, clock: &Clock) -> Option<String> {
    let (trunk, now) = (&detail.trunk, detail.now_ms);
    if trunk.registrar.is_empty() {
        return None;
    }
    let edge_port = clean(&trunk.edge_port);
    let through = if edge_port.is_empty() { edge_port } else { format!(" through EdgePort {edge_port}") };
    let target = format!("{}{through}", clean(&trunk.registrar));
    let kind =
        if trunk.failed_over { "failed over, not its preferred target" } else { "its preferred target" };
    let redirected =
        text::redirection(trunk, now).map_or_else(String::new, |redirection| format!("; {redirection}"));
    Some(match trunk.expires_at_ms.filter(|at| *at > now) {
        Some(expires) => format!(
            "registered at {target} ({kind}); the binding expires in {}, at {}{redirected}",
            duration(expires - now),
            clock.moment(expires, now)
        ),
        None => format!("the next attempt goes to {target} ({kind}){redirected}"),
    })
}

fn next(detail: &TrunkDetail, clock: &Clock) -> String {
    let (trunk, now) = (&detail.trunk, detail.now_ms);
    if detail.suspended {
        return "nothing is sent while the registry is suspended: set spec.suspend to false".to_owned();
    }
    if detail.stands_by {
        return "nothing is sent while another process acts for the registry".to_owned();
    }
    if trunk.in_flight {
        return "a REGISTER is under way: waiting for its response".to_owned();
    }
    match trunk.next_at_ms {
        Some(at) if at > now => {
            let what = clean(&trunk.next);
            format!("{what} in {}, at {}", duration(at - now), clock.moment(at, now))
        }
        _ => text::next(trunk, now),
    }
}

/// Returns what is wrong around the trunk, as far as it concerns it.
fn around(trunk: &TrunkView, summary: &Summary, now: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if summary.requester.ok == Some(false) {
        notes.push(text::requester(summary, now));
    }
    // A registrar that is down is so by any transport.
    let registrar = trunk.registrar.rsplit_once('/').map_or("", |(registrar, _)| registrar);
    let used = [&*trunk.registrar, registrar, &*trunk.edge_port];
    let down = summary.down.iter().filter(|down| used.contains(&&*down.name));
    notes.extend(down.map(|down| {
        let what = if down.is_edge_port() { "EdgePort" } else { "registrar" };
        format!("{what} {}", outages::down(down, now))
    }));
    let host = trunk.registrar.rsplit_once(':').map_or("", |(host, _)| host);
    if summary.over_budget.iter().any(|registrar| registrar == host || *registrar == trunk.registrar) {
        notes.push(format!(
            "ratePerRegistrar is too low for the trunks at {}: bindings there will expire before their refresh",
            clean(host)
        ));
    }
    notes
}

fn outcome_of(attempt: &HistoryAttempt) -> String {
    let Some(reason) = &attempt.reason else { return "registered".to_owned() };
    let code = attempt.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let message = clean(&attempt.message);
    let message = if message.is_empty() { message } else { format!(": {message}") };
    format!("{}{code}{message}", clean(reason))
}

/// Returns the kind of an entry in a few words.
fn what(event: &HistoryEvent) -> &'static str {
    match event {
        HistoryEvent::State { from, to, failed_over: true } if from == to => "failed over",
        HistoryEvent::State { from, to, .. } if from == to => "moved back",
        HistoryEvent::State { .. } => "state",
        HistoryEvent::Attempt(HistoryAttempt { probe: true, .. }) => "probed preferred",
        HistoryEvent::Attempt(HistoryAttempt { failed_over: true, .. }) => "tried another",
        HistoryEvent::Attempt(_) => "tried preferred",
        HistoryEvent::Wait { .. } => "waited",
    }
}

fn outcome(entry: &HistoryEntry, clock: &Clock) -> String {
    let outcome = match &entry.event {
        HistoryEvent::State { from, to, failed_over } => {
            let elsewhere = if *failed_over && from != to { ", failed over" } else { "" };
            format!("{} -> {}{elsewhere}", text::state(*from), text::state(*to))
        }
        HistoryEvent::Attempt(attempt) => {
            let due = attempt.next_at_ms.filter(|_| attempt.reason.is_some());
            let due = due.map(|at| format!("; next due at {}", clock.brief(at)));
            format!("{}{}", outcome_of(attempt), due.unwrap_or_default())
        }
        HistoryEvent::Wait { waited_for } => format!("for {}", clean(waited_for)),
    };
    match entry.times {
        0 | 1 => outcome,
        times => format!("{outcome}; {times} times since {}", clock.brief(entry.first_ms)),
    }
}

fn target(event: &HistoryEvent) -> (String, String) {
    match event {
        HistoryEvent::Attempt(attempt) => (clean(&attempt.registrar), clean(&attempt.edge_port)),
        HistoryEvent::State { .. } | HistoryEvent::Wait { .. } => {
            (text::NOTHING.to_owned(), text::NOTHING.to_owned())
        }
    }
}

fn wide(detail: &TrunkDetail, clock: &Clock, width: Option<u16>, colour: bool) -> Vec<String> {
    let mut table = new_table(width, colour);
    let times = clock.headers(detail.now_ms);
    let headers = times.iter().map(String::as_str).chain(["WHAT", "TARGET", super::EDGE_PORT, "OUTCOME"]);
    table.set_header(headers.map(|header| heading(header, colour)));
    for entry in &detail.history {
        let (registrar, edge_port) = target(&entry.event);
        let mut cells: Vec<Cell> = clock.columns(entry.last_ms).into_iter().map(Cell::new_owned).collect();
        cells.extend([Cell::new(what(&entry.event)), Cell::new_owned(registrar), Cell::new_owned(edge_port)]);
        cells.push(Cell::new_owned(outcome(entry, clock)));
        table.add_row(cells);
    }
    if let Some(width) = width {
        let most = |columns| ColumnConstraint::UpperBoundary(Width::Fixed(columns));
        let mut constraints = vec![ColumnConstraint::ContentWidth; times.len() + 1];
        constraints.extend([most(width / 5), most(width / 6)]);
        constraints.push(ColumnConstraint::LowerBoundary(Width::Fixed(24)));
        table.set_constraints(constraints);
    }
    lines_of(&mut table)
}

/// Times and the kind of each entry on a line; under it, indented, where and what came of it, but for changes
/// of state.
fn narrow(detail: &TrunkDetail, clock: &Clock, width: u16, colour: bool) -> Vec<String> {
    let mut table = new_table(Some(width), colour);
    let times = clock.headers(detail.now_ms);
    table.set_header(times.iter().map(String::as_str).chain(["WHAT"]).map(|header| heading(header, colour)));
    for entry in &detail.history {
        let mut cells = clock.columns(entry.last_ms);
        cells.push(match &entry.event {
            HistoryEvent::State { from, to, .. } if from != to => outcome(entry, clock),
            event => what(event).to_owned(),
        });
        table.add_row(cells);
    }
    let rows = lines_of(&mut table);
    // A row of several lines, whose time is on the first, belongs together: the outcome follows the last one.
    let mut lines: Vec<String> = rows.first().cloned().into_iter().collect();
    let mut entries = detail.history.iter();
    let mut rows = rows.into_iter().skip(1).peekable();
    while let Some(row) = rows.next() {
        lines.push(row);
        let goes_on = rows.peek().is_some_and(|next| next.starts_with(' '));
        if !goes_on
            && let Some(entry) = entries.next()
            && !matches!(entry.event, HistoryEvent::State { .. })
        {
            let said = match (&entry.event, outcome(entry, clock)) {
                (HistoryEvent::Attempt(attempt), said) => format!(
                    "{} through EdgePort {}: {said}",
                    clean(&attempt.registrar),
                    clean(&attempt.edge_port)
                ),
                (_, said) => said,
            };
            lines.extend(wrapped(&said, INDENT, Some(width)));
        }
    }
    lines
}
