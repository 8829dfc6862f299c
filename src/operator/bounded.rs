//! A bound on the responses of the Kubernetes API server: kube's client reads whatever comes, and a broken
//! API server, or another program in its place, must not fill the memory that all engines share.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body as Bounded, Bytes, HttpBody},
    http::{Request, Response, Uri},
};
use futures_util::{Stream, StreamExt};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// Bytes of one response, or of one event of a watch. The API server itself takes no object of more than 3
/// MiB.
pub const MAX_OBJECT_BYTES: usize = 16 << 20;
/// Bytes of a page of a list of Registries. It is decoded at once: a page that is longer is asked for again
/// with fewer of them.
pub const MAX_PAGE_BYTES: usize = 16 << 20;

/// Bounds on the responses of a client.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a response.
    pub answer: usize,
    /// Bytes of each line of a watch, which goes on for minutes.
    pub line: usize,
}

/// The response, or a line of it, is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server sends more than {} MiB in one {}, which is cut off", .most >> 20, if *.watch { "event" } else { "answer" })]
pub struct TooLong {
    most: usize,
    watch: bool,
}

impl TooLong {
    /// Makes the error of a response that may have `most` bytes.
    #[cfg(test)]
    pub(super) fn answer(most: usize) -> Self {
        Self { most, watch: false }
    }
}

impl<S> Layer<S> for Bounds {
    type Service = BoundedClient<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BoundedClient { inner, bounds: *self }
    }
}

/// See [`Bounds`].
#[derive(Clone, Debug)]
pub struct BoundedClient<S> {
    inner: S,
    bounds: Bounds,
}

impl<S, B> Service<Request<Body>> for BoundedClient<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Bounded>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let meter = if is_watch(request.uri()) {
            Meter { most: self.bounds.line, watch: true, seen: 0 }
        } else {
            Meter { most: self.bounds.answer, watch: false, seen: 0 }
        };
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| meter.over(body))) })
    }
}

/// Returns whether a request asks for a watch.
pub(super) fn is_watch(uri: &Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| pair == "watch=true" || pair == "watch=1")
}

/// Counts the bytes of a response so far, or those since the last end of a line of a watch.
#[derive(Clone, Copy, Debug)]
struct Meter {
    most: usize,
    watch: bool,
    seen: usize,
}

impl Meter {
    fn over<B>(self, body: B) -> Bounded
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Bounded::from_stream(self.cut(Bounded::new(body).into_data_stream()))
    }

    /// The pieces, up to and without the first that is too much.
    fn cut<E: Into<BoxError>>(
        mut self,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
        pieces.map(move |piece| {
            let piece = piece.map_err(Into::into)?;
            self.count(&piece)?;
            Ok(piece)
        })
    }

    fn count(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        let Self { most, watch, .. } = *self;
        for (position, part) in piece.split(|byte| watch && *byte == b'\n').enumerate() {
            if position > 0 {
                self.seen = 0;
            }
            self.seen = self.seen.saturating_add(part.len());
            if self.seen > most {
                return Err(TooLong { most, watch });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::to_bytes;
    use futures_util::stream;
    use tower::service_fn;

    use super::*;

    const BOUNDS: Bounds = Bounds { answer: 10 << 20, line: 1 << 20 };

    /// Returns the result of a response of `pieces` of these pieces.
    async fn answer(uri: &str, piece: &'static [u8], pieces: usize) -> Result<usize, String> {
        let inner = service_fn(move |_: Request<Body>| async move {
            let pieces = stream::repeat(Ok::<_, Infallible>(Bytes::from_static(piece))).take(pieces);
            Ok::<_, Infallible>(Response::new(Bounded::from_stream(pieces)))
        });
        let request = Request::get(uri).body(Body::empty()).expect("a request");
        let response = BOUNDS.layer(inner).call(request).await.expect("infallible");
        let body = to_bytes(response.into_body(), usize::MAX).await;
        body.map(|body| body.len()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn an_answer_is_cut_off_beyond_its_bound() {
        const CHUNK: &[u8] = &[b'\n'; 1 << 20];
        assert_eq!(answer("/a", CHUNK, 10).await, Ok(10 << 20));
        let error = answer("/a?watch=false&limit=1", CHUNK, 11).await.expect_err("too long");
        assert!(error.contains("more than 10 MiB in one answer"), "{error}");
        // Without an end: it is not read further.
        answer("/a", CHUNK, usize::MAX).await.expect_err("too long");
    }

    #[tokio::test]
    async fn a_watch_goes_on_as_long_as_its_lines_end() {
        const LINES: &[u8] = b"{\"type\":\"ADDED\"}\n{\"type\":";
        assert_eq!(answer("/a?watch=true", LINES, 1 << 20).await, Ok(LINES.len() << 20));
        let error = answer("/a?limit=1&watch=true", &[b'x'; 1 << 10], 1025).await.expect_err("too long");
        assert!(error.contains("more than 1 MiB in one event"), "{error}");
        assert_eq!(answer("/a?watch=1", &[b'x'; 1 << 10], 1024).await, Ok(1 << 20));
    }
}
