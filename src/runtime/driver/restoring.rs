//! Decides when this process acts for its registry: once the store's records have been read, which is tried
//! for some seconds before it begins without; and as long as no other process does.

use std::time::Duration;

use tokio::time::Instant;

use super::{super::persister::Done, Driver, syncing::SyncTask};
use crate::runtime::ports::{Observer, Requester, Store, TrunkSource};
use routr_registration::{model::StoreError, registration::identity::RegistryId};

/// Time for which a store that fails is tried again before anything is sent: one that starts, or loads its
/// data, at the same time as this process.
pub(crate) const READ_RETRIES: Duration = Duration::from_secs(15);
/// Time limit for reading the store before the engine starts without its records; they are read later then.
const READ_DEADLINE: Duration = Duration::from_secs(20);

/// Role of this process for the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It sends and writes.
    Acts,
    /// The store's records are read before anything is sent, for at most [`READ_DEADLINE`] from then on.
    Reads(Instant),
    /// Another process acts.
    StandsBy,
}

impl Standing {
    /// Returns when it changes by itself.
    pub(super) fn next_change(self) -> Option<Instant> {
        match self {
            Self::Reads(since) => Some(since + READ_DEADLINE),
            Self::Acts | Self::StandsBy => None,
        }
    }
}

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    /// Sends nothing until what the store kept has been read.
    pub(super) fn read_first(&mut self) {
        self.standing = Standing::Reads(Instant::now());
        self.engine.stand_by(true);
    }

    /// Takes the end of what the store was asked.
    pub(super) fn handle_store_event(&mut self, done: Done) {
        let read = match &done {
            Done::Loaded(result) => Some(result.is_ok()),
            _ => None,
        };
        self.persister.take(done, &mut self.engine, &self.clock, &self.observer);
        let Some(read) = read else { return };
        // To read it is to claim the registry, too.
        if self.rival.has_changed().unwrap_or(false) {
            self.handle_rival();
        }
        if read {
            self.handle_identity();
        }
        if let Standing::Reads(since) = self.standing {
            if read {
                self.activate();
                // It need not wait any longer.
                if self.first_sync.1 > Instant::now()
                    && let SyncTask::Due(at, _) = &mut self.sync
                {
                    *at = self.first_sync.0.max(Instant::now());
                }
            } else if since.elapsed() >= READ_RETRIES {
                self.activate_unread();
            }
        }
    }

    /// Returns when the trunks may be read.
    pub(super) fn earliest_sync(&self) -> Instant {
        let first = if self.persister.is_unread() { self.first_sync.1 } else { self.first_sync.0 };
        first.max(Instant::now())
    }

    /// Ends the wait for a store that does not say what it kept.
    pub(super) fn give_up_reading(&mut self) {
        if self.standing.next_change().is_some_and(|at| at <= Instant::now()) {
            self.persister.failed_to_load(&mut self.engine, &self.clock);
            self.activate_unread();
        }
    }

    fn activate_unread(&mut self) {
        tracing::warn!("registering without the stored state; it is read once the cache works again");
        self.activate();
    }

    fn activate(&mut self) {
        self.standing = Standing::Acts;
        self.engine.stand_by(false);
    }

    /// Takes the instance id that the store keeps.
    fn handle_identity(&mut self) {
        let Some(id) = self.ports.store.instance_id() else { return };
        let id = RegistryId::new(&id);
        if self.engine.adopt(id.clone()) {
            tracing::info!(
                instance_id = id.as_str(),
                "using the instance id that the cache stores: Call-IDs derive from it"
            );
        }
        self.identity.send_if_modified(|known| {
            let differs = known.as_ref() != Some(&id);
            *known = Some(id);
            differs
        });
    }

    /// Another process acts for the registry, or no longer does.
    pub(super) fn handle_rival(&mut self) {
        let rival = self.rival.borrow_and_update().clone();
        match (rival, self.standing) {
            (Some(rival), standing) => {
                let error = StoreError::Taken(rival.to_string().into());
                if standing != Standing::StandsBy {
                    tracing::error!(
                        %error,
                        "standing by: this process sends nothing until that one has ended. Installations \
                         with the same name and addresses share their state in Redis: if these are different \
                         ones, set spec.instanceId, or prefix in spec.cache.parameters"
                    );
                }
                self.standing = Standing::StandsBy;
                self.engine.stand_by(true);
                self.persister.stand_by(&mut self.engine);
                self.engine.handle_store_health(Some(&error), self.clock.now());
            }
            (None, Standing::StandsBy) => {
                tracing::warn!("the other process has ended: taking over");
                self.read_first();
                self.persister.take_over();
            }
            (None, Standing::Acts | Standing::Reads(_)) => {}
        }
    }
}
