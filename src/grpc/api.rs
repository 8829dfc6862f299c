//! Lists trunks from an API server.
//!
//! `FindBy` answers everything in one message, so that is taken apart without decoding it as a whole: an item stays a
//! slice of the message until the engine asks for more than its ref. `List` reads page by page; it is used once the list is
//! large, or where the server refuses the size, if the server offers it at all.

mod listing;

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hashbrown::DefaultHashBuilder;
use prost::Message;
use tokio::sync::mpsc::Sender;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

pub use self::listing::{Part, RawTrunk, next_part};
use super::{
    Failure, GrpcError, describe, failure,
    shared::{ApiConnection, Connections, Shared},
};
use crate::{
    config::Endpoint,
    ports::{SourceError, TrunkSource},
    proto::trunks as pb,
};

/// Trunks in one batch to the engine: small enough that handling it delays no refresh.
const BATCH: usize = 256;
/// Trunks in one page of `List`.
const PAGE: i32 = 1_000;
/// Bytes of the largest list that is read in one message: a million trunks take a quarter of it, and more where their names are long. Without a bound five bytes of
/// garbage could have 4 GiB allocated, and a server that never ends could fill the memory until the timeout.
const MAX_LIST: usize = 1 << 30;
/// Bytes of the largest page, or of a single trunk.
const MAX_PAGE: usize = 64 << 20;
/// From so many trunks on, pages are preferred.
const LARGE: usize = 10_000;

/// How the list is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    FindBy = 0,
    Pages = 1,
    /// The server has no `List`.
    FindByOnly = 2,
}

/// The trunks of an API server.
#[derive(Debug)]
pub struct ApiServer {
    connection: Shared<ApiConnection>,
    timeout: Duration,
    mode: AtomicU8,
    hasher: DefaultHashBuilder,
}

impl ApiServer {
    /// Connects at the first listing, by a connection of its own.
    ///
    /// # Errors
    /// When the address or the CA file cannot be used.
    pub fn new(endpoint: &Endpoint) -> Result<Self, GrpcError> {
        Self::sharing(endpoint, &Connections::default())
    }

    /// Connects at the first listing, by a connection that others may use too.
    ///
    /// # Errors
    /// When the address or the CA file cannot be used.
    pub fn sharing(endpoint: &Endpoint, connections: &Connections) -> Result<Self, GrpcError> {
        let connection = connections.api(endpoint);
        connection.check()?;
        let mode = AtomicU8::new(Mode::FindBy as u8);
        Ok(Self { connection, timeout: endpoint.timeout, mode, hasher: DefaultHashBuilder::default() })
    }

    fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Relaxed) {
            1 => Mode::Pages,
            2 => Mode::FindByOnly,
            _ => Mode::FindBy,
        }
    }

    fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Calls a method whose answer has at most `most` bytes.
    async fn call<M: Message + 'static>(
        &self,
        method: &'static str,
        message: M,
        most: usize,
    ) -> Result<Bytes, Refusal> {
        let unusable =
            |error: GrpcError| Refusal::Error(SourceError::Unavailable(error.to_string().into_boxed_str()));
        let connection = self.connection.get().map_err(unusable)?;
        // Never closed. Waiting for a turn is no fault of the API server, and counts for no deadline.
        let _turn = connection.lists.acquire().await.ok();
        let mut client = Grpc::new(connection.channel.clone()).max_decoding_message_size(most);
        let call = async {
            client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            client.unary(Request::new(message), PathAndQuery::from_static(method), RawCodec::default()).await
        };
        let late = || Refusal::Error(SourceError::Deadline(self.timeout));
        match tokio::time::timeout(self.timeout, call).await {
            Err(_) => Err(late()),
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(match (status.code(), failure(&status)) {
                (Code::Unimplemented, _) => Refusal::Unimplemented,
                (Code::NotFound, _) => Refusal::NotFound,
                (Code::ResourceExhausted | Code::OutOfRange, _) => Refusal::TooLarge(describe(&status)),
                (_, Failure::Unavailable) => Refusal::Error(SourceError::Unavailable(describe(&status))),
                (_, Failure::Deadline) => late(),
                (_, Failure::Refused) => Refusal::Error(SourceError::Refused(describe(&status))),
            }),
        }
    }

    async fn find_by(&self, batches: &Sender<Vec<RawTrunk>>) -> Result<usize, Refusal> {
        const METHOD: &str = "/fonoster.routr.connect.trunks.v2beta1.Trunks/FindBy";
        let request = pb::FindByRequest { field_name: "sendRegister".into(), field_value: "true".into() };
        let message = self.call(METHOD, request, MAX_LIST).await?;
        Ok(self.hand_over(message, batches).await?.items)
    }

    async fn pages(&self, batches: &Sender<Vec<RawTrunk>>) -> Result<(), Refusal> {
        const METHOD: &str = "/fonoster.routr.connect.trunks.v2beta1.Trunks/List";
        let mut page_token = String::new();
        loop {
            let request = pb::ListTrunkRequest { page_size: PAGE, page_token: page_token.clone() };
            let message = self.call(METHOD, request, MAX_PAGE).await?;
            let page = self.hand_over(message, batches).await?;
            if page.items == 0 {
                return self.confirm_end(page_token).await;
            }
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            if page.next_page_token == page_token {
                let what = format!("nextPageToken {page_token:?} came twice; each page must lead on");
                return Err(Refusal::Error(SourceError::Malformed(what.into())));
            }
            page_token = page.next_page_token;
        }
    }

    /// An empty page is the end, unless the trunk that it was to begin after has been deleted meanwhile: then, too, the
    /// page is empty, and what would have followed must not be taken for gone.
    async fn confirm_end(&self, page_token: String) -> Result<(), Refusal> {
        const METHOD: &str = "/fonoster.routr.connect.trunks.v2beta1.Trunks/Get";
        if page_token.is_empty() {
            return Ok(());
        }
        match self.call(METHOD, pb::GetTrunkRequest { r#ref: page_token }, MAX_PAGE).await {
            Err(Refusal::NotFound) => {
                let what = "a trunk was deleted while the pages were read, so the list is not complete";
                Err(Refusal::Error(SourceError::Malformed(what.into())))
            }
            result => result.map(drop),
        }
    }

    /// Takes a listing apart, and hands those with `sendRegister` over.
    async fn hand_over(&self, message: Bytes, batches: &Sender<Vec<RawTrunk>>) -> Result<Taken, SourceError> {
        let mut taken = Taken::default();
        let mut batch = Vec::with_capacity(BATCH);
        let mut rest = message;
        while let Some(part) = next_part(&mut rest, &self.hasher)? {
            match part {
                Part::Trunk(trunk) => {
                    taken.items += 1;
                    if trunk.sends_register() {
                        batch.push(trunk);
                    }
                }
                Part::NextPage(token) => taken.next_page_token = token,
                Part::Other => {}
            }
            if batch.len() == BATCH {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                batches.send(full).await.map_err(|_| SourceError::Abandoned)?;
            }
        }
        batches.send(batch).await.map_err(|_| SourceError::Abandoned)?;
        Ok(taken)
    }
}

#[derive(Debug, Default)]
struct Taken {
    items: usize,
    next_page_token: String,
}

enum Refusal {
    Unimplemented,
    NotFound,
    TooLarge(Box<str>),
    Error(SourceError),
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Error(error)
    }
}

impl From<Refusal> for SourceError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unimplemented => {
                Self::Refused("it does not implement FindBy of Routr's Trunks service".into())
            }
            Refusal::NotFound => Self::Refused("it answers NOT_FOUND to a listing".into()),
            Refusal::TooLarge(message) => Self::Refused(message),
            Refusal::Error(error) => error,
        }
    }
}

impl TrunkSource for ApiServer {
    type Item = RawTrunk;

    async fn list(&self, batches: Sender<Vec<RawTrunk>>) -> Result<(), SourceError> {
        if self.mode() == Mode::Pages {
            match self.pages(&batches).await {
                Err(Refusal::Unimplemented) => self.set_mode(Mode::FindByOnly),
                result => return Ok(result?),
            }
        }
        match self.find_by(&batches).await {
            Ok(items) => {
                if items > LARGE && self.mode() == Mode::FindBy {
                    tracing::debug!(items, "the list is large: it will be read in pages, if there are any");
                    self.set_mode(Mode::Pages);
                }
                Ok(())
            }
            Err(Refusal::TooLarge(why)) if self.mode() != Mode::FindByOnly => {
                tracing::info!(%why, "the API server refuses to list all trunks at once: reading them in pages");
                match self.pages(&batches).await {
                    Ok(()) => {
                        self.set_mode(Mode::Pages);
                        Ok(())
                    }
                    Err(Refusal::Unimplemented) => Err(SourceError::Refused(why)),
                    Err(refusal) => Err(refusal.into()),
                }
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn rest(&self) {
        self.connection.rest();
    }
}

/// Encodes as prost does, and leaves what comes back as it is.
#[derive(Debug)]
struct RawCodec<M>(std::marker::PhantomData<M>);

impl<M> Default for RawCodec<M> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<M: Message + 'static> Codec for RawCodec<M> {
    type Encode = M;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = RawDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        RawDecoder
    }
}

impl<M: Message + 'static> Encoder for RawCodec<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, item: M, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

#[derive(Debug)]
struct RawDecoder;

impl Decoder for RawDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
