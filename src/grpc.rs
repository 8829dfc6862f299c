//! The two gRPC dependencies behind the engine's ports: protobuf on this side, the domain on the other.
//!
//! * [`channel`] opens a channel: `balance` spreads calls over all addresses, `peer` is one of them,
//!   `recorded_stream` tells HTTP/2 from anything else;
//! * [`connection`] is what calls go by: it replaces what ends or hangs, and repeats what was not processed;
//!   [`guard`] sees its streams begin and end, [`monitor`] notices when none can be made;
//! * [`shared`] shares connections between registries; [`requester_status`] is what is known of a Requester;
//! * `wire` checks messages before they are decoded, `metered` counts their bytes while they arrive;
//! * [`api`] lists trunks ([`crate::runtime::ports::TrunkSource`]), [`trunk`] reads one of them;
//! * [`requester`] sends REGISTERs ([`crate::runtime::ports::Requester`]), [`register`] writes one of them.

pub mod api;
mod balance;
pub mod channel;
mod choice;
#[doc(hidden)] // public for tests
pub mod codec;
pub mod connection;
pub mod guard;
mod metered;
mod monitor;
mod peer;
mod recorded_stream;
#[doc(hidden)] // public for fuzz/
pub mod register;
pub mod requester;
mod requester_status;
mod restarts;
pub mod shared;
pub mod trunk;
pub(crate) mod wire;

use tonic::{Code, Status};

use self::connection::{CallError, Fate};
use routr_net::tls::TlsFileError;
use routr_types::text::clean;

/// Reason that a gRPC dependency cannot be used at all: nothing that trying again would fix.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The address makes no URI.
    #[error("{address}: cannot be connected to as configured: {problem}")]
    Address {
        /// The address.
        address: String,
        /// Problem with the address.
        problem: String,
    },
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
}

/// Meaning of a failed call for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The dependency is not there, the connection to it broke, or it says that it cannot respond now.
    Unavailable,
    /// It did not respond in time.
    Deadline,
    /// It responded with an error.
    Refused,
}

fn failure(status: &Status) -> Failure {
    match ended(status) {
        Ended::Late => Failure::Deadline,
        Ended::Unreachable | Ended::Broken { .. } | Ended::Failed => Failure::Unavailable,
        Ended::Refused => Failure::Refused,
    }
}

/// End of a call that brought no message, as its connection and its status have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// No connection could be made.
    Unreachable,
    /// The connection broke, perhaps after a response to another call.
    Broken { after_response: bool },
    /// Not in time.
    Late,
    /// Status of the other side, or of a proxy: the call may succeed later.
    Failed,
    /// Status which says that the call will not succeed.
    Refused,
}

fn ended(status: &Status) -> Ended {
    match CallError::find(status) {
        Some(CallError::Unreachable(_)) => return Ended::Unreachable,
        Some(CallError::Broken { after_response, .. }) => {
            return Ended::Broken { after_response: *after_response };
        }
        Some(error) => return if error.is_temporary() { Ended::Failed } else { Ended::Refused },
        None => {}
    }
    // A status that the dependency sent has no source; one that tonic made up, because the connection broke,
    // has.
    let source = std::error::Error::source(status);
    if source.is_some_and(|source| source.is::<tonic::TimeoutExpired>()) {
        return Ended::Late;
    }
    match status.code() {
        Code::DeadlineExceeded => Ended::Late,
        // Its message was under way.
        _ if source.is_some_and(|source| Fate::of(source) == Fate::Reset) => Ended::Failed,
        _ if source.is_some() => Ended::Broken { after_response: false },
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::Cancelled => Ended::Failed,
        _ => Ended::Refused,
    }
}

/// Returns what a status says, as much of it as is shown.
fn describe(status: &Status) -> Box<str> {
    shortened(&said(status))
}

/// Bytes of a text from outside that are shown.
const MAX_SHOWN: usize = 400;
/// Bytes of a status's own message, in front of its cause.
const MAX_BEFORE_CAUSE: usize = 120;

/// Returns the part of a text that is shown, on one line.
fn shortened(text: &str) -> Box<str> {
    clean(text, MAX_SHOWN).into()
}

/// Returns what a status says, whole and as it came, with the innermost cause: «tcp connect error» alone
/// helps no one at 3 a.m.
fn said(status: &Status) -> String {
    if let Some(error) = CallError::find(status) {
        return error.to_string();
    }
    let mut text = match status.code() {
        Code::Unavailable => status.message().to_owned(),
        // Anyone who does not know the method says no more than that.
        code if status.message().is_empty() => format!("{code:?}: {}", code.description()),
        code => format!("{code:?}: {}", status.message()),
    };
    let cause = connection::cause(status);
    // A status shows itself with all that it has.
    if std::error::Error::source(status).is_some() && !text.contains(&cause) {
        text = format!("{}: {cause}", clean(&text, MAX_BEFORE_CAUSE));
    }
    text
}

#[cfg(feature = "demo")]
#[cfg(test)]
mod tests;

#[cfg(test)]
mod status_tests {
    use super::*;

    #[test]
    fn a_status_from_the_other_side_is_a_refusal_a_broken_connection_is_not() {
        assert_eq!(failure(&Status::unknown("no key store")), Failure::Refused);
        assert_eq!(failure(&Status::unavailable("database is down")), Failure::Unavailable);
        assert_eq!(failure(&Status::deadline_exceeded("late")), Failure::Deadline);
        assert_eq!(ended(&Status::resource_exhausted("full")), Ended::Failed);
        assert_eq!(ended(&Status::internal("bug")), Ended::Refused);
        let mut broken = Status::unknown("transport error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("reset")));
        assert_eq!(failure(&broken), Failure::Unavailable);
        assert_eq!(&*describe(&broken), "Unknown: transport error: reset");
    }

    #[test]
    fn a_cause_is_never_what_is_cut_off_and_a_cut_is_marked() {
        let long = "x".repeat(5_000);
        let mut broken = Status::unknown(&long);
        broken.set_source(std::sync::Arc::new(std::io::Error::other("certificate expired")));
        assert!(describe(&broken).ends_with("... (cut): certificate expired"), "{}", describe(&broken));
        let refused = describe(&Status::internal(format!("database is down {long}")));
        assert!(
            refused.starts_with("Internal: database is down x") && refused.ends_with("... (cut)"),
            "{refused}"
        );
        assert!(refused.len() <= MAX_SHOWN);
        assert_eq!(&*shortened("short"), "short");
    }
}
