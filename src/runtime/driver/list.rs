//! Lists that callers wait for: one piece of the first in each turn of the loop.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::runtime::clock::Clock;
use routr_registration::engine::{
    Engine, Search,
    view::{Filter, Page},
};

/// Slots that are looked at in one turn: some milliseconds, where a text is looked for.
const SLOTS_PER_TURN: u32 = 5_000;

/// Lists under way, in the order of their requests.
#[derive(Debug, Default)]
pub(super) struct RunningLists(VecDeque<(Search, oneshot::Sender<Page>)>);

impl RunningLists {
    /// Begins a list for a caller.
    pub(super) fn begin(
        &mut self,
        filter: Filter,
        after: Option<String>,
        limit: usize,
        respond_to: oneshot::Sender<Page>,
    ) {
        self.0.push_back((Search::new(filter, after, limit), respond_to));
    }

    /// Returns whether there is anything to go on with.
    pub(super) fn is_pending(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes the next step.
    pub(super) fn step(&mut self, engine: &Engine, clock: &Clock) {
        let Some((mut search, respond_to)) = self.0.pop_front() else { return };
        if respond_to.is_closed() {
            // Anyone who asked has gone.
        } else if engine.scan(&mut search, SLOTS_PER_TURN) {
            // Anyone who asked may have gone; that is no concern of the engine's.
            drop(respond_to.send(engine.search_result(search, clock.now())));
        } else {
            // The others are not to wait for its end.
            self.0.push_back((search, respond_to));
        }
    }
}
