//! `routr-registry requester trace`: prints the trace of a running Requester.

use std::{
    io::{self, Write},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use super::{
    Condition, Kind, TracedMessage,
    http::{MAX_WAIT, Page},
};
use routr_types::text;

/// Bytes of a response: all messages, each byte escaped as JSON does at worst.
const MAX_BODY: usize = 8 << 20;
/// Time limit of a response beyond the wait.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a Requester that is gone is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Print the last SIP messages of a running Requester that was started with --trace; credentials and nonces
/// are masked
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// URL of the Requester's HTTP port (--http-listen), on this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Only messages of this user, as To names it
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Only messages to and from this registrar or EdgePort: its host, or the host of To
    #[arg(long, value_name = "HOST")]
    pub registrar: Option<String>,
    /// Go on with the messages to come, until Ctrl-C
    #[arg(long)]
    pub follow: bool,
}

/// Reason that there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There is no response.
    #[error("no response from {url}: {problem}; does a Requester run there, with this --http-listen?")]
    NoResponse {
        /// URL that was asked.
        url: String,
        /// Reason that there is none.
        problem: String,
    },
    /// The Requester does not hand out its trace.
    #[error("{url} responded with {status}: {said}")]
    Refused {
        /// URL that was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        said: String,
    },
    /// The response is no trace.
    #[error("{url} is not the HTTP port of a Requester: {problem}")]
    NotARequester {
        /// URL that was asked.
        url: String,
        /// Reason that it cannot be read.
        problem: String,
    },
    /// Nothing can be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Prints the trace; with `follow` until the output is closed.
///
/// # Errors
/// When the Requester does not respond, or does not hand out its trace.
pub async fn run(args: TraceArgs) -> Result<(), TraceError> {
    match print(args).await {
        Err(TraceError::Output(problem)) if problem.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

async fn print(args: TraceArgs) -> Result<(), TraceError> {
    let url = args.url.trim_end_matches('/').to_owned();
    let condition = Condition { user: args.user, registrar: args.registrar };
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (mut since, mut before) = (0, None);
    loop {
        let page = match fetch(&client, &url, &condition, since, before.is_some()).await {
            Ok(page) => page,
            // It restarts: what comes then is wanted, too.
            Err(error @ TraceError::NoResponse { .. }) if before.is_some() => {
                writeln!(io::stderr(), "{error}; trying again")?;
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut out = io::stdout().lock();
        for message in &page.messages {
            out.write_all(shown(message).as_bytes())?;
        }
        out.flush()?;
        drop(out);
        if !args.follow {
            if page.messages.is_empty() {
                writeln!(io::stderr(), "no message yet; --follow waits for those to come")?;
            }
            return Ok(());
        }
        since = page.newest;
        before = Some(());
    }
}

async fn fetch(
    client: &Client<HttpConnector, Empty<Bytes>>,
    url: &str,
    condition: &Condition,
    since: u64,
    wait: bool,
) -> Result<Page, TraceError> {
    let wait = if wait { MAX_WAIT } else { Duration::ZERO };
    let mut uri = format!("{url}/trace?since={since}&wait={}", wait.as_secs());
    for (name, value) in [("user", &condition.user), ("registrar", &condition.registrar)] {
        if let Some(value) = value {
            uri.extend(["&", name, "="].into_iter().chain(utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
    }
    let exchange = async {
        let request = Request::builder().uri(&uri).body(Empty::new())?;
        let response = client.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await?.to_bytes();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body))
    };
    let none =
        |problem: &str| TraceError::NoResponse { url: url.to_owned(), problem: text::clean(problem, 300) };
    let late = format!("nothing within {} s", RESPONSE_TIMEOUT.as_secs());
    let (status, body) = match timeout(wait + RESPONSE_TIMEOUT, exchange).await {
        Err(_) => return Err(none(&late)),
        Ok(Err(error)) => return Err(none(&crate::telemetry::error_chain(&*error))),
        Ok(Ok(done)) => done,
    };
    if status != StatusCode::OK {
        let said = text::clean(&String::from_utf8_lossy(&body), 400);
        return Err(TraceError::Refused { url: url.to_owned(), status: status.as_u16(), said });
    }
    serde_json::from_slice(&body).map_err(|error| TraceError::NotARequester {
        url: url.to_owned(),
        problem: text::clean(&error.to_string(), 300),
    })
}

/// Returns a message for a terminal: whatever the other side sent, no line of it is more than text.
fn shown(message: &TracedMessage) -> String {
    let ms = i64::try_from(message.at_ms).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(ms).map(|at| format!("{at:.3}")).unwrap_or_default();
    let what = match message.kind {
        Kind::Sent => "sent to",
        Kind::Received => "received from",
        Kind::Failed => "no response from",
    };
    let [hop, user] = [&message.next_hop, &message.user].map(|name| text::one_line(name));
    let mut shown = format!("{at} {what} {hop} ({user})\n");
    for line in message.text.lines() {
        shown.extend(["  ", &text::one_line(line), "\n"]);
    }
    shown.push('\n');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_text_and_no_more() {
        let message = TracedMessage {
            number: 1,
            at_ms: 1_790_000_000_123,
            kind: Kind::Received,
            next_hop: "sip.example.com:5060/UDP".to_owned(),
            user: "al\u{1b}[31mice".to_owned(),
            domain: String::new(),
            text: "SIP/2.0 200 \u{1b}]0;owned\u{7}OK\nServer: \u{202e}x\r\n\u{9b}2J".to_owned(),
        };
        let shown = shown(&message);
        assert!(
            shown.starts_with("2026-09-21T14:13:20.123Z received from sip.example.com:5060/UDP (al"),
            "{shown}"
        );
        assert!(!shown.contains(|c: char| c != '\n' && c.is_control() || c == '\u{202e}'), "{shown:?}");
        assert_eq!(shown.lines().count(), 5, "{shown:?}");
    }
}
