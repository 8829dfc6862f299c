//! `spec.sync`: bounds on one sync.

use std::time::Duration;

use crate::spec::SyncSpec;

use super::{rules, validator::Validator};

/// Bounds on one sync, in which all trunks are read from the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncBounds {
    /// Time limit of the whole sync.
    pub timeout: Duration,
    /// Pages, at most 1,000,000.
    pub max_pages: u32,
    /// Trunks, those without `sendRegister` included; at most 10,000,000.
    pub max_trunks: u32,
    /// Bytes of all responses, without gRPC's framing and any compression.
    pub max_bytes: u64,
    /// Bytes of one trunk; a larger one counts as malformed.
    pub max_trunk_bytes: u32,
}

impl Default for SyncBounds {
    fn default() -> Self {
        let whole = |range: &rules::WholeRange| u32::try_from(range.default).unwrap_or(u32::MAX);
        Self {
            timeout: rules::SYNC_TIMEOUT.default,
            max_pages: whole(&rules::SYNC_PAGES),
            max_trunks: whole(&rules::SYNC_TRUNKS),
            max_bytes: rules::SYNC_BYTES.default.unsigned_abs(),
            max_trunk_bytes: whole(&rules::TRUNK_BYTES),
        }
    }
}

impl Validator<'_> {
    pub(super) fn sync(&mut self, spec: &SyncSpec, api_timeout: Duration) -> SyncBounds {
        let timeout = match &spec.timeout {
            None => api_timeout * rules::SYNC_TIMEOUT_FACTOR,
            given => self.duration("spec.sync.timeout", given.as_ref(), &rules::SYNC_TIMEOUT),
        };
        let max_pages = self.whole("spec.sync.maxPages", spec.max_pages, &rules::SYNC_PAGES);
        let max_trunks = self.whole("spec.sync.maxTrunks", spec.max_trunks, &rules::SYNC_TRUNKS);
        let max_bytes = self.whole("spec.sync.maxBytes", spec.max_bytes, &rules::SYNC_BYTES);
        let max_trunk_bytes =
            self.whole("spec.sync.maxTrunkBytes", spec.max_trunk_bytes, &rules::TRUNK_BYTES);
        let narrow = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        SyncBounds {
            timeout,
            max_pages: narrow(max_pages),
            max_trunks: narrow(max_trunks),
            max_bytes: max_bytes.unsigned_abs(),
            max_trunk_bytes: narrow(max_trunk_bytes),
        }
    }
}
