//! REGISTERs out: what is due, where it waits, what is sent now.
//!
//! * [`step`] decides the next step of a slot, and nothing else does.
//! * [`queueing`] acts on it: timers and queues.
//! * [`outages`] moves those that wait for the end of an outage.
//! * Here the next REGISTER is picked, checked, and sent: what the check finds in the way takes nothing back,
//!   for nothing was taken so far.

mod outages;
mod queueing;
mod step;

use rand::RngExt;

use self::queueing::probes_since;
use super::{
    Engine, Transmit,
    concurrency::Admission,
    edge_ports::EdgePortAdmission,
    in_flight::InFlightRequest,
    packed_trunk::UriKey,
    paths::{Paths, next_edge_of, next_target_of},
    registrars::SendLimits,
};
use crate::registration::{
    EdgePortId, Targets, request,
    time::{Moment, Now},
};

/// A trunk that must not be sent while its predecessor is being removed waits for so many milliseconds.
const CONFLICT_PAUSE_MS: u64 = 500;
/// A call that still holds its place is checked again after so many milliseconds.
const STALL_CHECK_MS: u64 = 3_000;
/// Trunks of one registrar at a time that turn to their EdgePorts, where those are down.
const MAX_HEADS: usize = 100;

/// Something in the way of the trunk whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// Its next attempt goes elsewhere, or is another one: a redirection has ended, or there is no time left
    /// for a probe.
    NotDueHere,
    /// It removes what the trunk, which has returned meanwhile, is about to register.
    Superseded,
    /// A removal of what the trunk was before has a request in flight with the same Call-ID.
    Conflict,
    /// Its EdgePort is down, and this is not the probe.
    EdgePortDown(EdgePortId),
}

impl Engine {
    /// Returns the next REGISTER to send now, if there is one: call again until there is none.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Transmit> {
        self.check_stalled(now.at);
        while let Some(slot) = self.timers.pop(now.at) {
            self.on_timer(slot, now);
        }
        let (probes_each, probes) = self.concurrency.probes();
        self.edge_ports.set_probes(probes_each.min(probes));
        if self.paused || self.stands_by {
            return None;
        }
        // Behind a shut gate a turn would be over before it can be used.
        if self.concurrency.admission(now.at) != Admission::None {
            self.wait_at_edge_ports(now);
            while let Some(slot) = self.next_edge_probe(now.at) {
                self.queue(slot, now);
            }
        }
        loop {
            let urgent_only = match self.concurrency.admission(now.at) {
                Admission::All => false,
                Admission::UrgentOnly => true,
                Admission::None => return None,
            };
            let slots = &self.slots;
            let waits =
                |slot, stamp| slots.get(slot).is_some_and(|slot| slot.queued() && slot.stamp == stamp);
            let limits = SendLimits { urgent_only, probes_each, probes };
            let (slot, registrar) = self.registrars.peek(limits, now.at, waits)?;
            match self.check(slot, registrar, now) {
                Ok(edge) => return self.send(slot, registrar, edge, now),
                Err(obstacle) => {
                    self.registrars.pass_over(registrar, now.at);
                    self.act_on_obstacle(slot, registrar, obstacle, now);
                }
            }
        }
    }

    /// Returns the EdgePort that the trunk whose turn it is goes through, or what is in its way. It leaves it
    /// where it is, but for this: what removals have still to do at addresses that the trunk has again is the
    /// trunk's from now on.
    fn check(&mut self, slot: u32, registrar: u32, now: Now) -> Result<EdgePortId, Obstacle> {
        let entry = self.slots.get(slot).ok_or(Obstacle::NotDueHere)?;
        if entry.registration.is_probe_too_late(&self.settings.registration, now.at)
            || self.registrars.find(&next_target_of(entry, now.at)) != Some(registrar)
        {
            return Err(Obstacle::NotDueHere);
        }
        if self.is_superseded(slot) {
            return Err(Obstacle::Superseded);
        }
        if self.take_over_call_id(slot, now) {
            return Err(Obstacle::Conflict);
        }
        let entry = self.slots.get(slot).ok_or(Obstacle::NotDueHere)?;
        let edge = next_edge_of(&self.edge_ports, entry, now.at);
        match self.edge_ports.admission(edge, slot, now.at) {
            EdgePortAdmission::Open => Ok(edge),
            EdgePortAdmission::Closed => Err(Obstacle::EdgePortDown(edge)),
        }
    }

    fn act_on_obstacle(&mut self, slot: u32, registrar: u32, obstacle: Obstacle, now: Now) {
        match obstacle {
            Obstacle::NotDueHere => self.take_next_step(slot, true, now),
            Obstacle::Superseded => self.cancel_deregistration(slot, now),
            Obstacle::Conflict => {
                if let Some(entry) = self.slots.get_mut(slot) {
                    entry.registration.defer(now.at.plus(CONFLICT_PAUSE_MS));
                    self.reschedule(slot, now);
                }
            }
            // It stays queued, at the EdgePort.
            Obstacle::EdgePortDown(edge) => {
                if let Some(entry) = self.slots.get(slot) {
                    self.edge_ports.wait(edge, registrar, probes_since(entry, now.at), slot, entry.stamp);
                    self.update_blocked(slot, now);
                }
            }
        }
    }

    /// Sends what [`Engine::check`] has let through: it takes its place in the queue, its token, and the
    /// probes.
    fn send(&mut self, slot: u32, registrar: u32, edge: EdgePortId, now: Now) -> Option<Transmit> {
        self.registrars.take(registrar, now.at, &mut self.rng);
        let min_expires = self.registrars.min_expires(registrar, now.at);
        self.slots.set_queued(slot, false);
        let entry = self.slots.get_mut(slot)?;
        let trunk = entry.trunk.view();
        let plan = Targets {
            uris: trunk.uris(),
            edges: self.edge_ports.len(),
            settings: &self.settings.registration,
        };
        let uri = trunk.uri(trunk.order().resolve(entry.registration.ranks().0))?;
        let late_ms = entry.registration.refreshes().then(|| now.at.since(entry.registration.due()));
        let attempt = entry.registration.attempt(min_expires, &plan, now);
        let edge_port = (self.edge_ports.address(edge), self.edge_ports.public(edge));
        let tag = self.rng.random();
        let register = request::register(
            &self.registry,
            trunk.reference(),
            (uri, trunk.tls_uri_scheme().unwrap_or(self.settings.tls_uri_scheme)),
            (trunk.credentials(), trunk.digest().and(self.settings.digest)),
            edge_port,
            &attempt,
            tag,
        );
        let flight = InFlightRequest {
            slot,
            sent_to: register.target.clone(),
            transport: register.transport,
            uri: UriKey::of(uri),
            registrar,
            edge,
            sent_at: now.at,
            probes_registrar: self.registrars.is_down(registrar),
            probes_edge: self.edge_ports.sent(edge, slot, now.at, &mut self.rng),
            stalled: false,
            number: 0,
            attempt,
        };
        self.concurrency.sent(now.at);
        let ticket = self.in_flight.insert(flight, now.at.plus(self.concurrency.stalled_after()));
        Some(Transmit { ticket, register, deadline_ms: self.settings.registration.deadline_ms, late_ms })
    }

    /// Calls that have lasted too long leave their places to others.
    fn check_stalled(&mut self, now: Moment) {
        let again = self.concurrency.stalled_after().max(STALL_CHECK_MS);
        let way = &mut self.concurrency;
        self.in_flight.check(now, again, |sent_at| way.stall(sent_at));
    }

    /// Lets those who come first at each registrar wait for their EdgePorts, where none can be used and one
    /// may be probed: else the probes were only by those few whose turn came between two probes.
    fn wait_at_edge_ports(&mut self, now: Now) {
        if !self.edge_ports.seek_a_probe(now.at) {
            return;
        }
        let (slots, edges) = (&self.slots, &self.edge_ports);
        let waits = |slot, stamp| slots.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp);
        let barred =
            |slot| slots.get(slot).is_some_and(|entry| edges.is_down(next_edge_of(edges, entry, now.at)));
        for (registrar, slot) in self.registrars.take_heads(MAX_HEADS, now.at, waits, barred) {
            let Some(entry) = self.slots.get(slot) else { continue };
            let edge = next_edge_of(&self.edge_ports, entry, now.at);
            self.edge_ports.wait(edge, registrar, probes_since(entry, now.at), slot, entry.stamp);
            self.update_blocked(slot, now);
        }
    }

    fn next_edge_probe(&mut self, now: Moment) -> Option<u32> {
        let (slots, registrars) = (&self.slots, &self.registrars);
        let waits = |slot, stamp| slots.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp);
        // A call that fails before it gets there says nothing of the EdgePort.
        let failed = |slot| slots.get(slot).is_some_and(|entry| entry.registration.failed_calls() > 0);
        let tries = |registrar, slot| registrars.fruitless(registrar, failed(slot), now);
        self.edge_ports.next_probe(now, waits, tries)
    }

    /// Returns when to call [`Engine::poll_transmit`] again, unless something else happens before.
    ///
    /// It is in the future once `poll_transmit` has said that there is nothing to send.
    pub fn poll_timeout(&self, now: Now) -> Option<Moment> {
        let always = [self.timers.next(), self.in_flight.next_check()];
        if self.paused || self.stands_by {
            // Expiries are still noticed.
            return always.into_iter().flatten().min();
        }
        // Behind a shut gate budgets do not matter: a response opens it, or the breaker's time.
        let open = self.concurrency.admission(now.at) != Admission::None;
        let budgets = open.then(|| self.registrars.next_at()).flatten();
        let breaker = self.concurrency.opens_at().filter(|moment| *moment > now.at);
        let edges = open.then(|| self.edge_ports.next_at()).flatten();
        let waking = [budgets, breaker, edges];
        always.into_iter().chain(waking).flatten().min()
    }

    /// The paths that requests take, as they are now.
    pub(super) fn paths(&self) -> Paths<'_> {
        Paths { registrars: &self.registrars, edge_ports: &self.edge_ports }
    }
}
