//! The words of a status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use routr_types::text::clean;
pub(super) use routr_types::text::{agree, count};

/// A number for a field that Kubernetes wants signed.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A time of Kubernetes: whole seconds, rounded down, so that it is the same when it is read again.
pub(super) fn time(ms: u64) -> Time {
    Time(Timestamp::from_second(signed(ms / 1_000)).unwrap_or(Timestamp::MAX))
}

/// Returns a time as [`time`] does; `None` where it is not known.
pub fn known_time(ms: u64) -> Option<Time> {
    (ms > 0).then(|| time(ms))
}

/// A time for people.
pub(super) fn at(ms: u64) -> String {
    time(ms).0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
