//! Nothing panics: neither a process nor the world around it.

use crate::{checks::Invariant, world::State};

impl State {
    /// Checks how a process ended.
    pub fn check_process_panic(&mut self, process: u32, panicked: bool) {
        self.check(Invariant::NoPanic, !panicked, |_| format!("process {process} panicked"));
    }

    /// Records what a panic on the thread of the world said.
    pub fn check_world_panic(&mut self, panic: String) {
        self.check(Invariant::NoPanic, false, |_| panic);
    }
}
