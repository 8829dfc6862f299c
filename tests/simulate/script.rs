//! What happens to a world: faults, and what people do ([`people`]). Drawn from the seed.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rand::RngExt;
use routr_registry::ports::Link;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    field::{Field, Path},
    neighbours::{Api, Shelf},
    network::{EdgeFault, Mode},
    people,
    registrar::Policy,
    rules::{DAY, HOUR, MINUTE, SECOND},
    world::{State, World},
};

/// Something that may happen, and how often beside the others.
type Choice = (u32, &'static str);

/// Lets things happen until their time is over.
pub async fn play(world: Arc<World>) {
    let (until, gap) = {
        let state = world.lock();
        (state.rules.faults_ms, state.rules.gap_ms)
    };
    loop {
        let pause = world.lock().rng.random_range(SECOND..2 * gap);
        sleep(Duration::from_millis(pause)).await;
        if world.now() >= until {
            return;
        }
        let what = world.lock().choose();
        act(&world, what).await;
        world.lock().look();
    }
}

impl State {
    fn choose(&mut self) -> &'static str {
        let lease = u32::from(self.rules.lease.is_some());
        let (store, clock) =
            (u32::from(self.rules.store_fails && self.rules.durable), u32::from(self.rules.clock_jumps));
        let field = u32::from(self.rules.field.is_some());
        let outages = self.rules.field.map_or(0, |field| field.outages);
        let edges = self.rules.field.map_or(3, |field| if field.path == Path::Direct { 0 } else { 3 });
        let all: [Choice; 32] = [
            (10, "registrar answers otherwise"),
            (3, "registrar loses packets"),
            (2, "registrar is late"),
            (1, "registrar is slow"),
            (1, "registrar forgets"),
            (2, "requester down"),
            (2, "requester hangs"),
            (1, "requester refuses"),
            (1, "requester slow"),
            (2, "requester reconnects"),
            (edges, "edge port dead"),
            (4, "api fails"),
            (2, "listing shrinks"),
            (3 * store, "store fails"),
            (2 * store, "store loses data"),
            (3, "kill"),
            (2, "restart"),
            (2 + 2 * lease, "freeze"),
            (3 * lease, "lease outage"),
            (3 * clock, "clock jumps"),
            (9, "edit"),
            (1, "mass removal"),
            (2, "refresh one"),
            (1, "sync now"),
            (2, "suspend"),
            (3, "reload"),
            (3, "provider changes a password"),
            (outages, "registrar outage"),
            (outages.min(4), "several registrars silent"),
            (outages.min(edges), "all edge ports dead"),
            (2 * field, "a password is mistyped"),
            (field, "edge port replaced"),
        ];
        let total: u32 = all.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.random_range(0..total);
        for (weight, what) in all {
            if at < weight {
                return what;
            }
            at -= weight;
        }
        "edit"
    }

    /// How long a fault lasts: most of them not long.
    fn lasts(&mut self) -> u64 {
        let most = self.rules.fault_ms as f64;
        let share: f64 = self.rng.random_range(0.0..1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ms = (most * share * share * share) as u64;
        ms.max(2 * SECOND)
    }

    fn any_host(&mut self) -> String {
        let names = self.host_names();
        names[self.rng.random_range(0..names.len())].clone()
    }

    fn any_policy(&mut self) -> Policy {
        if let Some(field) = self.rules.field
            && self.rng.random_bool(0.4)
        {
            return self.any_policy_of(field);
        }
        let rng = &mut self.rng;
        let wait = [5, 60, 900, 7_200][rng.random_range(0..4)];
        let codes =
            [401, 403, 407, 404, 410, 604, 500, 502, 503, 504, 480, 600, 486, 408, 423, 420, 606, 302, 999];
        match rng.random_range(0..16) {
            0 => Policy::Grants(rng.random_range(20..90)),
            1 => Policy::Later(503, wait),
            2 => Policy::Later([500, 413, 480, 486, 600, 603, 404][rng.random_range(0..7)], wait),
            3 => {
                // A chain that ends, or a circle.
                let end = rng.random_range(1..7);
                let circle = rng.random_bool(0.3);
                for n in 0..end {
                    let to = if n + 1 < end { format!("r{}", n + 1) } else { "r6".to_owned() };
                    let to = if circle && n + 1 == end { "r0".to_owned() } else { to };
                    if let Some(host) = self.hosts.get_mut(&format!("r{n}")) {
                        host.policy = Policy::Moved(302, to, None);
                    }
                }
                Policy::Moved(
                    [301, 302, 305][self.rng.random_range(0..3)],
                    "R0".to_owned(),
                    [None, Some(600)][self.rng.random_range(0..2)],
                )
            }
            4 => Policy::Moved(302, "r6".to_owned(), Some(rng.random_range(10..5_000))),
            5 | 6 => Policy::Silent,
            7 => Policy::Provisional,
            8 => Policy::Nonsense,
            9 => Policy::GrantsZero,
            10 => Policy::GrantsAges,
            _ => Policy::Code(codes[rng.random_range(0..codes.len())]),
        }
    }
}

impl State {
    /// What plain worlds do not have.
    fn any_policy_of(&mut self, field: Field) -> Policy {
        let rng = &mut self.rng;
        let expires = [None, Some(30), Some(600)];
        match rng.random_range(0..8) {
            0 => Policy::RefusesRequire,
            1 => Policy::UnknownChallenge,
            2 => Policy::StaleForever,
            3 => Policy::ForbidsUnseen,
            4 => Policy::Refuses,
            5 => Policy::Code([433, 439, 494, 402, 493, 513][rng.random_range(0..6)]),
            _ => {
                // Some of them of no help; the last one is.
                let mut targets = vec!["r6"];
                for _ in 0..rng.random_range(0..4) {
                    let other = ["d0", "d1", "d2", "d3", "r1", "r2"][rng.random_range(0..6)];
                    if !targets.contains(&other) {
                        targets.insert(0, other);
                    }
                }
                let targets =
                    targets.into_iter().map(|to| (to.to_owned(), expires[rng.random_range(0..3)])).collect();
                let _ = field;
                Policy::MovedToOneOf([300, 301, 302, 305][rng.random_range(0..4)], targets)
            }
        }
    }

    fn mend_store(&mut self) {
        if std::mem::replace(&mut self.shelf, Shelf::Up) != Shelf::Up {
            self.records.bad_at = self.now();
        }
    }
}

/// Undoes a fault after its time.
fn later(world: &Arc<World>, ms: u64, undo: impl FnOnce(&mut State) + Send + 'static) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(ms)).await;
        let mut state = world.lock();
        if state.calm_since.is_none() {
            undo(&mut state);
            state.look();
        }
    });
}

async fn act(world: &Arc<World>, what: &'static str) {
    let ms = {
        let mut state = world.lock();
        state.count(what);
        let ms = state.lasts();
        state.say(format_args!("* {what} ({} s)", ms / 1_000));
        ms
    };
    match what {
        "registrar answers otherwise"
        | "registrar loses packets"
        | "registrar is late"
        | "registrar is slow"
        | "registrar forgets" => {
            registrar(world, what, ms);
        }
        "requester down"
        | "requester hangs"
        | "requester refuses"
        | "requester slow"
        | "requester reconnects" => {
            requester(world, what, ms);
        }
        "edge port dead" | "all edge ports dead" => edge_ports(world, what, ms),
        "registrar outage" | "several registrars silent" => registrars_down(world, what),
        "api fails" => {
            let mut state = world.lock();
            let modes = [Api::Down, Api::Hanging, Api::Half, Api::Malformed, Api::Slow(7_000)];
            state.api = modes[state.rng.random_range(0..modes.len())].clone();
            drop(state);
            later(world, ms, |state| state.api = Api::Up);
        }
        "listing shrinks" => shrink(&mut world.lock()),
        "store fails" => {
            let mut state = world.lock();
            let modes = [Shelf::Down, Shelf::Hanging, Shelf::Denied, Shelf::Full, Shelf::Slow];
            state.shelf = modes[state.rng.random_range(0..modes.len())];
            let mode = state.shelf;
            state.say(format_args!("* {mode:?}"));
            drop(state);
            later(world, ms, State::mend_store);
        }
        "store loses data" => {
            let mut state = world.lock();
            state.records.epoch += 1;
            state.records.bad_at = state.now();
            let copy = std::mem::take(&mut state.records.copy);
            state.records.restored |= !copy.is_empty();
            let now = std::mem::replace(&mut state.records.all, copy);
            if state.rng.random_bool(0.5) {
                state.records.copy = now;
            }
        }
        "kill" | "restart" | "freeze" => process_fault(world, what, ms),
        "lease outage" => {
            world.lock().lease.out = true;
            later(world, ms, |state| state.lease.out = false);
        }
        "clock jumps" => {
            let mut state = world.lock();
            let far = [SECOND, MINUTE, HOUR, 3 * DAY][state.rng.random_range(0..4)];
            let machine = state.rng.random_range(0..2);
            let by = state.rng.random_range(0..far).cast_signed();
            let by = if state.rng.random_bool(0.5) { by } else { -by };
            state.machines[machine].wall_ahead.store(by, Relaxed);
        }
        "suspend" => {
            people::command(world, what).await;
            let world = world.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(ms)).await;
                if world.lock().calm_since.is_none() {
                    people::suspend(&world, false).await;
                }
            });
        }
        "refresh one" | "sync now" | "reload" | "edge port replaced" => people::command(world, what).await,
        _ => people::edit(&mut world.lock(), what),
    }
}

fn registrar(world: &Arc<World>, what: &'static str, ms: u64) {
    let mut state = world.lock();
    let name = state.any_host();
    let policy = state.any_policy();
    let share = state.rng.random_range(0.05..0.6);
    let slow = state.rng.random_range(2_500..20_000);
    state.say(format_args!("* {name} {policy:?} {share:.2}"));
    let Some(host) = state.hosts.get_mut(&name) else { return };
    match what {
        "registrar answers otherwise" => host.policy = policy,
        "registrar loses packets" => host.loss = share,
        "registrar is late" => host.late = share,
        "registrar is slow" => host.delay = (slow / 2, slow),
        _ => {
            host.forget();
            state.registrars_forgot();
        }
    }
    drop(state);
    later(world, ms, move |state| {
        if let Some(host) = state.hosts.get_mut(&name) {
            host.heal();
        }
        for (_, host) in state.hosts.iter_mut().filter(|(name, _)| name.starts_with('r')) {
            host.heal();
        }
    });
}

/// Registrars that are down for a minute or some: one with many trunks, or several at once.
fn registrars_down(world: &Arc<World>, what: &'static str) {
    let (down, ms) = {
        let mut state = world.lock();
        let longest = [3, 12, 40][state.rng.random_range(0..3)] * MINUTE;
        let ms = state.rng.random_range(MINUTE..longest);
        let names = state.host_names();
        let down: Vec<String> = if what == "registrar outage" {
            vec![state.busiest_host()]
        } else {
            let share = state.rng.random_range(0.2..0.9);
            names.into_iter().filter(|_| state.rng.random_bool(share)).collect()
        };
        let ways = [Policy::Silent, Policy::Refuses, Policy::Code(500), Policy::Code(502), Policy::Code(503)];
        let policy = match what {
            "registrar outage" => ways[state.rng.random_range(0..ways.len())].clone(),
            _ => Policy::Silent,
        };
        state.say(format_args!("* {down:?} {policy:?} for {} s", ms / SECOND));
        for name in &down {
            if let Some(host) = state.hosts.get_mut(name) {
                host.policy = policy.clone();
            }
        }
        (down, ms)
    };
    later(world, ms, move |state| {
        for name in &down {
            if let Some(host) = state.hosts.get_mut(name) {
                host.heal();
            }
        }
    });
}

/// What is wrong before anything begins.
pub fn begin(world: &Arc<World>) {
    let Some(field) = world.lock().rules.field else { return };
    let silent: Vec<String> = world.lock().host_names().into_iter().take(field.silent_at_start).collect();
    for name in &silent {
        if let Some(host) = world.lock().hosts.get_mut(name) {
            host.policy = Policy::Silent;
        }
    }
    world.lock().look();
    later(world, field.silence_ms, move |state| {
        for name in &silent {
            if let Some(host) = state.hosts.get_mut(name) {
                host.heal();
            }
        }
    });
}

/// EdgePorts that pass nothing on: one, or all of them.
fn edge_ports(world: &Arc<World>, what: &'static str, ms: u64) {
    let mut state = world.lock();
    let all: Vec<String> =
        state.book.settings.edge_ports.iter().map(|edge| edge.address.host.to_string()).collect();
    let dead = match what {
        "edge port dead" => vec![all[state.rng.random_range(0..all.len())].clone()],
        _ => all,
    };
    let faults = [EdgeFault::Dead, EdgeFault::Dead, EdgeFault::Refuses, EdgeFault::Unknown];
    let fault = match state.rules.field {
        None => EdgeFault::Dead,
        Some(_) => faults[state.rng.random_range(0..4)],
    };
    // Not for hours, where there is none left.
    let ms = if what == "edge port dead" { ms } else { ms.clamp(MINUTE, 20 * MINUTE) };
    state.say(format_args!("* {dead:?} {fault:?}"));
    state.way.dead_edges.extend(dead.iter().map(|name| (name.clone(), fault)));
    drop(state);
    later(world, ms, move |state| state.way.dead_edges.retain(|(other, _)| !dead.contains(other)));
}

impl State {
    /// The registrar that most trunks name, more often than not.
    fn busiest_host(&mut self) -> String {
        if self.rng.random_bool(0.4) {
            return self.any_host();
        }
        let names = self.host_names();
        let trunks = |name: &String| {
            let uris = self.catalogue.entries.values().flat_map(|entry| &entry.trunk.uris);
            uris.filter(|uri| *uri.registrar.host == **name).count()
        };
        names.iter().max_by_key(|name| trunks(name)).cloned().unwrap_or_default()
    }

    /// Registrars lost what they held: nobody can know before the bindings would have lapsed.
    fn registrars_forgot(&mut self) {
        let at = self.now();
        self.forgot_at = at;
        for (id, call) in &self.book.calls {
            let Some(grant) = &call.grant else { continue };
            let Some(known) = self.catalogue.calls.get(id) else { continue };
            if let Some(trunk) = self.book.trunks.get_mut(&known.reference) {
                let until = (grant.sent + grant.granted_ms).max(call.most_until);
                trunk.patience = trunk.patience.max(until);
                trunk.fair_patience = trunk.fair_patience.max(until);
            }
        }
    }

    /// The connection to the Requester breaks, or is there again.
    fn link(&mut self, lost: bool) {
        let at = self.now();
        if lost {
            self.way.restarts += 1;
            self.way.connections.cancel();
            self.way.connections = CancellationToken::new();
        }
        self.book.excuse_all(at);
        if let Some(reach) = &self.reach {
            reach.link.send_modify(|link: &mut Link| {
                link.reconnections += u64::from(link.lost && !lost);
                link.lost = lost;
            });
        }
    }
}

fn requester(world: &Arc<World>, what: &'static str, ms: u64) {
    let mut state = world.lock();
    let slow = state.rng.random_range(1_000..20_000);
    match what {
        "requester down" => {
            state.way.mode = Mode::Down;
            state.link(true);
        }
        "requester hangs" => state.way.mode = Mode::Hanging,
        "requester refuses" => state.way.mode = Mode::Refusing,
        "requester slow" => state.way.mode = Mode::Slow(slow),
        _ => {
            state.link(true);
            drop(state);
            return later(world, 300, |state| state.link(false));
        }
    }
    drop(state);
    later(world, ms, |state| {
        state.way.mode = state.way.home.clone();
        state.link(false);
    });
}

fn shrink(state: &mut State) {
    let whole = state.catalogue.entries.len();
    // Twice in a row it would be believed, and rightly so.
    if state.shrink.is_some() || state.shrunk_at + 3 * HOUR > state.now() {
        return;
    }
    let small = state.rng.random_bool(0.4);
    let most = if small { (whole / 3).min(8) } else { whole };
    let least = if small { 1 } else { 11.max(whole / 2 + 3) };
    if least <= most && most > 0 {
        state.shrink = Some(state.rng.random_range(least..=most));
        state.shrunk_at = state.now();
    }
}

fn process_fault(world: &Arc<World>, what: &'static str, ms: u64) {
    let mut state = world.lock();
    let machine = if state.rules.lease.is_some() { state.rng.random_range(0..2) } else { 0 };
    let acting = state.rng.random_bool(0.6);
    let machine = match (&state.reach, acting) {
        // More often the one that acts.
        (Some(reach), true) => {
            usize::from(state.processes[1].as_ref().is_some_and(|(life, _)| life.id == reach.life.id))
        }
        _ => machine,
    };
    let Some((life, shutdown)) = state.processes[machine].clone() else { return };
    state.downtime[machine] = ms.max(1_200);
    state.say(format_args!("* #{}", life.id));
    match what {
        "kill" => {
            drop(state);
            life.kill();
            let mut state = world.lock();
            state.bury(life.id);
        }
        "restart" => shutdown.cancel(),
        _ => {
            drop(state);
            life.freeze(true);
            later(world, ms, move |state| state.thaw(&life));
        }
    }
}

impl State {
    pub fn thaw(&mut self, life: &crate::life::Life) {
        let at = self.now();
        self.say(format_args!("* #{} goes on", life.id));
        self.book.excuse_all(at);
        self.book.changed_at = at;
        self.book.trouble_at = at;
        for run in self.book.runs.values_mut().filter(|run| run.life.id == life.id) {
            run.resumed_at = at;
            run.buckets.clear();
        }
        life.freeze(false);
    }
}

/// Everything is well again, and stays so.
pub async fn heal(world: &Arc<World>) {
    {
        let mut state = world.lock();
        state.say(format_args!("* all is well"));
        let at = state.now();
        state.calm_since = Some(at);
        for host in state.hosts.values_mut() {
            host.heal();
        }
        let lost = state.way.mode == Mode::Down;
        state.way.mode = state.way.home.clone();
        state.way.dead_edges.clear();
        if lost {
            state.link(false);
        }
        state.api = Api::Up;
        state.shrink = None;
        state.mend_store();
        state.lease.out = false;
        for machine in &state.machines {
            let ahead = machine.wall_ahead.load(Relaxed);
            if ahead.unsigned_abs() > SECOND {
                machine.wall_ahead.store(0, Relaxed);
            }
        }
        for (life, _) in state.processes.clone().into_iter().flatten() {
            state.thaw(&life);
        }
        let right: Vec<_> = state
            .catalogue
            .entries
            .values()
            .flat_map(|entry| entry.trunk.uris.iter().map(move |uri| (uri, &entry.trunk.credentials)))
            .filter_map(|(uri, own)| {
                let key = (uri.user.clone(), uri.registrar.host.clone());
                own.as_ref().map(|own| (key, own.password.expose().to_owned()))
            })
            .collect();
        state.catalogue.accounts.clear();
        state.catalogue.accounts.extend(right);
    }
    people::suspend(world, false).await;
}
