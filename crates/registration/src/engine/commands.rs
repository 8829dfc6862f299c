//! Changes from outside while the engine runs: settings, a person's wish, the end of a registry.

use super::{
    Engine, EngineSettings, edge_ports::EdgePorts, paths::next_target_of, restored::RestoredRecords, slots,
};
use crate::engine::view::DeregistrationReport;
use crate::{
    model::Link,
    registration::{
        Priority,
        time::{Moment, Now},
    },
};

impl Engine {
    /// The Requester restarted: its Contact may have changed.
    pub fn handle_requester_restarted(&mut self, now: Now) {
        self.refresh_early(now, |_, _| true);
    }

    /// Another Requester from now on; `link` is how the connection to it stands.
    pub fn handle_requester_replaced(&mut self, link: Link, now: Now) {
        self.concurrency.replaced();
        self.concurrency.set_capacity(link.capacity);
        self.handle_requester_restarted(now);
    }

    fn refresh_early(&mut self, now: Now, concerned: impl Fn(&Self, &slots::Slot) -> bool) {
        for slot in self.slots.all() {
            if !self.slots.get(slot).is_some_and(|entry| concerned(self, entry)) {
                continue;
            }
            if let Some(entry) = self.slots.get_mut(slot) {
                let before = entry.registration.due();
                entry.registration.refresh_early(now.at, &mut self.rng);
                let due = entry.registration.due();
                if due != before && !entry.queued() {
                    self.timers.arm(due, slot);
                }
            }
        }
    }

    /// Registers one trunk now.
    pub fn refresh(&mut self, reference: &str, now: Now) -> crate::engine::view::Refresh {
        let Some(slot) = self.slots.find(reference) else { return crate::engine::view::Refresh::NotFound };
        let Some(entry) = self.slots.get_mut(slot) else { return crate::engine::view::Refresh::NotFound };
        if entry.trunk.view().uris() == 0 {
            return crate::engine::view::Refresh::Invalid;
        }
        if entry.registration.in_flight() {
            return crate::engine::view::Refresh::InFlight;
        }
        entry.registration.refresh_now(now.at);
        self.reschedule(slot, now);
        // Before all others, and even where its registrar is down: a person wants to see what comes of it.
        if self.slots.get(slot).is_some_and(slots::Slot::queued) {
            self.queue_as(slot, Some((false, Moment::default(), Priority::Refresh)), now);
            if let Some(entry) = self.slots.get(slot) {
                self.registrars.probe_now(&next_target_of(entry, now.at), now.at);
            }
        }
        crate::engine::view::Refresh::Queued
    }

    /// Changes settings without touching what they do not concern.
    pub fn handle_settings(&mut self, settings: EngineSettings, now: Now) {
        let before = std::mem::replace(&mut self.settings, settings);
        self.concurrency.set_max(self.settings.max_in_flight);
        if before.rate_per_registrar != self.settings.rate_per_registrar {
            self.registrars.set_rate(self.settings.rate_per_registrar, now.at);
        }
        if before.edge_ports != self.settings.edge_ports {
            let before = self.edge_ports.clone();
            self.edge_ports.configure(&self.settings.edge_ports);
            // Those that wait for one that is no longer there are to go by another.
            for slot in self.slots.all() {
                if self.slots.get(slot).is_some_and(slots::Slot::queued) {
                    self.queue(slot, now);
                }
            }
            // Calls must not go on arriving at an EdgePort that is no longer there. Other trunks are not
            // touched.
            self.refresh_early(now, |engine, entry| {
                let (trunk, rank) = (entry.trunk.view(), entry.registration.ranks().1);
                let address = |edges: &EdgePorts| edges.choose(&trunk, rank, now.at);
                address(&before) != address(&engine.edge_ports)
            });
        }
        if before.registration.redirects != self.settings.registration.redirects {
            for slot in self.slots.all() {
                if let Some(entry) = self.slots.get_mut(slot) {
                    entry.registration.forget_redirections();
                }
            }
        }
        if before.registration.tags != self.settings.registration.tags {
            for slot in self.slots.all() {
                if let Some(entry) = self.slots.get_mut(slot) {
                    entry.registration.forget_tags();
                }
            }
        }
        if before.registration.interval_ms != self.settings.registration.interval_ms {
            for slot in self.slots.all() {
                if let Some(entry) = self.slots.get_mut(slot) {
                    entry.registration.reschedule(&self.settings.registration, now.at, &mut self.rng);
                    if !entry.queued() {
                        self.timers.arm(entry.registration.due(), slot);
                    }
                }
            }
        }
    }

    /// Removes all bindings; [`Engine::is_empty`] tells when it is done. A sync after this would add its
    /// trunks again.
    ///
    /// With `assume_bound`, a trunk that this engine has sent nothing for is removed too: a predecessor may
    /// have registered it.
    pub fn deregister_all(&mut self, assume_bound: bool, now: Now) {
        self.restored = RestoredRecords::default();
        self.deregistration = DeregistrationReport::default();
        for slot in self.slots.all() {
            if let Some(entry) = self.slots.get_mut(slot).filter(|_| assume_bound)
                && let Some(preferred) = entry.trunk.view().order().preferred()
            {
                entry.registration.assume_predecessor_bound(preferred);
            }
            self.remove_trunk(slot, now);
        }
    }

    /// Returns what became of the bindings since [`Engine::deregister_all`].
    pub fn deregistration_report(&self) -> DeregistrationReport {
        self.deregistration
    }
}
