//! Faults of the API server and of the store.

use std::sync::Arc;

use rand::RngExt;

use crate::{
    dependencies::{Api, StoreMode},
    faults::later,
    rules::HOUR,
    world::{State, World},
};

/// The API server fails in a way that is drawn.
pub fn api_fails(world: &Arc<World>, ms: u64) {
    let mut state = world.lock();
    let modes = [Api::Down, Api::Hanging, Api::Half, Api::Malformed, Api::Slow(7_000)];
    state.api = modes[state.rng.random_range(0..modes.len())].clone();
    drop(state);
    later(world, ms, |state| state.api = Api::Up);
}

/// The store fails in a way that is drawn.
pub fn store_fails(world: &Arc<World>, ms: u64) {
    let mut state = world.lock();
    let modes = [StoreMode::Down, StoreMode::Hanging, StoreMode::Denied, StoreMode::Full, StoreMode::Slow];
    state.store_mode = modes[state.rng.random_range(0..modes.len())];
    let mode = state.store_mode;
    state.say(format_args!("* {mode:?}"));
    drop(state);
    later(world, ms, State::restore_store);
}

/// The store has what its copy has: nothing, or what it had some time ago.
pub fn store_loses_data(state: &mut State) {
    state.records.epoch += 1;
    state.records.bad_at = state.now();
    let copy = std::mem::take(&mut state.records.copy);
    state.records.restored |= !copy.is_empty();
    let now = std::mem::replace(&mut state.records.all, copy);
    if state.rng.random_bool(0.5) {
        state.records.copy = now;
    }
}

/// The next sync lacks trunks that are there.
pub fn shrink_listing(state: &mut State) {
    let whole = state.catalogue.entries.len();
    // Twice in a row it would be believed, and rightly so.
    if state.shrink.is_some() || state.shrunk_at + 3 * HOUR > state.now() {
        return;
    }
    let small = state.rng.random_bool(0.4);
    let most = if small { (whole / 3).min(8) } else { whole };
    let least = if small { 1 } else { 11.max(whole / 2 + 3) };
    if least <= most && most > 0 {
        state.shrink = Some(state.rng.random_range(least..=most));
        state.shrunk_at = state.now();
    }
}

impl State {
    pub fn restore_store(&mut self) {
        if std::mem::replace(&mut self.store_mode, StoreMode::Up) != StoreMode::Up {
            self.records.bad_at = self.now();
        }
    }
}
