//! Slots that wait for the end of an outage, and for nothing else.

use super::queueing::met_silence;
use crate::{
    engine::{Engine, paths::next_target_of, registrars::Target},
    registration::time::{Moment, Now},
};

impl Engine {
    /// A trunk that met with an outage goes on at once where its next target has come back since its request
    /// was sent: it did not wait in the queue that the return set free, and would wait for a time of its own.
    pub(in crate::engine) fn resume_after_outage(&mut self, slot: u32, sent_at: Moment, now: Now) {
        let Some(entry) = self.slots.get(slot) else { return };
        if entry.queued() || !entry.registration.waits_for_recovery() {
            return;
        }
        // The round that has failed: its next one begins with a target that was tried before the last one.
        let since = entry.registration.round_sent_at().map_or(sent_at, |first| first.min(sent_at));
        let (target, edge) = (next_target_of(entry, now.at), self.paths().ranked_edge(entry, now.at));
        if self.registrars.is_target_back_since(&target, since) || self.edge_ports.is_back_since(edge, since)
        {
            self.queue(slot, now);
        }
    }

    /// A registrar is back: refreshes that have probed it in vain are as urgent again as they were.
    pub(in crate::engine) fn restore_urgency(&mut self, registrar: u32, now: Now) {
        for (slot, stamp) in self.registrars.waiting(registrar) {
            let tried = self.slots.get(slot).is_some_and(|entry| {
                let counts = entry.queued() && entry.stamp == stamp;
                counts && entry.registration.refreshes() && met_silence(entry, now.at)
            });
            if tried {
                self.queue(slot, now);
            }
        }
    }

    /// A registrar is back: those that wait for another one, and may go there as well, do.
    pub(in crate::engine) fn redirect_waiting_to(&mut self, registrar: &str, now: Now) {
        for (slot, stamp) in self.registrars.waiting_for_a_return() {
            let Some(entry) = self.slots.get_mut(slot) else { continue };
            if !entry.queued() || entry.stamp != stamp || entry.registration.probes_next() {
                continue;
            }
            let trunk = entry.trunk.view();
            if trunk.all_uris().any(|uri| Target::of(uri).shown() == registrar) {
                entry.registration.begin_again(now.at);
                self.take_next_step(slot, true, now);
            }
        }
    }

    /// Something is down: those that have backed off because it failed, or would go to it next, wait for its
    /// end.
    pub(in crate::engine) fn wait_for_outages(&mut self, now: Now) {
        for slot in std::mem::take(&mut self.backing_off) {
            let Some(entry) = self.slots.get(slot) else { continue };
            let idle = !entry.queued()
                && entry.registration.waits_for_recovery()
                && entry.registration.due() > now.at;
            if idle && self.paths().waits_out_outage(entry, now.at) {
                self.reschedule(slot, now);
            } else if idle {
                self.backing_off.insert(slot);
            }
        }
    }
}
