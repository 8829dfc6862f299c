//! Faults of the Requester as a whole; [`super::calls`] has those of single calls.

use std::sync::Arc;

use rand::RngExt;
use routr_registration::model::Link;
use tokio_util::sync::CancellationToken;

use crate::{
    faults::later,
    network::Mode,
    world::{State, World},
};

/// Fault of the Requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequesterFault {
    Down,
    Hangs,
    Refuses,
    IsSlow,
    Reconnects,
}

/// Begins a fault of the Requester.
pub fn begin(world: &Arc<World>, fault: RequesterFault, ms: u64) {
    let mut state = world.lock();
    let slow = state.rng.random_range(1_000..20_000);
    match fault {
        RequesterFault::Down => {
            state.requester.mode = Mode::Down;
            state.link(true);
        }
        RequesterFault::Hangs => state.requester.mode = Mode::Hanging,
        RequesterFault::Refuses => state.requester.mode = Mode::Refusing,
        RequesterFault::IsSlow => state.requester.mode = Mode::Slow(slow),
        RequesterFault::Reconnects => {
            state.link(true);
            drop(state);
            return later(world, 300, |state| state.link(false));
        }
    }
    drop(state);
    later(world, ms, |state| {
        state.requester.mode = state.requester.home.clone();
        state.link(false);
    });
}

impl State {
    /// The connection to the Requester breaks, or is there again.
    pub fn link(&mut self, lost: bool) {
        let at = self.now();
        if lost {
            self.requester.restarts += 1;
            self.requester.connections.cancel();
            self.requester.connections = CancellationToken::new();
        }
        self.model.excuse_all(at);
        if let Some(reach) = &self.reach {
            reach.link.send_modify(|link: &mut Link| {
                link.restarts += u64::from(link.lost && !lost);
                link.lost = lost;
            });
        }
    }
}
