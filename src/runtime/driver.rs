//! Runs an [`Engine`]: performs the actions that it asks for, and feeds their results back.
//!
//! [`Driver::run`] is one loop. Each turn it
//!
//! 1. sends all REGISTERs that the engine wants sent (each call is a task of its own, for as long as it
//!    lasts),
//! 2. hands changes to the store, one batch at a time,
//! 3. waits for the first of: responses, a batch of trunks, the end of a sync or of a write, a command, a new
//!    configuration, the engine's next timer, the shutdown.

mod deregister_all;
mod in_flight;
mod list;
mod reload;
mod restoring;
mod state_log;
mod syncing;

use std::{sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::reload::Reload;
pub(super) use self::restoring::READ_RETRIES;
use self::{
    deregister_all::DeregisterAll,
    in_flight::Completions,
    list::RunningLists,
    restoring::Standing,
    state_log::StateLog,
    syncing::{SyncTask, next_of_sync},
};
use super::{
    clock::Clock,
    handle::{Command, EngineHandle},
    persister::Persister,
};
use crate::{
    quota::Quota,
    runtime::ports::{Observer, Requester, Store, TrunkSource},
};
use routr_registration::engine::{Engine, view::Summary};
use routr_registration::{
    model::{Excess, Link, Rival},
    registration::{
        identity::{CSEQ_SETTLED_MS, RegistryId},
        time::Now,
    },
};

/// The first sync waits for so long, while the store is read: a process that was killed a moment ago, or a
/// leader that could not write any more, may have used the CSeq numbers of this half second and the next
/// ones. What the store kept does not tell.
const CSEQ_PAUSE: Duration = Duration::from_millis(CSEQ_SETTLED_MS);
/// Longest pause before the first sync for a store that is a little late: its records are then known before
/// the trunks. Later, the trunks are read while nothing is sent.
const FIRST_SYNC_WAIT: Duration = Duration::from_secs(3);

/// Time that the store gets to take the last changes, whatever the grace.
const FINAL_FLUSH: Duration = Duration::from_millis(250);

/// The dependencies.
pub struct Ports<S, R, T> {
    /// Lists the trunks.
    pub source: Arc<S>,
    /// Sends REGISTERs.
    pub requester: Arc<R>,
    /// Keeps state.
    pub store: Arc<T>,
}

/// The task that runs an engine: see the module.
pub struct Driver<S: TrunkSource, R: Requester, T: Store, O: Observer> {
    engine: Engine,
    ports: Ports<S, R, T>,
    observer: O,
    clock: Clock,
    interval: Duration,
    commands: mpsc::Receiver<Box<Command>>,
    reloads: mpsc::Receiver<Box<Reload<S, R, T>>>,
    completions: Completions,
    sync: SyncTask<S::Item>,
    persister: Persister<T>,
    link: watch::Receiver<Link>,
    /// Another process that acts for the registry.
    rival: watch::Receiver<Option<Rival>>,
    /// Role of this process: acting for the registry, reading its records, or standing by.
    standing: Standing,
    /// The trunks are not read before the first of them; not before the second one while what the store kept
    /// is not known.
    first_sync: (Instant, Instant),
    /// The instance id, once the store has said which one it keeps.
    identity: watch::Sender<Option<RegistryId>>,
    /// The Requester responded since it restarted last: what listens there is really a Requester.
    has_responded: bool,
    /// Restarts of the Requester when they were looked at last.
    restarts: u64,
    /// Request for another sync while one was running: that one may have read what it has before the change.
    sync_again: bool,
    deregister_all: DeregisterAll,
    lists: RunningLists,
    state_log: StateLog,
    /// Nothing that was begun may go on after the end: another process may act for the same trunks by then.
    in_flight: in_flight::InFlightTasks,
    rng: SmallRng,
    /// Share that the registry may use of the process.
    quota: Arc<Quota>,
}

/// The way to reach a running driver.
pub struct Controls<S, R, T> {
    /// Asks and commands.
    pub handle: EngineHandle,
    /// New configurations.
    pub reload: mpsc::Sender<Box<Reload<S, R, T>>>,
    /// The instance id that the store keeps, once it has said so; `None` for ever where it is known without.
    pub identity: watch::Receiver<Option<RegistryId>>,
}

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    /// A driver that has not begun yet, and how to reach it.
    pub fn new(
        engine: Engine,
        ports: Ports<S, R, T>,
        observer: O,
        clock: Clock,
    ) -> (Self, Controls<S, R, T>) {
        let mut engine = engine;
        engine.keep(ports.store.is_durable());
        let (handle, commands) = EngineHandle::new();
        let (reload, reloads) = mpsc::channel(1);
        let (identity, identity_known) = watch::channel(None);
        let driver = Self {
            interval: Duration::from_millis(engine.settings().registration.interval_ms),
            engine,
            observer,
            commands,
            reloads,
            completions: Completions::default(),
            sync: SyncTask::Due(Instant::now(), 0),
            persister: Persister::new(ports.store.clone(), true),
            link: ports.requester.link(),
            rival: ports.store.rival(),
            standing: Standing::Acts,
            first_sync: (Instant::now(), Instant::now()),
            identity,
            has_responded: false,
            restarts: 0,
            sync_again: false,
            deregister_all: DeregisterAll::NotRequested,
            lists: RunningLists::default(),
            state_log: StateLog::new(),
            in_flight: in_flight::InFlightTasks::default(),
            rng: SmallRng::seed_from_u64(clock.environment().seed()),
            quota: Quota::unlimited(),
            clock,
            ports,
        };
        (driver, Controls { handle, reload, identity: identity_known })
    }

    /// Keeps to a Registry's quota, and shows what exceeds it.
    #[must_use]
    pub fn within(mut self, quota: &Arc<Quota>) -> Self {
        self.engine.within(quota.clone());
        if quota.is_limited() {
            self.state_log.share();
        }
        self.quota = quota.clone();
        self
    }

    fn summary(&mut self, now: Now) -> Summary {
        let mut summary = self.engine.summary(now);
        let exceeded = self.quota.exceeds().into_iter().map(|excess| excess.to_string());
        summary.over_limits.extend(exceeded);
        summary
    }

    /// Runs until the shutdown, then waits up to `grace` for the responses in flight and writes what changed.
    /// Nothing is deregistered. Returns the engine as it was left.
    pub fn run(self, shutdown: CancellationToken, grace: Duration) -> impl Future<Output = Engine> + Send {
        // A future keeps its arguments beside what they become: thousands of drivers would be there twice.
        let mut driver = Box::new(self);
        async move {
            driver.run_until(&shutdown, grace).await;
            driver.engine
        }
    }

    async fn run_until(&mut self, shutdown: &CancellationToken, grace: Duration) {
        self.read_first();
        self.first_sync = (Instant::now() + CSEQ_PAUSE, Instant::now() + FIRST_SYNC_WAIT);
        self.sync = SyncTask::Due(self.first_sync.1, 0);
        // What is known of the Requester already is no change.
        let link = *self.link.borrow_and_update();
        self.restarts = link.restarts;
        self.engine.handle_link(link, self.clock.now());
        while !shutdown.is_cancelled() {
            self.transmit_due();
            self.persister.write(&mut self.engine, &self.clock);
            self.run_once(shutdown).await;
            self.give_up_reading();
            self.lists.step(&self.engine, &self.clock);
            self.step_deregister_all();
            self.state_log.log_changes(&mut self.engine);
            if self.state_log.is_loud() {
                self.quota.note(Excess::Log);
            }
        }
        Box::pin(self.shut_down(grace)).await;
    }

    /// Waits for the first thing to happen, and takes it; with it one command and the answers that are there
    /// already.
    ///
    /// The order is fixed, so that a simulated history can be repeated. It starves no one:
    ///
    /// * shutdown, reloads and the link are rare; the persister has one thing under way at a time and pauses
    ///   when it fails;
    /// * a sync may be ready for thousands of turns in a row, and commands may come without end. So each
    ///   turn, whatever it was for, takes a command that waits, and the responses that wait, and before each
    ///   turn all that is due is sent;
    /// * a flood of commands cannot hold up a sync, which goes before them.
    async fn run_once(&mut self, shutdown: &CancellationToken) {
        let timer = self.engine.poll_timeout(self.clock.now()).map(|moment| self.clock.instant(moment));
        let wakeup =
            [timer, self.state_log.next_due(), self.standing.next_change()].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(reload) = self.reloads.recv() => self.reload(*reload),
            written = self.persister.next() => self.handle_store_event(written),
            Ok(()) = self.rival.changed() => self.handle_rival(),
            Ok(()) = self.link.changed() => self.handle_link(),
            event = next_of_sync(&mut self.sync) => self.handle_sync_event(event).await,
            Some(command) = self.commands.recv() => return self.handle_command_and_responses(*command),
            completions = self.completions.next() => self.handle_responses(completions),
            () = sleep_until(wakeup.unwrap_or_else(|| far_future(&self.clock))) => {}
            // Each turn continues with a list.
            () = std::future::ready(()), if self.lists.is_pending() => {}
        }
        match self.commands.try_recv() {
            Ok(command) => self.handle_command_and_responses(*command),
            Err(_) => self.handle_ready_responses(),
        }
    }

    fn handle_command_and_responses(&mut self, command: Command) {
        self.handle_command(command);
        self.handle_ready_responses();
    }

    fn handle_link(&mut self) {
        let link = *self.link.borrow_and_update();
        let now = self.clock.now();
        self.engine.handle_link(link, now);
        let restarted = std::mem::replace(&mut self.restarts, link.restarts) != link.restarts;
        if restarted && std::mem::take(&mut self.has_responded) {
            tracing::info!("the Requester restarted: refreshing early, because its Contact may have changed");
            self.engine.handle_requester_restarted(now);
        }
    }

    fn handle_command(&mut self, command: Command) {
        let (now, earliest_sync) = (self.clock.now(), self.earliest_sync());
        match command {
            // Anyone who asked may have gone; that is no concern of the engine's.
            Command::Summary(respond_to) => drop(respond_to.send(self.summary(now))),
            Command::List { filter, after, limit, respond_to } => {
                self.lists.begin(filter, after, limit, respond_to);
                self.lists.step(&self.engine, &self.clock);
            }
            Command::Get { reference, respond_to } => drop(respond_to.send(self.engine.get(&reference, now))),
            Command::Detail { reference, respond_to } => {
                drop(respond_to.send(self.engine.detail(&reference, now)));
            }
            Command::Refresh { reference, respond_to } => {
                let _ = respond_to.send(self.engine.refresh(&reference, now));
            }
            Command::SyncNow => match &mut self.sync {
                SyncTask::Due(at, _) => *at = earliest_sync,
                SyncTask::Running { .. } => self.sync_again = true,
                SyncTask::Over => {}
            },
            Command::FailureSummary { most, respond_to } => {
                drop(respond_to.send(self.engine.failures(most, now)))
            }
            Command::Pause(paused) => {
                self.engine.pause(paused);
                if paused {
                    // A sync under way still has its own.
                    self.ports.requester.rest();
                    self.ports.source.rest();
                }
            }
            Command::DeregisterAll { assume_bound, respond_to } => {
                self.deregister_all.ask(assume_bound, respond_to)
            }
        }
    }

    async fn shut_down(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.engine.pause(true);
        while self.engine.in_flight() > 0 {
            tokio::select! {
                biased;
                () = sleep_until(deadline) => break,
                completions = self.completions.next() => self.handle_responses(completions),
                Some(command) = self.commands.recv() => self.handle_command(*command),
                () = std::future::ready(()), if self.lists.is_pending() => self.lists.step(&self.engine, &self.clock),
            }
        }
        self.handle_ready_responses();
        if self.engine.in_flight() > 0 {
            tracing::info!(in_flight = self.engine.in_flight(), "no longer waiting for responses");
            self.engine.give_up_in_flight();
        }
        self.in_flight.end();
        self.state_log.log_changes(&mut self.engine);
        self.state_log.log_suppressed();
        let last_words = (grace / 4).max(FINAL_FLUSH);
        self.persister.finish(&mut self.engine, &self.clock, &self.observer, deadline + last_words).await;
        if self.standing == Standing::Acts {
            let _ = tokio::time::timeout(FINAL_FLUSH, self.ports.store.release()).await;
        }
    }
}

/// Far enough for «until something happens».
fn far_future(clock: &Clock) -> Instant {
    clock.instant(clock.now().at.plus(3_600_000))
}
