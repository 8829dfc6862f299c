//! One call of the Trunks service, and what an error of it means for the list.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use tonic::{
    Code, Request, Status, client::Grpc, codec::CompressionEncoding, codegen::http::uri::PathAndQuery,
};

use super::{ApiServer, methods::Method};
use crate::{
    grpc::{Failure, GrpcError, codec::RawCodec, connection::CallError, describe, failure, metered::Metered},
    quota::Received,
};
use routr_registration::model::{Excess, SourceError};

/// Bytes of the largest page.
pub(super) const MAX_PAGE_BYTES: usize = 64 << 20;

/// Reason that a call brought no list.
pub(super) enum CallFailure {
    /// The server does not have the method.
    Unimplemented,
    NotFound,
    /// The response is too large.
    TooLarge {
        /// Message of the server, or of this side.
        why: Box<str>,
        /// Its bytes, where it was this side that did not take it because of its size.
        found: Option<u64>,
        /// It was this side that did not take it.
        ours: bool,
    },
    /// It failed for this time.
    Error(SourceError),
}

impl CallFailure {
    /// Says what the server refused.
    pub(super) fn describe(&self, method: Method) -> String {
        match self {
            Self::Unimplemented => format!("it does not implement {method:?} of Routr's Trunks service"),
            Self::NotFound => format!("its response to {method:?} is NOT_FOUND"),
            Self::TooLarge { why, .. } => why.to_string(),
            Self::Error(error) => error.to_string(),
        }
    }

    /// The error of a list that was begun.
    pub(super) fn in_mid_list(self) -> SourceError {
        match self {
            Self::Error(error) => error,
            other => {
                let what = format!("in the middle of the pages: {}", other.describe(Method::List));
                SourceError::Refused(what.into())
            }
        }
    }
}

impl From<SourceError> for CallFailure {
    fn from(error: SourceError) -> Self {
        Self::Error(error)
    }
}

/// The error of a list for which no method is left.
pub(super) fn all_refused(refusals: &[(Method, CallFailure)]) -> SourceError {
    let all: Vec<String> = refusals.iter().map(|(method, refusal)| refusal.describe(*method)).collect();
    let text = all.join("; ").into();
    let ours = |refusal: &CallFailure| matches!(refusal, CallFailure::TooLarge { ours: true, .. });
    if refusals.iter().any(|(_, refusal)| ours(refusal)) {
        SourceError::TooMuch(text)
    } else {
        SourceError::Refused(text)
    }
}

impl ApiServer {
    /// Calls a method whose response has at most `most` bytes, and counts them as `received`, to be held for
    /// as long as the response.
    pub(super) async fn call(
        &self,
        method: &'static str,
        message: impl Message,
        most: usize,
        received: &Arc<Received>,
    ) -> Result<Bytes, CallFailure> {
        let unusable =
            |error: GrpcError| CallFailure::Error(SourceError::Unavailable(error.to_string().into()));
        let (connection, began) = (self.connection.get().map_err(unusable)?, Instant::now());
        // Never closed. Waiting for a turn is no fault of the API server, and counts for no deadline of a
        // call.
        let _turn = connection.lists.acquire().await.ok();
        let mut client = Grpc::new(Metered::new(connection.connection.clone(), received))
            .max_decoding_message_size(most)
            .accept_compressed(CompressionEncoding::Gzip);
        // Boxed: thousands may wait for their turn, and need no room for a call meanwhile.
        let call = Box::pin(async {
            client.ready().await.map_err(Status::from_error)?;
            let message = Bytes::from(message.encode_to_vec());
            client.unary(Request::new(message), PathAndQuery::from_static(method), RawCodec::default()).await
        });
        let late = || CallFailure::Error(SourceError::Deadline(self.timeout));
        let status = match tokio::time::timeout(self.timeout, call).await {
            Err(_) => return Err(late()),
            Ok(Ok(response)) => {
                let message = response.into_inner();
                // Of one that came compressed, not all is counted yet.
                let more =
                    message.len().saturating_sub(usize::try_from(received.bytes()).unwrap_or(usize::MAX));
                return match received.grow(more) {
                    Ok(()) => Ok(message),
                    Err(excess) => Err(no_room(excess)),
                };
            }
            Ok(Err(status)) => status,
        };
        if let Some(excess) = received.refused() {
            return Err(no_room(excess));
        }
        if let Some(found) = found_too_large(&status, most) {
            let setting = if most == self.quota.max_response() {
                "the operator's --max-response-memory"
            } else if most < MAX_PAGE_BYTES || method.ends_with("/FindBy") {
                "spec.sync.maxBytes"
            } else {
                "the largest page"
            };
            let why = format!("a response of {found} bytes; {setting} allows {most}");
            return Err(CallFailure::TooLarge { why: why.into(), found: Some(found), ours: true });
        }
        // A proxy's error page becomes a status, too: that says nothing of the list.
        let by_server = CallError::find(&status).is_none();
        Err(match (failure(&status), status.code()) {
            (Failure::Unavailable | Failure::Refused, Code::ResourceExhausted | Code::OutOfRange)
                if by_server =>
            {
                CallFailure::TooLarge { why: describe(&status), found: None, ours: false }
            }
            (Failure::Unavailable, _) if self.quota.exceeded_since(Excess::Connections, began) => {
                CallFailure::Error(SourceError::NoRoom(describe(&status)))
            }
            (Failure::Unavailable, _) => CallFailure::Error(SourceError::Unavailable(describe(&status))),
            (Failure::Deadline, _) => late(),
            (Failure::Refused, Code::Unimplemented) => CallFailure::Unimplemented,
            (Failure::Refused, Code::NotFound) => CallFailure::NotFound,
            (Failure::Refused, _) => CallFailure::Error(SourceError::Refused(describe(&status))),
        })
    }
}

/// There is no room for the response among those that are being read. A smaller page may fit.
fn no_room(excess: Excess) -> CallFailure {
    CallFailure::TooLarge { why: excess.to_string().into(), found: None, ours: true }
}

/// Returns the bytes of a response that tonic did not take because of its size, which only its text says.
fn found_too_large(status: &Status, most: usize) -> Option<u64> {
    let (text, limit) = (status.message(), most.to_string());
    if status.code() == Code::OutOfRange {
        let (_, found) = text.split_once("decoded message length too large: found ")?;
        let (found, limit_said) = found.split_once(" bytes, the limit is: ")?;
        return limit_said.starts_with(&limit).then(|| found.parse().ok())?;
    }
    // Compressed, it is known only that it would be more.
    let compressed = status.code() == Code::ResourceExhausted
        && text.contains(&format!("size limit, of {limit} bytes, exceeded while decompressing"));
    compressed.then(|| u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1))
}
