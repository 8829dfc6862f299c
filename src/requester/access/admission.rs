//! Lets calls in: first the token, then a place, then the message within its bounds, and only then it is
//! decoded.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tonic::{
    Status,
    body::Body,
    codegen::{
        InterceptedService, Service,
        http::{HeaderMap, Request, Response, header::AUTHORIZATION},
    },
    server::{Grpc, NamedService, UnaryService},
};

use super::{
    AccessOptions, Token,
    connections::Usage,
    places::{Place, Places},
};
use crate::{
    grpc::{codec::RawCodec, wire},
    proto::requester::{
        SendMessageRequest,
        requester_server::{self, Requester as _},
    },
    requester::RequesterService,
};

/// Bounds on a request: a SIP message has 64 KiB at most, and some 256 header fields.
const LIMITS: wire::Limits = wire::Limits { bytes: 128 << 10, fields: 2_048, depth: 16 };

/// gRPC's prefix of a message.
const GRPC_PREFIX_BYTES: usize = 5;

/// Bytes of all requests under way: an eighth of a pod of 256 MiB, since each byte is held some four times in
/// all.
const MAX_BYTES_IN_FLIGHT: usize = 32 << 20;

/// Interval between two warnings about calls that were not let in.
const WARNING_PERIOD: Duration = Duration::from_secs(30);

const SEND_MESSAGE: &str = "/fonoster.routr.requester.v2beta1.Requester/SendMessage";

/// Decides which calls are let in, and how many at a time.
#[derive(Clone, Debug)]
pub(crate) struct AdmissionControl(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: Option<Arc<Token>>,
    /// Time that the message of a call may take to come.
    patience: Duration,
    places: Arc<Places>,
    bytes: Arc<Semaphore>,
    began: Instant,
    /// Milliseconds after `began`, and one, at which the last warning was.
    warned_ms: AtomicU64,
    refused: AtomicU64,
}

impl AdmissionControl {
    pub(crate) fn new(access: &AccessOptions, capacity: u32) -> Self {
        Self(Arc::new(Inner {
            token: access.token.clone(),
            patience: access.patience,
            places: Places::new(capacity),
            bytes: Arc::new(Semaphore::new(MAX_BYTES_IN_FLIGHT)),
            began: Instant::now(),
            warned_ms: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// Checks the token, where there is one.
    fn login(&self, headers: &HeaderMap, usage: Option<&Arc<Usage>>) -> Result<(), Status> {
        let Some(token) = &self.0.token else { return Ok(()) };
        let mut brought = headers.get_all(AUTHORIZATION).iter();
        let problem = match (brought.next().map(|value| bearer(value.as_bytes())), brought.next()) {
            (None, _) => {
                "no token: this Requester wants authorization: Bearer TOKEN with the one of its --token-file"
            }
            (Some(_), Some(_)) => {
                "authorization comes twice; this Requester wants one, with the token of its --token-file"
            }
            (Some(None), None) => "authorization is no Bearer token, which this Requester wants",
            (Some(Some(brought)), None) if token.is(brought) => {
                if let Some(usage) = usage {
                    usage.is_known();
                }
                return Ok(());
            }
            (Some(Some(_)), None) => "wrong token: it is not the one of this Requester's --token-file",
        };
        self.warn(problem);
        Err(Status::unauthenticated(problem))
    }

    /// One line for many.
    fn warn(&self, problem: &str) {
        let Inner { began, warned_ms, refused, .. } = &*self.0;
        refused.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let last = warned_ms.load(Ordering::Relaxed);
        let pause = u64::try_from(WARNING_PERIOD.as_millis()).unwrap_or(u64::MAX);
        let due = last == 0 || now.saturating_sub(last) >= pause;
        if due && warned_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let calls = refused.swap(0, Ordering::Relaxed);
            tracing::warn!(calls, "calls were refused (UNAUTHENTICATED): {problem}");
        }
    }

    fn place(&self, usage: Option<&Arc<Usage>>) -> Result<Place, Status> {
        let from = usage.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |usage| usage.from());
        self.0.places.take(from)
    }

    /// Reads a message, within its bounds. Its bytes count until the permit is dropped.
    async fn read(&self, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Status> {
        let late = |_| {
            let seconds = self.0.patience.as_secs_f32();
            Status::deadline_exceeded(format!("the request did not come within {seconds} s"))
        };
        timeout(self.0.patience, self.collect(body)).await.map_err(late)?
    }

    async fn collect(&self, mut body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Status> {
        let (mut bytes, mut held) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let most = LIMITS.bytes + GRPC_PREFIX_BYTES;
            if bytes.len() + data.len() > most {
                let most = LIMITS.bytes;
                return Err(Status::out_of_range(format!(
                    "the request has more than {most} bytes, which are allowed"
                )));
            }
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let permit = self.0.bytes.clone().try_acquire_many_owned(length).map_err(|_| {
                Status::resource_exhausted(
                    "the requests in flight are too large together: the Requester's memory is bounded",
                )
            })?;
            match &mut held {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), held))
    }
}

/// The token of `Bearer TOKEN`; the word's case does not matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Another service behind the same login.
pub(crate) fn with_login<S>(
    admission: &AdmissionControl,
    service: S,
) -> InterceptedService<
    S,
    impl FnMut(tonic::Request<()>) -> Result<tonic::Request<()>, Status> + Clone + use<S>,
> {
    let admission = admission.clone();
    InterceptedService::new(service, move |request: tonic::Request<()>| {
        let usage = request.extensions().get::<Arc<Usage>>().cloned();
        let headers = request.metadata().clone().into_headers();
        admission.login(&headers, usage.as_ref())?;
        Ok(request)
    })
}

/// The `Requester` service behind the gate.
#[derive(Clone, Debug)]
pub(crate) struct SendMessage {
    admission: AdmissionControl,
    inner: RequesterService,
}

impl SendMessage {
    pub(crate) fn new(admission: &AdmissionControl, inner: RequesterService) -> Self {
        Self { admission: admission.clone(), inner }
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let usage = head.extensions.get::<Arc<Usage>>().cloned();
        self.admission.login(&head.headers, usage.as_ref())?;
        if head.uri.path() != SEND_MESSAGE {
            return Err(Status::unimplemented("the Requester service has one method, SendMessage"));
        }
        let place = self.admission.place(usage.as_ref())?;
        let mut call = usage.as_ref().map(Usage::begin);
        if let Some(usage) = usage.filter(|_| self.admission.0.token.is_none()) {
            usage.is_known();
        }
        let (bytes, held) = self.admission.read(body).await?;
        if let Some(call) = &mut call {
            call.work();
        }
        let request = Request::from_parts(head, Full::new(bytes));
        let mut grpc = Grpc::new(RawCodec::default());
        let place = Arc::new(Mutex::new(place));
        let response = grpc.unary(Unary(self.inner, place.clone()), request).await;
        if let Some(call) = &mut call {
            call.respond();
        }
        // All of it counts until the caller has taken the response.
        let counted = (call, place, held);
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _ = &counted;
                frame
            }))
        }))
    }
}

impl NamedService for SendMessage {
    const NAME: &'static str = requester_server::SERVICE_NAME;
}

impl Service<Request<Body>> for SendMessage {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await.unwrap_or_else(Status::into_http)) })
    }
}

/// Decodes a request once its fields are counted.
struct Unary(RequesterService, Arc<Mutex<Place>>);

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let inner = self.0.clone();
        let place = self.1.clone();
        Box::pin(async move {
            let (metadata, extensions, request) = request.into_parts();
            let request = tonic::Request::from_parts(metadata, extensions, decode(request)?);
            place.lock().unwrap_or_else(PoisonError::into_inner).goes_to(&request.get_ref().target)?;
            let response = inner.send_message(request).await?;
            Ok(response.map(|message| message.encode_to_vec().into()))
        })
    }
}

fn decode(request: Bytes) -> Result<SendMessageRequest, Status> {
    wire::check(&request, &wire::SEND_MESSAGE_REQUEST, &LIMITS)
        .map_err(|excess| Status::out_of_range(format!("the request is too large: {excess}")))?;
    SendMessageRequest::decode(request)
        .map_err(|error| Status::invalid_argument(format!("the request is no SendMessageRequest: {error}")))
}
