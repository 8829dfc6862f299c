//! SIP trace on demand: the last messages to and from registrars, without secrets, and those to come.
//!
//! It is off unless `--trace` is given. Messages are masked before they are kept ([`mask`]). The HTTP port
//! hands them to callers on the same machine alone (`GET /trace`), to be read with
//! `routr-registry requester trace` ([`show`]).

mod http;
mod mask;
mod show;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(super) use self::http::route;
pub use self::show::{TraceArgs, TraceError, run};
use routr_sip::{
    client::Destination,
    message::{Request, Response},
    uri::NameAddr,
};
use routr_types::text;

/// Most messages that are kept.
const MAX_MESSAGES: usize = 200;
/// Most bytes of one message; its end is cut off.
const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// Most bytes of all messages.
const MAX_TOTAL_BYTES: usize = 1 << 20;
/// Most bytes of a host or a user beside the text.
const MAX_NAME_BYTES: usize = 300;

/// The last messages. Clones share them.
#[derive(Clone, Debug)]
pub struct Trace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ring: Mutex<Ring>,
    /// Number of the newest message.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    messages: VecDeque<TracedMessage>,
    bytes: usize,
}

/// One message, or the reason that there is no response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TracedMessage {
    /// Rises by one with each message, from 1.
    pub number: u64,
    /// Time, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Kind of event.
    pub kind: Kind,
    /// Host, port and transport of the next hop: the registrar, or the EdgePort.
    pub next_hop: String,
    /// User of the request's To.
    pub user: String,
    /// Host of the request's To: the registrar's domain.
    pub domain: String,
    /// Lines of the message, or of the failure, without secrets and control characters.
    pub text: String,
}

/// Kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A request on its way to the next hop; Via is added later.
    Sent,
    /// A final response.
    Received,
    /// No final response came.
    Failed,
}

/// Messages that someone wants to see; without a condition all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// User of To.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Host of the next hop, or of To.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrar: Option<String>,
}

impl Condition {
    fn admits(&self, message: &TracedMessage) -> bool {
        let host = |wanted: &String| {
            let hop = message.next_hop.rsplit_once('/').map_or(&*message.next_hop, |(hop, _)| hop);
            // `host`, `host:port` or `[IPv6]:port`.
            let bare = hop.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
            let bare = bare.map_or(hop, |(host, _)| host);
            let all = [hop, bare, bare.trim_matches(['[', ']']), &*message.domain];
            all.iter().any(|host| host.eq_ignore_ascii_case(wanted))
        };
        self.user.as_ref().is_none_or(|user| *user == message.user)
            && self.registrar.as_ref().is_none_or(host)
    }
}

/// Records what becomes of one request.
#[derive(Debug)]
pub(super) struct Recorder<'a> {
    trace: Option<&'a Trace>,
    /// Texts that are replaced wherever they stand.
    secrets: Vec<String>,
}

impl Default for Trace {
    fn default() -> Self {
        Self(Arc::new(Inner { ring: Mutex::default(), newest: watch::Sender::default() }))
    }
}

impl Trace {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, kind: Kind, request: &Request, destination: &Destination, text: String) {
        let to = request.headers.get("To").and_then(|to| NameAddr::parse(to).ok());
        let named = |name: &str| text::clean(name, MAX_NAME_BYTES);
        let message = TracedMessage {
            number: 0,
            at_ms: routr_environment::unix_ms(),
            kind,
            next_hop: named(&destination.to_string()),
            user: to.as_ref().and_then(|to| to.uri.user.as_deref()).map(named).unwrap_or_default(),
            domain: to.map(|to| named(&to.uri.host)).unwrap_or_default(),
            text,
        };
        self.keep(message);
    }

    fn keep(&self, message: TracedMessage) {
        let mut ring = self.ring();
        // Numbers rise in the order of the ring.
        let number = *self.0.newest.borrow() + 1;
        ring.bytes += message.bytes();
        ring.messages.push_back(TracedMessage { number, ..message });
        while ring.messages.len() > MAX_MESSAGES || ring.bytes > MAX_TOTAL_BYTES {
            let Some(oldest) = ring.messages.pop_front() else { break };
            ring.bytes -= oldest.bytes();
        }
        self.0.newest.send_replace(number);
    }

    /// Returns the messages above a number that meet the condition, and the number of the newest of all.
    fn after(&self, number: u64, condition: &Condition) -> (Vec<TracedMessage>, u64) {
        let ring = self.ring();
        let newest = *self.0.newest.borrow();
        // Another process, which began to count again.
        let number = if number > newest { 0 } else { number };
        let all = ring.messages.iter().filter(|message| message.number > number);
        (all.filter(|message| condition.admits(message)).cloned().collect(), newest)
    }
}

impl TracedMessage {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.next_hop.len() + self.user.len() + self.domain.len() + self.text.len()
    }
}

impl<'a> Recorder<'a> {
    /// Records where there is a trace. `secrets`: texts that must not be shown, whichever field has them.
    pub(super) fn new<'s>(trace: Option<&'a Trace>, secrets: impl FnOnce() -> Vec<&'s str>) -> Self {
        let secrets = trace.map(|_| secrets().into_iter().map(str::to_owned).collect());
        Self { trace, secrets: secrets.unwrap_or_default() }
    }

    /// A request goes out.
    pub(super) fn sent(&mut self, request: &Request, destination: &Destination) {
        let Some(trace) = self.trace else { return };
        mask::collect(&request.headers, &mut self.secrets);
        let start = format!("{} {} SIP/2.0", request.method, request.uri);
        let text = mask::text(&start, &request.headers, request.body.len(), &self.secrets);
        trace.record(Kind::Sent, request, destination, text);
    }

    /// Its final response came, or none.
    pub(super) fn ended<E: std::fmt::Display>(
        &mut self,
        request: &Request,
        destination: &Destination,
        outcome: Result<&Response, E>,
    ) {
        let Some(trace) = self.trace else { return };
        match outcome {
            Ok(response) => {
                mask::collect(&response.headers, &mut self.secrets);
                let start = format!("SIP/2.0 {} {}", response.code, response.reason);
                let text = mask::text(&start, &response.headers, response.body.len(), &self.secrets);
                trace.record(Kind::Received, request, destination, text);
            }
            Err(error) => {
                let text = mask::line(&error.to_string(), &self.secrets);
                trace.record(Kind::Failed, request, destination, text);
            }
        }
    }
}

#[cfg(test)]
mod tests;
