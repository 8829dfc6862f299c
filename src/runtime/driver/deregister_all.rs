//! The end of a registry: all its trunks are deregistered, and each caller that asked for it gets the report.

use tokio::sync::oneshot;

use super::{Driver, SyncTask};
use crate::runtime::ports::{Observer, Requester, Store, TrunkSource};
use routr_registration::engine::view::DeregistrationReport;

/// Progress of deregistering all trunks.
pub(super) enum DeregisterAll {
    /// No one wants it.
    NotRequested,
    /// Waiting until the trunks have been read: an engine that has only begun does not know them yet.
    AwaitingSync(bool, Vec<oneshot::Sender<DeregistrationReport>>),
    /// The bindings are being removed.
    Deregistering(Vec<oneshot::Sender<DeregistrationReport>>),
}

impl DeregisterAll {
    /// Records a request. The first one decides whether bindings are assumed.
    pub(super) fn ask(&mut self, assume_bound: bool, respond_to: oneshot::Sender<DeregistrationReport>) {
        match self {
            Self::NotRequested => *self = Self::AwaitingSync(assume_bound, vec![respond_to]),
            Self::AwaitingSync(_, waiting) | Self::Deregistering(waiting) => waiting.push(respond_to),
        }
    }
}

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    /// Takes the next step of deregistering all trunks, if it was requested.
    pub(super) fn step_deregister_all(&mut self) {
        match std::mem::replace(&mut self.deregister_all, DeregisterAll::NotRequested) {
            DeregisterAll::NotRequested => {}
            DeregisterAll::AwaitingSync(assume_bound, waiting) => {
                if self.engine.has_synced() {
                    self.sync = SyncTask::Over;
                    self.engine.deregister_all(assume_bound, self.clock.now());
                    self.engine.pause(false);
                    self.deregister_all = DeregisterAll::Deregistering(waiting);
                    self.step_deregister_all();
                } else {
                    // The trunks that it will read must be removed, not registered first.
                    self.engine.pause(true);
                    self.deregister_all = DeregisterAll::AwaitingSync(assume_bound, waiting);
                }
            }
            DeregisterAll::Deregistering(waiting)
                if self.engine.is_empty() && self.persister.is_idle(&self.engine) =>
            {
                // Anyone who asked may have gone.
                for respond_to in waiting {
                    let _ = respond_to.send(self.engine.deregistration_report());
                }
            }
            deregistering => self.deregister_all = deregistering,
        }
    }
}
