//! One record as bytes: a version byte, then postcard. The ref is kept beside it, not in it.

use serde::{Deserialize, Serialize};

use crate::ports::Record;

/// First byte of the encoding written today. A version that is not known is left alone.
const VERSION: u8 = 1;

/// Version 1. Fields may not be changed, added or moved: postcard has no names. A new shape is a new version.
#[derive(Serialize, Deserialize)]
struct V1<'a> {
    cseq: u32,
    expires_at_ms: u64,
    granted_s: u32,
    aor: &'a str,
}

/// Appends the encoding of everything but the ref.
///
/// # Errors
/// None that postcard has for such a type; the signature is postcard's.
pub fn encode(record: &Record, mut onto: Vec<u8>) -> Result<Vec<u8>, postcard::Error> {
    onto.push(VERSION);
    let v1 = V1 {
        cseq: record.cseq,
        expires_at_ms: record.expires_at_ms,
        granted_s: record.granted_s,
        aor: &record.aor,
    };
    postcard::to_extend(&v1, onto)
}

/// Reads what [`encode`] wrote; `None` for an unknown version and for anything that cannot be a record.
pub fn decode(reference: Box<str>, bytes: &[u8]) -> Option<Record> {
    let (&version, rest) = bytes.split_first()?;
    if version != VERSION || reference.is_empty() {
        return None;
    }
    let (v1, rest) = postcard::take_from_bytes::<V1<'_>>(rest).ok()?;
    // RFC 3261 §8.1.1.5: a CSeq number is below 2^31. One that is not would never let the trunk register again.
    if !rest.is_empty() || v1.cseq >= 1 << 31 {
        return None;
    }
    Some(Record {
        reference,
        cseq: v1.cseq,
        aor: v1.aor.into(),
        expires_at_ms: v1.expires_at_ms,
        granted_s: v1.granted_s,
    })
}
