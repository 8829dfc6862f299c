//! Takes a listing apart without decoding it as a whole: a trunk stays a slice of the message until more than its ref is wanted.

use std::hash::BuildHasher;

use bytes::{Buf, Bytes};
use hashbrown::DefaultHashBuilder;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use crate::{
    ports::{SourceError, TrunkItem},
    proto::trunks as pb,
    trunk::{Trunk, TrunkProblem},
};

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
        crate::grpc::trunk::decode(&self.bytes)
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
mod tests {
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
