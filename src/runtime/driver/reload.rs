//! A new configuration for a driver that runs.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{super::persister::Persister, Driver, restoring::Standing, syncing::SyncTask};
use crate::runtime::ports::{Observer, Requester, Store, TrunkSource};
use routr_registration::engine::EngineSettings;

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

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    pub(super) fn reload(&mut self, reload: Reload<S, R, T>) {
        let now = self.clock.now();
        self.interval = Duration::from_millis(reload.settings.registration.interval_ms);
        self.engine.handle_settings(reload.settings, now);
        if let Some(source) = reload.source {
            self.ports.source = source;
            if !matches!(self.sync, SyncTask::Over) {
                self.sync = SyncTask::Due(Instant::now(), 0);
            }
        } else if let SyncTask::Due(at, _) = &mut self.sync {
            *at = (*at).min(Instant::now() + self.interval);
        }
        if let Some(requester) = reload.requester {
            self.link = requester.link();
            self.ports.requester = requester;
        }
        if reload.requester_moved {
            let link = *self.link.borrow_and_update();
            self.restarts = link.restarts;
            self.engine.handle_requester_replaced(link, now);
        }
        if let Some(store) = reload.store {
            // It may be the same one by other words, and get an older record after a newer one.
            self.persister.stop(&mut self.engine);
            self.ports.store = store.clone();
            self.engine.keep(store.is_durable());
            // What was said of the old one does not hold for the new one.
            self.engine.handle_store_replaced();
            self.rival = store.rival();
            let unread = self.persister.is_unread() || self.standing != Standing::Acts;
            self.persister = Persister::new(store, unread);
            self.engine.handle_store_loss();
            // Of this store no one has said yet that another process acts.
            self.handle_rival();
        }
    }
}
