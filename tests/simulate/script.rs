//! What happens to a world: faults ([`faults`]), and what people do ([`edits`]). Drawn from the seed.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rand::RngExt;
use tokio::time::sleep;

use crate::{
    dependencies::{Api, StoreMode},
    edits, faults,
    field::Path,
    network::Mode,
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
}

impl State {
    fn mend_store(&mut self) {
        if std::mem::replace(&mut self.store_mode, StoreMode::Up) != StoreMode::Up {
            self.records.bad_at = self.now();
        }
    }
}

/// Undoes a fault after its time.
pub fn later(world: &Arc<World>, ms: u64, undo: impl FnOnce(&mut State) + Send + 'static) {
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
            faults::registrar(world, what, ms);
        }
        "requester down"
        | "requester hangs"
        | "requester refuses"
        | "requester slow"
        | "requester reconnects" => {
            faults::requester(world, what, ms);
        }
        "edge port dead" | "all edge ports dead" => faults::edge_ports(world, what, ms),
        "registrar outage" | "several registrars silent" => faults::registrars_down(world, what),
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
            let modes =
                [StoreMode::Down, StoreMode::Hanging, StoreMode::Denied, StoreMode::Full, StoreMode::Slow];
            state.store_mode = modes[state.rng.random_range(0..modes.len())];
            let mode = state.store_mode;
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
            edits::command(world, what).await;
            let world = world.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(ms)).await;
                if world.lock().calm_since.is_none() {
                    edits::suspend(&world, false).await;
                }
            });
        }
        "refresh one" | "sync now" | "reload" | "edge port replaced" => edits::command(world, what).await,
        _ => edits::edit(&mut world.lock(), what),
    }
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
    pub fn thaw(&mut self, life: &crate::process_state::Life) {
        let at = self.now();
        self.say(format_args!("* #{} goes on", life.id));
        self.model.excuse_all(at);
        self.model.changed_at = at;
        self.model.trouble_at = at;
        for run in self.model.runs.values_mut().filter(|run| run.life.id == life.id) {
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
        state.heal_calls();
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
    edits::suspend(world, false).await;
}
