//! The `Trunks` service over a snapshot of trunks.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::faults::{Faults, Rpc};
use crate::proto::trunks::{
    FindByRequest, FindByResponse, GetTrunkRequest, ListTrunkRequest, ListTrunksResponse, Trunk,
    trunks_server::Trunks,
};

/// The page size where a request asks for none.
const DEFAULT_PAGE: usize = 100;

/// All trunks at one moment, oldest first.
pub(super) struct Snapshot {
    trunks: Vec<Trunk>,
    generation: u64,
    positions: OnceLock<HashMap<String, usize>>,
}

impl Snapshot {
    pub(super) fn new(trunks: Vec<Trunk>, generation: u64) -> Self {
        Self { trunks, generation, positions: OnceLock::new() }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn trunks(&self) -> &[Trunk] {
        &self.trunks
    }

    /// Returns where the trunk of this ref stands. The index is built when it is first asked for: most
    /// servers never are.
    fn position(&self, reference: &str) -> Option<usize> {
        let positions = self.positions.get_or_init(|| {
            self.trunks.iter().enumerate().map(|(at, trunk)| (trunk.r#ref.clone(), at)).collect()
        });
        positions.get(reference).copied()
    }

    /// The trunks that are older than `after`, newest first. An unknown token has nothing behind it.
    fn page(&self, size: usize, after: &str) -> Vec<Trunk> {
        let end = if after.is_empty() { self.trunks.len() } else { self.position(after).unwrap_or(0) };
        self.trunks.iter().take(end).rev().take(size).cloned().collect()
    }
}

/// The service.
pub(super) struct Service {
    paged: bool,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    faults: Arc<Faults>,
    shutdown: CancellationToken,
}

impl Service {
    pub(super) fn new(
        paged: bool,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        faults: Arc<Faults>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { paged, snapshot, faults, shutdown }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }
}

type Matcher = Box<dyn Fn(&Trunk) -> bool + Send>;

/// A test for trunks, made from the two words of a `FindByRequest`.
fn matcher(field: &str, value: String) -> Result<Matcher, Status> {
    Ok(match field {
        "sendRegister" => {
            let wanted = value.parse::<bool>().map_err(|_| {
                Status::invalid_argument(format!(
                    "fieldValue: {value:?}: must be true or false for sendRegister"
                ))
            })?;
            Box::new(move |trunk| trunk.send_register == wanted)
        }
        "ref" => Box::new(move |trunk| trunk.r#ref == value),
        "name" => Box::new(move |trunk| trunk.name == value),
        "inboundUri" => Box::new(move |trunk| trunk.inbound_uri == value),
        _ => {
            return Err(Status::invalid_argument(format!(
                "fieldName: {field:?}: must be one of sendRegister, ref, name, inboundUri"
            )));
        }
    })
}

#[tonic::async_trait]
impl Trunks for Service {
    async fn get(&self, request: Request<GetTrunkRequest>) -> Result<Response<Trunk>, Status> {
        self.faults.before(Rpc::Get, &self.shutdown).await?;
        let reference = request.into_inner().r#ref;
        let snapshot = self.snapshot();
        let found = snapshot.position(&reference).and_then(|at| snapshot.trunks.get(at)).cloned();
        let trunk =
            found.ok_or_else(|| Status::not_found(format!("there is no trunk of ref {reference:?}")))?;
        self.faults.after(Rpc::Get, &trunk)?;
        Ok(Response::new(trunk))
    }

    async fn find_by(&self, request: Request<FindByRequest>) -> Result<Response<FindByResponse>, Status> {
        self.faults.before(Rpc::FindBy, &self.shutdown).await?;
        let FindByRequest { field_name, field_value } = request.into_inner();
        let matches = matcher(&field_name, field_value)?;
        let items = self.snapshot().trunks.iter().filter(|trunk| matches(trunk)).cloned().collect();
        let answer = FindByResponse { items };
        self.faults.after(Rpc::FindBy, &answer)?;
        Ok(Response::new(answer))
    }

    async fn list(&self, request: Request<ListTrunkRequest>) -> Result<Response<ListTrunksResponse>, Status> {
        self.faults.before(Rpc::List, &self.shutdown).await?;
        if !self.paged {
            return Err(Status::unimplemented("List is not offered over resource files"));
        }
        let ListTrunkRequest { page_size, page_token } = request.into_inner();
        let size = usize::try_from(page_size).ok().filter(|size| *size > 0).unwrap_or(DEFAULT_PAGE);
        let items = self.snapshot().page(size, &page_token);
        let next_page_token = items.last().map(|trunk| trunk.r#ref.clone()).unwrap_or_default();
        let answer = ListTrunksResponse { items, next_page_token };
        self.faults.after(Rpc::List, &answer)?;
        Ok(Response::new(answer))
    }
}
