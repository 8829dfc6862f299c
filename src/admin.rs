//! The HTTP side of the registries that run in this process, on two ports.
//!
//! * The public one (default 8080) is for probes and for Prometheus: `/healthz`, `/livez`, `/readyz`,
//!   `/metrics`. It shows numbers, never a trunk.
//! * The private one (default 127.0.0.1:8081) shows trunks and acts: `/registries`, `/summary`,
//!   `/registrations`, `/registrations/{ref}`, `POST /registrations/{ref}/refresh`. Where several registries
//!   run, `?registry=NAMESPACE/NAME` says which is meant. It has no login: it listens on loopback, where a
//!   port-forward reaches it, and [`guard`] keeps web pages in a local browser out.
//!
//! No response carries a secret: all of them are made of [`routr_registration::engine::view`].

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use tokio::{
    net::TcpListener,
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin_api::ErrorBody,
    metrics::Metrics,
    quota::sockets::Connections,
    registry::{RegistryName, RegistryState},
    runtime::{
        handle::{EngineHandle, EngineStopped},
        ports::Environment,
    },
};
use routr_leader_election::LeadershipStatus;
use routr_registration::engine::view::Summary;

mod connections;
mod directory;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod guard;
pub(crate) mod listen;
#[cfg(test)]
mod many_tests;
mod private;
mod public;
mod query;
mod readiness;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

pub use directory::{Directory, Listed, Listing};
pub use readiness::{Check, CheckState, Finding, Readiness};

/// Default address of the public port.
pub const DEFAULT_PUBLIC: &str = "0.0.0.0:8080";

/// Default address of the private port.
pub const DEFAULT_PRIVATE: &str = "127.0.0.1:8081";

/// Time that the engine may take to respond before it counts as stuck.
pub const ENGINE_QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// State that the two ports serve from. Clones share it.
#[derive(Clone)]
pub struct AdminState {
    directory: Directory,
    metrics: Metrics,
    environment: Arc<dyn Environment>,
    healthz: bool,
    standing: Option<watch::Receiver<LeadershipStatus>>,
    findings: Arc<dyn Fn() -> Vec<Finding> + Send + Sync>,
    connections: Option<Arc<dyn Fn() -> Connections + Send + Sync>>,
    stuck_for: Arc<dyn Fn() -> Option<Duration> + Send + Sync>,
    /// Unhealthy trunks by reason, and when the engines were asked for them.
    failures: Arc<Mutex<Option<(Instant, FailuresByReason)>>>,
}

/// Registries with the number of their unhealthy trunks by reason.
type FailuresByReason = Vec<(RegistryName, BTreeMap<String, u64>)>;

/// Time for which the number of unhealthy trunks by reason is not counted again.
const FAILURES_PERIOD: Duration = Duration::from_secs(1);

/// One registry, as it is found at one moment.
#[derive(Debug)]
struct EngineReport {
    name: RegistryName,
    /// The state of its resource; `None` outside an operator.
    state: Option<RegistryState>,
    /// `metadata.generation` of the resource that was seen last.
    generation: Option<i64>,
    /// Summary of its engine, or the engine's silence; `None` where none runs.
    answer: Option<Result<Summary, EngineUnresponsive>>,
}

impl AdminState {
    /// Serves these registries and these metrics, by this clock.
    pub fn new(directory: Directory, metrics: Metrics, environment: Arc<dyn Environment>) -> Self {
        Self {
            directory,
            metrics,
            environment,
            healthz: true,
            standing: None,
            findings: Arc::new(Vec::new),
            connections: None,
            stuck_for: Arc::new(|| None),
            failures: Arc::default(),
        }
    }

    /// Returns whether `/healthz` is served, see [`healthz_wanted`]. The other paths stay in any case.
    #[must_use]
    pub fn with_healthz(mut self, healthz: bool) -> Self {
        self.healthz = healthz;
        self
    }

    /// Serves for one of an operator's replicas: `/readyz` is about this replica, and an unhealthy registry
    /// is reported but leaves it ready; `/metrics` has the operator's own.
    #[must_use]
    pub fn with_standing(mut self, standing: watch::Receiver<LeadershipStatus>) -> Self {
        self.standing = Some(standing);
        self
    }

    /// Shows on `/readyz` what `findings` returns: how the operator's requests to its API server fare.
    #[must_use]
    pub fn with_findings(mut self, findings: impl Fn() -> Vec<Finding> + Send + Sync + 'static) -> Self {
        self.findings = Arc::new(findings);
        self
    }

    /// Shows on `/metrics` what `connections` returns: those that the Registries of an operator have.
    #[must_use]
    pub fn with_connections(mut self, connections: impl Fn() -> Connections + Send + Sync + 'static) -> Self {
        self.connections = Some(Arc::new(connections));
        self
    }

    /// Lets `/livez` of an operator fail while `stuck_for` returns how long the threads of the engines have
    /// been stuck.
    #[must_use]
    pub fn with_stuck_for(
        mut self,
        stuck_for: impl Fn() -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.stuck_for = Arc::new(stuck_for);
        self
    }

    /// Returns how this replica stands; `None` outside an operator.
    fn standing(&self) -> Option<LeadershipStatus> {
        self.standing.as_ref().map(|standing| standing.borrow().clone())
    }

    /// Asks an engine, for at most [`ENGINE_QUERY_TIMEOUT`].
    async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<T, EngineStopped>>,
    ) -> Result<T, EngineUnresponsive> {
        match tokio::time::timeout(ENGINE_QUERY_TIMEOUT, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(EngineUnresponsive::Stuck),
        }
    }

    /// Asks all registries at the same time, for at most [`ENGINE_QUERY_TIMEOUT`]. Ordered by name.
    async fn summaries(&self) -> Vec<EngineReport> {
        let ask = async |Listing { name, engine, state, generation }: Listing| {
            let answer = match engine {
                // A resource goes on being shown while its engine is being replaced.
                Some(engine) => match self.ask(self.current_summary(&name, engine)).await.transpose() {
                    None if state.is_none() => return None,
                    answer => answer,
                },
                None => None,
            };
            Some(EngineReport { name, state, generation, answer })
        };
        join_all(self.directory.all().into_iter().map(ask)).await.into_iter().flatten().collect()
    }

    /// Returns the number of unhealthy trunks by reason of those registries that have any. An engine looks at
    /// each of them to count: scrapes within [`FAILURES_PERIOD`] share one count, and those that come
    /// meanwhile wait for it.
    async fn failures(&self, reports: &[EngineReport]) -> FailuresByReason {
        let mut known = self.failures.lock().await;
        if let Some((_, failures)) = known.as_ref().filter(|(at, _)| at.elapsed() < FAILURES_PERIOD) {
            return failures.clone();
        }
        let failures = self.count_failures(reports).await;
        *known = Some((Instant::now(), failures.clone()));
        failures
    }

    /// Asks those registries that have unhealthy trunks, at the same time. One that says nothing in time is
    /// left out.
    async fn count_failures(&self, reports: &[EngineReport]) -> FailuresByReason {
        let unhealthy = reports.iter().filter(|report| {
            let counts = report.answer.as_ref().and_then(|answer| answer.as_ref().ok()).map(|it| &it.counts);
            counts.is_some_and(|counts| counts.failing + counts.at_risk + counts.invalid > 0)
        });
        let ask = async |report: &EngineReport| {
            let engine = self.directory.get(&report.name)?;
            let failures = self.ask(engine.failures(0)).await.ok()?;
            Some((report.name.clone(), failures.by_reason))
        };
        join_all(unhealthy.map(ask)).await.into_iter().flatten().collect()
    }

    /// `None` where the registry has left the directory: an engine that was stopped and replaced between the
    /// look into the directory and the question is not broken.
    async fn current_summary(
        &self,
        name: &RegistryName,
        engine: EngineHandle,
    ) -> Result<Option<Summary>, EngineStopped> {
        if let Ok(summary) = engine.summary().await {
            return Ok(Some(summary));
        }
        match self.directory.get(name) {
            Some(engine) => engine.summary().await.map(Some),
            None => Ok(None),
        }
    }
}

/// The meaning of Routr's `ENABLE_HEALTHCHECKS`: only `false` turns `/healthz` off. It turns off nothing
/// else.
pub fn healthz_wanted(variable: Option<&str>) -> bool {
    variable.is_none_or(|value| !value.trim().eq_ignore_ascii_case("false"))
}

/// Reason that an engine gave no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineUnresponsive {
    /// It has ended.
    #[error(transparent)]
    Stopped(#[from] EngineStopped),
    /// It did not respond within [`ENGINE_QUERY_TIMEOUT`].
    #[error("the engine did not respond within {} s", ENGINE_QUERY_TIMEOUT.as_secs())]
    Stuck,
}

/// Reason that the HTTP side could not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {problem}; give another address with {flag}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The flag of the command line that sets it.
        flag: &'static str,
        /// Error of the system.
        problem: std::io::Error,
    },
    /// The listener does not know its own address.
    #[error("the HTTP listener is broken: {0}")]
    Listener(#[from] std::io::Error),
}

/// Listens on `address`; `flag` is that of the command line which sets it, for the error.
///
/// # Errors
/// When the address is in use, not of this machine, or not allowed.
pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, AdminError> {
    TcpListener::bind(address).await.map_err(|problem| AdminError::Bind { address, flag, problem })
}

/// Serves the ports that are given until `shutdown` is cancelled; requests under way may then end, for a few
/// seconds.
///
/// # Errors
/// When a listener does not know its own address.
pub async fn serve(
    public: Option<TcpListener>,
    private: Option<TcpListener>,
    state: AdminState,
    shutdown: CancellationToken,
) -> Result<(), AdminError> {
    let public =
        public.map(|listener| listen::run(listener, public::router(state.clone()), shutdown.clone()));
    let private = match private {
        Some(listener) => {
            let router = private::router(state, listener.local_addr()?.ip());
            Some(listen::run(listener, router, shutdown.clone()))
        }
        None => None,
    };
    tokio::join!(
        async {
            if let Some(port) = public {
                port.await;
            }
        },
        async {
            if let Some(port) = private {
                port.await;
            }
        },
    );
    Ok(())
}

/// A status and what to say with it.
#[derive(Debug)]
struct ErrorResponse(StatusCode, String);

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}

impl From<EngineUnresponsive> for ErrorResponse {
    fn from(silent: EngineUnresponsive) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, silent.to_string())
    }
}
