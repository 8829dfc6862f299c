//! One seed: one world from its beginning to its end.

use std::{cell::RefCell, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    checks::{all_deregistered, at_the_end, mutants::Mutant, views_are_true},
    faults, history, process, regressions,
    rules::{HOUR, MINUTE, Rules},
    world::{Tally, Violation, World},
};

/// Time for which all is well at the end, in milliseconds: longer than any wait that a fault may have caused,
/// and any expiry.
const CALM: u64 = 4 * HOUR + 30 * MINUTE;

/// Outcome of a seed.
pub struct Outcome {
    pub seed: u64,
    pub days: f64,
    pub tally: Tally,
    pub violations: Vec<Violation>,
    pub digest: u64,
    pub lines: u64,
    pub text: String,
}

thread_local! {
    /// Text of the last panic on this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// To be called once: panics are kept for the verdict instead of being printed.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with(|panic| panic.borrow_mut().get_or_insert(info.to_string()).truncate(2_000));
    }));
}

/// Runs a seed; its text is kept where it failed, or `keep` says so.
pub fn run(seed: u64, days: Option<u64>, broken: Mutant, keep: bool) -> Outcome {
    let rules = Rules::of(seed, days, broken, regressions::is_plain(seed));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(live(rules));
    drop(runtime);
    history::enter(None);
    let mut state = world.lock();
    state.reach = None;
    state.processes = Default::default();
    if let Some(panic) = PANIC.with(|panic| panic.borrow_mut().take()) {
        state.check_world_panic(panic);
    }
    let failed = !state.violations.is_empty();
    Outcome {
        seed,
        days: state.ended_at as f64 / 86_400_000.0,
        tally: std::mem::take(&mut state.tally),
        violations: std::mem::take(&mut state.violations),
        digest: state.history.digest(),
        lines: state.history.lines,
        text: if failed || keep { state.history.text().to_owned() } else { String::new() },
    }
}

async fn live(rules: Rules) -> Arc<World> {
    let world = World::new(rules.clone());
    history::enter(Some(world.clone()));
    faults::registrars::begin_silent(&world);
    let machines = if rules.lease.is_some() { 2 } else { 1 };
    for machine in 0..machines {
        tokio::spawn(process::supervise(world.clone(), machine, rules.clone()));
    }
    let faults = Duration::from_millis(rules.faults_ms);
    let clock = world.clone();
    let minutes = async {
        loop {
            sleep(Duration::from_secs(60)).await;
            let mut state = clock.lock();
            state.check_each_minute();
            if !state.violations.is_empty() {
                return;
            }
        }
    };
    let story = async {
        let (events, looks) = (
            tokio::spawn(faults::play(world.clone())),
            tokio::spawn(views_are_true::check_often(world.clone())),
        );
        let calls = tokio::spawn(faults::calls::play(world.clone()));
        if rules.broken == Mutant::Spinning {
            tokio::spawn(flap(world.clone()));
        }
        sleep(faults).await;
        events.abort();
        calls.abort();
        faults::heal(&world).await;
        world.lock().update_model();
        sleep(Duration::from_millis(CALM)).await;
        looks.abort();
        at_the_end::settle(&world).await;
        {
            let mut state = world.lock();
            let at = state.now();
            state.check_registered_once(at);
        }
        if rules.leaves {
            all_deregistered::deregister_all(&world).await;
        }
    };
    tokio::select! {
        biased;
        () = minutes => {}
        () = story => {}
    }
    end(&world).await;
    world
}

/// All processes end in good order.
async fn end(world: &Arc<World>) {
    let processes = {
        let mut state = world.lock();
        state.ended_at = state.now();
        state.ending = true;
        state.processes.clone()
    };
    for (life, shutdown) in processes.into_iter().flatten() {
        life.freeze(false);
        shutdown.cancel();
    }
    sleep(Duration::from_secs(10)).await;
    let mut state = world.lock();
    if state.violations.is_empty() {
        state.check_processes_ended();
        state.check_no_leak();
    }
}

async fn flap(world: Arc<World>) {
    loop {
        sleep(Duration::from_millis(1)).await;
        if let Some(reach) = &world.lock().reach {
            reach.link.send_modify(|_| {});
        }
    }
}
