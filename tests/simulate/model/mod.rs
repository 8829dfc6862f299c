//! Memory of the checks, seen from the world: never from the engine's own books.

pub mod due;
pub mod grants;
mod knowledge;
pub mod outages;
mod paths;
pub mod refusals;
mod requests;
mod responses;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use routr_registration::engine::EngineSettings;
use routr_types::host::HostPort;

use crate::{
    checks::back_after_an_outage::Owed,
    model::due::Dues,
    model::outages::Outages,
    model::refusals::Offer,
    process_state::Life,
    trunks::{Catalogue, Entry},
};

/// So long have all places to be taken to explain anything, in milliseconds.
const FULL: u64 = 5_000;

/// One run of an engine: from its start to its end, or to the death of its process.
pub struct Run {
    pub life: Arc<Life>,
    pub began: u64,
    /// Time at which the store said what it kept.
    pub loaded_at: Option<u64>,
    /// The versions of trunks that a listing told it of.
    pub known: BTreeMap<String, u64>,
    /// The Call-IDs of the last good version of each trunk that a listing told it of.
    pub good: BTreeMap<String, Vec<Box<str>>>,
    /// The last number that it sent of each Call-ID, and since when that call is over.
    pub numbers: BTreeMap<Box<str>, (u32, Option<u64>)>,
    /// Registrars that asked it to wait, and until when.
    pub holds: BTreeMap<Box<str>, u64>,
    /// Rest of each registrar's budget, and since when.
    pub buckets: BTreeMap<Box<str>, (f64, u64)>,
    pub in_flight: u32,
    /// Since when all places have been taken, and from when to when they were for a while.
    pub full_since: Option<u64>,
    pub full: (u64, u64),
    /// From when to when they were at each time, where there are two at most.
    pub taken: Vec<(u64, u64)>,
    pub paused: bool,
    /// Told to remove everything.
    pub farewell: bool,
    /// Told to end.
    pub ending: bool,
    pub sends: u64,
    /// Since when it sends again after a pause or a freeze.
    pub resumed_at: u64,
    /// Time at which all places were last taken.
    pub full_until: u64,
    /// Trunks that were in a complete listing.
    pub seen: BTreeSet<String>,
    pub dues: Dues,
    pub outages: Outages,
    /// By EdgePort: when the latest request was sent that something came back for.
    pub responded: BTreeMap<Box<str>, u64>,
    /// By registrar and trunk: when the last request was sent that succeeded.
    pub successes: BTreeMap<Box<str>, BTreeMap<String, u64>>,
}

impl Run {
    pub fn new(life: Arc<Life>, began: u64, paused: bool) -> Self {
        Self {
            life,
            began,
            loaded_at: None,
            known: BTreeMap::new(),
            good: BTreeMap::new(),
            numbers: BTreeMap::new(),
            holds: BTreeMap::new(),
            buckets: BTreeMap::new(),
            in_flight: 0,
            full_since: None,
            full: (0, 0),
            taken: Vec::new(),
            paused,
            farewell: false,
            ending: false,
            sends: 0,
            resumed_at: 0,
            full_until: 0,
            seen: BTreeSet::new(),
            dues: Dues::new(),
            outages: Outages::default(),
            responded: BTreeMap::new(),
            successes: BTreeMap::new(),
        }
    }
}

/// A password that was refused.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub password: String,
    pub times: u32,
    pub until: u64,
    /// Times at which the last one was sent, and at which the engine heard of it.
    pub sent: u64,
    pub told_at: u64,
}

/// A success, as the engine was told of it.
#[derive(Clone, Debug)]
pub struct Grant {
    pub run: u32,
    pub cseq: u32,
    pub sent: u64,
    pub granted_ms: u64,
    /// From the preferred target by the preferred EdgePort.
    pub preferred: bool,
    /// The EdgePort that it was made through.
    pub edge_port: HostPort,
}

/// One Call-ID.
#[derive(Default)]
pub struct CallModel {
    /// The highest number that anyone has used.
    pub used: u32,
    pub open: Option<u64>,
    /// The number of the last REGISTER.
    pub last_sent: u32,
    /// True if a second more or less matters to what the last grant is worth; and its end as the most lenient
    /// reader has it.
    pub border: bool,
    pub unsure: bool,
    pub most_until: u64,
    /// By EdgePort: until when a binding that was made through it may last.
    pub bound_through: BTreeMap<HostPort, u64>,
    /// Until when another device's binding makes it look registered, where the Requester does not tell which
    /// one is ours.
    pub misled_until: u64,
    /// Timeouts in a row, and the run that met with them; when the first of them was sent.
    pub timeouts: (u32, u32),
    pub silent_from: u64,
    /// One of them may have been taken for a refused password: then the next one is the first of another row.
    pub row_ends: bool,
    /// Time at which its last request that an EdgePort repeats without end was sent: nothing comes back.
    pub looped: u64,
    /// Time at which a removal last reached its registrar.
    pub taken_away: u64,
    /// The second silence in a row of a trunk that never registered and had its registrar to itself until
    /// then: as a refused password, until it succeeds.
    pub looked_refused: bool,
    /// It was registered at some time.
    pub registered: bool,
    /// Since the last grant, other EdgePorts may have made a binding that no one confirmed.
    pub unconfirmed: bool,
    pub rejected: Option<Rejected>,
    /// Time at which its password was refused for the first time since its last success.
    pub refused_from: Option<u64>,
    /// Wait that a target asked of this trunk alone: in which run, until when, and when the request was sent.
    pub asked: BTreeMap<HostPort, (u32, u64, u64)>,
    pub grant: Option<Grant>,
    /// Tries to remove the binding since the last success.
    pub leaves: u32,
    /// Registrar that last confirmed its removal, the time, and the Contact.
    pub removed: Option<(Box<str>, u64, String)>,
    /// Time at which it was last not wanted, for whatever reason.
    pub unwanted_at: Option<u64>,
    /// Since when it has not been wanted without a break.
    pub unwanted_since: Option<u64>,
}

/// One trunk.
#[derive(Default)]
pub struct TrunkModel {
    /// Since when nothing at all has been wrong on any of its ways.
    pub well_since: Option<u64>,
    /// Since when one of its ways has been well.
    pub fair_since: Option<u64>,
    /// Since when no registrar has held a binding.
    pub bare_since: Option<u64>,
    /// Until when it may wait for what it met before it was well.
    pub patience: u64,
    pub fair_patience: u64,
    /// The last reason to send out of turn.
    pub reason_at: u64,
    /// The Call-ID of its last success: where the engine believes it to be bound.
    pub last_call: Box<str>,
    /// Successes in a row from the preferred target. After the first one the engine may still look whether
    /// that is it.
    pub preferred: u32,
    /// The last time that a person or an edit had it begin again.
    pub wish_at: u64,
    /// Time at which a listing named its URIs in another order, or with other priorities.
    pub reordered_at: u64,
    /// Signature that a refusal of its password goes by, in the version that a run received last.
    pub signature: Option<String>,
    /// Times at which its password might be offered again for another reason than the end of a wait.
    pub excuses: Vec<u64>,
    /// Until when it may wait for what its registrar said to it alone.
    pub own_wait: u64,
    /// Time at which the response to its last REGISTER said how to ask instead, if nothing has been sent
    /// since: the trunk does not wait for a registrar's return, but has asked often enough and backs off.
    pub tells_how: Option<u64>,
    /// Times at which it was registered, within the last hour.
    pub registered: Vec<u64>,
    /// Its last failure was a refusal of its credentials.
    pub refused: bool,
    /// Since its last success a refusal of its credentials, or what looks like one. Behind an EdgePort, each
    /// silence after that may be another one.
    pub suspected: bool,
}

/// A REGISTER whose call is open.
#[derive(Clone, Debug)]
pub struct InFlight {
    pub run: u32,
    pub call: Box<str>,
    pub reference: String,
    pub target: HostPort,
    pub password: Option<String>,
    pub cseq: u32,
    pub sent: u64,
    pub asked: u32,
    pub preferred: bool,
    pub edge_port: HostPort,
}

/// Memory of the checks.
pub struct Model {
    pub runs: BTreeMap<u32, Run>,
    pub calls: BTreeMap<Box<str>, CallModel>,
    pub trunks: BTreeMap<String, TrunkModel>,
    pub in_flight: BTreeMap<u64, InFlight>,
    pub from_tags: HashSet<Box<str>>,
    /// The settings that hold.
    pub settings: EngineSettings,
    /// Time at which they changed: for a moment these, or those before, may hold.
    pub changed_at: u64,
    /// The shortest interval, and so the longest lead, is of these.
    pub before: EngineSettings,
    pub tags: Vec<String>,
    pub next: u64,
    /// Since when the Requester, its EdgePorts, the API server and the acting run have been well.
    pub dependencies_since: Option<u64>,
    pub sends: u64,
    /// Numbers that no one can know of, see [`crate::world::State::lose_numbers`]: Call-ID and number as it
    /// was sent.
    pub lost: HashSet<(Box<str>, u32)>,
    /// Last time that anything was wrong, as far as that holds this world back.
    pub trouble_at: u64,
    /// Refused passwords that reached a registrar within the last hour, by Call-ID and password.
    pub offers: BTreeMap<(Box<str>, String), Vec<Offer>>,
    /// Registrations that are owed after an outage.
    pub owed: Vec<Owed>,
    /// Since when all EdgePorts, and the Requester, have been well; 0: always.
    pub edges_since: u64,
    pub requester_since: u64,
    /// True while EdgePorts, or the Requester, are not well.
    pub edges_ill: bool,
    pub requester_ill: bool,
}

impl Model {
    pub fn new(settings: &EngineSettings) -> Self {
        Self {
            runs: BTreeMap::new(),
            calls: BTreeMap::new(),
            trunks: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            from_tags: HashSet::new(),
            settings: settings.clone(),
            changed_at: 0,
            before: settings.clone(),
            tags: settings.registration.tags.clone(),
            next: 0,
            dependencies_since: None,
            sends: 0,
            lost: HashSet::new(),
            trouble_at: 0,
            offers: BTreeMap::new(),
            owed: Vec::new(),
            edges_since: 0,
            requester_since: 0,
            edges_ill: false,
            requester_ill: false,
        }
    }

    /// Returns the name of a Call-ID in the history.
    pub fn call_name(&self, catalogue: &Catalogue, call_id: &str) -> String {
        catalogue.calls.get(call_id).map_or_else(|| format!("?{call_id}"), |call| call.name.clone())
    }

    pub fn call(&mut self, call_id: &str) -> &mut CallModel {
        self.calls.entry(call_id.into()).or_default()
    }

    pub fn trunk(&mut self, reference: &str) -> &mut TrunkModel {
        self.trunks.entry(reference.to_owned()).or_default()
    }

    /// A number was used on the wire.
    pub fn used(&mut self, call_id: &str, cseq: u32) {
        let call = self.call(call_id);
        call.used = call.used.max(cseq);
    }

    /// Returns whether all places were taken, for a while already, when a binding expired, or so shortly
    /// before that the queue was still long. A request in flight to a silent registrar has its place until
    /// its deadline: where there are two places, two such requests hold up all others.
    pub fn was_full(&self, expired: u64, at: u64, queue: u64) -> bool {
        self.acting().is_some_and(|(_, run)| {
            let (from, to) = run.full_since.map_or(run.full, |since| (since, at));
            from + FULL <= expired && to + queue >= expired
        })
    }

    /// For how long all places of the acting run were taken since then, where there are two at most.
    /// Refreshes go before all else, and those of a few short bindings at a slow registrar take them all.
    pub fn taken_ms(&self, since: u64, at: u64) -> u64 {
        let Some((_, run)) = self.acting().filter(|_| self.settings.max_in_flight <= 2) else { return 0 };
        let now = run.full_since.map(|from| (from, at));
        run.taken.iter().chain(&now).map(|(from, to)| to.saturating_sub((*from).max(since))).sum()
    }

    /// The run that acts: begun, not told to end, its process alive.
    pub fn acting(&self) -> Option<(u32, &Run)> {
        self.runs
            .iter()
            .rev()
            .map(|(id, run)| (*id, run))
            .find(|(_, run)| !run.life.is_dead() && !run.ending && !run.farewell)
    }

    /// Returns whether a Call-ID belongs to the last good version that the acting run has read of a trunk
    /// that is spoilt: that stays registered. A later one may have been spoilt before it was read.
    pub fn stays(&self, catalogue: &Catalogue, call_id: &str) -> bool {
        let Some(known) = catalogue.calls.get(call_id) else { return false };
        let spoilt = catalogue.entries.get(&known.reference).is_some_and(Entry::is_spoilt);
        let read = self.acting().and_then(|(_, run)| run.good.get(&known.reference));
        spoilt && read.is_some_and(|calls| calls.iter().any(|id| **id == *call_id))
    }

    /// Everything has a reason to be sent out of turn.
    pub fn excuse_all(&mut self, at: u64) {
        for trunk in self.trunks.values_mut() {
            trunk.reason_at = at;
        }
    }

    /// Counts requests in flight as gone when their process has died.
    pub fn note_death(&mut self, life: u32) {
        let dead: Vec<u32> =
            self.runs.iter().filter(|(_, run)| run.life.id == life).map(|(id, _)| *id).collect();
        for call in self.calls.values_mut() {
            if call.open.and_then(|id| self.in_flight.get(&id)).is_some_and(|f| dead.contains(&f.run)) {
                call.open = None;
            }
        }
        self.in_flight.retain(|_, flight| !dead.contains(&flight.run));
        for id in dead {
            self.runs.remove(&id);
        }
    }
}
