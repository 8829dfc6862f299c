//! The Lease at the API server of the cluster, and a replica's part in the election: the real rules, with
//! requests of the simulation's own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::RngExt;
use routr_leader_election::election::{
    ElectionAction, ElectionState, LeaseRecord, LeaseTimes, Observed, WriteFailure,
};
use routr_registry::instance::Fence;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    process::{self, Started},
    process_state::{Life, Machine},
    world::{State, World},
};

/// The Lease, and who believes to hold it.
#[derive(Default)]
pub struct LeaseServer {
    lease: Option<Observed>,
    version: u64,
    /// Its API server answers no one.
    pub out: bool,
    /// The terms of processes: which, on what machine, and until when by the clock of that.
    terms: Vec<(Arc<Life>, LeadershipFence)>,
}

/// Until when a term lasts, in microseconds of the machine's own clock since its start; 0: over.
#[derive(Clone)]
pub struct LeadershipFence {
    machine: Arc<Machine>,
    origin: Instant,
    until: Arc<AtomicU64>,
}

impl LeadershipFence {
    fn new(machine: &Arc<Machine>) -> Self {
        Self { machine: machine.clone(), origin: machine.steady(), until: Arc::default() }
    }

    pub fn holds(&self) -> bool {
        let until = Duration::from_micros(self.until.load(Relaxed));
        self.machine.steady().saturating_duration_since(self.origin) < until
    }

    fn extend(&self, until: Instant) {
        let until = until.saturating_duration_since(self.origin).as_micros();
        self.until.store(u64::try_from(until).unwrap_or(u64::MAX), Relaxed);
    }

    fn end(&self) {
        self.until.store(0, Relaxed);
    }
}

impl LeaseServer {
    /// Returns another process that has the right to send now.
    pub fn who_holds(&self, but: u32) -> Option<u32> {
        let mut others =
            self.terms.iter().filter(|(life, valid)| life.id != but && !life.is_dead() && valid.holds());
        others.next().map(|(life, _)| life.id)
    }
}

enum Request {
    Read,
    Write(Option<String>, LeaseRecord),
    Release(String, LeaseRecord),
}

impl State {
    fn serve(&mut self, request: Request) -> Result<Option<Observed>, WriteFailure> {
        let server = &mut self.lease;
        let (over, record) = match request {
            Request::Read => return Ok(server.lease.clone()),
            Request::Write(over, record) => (over, record),
            Request::Release(over, record) => (Some(over), record),
        };
        match (&server.lease, over) {
            (None, Some(_)) => return Err(WriteFailure::Missing),
            (Some(_), None) => return Err(WriteFailure::Conflict),
            (Some(lease), Some(over)) if lease.version != over => return Err(WriteFailure::Conflict),
            _ => {}
        }
        server.version += 1;
        server.lease = Some(Observed { record, version: server.version.to_string() });
        Ok(server.lease.clone())
    }
}

/// One request; it may be done though the answer is lost.
async fn ask(
    world: &Arc<World>,
    request: Request,
    patience: Duration,
) -> Result<Option<Observed>, WriteFailure> {
    let (answer, answered) = oneshot::channel();
    let (there, back, lost) = {
        let mut state = world.lock();
        let lost = state.rng.random_bool(0.01);
        (state.rng.random_range(1..40), state.rng.random_range(1..40), lost)
    };
    let server = world.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(there)).await;
        if server.lock().lease.out {
            return std::future::pending().await;
        }
        let done = server.lock().serve(request);
        sleep(Duration::from_millis(back)).await;
        if !lost {
            let _ = answer.send(done);
        }
    });
    match timeout(patience, answered).await {
        Ok(Ok(done)) => done,
        _ => Err(WriteFailure::Unknown),
    }
}

struct Candidate {
    world: Arc<World>,
    machine: Arc<Machine>,
    election: ElectionState,
    times: LeaseTimes,
}

impl Candidate {
    async fn act(&mut self, act: &ElectionAction) {
        let sent = self.machine.steady();
        let wall = i64::try_from(self.machine.wall_ms()).unwrap_or(0) * 1_000;
        // As the product does: nothing is waited for that would come too late for a leader.
        let left = self.election.leads_until().map(|until| until.saturating_duration_since(sent));
        let patience = left.map_or(self.times.hedge_delay, |left| left.min(self.times.hedge_delay));
        match act {
            ElectionAction::Read => {
                let answer = ask(&self.world, Request::Read, patience).await;
                let now = self.machine.steady();
                match answer {
                    Ok(lease) => self.election.read(lease, now),
                    Err(_) => self.election.unread(now),
                }
            }
            ElectionAction::Write { over } => {
                let record = self.election.acquire_or_renew(wall);
                let answer = ask(&self.world, Request::Write(over.clone(), record), patience).await;
                let now = self.machine.steady();
                match answer {
                    Ok(Some(lease)) => self.election.wrote(lease, sent, now),
                    Ok(None) => self.election.unwritten(WriteFailure::Unknown, now),
                    Err(why) => self.election.unwritten(why, now),
                }
            }
            ElectionAction::Wait(until) => sleep_until(self.machine.when(*until)).await,
            ElectionAction::Lose(_) => {}
        }
    }

    async fn release(&mut self) {
        let wall = i64::try_from(self.machine.wall_ms()).unwrap_or(0) * 1_000;
        if let Some((record, over)) = self.election.give_up(wall) {
            let _ = ask(&self.world, Request::Release(over, record), Duration::from_secs(1)).await;
        }
    }
}

/// The times of a lease, coarser where they would make too many events for days.
fn times(duration: Duration) -> LeaseTimes {
    LeaseTimes { poll_period: duration / 12, ..LeaseTimes::of(duration) }
}

/// A replica, until its shutdown: stands for election, leads, stands again.
pub async fn replica(world: Arc<World>, life: Arc<Life>, duration: Duration, shutdown: CancellationToken) {
    let machine = life.machine.clone();
    let times = times(duration);
    let election = ElectionState::new(format!("replica_{}", life.id), times, machine.steady());
    let mut candidate = Candidate { world: world.clone(), machine: machine.clone(), election, times };
    while !shutdown.is_cancelled() {
        let act = candidate.election.next(machine.steady());
        if matches!(act, ElectionAction::Lose(_)) {
            candidate.election.stand(machine.steady());
            continue;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = candidate.act(&act) => {}
        }
        if let Some(until) = candidate.election.leads_until() {
            candidate = lead(candidate, &life, until, &shutdown).await;
        }
    }
    if candidate.election.may_hold() {
        candidate.release().await;
    }
}

/// A term.
async fn lead(
    candidate: Candidate,
    life: &Arc<Life>,
    until: Instant,
    shutdown: &CancellationToken,
) -> Candidate {
    let (world, machine) = (candidate.world.clone(), candidate.machine.clone());
    let valid = LeadershipFence::new(&machine);
    valid.extend(until);
    {
        let mut state = world.lock();
        state.lease.terms.retain(|(life, _)| !life.is_dead());
        state.lease.terms.push((life.clone(), valid.clone()));
        state.say(format_args!("#{} leads", life.id));
        state.count("terms of leadership");
    }
    let asked = valid.clone();
    let usurps = world.broken == crate::checks::mutants::Mutant::Usurper;
    let permit = Fence::when(move || usurps || asked.holds());
    let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
    let renewing = tokio::spawn(life.run(renew(candidate, valid.clone(), lost.clone(), stop.clone())));
    let Started { mut task, stop: stop_engine, run } = process::start(&world, life, &permit);
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = lost.cancelled(), if !usurps => {}
        // An engine that ends by itself is a defect that the check of the task tells.
        _ = &mut task => {}
    }
    process::note_ending(&world, run);
    stop_engine.cancel();
    if !task.is_finished() {
        let _ = task.await;
    }
    if !valid.holds() {
        // It might not write any more what it had used.
        world.lock().lose_numbers(&[run]);
    }
    process::ended(&world, run);
    valid.end();
    stop.cancel();
    world.lock().say(format_args!("#{} leads no more", life.id));
    match renewing.await {
        Ok(Some(mut candidate)) => {
            if !lost.is_cancelled() {
                candidate.release().await;
                world.lock().count("hand-overs by release");
            }
            candidate.election.stand(machine.steady());
            candidate
        }
        // It was killed: no one polls this any more.
        _ => std::future::pending().await,
    }
}

async fn renew(
    mut candidate: Candidate,
    valid: LeadershipFence,
    lost: CancellationToken,
    stop: CancellationToken,
) -> Candidate {
    loop {
        let act = candidate.election.next(candidate.machine.steady());
        if matches!(act, ElectionAction::Lose(_)) {
            valid.end();
            lost.cancel();
            candidate.world.lock().count("terms lost");
            return candidate;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return candidate,
            () = candidate.act(&act) => {}
        }
        if let Some(until) = candidate.election.leads_until() {
            valid.extend(until);
        }
    }
}
