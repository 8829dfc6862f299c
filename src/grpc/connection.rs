//! A connection to a gRPC dependency, as calls see it: it is always there.
//!
//! Events that it hides:
//!
//! * It ends in order (GOAWAY, an idle or age limit, `keepalive_requests` of nginx): another stream is made
//!   for the next call.
//! * A request was surely not processed (REFUSED_STREAM, GOAWAY with a last stream below its own, or the
//!   stream ended before it was written): it is sent again at once.
//! * It hangs: something between passes nothing on any more, though TCP still acknowledges. Where no call has
//!   had a response for [`Peer::quiet`], a health check is sent on it, which any gRPC server responds to at
//!   once, if only with UNIMPLEMENTED, however silent registrars are. Where that, too, gets no response
//!   within [`Peer::check_timeout`], another connection takes its place for new calls. Those under way on the
//!   old one may still finish; once the new one has had a response, and the old one none, they end as on a
//!   connection that broke. Where only the calls time out, three in a row, those of
//!   silent registrars it may be, or of what is behind a proxy that responds to the checks itself: another
//!   connection is tried as well, and the calls under way are left alone. Connections are replaced after 10
//!   s, 20 s, ... up to 5 min, until a call has a response.
//!
//! Events that it passes on: that no connection can be made, that one broke, a gRPC status, and the HTTP
//! status of a proxy ([`CallError`]).

mod error;
mod generation;
mod replacement;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tonic::{
    body::Body,
    codegen::http::{self, HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
};
use tower::Service;
use tracing::Instrument as _;

pub use self::error::CallError;
pub(super) use self::error::{Fate, cause};
use self::generation::Generation;
use super::{
    GrpcError,
    channel::Channel,
    guard::{Events, Guard},
};

/// Most times that a request which was not processed is sent again. Three: a proxy that ends many connections
/// in order may catch one request more than once.
const MAX_RESENDS: u32 = 3;

/// Kind of peer at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name, for a person.
    pub name: &'static str,
    /// Time without a response to any call after which a health check is sent.
    pub quiet: Duration,
    /// Time that the response to a health check may take.
    pub check_timeout: Duration,
    /// The connection ends when it has not been used for about 10 s: the buffers of one that carries
    /// passwords still hold them.
    pub ends_idle: bool,
}

impl Peer {
    /// Calls take milliseconds, but those to silent registrars; a binding of a minute must not expire.
    pub const REQUESTER: Self = Self {
        name: "Requester",
        quiet: Duration::from_secs(4),
        check_timeout: Duration::from_secs(4),
        ends_idle: false,
    };
    /// It may be busy with a long list for a while, and do nothing else meanwhile.
    pub const API_SERVER: Self = Self {
        name: "API server",
        quiet: Duration::from_secs(10),
        check_timeout: Duration::from_secs(10),
        ends_idle: true,
    };
}

type Make = Box<dyn Fn(&Guard) -> Result<Channel, GrpcError> + Send + Sync>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connection to a dependency that replaces and repairs itself. Clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    peer: Peer,
    make: Make,
    events: Arc<Events>,
    began: Instant,
    state: Mutex<State>,
    /// [`State::replaced`] is set.
    has_replaced: AtomicBool,
}

struct State {
    current: Arc<Generation>,
    /// The one before, with calls under way.
    replaced: Option<Arc<Generation>>,
    /// Earliest moment to replace the current one, and the pause until then.
    replace_at: Option<Instant>,
    pause: Duration,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.0.peer.name).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection to a `peer` by channels that `make` opens; their streams have to be given to the guard.
    /// It is made at the first call.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn new(
        peer: Peer,
        events: &Arc<Events>,
        make: impl Fn(&Guard) -> Result<Channel, GrpcError> + Send + Sync + 'static,
    ) -> Result<Self, GrpcError> {
        let make: Make = Box::new(make);
        let current = Arc::new(Generation::new(&make, events)?);
        let state = State { current, replaced: None, replace_at: None, pause: Duration::ZERO };
        Ok(Self(Arc::new(Inner {
            peer,
            make,
            events: events.clone(),
            // No call may be at 0.
            began: Instant::now().checked_sub(Duration::from_millis(1)).unwrap_or_else(Instant::now),
            state: Mutex::new(state),
            has_replaced: AtomicBool::new(false),
        })))
    }
}

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.send(request).await })
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Sends a unary request, again where it was surely not processed.
    async fn send(self: Arc<Self>, request: http::Request<Body>) -> Result<http::Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut sent = false;
        for _ in 0..=MAX_RESENDS {
            let request = http::Request::from_parts(head.clone(), Body::new(Full::new(body.clone())));
            let mut call = UnderWay::begin(&self);
            let result = call.generation.call(request).await;
            match result {
                Ok(response) => {
                    call.over = true;
                    self.responded(&call.generation, Response::OfACall);
                    return Ok(self.check(response)?);
                }
                Err(error) => match Fate::of(&*error) {
                    Fate::Late => return Err(error),
                    fate @ (Fate::NotProcessed | Fate::NotSent) => {
                        call.over = true;
                        sent |= fate == Fate::NotProcessed;
                    }
                    Fate::Reset => {
                        call.over = true;
                        self.responded(&call.generation, Response::OfACall);
                        return Err(CallError::Reset(error::said(&*error)).into());
                    }
                    Fate::Unreachable => {
                        call.over = true;
                        call.generation.ended();
                        return Err(CallError::Unreachable(error::said(&*error)).into());
                    }
                    Fate::Broken => {
                        call.over = true;
                        call.generation.ended();
                        let (cause, after_response) =
                            (error::said(&*error), error::is_after_response(&*error));
                        return Err(CallError::Broken { cause, after_response }.into());
                    }
                },
            }
        }
        let tries = 1 + MAX_RESENDS;
        Err(if sent {
            CallError::NotProcessed(tries)
        } else {
            CallError::Unreachable(error::never_sent(tries))
        }
        .into())
    }

    /// Returns whether it is a gRPC response.
    fn check(&self, response: http::Response<Body>) -> Result<http::Response<Body>, CallError> {
        if is_grpc(response.status(), response.headers()) {
            Ok(response)
        } else {
            Err(CallError::Http { status: response.status(), peer: self.peer.name })
        }
    }

    /// A connection has had a response: the one that it replaced is given up, where that has had none since.
    fn responded(&self, generation: &Arc<Generation>, response: Response) {
        let of_a_call = response == Response::OfACall;
        generation.responded(self.now_ms(), of_a_call);
        if !self.has_replaced.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        if !Arc::ptr_eq(&state.current, generation) {
            return;
        }
        if of_a_call {
            self.has_replaced.store(false, Ordering::Relaxed);
            state.pause = Duration::ZERO;
        }
        let old = state.replaced.take();
        drop(state);
        if let Some(old) = old.filter(|old| old.quiet_since.load(Ordering::Relaxed) != 0) {
            old.guard.give_up();
        }
    }
}

/// Request that a response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Response {
    OfACall,
    OfACheck,
}

/// Returns whether a response speaks gRPC. Proxies respond to errors of their own with a page, or with
/// nothing.
fn is_grpc(status: StatusCode, headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    headers.contains_key("grpc-status")
        || (status == StatusCode::OK
            && content_type.is_none_or(|value| value.starts_with(b"application/grpc")))
}

/// A call under way, for as long as it lives.
struct UnderWay {
    generation: Arc<Generation>,
    /// It has a response, or an error; otherwise its time is over.
    over: bool,
}

impl UnderWay {
    fn begin(inner: &Arc<Inner>) -> Self {
        let generation = inner.state().current.clone();
        generation.calls.fetch_add(1, Ordering::SeqCst);
        let began = inner.now_ms();
        // Only where there was none: what is quiet stays quiet when calls time out.
        _ = generation.quiet_since.compare_exchange(0, began, Ordering::Relaxed, Ordering::Relaxed);
        if !generation.watched.swap(true, Ordering::SeqCst) {
            // Its lines are those of the registry that was the first to call.
            tokio::spawn(inner.clone().watch(generation.clone()).in_current_span());
        }
        Self { generation, over: false }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.generation.calls.fetch_sub(1, Ordering::SeqCst);
        if !self.over {
            self.generation.timeouts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
