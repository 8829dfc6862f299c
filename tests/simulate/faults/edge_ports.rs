//! Faults of EdgePorts.

use std::sync::Arc;

use rand::RngExt;

use crate::{faults::later, network::EdgeFault, rules::MINUTE, world::World};

/// EdgePorts that fail at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgePorts {
    One,
    All,
}

/// EdgePorts that pass nothing on: one, or all of them.
pub fn begin(world: &Arc<World>, which: EdgePorts, ms: u64) {
    let mut state = world.lock();
    let all: Vec<String> =
        state.model.settings.edge_ports.iter().map(|edge| edge.address.host.to_string()).collect();
    let dead = match which {
        EdgePorts::One => vec![all[state.rng.random_range(0..all.len())].clone()],
        EdgePorts::All => all,
    };
    let faults = [EdgeFault::Dead, EdgeFault::Dead, EdgeFault::Refuses, EdgeFault::Unknown];
    let fault = match state.rules.field {
        None => EdgeFault::Dead,
        Some(_) => faults[state.rng.random_range(0..4)],
    };
    // Not for hours, where there is none left.
    let ms = if which == EdgePorts::One { ms } else { ms.clamp(MINUTE, 20 * MINUTE) };
    state.say(format_args!("* {dead:?} {fault:?}"));
    state.requester.dead_edges.extend(dead.iter().map(|name| (name.clone(), fault)));
    drop(state);
    later(world, ms, move |state| state.requester.dead_edges.retain(|(other, _)| !dead.contains(other)));
}
