//! Probes and metrics of a Requester: `/healthz`, `/livez`, `/readyz` and `/metrics` on an HTTP port, and the
//! health service of gRPC beside the contract. None of them needs the login of callers. `/trace` is for
//! callers on the same machine: see [`super::trace`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::Registry,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::trace::{self, Trace};
use crate::{
    admin,
    metrics::{
        exposition::{self, Format},
        process,
    },
};
use routr_sip::client::Client;
use routr_types::host::Transport;

/// Default address of the HTTP port.
pub const DEFAULT_HTTP: &str = "0.0.0.0:8080";

/// Most label sets of the calls; one more counts as `other`.
const MAX_SERIES: usize = 256;

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

    /// The metrics as OpenMetrics text. `started_unix_ms`: when the process started.
    fn render(&self, client: &Client, started_unix_ms: u64) -> String {
        let mut all = Registry::default();
        process::register(&mut all, started_unix_ms);
        let registry = all.sub_registry_with_prefix("routr_requester");
        let calls = Family::<[(&'static str, String); 2], Counter>::default();
        for ((transport, outcome), count) in &*self.0.calls.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = [("transport", (*transport).to_owned()), ("outcome", lower_camel_case(outcome))];
            calls.get_or_create(&labels).inc_by(*count);
        }
        let help = "Calls that ended, by transport and outcome: the code of the final response, or why there is none";
        registry.register("calls", help, calls);
        let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let in_flight = gauge(self.0.in_flight.load(Ordering::Relaxed));
        registry.register("calls_in_flight", "Calls under way", in_flight);
        let waiting = gauge(u64::try_from(client.in_flight()).unwrap_or(u64::MAX));
        registry.register("transactions", "SIP requests that wait for their final response", waiting);
        let help = "Responses over UDP that were dropped because they came from elsewhere than the registrar";
        registry.register("dropped_responses", help, ConstCounter::new(client.dropped_responses()));
        exposition::encode(&all)
    }
}

/// A word of the wire in the style of all label values: `unknown-host` is `unknownHost`.
fn lower_camel_case(word: &str) -> String {
    let mut parts = word.split('-');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
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

/// Serves the HTTP port until `shutdown` is cancelled. `healthz`: whether Routr's own path is there;
/// `trace`: what `/trace` shows.
pub(super) async fn serve(
    listener: TcpListener,
    health: Health,
    client: Client,
    trace: Option<Trace>,
    healthz: bool,
    shutdown: CancellationToken,
) {
    let mut router =
        Router::new().route("/livez", get(ok)).route("/readyz", get(readyz)).route("/metrics", get(metrics));
    if healthz {
        router = router.route("/healthz", get(ok));
    }
    let state = (health, client, routr_environment::unix_ms());
    let router = router.with_state(state).merge(trace::route(trace));
    admin::listen::run(listener, router, shutdown).await;
}

async fn ok() -> &'static str {
    "OK"
}

async fn readyz(State((health, ..)): State<(Health, Client, u64)>) -> Response {
    match health.is_stopping() {
        false => "OK".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping: calls under way are finished\n").into_response(),
    }
}

async fn metrics(
    State((health, client, started_unix_ms)): State<(Health, Client, u64)>,
    headers: HeaderMap,
) -> Response {
    Format::of(&headers).response(health.render(&client, started_unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcomes_of_calls_are_spelled_as_all_label_values() {
        for (word, expected) in [
            ("200", "200"),
            ("timeout", "timeout"),
            ("transport-error", "transportError"),
            ("unknown-host", "unknownHost"),
            ("a--b-", "aB"),
            ("", ""),
        ] {
            assert_eq!(lower_camel_case(word), expected, "{word:?}");
        }
    }
}
