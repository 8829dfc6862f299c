//! The few fields of a REGISTER that the backend looks at, without decoding the rest.

use routr_registry::proto::{
    requester::SendMessageResponse,
    sipmessage::{self as sip, sip_message::MessageType},
};

/// A field's value.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in their order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => Value::Bytes(self.0.split_off(..8)?),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                Value::Bytes(self.0.split_off(..length)?)
            }
            5 => Value::Bytes(self.0.split_off(..4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The message in a field.
fn inner(message: &[u8], field: u64) -> Option<&[u8]> {
    Fields(message).find_map(|(number, value)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    })
}

/// A number in a field.
fn number(message: &[u8], field: u64) -> Option<u64> {
    Fields(message).find_map(|(found, value)| match value {
        Value::Number(value) if found == field => Some(value),
        _ => None,
    })
}

/// Returns the user (of To) and the expiry that a `SendMessageRequest` asks for.
pub fn read(request: &[u8]) -> Option<(&[u8], u32)> {
    let message = inner(request, 4)?;
    let user = inner(inner(inner(inner(message, 4)?, 1)?, 1)?, 1)?;
    let expires = number(inner(message, 8)?, 1).unwrap_or(0);
    Some((user, u32::try_from(expires).ok()?))
}

/// Returns 200 with this expiry, in seconds.
pub fn answer(expires: u32) -> SendMessageResponse {
    let message = sip::SipMessage {
        message_type: Some(MessageType::ResponseType(sip::ResponseType::Ok.into())),
        expires: Some(sip::Expires { expires: i32::try_from(expires).unwrap_or(i32::MAX) }),
        reason_phrase: "OK".into(),
        ..sip::SipMessage::default()
    };
    SendMessageResponse { message: Some(message) }
}

/// 503.
pub fn refusal() -> SendMessageResponse {
    let message = sip::SipMessage {
        message_type: Some(MessageType::ResponseType(sip::ResponseType::ServiceUnavailable.into())),
        reason_phrase: "Service Unavailable".into(),
        ..sip::SipMessage::default()
    };
    SendMessageResponse { message: Some(message) }
}

/// `page_size` and `page_token` of a `ListTrunkRequest`.
pub fn page(request: &[u8]) -> (usize, usize) {
    let size = number(request, 1).and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    let token = inner(request, 2).and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
    (size, token.unwrap_or(0))
}
