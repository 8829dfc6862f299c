//! Codec by which messages pass through tonic: as bytes, encoded before a call and decoded after it.
//!
//! A `SipMessage` is some two kilobytes before anything it points to, and tonic moves what it is given
//! through a dozen layers and takes two buffers of 8 KiB for each call. With a thousand calls in flight, each
//! a task of its own, that was half of the processor time of a first wave. A response is checked against its
//! bounds before it is decoded, and a page of trunks is decoded trunk by trunk.

use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Bytes of a buffer where nothing is known of the messages: tonic's own.
const BUFFER: usize = 8 << 10;
/// tonic's own; only a stream of messages could reach it.
const YIELD_BYTES: usize = 32 << 10;

/// Takes messages as they are, on either side of a call.
#[derive(Clone, Copy, Debug)]
pub struct RawCodec {
    encode: usize,
    decode: usize,
}

impl Default for RawCodec {
    fn default() -> Self {
        Self::with_buffers(BUFFER, BUFFER)
    }
}

impl RawCodec {
    /// Begins with buffers of these sizes in bytes; they grow.
    pub const fn with_buffers(encode: usize, decode: usize) -> Self {
        Self { encode, decode }
    }
}

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.encode, YIELD_BYTES)
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.decode, YIELD_BYTES)
    }
}
