//! Lists trunks from an API server.
//!
//! `FindBy` has everything in one message, so that is taken apart without decoding it as a whole: an item
//! stays a slice of the message until the engine asks for more than its ref. `List` reads page by page; it is
//! used once the list is large, or where the server refuses the size, if the server offers it at all. A
//! method that was refused is tried again later.

mod bounds;
mod call;
mod look_up;
mod methods;
mod page;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc::Sender, time::Instant};

#[doc(hidden)] // public for fuzz/
pub use self::page::{MAX_REF_BYTES, Part, RawTrunk, Take, next_part};
use self::{
    bounds::Progress,
    call::{CallFailure, MAX_PAGE_BYTES},
    methods::{Method, Methods},
};
use super::{
    GrpcError,
    shared::{ApiConnection, Connections, Shared},
};
use crate::{
    config::{Endpoint, SyncBounds},
    proto::trunks as pb,
    quota::Quota,
    runtime::ports::TrunkSource,
};
use routr_registration::model::{Absence, SourceError};
use routr_types::text;

/// Trunks in one batch to the engine: small enough that handling it delays no refresh.
const MAX_TRUNKS_PER_BATCH: usize = 256;
/// Bytes of trunks in one batch, by the same reason.
const MAX_BYTES_PER_BATCH: usize = 256 << 10;
/// Trunks, and bytes, that are skipped or taken before other tasks get their turn.
const MAX_TRUNKS_PER_TURN: usize = 1_024;
const MAX_BYTES_PER_TURN: usize = 256 << 10;
/// Processor time that receiving a byte counts for, in nanoseconds: HTTP/2, gRPC and copies.
const RECEIVE_NS_PER_BYTE: u64 = 2;
/// Bytes of the longest page token.
const MAX_PAGE_TOKEN_BYTES: usize = 64 << 10;

/// The trunks of an API server.
#[derive(Debug)]
pub struct ApiServer {
    connection: Shared<ApiConnection>,
    timeout: Duration,
    bounds: SyncBounds,
    methods: Mutex<Methods>,
    take: Take,
    quota: Arc<Quota>,
}

impl ApiServer {
    /// Connects at the first list, by a connection of its own.
    ///
    /// # Errors
    /// When the address or a file of TLS cannot be used.
    pub fn new(endpoint: &Endpoint, bounds: SyncBounds) -> Result<Self, GrpcError> {
        Self::sharing(endpoint, bounds, &Connections::default())
    }

    /// Connects at the first list, by a connection that others may use too.
    ///
    /// # Errors
    /// When the address or a file of TLS cannot be used.
    pub fn sharing(
        endpoint: &Endpoint,
        bounds: SyncBounds,
        connections: &Connections,
    ) -> Result<Self, GrpcError> {
        let connection = connections.api(endpoint);
        connection.check()?;
        let max_trunk_bytes = usize::try_from(bounds.max_trunk_bytes).unwrap_or(usize::MAX);
        let take = Take { max_trunk_bytes, ..Take::default() };
        Ok(Self {
            connection,
            timeout: endpoint.timeout,
            bounds,
            methods: Mutex::default(),
            take,
            quota: Quota::unlimited(),
        })
    }

    /// Takes what it needs from a Registry's quota.
    #[must_use]
    pub fn within(self, quota: &Arc<Quota>) -> Self {
        self.connection.paid_by(quota);
        Self { quota: quota.clone(), ..self }
    }

    /// Returns what is known of the server's methods. Never held across an `await`.
    fn methods(&self) -> MutexGuard<'_, Methods> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the list by the method that fits, and by the other one where the server refuses that.
    async fn read(
        &self,
        progress: &mut Progress<'_>,
        batches: &Sender<Vec<RawTrunk>>,
    ) -> Result<Absence, SourceError> {
        let mut refusals = Vec::new();
        let order = self.methods().order(Instant::now());
        for method in order {
            let result = match method {
                Method::FindBy => self.find_by(progress, batches).await,
                Method::List => self.pages(progress, batches).await,
            };
            let refusal = match result {
                Ok(absence) => {
                    self.methods().worked(method, progress.trunks());
                    return Ok(absence);
                }
                Err(CallFailure::Error(error)) => return Err(error),
                Err(refusal) => refusal,
            };
            let why = refusal.describe(method);
            if self.methods().refused(method, Instant::now()) && method == Method::FindBy {
                tracing::info!(%why, "the API server does not list all trunks at once: trying pages");
            } else {
                tracing::debug!(%why, ?method, "the API server does not list the trunks by this method");
            }
            refusals.push((method, refusal));
            if progress.trunks() > 0 {
                break;
            }
        }
        Err(call::all_refused(&refusals))
    }

    async fn find_by(
        &self,
        progress: &mut Progress<'_>,
        batches: &Sender<Vec<RawTrunk>>,
    ) -> Result<Absence, CallFailure> {
        const METHOD: &str = "/fonoster.routr.connect.trunks.v2beta1.Trunks/FindBy";
        let request = pb::FindByRequest { field_name: "sendRegister".into(), field_value: "true".into() };
        let received = self.quota.response();
        let message = self.call(METHOD, request, progress.room(self.quota.max_response()), &received).await?;
        self.hand_over(message, progress, batches).await?;
        // An empty message is what is left of a good one when something between goes wrong.
        Ok(if progress.trunks() > 0 { Absence::Certain } else { Absence::Unconfirmed })
    }

    async fn pages(
        &self,
        progress: &mut Progress<'_>,
        batches: &Sender<Vec<RawTrunk>>,
    ) -> Result<Absence, CallFailure> {
        const METHOD: &str = "/fonoster.routr.connect.trunks.v2beta1.Trunks/List";
        // Hashes: a token may be long.
        let mut seen = HashSet::new();
        let (mut token, mut last_ref) = (String::new(), None);
        let mut page_size = self.methods().page_size();
        loop {
            progress.page()?;
            let request = pb::ListTrunkRequest { page_size, page_token: token.clone() };
            let most = MAX_PAGE_BYTES.min(self.quota.max_response());
            let room = progress.room(most);
            let received = self.quota.response();
            let message = match self.call(METHOD, request, room, &received).await {
                Ok(message) => message,
                Err(CallFailure::TooLarge { found, .. }) if found.is_some() && room < most => {
                    return Err(progress.too_many_bytes(found).into());
                }
                // A page of fewer trunks may fit.
                Err(CallFailure::TooLarge { .. }) if page_size > 1 => {
                    page_size = self.methods().shrink_pages();
                    continue;
                }
                Err(refusal) if token.is_empty() => return Err(refusal),
                // What it did for one page it does for all, unless the server was replaced in between.
                Err(refusal) => return Err(refusal.in_mid_list().into()),
            };
            let page = self.hand_over(message, progress, batches).await?;
            let next = page.next_page_token;
            if next.is_empty() {
                let from_ref = page.items == 0 && !token.is_empty() && last_ref.as_ref() == Some(&token);
                if from_ref {
                    self.confirm_end(token, progress).await?;
                }
                let whole = seen.is_empty() && page.items > 0;
                return Ok(if whole { Absence::Certain } else { Absence::Unconfirmed });
            }
            if next.len() > MAX_PAGE_TOKEN_BYTES {
                let what = format!(
                    "nextPageToken has {} bytes; at most {MAX_PAGE_TOKEN_BYTES} are allowed",
                    next.len()
                );
                return Err(SourceError::Malformed(what.into()).into());
            }
            if next == token || !seen.insert(self.take.hasher.hash_one(&next)) {
                let shown = text::quoted(&next, 60);
                let what = format!(
                    "nextPageToken {shown} came twice, so the pages have no end; each page must have a token of its own"
                );
                return Err(SourceError::Malformed(what.into()).into());
            }
            last_ref = page.last_ref.or(last_ref);
            token = next;
        }
    }

    /// An empty page is the end, unless the trunk that it begins after has been deleted meanwhile: then, too,
    /// the page is empty, and what would have followed must not be taken for gone. Only where tokens are
    /// refs.
    async fn confirm_end(&self, token: String, progress: &mut Progress<'_>) -> Result<(), CallFailure> {
        let cursor = self.take.hasher.hash_one(&token);
        progress.page()?;
        match self.get(&token).await {
            // A trunk that is deleted is not listed the next time: this server's `Get` knows not all that its
            // `List` does.
            Err(CallFailure::NotFound) if self.methods().deleted_before(cursor) => Ok(()),
            Err(CallFailure::NotFound) => {
                self.methods().deleted(cursor);
                let what = "a trunk was deleted while the pages were read, so the list is not complete";
                Err(SourceError::Malformed(what.into()).into())
            }
            Err(CallFailure::Error(
                error @ (SourceError::Unavailable(_) | SourceError::NoRoom(_) | SourceError::Deadline(_)),
            )) => Err(error.into()),
            // It cannot be asked for one trunk. The next list has to confirm what this one lacks.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Takes a list apart, and hands over the trunks with `sendRegister`.
    async fn hand_over(
        &self,
        message: Bytes,
        progress: &mut Progress<'_>,
        batches: &Sender<Vec<RawTrunk>>,
    ) -> Result<Taken, SourceError> {
        let receiving = u64::try_from(message.len()).unwrap_or(u64::MAX).saturating_mul(RECEIVE_NS_PER_BYTE);
        let turn = self.quota.decode_turn().await;
        let began = Instant::now();
        let taken = self.take_apart(message, progress, batches).await;
        drop(turn);
        self.quota.spent(began.elapsed() + Duration::from_nanos(receiving)).await;
        taken
    }

    /// Takes a list apart as [`ApiServer::hand_over`] does, without accounting for it.
    async fn take_apart(
        &self,
        message: Bytes,
        progress: &mut Progress<'_>,
        batches: &Sender<Vec<RawTrunk>>,
    ) -> Result<Taken, SourceError> {
        let mut taken = Taken::default();
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        progress.response(message.len())?;
        let mut rest = message;
        let (mut parts, mut last_ref, mut turn_ends) = (0_usize, Bytes::new(), rest.len());
        while let Some(part) = next_part(&mut rest, &self.take)? {
            parts += 1;
            if parts.is_multiple_of(MAX_TRUNKS_PER_TURN) || turn_ends - rest.len() > MAX_BYTES_PER_TURN {
                turn_ends = rest.len();
                tokio::task::yield_now().await;
            }
            match part {
                Part::Trunk(trunk) => {
                    progress.trunk()?;
                    taken.items += 1;
                    last_ref = trunk.reference_bytes();
                    if trunk.sends_register() {
                        batch_bytes += trunk.decoded_bytes();
                        batch.push(trunk);
                    }
                }
                Part::NextPage(token) => taken.next_page_token = token,
                Part::Other => {}
            }
            if batch.len() == MAX_TRUNKS_PER_BATCH || batch_bytes >= MAX_BYTES_PER_BATCH {
                batch_bytes = 0;
                let full = std::mem::replace(&mut batch, Vec::with_capacity(MAX_TRUNKS_PER_BATCH));
                batches.send(full).await.map_err(|_| SourceError::Abandoned)?;
            }
        }
        if !batch.is_empty() {
            batches.send(batch).await.map_err(|_| SourceError::Abandoned)?;
        }
        // Whatever it is: it is compared only.
        taken.last_ref = String::from_utf8(last_ref.to_vec()).ok().filter(|last| !last.is_empty());
        Ok(taken)
    }
}

#[derive(Debug, Default)]
struct Taken {
    items: usize,
    last_ref: Option<String>,
    next_page_token: String,
}

impl TrunkSource for ApiServer {
    type Item = RawTrunk;

    async fn list(&self, batches: Sender<Vec<RawTrunk>>) -> Result<Absence, SourceError> {
        let mut progress = Progress::new(&self.bounds);
        let read = tokio::time::timeout(self.bounds.timeout, self.read(&mut progress, &batches)).await;
        let result = read.unwrap_or_else(|_| Err(progress.too_late()));
        if matches!(result, Err(SourceError::Unavailable(_))) {
            self.methods().connection_lost();
        }
        result
    }

    async fn look_up(
        &self,
        references: Vec<Box<str>>,
        batches: Sender<Vec<RawTrunk>>,
    ) -> Result<bool, SourceError> {
        let timeout = self.bounds.timeout;
        let all = tokio::time::timeout(timeout, self.look_up_all(&references, &batches)).await;
        all.unwrap_or(Err(SourceError::Deadline(timeout)))
    }

    fn rest(&self) {
        self.connection.rest();
    }
}
