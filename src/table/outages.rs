//! Registrars and EdgePorts that are down, in words: what, for how long, why, and what happens next.

use routr_registration::engine::view::{Down, Summary};
use routr_types::text::{duration, one_line as clean, plural};

/// EdgePorts, and registrars, that have a line of their own; the others share one.
const MAX_LINES: usize = 3;

/// One outage without what it is of: `sip.example: down for 5 m: why; what happens next`. `now_ms` is in
/// milliseconds since the Unix epoch.
pub fn down(down: &Down, now_ms: u64) -> String {
    with_name(&clean(&down.name), down, now_ms)
}

fn with_name(name: &str, down: &Down, now_ms: u64) -> String {
    let since = duration(now_ms.saturating_sub(down.since_ms));
    let why = clean(&down.message);
    let (usual, next) = if down.is_edge_port() {
        (
            "no registrar responds through it",
            "check that it runs, and its address in spec.edgePorts; trunks use another EdgePort, or wait while one of them tries it \
             every few seconds",
        )
    } else {
        ("it fails for several trunks in a row", "one trunk tries it every 5 to 10 s, the others wait")
    };
    let why = if why.is_empty() { usual } else { &why };
    format!("{name}: down for {since}: {why}; {next}")
}

/// A line for each outage, EdgePorts first, and one for those that are only counted. A name takes at most
/// `room` characters, so that the cause is still there where the line is cut.
pub(super) fn lines(summary: &Summary, now_ms: u64, room: usize) -> Vec<String> {
    let mut lines = of_kind("EdgePort", true, summary.edge_ports_down, summary, now_ms, room);
    lines.extend(of_kind("registrar", false, summary.registrars_down, summary, now_ms, room));
    lines
}

fn of_kind(
    what: &str,
    edge_ports: bool,
    all: u64,
    summary: &Summary,
    now_ms: u64,
    room: usize,
) -> Vec<String> {
    let listed: Vec<&Down> = summary.down.iter().filter(|one| one.is_edge_port() == edge_ports).collect();
    let line = |one: &&Down| {
        let name = shortened(&clean(&one.name), room);
        format!("{what} {}", with_name(&name, one, now_ms))
    };
    let mut lines: Vec<String> = listed.iter().take(MAX_LINES).map(line).collect();
    let more = all.saturating_sub(u64::try_from(lines.len()).unwrap_or(u64::MAX));
    if more > 0 {
        let others = if lines.is_empty() { what.to_owned() } else { format!("more {what}") };
        let mut names: Vec<String> = listed.iter().skip(MAX_LINES).map(|one| clean(&one.name)).collect();
        if u64::try_from(names.len()).is_ok_and(|named| named < more) {
            names.push("…".to_owned());
        }
        let down = plural(more, &format!("{others} is down"), &format!("{others}s are down"));
        lines.push(format!("{down}: {}", names.join(", ")));
    }
    lines
}

/// Returns a name, cut to `room` characters.
fn shortened(name: &str, room: usize) -> String {
    if name.chars().count() <= room {
        return name.to_owned();
    }
    let kept: String = name.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}…")
}
