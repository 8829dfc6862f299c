//! The connections of callers: how many there are, what each does, and which one has to go for another.

use std::{
    collections::HashMap,
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
    /// Calls under way, responses that are not taken yet included.
    calls: AtomicUsize,
    /// Responses that are not taken yet.
    untaken: AtomicUsize,
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
    responded: bool,
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
        Call { usage: self.clone(), responded: false }
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

    /// Returns why it has to end by now.
    fn is_overdue(&self, access: &AccessOptions) -> Option<&'static str> {
        let said_nothing = self.bytes.load(Ordering::Relaxed) < PREFACE_BYTES;
        let limit = if self.known.load(Ordering::Relaxed) { access.idle } else { access.first_call };
        match self.is_idle() {
            true if said_nothing && self.opened.elapsed() >= access.patience => {
                Some("it does not begin as HTTP/2")
            }
            true if self.quiet_for() >= limit => Some("it is idle"),
            false if self.untaken.load(Ordering::Relaxed) > 0 && self.quiet_for() >= MAX_UNREAD => {
                Some("it does not take the responses")
            }
            _ => None,
        }
    }
}

impl Call {
    /// There is a response, which the caller still has to take.
    pub(super) fn respond(&mut self) {
        self.responded = true;
        if self.usage.untaken.fetch_add(1, Ordering::Relaxed) == 0 {
            self.usage.touch();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.responded {
            self.usage.untaken.fetch_sub(1, Ordering::Relaxed);
        }
        self.usage.touch();
        self.usage.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        if let Some(all) = self.all.upgrade() {
            all.lock().open.remove(&self.id);
        }
    }
}

/// All connections of callers.
#[derive(Debug, Default)]
pub(super) struct Connections {
    table: Mutex<Table>,
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

    /// Takes a connection from that host, in the place of one that does nothing where all are taken. `None`:
    /// each has calls under way.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr, access: &AccessOptions) -> Option<Arc<Usage>> {
        let from = from.to_canonical();
        if self.lock().open.len() >= access.max_connections && !self.evict() {
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
            untaken: AtomicUsize::new(0),
            active_ms: AtomicU64::new(0),
            close: CancellationToken::new(),
            all: Arc::downgrade(self),
        });
        table.open.insert(usage.id, Arc::downgrade(&usage));
        Some(usage)
    }

    /// Ends the connection that is missed least: one without a call under way, of a caller who has shown
    /// nothing, of the host that has most of them, the longest without a call. `false`: there is none.
    pub(super) fn evict(&self) -> bool {
        let open = self.open();
        let mut of_host: HashMap<IpAddr, usize> = HashMap::new();
        for usage in &open {
            *of_host.entry(usage.from).or_default() += 1;
        }
        let rank = |usage: &&Arc<Usage>| {
            let known = usage.known.load(Ordering::Relaxed);
            (!known, of_host.get(&usage.from).copied().unwrap_or_default(), usage.quiet_for())
        };
        let idle = open.iter().filter(|usage| usage.is_idle() && !usage.close.is_cancelled());
        let Some(least) = idle.max_by_key(rank) else { return false };
        tracing::debug!(from = %least.from, "too many gRPC connections: closing an idle one");
        self.end(least);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_place_of_the_one_that_is_missed_least() {
        let (all, access) = (
            Arc::new(Connections::default()),
            AccessOptions { max_connections: 4, ..AccessOptions::default() },
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
        let _call = busy.begin();
        // The host with most of them, the oldest first; one with a call stays.
        let next = admit(3).await.unwrap();
        assert!(many.close.is_cancelled() && !more.close.is_cancelled());
        let after = admit(3).await.unwrap();
        assert!(more.close.is_cancelled());
        let _calls = [next.begin(), after.begin()];
        // Only now the one who showed who it is.
        let last = admit(4).await.unwrap();
        assert!(known.close.is_cancelled());
        let _last = last.begin();
        assert!(admit(5).await.is_none(), "each has a call under way");
        drop((many, more, known));
        assert_eq!(all.open().len(), 4);
        drop((_last, last));
        assert!(admit(5).await.is_some());
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
