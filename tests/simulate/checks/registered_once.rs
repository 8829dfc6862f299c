//! At the very end, an hour and more after the last fault, each trunk is registered exactly once.

use crate::{checks::Invariant, rules::HOUR, trunks::Entry, world::State};

impl State {
    /// At the very end, an hour and more after the last fault.
    pub fn check_registered_once(&mut self, at: u64) {
        let calm = self.calm_since.unwrap_or(at);
        let entries: Vec<(String, Entry)> = self
            .catalogue
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_wanted() && entry.problem.is_none())
            .map(|(reference, entry)| (reference.clone(), entry.clone()))
            .collect();
        for (reference, entry) in entries {
            let fresh: Vec<String> = self
                .hosts
                .iter()
                .flat_map(|(host, registrar)| {
                    registrar.bindings.iter().map(move |(id, bound)| (host, id, bound))
                })
                .filter(|(_, id, bound)| bound.made > calm + 2 * HOUR && entry.calls.contains(id))
                .map(|(host, _, _)| host.clone())
                .collect();
            let misled = |call: &str| self.model.calls.get(call).is_some_and(|call| call.misled_until > at);
            let bound = self.is_bound(&entry, at) || entry.calls.iter().any(|call| misled(call));
            let excused = self.may_wait_for_ever(&entry);
            self.check(Invariant::RegisteredOnce, (bound || excused) && fresh.len() <= 1, |_| {
                format!("{reference}: bound {bound}, fresh bindings at {fresh:?}")
            });
        }
        let foreign = self.hosts.iter().find_map(|(host, registrar)| {
            let stray = registrar.bindings.iter().find(|(id, bound)| {
                let wanted = self.catalogue.wants(id) || self.model.stays(&self.catalogue, id);
                bound.made > calm + HOUR && !wanted
            })?;
            Some(format!("{host} holds {}", self.model.call_name(&self.catalogue, stray.0)))
        });
        self.check(Invariant::RegisteredOnce, foreign.is_none(), |_| foreign.clone().unwrap_or_default());
    }
}
