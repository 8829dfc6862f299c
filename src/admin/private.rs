//! The private port: trunks, and what can be done to them.

use std::net::IpAddr;

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    middleware,
    routing::{get, post},
};

use super::{
    AdminState, EngineReport, ErrorResponse,
    directory::SelectError,
    guard,
    query::{ListQuery, OnlyRegistry},
};
use crate::{
    admin_api::{RefreshResponse, RegistriesResponse, RegistryResponse, SummaryResponse},
    runtime::handle::EngineHandle,
};
use routr_leader_election::LeadershipStatus;
use routr_registration::engine::{
    history::TrunkDetail,
    view::{Page, Refresh},
};

const PATHS: &str =
    "/registries, /summary, /registrations, /registrations/{ref} or POST /registrations/{ref}/refresh";

/// `listening_on` is the address of the port, see [`guard`].
pub(super) fn router(state: AdminState, listening_on: IpAddr) -> Router {
    Router::new()
        .route("/registries", get(registries))
        .route("/summary", get(summary))
        .route("/registrations", get(list))
        .route("/registrations/{reference}", get(one))
        .route("/registrations/{reference}/refresh", post(refresh))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(listening_on, guard::refuse_browsers))
        .with_state(state)
}

type Parameters<T> = Result<Query<T>, QueryRejection>;

/// The engine that a request is about.
fn select(state: &AdminState, registry: Option<&str>) -> Result<EngineHandle, ErrorResponse> {
    state.directory.select(registry).map_err(|problem| {
        let status = match problem {
            SelectError::Several(_) | SelectError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            SelectError::NotRunning { .. } => StatusCode::CONFLICT,
            SelectError::Empty | SelectError::Unknown { .. } => StatusCode::NOT_FOUND,
        };
        let text = match (&problem, state.standing()) {
            (SelectError::Empty, Some(standing)) => format!("{problem}: it {}", said(&standing)),
            _ => problem.to_string(),
        };
        ErrorResponse(status, text)
    })
}

/// Returns what follows "this replica" for anyone who looks for registries in vain.
fn said(standing: &LeadershipStatus) -> String {
    match standing {
        LeadershipStatus::Starting => "has just started and does not know the leader yet".to_owned(),
        LeadershipStatus::Following { leader: Some(leader) } => format!(
            "follows {leader}, which runs all of them: ask it (`kubectl port-forward pod/{leader} 8081`)"
        ),
        LeadershipStatus::Following { leader: None } => {
            "follows, and no replica leads at the moment".to_owned()
        }
        LeadershipStatus::LeaseUnavailable { problem } => format!("cannot read the Lease: {problem}"),
        LeadershipStatus::Leading => "leads".to_owned(),
    }
}

async fn registries(State(state): State<AdminState>) -> Json<RegistriesResponse> {
    let (reports, standing) = (state.summaries().await, state.standing());
    let registries = reports.into_iter().map(|EngineReport { name, state, answer, .. }| {
        let (summary, problem) = match answer {
            Some(Ok(summary)) => (Some(summary), None),
            Some(Err(silent)) => (None, Some(silent.to_string())),
            None => (None, None),
        };
        RegistryResponse { namespace: name.namespace, name: name.name, state, summary, problem }
    });
    Json(RegistriesResponse {
        now_ms: state.environment.unix_ms(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leads: standing.as_ref().map(|standing| *standing == LeadershipStatus::Leading),
        standing: standing.as_ref().map(said),
        registries: registries.collect(),
    })
}

async fn summary(
    State(state): State<AdminState>,
    query: Parameters<OnlyRegistry>,
) -> Result<Json<SummaryResponse>, ErrorResponse> {
    let engine = select(&state, query?.registry.as_deref())?;
    let summary = state.ask(engine.summary()).await?;
    let now_ms = state.environment.unix_ms();
    Ok(Json(SummaryResponse { now_ms, version: env!("CARGO_PKG_VERSION").to_owned(), summary }))
}

async fn list(
    State(state): State<AdminState>,
    query: Parameters<ListQuery>,
) -> Result<Json<Page>, ErrorResponse> {
    let Query(query) = query?;
    let engine = select(&state, query.registry.as_deref())?;
    Ok(Json(state.ask(engine.list(query.filter(), query.page, query.limit)).await?))
}

async fn one(
    State(state): State<AdminState>,
    Path(reference): Path<String>,
    query: Parameters<OnlyRegistry>,
) -> Result<Json<TrunkDetail>, ErrorResponse> {
    let engine = select(&state, query?.registry.as_deref())?;
    let trunk = state.ask(engine.detail(reference.clone())).await?;
    trunk.map(Json).ok_or_else(|| no_such_trunk(&reference))
}

async fn refresh(
    State(state): State<AdminState>,
    Path(reference): Path<String>,
    query: Parameters<OnlyRegistry>,
) -> Result<(StatusCode, Json<RefreshResponse>), ErrorResponse> {
    let engine = select(&state, query?.registry.as_deref())?;
    let message = match state.ask(engine.refresh(reference.clone())).await? {
        Refresh::Queued => "queued: the REGISTER goes out as soon as the budgets allow",
        Refresh::InFlight => "a REGISTER is already in flight",
        Refresh::NotFound => return Err(no_such_trunk(&reference)),
        Refresh::Invalid => {
            let problem = state.ask(engine.get(reference.clone())).await?;
            let problem =
                problem.and_then(|t| t.failure).map_or_else(String::new, |t| format!(": {}", t.message));
            return Err(ErrorResponse(
                StatusCode::CONFLICT,
                format!("trunk {reference:?} cannot be registered as configured{problem}"),
            ));
        }
    };
    Ok((StatusCode::ACCEPTED, Json(RefreshResponse { message: message.to_owned() })))
}

fn no_such_trunk(reference: &str) -> ErrorResponse {
    ErrorResponse(
        StatusCode::NOT_FOUND,
        format!(
            "there is no trunk with ref {reference:?} and sendRegister: true; refs are listed by /registrations"
        ),
    )
}

async fn nothing_here() -> ErrorResponse {
    ErrorResponse(StatusCode::NOT_FOUND, format!("not found; try {PATHS}"))
}

async fn wrong_method() -> ErrorResponse {
    ErrorResponse(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("this path does not allow that method; try {PATHS}"),
    )
}
