//! The bytes of a gRPC connection: notes how they begin, and what ended them.
//!
//! A connection that the peer has reset can still be read: what came before the reset may be the responses to
//! calls that the peer processed. HTTP/2 would give them up at the first write that fails, so such a write
//! succeeds here, and the error comes once there is nothing left to read.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// Bytes of a peer's first words that are kept: a status line of HTTP/1.1, or the head of a frame.
const FIRST: usize = 64;
/// Bytes by which HTTP/2 is recognized: the head of its first frame (RFC 9113 §4.1).
const FRAME_HEAD: usize = 9;
/// The type of that frame, SETTINGS (RFC 9113 §3.4).
const SETTINGS: u8 = 4;

/// A stream of bytes to a peer.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Notes about a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamRecord(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    noted: Mutex<Recorded>,
    heard: Notify,
}

#[derive(Debug, Default)]
struct Recorded {
    first: Vec<u8>,
    error: Option<io::Error>,
}

/// First bytes of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerPreface {
    /// Nothing, or too little to recognize.
    Not,
    /// Those of HTTP/2.
    Http2,
    /// Anything else.
    Otherwise,
}

impl StreamRecord {
    fn noted(&self) -> MutexGuard<'_, Recorded> {
        self.0.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it can be said how the peer began.
    pub(super) async fn heard(&self) {
        loop {
            let heard = self.0.heard.notified();
            if self.began() != PeerPreface::Not {
                return;
            }
            heard.await;
        }
    }

    /// Returns how the peer began.
    pub(super) fn began(&self) -> PeerPreface {
        let noted = self.noted();
        match noted.first.get(3) {
            _ if noted.first.len() < FRAME_HEAD => PeerPreface::Not,
            Some(&SETTINGS) => PeerPreface::Http2,
            _ => PeerPreface::Otherwise,
        }
    }

    /// The words for a peer whose first bytes are not HTTP/2's, where it said something.
    pub(super) fn first_words(&self) -> Option<String> {
        let noted = self.noted();
        let first = &noted.first;
        // A TLS record with an alert, or one of the handshake (RFC 8446 §5.1).
        if matches!(first.as_slice(), [0x15 | 0x16, 3, ..]) {
            return Some("the peer demands TLS: write https:// before its address".to_owned());
        }
        if first.is_empty() || first.get(3) == Some(&SETTINGS) {
            return None;
        }
        // Never its words: anyone who may name an address would read through us what only this pod can reach.
        let plain = |byte: &u8| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~');
        let kind = if first.iter().all(plain) { "text" } else { "no text" };
        Some(match first.strip_prefix(b"HTTP/1") {
            Some(_) => "the peer speaks HTTP/1, and gRPC needs HTTP/2".to_owned(),
            None => format!(
                "the peer does not speak HTTP/2: it began with {} bytes that are {kind}",
                if first.len() < FIRST { first.len().to_string() } else { format!("at least {FIRST}") }
            ),
        })
    }

    /// The first error of the stream, once.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.noted().error.take()
    }

    fn note(&self, bytes: &[u8]) {
        let mut noted = self.noted();
        let room = FIRST.saturating_sub(noted.first.len());
        noted.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
        drop(noted);
        self.0.heard.notify_waiters();
    }

    /// Notes an error, and returns one like it.
    fn fail(&self, error: io::Error) -> io::Error {
        let mut noted = self.noted();
        if noted.error.is_some() {
            return error;
        }
        let copy = io::Error::new(error.kind(), error.to_string());
        noted.error = Some(error);
        copy
    }
}

/// A stream that is noted.
pub(super) struct RecordedStream {
    stream: Box<dyn Stream>,
    notes: StreamRecord,
    /// Bytes that are still kept.
    room: usize,
    /// The error that ended writing.
    unwritable: Option<io::Error>,
}

impl RecordedStream {
    pub(super) fn new(stream: Box<dyn Stream>, notes: &StreamRecord) -> Self {
        Self { stream, notes: notes.clone(), room: FIRST, unwritable: None }
    }

    /// Takes the result of a write. After an error, this one and all that follow seem to succeed, as
    /// `written`.
    fn wrote<T>(
        &mut self,
        done: Poll<io::Result<T>>,
        written: T,
        context: &Context<'_>,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = done else { return done };
        self.unwritable = Some(self.notes.fail(error));
        // Reading may wait for what never comes.
        context.waker().wake_by_ref();
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for RecordedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = &buffer.filled()[before..];
        if self.room > 0 && !came.is_empty() {
            self.notes.note(came);
            self.room = self.room.saturating_sub(came.len());
        }
        if came.is_empty()
            && !matches!(done, Poll::Ready(Err(_)))
            && let Some(error) = self.unwritable.take()
        {
            return Poll::Ready(Err(error));
        }
        done.map(|result| result.map_err(|error| self.notes.fail(error)))
    }
}

impl AsyncWrite for RecordedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unwritable.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(done, bytes.len(), context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        if self.unwritable.is_some() {
            return Poll::Ready(Ok(bytes));
        }
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(done, bytes, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unwritable.is_some() {
            return Poll::Ready(Ok(()));
        }
        let done = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(done, (), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g6_what_is_no_http2_is_said_to_be_what_it_is() {
        let said = |bytes: &[u8]| {
            let notes = StreamRecord::default();
            notes.note(bytes);
            (notes.began(), notes.first_words())
        };
        assert_eq!(said(&[0, 0, 18, 4, 0, 0, 0, 0, 0]), (PeerPreface::Http2, None));
        assert_eq!(
            said(&[0, 0]),
            (
                PeerPreface::Not,
                Some("the peer does not speak HTTP/2: it began with 2 bytes that are no text".to_owned())
            )
        );
        let (began, words) = said(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n");
        assert_eq!(began, PeerPreface::Otherwise);
        assert_eq!(words.unwrap(), "the peer speaks HTTP/1, and gRPC needs HTTP/2");
        let (_, words) = said(&[0x15, 3, 3, 0, 2, 2, 70]);
        assert!(words.unwrap().contains("demands TLS: write https://"));
        let (began, words) = said(b"-ERR unknown command\r\n");
        assert_eq!(began, PeerPreface::Otherwise);
        assert!(words.unwrap().ends_with("does not speak HTTP/2: it began with 22 bytes that are text"));
    }

    /// Reads what came, and then the reset.
    #[tokio::test]
    async fn g3_what_came_before_a_reset_is_read_though_nothing_can_be_written_any_more() {
        use tokio::{
            io::{AsyncReadExt as _, AsyncWriteExt as _},
            net::{TcpListener, TcpStream},
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(b"granted").await.unwrap();
        far.set_zero_linger().unwrap();
        near.readable().await.unwrap();
        drop(far);
        let notes = StreamRecord::default();
        let mut stream = RecordedStream::new(Box::new(near), &notes);
        // Until the reset is here, writes succeed.
        while stream.unwritable.is_none() {
            stream.write_all(b"?").await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.write_all(b"more").await.unwrap();
        stream.flush().await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 7);
        let error = stream.read(&mut buffer).await.unwrap_err();
        assert!(
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            "{error:?}"
        );
        assert_eq!(notes.take_error().unwrap().kind(), error.kind());
    }
}
