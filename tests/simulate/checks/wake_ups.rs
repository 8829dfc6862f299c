//! A loop that has nothing to do does not turn.

use std::sync::atomic::Ordering::Relaxed;

use crate::{checks::Invariant, world::State};

impl State {
    /// A loop that does nothing does not turn: so many polls in a minute, and some for each REGISTER.
    pub fn check_wakeups(&mut self) {
        let polls: u64 = self.model.runs.values().map(|run| run.life.polls.swap(0, Relaxed)).sum();
        let sends = std::mem::take(&mut self.model.sends);
        let most = 400 + 30 * sends;
        self.check(Invariant::WakeUps, polls <= most, |_| {
            format!("{polls} turns in a minute for {sends} REGISTERs")
        });
    }
}
