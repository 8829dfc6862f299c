//! A discrete-event simulation of one engine: days take milliseconds. Everything that must always hold is
//! checked at each step (see [`super::checks`]); the tests say what must hold as well.

pub use crate::testing::{HOUR, Item, MINUTE, SECOND_MS, settings};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    checks::Checks,
    world::{ConcurrencyLimit, Policy, Registrar, SILENCE, code, trunk},
};
use crate::{
    engine::{
        Engine, EngineSettings, Ticket, Transition, Transmit, notice::Notice, sync::SyncReport,
        view::TrunkView,
    },
    model::{Absence, Change, Link, Record, RegisterRequest, RegisterResponse, SendError, SourceError},
    registration::{
        Purpose,
        identity::RegistryId,
        state::TrunkState,
        time::{Moment, Now},
    },
    trunk::{Trunk, TrunkProblem},
};
use routr_types::extension::{Hop, Local, LocalKind};

/// As the driver's clock has it.
const CLOCK_ORIGIN_MS: u64 = 365 * 24 * HOUR;
const UNIX: u64 = 1_790_000_000_000;

/// One REGISTER that went out, and what came of it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: u64,
    pub trunk: String,
    /// The host that it went to.
    pub host: String,
    pub port: u16,
    pub edge: String,
    pub expires: u32,
    pub cseq: u32,
    pub call_id: String,
    pub from_tag: String,
    pub without_tags: u32,
    pub purpose: Purpose,
    /// Delay after its moment, where it is a refresh.
    pub late_ms: Option<u64>,
    pub password: String,
    /// Status code that will come back; `None` where the Requester gives none.
    pub code: Option<u16>,
    pub answered_at: u64,
}

/// A call under way, and what will come of it.
struct Open {
    number: u64,
    answer: Result<RegisterResponse, SendError>,
    sent: Sent,
    request: RegisterRequest,
}

/// Simulation of one engine.
pub struct Sim {
    pub engine: Engine,
    pub settings: EngineSettings,
    /// True time since the simulation began, in milliseconds.
    pub t: u64,
    /// Error of the wall clock.
    pub skew: i64,
    pub trunks: BTreeMap<String, Item>,
    pub registrars: HashMap<String, Registrar>,
    pub concurrency: ConcurrencyLimit,
    /// The Requester is ours, in direct mode: it says how much it takes and whom it asked.
    pub ours: bool,
    pub dead_edges: HashSet<String>,
    /// Trunks whose calls fail on a connection that lives.
    pub failing_calls: HashSet<String>,
    pub api_up: bool,
    pub store_up: bool,
    pub store: BTreeMap<Box<str>, Record>,
    /// Undoes the last writes, newest last.
    undo: Vec<(Box<str>, Option<Record>)>,
    pub log: Vec<Sent>,
    pub wakeups: u64,
    pub notices: Vec<Notice>,
    pub transitions: Vec<Transition>,
    pub checks: Checks,
    pub last_sync: SyncReport,
    /// Certainty that what a list lacks is gone.
    pub absence: Absence,
    /// Times at which answers come, by ticket and number: a ticket is used again.
    pending: BinaryHeap<Reverse<(u64, Ticket, u64)>>,
    answers: HashMap<Ticket, Open>,
    calls: u64,
    next_sync: u64,
    /// Edited since the last complete sync.
    edited: HashSet<String>,
    revision: u64,
    seed: u64,
    rng: SmallRng,
}

impl Sim {
    pub fn new(settings: EngineSettings, seed: u64) -> Self {
        let mut engine = Engine::new(RegistryId::new("sim"), settings.clone(), seed);
        engine.keep(true);
        Self {
            engine,
            checks: Checks::new(&settings),
            settings,
            t: 0,
            skew: 0,
            trunks: BTreeMap::new(),
            registrars: HashMap::new(),
            concurrency: ConcurrencyLimit::Up,
            ours: false,
            dead_edges: HashSet::new(),
            failing_calls: HashSet::new(),
            api_up: true,
            store_up: true,
            store: BTreeMap::new(),
            undo: Vec::new(),
            log: Vec::new(),
            wakeups: 0,
            notices: Vec::new(),
            transitions: Vec::new(),
            last_sync: SyncReport::default(),
            absence: Absence::Certain,
            pending: BinaryHeap::new(),
            answers: HashMap::new(),
            calls: 0,
            next_sync: 0,
            edited: HashSet::new(),
            revision: 0,
            seed,
            rng: SmallRng::seed_from_u64(!seed),
        }
    }

    /// One EdgePort, twenty REGISTERs per second for each registrar, and these trunks.
    pub fn with(trunks: &[Trunk]) -> Self {
        let mut sim = Self::new(settings(1, Some(20.0)), 1);
        trunks.iter().for_each(|trunk| sim.put(trunk));
        sim
    }

    /// So many trunks of one registrar, registered, without a budget; what it took is not in the log.
    pub fn registered(count: usize) -> Self {
        let mut sim = Self::new(settings(1, None), 1);
        (0..count).for_each(|n| sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@h0")])));
        sim.run(2 * MINUTE);
        sim.forget_log();
        sim
    }

    /// With a Requester of our own, which says that it takes many at a time.
    pub fn with_ours(mut self) -> Self {
        self.ours = true;
        let link = Link { capacity: Some(4_096), ..Link::default() };
        let now = self.now();
        self.engine.handle_link(link, now);
        self
    }

    pub fn now(&self) -> Now {
        Now {
            at: Moment(CLOCK_ORIGIN_MS + self.t),
            unix_ms: (UNIX + self.t).saturating_add_signed(self.skew),
        }
    }

    /// Lists a trunk, from the next sync on.
    pub fn put(&mut self, trunk: &Trunk) {
        self.list(&trunk.reference, Ok(trunk.clone()));
    }

    pub fn list(&mut self, reference: &str, trunk: Result<Trunk, TrunkProblem>) {
        self.revision += 1;
        self.edited.insert(reference.to_owned());
        let item = Item { reference: Some(reference.to_owned()), revision: self.revision, trunk };
        self.trunks.insert(reference.to_owned(), item);
    }

    /// No longer lists a trunk.
    pub fn remove(&mut self, reference: &str) {
        self.trunks.remove(reference);
        self.edited.insert(reference.to_owned());
    }

    pub fn policy(&mut self, host: &str, policy: Policy) {
        self.registrar(host).fake.policy = policy;
        self.retransmit();
    }

    /// The Requester sends again every four seconds what was not answered (Timer E): what is answered from
    /// now on comes back by then.
    pub fn retransmit(&mut self) {
        if self.concurrency != ConcurrencyLimit::Up {
            return;
        }
        let mut tickets: Vec<Ticket> = self.answers.keys().copied().collect();
        tickets.sort_unstable();
        for ticket in tickets {
            let Some(open) = self.answers.get_mut(&ticket) else { continue };
            let silent = matches!(&open.answer, Ok(response) if response.code == Some(408));
            if !silent || self.dead_edges.contains(&open.sent.edge) {
                continue;
            }
            let again = self.t + self.rng.random_range(0..4_000);
            let registrar = self.registrars.entry(open.sent.host.clone()).or_default();
            let (response, took) = registrar.answer(&open.request, again, &mut self.rng);
            if response.code != Some(408) && again + took < open.sent.answered_at {
                open.sent.answered_at = again + took;
                open.sent.code = response.code;
                open.answer = Ok(response);
                self.pending.push(Reverse((again + took, ticket, open.number)));
            }
        }
    }

    pub fn registrar(&mut self, host: &str) -> &mut Registrar {
        self.registrars.entry(host.to_owned()).or_default()
    }

    /// Reads the trunks now.
    pub fn sync(&mut self) -> SyncReport {
        let now = self.now();
        self.next_sync = self.t + self.settings.registration.interval_ms;
        self.engine.handle_sync_started();
        for reference in &self.edited {
            self.checks.edited(reference, self.t);
        }
        if !self.api_up {
            // A part of the list arrives before it breaks.
            let part: Vec<Item> = self.trunks.values().take(self.trunks.len() / 2).cloned().collect();
            part.iter().for_each(|item| self.engine.handle_trunk(item, now));
            self.engine.handle_sync_failed(&SourceError::Unavailable("down".into()), now);
            return SyncReport::default();
        }
        self.edited.clear();
        for item in self.trunks.values() {
            self.engine.handle_trunk(item, now);
        }
        self.last_sync = self.engine.handle_sync_finished(self.absence, now);
        self.pump();
        self.last_sync
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        let until = self.t + ms;
        loop {
            if self.t >= self.next_sync {
                self.sync();
            }
            self.pump();
            let now = self.now();
            let wakeup = self.engine.poll_timeout(now).map(|moment| {
                assert!(moment > now.at, "it would spin: {moment:?} at {:?}", now.at);
                moment.0.saturating_sub(CLOCK_ORIGIN_MS)
            });
            let answer = self.pending.peek().map(|Reverse((at, _, _))| *at);
            let next =
                [wakeup, answer, Some(self.next_sync), Some(until)].into_iter().flatten().min().unwrap();
            self.wakeups += u64::from(wakeup == Some(next));
            self.t = next;
            while let Some(Reverse((at, ticket, number))) = self.pending.peek().copied()
                && at <= self.t
            {
                self.pending.pop();
                if self.answers.get(&ticket).is_some_and(|open| open.number == number) {
                    self.deliver(ticket);
                }
            }
            if self.t >= until {
                self.pump();
                return;
            }
        }
    }

    fn deliver(&mut self, ticket: Ticket) {
        let Open { answer, sent, .. } = self.answers.remove(&ticket).unwrap();
        self.checks.answered(&sent, &answer, self.t);
        let now = self.now();
        self.engine.handle_response(ticket, &answer, now);
        self.pump();
    }

    /// Sends what is due, and writes what changed.
    pub fn pump(&mut self) {
        while let Some(send) = self.engine.poll_transmit(self.now()) {
            self.carry(send);
        }
        self.transitions.extend(self.engine.poll_transitions());
        self.notices.extend(self.engine.poll_notices());
        if self.store_up {
            let now = self.now();
            for change in self.engine.poll_changes(usize::MAX, now) {
                let (reference, record) = match change {
                    Change::Put(record) => (record.reference.clone(), Some(record)),
                    Change::Forget(reference) => (reference, None),
                };
                let before = match record {
                    Some(record) => self.store.insert(reference.clone(), record),
                    None => self.store.remove(&reference),
                };
                self.undo.push((reference, before));
            }
        }
        self.checks.step(&self.engine, self.now());
    }

    fn carry(&mut self, send: Transmit) {
        let request = &send.register;
        let host = request.target.host.to_string();
        let flight = self.engine.in_flight.get(send.ticket).unwrap();
        let fails =
            self.failing_calls.contains(self.engine.slots.get(flight.slot).unwrap().trunk.reference());
        let outcome =
            if fails || !self.concurrency.passes() || self.dead_edges.contains(&*request.edge_port.host) {
                (code(408), SILENCE)
            } else {
                let registrar = self.registrars.entry(host.clone()).or_default();
                registrar.answer(request, self.t, &mut self.rng)
            };
        let (mut response, took) = outcome;
        if self.ours && response.code == Some(408) && took == SILENCE {
            response.local = Some(Local { kind: LocalKind::Timeout, at: Some(Hop::Registrar) });
        }
        let (mut answer, mut at) = self.concurrency.carry((response, took), self.t, send.deadline_ms);
        if fails && self.concurrency.passes() {
            (answer, at) = (Err(SendError::Failed("Unavailable: no upstream".into())), self.t + 1);
        }
        let flight = self.engine.in_flight.get(send.ticket).unwrap();
        let slot = self.engine.slots.get(flight.slot).unwrap();
        let sent = Sent {
            at: self.t,
            trunk: slot.trunk.reference().to_owned(),
            host,
            port: request.target.port,
            edge: request.edge_port.host.to_string(),
            expires: request.expires,
            cseq: request.cseq,
            call_id: request.call_id.to_string(),
            from_tag: request.from_tag.to_string(),
            without_tags: request.without_tags,
            purpose: flight.attempt.purpose,
            late_ms: send.late_ms,
            password: request.credentials.as_ref().map_or("", |own| own.password.expose()).to_owned(),
            code: answer.as_ref().ok().and_then(|response| response.code),
            answered_at: at,
        };
        self.checks.sending(&sent, &answer, &self.engine);
        self.log.push(sent.clone());
        self.calls += 1;
        let number = self.calls;
        self.answers.insert(send.ticket, Open { number, answer, sent, request: send.register });
        self.pending.push(Reverse((at, send.ticket, number)));
    }

    /// The process is killed, and started again after `down` milliseconds; the last `lost` writes never
    /// arrived.
    pub fn restart(&mut self, down: u64, lost: usize) {
        for _ in 0..lost {
            if let Some((reference, before)) = self.undo.pop() {
                match before {
                    Some(record) => self.store.insert(reference, record),
                    None => self.store.remove(&reference),
                };
            }
        }
        self.undo.clear();
        self.pending.clear();
        self.answers.clear();
        self.t += down;
        self.seed += 1;
        self.engine = Engine::new(RegistryId::new("sim"), self.settings.clone(), self.seed);
        self.engine.keep(true);
        self.engine.handle_records(self.store.values().cloned().collect(), self.now().at);
        self.checks.restarted(&self.settings, lost == 0 && self.store_up);
        self.next_sync = self.t;
    }

    pub fn reconfigure(&mut self, settings: EngineSettings) {
        self.settings = settings.clone();
        self.checks.reconfigured(&settings, self.t);
        let now = self.now();
        self.engine.handle_settings(settings, now);
        self.pump();
    }

    pub fn reconnected(&mut self) {
        self.checks.nothing_is_early();
        let now = self.now();
        self.engine.handle_requester_restarted(now);
        self.pump();
    }

    pub fn refresh(&mut self, reference: &str) -> crate::engine::view::Refresh {
        self.checks.edited(reference, self.t);
        let now = self.now();
        let done = self.engine.refresh(reference, now);
        self.pump();
        done
    }

    pub fn view(&self, reference: &str) -> TrunkView {
        self.engine.get(reference, self.now()).unwrap()
    }

    pub fn state(&self, reference: &str) -> TrunkState {
        self.view(reference).state
    }

    pub fn reason(&self, reference: &str) -> Option<String> {
        self.view(reference).failure.map(|failure| failure.reason)
    }

    pub fn counts(&self) -> super::super::view::Counts {
        *self.engine.slots.counts()
    }

    /// Forgets what was sent so far.
    pub fn forget_log(&mut self) {
        self.log.clear();
    }

    /// The log of one trunk.
    pub fn of(&self, reference: &str) -> Vec<&Sent> {
        self.log.iter().filter(|sent| sent.trunk == reference).collect()
    }

    /// Returns whether a registrar holds the binding of a trunk's address of record.
    pub fn bound(&self, reference: &str, aor: &str) -> bool {
        let (user, host) = aor.split_once('@').unwrap();
        let call_id = self.engine.registry.call_id(reference, host, user);
        self.registrars.values().any(|registrar| registrar.holds(&call_id, self.t))
    }
}
