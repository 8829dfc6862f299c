//! Slots that wait: for their own time, or in the queue of a registrar.

use super::step::{Step, next_step};
use crate::{
    engine::{
        Engine,
        paths::{Paths, next_target_of},
        registrars::Urgency,
        slots::Slot,
    },
    registration::{
        Priority,
        time::{Moment, Now},
    },
};

impl Engine {
    /// After any change of a registration: arms its timer, or queues it when it is due, and counts it again.
    pub(in crate::engine) fn reschedule(&mut self, slot: u32, now: Now) {
        self.take_next_step(slot, false, now);
        self.update_state(slot, now);
    }

    /// Acts on [`next_step`] until the slot waits. `released` as there.
    pub(in crate::engine) fn take_next_step(&mut self, slot: u32, mut released: bool, now: Now) {
        let mut skipped = false;
        loop {
            let settings = &self.settings.registration;
            let paths = Paths { registrars: &self.registrars, edge_ports: &self.edge_ports };
            let Some(entry) = self.slots.get_mut(slot) else { return };
            match next_step(entry, paths, settings, released, now.at) {
                Step::Queue => {
                    self.queue(slot, now);
                    break;
                }
                Step::WaitUntil(due) => {
                    self.wait_until(slot, due, now);
                    return self.update_state(slot, now);
                }
                Step::SkipProbe => {
                    entry.registration.skip_probe(settings, now.at, &mut self.rng);
                    skipped = true;
                }
                Step::FailOver(failover) => entry.registration.fail_over(failover),
            }
            released = false;
        }
        if skipped {
            self.update_state(slot, now);
        }
    }

    fn wait_until(&mut self, slot: u32, due: Moment, now: Now) {
        self.slots.set_queued(slot, false);
        self.slots.set_blocked(slot, false);
        let Some(entry) = self.slots.get(slot) else { return };
        if entry.registration.waits_for_recovery() {
            self.backing_off.insert(slot);
        }
        self.timers.arm(due, slot);
        // A wait that is longer than the binding lasts: its expiry is a change of state.
        if let Some(left) = entry.registration.remaining_ms(now.at)
            && due > now.at.plus(left)
        {
            self.timers.arm(now.at.plus(left), slot);
        }
        let (slots, settings) = (&self.slots, &self.settings.registration);
        self.timers.compact(slots.len(), |moment, slot| {
            slots.get(slot).is_some_and(|entry| {
                let registration = &entry.registration;
                let expiry = registration.binding().map(|binding| binding.expires_at);
                let probe = registration.probe_may_wait_until(settings);
                registration.due() == moment || [expiry, probe].contains(&Some(moment))
            })
        });
    }

    /// Puts a trunk into the queue of the registrar that its next attempt goes to, whatever that is like.
    pub(in crate::engine) fn queue(&mut self, slot: u32, now: Now) {
        self.queue_as(slot, None, now);
    }

    /// As [`Engine::queue`], with another urgency than its own.
    pub(in crate::engine) fn queue_as(&mut self, slot: u32, urgency: Option<Urgency>, now: Now) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if entry.registration.in_flight() || entry.trunk.view().uris() == 0 {
            return;
        }
        let target = next_target_of(entry, now.at);
        // Never used twice, so that an entry of a slot's former owner does not count for the next one.
        self.backing_off.remove(&slot);
        self.stamp = self.stamp.wrapping_add(1);
        entry.stamp = self.stamp;
        // While calls fail, one that was never tried goes first: its call may succeed. Once, for then it has
        // been tried.
        let untried = entry.registration.class() == Priority::First && self.concurrency.is_open();
        // What probed a registrar that is down in vain has its next turn after those that have not: its
        // silence may be its own, as behind an EdgePort that keeps offering a refused password.
        let tried = met_silence(entry, now.at) && self.registrars.down(&target).is_some();
        let own = match waits_since(entry, now.at) {
            _ if untried => (true, Moment::default(), Priority::First),
            (false, _, class) if tried => (true, now.at, class),
            own => own,
        };
        let (urgency, stamp) = (urgency.unwrap_or(own), entry.stamp);
        let probe = entry.registration.probe_may_wait_until(&self.settings.registration);
        let expiry = entry.registration.remaining_ms(now.at).map(|left| now.at.plus(left));
        [probe, expiry].into_iter().flatten().for_each(|at| self.timers.arm(at, slot));
        self.slots.set_queued(slot, true);
        let registrar = self.registrars.id_of(&target, now.at);
        self.registrars.wait(registrar, urgency, slot, stamp, now.at);
        self.update_blocked(slot, now);
    }

    /// Counts a queued trunk as in trouble while what it needs is down, and no longer.
    pub(in crate::engine) fn update_blocked(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.slots.get(slot).filter(|entry| entry.queued()) else { return };
        let due = entry.registration.due() <= now.at && !entry.registration.probes_next();
        let blocked = due && self.paths().outage(entry, now.at).is_some();
        if blocked != entry.blocked() {
            self.slots.set_blocked(slot, blocked);
            self.update_state(slot, now);
        }
    }

    /// A timer fired: whatever is due, is done.
    pub(super) fn on_timer(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let expired =
            entry.registration.remaining_ms(now.at).is_none() && entry.registration.binding().is_some();
        if expired && entry.registration.is_deregistering() {
            if entry.registration.abandon_deregistration(now.at) {
                self.deregistration.abandoned += 1;
                return self.drop_removal(slot);
            }
        } else if expired {
            let paths = Paths { registrars: &self.registrars, edge_ports: &self.edge_ports };
            let outage = paths.outage(entry, now.at).map(|outage| outage.waited_for());
            entry.registration.expired_while_waiting(outage.as_deref(), now.unix_ms);
        }
        let registration = &entry.registration;
        let released = if entry.queued() {
            registration.is_probe_too_late(&self.settings.registration, now.at)
        } else {
            registration.due() <= now.at
        };
        if released {
            self.take_next_step(slot, true, now);
        }
        self.update_state(slot, now);
    }
}

/// Returns how urgent a trunk is that begins to wait. One that waits for a return does so from now on,
/// however late it would be due by itself: else those that fail for another reason, and are due soon again
/// and again, would have all the probes.
pub(super) fn waits_since(entry: &Slot, now: Moment) -> Urgency {
    match entry.registration.urgency() {
        (true, due, class) => (true, due.min(now), class),
        urgency => urgency,
    }
}

/// Returns how urgent a trunk is as a probe of an EdgePort. One whose own last call failed comes after those
/// of its registrar whose calls may succeed: a call that fails says nothing of the EdgePort, and the same few
/// would have all the probes.
pub(super) fn probes_since(entry: &Slot, now: Moment) -> Urgency {
    let own = waits_since(entry, now);
    if entry.registration.failed_calls() > 0 { (true, now, own.2) } else { own }
}

/// Returns whether the last request to the URI of the next attempt was left without a response.
pub(super) fn met_silence(entry: &Slot, now: Moment) -> bool {
    let followed = entry.registration.redirect(now).is_some();
    let next = entry.trunk.view().order().resolve(entry.registration.ranks().0);
    !followed && entry.registration.met_silence(next)
}
