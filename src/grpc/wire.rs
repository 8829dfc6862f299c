//! Bounds on protobuf messages, checked on their bytes before prost decodes them.
//!
//! A field takes two bytes on the wire and up to some hundred when it is decoded: 12 MB of empty URIs become
//! 1.2 GB. So the fields are counted first, without any allocation, in all messages that prost would decode.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The fields of a message that are messages themselves, by their number. All others cost what they have on
/// the wire.
#[derive(Debug)]
pub struct Shape(&'static [(u32, &'static Shape)]);

/// Bounds on one message.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the whole message.
    pub bytes: usize,
    /// Fields of the message and of all messages in it.
    pub fields: usize,
    /// Messages within messages.
    pub depth: usize,
}

/// The bound that a message exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// Too long.
    #[error("it has {found} bytes; at most {most} are allowed")]
    Bytes {
        /// Its bytes.
        found: usize,
        /// The bound.
        most: usize,
    },
    /// Too many fields. They are not counted to their end.
    #[error("it has more than {most} fields")]
    Fields {
        /// The bound.
        most: usize,
    },
    /// Too deep.
    #[error("it has messages within messages more than {most} deep")]
    Depth {
        /// The bound.
        most: usize,
    },
}

/// Checks a message against its bounds. Bytes that are no protobuf end the check: prost, too, stops there.
///
/// # Errors
/// The first bound that is exceeded.
pub fn check(message: &[u8], shape: &Shape, limits: &Limits) -> Result<(), Excess> {
    if message.len() > limits.bytes {
        return Err(Excess::Bytes { found: message.len(), most: limits.bytes });
    }
    let mut counter = Counter { fields: 0, limits };
    counter.count(message, shape, 1).map(drop)
}

struct Counter<'a> {
    fields: usize,
    limits: &'a Limits,
}

impl Counter<'_> {
    /// Counts the fields of one message. `None`: it is no protobuf.
    fn count(&mut self, mut rest: &[u8], shape: &Shape, depth: usize) -> Result<Option<()>, Excess> {
        if depth > self.limits.depth {
            return Err(Excess::Depth { most: self.limits.depth });
        }
        while !rest.is_empty() {
            self.fields += 1;
            if self.fields > self.limits.fields {
                return Err(Excess::Fields { most: self.limits.fields });
            }
            let Ok((tag, wire_type)) = decode_key(&mut rest) else { return Ok(None) };
            if wire_type != WireType::LengthDelimited {
                let skipped = skip_field(wire_type, tag, &mut rest, DecodeContext::default());
                if skipped.is_err() {
                    return Ok(None);
                }
                continue;
            }
            let Some(field) = take(&mut rest) else { return Ok(None) };
            let inner = shape.0.iter().find(|(number, _)| *number == tag);
            if let Some((_, inner)) = inner
                && self.count(field, inner, depth + 1)?.is_none()
            {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
}

/// Takes a length-delimited field off the front; `None` where it is longer than what is left.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let whole: &'a [u8] = rest;
    let field = whole.get(..length)?;
    rest.advance(length);
    Some(field)
}

static EMPTY: Shape = Shape(&[]);
/// `google.protobuf.Struct`, whose values hold more of them.
static STRUCT: Shape = Shape(&[(1, &STRUCT_ENTRY)]);
static STRUCT_ENTRY: Shape = Shape(&[(2, &VALUE)]);
static VALUE: Shape = Shape(&[(5, &STRUCT), (6, &LIST_VALUE)]);
static LIST_VALUE: Shape = Shape(&[(1, &VALUE)]);
/// `AccessControlList` and `Credentials`.
static WITH_EXTENDED: Shape = Shape(&[(8, &STRUCT)]);

/// `Trunk`.
pub static TRUNK: Shape =
    Shape(&[(8, &WITH_EXTENDED), (9, &WITH_EXTENDED), (10, &WITH_EXTENDED), (11, &EMPTY), (12, &STRUCT)]);

/// `Address`.
static ADDRESS: Shape = Shape(&[(1, &EMPTY)]);
/// `From`, `To`.
static NAMED: Shape = Shape(&[(1, &ADDRESS), (3, &EMPTY)]);
/// `Route`, `RecordRoute`.
static ROUTED: Shape = Shape(&[(1, &ADDRESS), (2, &EMPTY)]);
/// `Contact`.
static CONTACT: Shape = Shape(&[(1, &ADDRESS)]);
static SIP_MESSAGE: Shape = Shape(&[
    (2, &EMPTY),
    (3, &NAMED),
    (4, &NAMED),
    (5, &CONTACT),
    (6, &EMPTY),
    (7, &EMPTY),
    (8, &EMPTY),
    (9, &EMPTY),
    (10, &EMPTY),
    (11, &EMPTY),
    (12, &EMPTY),
    (13, &EMPTY),
    (14, &ROUTED),
    (15, &ROUTED),
]);

/// `SendMessageResponse`.
pub static SEND_MESSAGE_RESPONSE: Shape = Shape(&[(1, &SIP_MESSAGE)]);

/// `SendMessageRequest`.
pub static SEND_MESSAGE_REQUEST: Shape = Shape(&[(4, &SIP_MESSAGE)]);

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::{requester::SendMessageResponse, sipmessage as sip, trunks as pb};

    const LIMITS: Limits = Limits { bytes: 1 << 20, fields: 1_000, depth: 20 };

    fn trunk(message: &[u8]) -> Result<(), Excess> {
        check(message, &TRUNK, &LIMITS)
    }

    fn nested(levels: usize) -> prost_types::Struct {
        let kind = match levels {
            0 => prost_types::value::Kind::NullValue(0),
            _ => prost_types::value::Kind::StructValue(nested(levels - 1)),
        };
        prost_types::Struct { fields: [("a".to_owned(), prost_types::Value { kind: Some(kind) })].into() }
    }

    #[test]
    fn fields_are_counted_in_all_messages_to_the_bound() {
        let uris = |count| pb::Trunk { uris: vec![pb::TrunkUri::default(); count], ..pb::Trunk::default() };
        assert_eq!(trunk(&uris(1_000).encode_to_vec()), Ok(()));
        assert_eq!(trunk(&uris(1_001).encode_to_vec()), Err(Excess::Fields { most: 1_000 }));
        // Nulls in a list in a Struct, each of them two bytes and a Value.
        let list = prost_types::ListValue { values: vec![prost_types::Value::default(); 1_000] };
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::ListValue(list)) };
        let extended = prost_types::Struct { fields: [("a".to_owned(), value)].into() };
        for trunk_with in [
            pb::Trunk { extended: Some(extended.clone()), ..pb::Trunk::default() },
            pb::Trunk {
                inbound_credentials: Some(crate::proto::credentials::Credentials {
                    extended: Some(extended.clone()),
                    ..Default::default()
                }),
                ..pb::Trunk::default()
            },
        ] {
            assert_eq!(trunk(&trunk_with.encode_to_vec()), Err(Excess::Fields { most: 1_000 }));
        }
    }

    #[test]
    fn bytes_and_depth_are_bounded_and_long_texts_are_no_fields() {
        let named = |length| pb::Trunk { name: "n".repeat(length), ..pb::Trunk::default() }.encode_to_vec();
        assert_eq!(trunk(&named(1_000_000)), Ok(()));
        let long = named(1 << 20);
        assert_eq!(trunk(&long), Err(Excess::Bytes { found: long.len(), most: 1 << 20 }));
        let deep =
            |levels| pb::Trunk { extended: Some(nested(levels)), ..pb::Trunk::default() }.encode_to_vec();
        assert_eq!(trunk(&deep(5)), Ok(()));
        assert_eq!(trunk(&deep(9)), Err(Excess::Depth { most: 20 }));
    }

    #[test]
    fn a_response_full_of_empty_header_fields_is_over_the_bound() {
        for message in [
            sip::SipMessage { record_route: vec![sip::RecordRoute::default(); 999], ..Default::default() },
            sip::SipMessage { via: vec![sip::Via::default(); 999], ..Default::default() },
            sip::SipMessage { extensions: vec![sip::Extension::default(); 999], ..Default::default() },
        ] {
            let mut response = SendMessageResponse { message: Some(message) };
            let check = |response: &SendMessageResponse| {
                check(&response.encode_to_vec(), &SEND_MESSAGE_RESPONSE, &LIMITS)
            };
            assert_eq!(check(&response), Ok(()));
            response.message.as_mut().unwrap().from = Some(sip::From::default());
            assert_eq!(check(&response), Err(Excess::Fields { most: 1_000 }));
        }
    }

    #[test]
    fn what_is_no_protobuf_is_left_to_prost() {
        for bytes in [&[0xff; 20][..], &[0x5a, 0x7f, 0], &[0x0b], &[0x62, 2, 0xff, 0xff]] {
            assert_eq!(trunk(bytes), Ok(()));
            assert!(pb::Trunk::decode(bytes).is_err());
        }
    }

    /// All messages that the generated types hold are in the shapes: else their fields would go uncounted.
    #[test]
    fn the_shapes_are_those_of_the_generated_types() {
        let sip_uri = sip::SipUri { user: "u".into(), ..Default::default() };
        let address = Some(sip::Address { uri: Some(sip_uri.clone()), ..Default::default() });
        let parameters = std::collections::HashMap::from([("k".to_owned(), "v".to_owned())]);
        let route = sip::Route { address: address.clone(), parameters: parameters.clone() };
        let record_route = sip::RecordRoute { address: address.clone(), parameters: parameters.clone() };
        let message = sip::SipMessage {
            message_type: Some(sip::sip_message::MessageType::RequestUri(sip_uri)),
            from: Some(sip::From { address: address.clone(), parameters, ..Default::default() }),
            contact: Some(sip::Contact { address, ..Default::default() }),
            route: vec![route],
            record_route: vec![record_route],
            ..Default::default()
        };
        let response = SendMessageResponse { message: Some(message) }.encode_to_vec();
        // The message; the URI and its user; From, its address, URI, user, parameter, key and value; Contact
        // with three below it; two routes with six below each.
        let fields = 1 + 2 + 7 + 4 + 2 * 7;
        let counted = |fields| check(&response, &SEND_MESSAGE_RESPONSE, &Limits { fields, ..LIMITS });
        assert_eq!(counted(fields), Ok(()));
        assert_eq!(counted(fields - 1), Err(Excess::Fields { most: fields - 1 }));
    }
}
