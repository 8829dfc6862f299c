//! The public port: probes and metrics.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{AdminState, EngineSilent, Readiness, Refusal};
use crate::metrics;

pub(super) fn router(state: AdminState) -> Router {
    let mut router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape));
    if state.healthz {
        router = router.route("/healthz", get(healthz));
    }
    router.fallback(nothing_here).with_state(state)
}

/// Says that the process serves HTTP, and no more: kept for whoever replaces Routr's own registry.
async fn healthz() -> &'static str {
    "OK"
}

/// Fails when the engine's loop is stuck or gone, which only a restart mends.
async fn livez(State(state): State<AdminState>) -> Result<&'static str, EngineSilent> {
    state.ask(state.engine.summary()).await.map(|_| "OK")
}

async fn readyz(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let summary = state.ask(state.engine.summary()).await;
    let readiness = Readiness::judge(summary.as_ref().map_err(|silent| *silent), state.environment.unix_ms());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if wants_json(&headers) {
        (status, Json(readiness)).into_response()
    } else {
        (status, readiness.to_string()).into_response()
    }
}

async fn scrape(State(state): State<AdminState>) -> Result<impl IntoResponse, EngineSilent> {
    let summary = state.ask(state.engine.summary()).await?;
    let text = state.metrics.render(&summary, state.environment.unix_ms());
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

async fn nothing_here() -> Refusal {
    Refusal(
        StatusCode::NOT_FOUND,
        "there is nothing here; try /livez, /readyz or /metrics (trunks are on the private port)".to_owned(),
    )
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("application/json"))
}

/// A probe or a scrape that the engine left without answer.
impl IntoResponse for EngineSilent {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}
