//! What `/readyz` checks.
//!
//! Ready means: the trunks have been read at least once, and they can be registered. What the registry outlives without
//! losing a registration, a failing cache or an API server that went away later, is reported but leaves it ready: a
//! restart or a halted rollout would not mend it, and would cost what is in memory.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::EngineSilent;
use crate::{
    engine::view::{Health, Summary},
    table::duration,
};

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Somebody should look at it, but registrations go on.
    Degraded,
    /// This is why the registry is not ready.
    Failed,
}

impl CheckState {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// `engine`, `trunks`, `requester`, `api` or `cache`.
    pub name: String,
    /// How it came out.
    pub state: CheckState,
    /// In plain words.
    pub message: String,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Whether no check failed.
    pub ready: bool,
    /// All checks.
    pub checks: Vec<Check>,
}

impl Readiness {
    /// Judges by what the engine said, or by its silence.
    pub(super) fn judge(summary: Result<&Summary, EngineSilent>, now_ms: u64) -> Self {
        let checks = match summary {
            Err(silent) => vec![check("engine", CheckState::Failed, silent.to_string())],
            Ok(summary) => vec![
                check("engine", CheckState::Ok, "answers".to_owned()),
                trunks(summary, now_ms),
                requester(summary, now_ms),
                reported("api", &summary.api, "registrations go on with the trunks as last read", now_ms),
                reported("cache", &summary.cache, "registrations go on from memory", now_ms),
            ],
        };
        Self { ready: checks.iter().all(|check| check.state != CheckState::Failed), checks }
    }
}

/// `/readyz` as text: a verdict, then a line for each check.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.ready { "ready" } else { "not ready" })?;
        self.checks.iter().try_for_each(|c| writeln!(f, "{:<9} {:<8} {}", c.name, c.state.name(), c.message))
    }
}

fn check(name: &str, state: CheckState, message: String) -> Check {
    Check { name: name.to_owned(), state, message }
}

fn trunks(summary: &Summary, now: u64) -> Check {
    match summary.last_sync_ms {
        Some(at) => {
            let age = duration(now.saturating_sub(at));
            check("trunks", CheckState::Ok, format!("read {age} ago"))
        }
        None => {
            let why =
                summary.api.message.as_deref().unwrap_or("the first answer of the API server is awaited");
            check("trunks", CheckState::Failed, format!("never read so far: {why}"))
        }
    }
}

/// A Requester that was never tried is good enough where nothing waits for it: there are no trunks, or all of them are
/// still registered from before a restart.
fn requester(summary: &Summary, now: u64) -> Check {
    let awaited = summary.counts.pending.max(summary.in_flight).max(summary.waiting);
    match summary.requester.ok {
        Some(true) => check("requester", CheckState::Ok, "works".to_owned()),
        Some(false) => check("requester", CheckState::Failed, not_working(&summary.requester, now)),
        None if awaited == 0 => check("requester", CheckState::Ok, "not needed so far".to_owned()),
        None => check(
            "requester",
            CheckState::Failed,
            format!("no answer so far; trunks that wait for one: {awaited}"),
        ),
    }
}

fn reported(name: &str, health: &Health, effect: &str, now: u64) -> Check {
    match health.ok {
        Some(true) => check(name, CheckState::Ok, "works".to_owned()),
        Some(false) => check(name, CheckState::Degraded, format!("{}; {effect}", not_working(health, now))),
        None => check(name, CheckState::Ok, "not tried so far".to_owned()),
    }
}

fn not_working(health: &Health, now: u64) -> String {
    let since = duration(now.saturating_sub(health.since_ms));
    format!("not working for {since}: {}", health.message.as_deref().unwrap_or("no reason is known"))
}
