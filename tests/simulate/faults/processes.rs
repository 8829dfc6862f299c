//! Faults of processes and machines.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use rand::RngExt;

use crate::{
    faults::later,
    process_state::Life,
    rules::{DAY, HOUR, MINUTE, SECOND},
    world::{State, World},
};

/// Fault of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFault {
    Kill,
    Restart,
    Freeze,
}

/// Kills, restarts or freezes a process, more often the one that acts.
pub fn begin(world: &Arc<World>, fault: ProcessFault, ms: u64) {
    let mut state = world.lock();
    let machine = if state.rules.lease.is_some() { state.rng.random_range(0..2) } else { 0 };
    let acting = state.rng.random_bool(0.6);
    let machine = match (&state.reach, acting) {
        // More often the one that acts.
        (Some(reach), true) => {
            usize::from(state.processes[1].as_ref().is_some_and(|(life, _)| life.id == reach.life.id))
        }
        _ => machine,
    };
    let Some((life, shutdown)) = state.processes[machine].clone() else { return };
    state.downtime[machine] = ms.max(1_200);
    state.say(format_args!("* #{}", life.id));
    match fault {
        ProcessFault::Kill => {
            drop(state);
            life.kill();
            let mut state = world.lock();
            state.note_death(life.id);
        }
        ProcessFault::Restart => shutdown.cancel(),
        ProcessFault::Freeze => {
            drop(state);
            life.freeze(true);
            later(world, ms, move |state| state.thaw(&life));
        }
    }
}

/// Sets the wall clock of a machine.
pub fn set_clock(state: &mut State) {
    let far = [SECOND, MINUTE, HOUR, 3 * DAY][state.rng.random_range(0..4)];
    let machine = state.rng.random_range(0..2);
    let by = state.rng.random_range(0..far).cast_signed();
    let by = if state.rng.random_bool(0.5) { by } else { -by };
    state.machines[machine].wall_ahead.store(by, Relaxed);
}

impl State {
    pub fn thaw(&mut self, life: &Life) {
        let at = self.now();
        self.say(format_args!("* #{} goes on", life.id));
        self.model.excuse_all(at);
        self.model.changed_at = at;
        self.model.trouble_at = at;
        for run in self.model.runs.values_mut().filter(|run| run.life.id == life.id) {
            run.resumed_at = at;
            run.buckets.clear();
        }
        life.freeze(false);
    }
}
