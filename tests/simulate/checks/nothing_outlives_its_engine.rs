//! An engine that has ended leaves no call open, and a process that was told to end does.

use crate::{checks::Invariant, world::State};

impl State {
    /// Checks the calls of a run that has ended.
    pub fn check_calls_ended(&mut self, run: u32) {
        let open = self.model.in_flight.values().filter(|request| request.run == run).count();
        self.check(Invariant::NothingOutlivesItsEngine, open == 0, |_| {
            format!("run {run} has ended with {open} calls open")
        });
    }

    /// Checks the processes after their end.
    pub fn check_processes_ended(&mut self) {
        let alive = self.processes.iter().flatten().count();
        self.check(Invariant::NothingOutlivesItsEngine, alive == 0, |_| {
            format!("{alive} processes do not end")
        });
    }
}
