//! Requests that come to where ours came from. There is no server here: each gets one response, made without
//! a transaction (RFC 3261 §8.2.7), so that the peer learns where it stands and a log line says what to set.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    headers::BuildError,
    message::{Request, Response},
    uri::NameAddr,
    via::Via,
};

/// Most responses to one source in a [`WINDOW`]; what comes beyond gets none. A provider that probes each of
/// thousands of trunks stays below; a response is hardly longer than its request, so that there is nothing to
/// be amplified.
const MAX_PER_SOURCE: u32 = 100;

/// Most responses in a [`WINDOW`], to all sources together.
const MAX_TOTAL: u32 = 2000;

const WINDOW: Duration = Duration::from_secs(1);

/// Most sources that are counted at a time.
const MAX_SOURCES: usize = 4096;

/// Most source hosts that the log names.
const MAX_WARNED: usize = 64;

/// The methods that do not get 405 or 501.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS";

/// A response, and where it goes if it goes as a datagram.
pub(super) struct Answer {
    pub(super) bytes: Bytes,
    pub(super) to: SocketAddr,
}

/// Responds to requests, within bounds.
pub(super) struct Incoming {
    /// Explanation in the log when a request comes that is no OPTIONS.
    note: &'static str,
    tags: RandomState,
    limits: Mutex<Limits>,
    warned: Mutex<HashSet<IpAddr>>,
}

#[derive(Default)]
struct Limits {
    since: Option<Instant>,
    total: u32,
    by_source: HashMap<IpAddr, u32>,
}

impl Limits {
    fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        if self.total >= MAX_TOTAL
            || (self.by_source.len() >= MAX_SOURCES && !self.by_source.contains_key(&source))
        {
            return false;
        }
        let used = self.by_source.entry(source).or_default();
        if *used >= MAX_PER_SOURCE {
            return false;
        }
        (*used, self.total) = (*used + 1, self.total + 1);
        true
    }
}

impl Incoming {
    pub(super) fn new(note: &'static str) -> Self {
        Self { note, tags: RandomState::new(), limits: Mutex::default(), warned: Mutex::default() }
    }

    /// Returns the response to a request from that address; `None` for an ACK, for one that cannot get a
    /// response (RFC 3261 §8.1.1 has what each must have), and for one too many.
    pub(super) fn respond(&self, request: &Request, from: SocketAddr) -> Option<Answer> {
        let host = from.ip().to_canonical();
        let (code, reason) = judge(request)?;
        let mut via = request.headers.via()?;
        let is_complete = request.headers.cseq().is_some_and(|(_, method)| method == request.method)
            && request.headers.call_id().is_some()
            && ["From", "To"]
                .into_iter()
                .all(|name| request.headers.get(name).is_some_and(|value| NameAddr::parse(value).is_ok()));
        if !is_complete {
            tracing::debug!(%from, method = request.method, "ignored an incomplete request");
            return None;
        }
        let admitted =
            self.limits.lock().unwrap_or_else(PoisonError::into_inner).admit(counted(host), Instant::now());
        if !admitted {
            return None;
        }
        if request.method == "OPTIONS" {
            tracing::debug!(%from, code, "answered an OPTIONS");
        } else {
            self.warn(host, &request.method, code);
        }
        let to = mark_source(&mut via, host, from);
        let response = self.write(request, &via, code, reason);
        match response.and_then(|response| response.to_bytes()) {
            Ok(bytes) => Some(Answer { bytes: bytes.into(), to }),
            Err(error) => {
                tracing::debug!(%from, %error, "a request could not be answered");
                None
            }
        }
    }

    fn write(&self, request: &Request, via: &Via, code: u16, reason: &str) -> Result<Response, BuildError> {
        let mut response = Response::to_request(request, code, reason);
        let headers = &mut response.headers;
        let rest: Vec<String> = request.headers.list("Via").skip(1).map(str::to_owned).collect();
        headers.remove("Via");
        for value in rest.iter().rev() {
            headers.push_front("Via", value.as_str())?;
        }
        headers.push_front("Via", via.to_string())?;
        if request.headers.to_tag().is_none() {
            // The same for a request that is sent again (RFC 3261 §8.2.7).
            let (call_id, from) = (request.headers.call_id(), request.headers.from_tag());
            let tag = self.tags.hash_one((call_id, from, via.branch(), request.headers.cseq()));
            let to = request.headers.get("To").unwrap_or_default();
            headers.set("To", format!("{to};tag={tag:016x}"))?;
        }
        if matches!(code, 200 | 405 | 501) {
            headers.push("Allow", ALLOW)?;
        }
        match code {
            200 => headers.push("Accept", "application/sdp")?,
            420 => {
                for option in request.headers.list("Require") {
                    headers.push("Unsupported", option)?;
                }
            }
            _ => {}
        }
        Ok(response)
    }

    /// One line for each host, whatever it sends after that.
    fn warn(&self, host: IpAddr, method: &str, code: u16) {
        {
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.len() >= MAX_WARNED || !warned.insert(host) {
                return;
            }
        }
        let method = routr_types::text::escaped(method, 32);
        tracing::warn!(
            source = %host,
            method,
            code,
            "a request came to where requests are sent from: {}",
            self.note
        );
    }
}

/// The response code and phrase; `None` for an ACK, which gets no response.
fn judge(request: &Request) -> Option<(u16, &'static str)> {
    const NO_DIALOG: (u16, &str) = (481, "Call/Transaction Does Not Exist");
    let in_dialog = request.headers.to_tag().is_some();
    let requires = request.headers.list("Require").next().is_some();
    Some(match request.method.as_str() {
        "ACK" => return None,
        // RFC 3261 §8.2.2.3 and §11.2.
        "OPTIONS" if requires => (420, "Bad Extension"),
        "OPTIONS" => (200, "OK"),
        "INVITE" if !in_dialog => (480, "Temporarily Unavailable"),
        // RFC 3261 §9.2 and §12.2.2; RFC 6665 §4.1.3.
        "INVITE" | "CANCEL" | "BYE" | "PRACK" | "UPDATE" | "INFO" => NO_DIALOG,
        "NOTIFY" => (481, "Subscription Does Not Exist"),
        "SUBSCRIBE" if in_dialog => NO_DIALOG,
        // RFC 6665 §4.2.1.2, RFC 3903 §6: no event package is known.
        "SUBSCRIBE" | "PUBLISH" => (489, "Bad Event"),
        // RFC 3261 §8.2.1: known, and not allowed here.
        "MESSAGE" | "REFER" | "REGISTER" => (405, "Method Not Allowed"),
        _ => (501, "Not Implemented"),
    })
}

/// Notes in the topmost Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4), and returns where a
/// datagram with the response goes: to that host, never to another one, whatever Via names. The port is that
/// of Via where the peer names one and does not ask for the one that it sent from.
fn mark_source(via: &mut Via, host: IpAddr, from: SocketAddr) -> SocketAddr {
    let rport = via.param("rport").is_some();
    let named_here = via.host.parse() == Ok(host);
    via.params.retain(|(name, _)| !["received", "rport"].iter().any(|p| name.eq_ignore_ascii_case(p)));
    if rport || !named_here {
        via.params.push(("received".to_owned(), Some(host.to_string())));
    }
    let mut to = from;
    if rport {
        via.params.push(("rport".to_owned(), Some(from.port().to_string())));
    } else if let Some(port) = via.port {
        to.set_port(port);
    }
    to
}

/// Returns what stands for a source when responses are counted: an IPv6 host can have any address of its
/// network.
fn counted(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(_) => host,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}
