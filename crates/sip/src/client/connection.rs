//! One open connection over TCP or TLS: what is known of it, and the task that reads and writes.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Destination,
    error::{ClientError, io_cause},
    incoming::Incoming,
    keep_alive,
    pool::Connections,
    transactions::TransactionLayer,
};
use crate::{
    message::{MAX_MESSAGE, Message, StreamParser},
    uri::ParseError,
};
use routr_net::tls::{Noticed, cause};

/// Messages that wait for their turn to be written to one connection; further senders wait.
pub(super) const MAX_QUEUED_MESSAGES: usize = 1024;

/// Time to read what the peer said before it closed, once writing has failed.
const FINAL_READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Time that a connection made for one address of its destination takes requests: enough to respond to a
/// challenge. Without that, each address that a name ever had could keep one.
const PINNED_TIMEOUT: Duration = Duration::from_secs(60);

/// The endpoint of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) destination: Destination,
    /// This address only, whatever others the name has.
    pub(super) pinned: Option<SocketAddr>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)
    }
}

/// A message to be written, and the transaction that it is the request of.
pub(super) struct Outgoing {
    pub(super) transaction: Option<u64>,
    pub(super) bytes: Bytes,
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    target: Target,
    local: SocketAddr,
    remote: SocketAddr,
    outgoing: mpsc::Sender<Outgoing>,
    /// Reason that it ended, once it has.
    end: OnceLock<ClientError>,
    /// Taken out of use: it lives on until what is open on it has had its time.
    draining: CancellationToken,
    opened: Instant,
    /// Milliseconds after `opened` at which a response to an open transaction came last; 0 for never.
    answered_ms: AtomicU64,
    /// Number of reads that brought bytes of any kind.
    reads: AtomicU64,
    /// Ends it at once.
    closing: CancellationToken,
    /// Requests that wait for their response.
    users: AtomicUsize,
    /// Milliseconds after `opened` at which a request began or ended last.
    used_ms: AtomicU64,
    /// Problem with the first message that could not be read and names no transaction.
    garbled: OnceLock<ParseError>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("transaction", &self.transaction).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(
        id: u64,
        target: Target,
        (local, remote): (SocketAddr, SocketAddr),
        outgoing: mpsc::Sender<Outgoing>,
    ) -> Self {
        Self {
            id,
            target,
            local,
            remote,
            outgoing,
            end: OnceLock::new(),
            draining: CancellationToken::new(),
            opened: Instant::now(),
            answered_ms: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            closing: CancellationToken::new(),
            users: AtomicUsize::new(0),
            used_ms: AtomicU64::new(0),
            garbled: OnceLock::new(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Returns whether requests may go over it: it is open, and not suspected to be dead.
    pub(super) fn is_usable(&self) -> bool {
        self.end.get().is_none() && !self.draining.is_cancelled() && !self.is_closing()
    }

    /// Returns why it ended, once it has.
    pub(super) fn end(&self) -> Option<&ClientError> {
        self.end.get()
    }

    /// Lets no further request go over it.
    pub(super) fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends it at once: nothing is open on it.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// It was ended.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// A request uses it, until what this returns is dropped.
    pub(super) fn start_use(self: &Arc<Self>) -> InUse {
        self.users.fetch_add(1, Ordering::Relaxed);
        self.touch();
        InUse(self.clone())
    }

    /// Returns whether a request uses it.
    pub(super) fn is_in_use(&self) -> bool {
        self.users.load(Ordering::Relaxed) > 0
    }

    /// Returns the time for which no request began or ended.
    pub(super) fn unused_for(&self) -> Duration {
        (self.opened + Duration::from_millis(self.used_ms.load(Ordering::Relaxed))).elapsed()
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(elapsed, Ordering::Relaxed);
    }

    /// Waits until no request has used it for that long.
    async fn idle(&self, limit: Duration) {
        loop {
            let left = limit.saturating_sub(self.unused_for());
            if left.is_zero() && !self.is_in_use() {
                return;
            }
            // A request under way ends, and then it counts from there.
            tokio::time::sleep(left.max(Duration::from_secs(1))).await;
        }
    }

    /// Queues a request for writing, waiting for room. An error means that nothing of it was sent.
    pub(super) async fn write(&self, transaction: u64, bytes: Bytes) -> Result<(), ()> {
        let outgoing = Outgoing { transaction: Some(transaction), bytes };
        self.outgoing.send(outgoing).await.map_err(|_| ())
    }

    /// Queues bytes that belong to no transaction, where there is room at once.
    pub(super) fn try_write(&self, bytes: Bytes) -> bool {
        self.outgoing.try_send(Outgoing { transaction: None, bytes }).is_ok()
    }

    /// Returns how often bytes of any kind came.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Returns what was wrong with what came, where nothing that came could be read.
    pub(super) fn garbled(&self) -> Option<&ParseError> {
        self.garbled.get().filter(|_| self.answered_ms.load(Ordering::Relaxed) == 0)
    }

    fn answered(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.answered_ms.store(elapsed.max(1), Ordering::Relaxed);
    }

    /// Returns whether no transaction got a response over it for that long.
    pub(super) fn unanswered_for(&self, time: Duration) -> bool {
        let last = self.opened + Duration::from_millis(self.answered_ms.load(Ordering::Relaxed));
        last.elapsed() >= time
    }
}

/// A request on a connection.
#[derive(Debug)]
pub(super) struct InUse(Arc<Connection>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.users.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reason that a connection ended.
enum End {
    /// The peer closed it, or it broke.
    Lost(String),
    /// The peer ended it for a reason of TLS: another connection would end likewise.
    Tls(String),
    /// Nothing was open on it any more, or had had its time.
    Drained,
    /// No request used it for a while, or another connection needed its place.
    Idle,
    Stopped,
}

/// Reads and writes until either ends; then fails what is still open.
pub(super) async fn drive<S>(
    pool: Arc<Connections>,
    stream: S,
    connection: Arc<Connection>,
    mut queue: mpsc::Receiver<Outgoing>,
    certificate_asked: Option<Noticed>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reader, writer) = tokio::io::split(stream);
    let settings = pool.settings();
    let drained = async {
        let pinned = connection.target.pinned.is_some();
        tokio::select! {
            () = connection.draining.cancelled() => (),
            () = tokio::time::sleep(PINNED_TIMEOUT), if pinned => pool.retire(&connection),
        }
        tokio::time::sleep(settings.grace).await;
    };
    let ended = |error: io::Error| {
        let asked = certificate_asked.as_ref().map_or(cause::Asked::Nothing, Noticed::get);
        let host = &connection.target.destination.host;
        match cause::of(&error, asked, host, &cause::Settings::REQUESTER) {
            Some(cause) => End::Tls(cause),
            None => End::Lost(io_cause(&error)),
        }
    };
    let end = {
        let mut reading = std::pin::pin!(read(reader, &connection, pool.transactions(), pool.incoming()));
        tokio::select! {
            end = &mut reading => end.unwrap_or_else(ended),
            error = write(writer, &mut queue, &connection, pool.transactions()) => {
                match timeout(FINAL_READ_TIMEOUT, &mut reading).await {
                    Ok(end) => end.unwrap_or_else(ended),
                    Err(_) => ended(error),
                }
            }
            () = drained => End::Drained,
            () = connection.closing.cancelled() => End::Idle,
            () = connection.idle(settings.bounds.idle) => End::Idle,
            () = keep_alive::run(&pool, &connection) => End::Drained,
            () = settings.stop.cancelled() => End::Stopped,
        }
    };
    let error = match end {
        End::Lost(cause) => ClientError::ConnectionLost(cause.into()),
        End::Tls(cause) => ClientError::Tls(cause.into()),
        End::Drained => ClientError::ConnectionLost("it went silent".into()),
        End::Idle => ClientError::ConnectionLost("it was idle".into()),
        End::Stopped => ClientError::stopped(),
    };
    // In this order: a request that is opened from here on finds the connection closed, one before that is
    // failed here.
    let _ = connection.end.set(error.clone());
    pool.remove(&connection.target, connection.id);
    pool.open().remove(connection.id);
    unsent(&mut queue, pool.transactions());
    tracing::debug!(to = %connection.target, %error, "connection closed");
    pool.transactions().fail_connection(&connection, &error);
}

/// Gives back what was queued and not written.
fn unsent(queue: &mut mpsc::Receiver<Outgoing>, transactions: &TransactionLayer) {
    queue.close();
    let mut numbers = Vec::new();
    while let Ok(outgoing) = queue.try_recv() {
        numbers.extend(outgoing.transaction);
    }
    transactions.on_unsent(&numbers);
}

/// Hands on what comes until the stream ends.
async fn read(
    mut reader: impl AsyncRead + Unpin,
    connection: &Connection,
    transactions: &TransactionLayer,
    incoming: &Incoming,
) -> io::Result<End> {
    let mut parser = StreamParser::new();
    let mut buffer = vec![0; 16 * 1024];
    // What came since the last message ended, roughly: where a message cannot be read, it names the
    // transaction.
    let mut recent = Vec::new();
    loop {
        let chunk = match reader.read(&mut buffer).await? {
            0 => return Ok(End::Lost("the peer closed it".to_owned())),
            length => &buffer[..length],
        };
        connection.reads.fetch_add(1, Ordering::Relaxed);
        parser.push(chunk);
        if recent.len() < MAX_MESSAGE {
            recent.extend_from_slice(chunk);
        }
        let mut complete = false;
        loop {
            match parser.next() {
                Ok(Some(Message::Response(response))) => {
                    complete = true;
                    if transactions.on_response(response) {
                        connection.answered();
                    }
                }
                Ok(Some(Message::Request(request))) => {
                    complete = true;
                    if let Some(response) = incoming.respond(&request, connection.remote) {
                        connection.try_write(response.bytes);
                    }
                }
                Ok(None) => break,
                Err(error) if parser.is_broken() => {
                    transactions.on_broken(&recent, &error);
                    return Ok(End::Lost(format!("cannot parse what the peer sent ({error})")));
                }
                Err(error) => {
                    tracing::debug!(peer = %connection.remote, %error, "ignored a message that cannot be read");
                    if !transactions.on_unreadable(&recent, &error, None) {
                        let _ = connection.garbled.set(error);
                    }
                    complete = true;
                }
            }
        }
        if complete {
            recent.clear();
            recent.extend_from_slice(chunk);
        } else if chunk == keep_alive::PING {
            connection.try_write(Bytes::from_static(keep_alive::PONG));
        }
    }
}

/// Writes what is queued, as much at a time as there is; returns the error that ended it. A connection that
/// drains gives back what has not been written, and stays as it is.
async fn write(
    mut writer: impl AsyncWrite + Unpin,
    queue: &mut mpsc::Receiver<Outgoing>,
    connection: &Connection,
    transactions: &TransactionLayer,
) -> io::Error {
    let (mut batch, mut bytes) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            biased;
            () = connection.draining.cancelled() => break,
            _ = queue.recv_many(&mut batch, 64) => (),
        }
        bytes.clear();
        for outgoing in batch.drain(..) {
            bytes.extend_from_slice(&outgoing.bytes);
        }
        let mut written = std::pin::pin!(async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        });
        let written = tokio::select! {
            written = &mut written => written,
            () = connection.draining.cancelled() => {
                unsent(queue, transactions);
                written.await
            }
        };
        if let Err(error) = written {
            return error;
        }
    }
    unsent(queue, transactions);
    std::future::pending().await
}
