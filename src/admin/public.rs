//! The public port: probes and metrics.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{AdminState, EngineReport, ErrorResponse, Readiness};
use crate::metrics::{ResourceState, Scrape, exposition::Format};
use routr_leader_election::LeadershipStatus;

/// Most silent engines that are named.
const MAX_NAMED_ENGINES: usize = 10;

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

/// Says that the process serves HTTP, and no more: kept for anyone who replaces Routr's own registry.
async fn healthz() -> &'static str {
    "OK"
}

/// Fails when the only engine is stuck or gone, which only a restart corrects. Knows nothing of the API
/// server or the Lease.
///
/// An operator asks no engine here: one Registry, however slow it makes its engine, is no reason to restart
/// those of all the others.
async fn livez(State(state): State<AdminState>) -> Result<&'static str, Response> {
    if state.standing().is_some() {
        return match (state.stuck_for)() {
            Some(silent) => {
                let text = format!("the engines' threads have been stuck for {} s\n", silent.as_secs());
                Err((StatusCode::SERVICE_UNAVAILABLE, text).into_response())
            }
            None => Ok("OK"),
        };
    }
    silence(&state.summaries().await).map_or(Ok("OK"), Err)
}

/// Returns the response where an engine, or several, did not respond.
fn silence(reports: &[EngineReport]) -> Option<Response> {
    let silent: Vec<String> = reports
        .iter()
        .filter_map(|EngineReport { name, answer, .. }| {
            let silent = answer.as_ref()?.as_ref().err()?;
            Some(match name.namespace {
                Some(_) => format!("{name}: {silent}\n"),
                None => format!("{silent}\n"),
            })
        })
        .collect();
    let mut text: String = silent.iter().take(MAX_NAMED_ENGINES).map(String::as_str).collect();
    if silent.len() > MAX_NAMED_ENGINES {
        text += &format!("and {} more\n", silent.len() - MAX_NAMED_ENGINES);
    }
    (!silent.is_empty()).then(|| (StatusCode::SERVICE_UNAVAILABLE, text).into_response())
}

async fn readyz(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let (reports, now) = (state.summaries().await, state.environment.unix_ms());
    let readiness = match state.standing() {
        Some(standing) => Readiness::of_replica(&standing, &(state.findings)(), &reports, now),
        None => Readiness::of_registries(&reports, now),
    };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if wants_json(&headers) {
        (status, Json(readiness)).into_response()
    } else {
        (status, readiness.to_string()).into_response()
    }
}

async fn scrape(State(state): State<AdminState>, headers: HeaderMap) -> Result<Response, Response> {
    let reports = state.summaries().await;
    let leading = state.standing().map(|standing| standing == LeadershipStatus::Leading);
    // One of many must not hide the others; the only one has nothing to say.
    if leading.is_none()
        && let Some(silence) = silence(&reports)
    {
        return Err(silence);
    }
    let connections = state.connections.as_ref().map(|connections| connections());
    let now_unix_ms = state.environment.unix_ms();
    let mut scrape = Scrape { connections, leading, now_unix_ms, ..Scrape::default() };
    scrape.failures = state.failures(&reports).await;
    for EngineReport { name, state, generation, answer } in reports {
        scrape.resources.extend(state.map(|state| ResourceState { name: name.clone(), state, generation }));
        scrape.registries.extend(answer.map(|answer| (name, answer.ok())));
    }
    Ok(Format::of(&headers).response(state.metrics.render(&scrape)))
}

async fn nothing_here() -> ErrorResponse {
    ErrorResponse(
        StatusCode::NOT_FOUND,
        "not found; try /livez, /readyz or /metrics (trunks are on the private port)".to_owned(),
    )
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("application/json"))
}
