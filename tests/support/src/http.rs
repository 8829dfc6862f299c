//! A small HTTP client for the tests.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Within it a look is repeated that went to a program as it ended: far beyond what a response takes on a
/// busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 256 << 20;

/// GET `url`: status and body.
pub async fn get(url: &str) -> Result<(StatusCode, Bytes), String> {
    send(Method::GET, url, String::new()).await
}

/// POST `body` as JSON to `url`: status and body.
pub async fn post(url: &str, body: String) -> Result<(StatusCode, Bytes), String> {
    send(Method::POST, url, body).await
}

async fn send(method: Method, url: &str, body: String) -> Result<(StatusCode, Bytes), String> {
    let exchange = async {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        // A client for each request: no connection of an earlier run of the server is ever used again.
        let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
        let response = client.request(request).await.map_err(|error| format!("{url}: {error:?}"))?;
        let status = response.status();
        let body =
            to_bytes(Body::new(response.into_body()), MAX_BODY).await.map_err(|error| error.to_string())?;
        Ok((status, body))
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("{url}: no answer in {DEADLINE:?}")))
}
