//! Trunks whose own calls succeed are registered in time while those of others fail.

use crate::{checks::Invariant, world::State};

impl State {
    /// Returns the invariant that [`State::check_registered`] checks at present, and how many turns of other
    /// trunks each may have to wait for: while calls fail, one trunk at a time probes the Requester.
    pub fn registration_invariant(&self) -> (Invariant, u64) {
        if self.call_faults.failing.is_empty() {
            (Invariant::RegisteredInTime, 0)
        } else {
            (Invariant::RegisteredBesideFailingCalls, self.catalogue.entries.len() as u64)
        }
    }
}
