//! One record as bytes: a version byte, then postcard. The ref is kept beside it, not in it.

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};

use routr_registration::model::{Record, RecordExtras};

/// First byte of the encoding written today. A version that is not known is left alone.
const VERSION: u8 = 2;
/// EdgePorts whose names are shared by all records: a million records have a few.
const MAX_NAMES: usize = 1_000;

/// Version 1. Fields may not be changed, added or moved: postcard has no names. A new shape is a new version.
#[derive(Serialize, Deserialize)]
struct V1<'a> {
    cseq: u32,
    expires_at_ms: u64,
    granted_s: u32,
    aor: &'a str,
}

/// Version 2.
#[derive(Serialize, Deserialize)]
struct V2<'a> {
    #[serde(borrow)]
    first: V1<'a>,
    edge_port: &'a str,
    more: Option<RecordExtras>,
}

/// Appends the encoding of everything but the ref.
///
/// # Errors
/// None that postcard has for such a type; the signature is postcard's.
pub fn encode(record: &Record, mut onto: Vec<u8>) -> Result<Vec<u8>, postcard::Error> {
    onto.push(VERSION);
    let first = V1 {
        cseq: record.cseq,
        expires_at_ms: record.expires_at_ms,
        granted_s: record.granted_s,
        aor: &record.aor,
    };
    let more = record.more.as_deref().cloned();
    postcard::to_extend(&V2 { first, edge_port: &record.edge_port, more }, onto)
}

/// Reads what [`encode`] wrote.
#[derive(Debug, Default)]
pub struct Decoder {
    names: HashSet<Arc<str>>,
}

impl Decoder {
    /// Reads one record of this version, or of an earlier one; `None` for an unknown version and for anything
    /// that cannot be a record.
    pub fn decode(&mut self, reference: Box<str>, bytes: &[u8]) -> Option<Record> {
        let (&version, rest) = bytes.split_first()?;
        let (v2, rest) = match version {
            1 => {
                let (first, rest) = postcard::take_from_bytes::<V1<'_>>(rest).ok()?;
                (V2 { first, edge_port: "", more: None }, rest)
            }
            VERSION => postcard::take_from_bytes::<V2<'_>>(rest).ok()?,
            _ => return None,
        };
        // RFC 3261 §8.1.1.5: a CSeq number is below 2^31. One that is not would never let the trunk register
        // again.
        if reference.is_empty() || !rest.is_empty() || v2.first.cseq >= 1 << 31 {
            return None;
        }
        Some(Record {
            reference,
            cseq: v2.first.cseq,
            aor: v2.first.aor.into(),
            expires_at_ms: v2.first.expires_at_ms,
            granted_s: v2.first.granted_s,
            edge_port: self.name(v2.edge_port),
            more: v2.more.map(Box::new),
        })
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        if self.names.len() < MAX_NAMES {
            self.names.insert(name.clone());
        }
        name
    }
}
