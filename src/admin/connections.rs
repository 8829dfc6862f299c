//! The connections of one port: how many there are, what each does, and which one has to go for another.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::AbortHandle,
    time::Instant,
};

/// Connections served at one time on one port. One more ends another one: a response takes milliseconds, so
/// anyone who is there for longer has been served, or says nothing; and a probe must not wait behind those.
pub(super) const MAX_CONNECTIONS: usize = 128;

/// Bytes of responses that are not taken yet, on one port. One more ends a connection that leaves some.
const MAX_UNTAKEN_BYTES: u64 = 32 << 20;

/// Time that a client may take nothing of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Activity of a connection.
#[derive(Debug)]
pub(super) struct Activity {
    from: IpAddr,
    opened: Instant,
    /// A request is there, and its response is not.
    serving: AtomicBool,
    /// Bytes of its last response, until the next request.
    untaken: AtomicU64,
    /// Milliseconds after `opened`, and one, since when nothing could be written; 0: it could.
    stalled_ms: AtomicU64,
}

/// All connections of a port. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Vec<Open>>>);

#[derive(Debug)]
struct Open {
    activity: Arc<Activity>,
    task: AbortHandle,
}

impl Activity {
    /// A connection that has just been made.
    pub(super) fn new(from: IpAddr) -> Arc<Self> {
        Arc::new(Self {
            from: from.to_canonical(),
            opened: Instant::now(),
            serving: AtomicBool::new(false),
            untaken: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(0),
        })
    }

    /// A request came.
    pub(super) fn begin(&self) {
        self.untaken.store(0, Ordering::Relaxed);
        self.serving.store(true, Ordering::Relaxed);
    }

    /// Its response is there, of so many bytes, and is to be taken.
    pub(super) fn respond(&self, bytes: u64) {
        self.untaken.store(bytes, Ordering::Relaxed);
        self.serving.store(false, Ordering::Relaxed);
    }

    fn wrote(&self, pending: bool) {
        if !pending {
            self.stalled_ms.store(0, Ordering::Relaxed);
        } else if self.stalled_ms.load(Ordering::Relaxed) == 0 {
            self.stalled_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn is_stalled(&self) -> bool {
        let since = self.stalled_ms.load(Ordering::Relaxed);
        since != 0 && Duration::from_millis(self.now_ms().saturating_sub(since)) >= WRITE_TIMEOUT
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one that `task` serves.
    pub(super) fn add(&self, activity: Arc<Activity>, task: AbortHandle) {
        self.lock().push(Open { activity, task });
    }

    /// Ends one where there is no room for another.
    pub(super) fn make_room(&self) {
        let mut open = self.lock();
        if open.len() >= MAX_CONNECTIONS {
            open.retain(|one| !one.task.is_finished());
        }
        let full = open.len() >= MAX_CONNECTIONS;
        drop(open);
        if full && self.evict(|_| true) {
            tracing::debug!("too many HTTP connections: closing one");
        }
    }

    /// Ends the connection that is missed least. `false`: there is none.
    pub(super) fn end_one(&self) -> bool {
        self.lock().retain(|one| !one.task.is_finished());
        self.evict(|_| true)
    }

    /// Ends connections that leave responses while too much is not taken, but not `own`.
    pub(super) fn bound_untaken(&self, own: &Arc<Activity>) {
        loop {
            let mut open = self.lock();
            open.retain(|one| !one.task.is_finished());
            let untaken: u64 = open.iter().map(|one| one.activity.untaken.load(Ordering::Relaxed)).sum();
            drop(open);
            let leaves = |activity: &Arc<Activity>| {
                !Arc::ptr_eq(activity, own) && activity.untaken.load(Ordering::Relaxed) > 0
            };
            if untaken <= MAX_UNTAKEN_BYTES || !self.evict(leaves) {
                return;
            }
        }
    }

    /// Ends those whose clients have taken nothing for too long.
    pub(super) fn sweep(&self) {
        self.lock().retain(|one| {
            let stalled = one.activity.is_stalled();
            if stalled {
                tracing::debug!(from = %one.activity.from, "closing an HTTP connection: it does not take the response");
                one.task.abort();
            }
            !stalled && !one.task.is_finished()
        });
    }

    /// Ends one of those that `may` go: of the host that has most of them, without a request that is worked
    /// on if there is one, the oldest.
    fn evict(&self, may: impl Fn(&Arc<Activity>) -> bool) -> bool {
        let mut open = self.lock();
        let mut of_host: HashMap<IpAddr, usize> = HashMap::new();
        for one in open.iter() {
            *of_host.entry(one.activity.from).or_default() += 1;
        }
        let rank = |(_, one): &(usize, &Open)| {
            let Activity { from, opened, serving, .. } = &*one.activity;
            let host = of_host.get(from).copied().unwrap_or_default();
            (host, !serving.load(Ordering::Relaxed), std::cmp::Reverse(*opened))
        };
        let may = open.iter().enumerate().filter(|(_, one)| may(&one.activity));
        let Some((index, _)) = may.max_by_key(rank) else { return false };
        open.swap_remove(index).task.abort();
        true
    }
}

/// The bytes of a connection: notes when nothing can be written.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) stream: TcpStream,
    pub(super) activity: Arc<Activity>,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.activity.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &Connections, host: u8) -> (Arc<Activity>, AbortHandle) {
        let activity = Activity::new([192, 0, 2, host].into());
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        connections.add(activity.clone(), task.clone());
        (activity, task)
    }

    async fn ended(task: &AbortHandle) -> bool {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        task.is_finished()
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_one_host_goes_first_and_a_request_that_is_worked_on_last() {
        let all = Connections::default();
        let honest = open(&all, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        let [served, idle] = [open(&all, 2), open(&all, 2)];
        served.0.begin();
        assert!(all.end_one());
        assert!(ended(&idle.1).await && !ended(&served.1).await && !ended(&honest.1).await);
        assert!(all.end_one());
        assert!(ended(&honest.1).await, "each host has one: the one that does nothing");
        assert!(all.end_one() && !all.end_one());
    }

    #[tokio::test(start_paused = true)]
    async fn responses_that_are_not_taken_have_a_bound_in_bytes_and_in_time() {
        let all = Connections::default();
        let [large, small, own] = [open(&all, 1), open(&all, 1), open(&all, 2)];
        large.0.respond(MAX_UNTAKEN_BYTES - 100);
        small.0.respond(60);
        own.0.respond(40);
        all.bound_untaken(&own.0);
        assert!(!ended(&large.1).await);
        own.0.respond(MAX_UNTAKEN_BYTES);
        all.bound_untaken(&own.0);
        assert!(ended(&large.1).await && ended(&small.1).await && !ended(&own.1).await);
        own.0.wrote(true);
        tokio::time::advance(WRITE_TIMEOUT / 2).await;
        own.0.wrote(false);
        own.0.wrote(true);
        tokio::time::advance(WRITE_TIMEOUT / 2).await;
        own.0.wrote(true);
        all.sweep();
        assert!(!ended(&own.1).await);
        tokio::time::advance(WRITE_TIMEOUT / 2).await;
        all.sweep();
        assert!(ended(&own.1).await);
    }
}
