//! Reading the trunks: when, and what comes of it.

use std::time::Duration;

use rand::RngExt;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::Driver;
use crate::ports::{Observer, Requester, SourceError, Store, TrunkSource};

/// Batches of trunks that may wait; each is small.
const BATCHES: usize = 4;
/// First pause after a failed sync; it doubles up to the interval.
const SYNC_RETRY: Duration = Duration::from_secs(1);

/// Where the reading of trunks stands.
pub(super) enum Sync<I> {
    /// The next one is due then, after so many failures.
    Due(Instant, u32),
    Running {
        batches: mpsc::Receiver<Vec<I>>,
        task: JoinHandle<Result<(), SourceError>>,
        since: Instant,
        failures: u32,
    },
    /// None is to come.
    Over,
}

/// What there is to do for it.
pub(super) enum SyncEvent<I> {
    Begin(u32),
    Batch(Vec<I>),
    End,
}

/// The next of them.
pub(super) async fn next_of_sync<I>(sync: &mut Sync<I>) -> SyncEvent<I> {
    match sync {
        Sync::Due(at, failures) => {
            let failures = *failures;
            sleep_until(*at).await;
            SyncEvent::Begin(failures)
        }
        Sync::Over => std::future::pending().await,
        Sync::Running { batches, .. } => batches.recv().await.map_or(SyncEvent::End, SyncEvent::Batch),
    }
}

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    pub(super) async fn take_sync_event(&mut self, event: SyncEvent<S::Item>) {
        match event {
            SyncEvent::Begin(failures) => {
                let (sender, batches) = mpsc::channel(BATCHES);
                let source = self.ports.source.clone();
                let task = tokio::spawn(async move { source.list(sender).await });
                self.engine.begin_sync();
                self.sync = Sync::Running { batches, task, since: Instant::now(), failures };
            }
            SyncEvent::Batch(batch) => {
                let now = self.clock.now();
                for item in &batch {
                    self.engine.offer(item, now);
                }
            }
            SyncEvent::End => {
                let next = Sync::Due(Instant::now() + self.interval, 0);
                let again = std::mem::take(&mut self.sync_again);
                if let Sync::Running { task, since, failures, .. } = std::mem::replace(&mut self.sync, next) {
                    let result = task.await.unwrap_or(Err(SourceError::Abandoned));
                    self.end_sync(result, since, failures);
                }
                if let (true, Sync::Due(at, _)) = (again, &mut self.sync) {
                    *at = Instant::now();
                }
            }
        }
    }

    fn end_sync(&mut self, result: Result<(), SourceError>, since: Instant, failures: u32) {
        let now = self.clock.now();
        self.observer.sync_finished(result.is_ok(), since.elapsed().as_secs_f64());
        if self.engine.paused {
            // Suspended: the next one may connect again.
            self.ports.source.rest();
        }
        match result {
            Ok(()) => {
                let report = self.engine.finish_sync(now);
                self.sync = Sync::Due(since + self.interval, 0);
                tracing::debug!(?report, "trunks read");
                if failures > 0 {
                    tracing::info!(trunks = report.listed, "the API server is back");
                }
                if report.removed > 0 {
                    tracing::info!(trunks = report.removed, "trunks are gone: removing their bindings");
                }
                if report.held > 0 {
                    tracing::warn!(
                        trunks = report.held,
                        "so many trunks are gone at once that a second sync must say the same before they are de-registered"
                    );
                }
                if report.nameless + report.duplicates > 0 {
                    tracing::warn!(
                        without_ref = report.nameless,
                        with_the_ref_of_another = report.duplicates,
                        "trunks left out"
                    );
                }
            }
            Err(error) => {
                self.engine.abort_sync(&error, now);
                let pause = SYNC_RETRY.saturating_mul(1 << failures.min(16)).min(self.interval);
                let pause = pause.mul_f64(self.rng.random_range(0.5..=1.0));
                if failures == 0 {
                    tracing::warn!(%error, "cannot read the trunks: going on with the last good list");
                } else {
                    tracing::debug!(%error, failures, "cannot read the trunks");
                }
                self.sync = Sync::Due(Instant::now() + pause, failures + 1);
            }
        }
    }
}
