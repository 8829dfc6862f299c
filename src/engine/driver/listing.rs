//! Listings that somebody waits for: one piece of the first in each turn of the loop.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::engine::{
    Engine,
    clock::Clock,
    search::Search,
    view::{Filter, Page},
};

/// Slots that are looked at in one turn: some milliseconds, where a text is looked for.
const PIECE: u32 = 5_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listings(VecDeque<(Search, oneshot::Sender<Page>)>);

impl Listings {
    /// Somebody asks.
    pub(super) fn begin(
        &mut self,
        filter: Filter,
        after: Option<String>,
        limit: usize,
        answer: oneshot::Sender<Page>,
    ) {
        self.0.push_back((Search::new(filter, after, limit), answer));
    }

    /// Whether there is anything to go on with.
    pub(super) fn wait(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes the next step.
    pub(super) fn go_on(&mut self, engine: &Engine, clock: &Clock) {
        let Some((mut search, answer)) = self.0.pop_front() else { return };
        if answer.is_closed() {
            // Whoever asked has gone.
        } else if engine.look_through(&mut search, PIECE) {
            // Whoever asked may have gone; that is no concern of the engine's.
            drop(answer.send(engine.found(search, clock.now())));
        } else {
            // The others are not to wait for its end.
            self.0.push_back((search, answer));
        }
    }
}
