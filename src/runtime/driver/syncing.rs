//! Reading the trunks: its schedule, and the use of its result.

use std::time::Duration;

use rand::RngExt;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tracing::Instrument as _;

use super::Driver;
use crate::runtime::ports::{Observer, Requester, Store, TrunkSource};
use routr_registration::{
    engine::SyncReport,
    model::{Absence, SourceError},
};

/// Batches of trunks that may wait; each is small.
const MAX_QUEUED_BATCHES: usize = 4;
/// First pause after a failed sync; it doubles up to the interval.
const SYNC_RETRY: Duration = Duration::from_secs(1);
/// Longest pause after a sync whose list was too large, unless the interval is longer: each of them costs
/// processor time and memory that others need. (One that cannot be decoded costs little: it may be right
/// again in a second.)
const MAX_OVERSIZE_RETRY: Duration = Duration::from_secs(600);
/// Trunks that a list does not have and that are asked for one by one, at most. With more of them missing, it
/// is the list that is asked for again.
const MAX_LOOK_UPS: usize = 1_000;

/// State of the reading of trunks.
pub(super) enum SyncTask<I> {
    /// The next one is due then, after this number of failures.
    Due(Instant, u32),
    /// The list is being read, or what it lacks is being looked up.
    Running(Running<I>),
    /// None is to come.
    Over,
}

/// A sync under way.
pub(super) struct Running<I> {
    batches: mpsc::Receiver<Vec<I>>,
    task: JoinHandle<Result<Absence, SourceError>>,
    since: Instant,
    failures: u32,
    /// Trunks that the list did not have and that were found when they were looked up; `None` while the list
    /// is being read.
    found: Option<usize>,
}

/// Next step of a sync.
pub(super) enum SyncEvent<I> {
    Begin(u32),
    Batch(Vec<I>),
    End,
}

/// The next of them.
pub(super) async fn next_of_sync<I>(sync: &mut SyncTask<I>) -> SyncEvent<I> {
    match sync {
        SyncTask::Due(at, failures) => {
            let failures = *failures;
            sleep_until(*at).await;
            SyncEvent::Begin(failures)
        }
        SyncTask::Over => std::future::pending().await,
        SyncTask::Running(running) => running.batches.recv().await.map_or(SyncEvent::End, SyncEvent::Batch),
    }
}

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    pub(super) async fn handle_sync_event(&mut self, event: SyncEvent<S::Item>) {
        match event {
            SyncEvent::Begin(failures) => {
                let (sender, batches) = mpsc::channel(MAX_QUEUED_BATCHES);
                let source = self.ports.source.clone();
                let task = tokio::spawn(async move { source.list(sender).await }.in_current_span());
                self.engine.handle_sync_started();
                let since = Instant::now();
                self.sync = SyncTask::Running(Running { batches, task, since, failures, found: None });
            }
            SyncEvent::Batch(batch) => {
                let now = self.clock.now();
                for item in &batch {
                    self.engine.handle_trunk(item, now);
                }
                if let SyncTask::Running(Running { found: Some(found), .. }) = &mut self.sync {
                    *found += batch.len();
                }
            }
            SyncEvent::End => {
                let next = SyncTask::Due(Instant::now() + self.interval, 0);
                if let SyncTask::Running(mut running) = std::mem::replace(&mut self.sync, next) {
                    let result = (&mut running.task).await.unwrap_or(Err(SourceError::Abandoned));
                    self.list_ended(result, running);
                }
            }
        }
    }

    /// The list has been read, or what it lacked has been looked up.
    fn list_ended(&mut self, result: Result<Absence, SourceError>, running: Running<S::Item>) {
        if let (Ok(absence), None) = (&result, running.found)
            && let Some(missing) = self.engine.missing(MAX_LOOK_UPS).filter(|missing| !missing.is_empty())
        {
            self.sync = SyncTask::Running(self.look_up(missing, *absence, &running));
            return;
        }
        self.end_sync(result, &running);
        if let (true, SyncTask::Due(at, _)) = (std::mem::take(&mut self.sync_again), &mut self.sync) {
            *at = Instant::now();
        }
    }

    /// Looks up what the list does not have. Where the API server cannot say, the absence counts for as much
    /// as it did.
    fn look_up(
        &self,
        missing: Vec<Box<str>>,
        absence: Absence,
        listed: &Running<S::Item>,
    ) -> Running<S::Item> {
        let (sender, batches) = mpsc::channel(MAX_QUEUED_BATCHES);
        let source = self.ports.source.clone();
        let task = tokio::spawn(
            async move {
                let certain = source.look_up(missing, sender).await?;
                Ok(if certain { Absence::Certain } else { absence })
            }
            .in_current_span(),
        );
        Running { batches, task, since: listed.since, failures: listed.failures, found: Some(0) }
    }

    fn end_sync(&mut self, result: Result<Absence, SourceError>, running: &Running<S::Item>) {
        let now = self.clock.now();
        let (since, failures) = (running.since, running.failures);
        self.observer.sync_finished(result.is_ok(), since.elapsed().as_secs_f64());
        if self.engine.is_paused() {
            // Suspended: the next one may connect again.
            self.ports.source.rest();
        }
        match result {
            Ok(absence) => {
                let report = self.engine.handle_sync_finished(absence, now);
                self.sync = SyncTask::Due(since + self.interval, 0);
                tracing::debug!(?report, "trunks read");
                if failures > 0 {
                    tracing::info!(trunks = report.listed, "the API server is back");
                }
                if let Some(found) = running.found.filter(|found| *found > 0) {
                    tracing::info!(
                        trunks = found,
                        "the API server's list lacks trunks that it returns when asked for them one by one: \
                         they stay registered"
                    );
                }
                log_report(&report, absence);
            }
            Err(error) => {
                let news = self.engine.handle_sync_failed(&error, now);
                let longest = match error {
                    SourceError::TooMuch(_) => MAX_OVERSIZE_RETRY.max(self.interval),
                    _ => self.interval,
                };
                let pause = SYNC_RETRY.saturating_mul(1 << failures.min(16)).min(longest);
                let pause = pause.mul_f64(self.rng.random_range(0.5..=1.0));
                match (failures == 0 || news, self.engine.has_list()) {
                    (true, true) => {
                        tracing::warn!(%error, "cannot read the trunks: the last good list stays in use");
                    }
                    (true, false) => tracing::warn!(
                        %error,
                        "cannot read the trunks, and there is no earlier list: nothing is registered or refreshed until one is read"
                    ),
                    (false, _) => tracing::debug!(%error, failures, "cannot read the trunks"),
                }
                self.sync = SyncTask::Due(Instant::now() + pause, failures + 1);
            }
        }
    }
}

fn log_report(report: &SyncReport, absence: Absence) {
    if report.removed > 0 {
        tracing::info!(trunks = report.removed, "trunks were removed: deregistering them");
    }
    if report.held > 0 {
        let why = match absence {
            Absence::Certain => "many trunks disappeared at once",
            Absence::Unconfirmed => "trunks are missing from a list that was empty or came in pages",
        };
        tracing::warn!(
            trunks = report.held,
            "{why}: a second sync has to confirm it before they are deregistered"
        );
    }
    if report.surplus > 0 {
        match report.excess {
            Some(excess) => tracing::warn!(trunks = report.surplus, "trunks are left out: {excess}"),
            None => tracing::warn!(
                trunks = report.surplus,
                "new trunks are left out: spec.sync.maxTrunks is reached"
            ),
        }
    }
    if report.nameless + report.duplicates > 0 {
        tracing::warn!(
            without_ref = report.nameless,
            with_the_ref_of_another = report.duplicates,
            "trunks left out"
        );
    }
}
