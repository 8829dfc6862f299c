//! Faults of single calls and of single connections, beside a Requester that is well: calls of some trunks
//! that fail, a connection that hangs beside a good one, connections that end in order. Drawn from a stream
//! of their own, in the field's worlds only.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use routr_registration::model::SendError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    checks::mutants::Mutant,
    faults::later,
    rules::{MINUTE, SECOND},
    world::{State, World},
};

/// Separates the draws of this module from all others.
pub const SALT: u64 = 0xca11_5000;

/// Time that the gRPC layer takes to replace a connection that hangs, in milliseconds.
pub const REPLACED_AFTER: u64 = 9 * SECOND;

/// The longest that a trunk waits whose own calls failed, in milliseconds.
pub const OWN_WAIT: u64 = 2 * MINUTE + SECOND;

/// Faults of calls and connections at the moment.
#[derive(Debug, Default)]
pub struct CallFaults {
    /// Trunks whose calls fail, and what they get.
    pub failing: BTreeSet<String>,
    error: Option<SendError>,
    /// One of the connections hangs: until it is replaced, every other call goes by it.
    hung: Option<CancellationToken>,
    turn: u64,
}

impl CallFaults {
    /// Returns whether any call may fail though the Requester is well.
    pub fn any(&self) -> bool {
        !self.failing.is_empty() || self.hung.is_some()
    }
}

impl State {
    /// Returns the error that the call of a trunk gets, where it fails on its own.
    pub fn call_failure(&self, reference: &str) -> Option<SendError> {
        let fails = self.call_faults.failing.contains(reference);
        let error = self.call_faults.error.clone().filter(|_| fails)?;
        Some(match self.rules.broken {
            Mutant::Contagious => SendError::Unavailable(error.to_string().into()),
            _ => error,
        })
    }

    /// Returns what ends the next call, if it goes by a connection that hangs.
    pub fn next_connection_hangs(&mut self) -> Option<CancellationToken> {
        let hung = self.call_faults.hung.clone()?;
        self.call_faults.turn += 1;
        self.call_faults.turn.is_multiple_of(2).then_some(hung)
    }

    pub fn some_trunks(&self, rng: &mut SmallRng) -> BTreeSet<String> {
        let share = [0.15, 0.5, 0.95][rng.random_range(0..3)];
        self.catalogue.entries.keys().filter(|_| rng.random_bool(share)).cloned().collect()
    }
}

/// Lets them happen until the time of faults is over.
pub async fn play(world: Arc<World>) {
    let (until, seed) = {
        let state = world.lock();
        if state.rules.field.is_none() {
            return;
        }
        (state.rules.faults_ms, state.rules.seed)
    };
    let mut rng = SmallRng::seed_from_u64(seed ^ SALT);
    loop {
        sleep(Duration::from_millis(rng.random_range(MINUTE..80 * MINUTE))).await;
        if world.now() >= until {
            return;
        }
        match rng.random_range(0..4) {
            0 | 1 => calls_fail(&world, &mut rng),
            2 => a_connection_hangs(&world),
            _ => connections_end(&world),
        }
        world.lock().update_model();
    }
}

pub fn calls_fail(world: &Arc<World>, rng: &mut SmallRng) {
    let mut state = world.lock();
    if !state.call_faults.failing.is_empty() {
        return;
    }
    state.count("calls of some trunks fail");
    let failing = state.some_trunks(rng);
    let error = match rng.random_range(0..4) {
        0 => SendError::Failed("Unavailable: no healthy upstream".into()),
        1 => SendError::Failed("HTTP 502 from the proxy in front of the Requester".into()),
        2 => SendError::Disconnected { cause: "connection reset".into(), after_response: false },
        _ => SendError::Refused("Unknown: no key store".into()),
    };
    let ms = rng.random_range(MINUTE..90 * MINUTE);
    state.say(format_args!("* calls of {failing:?} get {error} for {} s", ms / SECOND));
    (state.call_faults.failing, state.call_faults.error) = (failing, Some(error));
    drop(state);
    later(world, ms, |state| state.call_faults.failing.clear());
}

pub fn a_connection_hangs(world: &Arc<World>) {
    let hung = CancellationToken::new();
    {
        let mut state = world.lock();
        if state.call_faults.hung.is_some() {
            return;
        }
        state.count("a connection hangs");
        state.say(format_args!("* a connection to the Requester hangs"));
        state.call_faults.hung = Some(hung.clone());
    }
    later(world, REPLACED_AFTER, move |state| {
        state.call_faults.hung = None;
        hung.cancel();
    });
}

/// The gRPC layer makes others, and says nothing.
pub fn connections_end(world: &Arc<World>) {
    let mut state = world.lock();
    state.count("connections end in order");
    state.say(format_args!("* the connections to the Requester end in order"));
    let restarted = state.rules.broken == Mutant::EndIsRestart;
    if let Some(reach) = &state.reach {
        reach.link.send_modify(|link| link.restarts += u64::from(restarted));
    }
}

impl State {
    /// All calls are well again.
    pub fn heal_calls(&mut self) {
        self.call_faults.failing.clear();
        if let Some(hung) = self.call_faults.hung.take() {
            hung.cancel();
        }
    }
}
