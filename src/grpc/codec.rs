//! How REGISTERs pass through tonic: encoded before the call, decoded to what the engine wants to know.
//!
//! A `SipMessage` is some two kilobytes before anything it points to, and tonic moves what it is given through a dozen layers
//! and takes two buffers of 8 KiB for each call. With a thousand calls in flight, each a task of its own, that was half of the
//! processor time of a first wave.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::wire;
use crate::{
    ports::Reply,
    proto::{requester::SendMessageResponse, sipmessage::SipMessage},
};

/// Holds a REGISTER with gRPC's prefix, as a rule, and is small enough for the quick lists of an allocator (glibc's go up to
/// 1,032 bytes).
const SENT: usize = 1_000;
/// The same for an answer.
const RECEIVED: usize = 500;
/// Bounds on a response, before it is decoded: a SIP message over UDP has 64 KiB at most. 4 MB of empty header fields would become
/// 1 GB.
const LIMITS: wire::Limits = wire::Limits { bytes: MAX_RESPONSE, fields: 4_096, depth: 16 };
/// Bytes of the largest response that is taken.
pub(super) const MAX_RESPONSE: usize = 256 << 10;
/// tonic's own; only a stream of messages could reach it.
const YIELD: usize = 32 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct RegisterCodec {
    /// What is made of an answer.
    pub read: fn(SipMessage) -> Reply,
}

impl Codec for RegisterCodec {
    type Encode = Bytes;
    type Decode = Reply;
    type Encoder = Encoded;
    type Decoder = Self;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Self {
        Self { read: self.read }
    }
}

/// Takes messages as they are.
#[derive(Debug)]
pub(super) struct Encoded;

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(SENT, YIELD)
    }
}

impl Decoder for RegisterCodec {
    type Item = Reply;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Reply>, Status> {
        let response = buffer.copy_to_bytes(buffer.remaining());
        wire::check(&response, &wire::SEND_MESSAGE_RESPONSE, &LIMITS)
            .map_err(|excess| Status::out_of_range(format!("the response is too large: {excess}")))?;
        let response =
            SendMessageResponse::decode(response).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(response.message.map(self.read).unwrap_or_default()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(RECEIVED, YIELD)
    }
}
