//! The connections of callers: how many there are, what each does, and which one has to go for another.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AccessOptions;

/// Bytes of the preface that HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// Time that a response may wait to be taken while none on its connection is.
const MAX_UNREAD: Duration = Duration::from_secs(30);

/// One connection of a caller.
#[derive(Debug)]
pub struct Usage {
    id: u64,
    from: IpAddr,
    opened: Instant,
    /// A call was let in, or its client certificate.
    known: AtomicBool,
    /// Bytes that came, up to those of the preface.
    bytes: AtomicUsize,
    /// Calls under way, those whose message is still to come and responses that are not taken yet included.
    calls: AtomicUsize,
    /// Those of them that the Requester works on.
    working: AtomicUsize,
    /// Since when each response is there that is not taken yet, in order.
    untaken: Mutex<BTreeMap<u64, Instant>>,
    /// Milliseconds after `opened` at which a call began or ended last.
    active_ms: AtomicU64,
    /// Cancelled, it ends.
    close: CancellationToken,
    all: Weak<Connections>,
}

/// A call under way, for as long as it lives.
#[derive(Debug)]
pub(super) struct Call {
    usage: Arc<Usage>,
    stage: Stage,
}

/// Progress of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its message is to come.
    Receiving,
    /// The Requester works on it.
    Working,
    /// The response with this number is to be taken.
    Responded(u64),
}

impl Usage {
    /// Returns where it comes from.
    pub(super) fn from(&self) -> IpAddr {
        self.from
    }

    /// Cancelled, the connection has to end.
    pub(super) fn close(&self) -> &CancellationToken {
        &self.close
    }

    /// The caller has shown who it is.
    pub(super) fn is_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Counts bytes that came.
    pub(super) fn read(&self, bytes: usize) {
        if self.bytes.load(Ordering::Relaxed) < PREFACE_BYTES {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn begin(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Call { usage: self.clone(), stage: Stage::Receiving }
    }

    fn touch(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(now, Ordering::Relaxed);
    }

    fn quiet_for(&self) -> Duration {
        let active = self.opened + Duration::from_millis(self.active_ms.load(Ordering::Relaxed));
        active.elapsed()
    }

    fn is_idle(&self) -> bool {
        self.calls.load(Ordering::Relaxed) == 0
    }

    /// Returns whether it may go for another one: what it waits for, if anything, is its own caller.
    fn waits(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0
    }

    fn untaken(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a response has not been taken for too long, whatever else is under way.
    fn leaves_responses(&self) -> bool {
        self.untaken().first_key_value().is_some_and(|(_, since)| since.elapsed() >= MAX_UNREAD)
    }

    /// Returns why it has to end by now.
    fn is_overdue(&self, access: &AccessOptions) -> Option<&'static str> {
        let said_nothing = self.bytes.load(Ordering::Relaxed) < PREFACE_BYTES;
        let limit = if self.known.load(Ordering::Relaxed) { access.idle } else { access.first_call };
        match self.is_idle() {
            true if said_nothing && self.opened.elapsed() >= access.patience => {
                Some("it does not begin as HTTP/2")
            }
            true if self.quiet_for() >= limit => Some("it is idle"),
            false if self.leaves_responses() => Some("it does not take the responses"),
            _ => None,
        }
    }
}

impl Call {
    /// Its message is there.
    pub(super) fn work(&mut self) {
        if self.stage == Stage::Receiving {
            self.usage.working.fetch_add(1, Ordering::Relaxed);
            self.stage = Stage::Working;
        }
    }

    /// There is a response, which the caller still has to take.
    pub(super) fn respond(&mut self) {
        self.leave();
        let mut untaken = self.usage.untaken();
        let number = untaken.last_key_value().map_or(0, |(last, _)| last + 1);
        untaken.insert(number, Instant::now());
        self.stage = Stage::Responded(number);
    }

    fn leave(&self) {
        match self.stage {
            Stage::Receiving => {}
            Stage::Working => _ = self.usage.working.fetch_sub(1, Ordering::Relaxed),
            Stage::Responded(number) => _ = self.usage.untaken().remove(&number),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.leave();
        self.usage.touch();
        self.usage.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        if let Some(all) = self.all.upgrade() {
            all.lock().open.remove(&self.id);
            all.alive.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// All connections of callers.
#[derive(Debug, Default)]
pub(super) struct Connections {
    table: Mutex<Table>,
    /// Those that are open, and those that have to end and have not yet.
    alive: AtomicUsize,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Weak<Usage>>,
    last: u64,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection from that host, in the place of another one where all are taken. `None`: none may
    /// go for it.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr, access: &AccessOptions) -> Option<Arc<Usage>> {
        let from = from.to_canonical();
        if self.lock().open.len() >= access.max_connections
            && !self.evict(Some(from), access)
            && !self.evict_of_crowd(from, access)
        {
            return None;
        }
        let mut table = self.lock();
        table.last += 1;
        let usage = Arc::new(Usage {
            id: table.last,
            from,
            opened: Instant::now(),
            known: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            working: AtomicUsize::new(0),
            untaken: Mutex::default(),
            active_ms: AtomicU64::new(0),
            close: CancellationToken::new(),
            all: Arc::downgrade(self),
        });
        table.open.insert(usage.id, Arc::downgrade(&usage));
        self.alive.fetch_add(1, Ordering::Relaxed);
        Some(usage)
    }

    /// Returns whether as many as there may be have to end and have not yet: each still has its descriptor.
    pub(super) fn are_ending(&self, access: &AccessOptions) -> bool {
        self.alive.load(Ordering::Relaxed) >= 2 * access.max_connections
    }

    /// Ends the connection that is missed least: one on whose calls the Requester does not work, of a caller
    /// who has not shown who it is where that is demanded, of the host that has most of them, the longest
    /// without a call that began or ended. For a newcomer, none goes of a host that has fewer than its own:
    /// one that keeps all of its connections busy would take those of the others. `false`: there is none.
    pub(super) fn evict(&self, newcomer: Option<IpAddr>, access: &AccessOptions) -> bool {
        let open = self.open();
        let of_host = by_host(&open);
        let has = |host: &IpAddr| of_host.get(host).copied().unwrap_or_default();
        let own = newcomer.map_or(0, |host| has(&host));
        let login = access.has_login();
        let rank = |usage: &&Arc<Usage>| {
            let unknown = login && !usage.known.load(Ordering::Relaxed);
            (unknown, has(&usage.from), usage.quiet_for())
        };
        let waiting = open.iter().filter(|usage| usage.waits() && !usage.close.is_cancelled());
        let Some(least) = waiting.filter(|usage| has(&usage.from) >= own).max_by_key(rank) else {
            return false;
        };
        tracing::debug!(from = %least.from, "too many gRPC connections: closing one that is not in use");
        self.end(least);
        true
    }

    /// Ends a connection, with its calls, of a host that has more than half of all, for one of another host.
    fn evict_of_crowd(&self, newcomer: IpAddr, access: &AccessOptions) -> bool {
        let open = self.open();
        let of_host = by_host(&open);
        let Some((host, _)) = of_host.iter().find(|(_, count)| **count > access.max_connections / 2) else {
            return false;
        };
        let of_crowd = open.iter().filter(|usage| usage.from == *host && !usage.close.is_cancelled());
        let oldest = of_crowd.max_by_key(|usage| usage.opened.elapsed()).filter(|_| *host != newcomer);
        let Some(oldest) = oldest else { return false };
        tracing::debug!(from = %oldest.from, "too many gRPC connections of one host: closing its oldest one");
        self.end(oldest);
        true
    }

    /// Ends what is overdue.
    pub(super) fn sweep(&self, access: &AccessOptions) {
        for usage in self.open() {
            if let Some(why) = usage.is_overdue(access) {
                tracing::debug!(from = %usage.from, "closing a gRPC connection: {why}");
                self.end(&usage);
            }
        }
    }

    fn end(&self, usage: &Arc<Usage>) {
        usage.close.cancel();
        self.lock().open.remove(&usage.id);
    }

    /// Those that are open. The table is not locked any more: the last reference to one takes it out.
    fn open(&self) -> Vec<Arc<Usage>> {
        self.lock().open.values().filter_map(Weak::upgrade).collect()
    }
}

/// Number of connections of each host.
fn by_host(open: &[Arc<Usage>]) -> HashMap<IpAddr, usize> {
    let mut of_host = HashMap::new();
    for usage in open {
        *of_host.entry(usage.from).or_default() += 1;
    }
    of_host
}

#[cfg(test)]
mod tests;
