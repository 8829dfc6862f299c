//! Many registrations and what they share: a timer queue, budgets, the bound on requests in flight, the
//! health of the Requester and of the EdgePorts.
//!
//! [`Engine`] does no IO and reads no clock. A driver runs it:
//!
//! ```text
//!   TrunkSource --> offer() --+                          +--> poll_transmit() --> Requester +
//!                             |                          |                                |
//!                             +------->  Engine  --------+                                |
//!                             |            ^             |                                |
//!   Store --> resume() -------+            |             +--> take_changes() --> Store    |
//!                                          |                                              |
//!                                          +------------- handle_response() <-----------+
//! ```
//!
//! Nothing is a task, a channel or a timer of its own for each trunk: a million trunks are a million slots.

mod call_id_conflicts;
mod circuit_breaker;
mod commands;
mod concurrency;
mod edge_ports;
mod in_flight;
pub mod notice;
mod outage;
pub mod packed_trunk;
mod paths;
mod registrar_users;
mod registrars;
mod report;
mod response;
mod restore;
mod restored;
mod scheduler;
mod search;
mod slots;
mod sync;
mod timers;
pub mod view;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use rand::{SeedableRng, rngs::SmallRng};

use self::{
    concurrency::ConcurrencyLimit,
    edge_ports::EdgePorts,
    in_flight::InFlightRequests,
    notice::{MAX_NOTICES, Notice},
    registrars::Registrars,
    restored::RestoredRecords,
    slots::{EdgePortNames, Slots},
    sync::SyncState,
    timers::Timers,
    view::Health,
};
pub use self::{search::Search, sync::SyncReport};
use crate::{engine::view::DeregistrationReport, registration::state::TrunkState};
use crate::{
    model::{Change, EdgePort, Link, MemoryBudget, Record, RegisterRequest},
    registration::{
        Settings, UriChoice,
        identity::RegistryId,
        time::{Moment, Now},
    },
};
use routr_types::digest_minimum::DigestMinimum;

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
    /// What a digest challenge has to offer at least, for all trunks.
    pub digest: DigestMinimum,
    /// Trunks at most, those that are being deregistered included.
    pub max_trunks: usize,
}

/// A REGISTER to send now.
#[derive(Debug)]
pub struct Transmit {
    /// Give it back with the answer.
    pub ticket: Ticket,
    /// What to send.
    pub register: RegisterRequest,
    /// How long to wait for the answer, in milliseconds.
    pub deadline_ms: u64,
    /// How long after its chosen moment it goes out, in milliseconds, where it refreshes a valid binding.
    pub late_ms: Option<u64>,
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
    /// EdgePort in use; empty where there is none.
    pub edge_port: String,
    /// Whether these are not the trunk's preferred URI and EdgePort.
    pub failed_over: bool,
    /// Where a redirection led from that registrar, `host:port/TRANSPORT`.
    pub redirected_to: Option<String>,
    /// Why, where it is not well.
    pub reason: Option<(&'static str, String)>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    registry: RegistryId,
    settings: EngineSettings,
    slots: Slots,
    timers: Timers,
    registrars: Registrars,
    concurrency: ConcurrencyLimit,
    edge_ports: EdgePorts,
    in_flight: InFlightRequests,
    sync: SyncState,
    /// What became of the bindings that were removed.
    deregistration: DeregistrationReport,
    /// What the store knew at the start, until the trunks turn up.
    restored: RestoredRecords,
    /// The latest time, in Unix milliseconds, at which a binding of `restored` was granted, and when that was
    /// read. A clock that shows less, and what has passed since then, is behind the one that they were
    /// written by.
    at_least: (u64, Moment),
    transitions: Vec<Transition>,
    notices: Vec<Notice>,
    api: Health,
    cache: Health,
    paused: bool,
    /// Another process acts for the registry.
    stands_by: bool,
    /// The first expiry to come, and when it was looked for.
    first_expiry: Option<(Moment, Moment)>,
    /// Slots that back off because of an outage that was not noticed as one: they wait for its end should it
    /// be.
    backing_off: BTreeSet<u32>,
    /// Of the last queue entry.
    stamp: u32,
    rng: SmallRng,
    /// What it may keep; `None`: as much as its settings say.
    room: Option<Arc<dyn MemoryBudget>>,
}

/// Transitions that are kept for anyone who logs them.
const MAX_TRANSITIONS: usize = 10_000;

impl Engine {
    /// An engine without trunks.
    pub fn new(registry: RegistryId, settings: EngineSettings, seed: u64) -> Self {
        Self {
            registry,
            slots: Slots::default(),
            timers: Timers::default(),
            registrars: Registrars::new(settings.rate_per_registrar),
            concurrency: ConcurrencyLimit::new(settings.max_in_flight),
            edge_ports: EdgePorts::new(&settings.edge_ports),
            in_flight: InFlightRequests::default(),
            sync: SyncState::default(),
            deregistration: DeregistrationReport::default(),
            restored: RestoredRecords::default(),
            at_least: (0, Moment::default()),
            transitions: Vec::new(),
            notices: Vec::new(),
            api: Health::default(),
            cache: Health::default(),
            paused: false,
            stands_by: false,
            first_expiry: None,
            backing_off: BTreeSet::new(),
            stamp: 0,
            rng: SmallRng::seed_from_u64(seed),
            room: None,
            settings,
        }
    }

    /// Keeps no more than there is room for.
    pub fn within(&mut self, room: Arc<dyn MemoryBudget>) {
        self.room = Some(room);
    }

    /// What the store kept. Trunks that turn up in a sync go on from there.
    pub fn resume(&mut self, records: Vec<Record>, now: Moment) {
        self.at_least = (restore::latest_grant(&records), now);
        self.restored = RestoredRecords::new(records);
    }

    /// Sends nothing any more; bindings stay.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Sends nothing while another process acts for the registry.
    pub fn stand_by(&mut self, stands_by: bool) {
        self.stands_by = stands_by;
    }

    /// Makes the Call-IDs of this id from the next REGISTER on: the store keeps it. Returns whether it is
    /// another one.
    pub fn adopt(&mut self, registry: RegistryId) -> bool {
        let differs = self.registry != registry;
        self.registry = registry;
        differs
    }

    fn update_state(&mut self, slot: u32, now: Now) {
        let change = self.slots.update_state(slot, now.at);
        let failed_over = self.slots.get(slot).is_some_and(|entry| self.is_failed_over(entry, now));
        let moved = self.slots.set_failed_over(slot, failed_over);
        let redirected =
            self.slots.get(slot).is_some_and(|entry| entry.registration.redirected(now.at).is_some());
        self.slots.set_redirected(slot, redirected);
        let Some(entry) = self.slots.get(slot).filter(|_| self.transitions.len() < MAX_TRANSITIONS) else {
            return;
        };
        // Another target is worth a line of its own while the trunk is well.
        let moved = moved.then(|| entry.state()).filter(|state| *state == TrunkState::Registered);
        if let Some((from, to)) = change.or(moved.map(|state| (state, state))) {
            self.transitions.push(self.transition(entry, from, to, now));
        }
    }

    /// Returns what changed its state since the last call.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    /// Returns what changed since the last call that many trunks share, for the log.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn notice(&mut self, notice: Notice) {
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(notice);
        }
    }

    /// The connection to the Requester was lost, or is back, or the Requester says what it takes at a time.
    pub fn requester_link_changed(&mut self, link: Link, now: Now) {
        self.concurrency.set_capacity(link.capacity);
        let change = self.concurrency.link_changed(link.lost, now);
        self.log_requester_health(change, now);
    }

    /// The Requester's health changed: the log says so.
    fn log_requester_health(&mut self, since_ms: Option<u64>, now: Now) {
        let Some(since_ms) = since_ms else { return };
        let health = self.concurrency.health();
        let message = health.message.clone().unwrap_or_default();
        match (health.ok, since_ms) {
            // The first response of all.
            (Some(true), 0) => {}
            (Some(true), since_ms) => {
                self.notice(Notice::RequesterBack { after_ms: now.unix_ms.saturating_sub(since_ms) });
            }
            _ => self.notice(Notice::RequesterDown { message }),
        }
    }

    /// The settings in use.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Returns whether it is paused, see [`Engine::pause`].
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Returns whether the trunks have been read completely at least once.
    pub fn has_synced(&self) -> bool {
        self.sync.last_complete_ms.is_some()
    }

    /// Returns whether no trunk is left.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// REGISTERs in flight.
    pub fn in_flight(&self) -> u32 {
        self.concurrency.in_flight()
    }

    /// Returns how many changes wait to be written to the store.
    pub fn unwritten(&self) -> usize {
        self.slots.unwritten()
    }

    /// At most `most` changes to write to the store. [`Engine::return_changes`] takes back what could not be
    /// written.
    pub fn take_changes(&mut self, most: usize, now: Now) -> Vec<Change> {
        let (known, at_least) = (&self.restored, self.at_least);
        let known = |reference: &str| Some(restore::by_this_clock(known.get(reference)?, at_least, now));
        self.slots.take_changes(most, known, &mut EdgePortNames::new(&self.edge_ports), now)
    }

    /// These changes were not written after all.
    pub fn return_changes(&mut self, changes: Vec<Change>) {
        self.slots.return_changes(changes);
    }

    /// Whether anything is kept at all.
    pub fn keep(&mut self, durable: bool) {
        self.slots.keep(durable);
    }

    /// What a request in flight has used up must be kept even if its answer never comes.
    pub fn give_up_in_flight(&mut self) {
        for slot in self.in_flight.iter().map(|flight| flight.slot) {
            self.slots.mark_dirty(slot);
        }
    }

    /// The store lost what it had: everything is written again.
    pub fn mark_all_for_writing(&mut self) {
        self.slots.mark_all_dirty();
    }
}

/// The position that an attempt means.
fn position(choice: &UriChoice, order: &[u8]) -> u8 {
    match choice {
        UriChoice::Rank(rank) => order.get(usize::from(*rank)).or(order.first()).copied().unwrap_or(0),
        UriChoice::Position(position) => *position,
    }
}
