//! No trunk is unregistered for longer than the bound.

use crate::{
    checks::Invariant,
    model::outages::LONGEST_PAUSE,
    registrar::Policy,
    rules::{MINUTE, SECOND},
    world::State,
};

impl State {
    /// Returns the time for probes of silent registrars, in milliseconds. Where most registrars are silent,
    /// and the Requester does not say who was, all of its calls fail: then one at a time probes it, until its
    /// deadline, and each silent registrar may have its turn.
    fn silent_probes(&self) -> u64 {
        let says = self.rules.field.is_some_and(|field| field.is_ours());
        let silent = self.hosts.values().filter(|host| matches!(host.policy, Policy::Silent)).count() as u64;
        if says || silent * 2 < self.hosts.len() as u64 {
            return 0;
        }
        silent * self.model.settings.registration.deadline_ms
    }

    /// No trunk is unregistered for longer than the bound:
    ///
    /// * where all its ways are well: the later of «well since» and «unregistered since», or the end of the
    ///   wait that an answer from before has caused (a back-off 30 min at most, a refused password 66 min, a
    ///   Retry-After an hour), and [`State::slack`]; where two requests are allowed at a time, so much later
    ///   as both places were taken;
    /// * the same while calls of other trunks fail, under a name of its own;
    /// * where one of them is, and none refuses the account: in addition one back-off, a round of two silent
    ///   targets and a pause between them for each URI and each EdgePort.
    pub fn check_registered(&mut self, at: u64) {
        let (name, turns) = self.registration_invariant();
        let slack = self.slack() + turns * LONGEST_PAUSE + self.silent_probes();
        let deadline = self.model.settings.registration.deadline_ms;
        let edges = u64::try_from(self.model.settings.edge_ports.len()).unwrap_or(1);
        let entries: Vec<(String, u64)> = self
            .catalogue
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_wanted())
            .map(|(reference, entry)| (reference.clone(), u64::try_from(entry.trunk.uris.len()).unwrap_or(1)))
            .collect();
        for (reference, uris) in entries {
            let trunk = self.model.trunk(&reference);
            let Some(bare) = trunk.bare_since else {
                self.check(name, true, |_| String::new());
                continue;
            };
            if let Some(well) = trunk.well_since {
                let patience = trunk.patience;
                let from = well.max(bare).max(patience);
                let until = from + slack + self.model.taken_ms(from, at);
                self.check(name, at <= until, |_| {
                    format!("{reference}: all well since {well}, unregistered since {bare}, wait until {patience}, slack {slack} ms")
                });
            }
            let trunk = self.model.trunk(&reference);
            if let Some(fair) = trunk.fair_since {
                let rounds = (uris + edges) * (30 * MINUTE + 2 * deadline + 10 * SECOND);
                let until = fair.max(bare).max(trunk.fair_patience) + rounds + slack;
                self.check(Invariant::RegisteredInTime, at <= until, |_| {
                    format!("{reference}: one way well since {fair}, unregistered since {bare}, bound {rounds} + {slack} ms")
                });
            }
        }
    }
}
