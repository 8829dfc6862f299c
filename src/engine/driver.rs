//! Runs an [`Engine`]: performs what it wants done, and feeds back what came of it.
//!
//! [`Driver::run`] is one loop. Each turn it
//!
//! 1. sends all REGISTERs that the engine wants sent (each call is a task of its own, for as long as it lasts),
//! 2. hands changes to the store, one batch at a time,
//! 3. waits for the first of: answers, a batch of trunks, the end of a sync or of a write, a command, a new configuration,
//!    the engine's next timer, the shutdown.

mod farewell;
mod listing;

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{farewell::Farewell, listing::Listings};
use super::{
    Engine, EngineSettings, Ticket,
    clock::Clock,
    handle::{Command, EngineHandle},
    keeper::Keeper,
    view::TrunkState,
};
use crate::ports::{Link, Observer, Reply, Requester, SendError, SourceError, Store, TrunkSource};

/// Answers that are handled in one turn.
const ANSWERS: usize = 512;
/// Batches of trunks that may wait; each is small.
const BATCHES: usize = 4;
/// First pause after a failed sync; it doubles up to the interval.
const SYNC_RETRY: Duration = Duration::from_secs(1);
/// How long the store may take to say what it kept, before the engine starts without.
const LOAD_DEADLINE: Duration = Duration::from_secs(20);
/// The first sync waits for so long when nothing is known of earlier registrations: a process that was killed a moment ago may
/// have used the CSeq numbers of this half second.
const CSEQ_PAUSE: Duration = Duration::from_millis(600);

/// What the store gets to take the last changes, whatever the grace.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The neighbours.
pub struct Ports<S, R, T> {
    /// Lists the trunks.
    pub source: Arc<S>,
    /// Sends REGISTERs.
    pub requester: Arc<R>,
    /// Keeps state.
    pub store: Arc<T>,
}

/// A new configuration: what is `None` stays.
pub struct Reload<S, R, T> {
    /// Settings, with the interval between two syncs.
    pub settings: EngineSettings,
    /// Another API server.
    pub source: Option<Arc<S>>,
    /// Another Requester.
    pub requester: Option<Arc<R>>,
    /// The other Requester is not the same with other words: its Contact will be another.
    pub requester_moved: bool,
    /// Another store.
    pub store: Option<Arc<T>>,
}

/// See the module.
pub struct Driver<S: TrunkSource, R: Requester, T: Store, O: Observer> {
    engine: Engine,
    ports: Ports<S, R, T>,
    observer: O,
    clock: Clock,
    interval: Duration,
    commands: mpsc::Receiver<Command>,
    reloads: mpsc::Receiver<Reload<S, R, T>>,
    answers: Answers,
    sync: Sync<S::Item>,
    keeper: Keeper<T>,
    link: watch::Receiver<Link>,
    /// The Requester answered since the connection was last made again: what listens there is really a Requester.
    proven: bool,
    /// Somebody asked for a sync while one was running: it may have read what it has before the change.
    sync_again: bool,
    farewell: Farewell,
    listings: Listings,
    /// Nothing that was begun may go on after the end: another process may act for the same trunks by then.
    over: CancellationToken,
    rng: SmallRng,
}

type Answer = (Ticket, Result<Reply, SendError>);

#[derive(Debug)]
struct Answers {
    sender: mpsc::UnboundedSender<Answer>,
    receiver: mpsc::UnboundedReceiver<Answer>,
}

/// Where the reading of trunks stands.
enum Sync<I> {
    /// The next one is due then, after so many failures.
    Due(Instant, u32),
    Running {
        batches: mpsc::Receiver<Vec<I>>,
        task: JoinHandle<Result<(), SourceError>>,
        since: Instant,
        failures: u32,
    },
    /// None is to come.
    Over,
}

/// How to reach a running driver.
pub struct Controls<S, R, T> {
    /// Asks and commands.
    pub handle: EngineHandle,
    /// New configurations.
    pub reload: mpsc::Sender<Reload<S, R, T>>,
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
        let (sender, receiver) = mpsc::unbounded_channel();
        let driver = Self {
            interval: Duration::from_millis(engine.settings.registration.interval_ms),
            engine,
            observer,
            commands,
            reloads,
            answers: Answers { sender, receiver },
            sync: Sync::Due(Instant::now(), 0),
            keeper: Keeper::new(ports.store.clone()),
            link: ports.requester.link(),
            proven: false,
            sync_again: false,
            farewell: Farewell::No,
            listings: Listings::default(),
            over: CancellationToken::new(),
            rng: SmallRng::seed_from_u64(clock.environment().seed()),
            clock,
            ports,
        };
        (driver, Controls { handle, reload })
    }

    /// Runs until the shutdown, then waits up to `grace` for the answers in flight and writes what changed. Nothing is
    /// de-registered. Returns the engine as it was left.
    pub async fn run(mut self, shutdown: CancellationToken, grace: Duration) -> Engine {
        self.load(&shutdown).await;
        let pause = if self.engine.knows_nothing() { CSEQ_PAUSE } else { Duration::ZERO };
        self.sync = Sync::Due(Instant::now() + pause, 0);
        while !shutdown.is_cancelled() {
            self.send_what_is_due();
            self.keeper.write(&mut self.engine, &self.clock);
            self.turn(&shutdown).await;
            self.listings.go_on(&self.engine, &self.clock);
            self.say_farewell();
            self.log_transitions();
        }
        self.wind_down(grace).await;
        self.engine
    }

    async fn load(&mut self, shutdown: &CancellationToken) {
        let store = self.ports.store.clone();
        let load = tokio::time::timeout(LOAD_DEADLINE, async move { store.load().await });
        tokio::pin!(load);
        let loaded = loop {
            tokio::select! {
                loaded = &mut load => break loaded,
                // A slow store must not make the service look dead.
                Some(command) = self.commands.recv() => self.obey(command),
                () = shutdown.cancelled() => return,
            }
        };
        let now = self.clock.now();
        match loaded {
            Ok(Ok(records)) => {
                if !records.is_empty() {
                    tracing::info!(registrations = records.len(), "going on where the cache left off");
                }
                self.engine.resume(records);
                self.engine.set_cache_health(None, now);
            }
            Ok(Err(error)) => self.keeper.failed(&error, &mut self.engine, &self.clock),
            Err(_) => self.keeper.failed_to_load(&mut self.engine, &self.clock),
        }
    }

    fn send_what_is_due(&mut self) {
        while let Some(send) = self.engine.poll_send(self.clock.now()) {
            let (requester, answers) = (self.ports.requester.clone(), self.answers.sender.clone());
            if let Some(late) = send.late_ms {
                self.observer.refresh_sent(seconds(late));
            }
            let over = self.over.clone();
            tokio::spawn(over.run_until_cancelled_owned(async move {
                let deadline = Duration::from_millis(send.deadline_ms);
                let answer = requester.register(send.register, deadline).await;
                // Nobody is there to hear it only after the end.
                let _ = answers.send((send.ticket, answer));
            }));
        }
    }

    async fn turn(&mut self, shutdown: &CancellationToken) {
        let wakeup = self.engine.next_wakeup(self.clock.now()).map(|moment| self.clock.instant(moment));
        let mut answers = Vec::new();
        tokio::select! {
            _ = self.answers.receiver.recv_many(&mut answers, ANSWERS) => self.take_answers(answers),
            event = next_of_sync(&mut self.sync) => self.take_sync_event(event).await,
            written = self.keeper.next() => self.keeper.take(written, &mut self.engine, &self.clock, &self.observer),
            Ok(()) = self.link.changed() => self.take_link(),
            Some(command) = self.commands.recv() => self.obey(command),
            Some(reload) = self.reloads.recv() => self.reload(reload),
            () = sleep_until(wakeup.unwrap_or_else(|| far_away(&self.clock))) => {}
            () = std::future::ready(()), if self.listings.wait() => {}
            () = shutdown.cancelled() => {}
        }
    }

    fn take_answers(&mut self, answers: Vec<Answer>) {
        for (ticket, answer) in answers {
            self.proven |= answer.is_ok();
            if let Some(finished) = self.engine.answered(ticket, &answer, self.clock.now()) {
                self.observer.register_finished(
                    &finished.registrar,
                    finished.outcome,
                    seconds(finished.took_ms),
                );
            }
        }
    }

    fn take_link(&mut self) {
        let link = *self.link.borrow_and_update();
        let now = self.clock.now();
        self.engine.requester_link_changed(link.lost, now);
        if link.lost {
            tracing::warn!("the connection to the Requester is lost");
        } else if std::mem::take(&mut self.proven) {
            tracing::info!("the Requester is back: refreshing early, for its Contact may have changed");
            self.engine.requester_reconnected(now);
        }
    }

    async fn take_sync_event(&mut self, event: SyncEvent<S::Item>) {
        match event {
            SyncEvent::Begin(failures) => {
                let (sender, batches) = mpsc::channel(BATCHES);
                let source = self.ports.source.clone();
                let task = tokio::spawn(async move { source.list(sender).await });
                self.engine.begin_sync();
                self.sync = Sync::Running { batches, task, since: Instant::now(), failures };
            }
            SyncEvent::Batch(batch) => {
                let now = self.clock.now();
                for item in &batch {
                    self.engine.offer(item, now);
                }
            }
            SyncEvent::End => {
                let next = Sync::Due(Instant::now() + self.interval, 0);
                let again = std::mem::take(&mut self.sync_again);
                if let Sync::Running { task, since, failures, .. } = std::mem::replace(&mut self.sync, next) {
                    let result = task.await.unwrap_or(Err(SourceError::Abandoned));
                    self.end_sync(result, since, failures);
                }
                if let (true, Sync::Due(at, _)) = (again, &mut self.sync) {
                    *at = Instant::now();
                }
            }
        }
    }

    fn end_sync(&mut self, result: Result<(), SourceError>, since: Instant, failures: u32) {
        let now = self.clock.now();
        self.observer.sync_finished(result.is_ok(), since.elapsed().as_secs_f64());
        match result {
            Ok(()) => {
                let report = self.engine.finish_sync(now);
                self.sync = Sync::Due(since + self.interval, 0);
                tracing::debug!(?report, "trunks read");
                if failures > 0 {
                    tracing::info!(trunks = report.listed, "the API server is back");
                }
                if report.removed > 0 {
                    tracing::info!(trunks = report.removed, "trunks are gone: removing their bindings");
                }
                if report.held > 0 {
                    tracing::warn!(
                        trunks = report.held,
                        "so many trunks are gone at once that a second sync must say the same before they are de-registered"
                    );
                }
                if report.nameless + report.duplicates > 0 {
                    tracing::warn!(
                        without_ref = report.nameless,
                        with_the_ref_of_another = report.duplicates,
                        "trunks left out"
                    );
                }
            }
            Err(error) => {
                self.engine.abort_sync(&error, now);
                let pause = SYNC_RETRY.saturating_mul(1 << failures.min(16)).min(self.interval);
                let pause = pause.mul_f64(self.rng.random_range(0.5..=1.0));
                if failures == 0 {
                    tracing::warn!(%error, "cannot read the trunks: going on with the last good list");
                } else {
                    tracing::debug!(%error, failures, "cannot read the trunks");
                }
                self.sync = Sync::Due(Instant::now() + pause, failures + 1);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            // Whoever asked may have gone; that is no concern of the engine's.
            Command::Summary(answer) => drop(answer.send(self.engine.summary(now))),
            Command::List { filter, after, limit, answer } => {
                self.listings.begin(filter, after, limit, answer);
                self.listings.go_on(&self.engine, &self.clock);
            }
            Command::Get { reference, answer } => drop(answer.send(self.engine.get(&reference, now))),
            Command::Refresh { reference, answer } => drop(answer.send(self.engine.refresh(&reference, now))),
            Command::SyncNow => match &mut self.sync {
                Sync::Due(at, _) => *at = Instant::now(),
                Sync::Running { .. } => self.sync_again = true,
                Sync::Over => {}
            },
            Command::Troubles { most, answer } => drop(answer.send(self.engine.troubles(most, now))),
            Command::Pause(paused) => self.engine.pause(paused),
            Command::Leave { presume, answer } => self.farewell.ask(presume, answer),
        }
    }

    fn reload(&mut self, reload: Reload<S, R, T>) {
        let now = self.clock.now();
        self.interval = Duration::from_millis(reload.settings.registration.interval_ms);
        self.engine.reconfigure(reload.settings, now);
        if let Some(source) = reload.source {
            self.ports.source = source;
            if !matches!(self.sync, Sync::Over) {
                self.sync = Sync::Due(Instant::now(), 0);
            }
        } else if let Sync::Due(at, _) = &mut self.sync {
            *at = (*at).min(Instant::now() + self.interval);
        }
        if let Some(requester) = reload.requester {
            self.link = requester.link();
            self.ports.requester = requester;
        }
        if reload.requester_moved {
            self.engine.requester_reconnected(now);
        }
        if let Some(store) = reload.store {
            self.ports.store = store.clone();
            self.engine.keep(store.is_durable());
            // What was said of the old one does not hold for the new one.
            self.engine.forget_cache_health();
            self.keeper = Keeper::new(store);
            self.engine.write_everything();
        }
    }

    fn log_transitions(&mut self) {
        for transition in self.engine.take_transitions() {
            let trunk = &*transition.reference;
            let (from, to, registrar) =
                (transition.from.name(), transition.to.name(), &*transition.registrar);
            match (transition.to, transition.reason) {
                (TrunkState::AtRisk | TrunkState::Failing | TrunkState::Invalid, Some((reason, message))) => {
                    tracing::warn!(trunk, from, to, registrar, reason, "{message}");
                }
                // One of its URIs cannot be used.
                (_, Some((reason @ "InvalidTrunk", message))) => {
                    tracing::warn!(trunk, from, to, registrar, reason, "{message}");
                }
                (TrunkState::AtRisk | TrunkState::Failing | TrunkState::Invalid, None) => {
                    tracing::warn!(trunk, from, to, registrar, "registration in trouble");
                }
                _ => tracing::info!(trunk, from, to, registrar, "registration changed its state"),
            }
        }
    }

    async fn wind_down(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.engine.pause(true);
        while self.engine.in_flight() > 0 {
            let mut answers = Vec::new();
            tokio::select! {
                _ = self.answers.receiver.recv_many(&mut answers, ANSWERS) => self.take_answers(answers),
                Some(command) = self.commands.recv() => self.obey(command),
                () = std::future::ready(()), if self.listings.wait() => self.listings.go_on(&self.engine, &self.clock),
                () = sleep_until(deadline) => break,
            }
        }
        if self.engine.in_flight() > 0 {
            tracing::info!(in_flight = self.engine.in_flight(), "not waiting any longer for answers");
            self.engine.give_up_flights();
        }
        self.over.cancel();
        self.log_transitions();
        let last_words = (grace / 4).max(LAST_WORDS);
        self.keeper.finish(&mut self.engine, &self.clock, &self.observer, deadline + last_words).await;
    }
}

enum SyncEvent<I> {
    Begin(u32),
    Batch(Vec<I>),
    End,
}

async fn next_of_sync<I>(sync: &mut Sync<I>) -> SyncEvent<I> {
    match sync {
        Sync::Due(at, failures) => {
            let failures = *failures;
            sleep_until(*at).await;
            SyncEvent::Begin(failures)
        }
        Sync::Over => std::future::pending().await,
        Sync::Running { batches, .. } => batches.recv().await.map_or(SyncEvent::End, SyncEvent::Batch),
    }
}

#[allow(clippy::cast_precision_loss)] // Far below 2^53.
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

/// Far enough for «until something happens».
fn far_away(clock: &Clock) -> Instant {
    clock.instant(clock.now().at.plus(3_600_000))
}
