//! The end of a registry: all its trunks leave, and whoever asked for it is told when they have.

use tokio::sync::oneshot;

use super::{Driver, Sync};
use crate::{
    engine::handle::LeaveReport,
    ports::{Observer, Requester, Store, TrunkSource},
};

/// All trunks are to leave: where that stands.
pub(super) enum Farewell {
    /// Nobody wants it.
    No,
    /// As soon as the trunks have been read: an engine that has only begun does not know them yet.
    Wanted(bool, Vec<oneshot::Sender<LeaveReport>>),
    /// The bindings are being removed.
    Leaving(Vec<oneshot::Sender<LeaveReport>>),
}

impl Farewell {
    /// Somebody wants it. The first to ask says whether to presume bindings.
    pub(super) fn ask(&mut self, presume: bool, answer: oneshot::Sender<LeaveReport>) {
        match self {
            Self::No => *self = Self::Wanted(presume, vec![answer]),
            Self::Wanted(_, waiting) | Self::Leaving(waiting) => waiting.push(answer),
        }
    }
}

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    /// Takes the next step of a farewell, if one is wanted.
    pub(super) fn say_farewell(&mut self) {
        match std::mem::replace(&mut self.farewell, Farewell::No) {
            Farewell::No => {}
            Farewell::Wanted(presume, waiting) => {
                if self.engine.has_synced() {
                    self.sync = Sync::Over;
                    self.engine.leave_all(presume, self.clock.now());
                    self.engine.pause(false);
                    self.farewell = Farewell::Leaving(waiting);
                    self.say_farewell();
                } else {
                    // What it will read is to be removed, not to be registered first.
                    self.engine.pause(true);
                    self.farewell = Farewell::Wanted(presume, waiting);
                }
            }
            Farewell::Leaving(waiting) if self.engine.is_empty() && self.keeper.is_idle(&self.engine) => {
                // Whoever asked may have gone.
                for answer in waiting {
                    let _ = answer.send(self.engine.left());
                }
            }
            leaving => self.farewell = leaving,
        }
    }
}
