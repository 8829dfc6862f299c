//! The byte stream below a connection: seen when it is made and when it ends, and closed from outside where
//! it hangs.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// Error with which the calls of an abandoned connection end.
pub(super) const HUNG_ERROR: &str = "it hung without a response to any call, and was replaced";

/// Streams that are made and that end, of all connections to one dependency.
#[derive(Debug, Default)]
pub struct Events {
    made: AtomicU64,
    ended: Notify,
}

impl Events {
    /// Returns how many streams were made so far.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Waits until one ends that was not given up.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}

/// Looks after the streams of one connection: of the one that it has, and of those that it makes after that
/// has ended in order.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    events: Arc<Events>,
    closed: AtomicBool,
    written: AtomicU64,
    streams: Mutex<Vec<Weak<AtomicWaker>>>,
}

impl Guard {
    /// One that reports to `events`.
    pub(super) fn new(events: &Arc<Events>) -> Self {
        Self(Arc::new(Inner {
            events: events.clone(),
            closed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            streams: Mutex::default(),
        }))
    }

    /// Takes a stream that has just been made.
    pub fn watch<S>(&self, stream: S) -> Watched<S> {
        self.0.events.made.fetch_add(1, Ordering::Relaxed);
        let waker = Arc::new(AtomicWaker::new());
        let mut streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&waker));
        Watched { stream, waker, inner: self.0.clone() }
    }

    /// Breaks all streams: calls that are under way on them end.
    pub(super) fn give_up(&self) {
        self.0.closed.store(true, Ordering::Release);
        let streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().filter_map(Weak::upgrade).for_each(|waker| waker.wake());
    }

    /// Bytes that were written so far.
    pub(super) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }
}

/// A stream that is looked after.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    waker: Arc<AtomicWaker>,
    inner: Arc<Inner>,
}

impl<S> Watched<S> {
    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        self.waker.register(context.waker());
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, HUNG_ERROR));
        }
        Ok(())
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            self.inner.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        if !self.inner.closed.load(Ordering::Acquire) {
            self.inner.events.ended.notify_one();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
