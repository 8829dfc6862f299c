//! Only the replica that holds the Lease sends.

use crate::{checks::Invariant, world::State};

impl State {
    pub fn check_one_leader(&mut self, run: u32, name: &str) {
        let others = self.lease.who_holds(self.model.runs.get(&run).map_or(0, |run| run.life.id));
        self.check(Invariant::OneLeader, others.is_none(), |_| {
            format!("{name} is sent by run {run} while {others:?} leads")
        });
    }
}
