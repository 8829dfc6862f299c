//! The two gRPC neighbours behind the engine's ports: protobuf on this side, the domain on the other.
//!
//! * [`channel`] makes a connection: plain or TLS, reconnecting, with its reconnections counted;
//! * [`shared`] shares connections between registries;
//! * [`api`] lists trunks ([`crate::ports::TrunkSource`]), [`trunk`] reads one of them;
//! * [`requester`] sends REGISTERs ([`crate::ports::Requester`]), [`register`] writes one of them.

pub mod api;
pub mod channel;
mod codec;
#[doc(hidden)] // public for fuzz/
pub mod register;
pub mod requester;
pub mod shared;
pub mod trunk;

use tonic::{Code, Status};

use crate::telemetry::innermost;

/// Why a gRPC neighbour cannot be used at all: nothing that trying again would mend.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The address makes no URI.
    #[error("{address}: cannot be connected to as configured: {problem}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The CA file cannot be read.
    #[error("spec.tls.caFile: {path}: {source}; a PEM file with CA certificates is needed")]
    CaFile {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
}

/// How a failed call has to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The neighbour is not there, or the connection to it broke.
    Unavailable,
    /// It did not answer in time.
    Deadline,
    /// It answered with an error.
    Refused,
}

fn failure(status: &Status) -> Failure {
    if std::error::Error::source(status).is_some_and(|source| source.is::<tonic::TimeoutExpired>()) {
        return Failure::Deadline;
    }
    // A status that the neighbour sent has no source; one that tonic made up, because the connection broke, has.
    let broken = std::error::Error::source(status).is_some();
    match status.code() {
        Code::DeadlineExceeded => Failure::Deadline,
        Code::Unavailable => Failure::Unavailable,
        _ if broken => Failure::Unavailable,
        _ => Failure::Refused,
    }
}

/// What a status says, as much of it as is shown.
fn describe(status: &Status) -> Box<str> {
    shortened(&said(status))
}

/// Characters of a text from outside that are shown.
const MAX_SHOWN: usize = 300;
/// Characters of a status's own message, in front of its cause.
const MAX_BEFORE_CAUSE: usize = 120;

/// As much of a text as is shown, with a mark where something was cut off.
fn shortened(text: &str) -> Box<str> {
    first(text, MAX_SHOWN).into()
}

fn first(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// What a status says, with the innermost cause: «tcp connect error» alone helps nobody at 3 a.m.
fn said(status: &Status) -> String {
    let mut text = match status.code() {
        Code::Unavailable => status.message().to_owned(),
        // Whoever does not know the method says no more than that.
        code if status.message().is_empty() => format!("{code:?}: {}", code.description()),
        code => format!("{code:?}: {}", status.message()),
    };
    let cause = innermost(status);
    // A status shows itself with all that it has.
    if std::error::Error::source(status).is_some() && !text.contains(&cause) {
        text = format!("{}: {cause}", first(&text, MAX_BEFORE_CAUSE));
    }
    text.retain(|c| !c.is_control());
    text
}

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
        assert!(describe(&broken).ends_with("…: certificate expired"), "{}", describe(&broken));
        let refused = describe(&Status::internal(format!("database is down {long}")));
        assert!(refused.starts_with("Internal: database is down x") && refused.ends_with('…'), "{refused}");
        assert_eq!(refused.chars().count(), MAX_SHOWN);
        assert_eq!(&*shortened("short"), "short");
    }
}
