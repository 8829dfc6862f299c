//! Registrars and EdgePorts that are down: what a message says of them, in front of the trunks that wait for
//! them.

use super::text::{agree, at, clean, count};
use routr_registration::engine::view::{Down, Summary};

/// Outages that a message names.
const MAX_NAMED_OUTAGES: usize = 2;
/// Bytes of a name within a message.
const MAX_NAME_BYTES: usize = 60;
/// Bytes of what was met with, within a message.
const MAX_CAUSE_BYTES: usize = 200;

/// Returns what is down, since when and why, EdgePorts first: `registrar a is down since ...: why; 3 more
/// registrars are down`. `None` where nothing is.
pub(super) fn outages(summary: &Summary) -> Option<String> {
    let (edge_ports, registrars): (Vec<&Down>, Vec<&Down>) =
        summary.down.iter().partition(|down| down.is_edge_port());
    let named: Vec<&Down> = edge_ports.into_iter().chain(registrars).take(MAX_NAMED_OUTAGES).collect();
    let mut parts: Vec<String> = named.iter().map(|down| outage(down)).collect();
    let shown = |edge_port: bool| named.iter().filter(|down| down.is_edge_port() == edge_port).count() as u64;
    for (edge_port, what, all) in
        [(true, "EdgePort", summary.edge_ports_down), (false, "registrar", summary.registrars_down)]
    {
        let more = all.saturating_sub(shown(edge_port));
        if more > 0 {
            let verb = agree(more, "is", "are");
            let which =
                if shown(edge_port) > 0 { count(more, &format!("more {what}")) } else { count(more, what) };
            parts.push(format!("{which} {verb} down"));
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn outage(down: &Down) -> String {
    let (name, since) = (clean(&down.name, MAX_NAME_BYTES), at(down.since_ms));
    let why = clean(&down.message, MAX_CAUSE_BYTES);
    if down.is_edge_port() {
        let why = if why.is_empty() { "no registrar responds through it".to_owned() } else { why };
        format!(
            "EdgePort {name} is down since {since}: {why}; check that it runs, and its address in spec.edgePorts"
        )
    } else if why.is_empty() {
        format!("registrar {name} is down since {since}")
    } else {
        format!("registrar {name} is down since {since}: {why}")
    }
}
