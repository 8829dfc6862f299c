//! Keeps the store up to date with the engine: one batch at a time, and everything again after an outage.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until},
};
use tracing::Instrument as _;

use super::{clock::Clock, driver::READ_RETRIES};
use crate::runtime::ports::{Observer, Store};
use routr_registration::model::{Change, Record, Rival, StoreError};
use routr_registration::{engine::Engine, registration::time::MIN_CLOCK_DIFFERENCE_MS};

/// Changes in one batch.
const MAX_CHANGES_PER_BATCH: usize = 2_000;
/// First and longest pause after a failure.
const RETRY_PERIOD: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Refused credentials are tried again so rarely that it is no loop, and so soon that no one waits long after
/// fixing them at Redis. A password that changes here makes another store, which is tried at once.
const DENIED_RETRY_PERIOD: Duration = Duration::from_secs(30);
/// Time for which a store that could not be read is tried again at a quick pace, and the pauses meanwhile.
const UNREAD_RETRY_FOR: Duration = READ_RETRIES;
const UNREAD_RETRY_PERIOD: Duration = Duration::from_secs(1);
const UNREAD_DENIED_RETRY_PERIOD: Duration = Duration::from_secs(3);
/// Pause where nothing outlives the process and there is nothing to check: as good as for ever.
const NO_CHECK_PAUSE: Duration = Duration::from_secs(3_600);

/// Writer of an engine's changes to its store.
pub(super) struct Persister<T> {
    store: Arc<T>,
    state: State,
    retry: Duration,
    /// Moment of the next check whether it has lost anything. Writes in between do not put that off.
    check_at: Instant,
    /// It failed since it last worked.
    failing: bool,
    /// It worked once: a loss of data from then on is worth a warning.
    proven: bool,
    /// Its records have not been read: that comes before anything is written.
    unread: bool,
    /// Moment since which that is so.
    unread_since: Instant,
    /// Another process acts for the registry: nothing is written, and nothing asked.
    stands_by: bool,
    /// Another process that acts for the registry as well.
    other: Option<Rival>,
    /// Lead of the wall clock over the engine's when everything was written by it, in milliseconds.
    wall_ahead: Option<i64>,
}

#[derive(Debug)]
enum State {
    /// Nothing to do until there are changes, or until it is time for a check.
    Idle,
    /// Waiting until then.
    Pausing(Instant),
    /// Being written, with these changes.
    Writing(Vec<Change>, JoinHandle<Result<(), StoreError>>),
    Checking(JoinHandle<Result<bool, StoreError>>),
    Loading(JoinHandle<Result<Vec<Record>, StoreError>>),
}

/// Event that [`Persister::next`] waited for.
pub(super) enum Done {
    Written(Vec<Change>, Result<(), StoreError>),
    Checked(Result<bool, StoreError>),
    Loaded(Result<Vec<Record>, StoreError>),
    BackoffElapsed,
    TimeToCheck,
}

impl<T: Store> Persister<T> {
    /// Makes a persister of a store that has been read, or of one that has not: that is read first.
    pub fn new(store: Arc<T>, unread: bool) -> Self {
        // The first step is a check: it shows whether the store is there, and makes it keep the identity.
        let check_at = Instant::now();
        Self {
            store,
            state: State::Pausing(check_at),
            retry: RETRY_PERIOD.0,
            check_at,
            failing: false,
            proven: false,
            unread,
            unread_since: check_at,
            stands_by: false,
            other: None,
            wall_ahead: None,
        }
    }

    /// Returns whether what it kept has yet to be read.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Another process acts for the registry from now on: ends the call under way, and begins no other.
    pub fn stand_by(&mut self, engine: &mut Engine) {
        self.stop(engine);
        self.stands_by = true;
    }

    /// No other process acts for the registry any more: what it wrote is read, at once.
    pub fn take_over(&mut self) {
        (self.stands_by, self.unread, self.failing, self.proven) = (false, true, false, false);
        self.retry = RETRY_PERIOD.0;
        self.unread_since = Instant::now();
        self.state = State::Pausing(self.unread_since);
    }

    /// Returns whether the store has all that there is to write, or keeps nothing.
    pub fn is_idle(&self, engine: &Engine) -> bool {
        !self.store.is_durable() || (engine.unwritten() == 0 && !matches!(self.state, State::Writing(..)))
    }

    /// Begins to write, when there is something to write and nothing is under way. A check that is due goes
    /// first: there may be something to write at any time.
    pub fn write(&mut self, engine: &mut Engine, clock: &Clock) {
        let due = self.check_at <= Instant::now();
        let held = due || self.unread || self.stands_by;
        if engine.unwritten() == 0 || !matches!(self.state, State::Idle) || held {
            return;
        }
        let changes = engine.poll_changes(MAX_CHANGES_PER_BATCH, clock.now());
        if changes.is_empty() {
            return;
        }
        let (store, written) = (self.store.clone(), changes.clone());
        self.state = State::Writing(
            changes,
            tokio::spawn(async move { store.apply(written).await }.in_current_span()),
        );
    }

    /// Waits for the end of the call or the pause under way.
    pub async fn next(&mut self) -> Done {
        match &mut self.state {
            _ if self.stands_by => std::future::pending().await,
            State::Idle => {
                sleep_until(self.check_at).await;
                Done::TimeToCheck
            }
            State::Pausing(until) => {
                sleep_until(*until).await;
                Done::BackoffElapsed
            }
            State::Writing(changes, task) => {
                let result = task.await.unwrap_or_else(|error| Err(broken(&error)));
                Done::Written(std::mem::take(changes), result)
            }
            State::Checking(task) => Done::Checked(task.await.unwrap_or_else(|error| Err(broken(&error)))),
            State::Loading(task) => Done::Loaded(task.await.unwrap_or_else(|error| Err(broken(&error)))),
        }
    }

    /// Takes the result of the call or the pause under way.
    pub fn take(&mut self, done: Done, engine: &mut Engine, clock: &Clock, observer: &impl Observer) {
        match done {
            Done::TimeToCheck | Done::BackoffElapsed if self.unread => {
                let store = self.store.clone();
                self.state =
                    State::Loading(tokio::spawn(async move { store.load().await }.in_current_span()));
            }
            Done::Loaded(Ok(records)) => {
                self.unread = false;
                self.state = State::Pausing(Instant::now());
                engine.handle_store_health(None, clock.now());
                if !records.is_empty() {
                    let registrations = engine.handle_late_records(records, clock.now());
                    tracing::info!(registrations, "resuming from the state in the cache");
                }
            }
            Done::Loaded(Err(error)) => self.failed(&error, engine, clock),
            Done::TimeToCheck | Done::BackoffElapsed if !self.store.is_durable() => self.checked(),
            Done::TimeToCheck | Done::BackoffElapsed => {
                let store = self.store.clone();
                self.state = State::Checking(tokio::spawn(
                    async move { store.detect_data_loss().await }.in_current_span(),
                ));
            }
            Done::Checked(Ok(lost)) => {
                let other = self.store.other_writer();
                // Two that wrote everything again at each look at the other's mark would never end.
                let overwritten = other.is_some() && self.other.is_some();
                if self.clock_was_set(clock) || (lost && !overwritten) || self.failing {
                    engine.handle_store_loss();
                }
                if lost && other.is_none() && self.proven && !self.failing {
                    tracing::warn!("the cache has lost its data: writing everything again");
                }
                self.note_other(other);
                self.checked();
                self.works(engine, clock);
            }
            Done::Checked(Err(error)) => self.failed(&error, engine, clock),
            Done::Written(changes, result) => {
                observer.store_write(result.is_ok());
                match result {
                    Ok(()) => self.works(engine, clock),
                    Err(error) => {
                        engine.handle_unwritten(changes);
                        self.failed(&error, engine, clock);
                    }
                }
            }
        }
    }

    /// Takes note of another process that writes the same keys, or of its end.
    fn note_other(&mut self, other: Option<Rival>) {
        match (&self.other, &other) {
            (before, Some(rival)) if before.as_ref() != Some(rival) => {
                let error = StoreError::Shared(rival.to_string().into());
                tracing::error!(
                    %error,
                    "both processes send REGISTERs for the same trunks, and each overwrites what the other one keeps; nothing is lost: end \
                     one of the two, or give one of them another spec.instanceId, or another prefix in spec.cache.parameters"
                );
            }
            (Some(rival), None) => {
                tracing::info!(other = %rival, "the other process no longer writes the same keys of the cache");
            }
            _ => {}
        }
        self.other = other;
    }

    /// Returns whether the wall clock was set since this last said so. It counts from there, so that many
    /// small steps count too.
    fn clock_was_set(&mut self, clock: &Clock) -> bool {
        let now = clock.now();
        let ahead = now.unix_ms.cast_signed().saturating_sub(now.at.0.cast_signed());
        let before = *self.wall_ahead.get_or_insert(ahead);
        let set = ahead.abs_diff(before) >= MIN_CLOCK_DIFFERENCE_MS;
        if set {
            self.wall_ahead = Some(ahead);
        }
        set
    }

    fn checked(&mut self) {
        let pause = if self.store.is_durable() { self.store.check_every() } else { NO_CHECK_PAUSE };
        self.check_at = Instant::now() + pause;
        self.state = State::Idle;
    }

    fn works(&mut self, engine: &mut Engine, clock: &Clock) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("the cache is back: writing everything");
        }
        (self.retry, self.proven) = (RETRY_PERIOD.0, true);
        self.state = State::Idle;
        let shared = self.other.as_ref().map(|rival| StoreError::Shared(rival.to_string().into()));
        engine.handle_store_health(shared.as_ref(), clock.now());
    }

    /// It failed: the engine goes on from memory.
    pub fn failed(&mut self, error: &StoreError, engine: &mut Engine, clock: &Clock) {
        // Nothing is sent meanwhile.
        let urgent = self.unread && self.unread_since.elapsed() < UNREAD_RETRY_FOR;
        let pause = match error {
            StoreError::Denied(_) if urgent => UNREAD_DENIED_RETRY_PERIOD,
            StoreError::Denied(_) => DENIED_RETRY_PERIOD,
            _ if urgent => self.retry.min(UNREAD_RETRY_PERIOD),
            _ => self.retry,
        };
        if !std::mem::replace(&mut self.failing, true) {
            if urgent {
                let seconds = UNREAD_RETRY_FOR.as_secs();
                tracing::warn!(
                    %error,
                    "running from memory until the cache works again; nothing is sent until its records can \
                     be read, for about {seconds} s at most"
                );
            } else {
                tracing::warn!(%error, "running from memory until the cache works again");
            }
        }
        self.retry = (self.retry * 2).min(if urgent { UNREAD_RETRY_PERIOD } else { RETRY_PERIOD.1 });
        self.state = State::Pausing(Instant::now() + pause);
        engine.handle_store_health(Some(error), clock.now());
    }

    /// It did not say in time what it kept.
    pub fn failed_to_load(&mut self, engine: &mut Engine, clock: &Clock) {
        self.stop(engine);
        self.failed(&StoreError::Unavailable("timed out loading its records".into()), engine, clock);
    }

    /// Ends the call under way, and gives back its changes, which may not have been written: a late write
    /// could undo those that the next process, or the next persister of the same store, has written by then.
    pub fn stop(&mut self, engine: &mut Engine) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Writing(changes, task) => {
                task.abort();
                engine.handle_unwritten(changes);
            }
            State::Checking(task) => task.abort(),
            State::Loading(task) => task.abort(),
            State::Idle | State::Pausing(_) => {}
        }
    }

    /// Writes what is left, until the deadline.
    pub async fn finish(
        &mut self,
        engine: &mut Engine,
        clock: &Clock,
        observer: &impl Observer,
        deadline: Instant,
    ) {
        if !self.store.is_durable() || self.stands_by {
            return;
        }
        // What was sent is newer than what was never read.
        self.unread = false;
        if matches!(self.state, State::Loading(_)) {
            self.stop(engine);
        }
        // No time for another check.
        self.check_at = deadline.max(Instant::now()) + NO_CHECK_PAUSE;
        let everything = async {
            loop {
                if matches!(self.state, State::Pausing(_)) {
                    self.state = State::Idle;
                }
                self.write(engine, clock);
                if matches!(self.state, State::Idle) {
                    return true;
                }
                let done = self.next().await;
                let failed = matches!(&done, Done::Written(_, Err(_)) | Done::Checked(Err(_)));
                self.take(done, engine, clock, observer);
                if failed {
                    return false;
                }
            }
        };
        let done = tokio::time::timeout_at(deadline, everything).await.unwrap_or(false);
        self.stop(engine);
        if !done {
            tracing::warn!(
                changes = engine.unwritten(),
                "shutdown: some records could not be written to the \
                                                          cache in time"
            );
        }
    }
}

/// Returns the error of a call to the store whose task ended by itself.
fn broken(error: &JoinError) -> StoreError {
    StoreError::Unavailable(error.to_string().into())
}
