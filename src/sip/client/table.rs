//! The open transactions, and one queue with the next timer of each.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::time::{DelayQueue, delay_queue::Key};

use super::{error::ClientError, stream::Connection};
use crate::{
    environment,
    sip::{
        message::Response,
        transaction::{ClientTransaction, OnResponse, OnTimer, Timers},
        via::MAGIC_COOKIE,
    },
};

/// Names a transaction. The number finds it; the random part makes sure that nobody guesses a branch.
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
}

/// How a request travels.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Datagram(SocketAddr),
    Stream(Arc<Connection>),
}

/// What a timer brought about.
#[derive(Debug)]
pub(super) enum Due {
    /// Send these bytes again.
    Retransmit(Bytes, SocketAddr),
    /// A transaction on that connection, started then, got no answer.
    Silent(Arc<Connection>, Instant),
}

type Answer = oneshot::Sender<Result<Response, ClientError>>;

struct Entry {
    random: u64,
    method: Box<str>,
    machine: ClientTransaction,
    way: Way,
    bytes: Bytes,
    answer: Answer,
    timer: Key,
}

#[derive(Default)]
struct State {
    entries: HashMap<u64, Entry>,
    timers: DelayQueue<u64>,
    last: u64,
}

impl State {
    fn take(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.timers.try_remove(&entry.timer);
        Some(entry)
    }
}

/// All open transactions of one client. Each call takes the lock for a moment only, never across a wait.
pub(super) struct Table {
    timers: Timers,
    state: Mutex<State>,
}

impl Table {
    pub(super) fn new(timers: Timers) -> Self {
        Self { timers, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// A branch that no other request has.
    pub(super) fn branch(&self) -> Branch {
        let random = environment::random();
        let mut state = self.lock();
        state.last += 1;
        Branch { number: state.last, random }
    }

    /// Opens a transaction, just before its request is sent. It is forgotten when the ticket is dropped.
    pub(super) fn open(&self, branch: Branch, method: &str, way: Way, bytes: Bytes) -> Ticket<'_> {
        let (answer, answered) = oneshot::channel();
        let now = Instant::now();
        let reliable = matches!(way, Way::Stream(_));
        let machine = ClientTransaction::start(self.timers, reliable, now);
        let mut state = self.lock();
        let timer = state.timers.insert_at(branch.number, machine.deadline().unwrap_or(now));
        let entry =
            Entry { random: branch.random, method: method.into(), machine, way, bytes, answer, timer };
        state.entries.insert(branch.number, entry);
        drop(state);
        Ticket { table: self, number: branch.number, answered }
    }

    /// Hands a response to the transaction that it belongs to (RFC 3261 §17.1.3). One that belongs to none (late, sent
    /// twice, made up) is dropped: a transaction is forgotten with its final response, which spares keeping it for
    /// Timer K and shows the same to the user.
    pub(super) fn on_response(&self, response: Response) {
        let branch = response.headers.via_branch().as_deref().and_then(Branch::parse);
        let (Some(branch), Some((_, method))) = (branch, response.headers.cseq()) else { return };
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&branch.number) else { return };
        if entry.random != branch.random || *entry.method != *method {
            return;
        }
        if entry.machine.on_response(response.code, Instant::now()) == OnResponse::Final
            && let Some(entry) = state.take(branch.number)
        {
            drop(state);
            // Nobody waits any more: fine.
            let _ = entry.answer.send(Ok(response));
        }
    }

    /// Fails all transactions of a connection.
    pub(super) fn fail_connection(&self, connection: &Connection, error: &ClientError) {
        let mut state = self.lock();
        let on_it = |entry: &Entry| matches!(&entry.way, Way::Stream(c) if c.id() == connection.id());
        let numbers: Vec<u64> = state.entries.iter().filter(|(_, e)| on_it(e)).map(|(n, _)| *n).collect();
        let failed: Vec<Entry> = numbers.into_iter().filter_map(|number| state.take(number)).collect();
        drop(state);
        for entry in failed {
            let _ = entry.answer.send(Err(error.clone()));
        }
    }

    /// Waits for the next timer and says what it calls for, if that is more than an answer to the user.
    pub(super) fn poll_due(&self, context: &mut Context<'_>) -> Poll<Option<Due>> {
        let mut state = self.lock();
        // An empty queue keeps the waker too, and wakes with the next transaction.
        let Poll::Ready(Some(expired)) = state.timers.poll_expired(context) else { return Poll::Pending };
        let number = expired.into_inner();
        let Some(entry) = state.entries.get_mut(&number) else { return Poll::Ready(None) };
        let now = Instant::now();
        let due = entry.machine.on_timer(now);
        if let Some(deadline) = entry.machine.deadline() {
            let resend = (due == OnTimer::Retransmit).then(|| (entry.bytes.clone(), entry.way.clone()));
            let timer = state.timers.insert_at(number, deadline);
            if let Some(entry) = state.entries.get_mut(&number) {
                entry.timer = timer;
            }
            return Poll::Ready(match resend {
                Some((bytes, Way::Datagram(to))) => Some(Due::Retransmit(bytes, to)),
                _ => None,
            });
        }
        // Its timer has fired: there is nothing left of it in the queue.
        let entry = state.entries.remove(&number);
        drop(state);
        let Some(entry) = entry else { return Poll::Ready(None) };
        let _ = entry.answer.send(Err(ClientError::Timeout));
        Poll::Ready(match entry.way {
            Way::Stream(connection) => Some(Due::Silent(connection, entry.machine.started())),
            Way::Datagram(_) => None,
        })
    }

    fn forget(&self, number: u64) {
        // What is left of it is dropped after the lock is given back: it may be the last hold on a connection.
        let entry = self.lock().take(number);
        drop(entry);
    }
}

/// The right to wait for one transaction's outcome.
pub(super) struct Ticket<'a> {
    table: &'a Table,
    number: u64,
    answered: oneshot::Receiver<Result<Response, ClientError>>,
}

impl Ticket<'_> {
    /// Waits for the final response. It always ends, by Timer F at the latest.
    pub(super) async fn outcome(&mut self) -> Result<Response, ClientError> {
        (&mut self.answered)
            .await
            .unwrap_or_else(|_| Err(ClientError::transport("the SIP client has stopped")))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.table.forget(self.number);
    }
}
