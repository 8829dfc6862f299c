//! REGISTERs out: who is due, who waits where, who is sent now.

use rand::RngExt;

use super::{
    Engine, Transmit,
    concurrency::Admission,
    edge_ports::{EdgePortAdmission, EdgePorts},
    in_flight::InFlightRequest,
    packed_trunk::{PackedTrunkRef, UriKey},
    position,
    registrars::{IGNORED_HOLD_MS, SendLimits, Target, Urgency},
    slots::Slot,
};
use crate::registration::{
    EdgePortId, Priority, Registration, Targets, UriChoice,
    outcome::Reason,
    request, schedule,
    time::{Moment, Now},
};

/// How long a trunk waits that must not be sent while its predecessor is being removed, in milliseconds.
const CONFLICT_PAUSE_MS: u64 = 500;
/// A call that still holds its place is checked again after so many milliseconds.
const STALL_CHECK_MS: u64 = 3_000;
/// Trunks of one registrar at a time that turn to their EdgePorts, where those are down.
const MOST_HEADS: usize = 100;
/// A trunk that goes elsewhere because its registrar is down looks again after so many milliseconds whether
/// it is back.
const DOWN_RECHECK_MS: u64 = 30_000;

impl Engine {
    /// The next REGISTER to send now, if there is one: call again until there is none.
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
            let (slot, registrar) = self.registrars.next(limits, now.at, waits, &mut self.rng)?;
            match self.send(slot, registrar, now) {
                Some(send) => return Some(send),
                None => self.registrars.not_sent(registrar, now.at),
            }
        }
    }

    /// Calls that have lasted too long leave their places to others.
    fn check_stalled(&mut self, now: Moment) {
        let again = self.concurrency.stalled_after().max(STALL_CHECK_MS);
        let way = &mut self.concurrency;
        self.in_flight.check(now, again, |sent_at| way.stall(sent_at));
    }

    /// Where no EdgePort can be used and one may be probed, those who come first at each registrar wait for
    /// theirs: else the probes were only by those few whose turn came between two probes.
    fn wait_at_edge_ports(&mut self, now: Now) {
        if !self.edge_ports.seek_a_probe(now.at) {
            return;
        }
        let (slots, edges) = (&self.slots, &self.edge_ports);
        let waits = |slot, stamp| slots.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp);
        let barred = |slot| slots.get(slot).is_some_and(|entry| edges.is_down(edge_of(edges, entry, now.at)));
        for (registrar, slot) in self.registrars.take_heads(MOST_HEADS, now.at, waits, barred) {
            let Some(entry) = self.slots.get(slot) else { continue };
            let edge = edge_of(&self.edge_ports, entry, now.at);
            self.edge_ports.wait(edge, registrar, waits_since(entry, now.at), slot, entry.stamp);
            self.update_blocked(slot, now);
        }
    }

    fn next_edge_probe(&mut self, now: Moment) -> Option<u32> {
        let (slots, registrars) = (&self.slots, &self.registrars);
        let waits = |slot, stamp| slots.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp);
        // A call that fails before it gets there says nothing of the EdgePort.
        let failed_calls =
            |slot| slots.get(slot).map_or(0, |entry| u32::from(entry.registration.failed_calls()));
        let tries = |registrar, slot| registrars.fruitless(registrar, now).saturating_add(failed_calls(slot));
        self.edge_ports.next_probe(now, waits, tries)
    }

    /// Returns when to call [`Engine::poll_transmit`] again, unless something else happens before.
    ///
    /// It is in the future once `poll_transmit` has said that there is nothing to send.
    pub fn next_wakeup(&self, now: Now) -> Option<Moment> {
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

    /// Puts a trunk that is due into the queue of the registrar that its next attempt goes to. Where that one
    /// is down, or wants to be left alone, another one is tried first.
    pub(super) fn enqueue(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if entry.registration.in_flight() || entry.trunk.view().uris() == 0 {
            return;
        }
        let trunk = entry.trunk.view();
        let order = trunk.order();
        let target = next_target(&entry.registration, &trunk, &order, now.at);
        let registrars = &self.registrars;
        let shut_until = |target: &Target| {
            let held = Some(registrars.held_until(&target.host))
                .filter(|until| *until > now.at.plus(IGNORED_HOLD_MS));
            held.or_else(|| registrars.down(target).map(|_| now.at.plus(DOWN_RECHECK_MS)))
        };
        // A removal goes where the binding is, and nowhere else.
        let shut = shut_until(&target).filter(|_| !entry.registration.is_deregistering());
        if let Some(until) = shut {
            if entry.registration.probes_next() {
                // Someone has to find out that it is back.
                if !registrars.needs_probe(&target, now.at) {
                    return self.skip_probe(slot, now);
                }
            } else {
                let closed = |rank| {
                    let uri = trunk.uri(position(&UriChoice::Rank(rank), &order));
                    uri.is_none_or(|uri| shut_until(&Target::of(uri)).is_some())
                };
                entry.registration.fail_over(until, closed, trunk.uris(), now.at);
                if entry.registration.due() > now.at {
                    return self.reschedule(slot, now);
                }
            }
        }
        self.queue(slot, now);
    }

    /// Puts a trunk into the queue of the registrar that its next attempt goes to, whatever that is like.
    pub(super) fn queue(&mut self, slot: u32, now: Now) {
        self.queue_as(slot, None, now);
    }

    /// As [`Engine::queue`], with another urgency than its own.
    pub(super) fn queue_as(&mut self, slot: u32, urgency: Option<Urgency>, now: Now) {
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
        let own =
            if untried { (true, Moment::default(), Priority::First) } else { waits_since(entry, now.at) };
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
    pub(super) fn update_blocked(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.slots.get(slot).filter(|entry| entry.queued()) else { return };
        let due = entry.registration.due() <= now.at && !entry.registration.probes_next();
        let blocked = due && self.what_is_down(entry, now).is_some();
        if blocked != entry.blocked() {
            self.slots.set_blocked(slot, blocked);
            self.update_state(slot, now);
        }
    }

    /// Returns what the next attempt of a trunk needs and is down: the EdgePort, else the registrar. Reason
    /// and words.
    pub(super) fn what_is_down(&self, entry: &Slot, now: Now) -> Option<(Reason, String)> {
        let edge = self.next_edge_of(entry, now.at);
        if self.edge_ports.is_down(edge) {
            let what = format!("EdgePort {} is down", self.edge_ports.shown(edge));
            return Some((Reason::EdgePortFailed, what));
        }
        let target = next_target_of(entry, now.at);
        let (_, message) = self.registrars.down(&target)?;
        Some((Reason::RegistrarDown, format!("registrar {} is down: {message}", target.shown())))
    }

    /// Returns whether a trunk backs off only because its registrar, or its EdgePort, is down: then it waits
    /// for the return, not for a time of its own.
    pub(super) fn waits_out_outage(&self, slot: u32, now: Now) -> bool {
        let Some(entry) = self.slots.get(slot).filter(|entry| entry.registration.waits_for_recovery()) else {
            return false;
        };
        self.registrars.down(&next_target_of(entry, now.at)).is_some()
            || self.edge_ports.is_down(self.next_edge_of(entry, now.at))
    }

    /// A trunk that met with an outage goes on at once where its next target has come back since its request
    /// was sent: it did not wait in the queue that the return set free, and would wait for a time of its own.
    pub(super) fn resume_after_outage(&mut self, slot: u32, sent_at: Moment, now: Now) {
        let Some(entry) = self.slots.get(slot) else { return };
        if entry.queued() || !entry.registration.waits_for_recovery() {
            return;
        }
        // The round that has failed: its next one begins with a target that was tried before the last one.
        let since = entry.registration.round_sent_at().map_or(sent_at, |first| first.min(sent_at));
        let (target, edge) = (next_target_of(entry, now.at), self.next_edge_of(entry, now.at));
        if self.registrars.is_target_back_since(&target, since) || self.edge_ports.is_back_since(edge, since)
        {
            self.queue(slot, now);
        }
    }

    /// A registrar is back: those that wait for another one, and may go there as well, do.
    pub(super) fn redirect_waiting_to(&mut self, registrar: &str, now: Now) {
        for (slot, stamp) in self.registrars.waiting_for_a_return() {
            let Some(entry) = self.slots.get_mut(slot) else { continue };
            if !entry.queued() || entry.stamp != stamp || entry.registration.probes_next() {
                continue;
            }
            let trunk = entry.trunk.view();
            let mut uris = (0..trunk.uris()).filter_map(|position| trunk.uri(position));
            if uris.any(|uri| Target::of(uri).shown() == registrar) {
                entry.registration.begin_again(now.at);
                self.enqueue(slot, now);
            }
        }
    }

    /// Something is down: those that have backed off because it failed, or would go to it next, wait for its
    /// end.
    pub(super) fn wait_for_outages(&mut self, now: Now) {
        for slot in std::mem::take(&mut self.backing_off) {
            let idle = self.slots.get(slot).is_some_and(|entry| {
                !entry.queued()
                    && entry.registration.waits_for_recovery()
                    && entry.registration.due() > now.at
            });
            if idle && self.waits_out_outage(slot, now) {
                self.reschedule(slot, now);
            } else if idle {
                self.backing_off.insert(slot);
            }
        }
    }

    /// Returns what a queued trunk waits for, where it is down: for a person.
    pub(super) fn waiting_for(&self, slot: u32, now: Now) -> Option<String> {
        let entry = self.slots.get(slot)?;
        let edge = self.next_edge_of(entry, now.at);
        if self.edge_ports.is_down(edge) {
            return Some(format!("EdgePort {}, which is down", self.edge_ports.shown(edge)));
        }
        let target = next_target_of(entry, now.at);
        self.registrars.down(&target).map(|_| format!("registrar {}, which is down", target.shown()))
    }

    /// Returns whether a probe has waited for its turn until the binding has to be refreshed.
    pub(super) fn is_probe_too_late(&self, slot: u32, now: Now) -> bool {
        let settings = &self.settings.registration;
        let until = self.slots.get(slot).and_then(|entry| entry.registration.probe_may_wait_until(settings));
        until.is_some_and(|until| until <= now.at)
    }

    /// See [`Registration::skip_probe`].
    pub(super) fn skip_probe(&mut self, slot: u32, now: Now) {
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.registration.skip_probe(&self.settings.registration, now.at, &mut self.rng);
        }
        self.reschedule(slot, now);
    }

    fn send(&mut self, slot: u32, registrar: u32, now: Now) -> Option<Transmit> {
        let worst = self.settings.registration.deadline_ms + schedule::PROBE_MARGIN_MS;
        let entry = self.slots.get(slot)?;
        if entry.registration.probes_next() && entry.registration.remaining_ms(now.at).unwrap_or(0) < worst {
            self.skip_probe(slot, now);
            return None;
        }
        // A redirection that held when it was queued may have ended: another registrar's budget counts.
        let target = next_target_of(entry, now.at);
        if self.registrars.id_of(&target, now.at) != registrar {
            self.enqueue(slot, now);
            return None;
        }
        if self.is_superseded(slot) {
            self.cancel_deregistration(slot, now);
            return None;
        }
        if self.conflicts(slot, now) {
            let entry = self.slots.get_mut(slot)?;
            entry.registration.defer(now.at.plus(CONFLICT_PAUSE_MS));
            self.reschedule(slot, now);
            return None;
        }
        let edge = self.next_edge(slot, now)?;
        if self.edge_ports.passage(edge, slot, now.at) == EdgePortAdmission::Closed {
            // It stays queued, at the EdgePort.
            let entry = self.slots.get(slot)?;
            self.edge_ports.wait(edge, registrar, waits_since(entry, now.at), slot, entry.stamp);
            self.update_blocked(slot, now);
            return None;
        }
        let min_expires = self.registrars.min_expires(registrar, now.at);
        self.slots.set_queued(slot, false);
        let entry = self.slots.get_mut(slot)?;
        let trunk = entry.trunk.view();
        let plan = Targets {
            uris: trunk.uris(),
            edges: self.edge_ports.len(),
            settings: &self.settings.registration,
        };
        let uri = trunk.uri(position(&entry.registration.ranks().0, &trunk.order()))?;
        let late_ms = entry.registration.refreshes().then(|| now.at.since(entry.registration.due()));
        let attempt = entry.registration.attempt(min_expires, &plan, now);
        let edge_port = (self.edge_ports.address(edge), self.edge_ports.public(edge));
        let tag = self.rng.random();
        let register = request::register(
            &self.registry,
            trunk.reference(),
            uri,
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

    /// The EdgePort that the next attempt of a slot goes through.
    fn next_edge(&self, slot: u32, now: Now) -> Option<EdgePortId> {
        self.slots.get(slot).map(|entry| edge_of(&self.edge_ports, entry, now.at))
    }

    /// The EdgePort of the rank that a trunk uses, or tries next.
    pub(super) fn next_edge_of(&self, entry: &Slot, now: Moment) -> EdgePortId {
        self.edge_ports.choose(&entry.trunk.view(), entry.registration.ranks().1, now)
    }
}

/// The EdgePort that the next attempt of a slot goes through.
fn edge_of(edges: &EdgePorts, entry: &Slot, now: Moment) -> EdgePortId {
    let preferred = || edges.choose(&entry.trunk.view(), entry.registration.ranks().1, now);
    entry.registration.next_bound_edge().unwrap_or_else(preferred)
}

/// Returns how urgent a trunk is that begins to wait. One that waits for a return does so from now on,
/// however late it would be due by itself: else those that fail for another reason, and are due soon again
/// and again, would have all the probes.
fn waits_since(entry: &Slot, now: Moment) -> Urgency {
    match entry.registration.urgency() {
        (true, due, class) => (true, due.min(now), class),
        urgency => urgency,
    }
}

/// As [`next_target`], of a slot.
pub(super) fn next_target_of(entry: &Slot, now: Moment) -> Target {
    let trunk = entry.trunk.view();
    next_target(&entry.registration, &trunk, &trunk.order(), now)
}

/// Where the next attempt goes, which may be where it is redirected to.
pub(super) fn next_target(
    registration: &Registration,
    trunk: &PackedTrunkRef<'_>,
    order: &[u8],
    now: Moment,
) -> Target {
    if let Some(to) = registration.redirect(now) {
        return Target { host: to.address.host.clone(), port: to.address.port };
    }
    let uri = trunk.uri(position(&registration.ranks().0, order));
    uri.map_or_else(|| Target { host: "".into(), port: 0 }, Target::of)
}
