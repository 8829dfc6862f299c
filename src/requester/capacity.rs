//! Capacity of a Requester, and the service that reports it.

use tonic::{Request, Response, Status};

use routr_types::extension::Features;

use crate::proto::requester_info::{GetRequest, GetResponse, requester_info_server::RequesterInfo};

/// Most requests at a time from one caller; one beyond gets `RESOURCE_EXHAUSTED` at once: the caller knows
/// best what is urgent, and those in flight keep their places. All other callers have as many again, and one
/// target of a caller has a half of its places at most. Each costs memory alone: some 17 KB, at worst the 64
/// KB that a message may have and as much for its response; large ones share a bound of their own. A silent
/// registrar holds a place for half a minute: 4,096 places let 128 requests a second go to registrars that
/// never respond.
pub const DEFAULT_CAPACITY: u32 = 4096;

/// Most requests of one gRPC connection under way. Registries make further connections when one is busy; what
/// one connection can hold in memory, with the header list of each request, is bounded by it.
pub(super) const MAX_STREAMS: u32 = 1024;

/// Features understood here beyond Routr's contract.
const FEATURES: Features = Features::ALL;

/// Implements the `RequesterInfo` service.
#[derive(Clone, Debug)]
pub(super) struct Info {
    capacity: u32,
    instance: String,
}

impl Info {
    /// Makes an identity that no other process has.
    pub(super) fn new(capacity: u32) -> Self {
        let instance = format!("{:016x}{:016x}", routr_environment::random(), routr_environment::random());
        Self { capacity, instance }
    }
}

#[tonic::async_trait]
impl RequesterInfo for Info {
    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let features = FEATURES.words().into_iter().map(str::to_owned).collect();
        Ok(Response::new(GetResponse { capacity: self.capacity, instance: self.instance.clone(), features }))
    }
}
