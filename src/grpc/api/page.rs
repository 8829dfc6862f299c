//! Takes a list apart without decoding it as a whole: a trunk stays a slice of the message until more than
//! its ref is wanted.

use std::hash::BuildHasher;

use bytes::{Buf, Bytes};
use hashbrown::DefaultHashBuilder;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::grpc::{shortened, trunk};
use routr_registration::{
    model::{SourceError, TrunkItem},
    trunk::{Trunk, TrunkProblem},
};

/// Bytes of the longest ref that distinguishes a trunk from others. Of a trunk with a longer one nothing but
/// that is known.
#[doc(hidden)] // public for fuzz/
pub const MAX_REF_BYTES: usize = 1_024;
/// Fields of an oversize trunk that are looked at for its ref: they come in the order of their numbers, as a
/// rule.
const MAX_FIELDS_SEARCHED: usize = 10_000;

/// Settings for taking trunks off a list.
#[doc(hidden)] // public for fuzz/
#[derive(Clone, Debug, Default)]
pub struct Take {
    /// Hasher of the fingerprints.
    pub hasher: DefaultHashBuilder,
    /// Bytes of the largest trunk that is decoded.
    pub max_trunk_bytes: usize,
}

/// A trunk as a slice of the message that it came in.
pub struct RawTrunk {
    bytes: Bytes,
    /// Its bytes on the wire.
    length: usize,
    reference: Bytes,
    fingerprint: u64,
    sends_register: bool,
    max_bytes: usize,
}

/// The fields that are wanted of every trunk.
#[derive(Default)]
struct Head {
    reference: Bytes,
    name: Bytes,
    sends_register: Option<bool>,
}

impl Head {
    /// Reads them from a trunk, as far as it is protobuf. Fields mostly come in the order of their numbers,
    /// but any order is good protobuf: a trunk must not be taken for one that is not to be registered.
    fn read(mut rest: Bytes, most: usize) -> (Self, bool) {
        let mut head = Self::default();
        for _ in 0..most {
            if !rest.has_remaining() {
                return (head, true);
            }
            if head.read_field(&mut rest).is_err() {
                break;
            }
        }
        (head, false)
    }

    fn read_field(&mut self, rest: &mut Bytes) -> Result<(), SourceError> {
        let (tag, wire_type) = decode_key(rest).map_err(not_protobuf)?;
        match (tag, wire_type) {
            (1, WireType::LengthDelimited) => self.reference = take(rest)?,
            (3, WireType::LengthDelimited) => self.name = take(rest)?,
            (4, WireType::Varint) => {
                self.sends_register = Some(decode_varint(rest).map_err(not_protobuf)? != 0);
            }
            (tag, wire_type) => {
                skip_field(wire_type, tag, rest, DecodeContext::default()).map_err(not_protobuf)?;
            }
        }
        Ok(())
    }
}

impl RawTrunk {
    /// Returns whether it has `sendRegister: true`.
    #[doc(hidden)] // for fuzz/
    pub fn sends_register(&self) -> bool {
        self.sends_register
    }

    /// Takes a trunk in whatever state it is: what is wrong with it is said when it is decoded, and is no
    /// other trunk's matter.
    pub(super) fn new(bytes: Bytes, how: &Take) -> Self {
        let searched = if bytes.len() > how.max_trunk_bytes { MAX_FIELDS_SEARCHED } else { usize::MAX };
        let (head, complete) = Head::read(bytes.clone(), searched);
        let fingerprint = how.hasher.hash_one(&bytes[..]);
        Self {
            // Where it is not known, it counts: it is reported, and what it had registered stays.
            sends_register: head.sends_register.unwrap_or(!complete),
            reference: head.reference,
            length: bytes.len(),
            bytes,
            fingerprint,
            max_bytes: how.max_trunk_bytes,
        }
    }

    /// A trunk that is known by its ref alone, because a response with it was too large.
    pub(super) fn oversize(reference: &str, found: Option<u64>, how: &Take) -> Self {
        let length = usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX);
        Self {
            bytes: Bytes::new(),
            length: length.max(how.max_trunk_bytes.saturating_add(1)),
            reference: Bytes::copy_from_slice(reference.as_bytes()),
            fingerprint: how.hasher.hash_one(length),
            sends_register: true,
            max_bytes: how.max_trunk_bytes,
        }
    }

    /// Its ref as it came.
    pub(super) fn reference_bytes(&self) -> Bytes {
        self.reference.clone()
    }

    /// Its bytes, as far as they are decoded.
    pub(super) fn decoded_bytes(&self) -> usize {
        if self.is_oversize() { 0 } else { self.length }
    }

    fn is_oversize(&self) -> bool {
        self.length > self.max_bytes
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
        let reference = std::str::from_utf8(&self.reference).ok()?;
        Some(reference).filter(|reference| (1..=MAX_REF_BYTES).contains(&reference.len()))
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn name(&self) -> String {
        let searched = if self.is_oversize() { MAX_FIELDS_SEARCHED } else { usize::MAX };
        let (head, _) = Head::read(self.bytes.clone(), searched);
        let name = std::str::from_utf8(&head.name).unwrap_or_default();
        shortened(name).into()
    }

    fn decode(&self) -> Result<Trunk, TrunkProblem> {
        if self.is_oversize() {
            return Err(trunk::oversize(self.length, self.max_bytes));
        }
        trunk::decode(&self.bytes, self.max_bytes)
    }
}

/// One field of a list.
#[doc(hidden)] // public for fuzz/
#[derive(Debug)]
pub enum Part {
    /// A trunk, with or without `sendRegister`.
    Trunk(RawTrunk),
    /// Token of the next page.
    NextPage(String),
    /// A field that a later version may have added.
    Other,
}

/// Takes the next field off a list; `None` at its end.
///
/// # Errors
/// When it is no protobuf. The content of a trunk does not matter to the list.
#[doc(hidden)] // public for fuzz/
pub fn next_part(rest: &mut Bytes, how: &Take) -> Result<Option<Part>, SourceError> {
    if !rest.has_remaining() {
        return Ok(None);
    }
    Ok(Some(match next_field(rest)? {
        (1, Some(item)) => Part::Trunk(RawTrunk::new(item, how)),
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
    use prost::Message;

    use super::*;
    use crate::proto::trunks as pb;

    const MAX_TRUNK_BYTES: usize = 262_144;

    fn take_off(item: &[u8]) -> RawTrunk {
        let mut message = vec![0x0a];
        prost::encoding::encode_varint(item.len() as u64, &mut message);
        message.extend_from_slice(item);
        let how = Take { max_trunk_bytes: MAX_TRUNK_BYTES, ..Take::default() };
        let part = next_part(&mut message.into(), &how).unwrap();
        let Some(Part::Trunk(trunk)) = part else { panic!("{part:?}") };
        trunk
    }

    fn trunk(uris: usize) -> pb::Trunk {
        pb::Trunk {
            r#ref: "t1".into(),
            name: "One".into(),
            send_register: true,
            uris: vec![pb::TrunkUri::default(); uris],
            ..pb::Trunk::default()
        }
    }

    #[test]
    fn the_fields_of_a_trunk_come_in_any_order() {
        let first = pb::Trunk { r#ref: "t1".into(), send_register: true, ..pb::Trunk::default() };
        let last = pb::Trunk { uris: vec![pb::TrunkUri::default()], ..pb::Trunk::default() };
        let trunk = take_off(&[last.encode_to_vec(), first.encode_to_vec()].concat());
        assert_eq!((trunk.reference(), trunk.sends_register()), (Some("t1"), true));
    }

    /// A trunk with this many empty URIs, two bytes each, without ever having them decoded.
    fn full_of_nothing(uris: usize) -> Vec<u8> {
        [trunk(0).encode_to_vec(), [0x5a, 0].repeat(uris)].concat()
    }

    #[test]
    fn g4_a_trunk_that_is_too_large_is_refused_before_it_is_decoded() {
        for (uris, problem) in [
            (
                6_000_000,
                "the trunk is too large: it has 12000011 bytes; at most 262144 are allowed; spec.sync.maxTrunkBytes",
            ),
            (
                100_000,
                "the trunk is too large: it has more than 8192 fields; spec.sync.maxTrunkBytes allows one field",
            ),
        ] {
            let taken = take_off(&full_of_nothing(uris));
            assert_eq!(
                (taken.reference(), taken.sends_register(), &*taken.name()),
                (Some("t1"), true, "One")
            );
            let said = taken.decode().unwrap_err().to_string();
            assert!(said.starts_with(problem), "{said}");
        }
        let said = take_off(&full_of_nothing(8_000)).decode().unwrap_err().to_string();
        assert!(!said.contains("too large"), "{said}");
    }

    #[test]
    fn g4_an_oversize_trunk_whose_ref_comes_late_is_not_taken_for_one_that_is_gone() {
        let (big, long) = ([0x5a, 0].repeat(200_000), pb::Trunk { name: "n".repeat(999), ..trunk(0) });
        let late = take_off(&[big.clone(), long.encode_to_vec()].concat());
        assert_eq!((late.reference(), late.sends_register()), (None, true), "it is left out and reported");
        let early = take_off(&[long.encode_to_vec(), big].concat());
        assert_eq!((early.reference(), early.sends_register()), (Some("t1"), true));
        assert!(early.name().ends_with("n... (cut)") && early.name().len() <= 400, "{}", early.name());
    }

    #[test]
    fn one_trunk_that_cannot_be_read_is_its_own_matter() {
        let whole = trunk(3).encode_to_vec();
        let cut = take_off(&whole[..whole.len() - 1]);
        assert_eq!((cut.reference(), cut.sends_register()), (Some("t1"), true));
        assert!(cut.decode().unwrap_err().to_string().contains("not a valid protobuf message"));
        for reference in [&[0xff, 0xfe][..], &[b'r'; MAX_REF_BYTES + 1], &[]] {
            let mut item = vec![0x20, 1, 0x0a];
            prost::encoding::encode_varint(reference.len() as u64, &mut item);
            item.extend_from_slice(reference);
            assert_eq!((take_off(&item).reference(), take_off(&item).sends_register()), (None, true));
        }
        assert!(!take_off(&[0x0a, 1, b'x']).sends_register(), "nothing says that it is to be registered");
    }
}
