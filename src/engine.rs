//! Many registrations and what they share: a timer queue, budgets, the bound on requests in flight, the health of the
//! Requester and of the EdgePorts.
//!
//! [`Engine`] does no IO and reads no clock. [`driver`] runs it:
//!
//! ```text
//!   TrunkSource --> offer() --+                          +--> poll_send() --> Requester --+
//!                             |                          |                                |
//!                             +------->  Engine  --------+                                |
//!                             |            ^             |                                |
//!   Store --> resume() -------+            |             +--> take_changes() --> Store    |
//!                                          |                                              |
//!                                          +----------------- answered() <----------------+
//! ```
//!
//! Nothing is a task, a channel or a timer of its own for each trunk: a million trunks are a million slots.

pub mod clock;
pub mod driver;
mod edges;
mod fleet;
pub mod handle;
mod keeper;
pub mod packed;
mod registrars;
mod report;
mod rivals;
mod sync;
mod timers;
pub mod view;
mod way;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use slab::Slab;

use self::{
    edges::Edges,
    fleet::Fleet,
    packed::UriKey,
    registrars::Registrars,
    sync::SyncState,
    timers::Timers,
    view::{Health, TrunkState},
    way::{CallResult, Gate, Way},
};
use crate::{
    config::{Config, EdgePort},
    ports::{Change, Record, Register, Reply, SendError},
    registration::{
        Attempt, Plan, Registration, Sent, Settings, UriChoice,
        identity::RegistryId,
        reply::Verdict,
        request,
        time::{Moment, Now},
    },
    trunk::{HostPort, Transport},
};

/// Names a request in flight.
pub type Ticket = usize;

/// What an engine is set up with.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// What all registrations have in common.
    pub registration: Settings,
    /// EdgePorts, at least one.
    pub edge_ports: Vec<EdgePort>,
    /// REGISTERs in flight at most.
    pub max_in_flight: u32,
    /// REGISTERs per second for each registrar host.
    pub rate_per_registrar: Option<f64>,
}

impl From<&Config> for EngineSettings {
    fn from(config: &Config) -> Self {
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            registration: Settings {
                interval_ms: ms(config.register_interval),
                expires_s: config.registration.expires,
                deadline_ms: ms(config.requester.timeout),
                tags: config.registration.require.clone(),
            },
            edge_ports: config.edge_ports.clone(),
            max_in_flight: config.registration.max_in_flight,
            rate_per_registrar: config.registration.rate_per_registrar,
        }
    }
}

/// A REGISTER to send now.
#[derive(Debug)]
pub struct Send {
    /// Give it back with the answer.
    pub ticket: Ticket,
    /// What to send.
    pub register: Register,
    /// How long to wait for the answer, in milliseconds.
    pub deadline_ms: u64,
}

/// What came of a REGISTER, for metrics.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// Registrar host.
    pub registrar: Box<str>,
    /// A short, fixed name.
    pub outcome: &'static str,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A trunk's registration now stands differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The trunk.
    pub reference: String,
    /// How it stood.
    pub from: TrunkState,
    /// How it stands.
    pub to: TrunkState,
    /// Registrar host in use.
    pub registrar: String,
    /// Why, where it is not well.
    pub reason: Option<(&'static str, String)>,
}

#[derive(Debug)]
struct Flight {
    slot: u32,
    attempt: Attempt,
    sent_to: HostPort,
    transport: Transport,
    uri: UriKey,
    registrar: u32,
    edge: usize,
    sent_at: Moment,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    registry: RegistryId,
    settings: EngineSettings,
    fleet: Fleet,
    timers: Timers,
    registrars: Registrars,
    way: Way,
    edges: Edges,
    flights: Slab<Flight>,
    sync: SyncState,
    /// What the store knew at the start, until the trunks turn up.
    known: HashMap<Box<str>, Record>,
    transitions: Vec<Transition>,
    api: Health,
    cache: Health,
    paused: bool,
    /// Of the last queue entry.
    stamp: u32,
    rng: SmallRng,
}

/// How long a trunk waits that must not be sent while its predecessor is being removed, in milliseconds.
const COLLISION_PAUSE: u64 = 500;
/// What must be left of a binding, beyond the deadline of a probe, for the probe to be worth it; in milliseconds.
const PROBE_MARGIN: u64 = 5_000;
/// Transitions that are kept for whoever logs them.
const MAX_TRANSITIONS: usize = 10_000;

impl Engine {
    /// An engine without trunks.
    pub fn new(registry: RegistryId, settings: EngineSettings, seed: u64) -> Self {
        Self {
            registry,
            fleet: Fleet::default(),
            timers: Timers::default(),
            registrars: Registrars::new(settings.rate_per_registrar),
            way: Way::new(settings.max_in_flight),
            edges: Edges::new(&settings.edge_ports),
            flights: Slab::new(),
            sync: SyncState::default(),
            known: HashMap::new(),
            transitions: Vec::new(),
            api: Health::default(),
            cache: Health::default(),
            paused: false,
            stamp: 0,
            rng: SmallRng::seed_from_u64(seed),
            settings,
        }
    }

    /// What the store kept. Trunks that turn up in a sync go on from there.
    pub fn resume(&mut self, records: Vec<Record>) {
        self.known = records.into_iter().map(|record| (record.reference.clone(), record)).collect();
    }

    /// Whether the store kept nothing.
    pub fn knows_nothing(&self) -> bool {
        self.known.is_empty()
    }

    /// Sends nothing any more; bindings stay.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

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
            let waits = |slot, stamp| fleet.get(slot).is_some_and(|slot| slot.queued && slot.stamp == stamp);
            let share = (self.way.limit() / 8).max(1);
            let (slot, registrar) = self.registrars.next(urgent_only, share, now.at, waits)?;
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
            return None;
        }
        // Behind a shut gate budgets do not matter: an answer opens it, or the breaker's time.
        let budgets = (self.way.gate(now.at) != Gate::Shut).then(|| self.registrars.next_at()).flatten();
        let breaker = self.way.opens_at().filter(|moment| *moment > now.at);
        [self.timers.next(), budgets, breaker].into_iter().flatten().min()
    }

    /// Takes the answer to a request.
    pub fn answered(
        &mut self,
        ticket: Ticket,
        answer: &Result<Reply, SendError>,
        now: Now,
    ) -> Option<Finished> {
        let flight = self.flights.try_remove(ticket)?;
        let took_ms = now.at.since(flight.sent_at);
        let outcome = self.apply_answer(&flight, answer, now);
        let silent = match answer {
            Ok(reply) => Some(reply.code == Some(408)),
            Err(SendError::Deadline(_)) => Some(true),
            Err(_) => None,
        };
        self.registrars.finished(flight.registrar, silent, now.at);
        if let Some(silent) = silent {
            self.edges.finished(flight.edge, flight.registrar, silent, now.at);
        }
        let result = match (answer, silent) {
            (Ok(_), silent) => CallResult::Answered { brisk: silent == Some(false) },
            (Err(SendError::Deadline(_)), _) => CallResult::Deadline,
            (Err(SendError::Unavailable(_)), _) => CallResult::Unavailable,
            (Err(SendError::Refused(_)), _) => CallResult::Refused,
        };
        let message = answer.as_ref().err().map(ToString::to_string);
        self.way.finished(result, took_ms, message.as_deref(), now, &mut self.rng);
        Some(Finished { registrar: flight.uri.host, outcome, took_ms })
    }

    fn apply_answer(&mut self, flight: &Flight, answer: &Result<Reply, SendError>, now: Now) -> &'static str {
        let Some(entry) = self.fleet.get_mut(flight.slot) else { return "late" };
        let trunk = entry.trunk.open();
        let plan =
            Plan { uris: trunk.uris(), edges: self.edges.len(), settings: &self.settings.registration };
        let sent = Sent {
            address: &flight.sent_to,
            transport: flight.transport,
            position: flight.uri.locate(&trunk).unwrap_or(0),
            at: flight.sent_at,
        };
        let (verdict, effect) =
            entry.registration.answered(&flight.attempt, sent, answer, &plan, now, &mut self.rng);
        if let Some(seconds) = effect.min_expires {
            self.registrars.learn_min_expires(flight.registrar, seconds);
        }
        if let Some(until) = effect.hold_registrar_until {
            self.hold(flight.registrar, until, now);
        }
        if effect.persist && !matches!(verdict, Verdict::Unavailable) {
            self.fleet.mark_dirty(flight.slot);
        }
        if effect.finished {
            self.drop_removal(flight.slot);
        } else {
            self.settle(flight.slot, now);
        }
        verdict.outcome()
    }

    /// A registrar wants to be left alone: whoever waits for it goes elsewhere, if it can.
    fn hold(&mut self, registrar: u32, until: Moment, now: Now) {
        for (slot, stamp) in self.registrars.hold(registrar, until, now.at) {
            if self.fleet.get(slot).is_some_and(|entry| entry.queued && entry.stamp == stamp) {
                self.enqueue(slot, now);
            }
        }
    }

    /// After any change of a registration: counts it anew and arms its timer, or queues it when it is due.
    fn settle(&mut self, slot: u32, now: Now) {
        self.recount(slot, now);
        let Some(entry) = self.fleet.get_mut(slot) else { return };
        entry.queued = false;
        let due = entry.registration.due();
        if due <= now.at {
            self.enqueue(slot, now);
        } else {
            self.timers.arm(due, slot);
            // A wait that is longer than the binding lasts: its lapse is a change of state.
            if let Some(left) = entry.registration.left(now.at)
                && due > now.at.plus(left)
            {
                self.timers.arm(now.at.plus(left), slot);
            }
            let fleet = &self.fleet;
            self.timers.compact(fleet.len(), |moment, slot| {
                fleet.get(slot).is_some_and(|entry| {
                    let lapse = entry.registration.binding().map(|binding| binding.expires_at);
                    entry.registration.due() == moment || lapse == Some(moment)
                })
            });
        }
    }

    /// A timer fired: whatever is due, is done.
    fn look(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.fleet.get_mut(slot) else { return };
        let lapsed = entry.registration.left(now.at).is_none() && entry.registration.binding().is_some();
        if lapsed && entry.registration.is_leaving() {
            if entry.registration.give_up_leaving(now.at) {
                return self.drop_removal(slot);
            }
        } else if lapsed {
            entry.registration.lapsed(now.unix_ms);
        }
        if !entry.queued && entry.registration.due() <= now.at {
            self.enqueue(slot, now);
        }
        self.recount(slot, now);
    }

    fn recount(&mut self, slot: u32, now: Now) {
        let Some((from, to)) = self.fleet.recount(slot, now.at) else { return };
        if self.transitions.len() < MAX_TRANSITIONS
            && let Some(entry) = self.fleet.get(slot)
        {
            self.transitions.push(report::transition(entry, from, to));
        }
    }

    /// What changed its state since the last call.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    /// Puts a trunk that is due into the queue of the registrar that its next attempt goes to.
    fn enqueue(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.fleet.get_mut(slot) else { return };
        if entry.registration.in_flight() || entry.trunk.open().uris() == 0 {
            return;
        }
        let trunk = entry.trunk.open();
        let order = trunk.order();
        let host_of = |registration: &Registration| -> Box<str> {
            match registration.redirect(now.at) {
                Some(to) => to.address.host.clone(),
                None => {
                    let position = position(&registration.ranks().0, &order);
                    trunk.uri(position).map_or("", |uri| uri.host).into()
                }
            }
        };
        let held_until =
            |host: &str| Some(self.registrars.held_until(host)).filter(|until| *until > now.at.plus(1_000));
        let mut host = host_of(&entry.registration);
        // A removal goes where the binding is, and nowhere else.
        if let Some(until) = held_until(&host).filter(|_| !entry.registration.is_leaving()) {
            if entry.registration.probes_next() {
                return self.skip_probe(slot, now);
            }
            let current = position(&entry.registration.ranks().0, &order);
            let free = order.iter().position(|other| {
                *other != current && trunk.uri(*other).is_some_and(|uri| held_until(uri.host).is_none())
            });
            if let Some(free) = free.and_then(|rank| u8::try_from(rank).ok()) {
                entry.registration.divert(free, until);
                host = host_of(&entry.registration);
            }
        }
        // Never used twice, so that an entry of a slot's former owner does not count for the next one.
        self.stamp = self.stamp.wrapping_add(1);
        entry.stamp = self.stamp;
        entry.queued = true;
        let (urgency, stamp) = (entry.registration.urgency(), entry.stamp);
        if let Some(left) = entry.registration.left(now.at) {
            self.timers.arm(now.at.plus(left), slot);
        }
        let registrar = self.registrars.id_of(&host, now.at);
        self.registrars.wait(registrar, urgency, slot, stamp, now.at);
    }

    /// See [`Registration::skip_probe`].
    fn skip_probe(&mut self, slot: u32, now: Now) {
        if let Some(entry) = self.fleet.get_mut(slot) {
            entry.registration.skip_probe(&self.settings.registration, now.at, &mut self.rng);
        }
        self.settle(slot, now);
    }

    fn send(&mut self, slot: u32, registrar: u32, now: Now) -> Option<Send> {
        let worst = self.settings.registration.deadline_ms + PROBE_MARGIN;
        let entry = self.fleet.get(slot)?;
        if entry.registration.probes_next() && entry.registration.left(now.at).unwrap_or(0) < worst {
            self.skip_probe(slot, now);
            return None;
        }
        if self.collides(slot) {
            let entry = self.fleet.get_mut(slot)?;
            entry.registration.defer(now.at.plus(COLLISION_PAUSE));
            self.settle(slot, now);
            return None;
        }
        let min_expires = self.registrars.min_expires(registrar);
        let entry = self.fleet.get_mut(slot)?;
        entry.queued = false;
        let trunk = entry.trunk.open();
        let plan =
            Plan { uris: trunk.uris(), edges: self.edges.len(), settings: &self.settings.registration };
        let uri = trunk.uri(position(&entry.registration.ranks().0, &trunk.order()))?;
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
        Some(Send { ticket, register, deadline_ms: self.settings.registration.deadline_ms })
    }

    /// The connection to the Requester was lost, or is back.
    pub fn requester_link_changed(&mut self, lost: bool, now: Now) {
        self.way.link_changed(lost, now);
    }

    /// The connection to the Requester was lost and is back: its Contact may have changed.
    pub fn requester_reconnected(&mut self, now: Now) {
        self.refresh_early(now, |_, _| true);
    }

    fn refresh_early(&mut self, now: Now, concerned: impl Fn(&Self, &fleet::Slot) -> bool) {
        for slot in self.fleet.all() {
            if !self.fleet.get(slot).is_some_and(|entry| concerned(self, entry)) {
                continue;
            }
            if let Some(entry) = self.fleet.get_mut(slot) {
                let before = entry.registration.due();
                entry.registration.refresh_early(now.at, &mut self.rng);
                let due = entry.registration.due();
                if due != before && !entry.queued {
                    self.timers.arm(due, slot);
                }
            }
        }
    }

    /// Registers one trunk now.
    pub fn refresh(&mut self, reference: &str, now: Now) -> handle::Refresh {
        let Some(slot) = self.fleet.find(reference) else { return handle::Refresh::NotFound };
        let Some(entry) = self.fleet.get_mut(slot) else { return handle::Refresh::NotFound };
        if entry.trunk.open().uris() == 0 {
            return handle::Refresh::Invalid;
        }
        if entry.registration.in_flight() {
            return handle::Refresh::InFlight;
        }
        entry.registration.refresh_now(now.at);
        self.settle(slot, now);
        handle::Refresh::Queued
    }

    /// Changes settings without touching what they do not concern.
    pub fn reconfigure(&mut self, settings: EngineSettings, now: Now) {
        let before = std::mem::replace(&mut self.settings, settings);
        self.way.set_max(self.settings.max_in_flight);
        if before.rate_per_registrar != self.settings.rate_per_registrar {
            self.registrars.set_rate(self.settings.rate_per_registrar, now.at);
        }
        if before.edge_ports != self.settings.edge_ports {
            let edges = Edges::new(&self.settings.edge_ports);
            let before = std::mem::replace(&mut self.edges, edges);
            // Calls must not go on arriving at an EdgePort that is no longer there. Other trunks are not touched.
            self.refresh_early(now, |engine, entry| {
                let (trunk, rank) = (entry.trunk.open(), entry.registration.ranks().1);
                let address = |edges: &Edges| edges.choose(&trunk, rank, now.at).1;
                address(&before) != address(&engine.edges)
            });
        }
        if before.registration.tags != self.settings.registration.tags {
            for slot in self.fleet.all() {
                if let Some(entry) = self.fleet.get_mut(slot) {
                    entry.registration.forget_tags();
                }
            }
        }
        if before.registration.interval_ms != self.settings.registration.interval_ms {
            for slot in self.fleet.all() {
                if let Some(entry) = self.fleet.get_mut(slot) {
                    entry.registration.reschedule(&self.settings.registration, now.at, &mut self.rng);
                    if !entry.queued {
                        self.timers.arm(entry.registration.due(), slot);
                    }
                }
            }
        }
    }

    /// Removes all bindings. Nothing registers any more; [`Engine::is_empty`] tells when it is done.
    pub fn leave_all(&mut self, now: Now) {
        self.known.clear();
        for slot in self.fleet.all() {
            self.remove_trunk(slot, now);
        }
    }

    /// Whether no trunk is left.
    pub fn is_empty(&self) -> bool {
        self.fleet.len() == 0
    }

    /// REGISTERs in flight.
    pub fn in_flight(&self) -> u32 {
        self.way.in_flight()
    }

    /// How many changes wait to be written to the store.
    pub fn unwritten(&self) -> usize {
        self.fleet.unwritten()
    }

    /// At most `most` changes to write to the store. [`Engine::put_back`] takes back what could not be written.
    pub fn take_changes(&mut self, most: usize, now: Now) -> Vec<Change> {
        self.fleet.take_changes(most, now)
    }

    /// These changes were not written after all.
    pub fn put_back(&mut self, changes: Vec<Change>) {
        self.fleet.put_back(changes);
    }

    /// Whether anything is kept at all.
    pub fn keep(&mut self, durable: bool) {
        self.fleet.keep(durable);
    }

    /// What a request in flight has used up must be kept even if its answer never comes.
    pub fn give_up_flights(&mut self) {
        for slot in self.flights.iter().map(|(_, flight)| flight.slot) {
            self.fleet.mark_dirty(slot);
        }
    }

    /// The store lost what it had: everything is written again.
    pub fn write_everything(&mut self) {
        self.fleet.mark_all_dirty();
    }
}

/// The position that an attempt means.
fn position(choice: &UriChoice, order: &[u8]) -> u8 {
    match choice {
        UriChoice::Rank(rank) => order.get(usize::from(*rank)).or(order.first()).copied().unwrap_or(0),
        UriChoice::Position(position) => *position,
    }
}
