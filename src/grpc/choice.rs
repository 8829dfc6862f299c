//! Choice among the addresses of a gRPC dependency, as extensions of a request.

use std::sync::{Arc, OnceLock};

use super::{peer::At, restarts::hash};

/// Address that a request goes to, where there are several. Requests without it take turns.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// Requests with the same number keep to one address for as long as that one can be connected to.
    Kept(u64),
    /// This one, while it is open.
    Address(Arc<At>),
}

impl Choice {
    /// Keeps all REGISTERs of a registration, which its Call-ID names, at one address.
    pub(super) fn kept(call_id: &str) -> Self {
        Self::Kept(hash(call_id))
    }
}

/// Returns how much a number is for an address: it keeps to the one with the greatest weight (rendezvous
/// hashing), so that an address that comes or goes moves no number between two others. The same in each
/// process of one release: a trunk stays where it is when another replica of the registry takes over.
pub(super) fn weight(number: u64, at: &At) -> u64 {
    hash((number, at))
}

/// Extension of a request whose caller wants to know which address responded.
#[derive(Clone, Debug, Default)]
pub(super) struct Responder(Arc<OnceLock<Responded>>);

/// Addresses at the moment of a response.
#[derive(Clone, Debug)]
pub(super) struct Responded {
    /// The one that responded.
    pub(super) at: Arc<At>,
    /// All that are open, or being connected to.
    pub(super) all: Vec<Arc<At>>,
}

impl Responder {
    pub(super) fn set(&self, responded: Responded) {
        // A request has one response.
        let _ = self.0.set(responded);
    }

    pub(super) fn get(&self) -> Option<Responded> {
        self.0.get().cloned()
    }
}
