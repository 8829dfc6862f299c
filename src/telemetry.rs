//! Logs: who reads them decides their form, two environment variables decide how much there is.
//!
//! * `RUST_LOG`, where it is set and not empty, is taken as it stands (the syntax of tracing's `EnvFilter`).
//! * Otherwise `LOGS_LEVEL` names a level as Routr's other services have it; the libraries underneath stay at
//!   `warn`, and those at `error` or silent whose lines repeat what is logged here.

pub use routr_types::error_text::{error_chain, innermost};
use std::io::{self, IsTerminal};

use routr_types::text::LogLine;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, filter::ParseError, fmt::MakeWriter, layer::SubscriberExt as _, util::TryInitError,
};

pub mod share;
#[cfg(test)]
mod tests;

/// Levels of Routr's services, and what each is here.
const LEVELS: [(&str, &str); 6] = [
    ("silly", "trace"),
    ("verbose", "debug"),
    ("debug", "debug"),
    ("info", "info"),
    ("warn", "warn"),
    ("error", "error"),
];

/// Libraries that say much below `warn`. A name covers every target that starts with it.
const LIBRARIES: [&str; 8] = ["h2", "hickory", "hyper", "kube", "redis", "rustls", "tonic", "tower"];

/// Targets that repeat what their caller reports, with less of the cause: one line for each request that
/// fails (`client error (Connect)`), or a whole response of the Kubernetes API server that it cannot read,
/// passwords included. Every failure comes back to this program as an error too, which is logged once, when
/// it changes. What TLS settings come to is said nowhere else.
const SILENCED: [(&str, &str); 3] =
    [("kube_client", "off"), ("kube_client::client::tls", "warn"), ("kube_runtime", "error")];

/// Format of log lines, as requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text where standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

/// Format of log lines in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Text, for people.
    Text,
    /// JSON, for programs.
    Json,
}

/// Reason that logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `LOGS_LEVEL` is not one of the known levels.
    #[error("LOGS_LEVEL: {value:?} is not a level; use silly, verbose, debug, info, warn or error")]
    Level {
        /// Value of the variable.
        value: String,
    },
    /// `RUST_LOG` cannot be parsed.
    #[error(
        "RUST_LOG: {value:?} is not a filter ({problem}); use for example info, or info,routr_registry=debug"
    )]
    Filter {
        /// Value of the variable.
        value: String,
        /// Error of the parser.
        problem: ParseError,
    },
    /// A variable holds bytes that are not UTF-8.
    #[error("{name}: the value is not UTF-8 text; use {right}")]
    NotText {
        /// The variable.
        name: &'static str,
        /// Suggested value.
        right: &'static str,
    },
    /// This process already has a subscriber.
    #[error("logging was set up twice: {0}")]
    Twice(#[from] TryInitError),
}

/// Sends log lines to standard error, as `format`, `RUST_LOG` and `LOGS_LEVEL` say, and returns their format.
/// Call it once, at the start.
///
/// # Errors
/// When one of the variables cannot be understood, or when it is called a second time.
pub fn init(format: LogFormat) -> Result<Lines, TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let rust_log = variable("RUST_LOG", "a filter such as info")?;
    let logs_level = variable("LOGS_LEVEL", "silly, verbose, debug, info, warn or error")?;
    let filter = filter(rust_log.as_deref(), logs_level.as_deref())?;
    let terminal = io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let json = is_json(format, terminal);
    subscriber(json, colour, filter, io::stderr).try_init()?;
    Ok(if json { Lines::Json } else { Lines::Text })
}

fn variable(name: &'static str, right: &'static str) -> Result<Option<String>, TelemetryError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|v| !v.trim().is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(TelemetryError::NotText { name, right }),
    }
}

fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

fn filter(rust_log: Option<&str>, logs_level: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let directives = match rust_log {
        Some(directives) => directives.to_owned(),
        None => directives(logs_level.unwrap_or("info"))?,
    };
    EnvFilter::builder()
        .parse(&directives)
        .map_err(|problem| TelemetryError::Filter { value: directives, problem })
}

/// Returns what `LOGS_LEVEL` means as a filter: that level here, and no more than `warn` from the libraries.
fn directives(logs_level: &str) -> Result<String, TelemetryError> {
    let wanted = logs_level.trim();
    let level = LEVELS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, level)| *level)
        .ok_or_else(|| TelemetryError::Level { value: logs_level.to_owned() })?;
    let quiet = if level == "error" { "error" } else { "warn" };
    let libraries = LIBRARIES.iter().map(|library| format!(",{library}={quiet}"));
    let silenced = SILENCED.iter().map(|(target, level)| format!(",{target}={level}"));
    Ok(std::iter::once(level.to_owned()).chain(libraries).chain(silenced).collect())
}

/// Makes writers of lines whose control characters are visible.
struct Escaping<W> {
    writer: W,
    json: bool,
    colour: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaping<W> {
    type Writer = LogLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine::new(self.writer.make_writer(), self.json, self.colour)
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Self::Writer {
        LogLine::new(self.writer.make_writer_for(metadata), self.json, self.colour)
    }
}

fn subscriber<W>(json: bool, colour: bool, filter: EnvFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let builder = builder.with_writer(Escaping { writer, json, colour });
    if json {
        Box::new(builder.json().flatten_event(true).with_span_list(false).finish().with(share::Shares))
    } else {
        Box::new(builder.with_ansi(false).finish().with(share::Shares))
    }
}
