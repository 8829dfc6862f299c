//! The open client transactions (RFC 3261 §17.1.2), and one queue with the next timer of each.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::time::{DelayQueue, delay_queue::Key};

use super::{
    connection::Connection,
    error::ClientError,
    origin::{Dropped, ResponseOrigin},
};
use crate::{
    message::Response,
    transaction::{ClientTransaction, OnResponse, OnTimer, Timers},
    uri::ParseError,
    via::{MAGIC_COOKIE, Via},
};
use routr_types::host::Transport;

/// Names a transaction. The number finds it; the random part makes sure that a branch cannot be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    number: u64,
    random: u64,
}

impl Branch {
    pub(super) fn text(self) -> String {
        format!("{MAGIC_COOKIE}{:016x}{:x}", self.random, self.number)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (random, number) = text.strip_prefix(MAGIC_COOKIE)?.split_at_checked(16)?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { number: hex(number)?, random: hex(random)? })
    }

    /// All branches that stand anywhere in bytes that are not a message.
    fn find_all(bytes: &[u8]) -> Vec<Self> {
        let cookie = MAGIC_COOKIE.as_bytes();
        let starts = bytes.windows(cookie.len()).enumerate().filter(|(_, w)| *w == cookie);
        let one = |(at, _): (usize, &[u8])| {
            let rest = &bytes[at..];
            let end = rest.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
            std::str::from_utf8(&rest[..end]).ok().and_then(Self::parse)
        };
        starts.filter_map(one).collect()
    }
}

/// Path of a request.
#[derive(Clone, Debug)]
pub(super) enum Flow {
    Datagram(Datagram),
    Stream(Arc<Connection>),
}

/// Path of a request over UDP.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) address: SocketAddr,
    /// The sent-by of our Via.
    pub(super) local: SocketAddr,
    /// All addresses of the registrar.
    pub(super) registrar: Arc<[SocketAddr]>,
}

/// Action that a timer asks for.
#[derive(Debug)]
pub(super) enum Due {
    /// Send these bytes again.
    Retransmit(Bytes, SocketAddr),
    /// A transaction on that connection got no final response.
    TimedOut(Arc<Connection>),
}

/// Reason that a transaction ended without a final response.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The request was not written, not even in part: it may be sent again as it is.
    Unsent,
    /// It may have been processed.
    Failed(ClientError),
}

type Outcome = Result<Response, Failure>;

struct Entry {
    random: u64,
    method: Box<str>,
    machine: ClientTransaction,
    flow: Flow,
    /// Bytes to retransmit; empty on a stream.
    bytes: Bytes,
    /// `None` once the user of the transaction has gone away: what remains watches over the connection.
    outcome: Option<oneshot::Sender<Outcome>>,
    /// The code of the last provisional response.
    provisional: Option<u16>,
    /// Problem with a response that could not be read.
    unreadable: Option<ParseError>,
    timer: Key,
}

impl Entry {
    /// Returns why there is no final response when Timer F fires.
    fn timeout(&self) -> ClientError {
        let garbled = match &self.flow {
            Flow::Stream(connection) => connection.garbled(),
            Flow::Datagram(_) => None,
        };
        match (self.unreadable.as_ref().or(garbled), self.provisional) {
            (Some(error), _) => ClientError::Unreadable(error.to_string().into()),
            (None, Some(code)) => ClientError::OnlyProvisional(code),
            (None, None) => ClientError::Timeout,
        }
    }

    fn end(self, outcome: Outcome) {
        if let Some(sender) = self.outcome {
            // The user may have gone away a moment ago.
            let _ = sender.send(outcome);
        }
    }
}

#[derive(Default)]
struct State {
    entries: HashMap<u64, Entry>,
    timers: DelayQueue<u64>,
    last: u64,
    /// Number of entries that have no user any more.
    abandoned: usize,
}

impl State {
    fn take(&mut self, number: u64) -> Option<Entry> {
        let entry = self.remove(number)?;
        self.timers.try_remove(&entry.timer);
        Some(entry)
    }

    /// Removes an entry as [`State::take`] does, but one whose timer has fired.
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        if entry.outcome.is_none() {
            self.abandoned -= 1;
        }
        Some(entry)
    }

    fn get_mut(&mut self, branch: Branch) -> Option<&mut Entry> {
        self.entries.get_mut(&branch.number).filter(|entry| entry.random == branch.random)
    }
}

/// All open transactions of one client. Each call takes the lock for a moment only, never across a wait.
pub(super) struct TransactionLayer {
    timers: Timers,
    origin: ResponseOrigin,
    dropped: Dropped,
    state: Mutex<State>,
}

impl TransactionLayer {
    pub(super) fn new(timers: Timers, origin: ResponseOrigin) -> Self {
        Self { timers, origin, dropped: Dropped::default(), state: Mutex::default() }
    }

    /// Returns how many responses over UDP were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many have a user who waits.
    pub(super) fn len(&self) -> usize {
        let state = self.lock();
        state.entries.len() - state.abandoned
    }

    /// A branch that no other request has.
    pub(super) fn branch(&self) -> Branch {
        let random = routr_environment::random();
        let mut state = self.lock();
        state.last += 1;
        Branch { number: state.last, random }
    }

    /// Opens a transaction, just before its request is sent.
    pub(super) fn open(&self, branch: Branch, method: &str, flow: Flow, bytes: Bytes) -> PendingResponse<'_> {
        let (sender, outcome) = oneshot::channel();
        let now = Instant::now();
        let reliable = matches!(flow, Flow::Stream(_));
        let machine = ClientTransaction::start(self.timers, reliable, now);
        let mut state = self.lock();
        let timer = state.timers.insert_at(branch.number, machine.deadline().unwrap_or(now));
        let entry = Entry {
            random: branch.random,
            method: method.into(),
            machine,
            flow,
            bytes: if reliable { Bytes::new() } else { bytes },
            outcome: Some(sender),
            provisional: None,
            unreadable: None,
            timer,
        };
        state.entries.insert(branch.number, entry);
        drop(state);
        PendingResponse { layer: self, number: branch.number, outcome, watch: false }
    }

    /// Hands a response that came over UDP to the transaction that it belongs to, where it comes from the
    /// registrar and its topmost Via is ours (RFC 3261 §18.1.2). Anyone who has seen a request can make up
    /// the rest.
    pub(super) fn on_datagram(&self, response: Response, from: SocketAddr) -> bool {
        let Some(branch) = response.headers.via_branch().as_deref().and_then(Branch::parse) else {
            return false;
        };
        let refused = self.lock().get_mut(branch).and_then(|entry| {
            let Flow::Datagram(sent) = &entry.flow else {
                return Some((Arc::default(), "to a request over another transport"));
            };
            if !self.origin.allows(from, &sent.registrar) {
                return Some((sent.registrar.clone(), "which does not come from where the request went"));
            }
            let ours = response.headers.via_sent_by().is_none_or(|via| is_ours(&via, sent.local));
            (!ours).then(|| (sent.registrar.clone(), "whose Via names another sender"))
        });
        if let Some((expected, why)) = refused {
            self.dropped.note(from, &expected, why);
            return false;
        }
        self.on_response(response)
    }

    /// Hands a response to the transaction that it belongs to (RFC 3261 §17.1.3), whatever it came over, and
    /// returns whether there is one. A response that belongs to none (late, sent twice, made up) is dropped:
    /// a transaction is forgotten with its final response, which spares keeping it for Timer K and shows the
    /// same to the user.
    pub(super) fn on_response(&self, response: Response) -> bool {
        let branch = response.headers.via_branch().as_deref().and_then(Branch::parse);
        let Some(branch) = branch else { return false };
        // Each request has a branch of its own: a CSeq that is missing or odd loses no response.
        let of = |entry: &&mut Entry| {
            response.headers.cseq().is_none_or(|(_, method)| method.eq_ignore_ascii_case(&entry.method))
        };
        let mut state = self.lock();
        let Some(entry) = state.get_mut(branch).filter(of) else { return false };
        match entry.machine.on_response(response.code, Instant::now()) {
            OnResponse::Final => {
                let entry = state.take(branch.number);
                drop(state);
                if let Some(entry) = entry {
                    entry.end(Ok(response));
                }
            }
            OnResponse::Provisional => entry.provisional = Some(response.code),
            OnResponse::Absorb => {}
        }
        true
    }

    /// Notes, for the transactions named in bytes that are no message, that a response came and could not be
    /// read. They go on: a better one may follow. Returns whether there is such a transaction.
    pub(super) fn on_unreadable(&self, bytes: &[u8], error: &ParseError, from: Option<SocketAddr>) -> bool {
        let branches = Branch::find_all(bytes);
        let (mut state, mut named) = (self.lock(), false);
        for branch in branches {
            let trusted = |entry: &&mut Entry| match (&entry.flow, from) {
                (Flow::Datagram(sent), Some(from)) => self.origin.allows(from, &sent.registrar),
                (Flow::Stream(_), None) => true,
                _ => false,
            };
            if let Some(entry) = state.get_mut(branch).filter(trusted) {
                entry.unreadable = Some(error.clone());
                named = true;
            }
        }
        named
    }

    /// Ends the transactions whose request, of which these bytes are the beginning, could not be delivered to
    /// an address, where the registrar has others. A registrar with one address may be starting: it is sent
    /// the request again. Anyone may make up an ICMP error, but not the branch in it.
    pub(super) fn on_unreachable(&self, bytes: &[u8], address: SocketAddr) {
        let mut state = self.lock();
        let sent_there = |entry: &&mut Entry| {
            matches!(&entry.flow, Flow::Datagram(sent) if sent.registrar.len() > 1
                && sent.address.ip().to_canonical() == address.ip()
                && sent.address.port() == address.port())
        };
        let branches = Branch::find_all(bytes);
        let named: Vec<u64> = branches
            .into_iter()
            .filter(|branch| state.get_mut(*branch).filter(sent_there).is_some())
            .map(|branch| branch.number)
            .collect();
        let ended: Vec<Entry> = named.into_iter().filter_map(|number| state.take(number)).collect();
        drop(state);
        for entry in ended {
            let text = format!("nothing takes it there (ICMP), at {address}");
            entry.end(Err(Failure::Failed(ClientError::transport(text))));
        }
    }

    /// Ends the transactions named in bytes after which a stream cannot be taken apart any more: one of them
    /// was answered so, and would be again.
    pub(super) fn on_broken(&self, bytes: &[u8], error: &ParseError) {
        let branches = Branch::find_all(bytes);
        let mut state = self.lock();
        let named: Vec<u64> =
            branches.into_iter().filter(|b| state.get_mut(*b).is_some()).map(|b| b.number).collect();
        let ended: Vec<Entry> = named.into_iter().filter_map(|number| state.take(number)).collect();
        drop(state);
        for entry in ended {
            entry.end(Err(Failure::Failed(ClientError::Unreadable(error.to_string().into()))));
        }
    }

    /// Ends transactions whose requests were not written.
    pub(super) fn on_unsent(&self, numbers: &[u64]) {
        let mut state = self.lock();
        let unsent: Vec<Entry> = numbers.iter().filter_map(|number| state.take(*number)).collect();
        drop(state);
        for entry in unsent {
            entry.end(Err(Failure::Unsent));
        }
    }

    /// Fails all transactions of a connection.
    pub(super) fn fail_connection(&self, connection: &Connection, error: &ClientError) {
        let mut state = self.lock();
        let on_it = |entry: &Entry| matches!(&entry.flow, Flow::Stream(c) if c.id() == connection.id());
        let numbers: Vec<u64> = state.entries.iter().filter(|(_, e)| on_it(e)).map(|(n, _)| *n).collect();
        let failed: Vec<Entry> = numbers.into_iter().filter_map(|number| state.take(number)).collect();
        drop(state);
        for entry in failed {
            entry.end(Err(Failure::Failed(error.clone())));
        }
    }

    /// Waits for the next timer and returns what it calls for, if that is more than an outcome for the user.
    pub(super) fn poll_due(&self, context: &mut Context<'_>) -> Poll<Option<Due>> {
        let mut state = self.lock();
        // An empty queue keeps the waker too, and wakes with the next transaction.
        let Poll::Ready(Some(expired)) = state.timers.poll_expired(context) else { return Poll::Pending };
        let number = expired.into_inner();
        let Some(entry) = state.entries.get_mut(&number) else { return Poll::Ready(None) };
        let due = entry.machine.on_timer(Instant::now());
        if let Some(deadline) = entry.machine.deadline() {
            let resend = (due == OnTimer::Retransmit).then(|| (entry.bytes.clone(), entry.flow.clone()));
            let timer = state.timers.insert_at(number, deadline);
            if let Some(entry) = state.entries.get_mut(&number) {
                entry.timer = timer;
            }
            return Poll::Ready(match resend {
                Some((bytes, Flow::Datagram(sent))) => Some(Due::Retransmit(bytes, sent.address)),
                _ => None,
            });
        }
        let entry = state.remove(number);
        drop(state);
        let Some(entry) = entry else { return Poll::Ready(None) };
        let due = match &entry.flow {
            Flow::Stream(connection) => Some(Due::TimedOut(connection.clone())),
            Flow::Datagram(_) => None,
        };
        let timeout = entry.timeout();
        entry.end(Err(Failure::Failed(timeout)));
        Poll::Ready(due)
    }

    /// The user has gone away. With `watch` the transaction goes on without a user until its response or
    /// Timer F: an outer deadline that is shorter must not hide that a connection is dead.
    fn abandon(&self, number: u64, watch: bool) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&number) else { return };
        let on_open_connection = matches!(&entry.flow, Flow::Stream(connection) if connection.is_usable());
        let dropped = if watch && on_open_connection {
            entry.outcome = None;
            state.abandoned += 1;
            None
        } else {
            state.take(number)
        };
        drop(state);
        // After the lock is given back: it may hold the last reference to a connection.
        drop(dropped);
    }
}

/// Returns whether a sent-by names the address that a request was sent from, its port by default 5060.
fn is_ours(via: &Via, local: SocketAddr) -> bool {
    let address = via.host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let port = via.port.unwrap_or(Transport::Udp.default_port());
    address == Some(local.ip().to_canonical()) && port == local.port()
}

/// The right to wait for one transaction's outcome.
pub(super) struct PendingResponse<'a> {
    layer: &'a TransactionLayer,
    number: u64,
    outcome: oneshot::Receiver<Outcome>,
    watch: bool,
}

impl PendingResponse<'_> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The request is under way over a connection: whatever becomes of the user, silence speaks against that.
    pub(super) fn keep_watch(&mut self) {
        self.watch = true;
    }

    /// Waits for the final response. It always ends, by Timer F at the latest.
    pub(super) async fn outcome(&mut self) -> Outcome {
        let stopped = || Err(Failure::Failed(ClientError::stopped()));
        (&mut self.outcome).await.unwrap_or_else(|_| stopped())
    }
}

impl Drop for PendingResponse<'_> {
    fn drop(&mut self) {
        self.layer.abandon(self.number, self.watch);
    }
}
