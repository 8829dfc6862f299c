//! One for each Registry: looks at its engine each second, and writes what changed to the status, by server-side apply, at
//! most every few seconds; tells events.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    api_error::ApiError,
    backoff,
    status::{self, Difference, Phase, Situation, Snapshot, Stall},
    writer::{Form, WriteError, Writer},
};
use crate::{
    admin::Listed,
    engine::handle::{EngineHandle, EngineStopped},
    environment,
    metrics::Metrics,
    spec::status::RegistryStatus,
};

/// How often an engine is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two writes of what somebody waits for, on the average.
const BETWEEN_WRITES: Duration = Duration::from_secs(3);
/// Between two writes of nothing but times that move on, such as when all was last seen to be so. What somebody else has written
/// meanwhile is replaced.
const BETWEEN_SLIGHT_WRITES: Duration = Duration::from_secs(60);
/// What each Registry adds to that, and the most it comes to: thousands of them write some ten times a second in all.
const SHARE: Duration = Duration::from_millis(60);
const LONGEST_BETWEEN_SLIGHT_WRITES: Duration = Duration::from_secs(240);
/// Longest pause after a failed write.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long an engine that has just begun may stay silent about its neighbours, before the status says so: a hand-over
/// should not look like a failure.
const SETTLING: Duration = Duration::from_secs(10);
/// An engine that takes longer to answer is stuck.
const ANSWER: Duration = Duration::from_secs(5);

/// What to report on.
#[derive(Clone, Debug, Default)]
pub struct Assignment {
    /// Generation of the spec.
    pub generation: i64,
    /// What stands in its way.
    pub stall: Option<Stall>,
    /// What is being done.
    pub work: Work,
}

/// What is being done about a Registry.
#[derive(Clone, Debug, Default)]
pub enum Work {
    /// Nothing was decided yet.
    #[default]
    Undecided,
    /// Its engine runs.
    Run {
        /// The engine.
        handle: EngineHandle,
        /// Whether state outlives the process.
        durable: bool,
        /// Whether it sends nothing.
        suspended: bool,
    },
    /// Its trunks are being de-registered.
    Leave {
        /// The engine.
        handle: EngineHandle,
        /// Whether state outlives the process.
        durable: bool,
        /// Until when, in milliseconds since the Unix epoch.
        deadline_ms: u64,
    },
}

/// See the module.
pub struct Reporter {
    writer: Arc<dyn Writer>,
    /// As computed last; at the start as the resource had it.
    current: Option<Arc<RegistryStatus>>,
    /// As written last, and when.
    written: Option<(Arc<RegistryStatus>, Instant)>,
    /// How much of it was written.
    form: Form,
    /// When the write before that was.
    earlier: Option<Instant>,
    metrics: Metrics,
    listed: Option<Listed>,
    failures: u32,
    /// What was last logged of a write that failed.
    logged: Option<String>,
    not_before: Instant,
    began: Instant,
}

impl Reporter {
    /// Goes on from the status that the resource has.
    pub fn new(writer: Arc<dyn Writer>, before: Option<RegistryStatus>, metrics: Metrics) -> Self {
        let now = Instant::now();
        let before = before.map(Arc::new);
        Self {
            writer,
            written: before.clone().map(|status| (status, now.checked_sub(BETWEEN_WRITES).unwrap_or(now))),
            current: before,
            earlier: None,
            form: Form::Whole,
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

    /// Runs until nobody assigns any more; whoever aborts it loses nothing.
    pub async fn run(mut self, mut assigned: watch::Receiver<Assignment>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = assigned.changed() => if changed.is_err() { return },
            }
            let assignment = assigned.borrow_and_update().clone();
            // Boxed: between two looks nothing is kept but what was written.
            if let Some(situation) = Box::pin(self.look(assignment)).await {
                Box::pin(self.report(situation)).await;
            }
        }
    }

    async fn look(&self, assignment: Assignment) -> Option<Situation> {
        let Assignment { generation, stall, work } = assignment;
        let phase = match work {
            Work::Undecided if stall.is_none() => return None,
            Work::Undecided => Phase::Idle,
            Work::Run { handle, durable, suspended } => {
                let snapshot = match snapshot(&handle, durable).await {
                    Ok(snapshot) => snapshot?,
                    Err(EngineStopped) => return Some(ended(generation)),
                };
                if stall.is_none() && self.settles(generation, &snapshot) {
                    return None;
                }
                if suspended { Phase::Suspended(snapshot) } else { Phase::Running(snapshot) }
            }
            Work::Leave { handle, durable, deadline_ms } => {
                Phase::Leaving { snapshot: snapshot(&handle, durable).await.ok()??, deadline_ms }
            }
        };
        Some(Situation { generation, now_ms: environment::unix_ms(), stall, phase })
    }

    /// Whether an engine has only begun, for a spec whose status another replica has told.
    fn settles(&self, generation: i64, snapshot: &Snapshot) -> bool {
        let told = self.current.as_ref().is_some_and(|status| status.observed_generation == Some(generation));
        let summary = &snapshot.summary;
        let silent = summary.last_sync_ms.is_none() && summary.api.ok.is_none();
        told && silent && self.began.elapsed() < SETTLING
    }

    async fn report(&mut self, situation: Situation) {
        let before = self.current.as_deref();
        let after = status::status(before, &situation);
        for notice in status::notices(before, &after) {
            self.writer.tell(notice).await;
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
        let pause = match status::difference(written, after) {
            // What the API server refused is said otherwise by now: it may take that.
            Difference::Slight
                if self.form == Form::Plain && status::fingerprint(written) != status::fingerprint(after) =>
            {
                BETWEEN_WRITES
            }
            Difference::None | Difference::Slight => self.between_slight_writes(),
            // The second of two may come at once: an engine that has begun is soon ready.
            Difference::Real
                if self.earlier.is_none_or(|earlier| earlier.elapsed() >= BETWEEN_WRITES * 2) =>
            {
                PERIOD
            }
            Difference::Real => BETWEEN_WRITES,
        };
        at.elapsed() >= pause && Instant::now() >= self.not_before
    }

    fn between_slight_writes(&self) -> Duration {
        let all = self.listed.as_ref().map_or(0, |listed| u32::try_from(listed.count()).unwrap_or(u32::MAX));
        let share = SHARE.saturating_mul(all.saturating_sub(10));
        (BETWEEN_SLIGHT_WRITES + share).min(LONGEST_BETWEEN_SLIGHT_WRITES)
    }

    async fn write(&mut self, status: Arc<RegistryStatus>) {
        let mut status = RegistryStatus::clone(&status);
        status.observed_time = status::time_of(environment::unix_ms());
        let written = self.writer.write(&status).await;
        self.metrics.operator().status_write(match written {
            Ok(Form::Whole) => "ok",
            Ok(Form::Plain) => "plain",
            Err(_) => "failed",
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
            Err(WriteError::Gone) => self.not_before = Instant::now() + LONGEST_PAUSE,
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
        let pause =
            if passes { pause } else { (PERIOD * (1 << self.failures.min(8))).min(LONGEST_PAUSE).max(pause) };
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

/// The engine is gone though nobody ended it; it is started again soon.
fn ended(generation: i64) -> Situation {
    let message = "its engine ended unexpectedly, which is a defect: please report it with the operator's log; it is \
                   started again within half a minute";
    let stall = Stall { reason: status::reasons::CANNOT_START, message: message.to_owned() };
    Situation { generation, now_ms: environment::unix_ms(), stall: Some(stall), phase: Phase::Idle }
}

/// What an engine says; `None` where it is busy.
async fn snapshot(handle: &EngineHandle, durable: bool) -> Result<Option<Snapshot>, EngineStopped> {
    let asked = async {
        Ok(Some(Snapshot {
            summary: handle.summary().await?,
            troubles: handle.troubles(status::MAX_FAILURES).await?,
            durable,
        }))
    };
    tokio::time::timeout(ANSWER, asked).await.unwrap_or(Ok(None))
}

#[cfg(test)]
#[path = "reporter_tests.rs"]
mod tests;
