//! Lists trunks from an API server.
//!
//! `FindBy` answers everything in one message, so that is taken apart without decoding it as a whole: an item stays a
//! slice of the message until the engine asks for more than its ref. `List` reads page by page; it is used once the list is
//! large, or where the server refuses the size, if the server offers it at all.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hashbrown::DefaultHashBuilder;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tokio::sync::mpsc::Sender;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use super::{Failure, GrpcError, channel, describe, failure};
use crate::{
    config::Endpoint,
    ports::{SourceError, TrunkItem, TrunkSource},
    proto::trunks as pb,
    trunk::{Trunk, TrunkProblem},
};

/// Trunks in one batch to the engine: small enough that handling it delays no refresh.
const BATCH: usize = 256;
/// Trunks in one page of `List`.
const PAGE: i32 = 1_000;
/// Bytes of the largest list that is read in one message: a million trunks take some 400 MB. Without a bound five bytes of
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
    channel: Channel,
    timeout: Duration,
    mode: AtomicU8,
    hasher: DefaultHashBuilder,
}

impl ApiServer {
    /// Connects at the first listing.
    ///
    /// # Errors
    /// When the address or the CA file is of no use.
    pub fn new(endpoint: &Endpoint) -> Result<Self, GrpcError> {
        let channel = channel::open(endpoint, None)?;
        let mode = AtomicU8::new(Mode::FindBy as u8);
        Ok(Self { channel, timeout: endpoint.timeout, mode, hasher: DefaultHashBuilder::default() })
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
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(most);
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
                    if trunk.sends_register {
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
}

/// A trunk as a slice of the message that it came in.
pub struct RawTrunk {
    bytes: Bytes,
    reference: Bytes,
    fingerprint: u64,
    sends_register: bool,
}

impl RawTrunk {
    /// Whether it is to be registered.
    #[doc(hidden)] // for fuzz/
    pub fn sends_register(&self) -> bool {
        self.sends_register
    }

    fn new(bytes: Bytes, hasher: &DefaultHashBuilder) -> Result<Self, SourceError> {
        let (mut reference, mut sends_register) = (Bytes::new(), false);
        let mut rest = bytes.clone();
        while rest.has_remaining() {
            let (tag, wire_type) = decode_key(&mut rest).map_err(not_protobuf)?;
            match (tag, wire_type) {
                (1, WireType::LengthDelimited) => reference = take(&mut rest)?,
                (4, WireType::Varint) => {
                    sends_register = decode_varint(&mut rest).map_err(not_protobuf)? != 0;
                }
                // Fields mostly come in the order of their numbers, but any order is good protobuf: a trunk must not be
                // taken for one that is not to be registered.
                (tag, wire_type) => {
                    skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(not_protobuf)?;
                }
            }
        }
        if std::str::from_utf8(&reference).is_err() {
            return Err(SourceError::Malformed("a trunk's ref is not valid UTF-8".into()));
        }
        let fingerprint = hasher.hash_one(&bytes[..]);
        Ok(Self { bytes, reference, fingerprint, sends_register })
    }
}

impl std::fmt::Debug for RawTrunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its bytes hold the password.
        f.debug_tuple("RawTrunk").field(&self.reference().unwrap_or_default()).finish()
    }
}

impl TrunkItem for RawTrunk {
    fn reference(&self) -> Option<&str> {
        std::str::from_utf8(&self.reference).ok().filter(|reference| !reference.is_empty())
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn name(&self) -> String {
        pb::Trunk::decode(&self.bytes[..]).map_or_else(|_| String::new(), |trunk| trunk.name)
    }

    fn decode(&self) -> Result<Trunk, TrunkProblem> {
        super::trunk::decode(&self.bytes)
    }
}

/// One field of a listing.
#[doc(hidden)] // public for fuzz/
#[derive(Debug)]
pub enum Part {
    /// A trunk, with or without `sendRegister`.
    Trunk(RawTrunk),
    /// What to ask the next page by.
    NextPage(String),
    /// What a later version may have added.
    Other,
}

/// Takes the next field off a listing; `None` at its end.
///
/// # Errors
/// When it is no protobuf, or a trunk's ref is no text.
#[doc(hidden)] // public for fuzz/
pub fn next_part(rest: &mut Bytes, hasher: &DefaultHashBuilder) -> Result<Option<Part>, SourceError> {
    if !rest.has_remaining() {
        return Ok(None);
    }
    Ok(Some(match next_field(rest)? {
        (1, Some(item)) => Part::Trunk(RawTrunk::new(item, hasher)?),
        (2, Some(token)) => Part::NextPage(String::from_utf8_lossy(&token).into_owned()),
        _ => Part::Other,
    }))
}

/// The number of the next field, and its bytes where it is length-delimited.
fn next_field(rest: &mut Bytes) -> Result<(u32, Option<Bytes>), SourceError> {
    let (tag, wire_type) = decode_key(rest).map_err(not_protobuf)?;
    if wire_type == WireType::LengthDelimited {
        return Ok((tag, Some(take(rest)?)));
    }
    skip_field(wire_type, tag, rest, DecodeContext::default()).map_err(not_protobuf)?;
    Ok((tag, None))
}

fn take(rest: &mut Bytes) -> Result<Bytes, SourceError> {
    let length = decode_varint(rest).map_err(not_protobuf)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= rest.remaining());
    let length = length.ok_or_else(|| SourceError::Malformed("a field is longer than the message".into()))?;
    Ok(rest.copy_to_bytes(length))
}

fn not_protobuf(error: prost::DecodeError) -> SourceError {
    SourceError::Malformed(format!("not a valid protobuf message: {error}").into())
}

#[cfg(test)]
mod part_tests {
    use super::*;

    #[test]
    fn the_fields_of_a_trunk_come_in_any_order() {
        let first = pb::Trunk { r#ref: "t1".into(), send_register: true, ..pb::Trunk::default() };
        let last = pb::Trunk { uris: vec![pb::TrunkUri::default()], ..pb::Trunk::default() };
        let item = [last.encode_to_vec(), first.encode_to_vec()].concat();
        let mut message = vec![0x0a, u8::try_from(item.len()).unwrap()];
        message.extend_from_slice(&item);
        let part = next_part(&mut message.into(), &DefaultHashBuilder::default()).unwrap();
        let Some(Part::Trunk(trunk)) = part else { panic!("{part:?}") };
        assert_eq!((trunk.reference(), trunk.sends_register()), (Some("t1"), true));
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
