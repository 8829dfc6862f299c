//! REGISTERs out: who is due, who waits where, who is sent now.

use rand::RngExt;

use super::{
    Engine, Flight, Send,
    packed::{TrunkView, UriKey},
    position,
    registrars::BRIEF,
    way::Gate,
};
use crate::registration::{
    Plan, Registration, UriChoice, request, schedule,
    time::{Moment, Now},
};

/// How long a trunk waits that must not be sent while its predecessor is being removed, in milliseconds.
const COLLISION_PAUSE: u64 = 500;

/// With fewer places than these the share of a silent registrar, which is one at least, is more than an eighth.
const FEW: u32 = 8;

impl Engine {
    /// The next REGISTER to send now, if there is one: call again until there is none.
    pub fn poll_send(&mut self, now: Now) -> Option<Send> {
        while let Some(slot) = self.timers.pop(now.at) {
            self.look(slot, now);
        }
        if self.paused {
            return None;
        }
        loop {
            let urgent_only = match self.way.gate(now.at) {
                Gate::All => false,
                Gate::Urgent => true,
                Gate::Shut => return None,
            };
            let fleet = &self.fleet;
            let waits =
                |slot, stamp| fleet.get(slot).is_some_and(|slot| slot.queued() && slot.stamp == stamp);
            let share = (self.way.limit() / 8).max(1);
            let last_place = self.way.limit() < FEW && self.way.in_flight() + 1 >= self.way.limit();
            let (slot, registrar) = self.registrars.next(urgent_only, share, last_place, now.at, waits)?;
            match self.send(slot, registrar, now) {
                Some(send) => return Some(send),
                None => self.registrars.not_sent(registrar, now.at),
            }
        }
    }

    /// When to call [`Engine::poll_send`] again, unless something else happens before.
    ///
    /// It is in the future once `poll_send` has said that there is nothing to send.
    pub fn next_wakeup(&self, now: Now) -> Option<Moment> {
        if self.paused {
            // Lapses are still to be noticed.
            return self.timers.next();
        }
        // Behind a shut gate budgets do not matter: an answer opens it, or the breaker's time.
        let budgets = (self.way.gate(now.at) != Gate::Shut).then(|| self.registrars.next_at()).flatten();
        let breaker = self.way.opens_at().filter(|moment| *moment > now.at);
        [self.timers.next(), budgets, breaker].into_iter().flatten().min()
    }

    /// Puts a trunk that is due into the queue of the registrar that its next attempt goes to.
    pub(super) fn enqueue(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.fleet.get_mut(slot) else { return };
        if entry.registration.in_flight() || entry.trunk.open().uris() == 0 {
            return;
        }
        let trunk = entry.trunk.open();
        let order = trunk.order();
        let host_of = |registration: &Registration| next_host(registration, &trunk, &order, now.at);
        let held_until =
            |host: &str| Some(self.registrars.held_until(host)).filter(|until| *until > now.at.plus(BRIEF));
        let mut host = host_of(&entry.registration);
        // A removal goes where the binding is, and nowhere else.
        if let Some(until) = held_until(&host).filter(|_| !entry.registration.is_leaving()) {
            if entry.registration.probes_next() {
                return self.skip_probe(slot, now);
            }
            let held = |rank| {
                let uri = trunk.uri(position(&UriChoice::Rank(rank), &order));
                uri.is_none_or(|uri| held_until(uri.host).is_some())
            };
            entry.registration.divert(until, held, trunk.uris(), now.at);
            if entry.registration.due() > now.at {
                return self.settle(slot, now);
            }
            host = host_of(&entry.registration);
        }
        // Never used twice, so that an entry of a slot's former owner does not count for the next one.
        self.stamp = self.stamp.wrapping_add(1);
        entry.stamp = self.stamp;
        let (urgency, stamp) = (entry.registration.urgency(), entry.stamp);
        if let Some(left) = entry.registration.left(now.at) {
            self.timers.arm(now.at.plus(left), slot);
        }
        self.fleet.set_queued(slot, true);
        let registrar = self.registrars.id_of(&host, now.at);
        self.registrars.wait(registrar, urgency, slot, stamp, now.at);
    }

    /// See [`Registration::skip_probe`].
    pub(super) fn skip_probe(&mut self, slot: u32, now: Now) {
        if let Some(entry) = self.fleet.get_mut(slot) {
            entry.registration.skip_probe(&self.settings.registration, now.at, &mut self.rng);
        }
        self.settle(slot, now);
    }

    fn send(&mut self, slot: u32, registrar: u32, now: Now) -> Option<Send> {
        let worst = self.settings.registration.deadline_ms + schedule::PROBE_MARGIN;
        let entry = self.fleet.get(slot)?;
        if entry.registration.probes_next() && entry.registration.left(now.at).unwrap_or(0) < worst {
            self.skip_probe(slot, now);
            return None;
        }
        // A redirection that held when it was queued may have ended: another registrar's budget counts.
        let trunk = entry.trunk.open();
        let host = next_host(&entry.registration, &trunk, &trunk.order(), now.at);
        if self.registrars.id_of(&host, now.at) != registrar {
            self.enqueue(slot, now);
            return None;
        }
        if self.is_pointless(slot) {
            self.withdraw(slot, now);
            return None;
        }
        if self.collides(slot, now) {
            let entry = self.fleet.get_mut(slot)?;
            entry.registration.defer(now.at.plus(COLLISION_PAUSE));
            self.settle(slot, now);
            return None;
        }
        let min_expires = self.registrars.min_expires(registrar);
        self.fleet.set_queued(slot, false);
        let entry = self.fleet.get_mut(slot)?;
        let trunk = entry.trunk.open();
        let plan =
            Plan { uris: trunk.uris(), edges: self.edges.len(), settings: &self.settings.registration };
        let uri = trunk.uri(position(&entry.registration.ranks().0, &trunk.order()))?;
        let late_ms = entry.registration.refreshes().then(|| now.at.since(entry.registration.due()));
        let attempt = entry.registration.attempt(min_expires, &plan, now);
        let (edge, edge_port) = self.edges.choose(&trunk, attempt.edge, now.at);
        self.edges.sent(edge, now.at);
        let tag = self.rng.random();
        let register = request::register(
            &self.registry,
            trunk.reference(),
            uri,
            trunk.credentials(),
            edge_port,
            &attempt,
            tag,
        );
        let flight = Flight {
            slot,
            sent_to: register.target.clone(),
            transport: register.transport,
            uri: UriKey::of(uri),
            registrar,
            edge,
            sent_at: now.at,
            attempt,
        };
        self.way.sent(now.at);
        let ticket = self.flights.insert(flight);
        Some(Send { ticket, register, deadline_ms: self.settings.registration.deadline_ms, late_ms })
    }
}

/// The host that the next attempt goes to, which may be one that it is redirected to.
fn next_host(registration: &Registration, trunk: &TrunkView<'_>, order: &[u8], now: Moment) -> Box<str> {
    if let Some(to) = registration.redirect(now) {
        return to.address.host.clone();
    }
    trunk.uri(position(&registration.ranks().0, order)).map_or("", |uri| uri.host).into()
}
