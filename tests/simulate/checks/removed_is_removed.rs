//! A trunk that is gone is deregistered, or three attempts were made.

use crate::{checks::Invariant, rules::MINUTE, world::State};

impl State {
    /// A trunk that is gone is de-registered, or three tries were made.
    pub fn check_removed(&mut self, at: u64) {
        let interval =
            self.model.settings.registration.interval_ms.max(self.model.before.registration.interval_ms);
        let bound = 2 * interval + 4 * self.slack();
        let Some(since) = self.model.dependencies_since else { return };
        let Some((run, model)) = self.model.acting() else { return };
        let began = model.began;
        let mut left = Vec::new();
        for (host, registrar) in &self.hosts {
            for (id, binding) in &registrar.bindings {
                let Some(call) = self.model.calls.get(id) else { continue };
                let Some(gone) = call.unwanted_since else { continue };
                let ours = call
                    .grant
                    .as_ref()
                    .is_some_and(|grant| grant.run == run && binding.made + 2 * MINUTE >= grant.sent);
                let latest = self.is_latest_of_its_trunk(id);
                // Its registrar asked to wait: all trunks, or this removal.
                let held = model.holds.get(host.as_str()).is_some_and(|until| *until + bound > at);
                let asked = call.asked.iter().any(|(target, (by, until, sent))| {
                    *target.host == **host && *by == run && *sent >= gone && *until + bound > at
                });
                // One that is down is probed by one trunk at a time, and refreshes go first: the others wait
                // for its return.
                let back = if registrar.hindered { u64::MAX - bound } else { registrar.well_since };
                let due = since.max(gone).max(began).max(back) + bound;
                // Another EdgePort may have made a binding that no one confirmed; a Requester that was
                // started again cannot name the Contact of before.
                let undone = !call.unconfirmed
                    && !self.is_former_contact(&binding.contact)
                    && call.removed.as_ref().is_some_and(|(at, when, contact)| {
                        **at == **host && binding.made < *when && *contact == binding.contact
                    });
                if undone {
                    left.push((host.clone(), id.clone(), gone, call.leaves));
                }
                // Refreshes go first, and may leave nothing of the budget.
                let waits = held || asked || self.is_overbooked(host);
                if ours && latest && !waits && at > due && call.leaves < 3 && registrar.is_reached() {
                    left.push((host.clone(), id.clone(), gone, call.leaves));
                }
            }
        }
        self.check(Invariant::RemovedIsRemoved, left.is_empty(), |state| {
            let (host, id, gone, leaves) = &left[0];
            let name = state.model.call_name(&state.catalogue, id);
            format!("{name} is gone since {gone} ms, and {host} holds it still after {leaves} tries")
        });
    }

    /// Returns whether a run can know of this binding: it made it, or its trunk is there to presume it. No
    /// one knows of a trunk that went while no engine was running; the store has neither its registrar nor
    /// its password.
    pub fn can_be_removed_by(&self, run: u32, id: &str) -> bool {
        let grant = self.model.calls.get(id).and_then(|call| call.grant.as_ref());
        grant.is_some_and(|grant| grant.run == run || self.catalogue.wants(id))
            && self.is_latest_of_its_trunk(id)
    }

    pub fn is_latest_of_its_trunk(&self, id: &str) -> bool {
        let Some(call) = self.catalogue.calls.get(id) else { return false };
        self.model.trunks.get(&call.reference).is_some_and(|trunk| *trunk.last_call == *id)
    }
}
