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

use super::{
    AdminState, Refusal, RegistryState, Told,
    directory::NoChoice,
    guard,
    query::{self, ListQuery, Pair},
};
use crate::{
    engine::{
        handle::{EngineHandle, Refresh},
        view::{Page, Summary, TrunkView},
    },
    operator::lease::Standing,
};

const PATHS: &str =
    "/registries, /summary, /registrations, /registrations/{ref} or POST /registrations/{ref}/refresh";

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

/// The answer of `GET /registries`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistriesAnswer {
    /// The service's clock in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The version that runs.
    pub version: String,
    /// How this replica of an operator stands, in plain words; absent outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub standing: Option<String>,
    /// Whether this replica of an operator leads; absent outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leads: Option<bool>,
    /// All that there are here, by name, whether an engine runs or not.
    pub registries: Vec<RegistryAnswer>,
}

/// One registry of [`RegistriesAnswer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryAnswer {
    /// Namespace of the resource; absent outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// `state`, `ready`, `reason` and `message` of the resource, as in its status; absent outside Kubernetes.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub state: Option<RegistryState>,
    /// The engine at one glance; absent where none runs, or where it does not answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub summary: Option<Summary>,
    /// Why there is no summary though an engine runs, in plain words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
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

type Pairs = Result<Query<Vec<Pair>>, QueryRejection>;

/// The engine that a request is about, and the parameters that are not about that.
fn choose(state: &AdminState, pairs: Pairs) -> Result<(Chosen, Vec<Pair>), Refusal> {
    let Query(pairs) = pairs.map_err(|bad| Refusal(StatusCode::BAD_REQUEST, bad.body_text()))?;
    let (registry, rest) = query::registry(pairs)?;
    Ok((Chosen { engine: state.directory.choose(registry.as_deref()), standing: state.standing() }, rest))
}

/// A choice that may have failed: other mistakes of a request are told first.
struct Chosen {
    engine: Result<EngineHandle, NoChoice>,
    standing: Option<Standing>,
}

impl Chosen {
    fn engine(self) -> Result<EngineHandle, Refusal> {
        self.engine.map_err(|problem| {
            let status = match problem {
                NoChoice::Several(_) | NoChoice::Ambiguous { .. } => StatusCode::BAD_REQUEST,
                NoChoice::NotRunning { .. } => StatusCode::CONFLICT,
                NoChoice::Empty | NoChoice::Unknown { .. } => StatusCode::NOT_FOUND,
            };
            let text = match (&problem, self.standing) {
                (NoChoice::Empty, Some(standing)) => format!("{problem}: it {}", said(&standing)),
                _ => problem.to_string(),
            };
            Refusal(status, text)
        })
    }
}

/// What follows "this replica" for whoever looks for registries in vain.
fn said(standing: &Standing) -> String {
    match standing {
        Standing::Starting => "has just started and does not know the leader yet".to_owned(),
        Standing::Following { leader: Some(leader) } => format!(
            "follows {leader}, which runs all of them: ask it (`kubectl port-forward pod/{leader} 8081`)"
        ),
        Standing::Following { leader: None } => "follows, and no replica leads at the moment".to_owned(),
        Standing::Blind { problem } => format!("cannot read the Lease: {problem}"),
        Standing::Leading => "leads".to_owned(),
    }
}

async fn registries(State(state): State<AdminState>) -> Json<RegistriesAnswer> {
    let (told, standing) = (state.summaries().await, state.standing());
    let registries = told.into_iter().map(|Told { name, state, answer }| {
        let (summary, problem) = match answer {
            Some(Ok(summary)) => (Some(summary), None),
            Some(Err(silent)) => (None, Some(silent.to_string())),
            None => (None, None),
        };
        RegistryAnswer { namespace: name.namespace, name: name.name, state, summary, problem }
    });
    Json(RegistriesAnswer {
        now_ms: state.environment.unix_ms(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leads: standing.as_ref().map(|standing| *standing == Standing::Leading),
        standing: standing.as_ref().map(said),
        registries: registries.collect(),
    })
}

async fn summary(State(state): State<AdminState>, pairs: Pairs) -> Result<Json<SummaryAnswer>, Refusal> {
    let engine = choose_only(&state, pairs)?;
    let summary = state.ask(engine.summary()).await?;
    let now_ms = state.environment.unix_ms();
    Ok(Json(SummaryAnswer { now_ms, version: env!("CARGO_PKG_VERSION").to_owned(), summary }))
}

async fn list(State(state): State<AdminState>, pairs: Pairs) -> Result<Json<Page>, Refusal> {
    let (chosen, pairs) = choose(&state, pairs)?;
    let ListQuery { filter, after, limit } = ListQuery::parse(pairs)?;
    let engine = chosen.engine()?;
    Ok(Json(state.ask(engine.list(filter, after, limit)).await?))
}

/// For paths with no parameter but `registry`.
fn choose_only(state: &AdminState, pairs: Pairs) -> Result<EngineHandle, Refusal> {
    let (chosen, rest) = choose(state, pairs)?;
    query::no_more(&rest)?;
    chosen.engine()
}

async fn one(
    State(state): State<AdminState>,
    Path(reference): Path<String>,
    pairs: Pairs,
) -> Result<Json<TrunkView>, Refusal> {
    let engine = choose_only(&state, pairs)?;
    let trunk = state.ask(engine.get(reference.clone())).await?;
    trunk.map(Json).ok_or_else(|| no_such_trunk(&reference))
}

async fn refresh(
    State(state): State<AdminState>,
    Path(reference): Path<String>,
    pairs: Pairs,
) -> Result<(StatusCode, Json<RefreshAnswer>), Refusal> {
    let engine = choose_only(&state, pairs)?;
    let message = match state.ask(engine.refresh(reference.clone())).await? {
        Refresh::Queued => "queued: the REGISTER goes out as soon as the budgets allow",
        Refresh::InFlight => "a REGISTER is already in flight",
        Refresh::NotFound => return Err(no_such_trunk(&reference)),
        Refresh::Invalid => {
            let problem = state.ask(engine.get(reference.clone())).await?;
            let problem =
                problem.and_then(|t| t.trouble).map_or_else(String::new, |t| format!(": {}", t.message));
            return Err(Refusal(
                StatusCode::CONFLICT,
                format!("trunk {reference:?} cannot be registered as configured{problem}"),
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
    Refusal(StatusCode::NOT_FOUND, format!("not found; try {PATHS}"))
}

async fn wrong_method() -> Refusal {
    Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("this path does not allow that method; try {PATHS}"))
}
