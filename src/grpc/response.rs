//! Responses that are HTTP, but not gRPC: what a proxy says in the place of the service.

use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderMap, Response, StatusCode, header},
};

use super::peer::Connection;
use crate::tls::cause::Asked;

/// Characters of a Server header field that are shown.
const MAX_SERVER: usize = 40;
/// What a response of gRPC has in its header, where it has no body.
const GRPC_STATUS: &str = "grpc-status";

/// Returns a response of gRPC as it is.
///
/// # Errors
/// What HTTP says, as a status, where a response is none of gRPC
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
pub(super) fn check(response: Response<Body>, from: &Connection) -> Result<Response<Body>, Status> {
    let (code, headers) = (response.status(), response.headers());
    if headers.contains_key(GRPC_STATUS) {
        return Ok(response);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_grpc = kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case("application/grpc"));
    if code == StatusCode::OK && (is_grpc || kind.is_empty()) {
        return Ok(response);
    }
    let reason = code.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    let server = server(headers).map(|server| format!(" ({server})")).unwrap_or_default();
    let mut text = format!("HTTP {}{reason} from {}{server}", code.as_u16(), from.at);
    if code == StatusCode::OK {
        text.push_str(&format!(", with content of type {:?} and not of gRPC", shown(kind)));
    } else if from.asked.get() == Asked::None {
        text.push_str(
            ", which asked for a client certificate; name one by spec.tls.certFile and spec.tls.keyFile",
        );
    }
    Err(match code {
        StatusCode::UNAUTHORIZED => Status::unauthenticated(text),
        StatusCode::FORBIDDEN => Status::permission_denied(text),
        // 404 is "unimplemented" by that table. But gRPC says so itself where a service is there: a proxy has no route to one.
        _ => Status::unavailable(text),
    })
}

fn server(headers: &HeaderMap) -> Option<String> {
    let server = headers.get(header::SERVER)?.to_str().ok()?;
    Some(shown(server)).filter(|server| !server.is_empty())
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SERVER).collect()
}
