//! Log of state changes, with no more lines than a person or a disk can take: a million trunks that register,
//! or lose their Requester, are a number and not a million lines.

use tokio::time::{Duration, Instant};

use crate::telemetry::share::{self, SUM};
use routr_registration::{
    engine::{Engine, Transition, notice::Notice, view::Counts},
    registration::outcome::Reason,
};

/// Lines in each window; what comes beyond is counted, and logged one by one at debug level only.
const MAX_LINES_PER_WINDOW: u32 = 100;
/// The window of a registry that has the log to itself.
const WINDOW: Duration = Duration::from_secs(1);
/// Windows in a row with more to log than they take after which a registry has more than its share.
const LOUD_AFTER_WINDOWS: u32 = 3;

/// Log of a registry's state changes, limited to some lines in each window.
#[derive(Debug)]
pub(super) struct StateLog {
    window: Duration,
    until: Instant,
    lines: u32,
    /// Windows in a row that were too short for all lines.
    loud: u32,
    /// Notices without a line.
    notices: u64,
    /// Changes without a line, by the state that they led to.
    suppressed: Counts,
}

impl StateLog {
    pub(super) fn new() -> Self {
        Self {
            window: WINDOW,
            until: Instant::now(),
            lines: 0,
            loud: 0,
            notices: 0,
            suppressed: Counts::default(),
        }
    }

    /// Shares the log with many others.
    pub(super) fn share(&mut self) {
        self.window = share::WINDOW;
    }

    /// Returns whether there is more to log than the registry's share, for a while.
    pub(super) fn is_loud(&self) -> bool {
        self.loud >= LOUD_AFTER_WINDOWS
    }

    /// Logs the changes since the last call.
    pub(super) fn log_changes(&mut self, engine: &mut Engine) {
        let transitions = engine.poll_transitions();
        if Instant::now() >= self.until {
            self.loud = if self.is_over() { self.loud.saturating_add(1) } else { 0 };
            self.log_suppressed();
            (self.until, self.lines) = (Instant::now() + self.window, 0);
        }
        for notice in engine.poll_notices() {
            if self.lines < MAX_LINES_PER_WINDOW {
                self.lines += 1;
                log(&notice);
            } else {
                self.notices += 1;
            }
        }
        for transition in transitions {
            if self.lines < MAX_LINES_PER_WINDOW {
                self.lines += 1;
                line(&transition);
            } else {
                *self.suppressed.of_mut(transition.to) += 1;
                let (trunk, to) = (&*transition.reference, transition.to.name());
                tracing::debug!(trunk, to, "registration changed its state (beyond the log's limit)");
            }
        }
    }

    /// Returns when [`StateLog::log_changes`] has something to say though nothing changes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.is_over().then_some(self.until)
    }

    fn is_over(&self) -> bool {
        self.notices > 0 || self.suppressed != Counts::default()
    }

    /// Logs the number of changes without a line of their own.
    pub(super) fn log_suppressed(&mut self) {
        if self.is_over() {
            let notices = std::mem::take(&mut self.notices);
            let Counts { pending, registered, at_risk, failing, invalid, deregistering } =
                std::mem::take(&mut self.suppressed);
            tracing::info!(
                target: SUM,
                registered,
                at_risk,
                failing,
                invalid,
                deregistering,
                pending,
                notices,
                "state-change logging is rate-limited; suppressed changes by state"
            );
        }
    }
}

/// One line for each change of what many trunks share.
fn log(notice: &Notice) {
    let seconds = |ms: &u64| ms / 1_000;
    match notice {
        Notice::RegistrarDown { registrar, message } => tracing::warn!(
            registrar,
            reason = message,
            "registrar is down: it fails for several trunks in a row; one trunk probes it every 5 to 10 s, the others wait"
        ),
        Notice::RegistrarBack { registrar, after_ms } => {
            tracing::info!(registrar, down_for_seconds = seconds(after_ms), "registrar responds again");
        }
        Notice::EdgePortDown { edge_port, message } => tracing::warn!(
            edge_port,
            reason = message,
            "EdgePort is down: no registrar responds through it; check that it runs, and its address in \
             edgePorts"
        ),
        Notice::EdgePortBack { edge_port, after_ms } => {
            tracing::info!(edge_port, down_for_seconds = seconds(after_ms), "EdgePort responds again");
        }
        Notice::RequesterDown { message } => {
            tracing::warn!(reason = message, "Requester fails: registrations wait until it responds again");
        }
        Notice::RequesterBack { after_ms } => {
            tracing::info!(failed_for_seconds = seconds(after_ms), "Requester responds again");
        }
        Notice::Redirected { reference, redirection } => tracing::warn!(
            trunk = reference,
            from = redirection.from,
            to = redirection.to,
            until = time(redirection.until_ms),
            "registration was redirected to another registrar; its own registrar is asked again when that \
             ends"
        ),
        Notice::NotRedirected { reference } => {
            tracing::info!(trunk = reference, "registration is back at the trunk's own registrar");
        }
        Notice::OptionTagsDropped { reference, registrar, tags } => tracing::info!(
            trunk = reference,
            registrar,
            option_tags = tags.join(", "),
            "registrar responded with 400 to these option tags and accepts REGISTER without them: leaving \
             them out for this trunk"
        ),
    }
}

/// RFC 3339, in UTC.
fn time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "unknown".to_owned(), |time| time.to_string())
}

fn line(transition: &Transition) {
    let trunk = &*transition.reference;
    let (from, to, registrar) = (transition.from.name(), transition.to.name(), &*transition.registrar);
    let (edge_port, failed_over) = (&*transition.edge_port, transition.failed_over);
    let redirected_to = transition.redirected_to.as_deref();
    match (transition.to.is_unhealthy(), &transition.reason) {
        (true, Some((reason, message)))
        // One of its URIs cannot be used.
        | (_, Some((reason @ Reason::InvalidTrunk, message))) => {
            let reason = reason.name();
            tracing::warn!(
                trunk,
                from,
                to,
                registrar,
                edge_port,
                failed_over,
                redirected_to,
                reason,
                "{message}"
            );
        }
        (true, None) => {
            tracing::warn!(trunk, from, to, registrar, edge_port, failed_over, "registration is unhealthy");
        }
        _ if from == to && failed_over => {
            tracing::info!(trunk, registrar, edge_port, "registration failed over to another target");
        }
        _ if from == to => {
            tracing::info!(trunk, registrar, edge_port, "registration is back at its preferred target");
        }
        _ => tracing::info!(
            trunk,
            from,
            to,
            registrar,
            edge_port,
            failed_over,
            redirected_to,
            "registration changed its state"
        ),
    }
}
