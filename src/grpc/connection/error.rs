//! End of a call without a gRPC status of the other side: what that says of its connection, and whether the
//! request was processed.

use std::error::Error;

use tonic::codegen::http::StatusCode;

use crate::{grpc::peer::AfterResponse, telemetry::innermost};

/// Reason that a call brought no gRPC response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection could be made. Nothing was sent.
    #[error("{0}")]
    Unreachable(Box<str>),
    /// The connection broke while the call was under way: the request may have been processed.
    #[error("{cause}")]
    Broken {
        /// Details, for a person.
        cause: Box<str>,
        /// It had brought a response to another call.
        after_response: bool,
    },
    /// The other side refused to process the request, and so it did when the request was repeated.
    #[error("each of {0} tries was refused unprocessed (REFUSED_STREAM or GOAWAY)")]
    NotProcessed(u32),
    /// The other side ended the call without a status, and kept the connection: the request may have been
    /// processed.
    #[error("the stream was reset: {0}")]
    Reset(Box<str>),
    /// Something that does not speak gRPC responded, as proxies do.
    #[error("HTTP {} from the proxy in front of the {peer}{}", status.as_u16(), hint(*status))]
    Http {
        /// Its status.
        status: StatusCode,
        /// Name of the dependency that was called.
        peer: &'static str,
    },
}

impl CallError {
    /// Finds one among the causes of an error.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| cause.downcast_ref())
    }

    /// Returns whether the same call may succeed later, without a change of any configuration.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Http { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
            }
            _ => true,
        }
    }
}

/// Returns what to do about a status that a person may not know by heart.
fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => ", which is no gRPC response: check the address, and that the proxy passes gRPC on",
        401 | 403 => ": it wants other credentials, or does not let this client in",
        404 => ": check that it passes the gRPC paths on",
        413 => ": it does not take messages of this size",
        429 => ": it limits how often it is called",
        502 | 503 => ": it cannot reach what is behind it",
        504 => ": what is behind it does not respond in time",
        _ => "",
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns whether an error is the end of a connection that had brought a response to another call.
pub(super) fn is_after_response(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(<dyn Error>::is::<AfterResponse>)
}

/// Fate of a request.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Fate {
    /// Surely not processed: it may be sent again at once.
    NotProcessed,
    /// The connection ended before it was sent: the same.
    NotSent,
    /// Its time was over.
    Late,
    /// The other side ended the call, and nothing else.
    Reset,
    /// There was no connection to send it by.
    Unreachable,
    /// The connection broke.
    Broken,
}

impl Fate {
    /// Reads it from the error of a transport.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        for cause in causes(error) {
            if cause.is::<tonic::TimeoutExpired>() {
                return Self::Late;
            }
            if cause.is::<tonic::ConnectError>() {
                return Self::Unreachable;
            }
            // Only of requests that never left: hyper had them in its queue when the connection ended.
            if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
                return Self::NotSent;
            }
            // h2 ends only streams above the last one of a GOAWAY with its error (RFC 9113 §6.8);
            // REFUSED_STREAM says it itself (§8.7).
            if let Some(h2) = cause.downcast_ref::<h2::Error>()
                && h2.is_remote()
                && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM))
            {
                return Self::NotProcessed;
            }
            if cause.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset) {
                return Self::Reset;
            }
        }
        Self::Broken
    }
}

/// Returns what to say of connections that end before a request is sent.
pub(super) fn never_sent(tries: u32) -> Box<str> {
    format!("each of {tries} connections ended before the request was sent; {NO_HTTP_2}").into()
}

const NO_HTTP_2: &str = "what listens there does not seem to speak HTTP/2, which gRPC needs";

/// The innermost cause of an error. Of a GOAWAY only its reason is shown: what else is in it may be anything,
/// from any server.
pub(in super::super) fn cause(error: &(dyn Error + 'static)) -> String {
    let h2 = causes(error).last().and_then(|last| last.downcast_ref::<h2::Error>());
    match h2.filter(|h2| h2.is_go_away()).map(|h2| (h2, h2.reason())) {
        Some((h2, Some(reason))) => {
            let by = if h2.is_remote() { "received" } else { "detected" };
            format!("connection error {by}: {reason}")
        }
        _ => innermost(error),
    }
}

/// An error in words: the innermost cause, for «transport error» alone helps no one.
pub(super) fn said(error: &(dyn Error + 'static)) -> Box<str> {
    let said = cause(error);
    // What this side cannot read: HTTP/1.1, as a rule.
    let unreadable = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>()).is_some_and(|h2| {
        let garbled = [h2::Reason::FRAME_SIZE_ERROR, h2::Reason::PROTOCOL_ERROR];
        h2.is_go_away() && h2.is_library() && h2.reason().is_some_and(|reason| garbled.contains(&reason))
    });
    if unreadable { format!("{said}; {NO_HTTP_2}").into() } else { said.into() }
}
