//! How much a Requester takes at a time, and the service that says so.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::RequesterService;
use crate::{
    environment,
    proto::{
        requester::{SendMessageRequest, SendMessageResponse, requester_server::Requester},
        requester_info::{GetRequest, GetResponse, requester_info_server::RequesterInfo},
    },
};

/// Most requests at a time. Each costs memory alone: some 10 KB, at worst the 64 KB that a message may have and as much
/// for its response, which makes 512 MB. A silent registrar holds a place for half a minute: 4,096 places let 128
/// requests a second go to registrars that never answer.
pub const CAPACITY: u32 = 4096;

/// Most requests of one gRPC connection that are looked at: one beyond [`CAPACITY`] is refused at once, instead of
/// waiting unseen in the connection for a place (hyper's default is 200).
pub(super) const MAX_STREAMS: u32 = 2 * CAPACITY;

/// The Requester within its capacity. A request beyond it gets `RESOURCE_EXHAUSTED` at once: the caller knows best what
/// is urgent, and those in flight keep their places.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    inner: RequesterService,
    places: Arc<Semaphore>,
    capacity: u32,
}

impl Bounded {
    pub(super) fn new(inner: RequesterService, capacity: u32) -> Self {
        let places = usize::try_from(capacity).unwrap_or(Semaphore::MAX_PERMITS);
        Self { inner, places: Arc::new(Semaphore::new(places)), capacity }
    }
}

#[tonic::async_trait]
impl Requester for Bounded {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let Ok(_place) = self.places.try_acquire() else {
            let text = format!("{} requests are in flight, which is the Requester's capacity", self.capacity);
            return Err(Status::resource_exhausted(text));
        };
        self.inner.send_message(request).await
    }
}

/// Implements the `RequesterInfo` service.
#[derive(Clone, Debug)]
pub(super) struct Info {
    capacity: u32,
    instance: String,
}

impl Info {
    /// With an identity that no other process has.
    pub(super) fn new(capacity: u32) -> Self {
        let instance = format!("{:016x}{:016x}", environment::random(), environment::random());
        Self { capacity, instance }
    }
}

#[tonic::async_trait]
impl RequesterInfo for Info {
    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Ok(Response::new(GetResponse { capacity: self.capacity, instance: self.instance.clone() }))
    }
}
