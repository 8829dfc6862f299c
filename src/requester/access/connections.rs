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
mod tests {
    use super::*;

    fn host(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn working(usage: &Arc<Usage>) -> Call {
        let mut call = usage.begin();
        call.work();
        call
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_place_of_the_one_that_is_missed_least() {
        let (all, access) = (
            Arc::new(Connections::default()),
            AccessOptions {
                max_connections: 4,
                token: Some(Arc::new(super::super::Token::given("x".repeat(32)))),
                ..AccessOptions::default()
            },
        );
        let admit = |from: u8| {
            let all = all.clone();
            let access = access.clone();
            async move {
                tokio::time::advance(Duration::from_millis(10)).await;
                all.admit(host(from), &access)
            }
        };
        let (known, many, more) = (admit(1).await.unwrap(), admit(2).await.unwrap(), admit(2).await.unwrap());
        let busy = admit(2).await.unwrap();
        known.is_known();
        let _call = working(&busy);
        // The host with most of them, the oldest first; one with a call stays.
        let next = admit(3).await.unwrap();
        assert!(many.close.is_cancelled() && !more.close.is_cancelled());
        let after = admit(3).await.unwrap();
        assert!(more.close.is_cancelled());
        let _calls = [working(&next), working(&after)];
        // Only now the one who showed who it is.
        let last = admit(4).await.unwrap();
        assert!(known.close.is_cancelled());
        let _last = working(&last);
        assert!(admit(5).await.is_none(), "each has a call in progress");
        drop((many, more, known));
        assert_eq!(all.open().len(), 4);
        drop((_last, last));
        assert!(admit(5).await.is_some());
    }

    /// Attackers never run out of calls whose messages do not come, and of responses that they do not take.
    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_for_their_own_caller_keep_no_place_and_no_host_keeps_more_than_half() {
        let access = AccessOptions { max_connections: 4, ..AccessOptions::default() };
        let all = Arc::new(Connections::default());
        let crowd: Vec<_> = (0..4).map(|_| all.admit(host(1), &access).unwrap()).collect();
        let mut calls: Vec<_> = crowd.iter().map(Usage::begin).collect();
        calls[1].work();
        calls[1].respond();
        crowd.iter().for_each(|usage| usage.is_known());
        // One who has not called yet stays: where no one has to show anything, being known says nothing.
        let honest = all.admit(host(2), &access).unwrap();
        for _ in 0..3 {
            all.admit(host(1), &access).unwrap();
        }
        assert!(!honest.close.is_cancelled());
        drop((crowd, calls, honest));
        let busy: Vec<_> = (0..4).map(|_| all.admit(host(1), &access).unwrap()).collect();
        let _calls: Vec<_> = busy.iter().map(working).collect();
        assert!(all.admit(host(1), &access).is_none(), "of the same host");
        let other = all.admit(host(2), &access).unwrap();
        assert_eq!(busy.iter().filter(|usage| usage.close.is_cancelled()).count(), 1);
        assert!(
            all.admit(host(1), &access).is_none() && !other.close.is_cancelled(),
            "it has not called yet"
        );
        let _other = working(&other);
        let third = all.admit(host(2), &access).unwrap();
        let _third = working(&third);
        assert!(all.admit(host(2), &access).is_none(), "no host has more than half");
    }

    #[tokio::test(start_paused = true)]
    async fn what_says_nothing_or_takes_nothing_is_ended() {
        let (all, access) = (Arc::new(Connections::default()), AccessOptions::default());
        let admit = || all.admit(host(1), &access).unwrap();
        let [silent, unknown, known, busy, untaken] = [admit(), admit(), admit(), admit(), admit()];
        for usage in [&unknown, &known, &busy, &untaken] {
            usage.read(PREFACE_BYTES);
        }
        known.is_known();
        let _busy = busy.begin();
        let mut call = untaken.begin();
        call.respond();
        let mut ended = Vec::new();
        for (at, expected) in [(9, 0), (10, 1), (30, 2), (60, 3), (599, 3), (600, 4)] {
            tokio::time::advance(Duration::from_secs(at) - silent.opened.elapsed()).await;
            all.sweep(&access);
            let all = [&silent, &untaken, &unknown, &known, &busy];
            ended = all.map(|usage| usage.close.is_cancelled()).to_vec();
            assert_eq!(ended.iter().filter(|ended| **ended).count(), expected, "after {at} s: {ended:?}");
        }
        assert_eq!(ended, [true, true, true, true, false]);
    }
}
