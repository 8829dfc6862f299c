//! What the store kept: read before anything is sent, tried for some seconds, and else read late; and which process acts for
//! the registry.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{super::keeper::Done, Driver};
use crate::{
    ports::{Observer, Requester, Rival, Store, StoreError, TrunkSource},
    registration::identity::RegistryId,
};

/// How long the store may take to say what it kept, before the engine starts without; it is read later then.
const LOAD_DEADLINE: Duration = Duration::from_secs(20);
/// How long a store that fails is tried again at the start: one that starts, or loads its data, at the same time as this process.
const LOAD_RETRIES: Duration = Duration::from_secs(15);
/// First and longest pause between two tries.
const LOAD_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// The pause after refused credentials.
const LOAD_DENIED_PAUSE: Duration = Duration::from_secs(3);

/// Whether this process acts for the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It sends and writes.
    Acts,
    /// Another process does.
    StandsBy,
    /// That one is gone: what it wrote is read before anything is sent, for at most [`LOAD_DEADLINE`] from then on.
    TakesOver(Instant),
}

/// What a step of the start came to.
enum Step<T> {
    Done(T),
    /// There is another store.
    StoreReplaced,
    Shutdown,
}

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    /// Reads what the store kept. Commands and new configurations are taken meanwhile: a slow store must not make the service
    /// look dead, and a new configuration may be the one that reaches it.
    pub(super) async fn load(&mut self, shutdown: &CancellationToken) {
        let begun = Instant::now();
        let (mut pause, mut warned) = (LOAD_PAUSE.0, false);
        loop {
            let store = self.ports.store.clone();
            let load = timeout_at(begun + LOAD_DEADLINE, async move { store.load().await });
            let loaded = match self.meanwhile(load, shutdown).await {
                Step::Done(loaded) => loaded,
                Step::StoreReplaced => continue,
                Step::Shutdown => return,
            };
            let error = match loaded {
                Ok(Ok(records)) => {
                    if !records.is_empty() {
                        tracing::info!(registrations = records.len(), "going on where the cache left off");
                    }
                    let now = self.clock.now();
                    self.engine.resume(records, now.at);
                    self.engine.set_cache_health(None, now);
                    self.keeper.read();
                    self.take_identity();
                    self.take_rival();
                    return;
                }
                Ok(Err(error)) => error,
                Err(_) => return self.keeper.failed_to_load(&mut self.engine, &self.clock),
            };
            let wait = if matches!(error, StoreError::Denied(_)) { LOAD_DENIED_PAUSE } else { pause };
            pause = (pause * 2).min(LOAD_PAUSE.1);
            if begun.elapsed() + wait > LOAD_RETRIES {
                return self.keeper.failed(&error, &mut self.engine, &self.clock);
            }
            self.engine.set_cache_health(Some(&error), self.clock.now());
            if !std::mem::replace(&mut warned, true) {
                tracing::warn!(
                    %error,
                    "cannot read what the cache keeps; nothing is sent until it can be read, or for {} s",
                    LOAD_RETRIES.as_secs()
                );
            }
            if let Step::Shutdown = self.meanwhile(sleep_until(Instant::now() + wait), shutdown).await {
                return;
            }
        }
    }

    /// Waits for `what`, and takes commands and new configurations meanwhile.
    async fn meanwhile<V>(&mut self, what: impl Future<Output = V>, shutdown: &CancellationToken) -> Step<V> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Step::Shutdown,
                value = &mut what => return Step::Done(value),
                Some(command) = self.commands.recv() => self.obey(command),
                Some(reload) = self.reloads.recv() => {
                    let replaced = reload.store.is_some();
                    self.reload(reload);
                    if replaced {
                        return Step::StoreReplaced;
                    }
                }
            }
        }
    }

    /// Takes the end of what the store was asked.
    pub(super) fn take_from_store(&mut self, done: Done) {
        let read = match &done {
            Done::Loaded(result) => Some(result.is_ok()),
            _ => None,
        };
        self.keeper.take(done, &mut self.engine, &self.clock, &self.observer);
        let Some(read) = read else { return };
        // To read it is to claim the registry, too.
        if self.rival.has_changed().unwrap_or(false) {
            self.take_rival();
        }
        if read {
            self.take_identity();
        }
        if let Standing::TakesOver(since) = self.standing
            && (read || since.elapsed() >= LOAD_DEADLINE)
        {
            self.standing = Standing::Acts;
            self.engine.stand_by(false);
        }
    }

    /// Takes the instance id that the store keeps.
    fn take_identity(&mut self) {
        let Some(id) = self.ports.store.instance_id() else { return };
        let id = RegistryId::new(&id);
        if self.engine.adopt(id.clone()) {
            tracing::info!(instance_id = id.as_str(), "the cache keeps this instance id: Call-IDs are made of it");
        }
        self.identity.send_if_modified(|known| {
            let differs = known.as_ref() != Some(&id);
            *known = Some(id);
            differs
        });
    }

    /// Another process acts for the registry, or no longer does.
    pub(super) fn take_rival(&mut self) {
        let rival = self.rival.borrow_and_update().clone();
        match (rival, self.standing) {
            (Some(rival), standing) => {
                let error = StoreError::Taken(words(&rival).into());
                if standing != Standing::StandsBy {
                    tracing::error!(
                        %error,
                        "standing by: this process sends nothing until that one has ended. Two installations with one name and \
                         the same addresses share their state in Redis; set another spec.instanceId or a prefix in \
                         spec.cache.parameters where they are not one"
                    );
                }
                self.standing = Standing::StandsBy;
                self.engine.stand_by(true);
                self.keeper.stand_by(&mut self.engine);
                self.engine.set_cache_health(Some(&error), self.clock.now());
            }
            (None, Standing::StandsBy) => {
                tracing::warn!("the other process has ended: taking over");
                self.standing = Standing::TakesOver(Instant::now());
                self.keeper.take_over();
            }
            (None, Standing::Acts | Standing::TakesOver(_)) => {}
        }
    }
}

fn words(rival: &Rival) -> String {
    let since = i64::try_from(rival.since_ms).ok().filter(|since| *since > 0);
    match since.and_then(|since| jiff::Timestamp::from_millisecond(since).ok()) {
        Some(since) => format!("{}, since {}", rival.who, since.strftime("%Y-%m-%dT%H:%M:%SZ")),
        None => rival.who.to_string(),
    }
}
