//! One simulated world: everything around the processes, and what the checks remember of it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    checks::{Invariant, mutants::Mutant},
    dependencies::{Api, Records, StoreMode},
    faults::calls::CallFaults,
    field::RequesterKind,
    history::History,
    lease::LeaseServer,
    model::Model,
    network::{Mode, RequesterState},
    process::Reach,
    process_state::{Life, Machine},
    registrar::{Host, Policy, Registrar},
    rules::Rules,
    trunks::Catalogue,
};

/// Shared by all that happens in it; everything runs on one thread.
pub struct World {
    start: Instant,
    state: Mutex<State>,
    pub durable: bool,
    pub broken: Mutant,
}

/// Counts for the table at the end.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Number of events, by name.
    pub events: BTreeMap<&'static str, u64>,
    /// Number of checks of each invariant.
    pub checks: BTreeMap<&'static str, u64>,
}

/// An invariant that does not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub what: String,
}

/// State of one simulated world.
pub struct State {
    start: Instant,
    pub rules: Rules,
    pub rng: SmallRng,
    pub history: History,
    pub tally: Tally,
    pub violations: Vec<Violation>,
    pub catalogue: Catalogue,
    pub hosts: BTreeMap<String, Host>,
    pub requester: RequesterState,
    pub call_faults: CallFaults,
    pub api: Api,
    /// The next listing lacks so many.
    pub shrink: Option<usize>,
    pub store_mode: StoreMode,
    pub records: Records,
    pub lease: LeaseServer,
    pub machines: Vec<Arc<Machine>>,
    pub model: Model,
    pub tick: u64,
    /// Nothing is started again any more.
    pub ending: bool,
    /// All faults are over since then.
    pub calm_since: Option<u64>,
    /// The engine was told to send nothing.
    pub suspended: bool,
    /// Handles to reach the engine that was started last.
    pub reach: Option<Reach>,
    /// Process that runs on each machine.
    pub processes: [Option<(Arc<Life>, CancellationToken)>; 2],
    /// Time that the machine is without its process when that has ended, in milliseconds.
    pub downtime: [u64; 2],
    /// Times at which a registrar last lost its bindings, and at which a listing last lacked trunks.
    pub forgot_at: u64,
    pub shrunk_at: u64,
    pub ended_at: u64,
    lives: u32,
}

impl World {
    pub fn new(rules: Rules) -> Arc<Self> {
        let start = Instant::now();
        let mut rng = SmallRng::seed_from_u64(rules.seed);
        let machines = (0..2)
            .map(|n| Arc::new(Machine::new(start, if n == 0 { 0 } else { rng.random_range(-5_000..5_000) })));
        let machines: Vec<_> = machines.collect();
        if !rules.clock_jumps {
            machines[1].wall_ahead.store(rng.random_range(-50..50), Relaxed);
        }
        let slots = match rules.field.map(|field| field.requester) {
            None => rng.random_bool(0.2),
            Some(kind) => kind == RequesterKind::Java,
        };
        let home = if slots { Mode::Slots(vec![0, 0]) } else { Mode::Up };
        let mut state = State {
            start,
            history: History::default(),
            tally: Tally::default(),
            violations: Vec::new(),
            catalogue: Catalogue::default(),
            hosts: BTreeMap::new(),
            requester: RequesterState::new(home),
            call_faults: CallFaults::default(),
            api: Api::Up,
            shrink: None,
            store_mode: StoreMode::Up,
            records: Records::default(),
            lease: LeaseServer::default(),
            machines,
            model: Model::new(&rules.settings),
            tick: 0,
            ending: false,
            calm_since: None,
            suspended: false,
            reach: None,
            processes: [None, None],
            downtime: [2_000; 2],
            forgot_at: 0,
            shrunk_at: 0,
            ended_at: 0,
            lives: 0,
            rng,
            rules: rules.clone(),
        };
        for n in 0..rules.hosts {
            let host = match rules.field {
                None => Host::draw(&mut state.rng),
                Some(field) => Host::draw_in(&mut state.rng, field),
            };
            state.hosts.insert(format!("h{n}"), host);
        }
        // No one is there but by redirection.
        for n in 0..7 {
            let host = Host::draw(&mut state.rng);
            let challenges = host.challenges && rules.field.is_none();
            let registrar = Registrar::new(Policy::Grants(86_400));
            let host = Host { home: Policy::Grants(86_400), registrar, challenges, ..host };
            state.hosts.insert(format!("r{n}"), host);
        }
        if rules.field.is_some() {
            for (n, policy) in [Policy::Silent, Policy::Refuses, Policy::Code(503), Policy::Code(500)]
                .into_iter()
                .enumerate()
            {
                let host = Host::dead(policy, &mut state.rng);
                state.hosts.insert(format!("d{n}"), host);
            }
        }
        let mut names: Vec<String> = state.host_names();
        if rules.field.is_some_and(|field| field.crowd) {
            // Some have many trunks, most have few.
            let busy = names.iter().take(names.len() / 5 + 1).cloned().collect::<Vec<_>>();
            names.extend(std::iter::repeat_n(busy, 4).flatten());
        }
        for n in 0..rules.trunks {
            let trunk = state.catalogue.draw(&format!("t{n:02}"), &names, &mut state.rng);
            state.catalogue.put(trunk);
        }
        let (durable, broken) = (rules.durable, rules.broken);
        state.say(format_args!("world: {rules:?}"));
        let hosts: Vec<String> =
            state.hosts.iter().map(|(name, host)| format!("{name}={:?}", host.home)).collect();
        state.say(format_args!("world: hosts {}", hosts.join(" ")));
        let trunks: Vec<String> =
            state.catalogue.entries.values().map(|entry| format!("{:?}", entry.trunk)).collect();
        for trunk in trunks {
            state.say(format_args!("world: {trunk}"));
        }
        Arc::new(Self { start, state: Mutex::new(state), durable, broken })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since it began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl State {
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A line of the history.
    pub fn say(&mut self, what: fmt::Arguments<'_>) {
        let at = self.now();
        self.history.note(at, what);
    }

    /// Something happened that the table counts.
    pub fn count(&mut self, event: &'static str) {
        *self.tally.events.entry(event).or_default() += 1;
    }

    /// Registrars that trunks name.
    pub fn host_names(&self) -> Vec<String> {
        self.hosts.keys().filter(|name| name.starts_with('h')).cloned().collect()
    }

    /// A new process on a machine.
    pub fn new_life(&mut self, machine: usize) -> Arc<Life> {
        self.lives += 1;
        let seed = self.rng.random();
        let life = Life::new(self.lives, self.machines[machine].clone(), seed);
        self.say(format_args!("#{} starts on machine {machine}", life.id));
        self.count("starts");
        life
    }
}
