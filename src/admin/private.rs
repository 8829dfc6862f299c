//! The private port: trunks, and what can be done to them.

use std::net::IpAddr;

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    middleware,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{AdminState, Refusal, guard, query::ListQuery};
use crate::engine::{
    handle::Refresh,
    view::{Page, Summary, TrunkView},
};

const PATHS: &str = "/summary, /registrations, /registrations/{ref} or POST /registrations/{ref}/refresh";

/// The answer of `GET /summary`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SummaryAnswer {
    /// The service's clock in milliseconds since the Unix epoch, so that a client with another clock shows right times.
    pub now_ms: u64,
    /// The version that runs.
    pub version: String,
    /// The engine at one glance.
    #[serde(flatten)]
    pub summary: Summary,
}

/// The answer of `POST /registrations/{ref}/refresh` with status 202.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshAnswer {
    /// What happens, in plain words.
    pub message: String,
}

/// `listening_on` is the address of the port, see [`guard`].
pub(super) fn router(state: AdminState, listening_on: IpAddr) -> Router {
    Router::new()
        .route("/summary", get(summary))
        .route("/registrations", get(list))
        .route("/registrations/{reference}", get(one))
        .route("/registrations/{reference}/refresh", post(refresh))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(listening_on, guard::refuse_browsers))
        .with_state(state)
}

async fn summary(State(state): State<AdminState>) -> Result<Json<SummaryAnswer>, Refusal> {
    let summary = state.ask(state.engine.summary()).await?;
    let now_ms = state.environment.unix_ms();
    Ok(Json(SummaryAnswer { now_ms, version: env!("CARGO_PKG_VERSION").to_owned(), summary }))
}

async fn list(
    State(state): State<AdminState>,
    pairs: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Page>, Refusal> {
    let Query(pairs) = pairs.map_err(|bad| Refusal(StatusCode::BAD_REQUEST, bad.body_text()))?;
    let ListQuery { filter, after, limit } = ListQuery::parse(pairs)?;
    Ok(Json(state.ask(state.engine.list(filter, after, limit)).await?))
}

async fn one(
    State(state): State<AdminState>,
    Path(reference): Path<String>,
) -> Result<Json<TrunkView>, Refusal> {
    let trunk = state.ask(state.engine.get(reference.clone())).await?;
    trunk.map(Json).ok_or_else(|| no_such_trunk(&reference))
}

async fn refresh(
    State(state): State<AdminState>,
    Path(reference): Path<String>,
) -> Result<(StatusCode, Json<RefreshAnswer>), Refusal> {
    let message = match state.ask(state.engine.refresh(reference.clone())).await? {
        Refresh::Queued => "queued: the REGISTER goes out as soon as the budgets allow",
        Refresh::InFlight => "a REGISTER is under way already: its answer is awaited",
        Refresh::NotFound => return Err(no_such_trunk(&reference)),
        Refresh::Invalid => {
            let problem = state.ask(state.engine.get(reference.clone())).await?;
            let problem =
                problem.and_then(|t| t.trouble).map_or_else(String::new, |t| format!(": {}", t.message));
            return Err(Refusal(
                StatusCode::CONFLICT,
                format!("trunk {reference:?} cannot be registered as it is configured{problem}"),
            ));
        }
    };
    Ok((StatusCode::ACCEPTED, Json(RefreshAnswer { message: message.to_owned() })))
}

fn no_such_trunk(reference: &str) -> Refusal {
    Refusal(
        StatusCode::NOT_FOUND,
        format!(
            "there is no trunk with ref {reference:?} and sendRegister: true; refs are listed by /registrations"
        ),
    )
}

async fn nothing_here() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("there is nothing here; try {PATHS}"))
}

async fn wrong_method() -> Refusal {
    Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("this path does not take that method; try {PATHS}"))
}
