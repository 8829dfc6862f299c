//! One of the connections that follow each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use tokio::time::timeout;
use tonic::{
    body::Body,
    codegen::http::{self, HeaderValue, Method, Uri, header::CONTENT_TYPE},
};
use tower::{Service, ServiceExt};

use super::{BoxError, Make};
use crate::grpc::{
    GrpcError,
    channel::Channel,
    guard::{Events, Guard},
};

/// Any gRPC server responds to it.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// A gRPC message of no bytes.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// One of the streams that a connection uses in turn, with what is known of it.
pub(super) struct Generation {
    channel: Channel,
    pub guard: Guard,
    /// Calls under way.
    pub calls: AtomicU32,
    /// Moment since which there have been calls and no response, in milliseconds of the connection's clock,
    /// which begins at 1; 0 where that is not so.
    pub quiet_since: AtomicU64,
    pub responses: AtomicU64,
    /// Calls in a row that had no response until their time was over.
    pub timeouts: AtomicU32,
    /// A task looks at it.
    pub watched: AtomicBool,
}

/// Result of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Responds,
    Hangs,
    /// The check was not written: there was no stream for it, or the connection ended.
    Unknown,
}

impl Generation {
    pub fn new(make: &Make, events: &Arc<Events>) -> Result<Self, GrpcError> {
        let guard = Guard::new(events);
        Ok(Self {
            channel: make(&guard)?,
            guard,
            calls: AtomicU32::new(0),
            quiet_since: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            timeouts: AtomicU32::new(0),
            watched: AtomicBool::new(false),
        })
    }

    /// Sends a request on it.
    pub async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>, BoxError> {
        let mut channel = self.channel.clone();
        Ok(channel.ready().await?.call(request).await?)
    }

    /// Returns how long calls have had no response.
    pub fn quiet(&self, now_ms: u64) -> Duration {
        match self.quiet_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(now_ms.saturating_sub(since)),
        }
    }

    /// A response came: of one of the calls, which is under way still, or of a health check.
    pub fn responded(&self, now_ms: u64, of_a_call: bool) {
        self.responses.fetch_add(1, Ordering::Relaxed);
        if of_a_call {
            self.timeouts.store(0, Ordering::Relaxed);
        }
        let others = self.calls.load(Ordering::Relaxed) > u32::from(of_a_call);
        self.quiet_since.store(if others { now_ms } else { 0 }, Ordering::Relaxed);
    }

    /// The stream has ended: how it was says nothing of the next one.
    pub fn ended(&self) {
        self.quiet_since.store(0, Ordering::Relaxed);
        self.timeouts.store(0, Ordering::Relaxed);
    }

    /// Sends a health check, and waits at most this long for the response.
    pub async fn check(&self, most: Duration) -> Health {
        let mut request = http::Request::new(Body::new(Full::new(Bytes::from_static(EMPTY_MESSAGE))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(HEALTH_CHECK);
        *request.version_mut() = http::Version::HTTP_2;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let (written, responses) = (self.guard.written(), self.responses.load(Ordering::Relaxed));
        match timeout(most, self.call(request)).await {
            Ok(Ok(_)) => Health::Responds,
            Ok(Err(_)) => Health::Unknown,
            Err(_) if self.responses.load(Ordering::Relaxed) != responses => Health::Unknown,
            Err(_) if self.guard.written() == written => Health::Unknown,
            Err(_) => Health::Hangs,
        }
    }
}
