//! One for each Registry: looks at its engine each second, and writes what changed to the status, by
//! server-side apply, at most every few seconds; records events.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    backoff,
    status::{self, Diff, Phase, Situation, Snapshot, Stall},
    status_writer::{StatusForm, StatusWriter, WriteError},
};
use crate::{
    admin::Listed,
    metrics::Metrics,
    runtime::handle::{EngineHandle, EngineStopped},
    spec::status::RegistryStatus,
};
use routr_kube_errors::ApiError;

/// Period at which an engine is looked at.
const POLL_PERIOD: Duration = Duration::from_secs(1);
/// Average interval between two writes of what someone waits for.
const WRITE_PERIOD: Duration = Duration::from_secs(3);
/// Interval between two writes of nothing but times that move on, such as when all was last seen to be so.
/// What someone else has written meanwhile is replaced.
const COSMETIC_WRITE_PERIOD: Duration = Duration::from_secs(60);
/// Time that each Registry adds to that period, and the longest period that results: thousands of them write
/// some ten times a second in all.
const WRITE_PERIOD_PER_REGISTRY: Duration = Duration::from_millis(60);
const MAX_COSMETIC_WRITE_PERIOD: Duration = Duration::from_secs(240);
/// Longest pause after a failed write.
const MAX_RETRY_PERIOD: Duration = Duration::from_secs(30);
/// Time that an engine that has just begun may stay silent about its dependencies, before the status says so:
/// a hand-over should not look like a failure.
const WARM_UP: Duration = Duration::from_secs(10);
/// An engine that takes longer to respond is stuck.
const ENGINE_QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Registry to report on.
#[derive(Clone, Debug, Default)]
pub struct StatusTarget {
    /// Generation of the spec.
    pub generation: i64,
    /// Reason that the spec is not followed.
    pub stall: Option<Stall>,
    /// Work on the Registry.
    pub work: Work,
}

/// Work on a Registry.
#[derive(Clone, Debug, Default)]
pub enum Work {
    /// Nothing was decided yet.
    #[default]
    Undecided,
    /// Its engine runs.
    Run {
        /// The engine.
        handle: EngineHandle,
        /// True when state outlives the process.
        durable: bool,
        /// True when it sends nothing.
        suspended: bool,
        /// Advice of its configuration for the status.
        edge_port_advice: Option<Arc<str>>,
    },
    /// It is suspended, and no engine runs for it: what was found when its trunks were read last.
    Rest(Arc<Snapshot>),
    /// Its trunks are being de-registered.
    Deregister {
        /// The engine.
        handle: EngineHandle,
        /// True when state outlives the process.
        durable: bool,
        /// Deadline, in milliseconds since the Unix epoch.
        deadline_ms: u64,
    },
}

/// Keeps the status of one Registry up to date.
pub struct StatusUpdater {
    writer: Arc<dyn StatusWriter>,
    /// Status as computed last; at the start as the resource had it.
    current: Option<Arc<RegistryStatus>>,
    /// Status as written last, and the moment of that.
    written: Option<(Arc<RegistryStatus>, Instant)>,
    /// Form in which it was written.
    form: StatusForm,
    /// Moment of the write before that.
    earlier: Option<Instant>,
    metrics: Metrics,
    listed: Option<Listed>,
    failures: u32,
    /// Text of the last failed write that was logged.
    logged: Option<String>,
    not_before: Instant,
    began: Instant,
}

impl StatusUpdater {
    /// Goes on from the status that the resource has.
    pub fn new(writer: Arc<dyn StatusWriter>, before: Option<RegistryStatus>, metrics: Metrics) -> Self {
        let now = Instant::now();
        let before = before.map(Arc::new);
        Self {
            writer,
            written: before.clone().map(|status| (status, now.checked_sub(WRITE_PERIOD).unwrap_or(now))),
            current: before,
            earlier: None,
            form: StatusForm::Whole,
            metrics,
            listed: None,
            failures: 0,
            logged: None,
            not_before: now,
            began: now,
        }
    }

    /// Shows in the directory, too, what it finds.
    #[must_use]
    pub fn listed(mut self, listed: Listed) -> Self {
        self.listed = Some(listed);
        self
    }

    /// Runs until no one assigns any more; anyone who aborts it loses nothing.
    pub async fn run(mut self, mut assigned: watch::Receiver<StatusTarget>) {
        let mut ticks = interval(POLL_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = assigned.changed() => if changed.is_err() { return },
            }
            let assignment = assigned.borrow_and_update().clone();
            // Boxed: between two looks nothing is kept but what was written.
            if let Some(situation) = Box::pin(self.observe(assignment)).await {
                Box::pin(self.report(situation)).await;
            }
        }
    }

    async fn observe(&self, assignment: StatusTarget) -> Option<Situation> {
        let StatusTarget { generation, stall, work } = assignment;
        let phase = match work {
            Work::Undecided if stall.is_none() => return None,
            Work::Undecided => Phase::Idle,
            Work::Run { handle, durable, suspended, edge_port_advice } => {
                let snapshot = match snapshot(&handle, durable).await {
                    Ok(snapshot) => Snapshot { edge_port_advice, ..snapshot? },
                    Err(EngineStopped) => return Some(ended(generation)),
                };
                if stall.is_none() && self.is_warming_up(generation, &snapshot) {
                    return None;
                }
                if suspended { Phase::Suspended(snapshot) } else { Phase::Running(snapshot) }
            }
            Work::Rest(snapshot) => {
                if stall.is_none() && self.is_warming_up(generation, &snapshot) {
                    return None;
                }
                Phase::Suspended(Snapshot::clone(&snapshot))
            }
            Work::Deregister { handle, durable, deadline_ms } => {
                Phase::Deregistering { snapshot: snapshot(&handle, durable).await.ok()??, deadline_ms }
            }
        };
        Some(Situation { generation, now_ms: routr_environment::unix_ms(), stall, phase })
    }

    /// Returns whether an engine has only begun, for a spec whose status another replica has reported.
    fn is_warming_up(&self, generation: i64, snapshot: &Snapshot) -> bool {
        let reported =
            self.current.as_ref().is_some_and(|status| status.observed_generation == Some(generation));
        let summary = &snapshot.summary;
        let silent = summary.last_sync_ms.is_none() && summary.api.ok.is_none();
        reported && silent && self.began.elapsed() < WARM_UP
    }

    async fn report(&mut self, situation: Situation) {
        let before = self.current.as_deref();
        let after = status::status(before, &situation);
        for event in status::events(before, &after) {
            self.writer.record_event(event).await;
        }
        if let Some(listed) = &self.listed {
            listed.set(status::registry_state(&situation, &after));
        }
        // One that is the same is kept once.
        let same = [self.current.as_ref(), self.written.as_ref().map(|(written, _)| written)];
        let same = same.into_iter().flatten().find(|known| ***known == after).cloned();
        let after = same.unwrap_or_else(|| Arc::new(after));
        self.current = Some(after.clone());
        if self.is_due(&after) {
            self.write(after).await;
        }
    }

    fn is_due(&self, after: &RegistryStatus) -> bool {
        let Some((written, at)) = &self.written else { return Instant::now() >= self.not_before };
        let pause = match status::diff(written, after) {
            // What the API server refused is said otherwise by now: it may take that.
            Diff::Cosmetic
                if self.form == StatusForm::Plain
                    && status::fingerprint(written) != status::fingerprint(after) =>
            {
                WRITE_PERIOD
            }
            Diff::None | Diff::Cosmetic => self.cosmetic_write_period(),
            // The second of two may come at once: an engine that has begun is soon ready.
            Diff::Significant if self.earlier.is_none_or(|earlier| earlier.elapsed() >= WRITE_PERIOD * 2) => {
                POLL_PERIOD
            }
            Diff::Significant => WRITE_PERIOD,
        };
        at.elapsed() >= pause && Instant::now() >= self.not_before
    }

    fn cosmetic_write_period(&self) -> Duration {
        let all = self.listed.as_ref().map_or(0, |listed| u32::try_from(listed.count()).unwrap_or(u32::MAX));
        let share = WRITE_PERIOD_PER_REGISTRY.saturating_mul(all.saturating_sub(10));
        (COSMETIC_WRITE_PERIOD + share).min(MAX_COSMETIC_WRITE_PERIOD)
    }

    async fn write(&mut self, status: Arc<RegistryStatus>) {
        let mut status = RegistryStatus::clone(&status);
        status.observed_time = status::time_of(routr_environment::unix_ms());
        let written = self.writer.write(&status).await;
        self.metrics.operator().status_write(match written {
            Ok(StatusForm::Whole) => "success",
            Ok(StatusForm::Plain) => "reduced",
            Err(_) => "error",
        });
        match written {
            Ok(form) => {
                self.form = form;
                let status = Arc::new(status);
                self.current = Some(status.clone());
                self.earlier = self.written.as_ref().map(|(_, at)| *at);
                self.written = Some((status, Instant::now()));
                self.failures = 0;
                if self.logged.take().is_some() {
                    tracing::info!(registry = %self.writer.name(), "the status is written again");
                }
            }
            Err(WriteError::Gone) => self.not_before = Instant::now() + MAX_RETRY_PERIOD,
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &WriteError) {
        let (api_error, noted) = match error {
            WriteError::Kubernetes(error) => (Some(error), false),
            WriteError::Noted(error) => (Some(error), true),
            WriteError::NotLeading | WriteError::Gone => (None, true),
        };
        let pause = backoff::pause(self.failures, api_error.and_then(|error| error.retry_after));
        let passes = api_error.is_none_or(ApiError::is_unavailable);
        // What is refused is refused the next time, too.
        let pause = if passes {
            pause
        } else {
            (POLL_PERIOD * (1 << self.failures.min(8))).min(MAX_RETRY_PERIOD).max(pause)
        };
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + pause;
        let error = error.to_string();
        if noted || self.logged.as_ref() == Some(&error) {
            tracing::debug!(registry = %self.writer.name(), error, "cannot write the status");
        } else {
            tracing::warn!(registry = %self.writer.name(), error, "cannot write the status; trying again");
            self.logged = Some(error);
        }
    }
}

/// The engine is gone though no one ended it; it is started again soon.
fn ended(generation: i64) -> Situation {
    let message = "its engine ended unexpectedly, which is a defect: please report it with the operator's log; it is \
                   started again within half a minute";
    let stall = Stall { reason: status::reasons::ConditionReason::CannotStart, message: message.to_owned() };
    Situation { generation, now_ms: routr_environment::unix_ms(), stall: Some(stall), phase: Phase::Idle }
}

/// Returns what an engine says; `None` where it is busy.
async fn snapshot(handle: &EngineHandle, durable: bool) -> Result<Option<Snapshot>, EngineStopped> {
    let asked = async {
        Ok(Some(Snapshot {
            summary: handle.summary().await?,
            failures: handle.failures(status::MAX_FAILURES).await?,
            durable,
            edge_port_advice: None,
        }))
    };
    tokio::time::timeout(ENGINE_QUERY_TIMEOUT, asked).await.unwrap_or(Ok(None))
}

#[cfg(test)]
#[path = "status_updater_tests.rs"]
mod tests;
