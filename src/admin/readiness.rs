//! Checks of `/readyz`.
//!
//! Ready means: the trunks have been read at least once, and they can be registered. What the registry
//! outlives without losing a registration, a failing cache or an API server that went away later, is reported
//! but leaves it ready: a restart or a halted rollout would not fix it, and would cost what is in memory.
//!
//! Registrars and EdgePorts that are down are reported too, with what is known of them: a Requester that
//! responds says nothing of what is behind it.
//!
//! A replica of an operator reports on itself: whether it leads, or could. A registry that is not ready is
//! reported, and leaves the replica ready: it must not take the leader of all the others out of service, nor
//! block a rollout. A replica that has not listed the Registries yet is not ready, and no candidate for the
//! Lease.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::EngineReport;
use crate::registry::{RegistryPhase, RegistryState};
use crate::table;
use routr_leader_election::LeadershipStatus;
use routr_registration::engine::view::{DependencyFailure, Health, Summary};
use routr_types::text::{duration, plural};

/// Most unhealthy registries that are named.
const MAX_NAMED_REGISTRIES: usize = 10;

/// Most registrars or EdgePorts that are down and are named.
const MAX_NAMED_OUTAGES: usize = 3;

/// The narrowest column of names in the text.
const NAME_WIDTH: usize = 9;

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckState {
    /// Everything as it should be.
    Ok,
    /// Someone should look at it, but registrations go on.
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
    /// `engine`, `trunks`, `requester`, `api` or `cache`, and `edgePorts` or `registrars` where one is down;
    /// of an operator's replica, `lease`, `watch`, `requests`, `events` or `definition` (its own requests to
    /// its API server), `registries`, or the name of a registry that is unhealthy or has no engine.
    pub name: String,
    /// Result of the check.
    pub state: CheckState,
    /// Message in plain words.
    pub message: String,
}

/// One line of `/readyz` that is not about a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// Result of the check.
    pub severity: CheckState,
    /// Message in plain words; no time that moves on by itself.
    pub message: String,
    /// Start of this state, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
}

/// The response of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// True when no check failed.
    pub ready: bool,
    /// All checks.
    pub checks: Vec<Check>,
}

impl Readiness {
    /// Judges a process that runs a registry by what that said, or by its silence.
    pub(super) fn of_registries(reports: &[EngineReport], now_ms: u64) -> Self {
        Self::of(reports.iter().flat_map(|reports| checks(reports, now_ms)).collect())
    }

    /// Judges a replica of an operator.
    pub(super) fn of_replica(
        standing: &LeadershipStatus,
        health: &[Finding],
        reports: &[EngineReport],
        now_ms: u64,
    ) -> Self {
        let mut all = vec![lease(standing)];
        all.extend(health.iter().map(|finding| of_finding(finding, now_ms)));
        if *standing == LeadershipStatus::Leading || !reports.is_empty() {
            all.extend(registries(reports, now_ms));
        }
        Self::of(all)
    }

    fn of(checks: Vec<Check>) -> Self {
        Self { ready: checks.iter().all(|check| check.state != CheckState::Failed), checks }
    }
}

/// `/readyz` as text: the overall result, then a line for each check.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.ready { "ready" } else { "not ready" })?;
        let longest = self.checks.iter().map(|check| check.name.len()).max();
        let width = longest.unwrap_or_default().max(NAME_WIDTH);
        self.checks
            .iter()
            .try_for_each(|c| writeln!(f, "{:<width$} {:<8} {}", c.name, c.state.name(), c.message))
    }
}

fn of_finding(finding: &Finding, now: u64) -> Check {
    let since = finding.since_ms.map(|since| format!("for {}: ", duration(now.saturating_sub(since))));
    check(finding.check, finding.severity, since.unwrap_or_default() + &finding.message)
}

/// All about one registry.
fn checks(one: &EngineReport, now: u64) -> Vec<Check> {
    match &one.answer {
        None => Vec::new(),
        Some(Err(silent)) => vec![check("engine", CheckState::Failed, silent.to_string())],
        Some(Ok(summary)) => {
            let mut all = vec![
                check("engine", CheckState::Ok, "answers".to_owned()),
                trunks(summary, now),
                requester(summary, now),
            ];
            all.extend(down("edgePorts", true, summary.edge_ports_down, summary, now));
            all.extend(down("registrars", false, summary.registrars_down, summary, now));
            all.extend([
                reported("api", &summary.api, "registrations continue with the trunks of the last sync", now),
                cache(summary, now),
            ]);
            all
        }
    }
}

fn lease(standing: &LeadershipStatus) -> Check {
    let (state, message) = match standing {
        LeadershipStatus::Starting => (CheckState::Failed, "not read yet".to_owned()),
        LeadershipStatus::LeaseUnavailable { problem } => {
            (CheckState::Failed, format!("cannot be read, so this replica cannot take over: {problem}"))
        }
        LeadershipStatus::Following { leader: Some(leader) } => {
            (CheckState::Ok, format!("follows {leader}, ready to take over"))
        }
        LeadershipStatus::Following { leader: None } => {
            (CheckState::Ok, "no replica leads at the moment; ready to take over".to_owned())
        }
        LeadershipStatus::Leading => (CheckState::Ok, "leads".to_owned()),
    };
    check("lease", state, message)
}

/// Returns how many there are in each state, and a line for each one that is unhealthy or has no engine;
/// those that cannot register come first.
fn registries(reports: &[EngineReport], now: u64) -> Vec<Check> {
    let mut lines: Vec<(u8, Check)> = Vec::new();
    let mut troubled = 0_usize;
    for one in reports {
        let wrong: Vec<Check> =
            checks(one, now).into_iter().filter(|check| check.state != CheckState::Ok).collect();
        let failed = wrong.iter().any(|check| check.state == CheckState::Failed);
        let state = one.state.as_ref().filter(|state| state.state != RegistryPhase::Running);
        let stalled = state.is_some_and(|state| state.state == RegistryPhase::Stalled);
        let mut messages: Vec<String> = state.map(RegistryState::to_string).into_iter().collect();
        // A Registry that must send nothing lacks nothing.
        messages.extend(wrong.iter().map(|check| format!("{}: {}", check.name, check.message)));
        if messages.is_empty() {
            continue;
        }
        let (rank, state) = match (failed || stalled, wrong.is_empty()) {
            (true, _) => (0, CheckState::Degraded),
            (false, false) => (1, CheckState::Degraded),
            (false, true) => (2, CheckState::Ok),
        };
        troubled += usize::from(state == CheckState::Degraded);
        lines.push((rank, check(&one.name.to_string(), state, messages.join("; "))));
    }
    lines.sort_by_key(|(rank, _)| *rank);
    let mut message = in_states(reports);
    let state = if troubled == 0 { CheckState::Ok } else { CheckState::Degraded };
    if troubled > 0 {
        message += &format!(", of these unhealthy: {troubled}");
    }
    if lines.len() > MAX_NAMED_REGISTRIES {
        message += &format!("; the first {MAX_NAMED_REGISTRIES} follow");
    }
    let first = check("registries", state, message);
    std::iter::once(first)
        .chain(lines.into_iter().take(MAX_NAMED_REGISTRIES).map(|(_, check)| check))
        .collect()
}

/// `running: 3, suspended: 1`.
fn in_states(reports: &[EngineReport]) -> String {
    const OTHERS: [RegistryPhase; 4] = [
        RegistryPhase::Starting,
        RegistryPhase::Suspended,
        RegistryPhase::Stalled,
        RegistryPhase::Deregistering,
    ];
    let count = |phase| {
        reports.iter().filter(|one| one.state.as_ref().is_some_and(|state| state.state == phase)).count()
    };
    let others: Vec<(RegistryPhase, usize)> =
        OTHERS.into_iter().map(|phase| (phase, count(phase))).filter(|(_, n)| *n > 0).collect();
    let running = reports.len() - others.iter().map(|(_, n)| n).sum::<usize>();
    others
        .iter()
        .fold(format!("running: {running}"), |text, (phase, n)| format!("{text}, {}: {n}", phase.name()))
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
                summary.api.message.as_deref().unwrap_or("waiting for the first response of the API server");
            check("trunks", CheckState::Failed, format!("not read yet: {why}"))
        }
    }
}

/// A Requester that has not responded yet is good enough where nothing waits for it: there are no trunks, or
/// all of them are still registered from before a restart. Where trunks fail and none is under way, they may
/// be waiting out a failure of before the restart.
fn requester(summary: &Summary, now: u64) -> Check {
    let counts = &summary.counts;
    let awaited = counts.pending.max(summary.in_flight).max(summary.waiting);
    let (state, message) = match summary.requester.ok {
        Some(true) => (CheckState::Ok, "works".to_owned()),
        Some(false) => (CheckState::Failed, not_working(&summary.requester, now)),
        None if summary.paused => (CheckState::Ok, "not used yet".to_owned()),
        None if awaited > 0 => (CheckState::Failed, awaiting(summary)),
        None if counts.failing + counts.at_risk > 0 => (
            CheckState::Degraded,
            format!(
                "no response so far, and no REGISTER is under way; {}",
                plural(counts.failing + counts.at_risk, "trunk fails", "trunks fail")
            ),
        ),
        None => (CheckState::Ok, "not used yet".to_owned()),
    };
    check("requester", state, message)
}

/// Returns what is known of a Requester that has not responded yet.
fn awaiting(summary: &Summary) -> String {
    let registers = plural(summary.in_flight, "REGISTER is under way", "REGISTERs are under way");
    // Those that are due, or else those that have had no response yet.
    let waiting = match summary.waiting {
        0 => summary.counts.pending.saturating_sub(summary.in_flight),
        n => n,
    };
    let waiting = match waiting {
        0 => String::new(),
        n => format!(", {}", plural(n, "trunk waits for its turn", "trunks wait for their turn")),
    };
    format!("no response so far: {registers}{waiting}")
}

/// EdgePorts, or registrars, that are down; `None` where there are none. They leave it ready: a restart would
/// not bring them back.
fn down(name: &str, edge_ports: bool, of: u64, summary: &Summary, now: u64) -> Option<Check> {
    let listed = summary.down.iter().filter(|down| down.is_edge_port() == edge_ports);
    let mut parts: Vec<String> = listed.take(MAX_NAMED_OUTAGES).map(|down| table::down(down, now)).collect();
    let more = of.saturating_sub(u64::try_from(parts.len()).unwrap_or(u64::MAX));
    if more > 0 && !parts.is_empty() {
        parts.push(format!("{more} more"));
    } else if more > 0 {
        parts.push(format!("{more} down"));
    }
    (!parts.is_empty()).then(|| check(name, CheckState::Degraded, parts.join("; ")))
}

/// One that waits for another process to end is ready: a rollout that starts the next one before it ends the
/// last one must not wait for this, and a restart would change nothing.
fn cache(summary: &Summary, now: u64) -> Check {
    match (&summary.cache.reason, &summary.cache.message) {
        (Some(DependencyFailure::Taken), Some(message)) => {
            let message = format!("{message}; this process stands by and sends nothing until that one ends");
            check("cache", CheckState::Degraded, message)
        }
        (Some(DependencyFailure::Shared), Some(message)) => {
            check("cache", CheckState::Degraded, format!("{message}; {SHARED}"))
        }
        _ => reported("cache", &summary.cache, "registrations continue from memory", now),
    }
}

/// Advice where another process writes the same keys.
const SHARED: &str = "both send REGISTERs for the same trunks: end one of the two, or give one of them another spec.instanceId, or another \
                      prefix in spec.cache.parameters";

fn reported(name: &str, health: &Health, effect: &str, now: u64) -> Check {
    match health.ok {
        Some(true) => check(name, CheckState::Ok, "works".to_owned()),
        Some(false) => check(name, CheckState::Degraded, format!("{}; {effect}", not_working(health, now))),
        None => check(name, CheckState::Ok, "not tried yet".to_owned()),
    }
}

fn not_working(health: &Health, now: u64) -> String {
    let since = duration(now.saturating_sub(health.since_ms));
    format!("not working for {since}: {}", health.message.as_deref().unwrap_or("reason unknown"))
}
