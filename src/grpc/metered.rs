//! Counts the bytes of responses while they arrive, against a Registry's part of the memory for them.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::{Status, body::Body, codegen::http};
use tower::Service;

use crate::quota::Received;

/// A connection whose next response counts for one Registry.
#[derive(Clone, Debug)]
pub(super) struct Metered<S> {
    inner: S,
    received: Arc<Received>,
}

impl<S> Metered<S> {
    /// Counts for `received`.
    pub(super) fn new(inner: S, received: &Arc<Received>) -> Self {
        Self { inner, received: received.clone() }
    }
}

impl<S> Service<http::Request<Body>> for Metered<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (response, received) = (self.inner.call(request), self.received.clone());
        Box::pin(async move { Ok(response.await?.map(|body| Body::new(Counted { body, received }))) })
    }
}

/// A body that ends with an error as soon as there is no room for more of it.
struct Counted {
    body: Body,
    received: Arc<Received>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let fits = self.received.grow(frame.data_ref().map_or(0, Bytes::len));
                Some(fits.map(|()| frame).map_err(|excess| Status::resource_exhausted(excess.to_string())))
            }
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
