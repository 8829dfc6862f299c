//! Probes and metrics of a Requester: `/healthz`, `/livez`, `/readyz` and `/metrics` on an HTTP port, and the
//! health service of gRPC beside the contract. None of them needs the login of callers.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin;
use routr_sip::client::Client;
use routr_types::host::Transport;

/// Default address of the HTTP port.
pub const DEFAULT_HTTP: &str = "0.0.0.0:8080";

/// Most label sets of the calls; one more counts as `other`.
const MAX_SERIES: usize = 256;

/// The content type of `/metrics`.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters of a Requester, and its readiness to take calls. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stopping: AtomicBool,
    /// Calls by transport and outcome.
    calls: Mutex<BTreeMap<(&'static str, Box<str>), u64>>,
    in_flight: AtomicU64,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct InFlight(Health);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    /// A call begins.
    pub(super) fn begin(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// A call ended: with a status code, or what stands in its place.
    pub(super) fn ended(&self, transport: Transport, outcome: &str) {
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (transport.parameter(), outcome.into());
        let key = if calls.len() < MAX_SERIES || calls.contains_key(&key) {
            key
        } else {
            (transport.parameter(), "other".into())
        };
        *calls.entry(key).or_default() += 1;
    }

    /// No further calls are taken from now on.
    pub(super) fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// The metrics in the text format of Prometheus.
    fn render(&self, client: &Client) -> String {
        let mut text = String::new();
        let mut one = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls: Vec<(String, u64)> = calls
            .iter()
            .map(|((transport, outcome), count)| {
                (format!("{{transport=\"{transport}\",outcome=\"{outcome}\"}}"), *count)
            })
            .collect();
        let help = "Calls that ended, by transport and outcome: the code of the final response, or why there is none.";
        one("routr_requester_calls_total", "counter", help, &calls);
        let plain = |value: u64| [(String::new(), value)];
        let in_flight = self.0.in_flight.load(Ordering::Relaxed);
        one("routr_requester_calls_in_flight", "gauge", "Calls under way.", &plain(in_flight));
        let waiting = u64::try_from(client.in_flight()).unwrap_or(u64::MAX);
        let help = "SIP requests that wait for their final response.";
        one("routr_requester_transactions", "gauge", help, &plain(waiting));
        let help =
            "Responses over UDP that were dropped because they came from elsewhere than the registrar.";
        one("routr_requester_dropped_responses_total", "counter", help, &plain(client.dropped_responses()));
        text
    }
}

/// Listens where probes ask. Without an address of its own that is [`DEFAULT_HTTP`]; where another program
/// has
/// that port, there are no probes, and a line in the log says so.
///
/// # Errors
/// When an address that was given cannot be listened on.
pub(super) async fn bind(given: Option<SocketAddr>) -> Result<Option<TcpListener>, std::io::Error> {
    if let Some(address) = given {
        return TcpListener::bind(address).await.map(Some);
    }
    match TcpListener::bind(DEFAULT_HTTP).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => {
            tracing::info!(%error, "no probes and metrics: {DEFAULT_HTTP} cannot be had; see --http-listen");
            Ok(None)
        }
    }
}

/// Serves the HTTP port until `shutdown` is cancelled. `healthz`: whether Routr's own path is there.
pub(super) async fn serve(
    listener: TcpListener,
    health: Health,
    client: Client,
    healthz: bool,
    shutdown: CancellationToken,
) {
    let mut router =
        Router::new().route("/livez", get(ok)).route("/readyz", get(readyz)).route("/metrics", get(metrics));
    if healthz {
        router = router.route("/healthz", get(ok));
    }
    admin::listen::run(listener, router.with_state((health, client)), shutdown).await;
}

async fn ok() -> &'static str {
    "OK"
}

async fn readyz(State((health, _)): State<(Health, Client)>) -> Response {
    match health.is_stopping() {
        false => "OK".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping: calls under way are finished\n").into_response(),
    }
}

async fn metrics(State((health, client)): State<(Health, Client)>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], health.render(&client)).into_response()
}
