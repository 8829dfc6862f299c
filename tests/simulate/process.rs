//! Processes: an engine with its driver and its ports, started, ended and killed.

use std::{sync::Arc, time::Duration};

use routr_registration::{engine::Engine, model::Link};
use routr_registry::{
    instance::{Fence, Fenced},
    runtime::{
        clock::Clock,
        driver::{Controls, Driver, Ports, Reload},
        handle::EngineHandle,
        ports::Environment,
    },
};
use tokio::{sync::mpsc, sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    checks::mutants::Mutant,
    dependencies::{Keep, Source},
    lease,
    model::Run,
    network::SimRequester,
    process_state::{Gated, Life},
    rules::Rules,
    trunks::registry,
    world::World,
};

pub type SimRequesterPort = Gated<Fenced<SimRequester>>;
pub type SimStore = Gated<Fenced<Keep>>;
pub type SimReload = Reload<Source, SimRequesterPort, SimStore>;

/// Time that the engine of a process may take at its end.
const GRACE: Duration = Duration::from_millis(800);

/// An engine that runs.
pub struct Started {
    pub run: u32,
    pub task: JoinHandle<Option<()>>,
    pub stop: CancellationToken,
}

/// Handles to reach an engine with.
#[derive(Clone)]
pub struct Reach {
    pub run: u32,
    pub life: Arc<Life>,
    pub permit: Fence,
    pub handle: EngineHandle,
    pub reloads: mpsc::Sender<Box<SimReload>>,
    pub link: watch::Sender<Link>,
}

/// Ports of a run.
pub fn requester_port(
    world: &Arc<World>,
    life: &Arc<Life>,
    run: u32,
    permit: &Fence,
    link: watch::Sender<Link>,
) -> SimRequesterPort {
    let port = SimRequester { world: world.clone(), run, link };
    Gated { port: Fenced::new(port, permit), life: life.clone() }
}

/// A store of a run.
pub fn store(world: &Arc<World>, life: &Arc<Life>, run: u32, permit: &Fence) -> SimStore {
    let port = Keep { world: world.clone(), run, seen: 0.into() };
    Gated { port: Fenced::new(port, permit), life: life.clone() }
}

/// Starts an engine in a process.
pub fn start(world: &Arc<World>, life: &Arc<Life>, permit: &Fence) -> Started {
    let capacity = world.lock().rules.field.and_then(|field| field.capacity());
    let link = watch::Sender::new(Link::default());
    if capacity.is_some() {
        // As soon as the connection is there.
        let link = link.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(20)).await;
            link.send_modify(|link| link.capacity = capacity);
        });
    }
    let (run, mut settings) = {
        let mut state = world.lock();
        state.model.next += 1;
        let run = u32::try_from(state.model.next).unwrap_or(0);
        let at = state.now();
        let paused = state.suspended;
        let model = Run::new(life.clone(), at, paused);
        state.model.runs.insert(run, model);
        state.model.excuse_all(at);
        state.say(format_args!("#{} runs an engine: ~{run}", life.id));
        (run, state.model.settings.clone())
    };
    match world.broken {
        Mutant::Budget => settings.rate_per_registrar = settings.rate_per_registrar.map(|rate| rate * 4.0),
        Mutant::Places => settings.max_in_flight *= 4,
        Mutant::Early => settings.registration.interval_ms *= 8,
        _ => {}
    }
    let mut engine = Engine::new(registry(), settings, life.seed());
    engine.pause(world.lock().suspended);
    let source = Arc::new(Source { world: world.clone(), life: life.clone(), run });
    let requester = Arc::new(requester_port(world, life, run, permit, link.clone()));
    let keep = Arc::new(store(world, life, run, permit));
    let ports = Ports { source, requester, store: keep };
    let (driver, Controls { handle, reload, .. }) =
        Driver::new(engine, ports, (), Clock::start(life.clone()));
    let stop = CancellationToken::new();
    let main = driver.run(stop.clone(), GRACE);
    let (of, spoke) = (world.clone(), run);
    let task = tokio::spawn(life.run_main(async move {
        let engine = main.await;
        // Nothing that can be shown of it may give a secret away. It is not for the history: hash seeds are
        // in it.
        let shown = format!("{engine:?}");
        let mut state = of.lock();
        state.check_shown(&shown);
        state.say(format_args!("~{spoke} ended"));
    }));
    let reach = Reach { run, life: life.clone(), permit: permit.clone(), handle, reloads: reload, link };
    let mut state = world.lock();
    state.reach = Some(reach);
    state.update_model();
    Started { run, task, stop }
}

/// It is about to be told to end.
pub fn note_ending(world: &World, run: u32) {
    let mut state = world.lock();
    if let Some(run) = state.model.runs.get_mut(&run) {
        run.ending = true;
    }
    state.update_model();
}

/// An engine has ended, and all its calls with it.
pub fn ended(world: &World, run: u32) {
    let mut state = world.lock();
    state.check_calls_ended(run);
    state.model.runs.remove(&run);
    state.update_model();
}

/// A machine on which a process runs, is started again, runs, ...
pub async fn supervise(world: Arc<World>, machine: usize, rules: Rules) {
    loop {
        let life = world.lock().new_life(machine);
        let shutdown = CancellationToken::new();
        world.lock().processes[machine] = Some((life.clone(), shutdown.clone()));
        let panicked = match rules.lease {
            Some(duration) => {
                let main = lease::replica(world.clone(), life.clone(), duration, shutdown);
                tokio::spawn(life.run(main)).await.is_err()
            }
            None => {
                let Started { run, task, stop } = start(&world, &life, &Fence::always());
                let (watched, watching) = (world.clone(), life.clone());
                let end = tokio::spawn(life.run(async move {
                    shutdown.cancelled().await;
                    note_ending(&watched, run);
                    stop.cancel();
                    drop(watching);
                }));
                let done = task.await;
                end.abort();
                if !life.is_dead() {
                    ended(&world, run);
                }
                done.is_err()
            }
        };
        let pause = {
            let mut state = world.lock();
            state.check_process_panic(life.id, panicked);
            life.kill();
            state.note_death(life.id);
            state.processes[machine] = None;
            state.say(format_args!("#{} is gone", life.id));
            state.update_model();
            if state.ending {
                return;
            }
            state.downtime[machine]
        };
        sleep(Duration::from_millis(pause)).await;
        if world.lock().ending {
            return;
        }
    }
}
