//! Clients of the Kubernetes API server.
//!
//! kube's own client retries 429, 503 and 504 up to fifteen times, for as long as `Retry-After` says, and
//! logs nothing. Here nothing is retried below the callers: each request has a time limit, each failure
//! reaches its caller at once, and the callers' [`super::backoff`] says when the next attempt is.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body as Bounded, Bytes},
    http::{
        HeaderMap, HeaderValue, Request, Response,
        header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
    },
};
use futures_util::{StreamExt, stream};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    core::{Status, response::StatusDetails},
};
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};

use super::{
    bounded::{Bounds, MAX_OBJECT_BYTES, MAX_PAGE_BYTES, is_watch},
    request_limiter::{RequestLimiter, RequestPermit},
};

/// The `User-Agent` of every request, by which audit logs and flow schemas know the operator.
pub const AGENT: &str = concat!("routr-registry/", env!("CARGO_PKG_VERSION"));

/// Time limit for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a request for one object, its response included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a list, its response included, and for a watch until it is accepted.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which a watch is given up: the API server ends each after a minute.
const WATCH_IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Requests for one object at the same time, each of which takes a connection: thousands of Registries share
/// them.
const MAX_REQUESTS: usize = 32;
/// Requests of these that are for one namespace.
const MAX_REQUESTS_PER_NAMESPACE: usize = 8;
/// Bytes of a response that is an error; the rest is not read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Called with the path of a watch that the API server has accepted.
pub type OnWatch = Arc<dyn Fn(&str) + Send + Sync>;

/// Bounds of a client, by its use.
#[derive(Clone)]
pub struct ClientKind {
    /// Time that a connection may say nothing.
    silence: Duration,
    /// Bytes of the largest response.
    response: usize,
    guard: Guard,
}

impl ClientKind {
    /// Bounds for single objects.
    pub fn objects() -> Self {
        let at_once = Some(RequestLimiter::new(MAX_REQUESTS, MAX_REQUESTS_PER_NAMESPACE));
        let guard = Guard { limit: REQUEST_TIMEOUT, at_once, on_watch: None };
        // Of two limits that end together, the one with the better words comes first.
        Self { silence: REQUEST_TIMEOUT + CONNECT_TIMEOUT, response: MAX_OBJECT_BYTES, guard }
    }

    /// Bounds for lists and watches.
    pub fn watches(on_watch: OnWatch) -> Self {
        let guard = Guard { limit: LIST_TIMEOUT, at_once: None, on_watch: Some(on_watch) };
        Self { silence: WATCH_IDLE_TIMEOUT, response: MAX_PAGE_BYTES, guard }
    }

    /// Bounds for the Lease. Its connections are its own: those that died with a node of the API server must
    /// not cost it its term. The election limits each request by what is left of the term.
    pub fn lease() -> Self {
        let guard = Guard { limit: LIST_TIMEOUT, at_once: None, on_watch: None };
        Self { silence: LIST_TIMEOUT, response: MAX_OBJECT_BYTES, guard }
    }

    /// Makes the client.
    ///
    /// # Errors
    /// When TLS or the credentials cannot be set up.
    pub(super) fn build(&self, mut config: Config) -> Result<Client, kube::Error> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(self.silence);
        config.reset_reader_on_write = true;
        config.default_retry = false;
        config.headers.retain(|(name, _)| *name != USER_AGENT);
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        let bounds = Bounds { answer: self.response, line: MAX_OBJECT_BYTES };
        Ok(ClientBuilder::try_from(config)?.with_layer(&bounds).with_layer(&self.guard).build())
    }
}

/// There was no complete response in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no complete response within {} s", .0.as_secs())]
pub struct ResponseTimeout(Duration);

/// Limits the time of each request, and completes responses that are errors.
#[derive(Clone)]
struct Guard {
    limit: Duration,
    at_once: Option<RequestLimiter>,
    on_watch: Option<OnWatch>,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, guard: self.clone() }
    }
}

/// A client under a [`Guard`].
#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Bounded>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Bounded>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watch = is_watch(request.uri());
        let path = request.uri().path().to_owned();
        let Guard { limit, at_once, on_watch } = self.guard.clone();
        // Nothing is sent before it is polled.
        let response = self.inner.call(request);
        Box::pin(async move {
            let slot = match at_once {
                Some(at_once) => Some(at_once.acquire(&path).await),
                None => None,
            };
            let deadline = Instant::now() + limit;
            let response = timeout_at(deadline, response)
                .await
                .map_err(|_| ResponseTimeout(limit))?
                .map_err(Into::into)?;
            if response.status().is_client_error() || response.status().is_server_error() {
                return Ok(completed(response, deadline).await);
            }
            if watch {
                if let Some(on_watch) = on_watch {
                    on_watch(&path);
                }
                return Ok(response);
            }
            Ok(response.map(|body| timed(body, deadline, limit, slot)))
        })
    }
}

/// The body, until the deadline.
fn timed(body: Bounded, deadline: Instant, limit: Duration, slot: Option<RequestPermit>) -> Bounded {
    let pieces = stream::unfold((body.into_data_stream(), slot), move |(mut pieces, slot)| async move {
        match timeout_at(deadline, pieces.next()).await {
            Ok(piece) => piece.map(|piece| (piece.map_err(BoxError::from), (pieces, slot))),
            Err(_) => Some((Err(ResponseTimeout(limit).into()), (pieces, slot))),
        }
    });
    Bounded::from_stream(pieces)
}

/// An error as a `Status` with its HTTP code and the `Retry-After` of its header, which kube does not hand
/// on.
async fn completed(response: Response<Bounded>, deadline: Instant) -> Response<Bounded> {
    let (mut parts, body) = response.into_parts();
    let text = beginning(body, deadline).await;
    let mut status = status(&text, &parts.headers);
    if status.code == 0 {
        status.code = parts.status.as_u16();
    }
    if let Some(wait) = retry_after(&parts.headers) {
        let details = status.details.get_or_insert_with(details);
        details.retry_after_seconds = details.retry_after_seconds.max(wait);
    }
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What is made of strings and numbers can be written.
    Response::from_parts(parts, Bounded::from(serde_json::to_vec(&status).unwrap_or_default()))
}

/// Texts that the API server itself sends in plain text, where it has no time for a `Status`.
const PLAIN: [&str; 2] = ["Too many requests, please try again later.", "Unauthorized"];

/// The `Status` of a response. What is none does not come from an API server, and is described instead of
/// quoted: it may be any page of any server that an address leads to.
fn status(text: &[u8], headers: &HeaderMap) -> Status {
    if let Ok(status) = serde_json::from_slice::<Status>(text)
        && serde_json::from_slice::<Kind>(text).is_ok_and(|of| of.kind == "Status")
    {
        return status;
    }
    let said = String::from_utf8_lossy(text);
    if let Some(known) = PLAIN.iter().find(|known| **known == said.trim()) {
        return Status::failure(known, "");
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = match kind.split(';').next().unwrap_or_default().trim() {
        "text/html" => "HTML",
        "application/json" => "JSON",
        "text/plain" => "text",
        _ => "no known type",
    };
    let length = if text.len() < MAX_ERROR_BYTES {
        text.len().to_string()
    } else {
        format!("at least {MAX_ERROR_BYTES}")
    };
    Status::failure(&format!("{length} bytes of {kind}, which are no Status of Kubernetes"), "")
}

/// The kind of an object.
#[derive(serde::Deserialize)]
struct Kind {
    kind: String,
}

fn details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

async fn beginning(body: Bounded, deadline: Instant) -> Vec<u8> {
    let mut pieces = body.into_data_stream();
    let mut text: Vec<u8> = Vec::new();
    while text.len() < MAX_ERROR_BYTES {
        let Ok(Some(Ok(piece))) = timeout_at(deadline, pieces.next()).await else { break };
        let piece: Bytes = piece;
        text.extend_from_slice(&piece[..piece.len().min(MAX_ERROR_BYTES - text.len())]);
    }
    text
}

/// Seconds. A date, which the API server never sends, is not read: the caller's own backoff then says how
/// long to wait.
fn retry_after(headers: &HeaderMap) -> Option<u32> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds: u64 = text.parse().ok()?;
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Mutex};

    use axum::{body::to_bytes, http::StatusCode};
    use tower::service_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn guard() -> Guard {
        Guard { limit: LIMIT, at_once: Some(RequestLimiter::new(1, 1)), on_watch: None }
    }

    /// The error that a response comes to.
    async fn error(code: u16, wait: Option<&'static str>, body: &'static [u8]) -> Status {
        let inner = service_fn(move |_: Request<Body>| async move {
            let mut response = Response::new(Bounded::from(body));
            *response.status_mut() = StatusCode::from_u16(code).expect("a code");
            if let Some(wait) = wait {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(wait));
            }
            Ok::<_, Infallible>(response)
        });
        let response = guard().layer(inner).call(Request::new(Body::empty())).await.expect("a response");
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        serde_json::from_slice(&body).expect("a Status")
    }

    #[tokio::test]
    async fn k1_an_error_keeps_its_code_its_words_and_its_wait() {
        let status = error(429, Some("90"), b"Too many requests, please try again later.\n").await;
        assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 90));
        assert!(status.message.starts_with("Too many requests"), "{}", status.message);
        let status =
            error(503, None, br#"{"kind":"Status","message":"no","reason":"ServiceUnavailable"}"#).await;
        assert_eq!((status.code, &*status.message, status.details), (503, "no", None));
        for odd in [&b"\xff\xfe\x00"[..], b"{}", b"", b"[1]", b"<html>s3cret", br#"{"message":"s3cret"}"#] {
            let status = error(504, Some("Wed, 21 Oct 2015 07:28:00 GMT"), odd).await;
            assert_eq!((status.code, &status.details), (504, &None), "{odd:?}");
            assert!(status.message.ends_with("which are no Status of Kubernetes"), "{}", status.message);
        }
        assert_eq!(error(429, Some("99999999999"), b"").await.details.unwrap().retry_after_seconds, u32::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn k1_a_request_that_never_ends_ends() {
        let silent =
            service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Bounded>, Infallible>>());
        let began = Instant::now();
        let error = guard().layer(silent).call(Request::new(Body::empty())).await.expect_err("too slow");
        assert_eq!(
            (error.to_string().as_str(), began.elapsed()),
            ("no complete response within 10 s", LIMIT)
        );
        // A byte each second keeps the connection busy, and the response endless.
        let trickle = service_fn(|_: Request<Body>| async {
            let bytes = stream::repeat(()).then(|()| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, Infallible>(Bytes::from_static(b" "))
            });
            Ok::<_, Infallible>(Response::new(Bounded::from_stream(bytes)))
        });
        let mut client = guard().layer(trickle);
        for _ in 0..2 {
            let began = Instant::now();
            let response = client.call(Request::new(Body::empty())).await.expect("it begins");
            let error = to_bytes(response.into_body(), usize::MAX).await.expect_err("too slow");
            assert!(format!("{error:?}").contains("ResponseTimeout"), "{error:?}");
            assert_eq!(began.elapsed(), LIMIT, "and its place is free again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_reported_and_may_last() {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = seen.clone();
        let on_watch: OnWatch = Arc::new(move |path| into.lock().unwrap().push(path.to_owned()));
        let inner = service_fn(|_: Request<Body>| async {
            let lines = stream::iter(0..60).then(|_| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, Infallible>(Bytes::from_static(b"\n"))
            });
            Ok::<_, Infallible>(Response::new(Bounded::from_stream(lines)))
        });
        let request =
            Request::get("/apis/routr.io/v2beta1/registries?watch=true").body(Body::empty()).unwrap();
        let mut client = Guard { on_watch: Some(on_watch), ..guard() }.layer(inner);
        let body = client.call(request).await.unwrap().into_body();
        assert_eq!(to_bytes(body, usize::MAX).await.unwrap().len(), 60);
        assert_eq!(*seen.lock().unwrap(), ["/apis/routr.io/v2beta1/registries"]);
    }
}
