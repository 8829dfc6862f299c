//! Scheduler of many registrations, and of what they share: a timer queue, budgets, the bound on requests in
//! flight, the health of the Requester and of the EdgePorts.
//!
//! [`Engine`] does no IO and reads no clock. A driver runs it:
//!
//! ```text
//!   TrunkSource --> handle_trunk() ---+                    +--> poll_transmit() --> Requester --+
//!                                     |                    |                                    |
//!                                     +----->  Engine  ----+                                    |
//!                                     |          ^         |                                    |
//!   Store --> handle_records() -------+          |         +--> poll_changes() --> Store        |
//!                                                |                                              |
//!                                                +------------- handle_response() <-------------+
//! ```
//!
//! # Calls, in their order
//!
//! A driver makes four kinds of calls, as with quinn-proto. None of them blocks or fails, and each takes the
//! present as an argument.
//!
//! 1. **Once, at the start**: [`Engine::new`]; [`Engine::keep`], where changes are to be written to a store;
//!    [`Engine::within`], where a budget of memory is shared; [`Engine::handle_records`] with what the store
//!    kept, before the first trunk. A store that could not be read by then may follow:
//!    [`Engine::handle_late_records`].
//! 2. **`handle_*`, when something has happened**, in any order:
//!    * a sync: [`Engine::handle_sync_started`], then [`Engine::handle_trunk`] for each trunk that is listed,
//!      then [`Engine::handle_sync_finished`] or [`Engine::handle_sync_failed`]. Before the end,
//!      [`Engine::missing`] names the trunks to ask the API server for by their ref;
//!    * a call to the Requester that is over: [`Engine::handle_response`], once for each [`Transmit`], by its
//!      ticket;
//!    * the Requester: [`Engine::handle_link`], [`Engine::handle_requester_restarted`],
//!      [`Engine::handle_requester_replaced`];
//!    * the store: [`Engine::handle_store_health`], [`Engine::handle_unwritten`],
//!      [`Engine::handle_store_loss`], [`Engine::handle_store_replaced`];
//!    * other settings: [`Engine::handle_settings`].
//! 3. **Commands**, when a user or the operator wants something: [`Engine::refresh`], [`Engine::pause`],
//!    [`Engine::stand_by`], [`Engine::adopt`], [`Engine::deregister_all`].
//! 4. **`poll_*`, after each of these calls, and at the time of the last [`Engine::poll_timeout`]**:
//!    * [`Engine::poll_transmit`], again and again until it returns `None`. It also does what time alone
//!      brings about, so it is called even while nothing is to be sent;
//!    * [`Engine::poll_changes`], when the store can take some. What it could not take after all goes back by
//!      [`Engine::handle_unwritten`]. Before the process ends, [`Engine::give_up_in_flight`] adds the numbers
//!      that requests in flight have used;
//!    * [`Engine::poll_transitions`] and [`Engine::poll_notices`], for the log;
//!    * [`Engine::poll_timeout`] last: it depends on all of the others.
//!
//! Its views may be read at any time: [`Engine::summary`], [`Engine::failures`],
//! [`Engine::get`], [`Engine::detail`], [`Engine::scan`].
//!
//! # Components
//!
//! | component | decides |
//! |---|---|
//! | `slots` | which trunks there are, how each is counted, what has to be written |
//! | `sync` | which trunks a list adds, changes and removes |
//! | `scheduler` | the next step of each slot, and which REGISTER is sent next |
//! | `registrars` | whose turn it is, by registrar: queues, budgets, outages |
//! | `edge_ports` | which EdgePort a trunk uses, and who probes one that is down |
//! | `paths` | where the next attempt of a trunk goes, and what of that is down |
//! | `concurrency`, `circuit_breaker` | how many requests may be in flight, and whether the Requester is there |
//! | `history` | nothing: it keeps what happened to the trunks that were not simply well |
//! | `in_flight` | which requests are under way, and which have stalled |
//! | `call_id_conflicts` | which of several slots of one trunk may use a Call-ID |
//! | `restored`, `restore` | what the store kept, and what it means by this process's clock |
//!
//! Nothing is a task, a channel or a timer of its own for each trunk: a million trunks are a million slots.

mod call_id_conflicts;
mod circuit_breaker;
mod commands;
mod concurrency;
mod edge_ports;
pub mod history;
mod in_flight;
pub mod notice;
mod outage;
pub mod packed_trunk;
mod paths;
mod ref_index;
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
mod transitions;
pub mod view;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use rand::{SeedableRng, rngs::SmallRng};

use self::{
    concurrency::ConcurrencyLimit,
    edge_ports::EdgePorts,
    in_flight::InFlightRequests,
    notice::Notice,
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
        Settings,
        identity::RegistryId,
        outcome::Reason,
        time::{Moment, Now},
    },
    trunk::TlsUriScheme,
};
use routr_types::digest_minimum::DigestMinimum;

/// Names a request in flight.
pub type Ticket = usize;

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Settings that all registrations have in common.
    pub registration: Settings,
    /// EdgePorts, at least one.
    pub edge_ports: Vec<EdgePort>,
    /// REGISTERs in flight at most.
    pub max_in_flight: u32,
    /// REGISTERs per second for each registrar host.
    pub rate_per_registrar: Option<f64>,
    /// Minimum that a digest challenge has to offer, for all trunks.
    pub digest: DigestMinimum,
    /// Scheme of URIs over TLS, where a trunk does not say.
    pub tls_uri_scheme: TlsUriScheme,
    /// Trunks at most, those that are being deregistered included.
    pub max_trunks: usize,
}

/// A REGISTER to send now.
#[derive(Debug)]
pub struct Transmit {
    /// Give it back with the answer.
    pub ticket: Ticket,
    /// The request to send.
    pub register: RegisterRequest,
    /// Time to wait for the response, in milliseconds.
    pub deadline_ms: u64,
    /// Delay after its chosen moment, in milliseconds, where it refreshes a valid binding.
    pub late_ms: Option<u64>,
}

/// Outcome of a REGISTER, for metrics.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// Registrar host.
    pub registrar: Box<str>,
    /// A short, fixed name.
    pub outcome: &'static str,
    /// Time that it took, in milliseconds.
    pub took_ms: u64,
}

/// A trunk's registration now stands differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The trunk.
    pub reference: String,
    /// State before.
    pub from: TrunkState,
    /// State now.
    pub to: TrunkState,
    /// Registrar host in use.
    pub registrar: String,
    /// EdgePort in use; empty where there is none.
    pub edge_port: String,
    /// Set where these are not the trunk's preferred URI and EdgePort.
    pub failed_over: bool,
    /// Target of a redirection from that registrar, `host:port/TRANSPORT`.
    pub redirected_to: Option<String>,
    /// The reason and the message, where it is not well.
    pub reason: Option<(Reason, String)>,
}

/// Scheduler of many registrations: see the module.
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
    /// Results of the removals of bindings.
    deregistration: DeregistrationReport,
    /// Records of the store, until their trunks turn up.
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
    /// Budget of what it may keep; `None`: as much as its settings say.
    room: Option<Arc<dyn MemoryBudget>>,
}

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

    /// Takes what the store kept. Trunks that turn up in a sync go on from there.
    pub fn handle_records(&mut self, records: Vec<Record>, now: Moment) {
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

    /// Returns what changed its state since the last call.
    pub fn poll_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    /// Returns what changed since the last call that many trunks share, for the log.
    pub fn poll_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The connection to the Requester was lost, or is back, or the Requester says what it takes at a time.
    pub fn handle_link(&mut self, link: Link, now: Now) {
        self.concurrency.set_capacity(link.capacity);
        let change = self.concurrency.link_changed(link.lost, now);
        self.log_requester_health(change, now);
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
        self.sync.last_complete_ms().is_some()
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

    /// At most `most` changes to write to the store. [`Engine::handle_unwritten`] takes back what could not
    /// be written.
    pub fn poll_changes(&mut self, most: usize, now: Now) -> Vec<Change> {
        let (known, at_least) = (&self.restored, self.at_least);
        let known = |reference: &str| Some(restore::by_this_clock(known.get(reference)?, at_least, now));
        self.slots.take_changes(most, known, &mut EdgePortNames::new(&self.edge_ports), now)
    }

    /// These changes were not written after all.
    pub fn handle_unwritten(&mut self, changes: Vec<Change>) {
        self.slots.return_changes(changes);
    }

    /// Keeps changes for a store, or no longer.
    pub fn keep(&mut self, durable: bool) {
        self.slots.keep(durable);
    }

    /// Marks what requests in flight have used up for writing, even if their responses never come.
    pub fn give_up_in_flight(&mut self) {
        for slot in self.in_flight.iter().map(|flight| flight.slot) {
            self.slots.mark_dirty(slot);
        }
    }

    /// The store lost what it had: everything is written again.
    pub fn handle_store_loss(&mut self) {
        self.slots.mark_all_dirty();
    }
}
