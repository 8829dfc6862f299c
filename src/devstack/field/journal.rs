//! Journal of a play, for tests to look at.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{case::Over, digest::Verdict};

/// Most requests and responses that are kept.
const MAX_KEPT: usize = 10_000;

/// One request that arrived. One that is sent again, with the same branch, is not seen again: see
/// [`Seen::sendings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Time of its first arrival, since the start of the play.
    pub at: Duration,
    /// The node.
    pub node: String,
    /// Transport of the request.
    pub over: Over,
    /// Source address.
    pub source: SocketAddr,
    /// The number of its connection at the node, from 1, the last one of several; `None` over UDP.
    pub connection: Option<u64>,
    /// Method.
    pub method: String,
    /// Request-URI.
    pub request_uri: String,
    /// User part of To, as it was written.
    pub user: String,
    /// Call-ID.
    pub call_id: String,
    /// CSeq number.
    pub cseq: u32,
    /// All Contact values.
    pub contact: String,
    /// The seconds asked for.
    pub asked: u32,
    /// Require.
    pub require: String,
    /// True when it carries X-Gateway-Auth.
    pub gateway_auth: bool,
    /// Result of checking its credentials, by realm; one entry at least.
    pub credentials: Vec<(String, Verdict)>,
    /// Number of times that it arrived.
    pub sendings: u64,
    /// The status codes that were sent for it; what is no response has none.
    pub codes: Vec<u16>,
    /// Its place since the start.
    pub(super) id: u64,
}

impl Seen {
    /// Returns the result for the only realm, or for the first of several.
    pub fn verdict(&self) -> Verdict {
        self.credentials.first().map(|(_, verdict)| *verdict).unwrap_or_default()
    }

    /// Returns whether it carries credentials, of whatever worth.
    pub fn offers_credentials(&self) -> bool {
        self.credentials.iter().any(|(_, verdict)| *verdict != Verdict::None)
    }
}

/// One response of the client to a request of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The node that received it.
    pub node: String,
    /// Source address.
    pub source: SocketAddr,
    /// Status code.
    pub code: u16,
    /// Reason phrase.
    pub reason: String,
    /// Method of CSeq.
    pub method: String,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    seen: VecDeque<Seen>,
    received: VecDeque<Received>,
    next: u64,
}

impl Journal {
    /// Adds a request and returns its place.
    pub fn add(&mut self, mut seen: Seen) -> u64 {
        seen.id = self.next;
        self.next += 1;
        push(&mut self.seen, seen);
        self.next - 1
    }

    pub fn respond(&mut self, response: Received) {
        push(&mut self.received, response);
    }

    /// Changes a request, where it is still kept.
    pub fn change(&mut self, id: u64, change: impl FnOnce(&mut Seen)) {
        let first = self.seen.front().map_or(0, |seen| seen.id);
        let place = id.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let Some(seen) = place.and_then(|place| self.seen.get_mut(place)) {
            change(seen);
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.iter().cloned().collect()
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.iter().cloned().collect()
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MAX_KEPT {
        queue.pop_front();
    }
    queue.push_back(item);
}
