//! Keeps web pages in a browser on the same machine away from the private port.
//!
//! A page can make a browser send requests to 127.0.0.1, and by DNS rebinding even read the responses. Two
//! signs give it away: it names its own host in `Host`, and it carries `Origin` when it posts. Command line
//! clients do neither.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::ErrorResponse;

/// Refuses what a web page may have sent. `listening_on` is the address of the port: the `Host` is only
/// checked on loopback, for someone who opened the port to a network also chose the names by which it is
/// called.
pub(super) async fn refuse_browsers(
    State(listening_on): State<IpAddr>,
    request: Request,
    next: Next,
) -> Response {
    if listening_on.is_loopback()
        && let Err(refusal) = check_host(request.headers())
    {
        return refusal.into_response();
    }
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if !safe && let Err(refusal) = check_origin(request.headers()) {
        return refusal.into_response();
    }
    next.run(request).await
}

/// Returns the refusal of a request that a web page may have sent, however safe its method is.
pub(crate) fn refusal(headers: &HeaderMap) -> Option<Response> {
    let checked = check_host(headers).and_then(|()| check_origin(headers));
    checked.err().map(IntoResponse::into_response)
}

fn check_host(headers: &HeaderMap) -> Result<(), ErrorResponse> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    match host {
        Some(host) if is_local(&host) && hosts.next().is_none() => Ok(()),
        host => Err(ErrorResponse(
            StatusCode::FORBIDDEN,
            format!(
                "Host: {:?} is not allowed on this port; use localhost or an IP address",
                host.unwrap_or_default()
            ),
        )),
    }
}

fn check_origin(headers: &HeaderMap) -> Result<(), ErrorResponse> {
    for sign in ["origin", "sec-fetch-site"] {
        if headers.contains_key(sign) {
            return Err(ErrorResponse(
                StatusCode::FORBIDDEN,
                format!("{sign}: a web page cannot do this; use routr-registry refresh, or curl without it"),
            ));
        }
    }
    Ok(())
}

/// Returns whether a `Host` names this machine without asking DNS: `localhost`, or an IP address, each with
/// or without port.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            name
        }
        _ => host,
    };
    if let Some(v6) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return v6.parse::<std::net::Ipv6Addr>().is_ok();
    }
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_names_that_need_no_dns_are_local() {
        for good in [
            "localhost",
            "LOCALHOST:8081",
            "127.0.0.1",
            "127.0.0.1:8081",
            "[::1]",
            "[::1]:8081",
            "10.0.0.7:1",
        ] {
            assert!(is_local(good), "{good}");
        }
        let bad = [
            "",
            "evil.example",
            "evil.example:8081",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:",
            "localhost:x",
            "::1",
            "[evil]:80",
            "127.1",
            "localhost@evil.example:80",
        ];
        for bad in bad {
            assert!(!is_local(bad), "{bad}");
        }
    }
}
