//! `GET /trace` on the HTTP port: for callers on the same machine alone, whatever the port listens on.

use std::time::Duration;

use axum::{
    Router,
    extract::{Query, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::{Condition, Trace, TracedMessage};
use crate::admin::{guard, listen::Caller};

/// Longest time that a caller may wait for a message.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(20);

/// Messages to return.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// Only those above this number.
    #[serde(default)]
    since: u64,
    /// Seconds to wait for one, where there is none yet.
    #[serde(default)]
    wait: u64,
    user: Option<String>,
    registrar: Option<String>,
}

/// Body of the response.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Page {
    /// Number to go on from.
    pub(super) newest: u64,
    pub(super) messages: Vec<TracedMessage>,
}

/// The route, which says that there is no trace where there is none.
pub(in crate::requester) fn route(trace: Option<Trace>) -> Router {
    Router::new().route("/trace", get(page)).with_state(trace)
}

async fn page(
    State(trace): State<Option<Trace>>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Response {
    let caller = request.extensions().get::<Caller>();
    if !caller.is_some_and(|Caller(from)| from.to_canonical().is_loopback()) {
        let said = "the trace is for callers on the Requester's own machine: run routr-registry requester trace there \
                    (docker exec, kubectl exec), or forward the port\n";
        return (StatusCode::FORBIDDEN, said).into_response();
    }
    if let Some(refusal) = guard::refusal(request.headers()) {
        return refusal;
    }
    let Some(trace) = trace else {
        let said = "the trace is off: start the Requester with --trace\n";
        return (StatusCode::NOT_FOUND, said).into_response();
    };
    let condition = Condition { user: wanted.user, registrar: wanted.registrar };
    let deadline = Instant::now() + Duration::from_secs(wanted.wait).min(MAX_WAIT);
    let mut changes = trace.0.newest.subscribe();
    loop {
        changes.mark_unchanged();
        let (messages, newest) = trace.after(wanted.since, &condition);
        if !messages.is_empty() || !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            return axum::Json(Page { newest, messages }).into_response();
        }
    }
}
