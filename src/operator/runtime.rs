//! The threads that engines run on: their own, so that no engine can starve the Lease, the probes and the
//! watches.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::{Builder, EnterGuard, Handle, Runtime},
    time::{Instant, interval},
};

/// Interval between two beats of the [`Heartbeat`].
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(1);
/// Time without a beat after which the threads are taken to be stuck for good. Far longer than any load
/// explains: the restart that follows interrupts every Registry.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The runtime of all engines. Its threads end when it is dropped.
#[derive(Debug)]
pub(super) struct EngineRuntime {
    runtime: Option<Runtime>,
    heartbeat: Heartbeat,
}

impl EngineRuntime {
    /// Starts the threads: one for each processor.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().thread_name("engines").build()?;
        let heartbeat = Heartbeat::start(runtime.handle());
        Ok(Self { runtime: Some(runtime), heartbeat })
    }

    /// Returns the handle by which tasks are spawned.
    pub(super) fn threads(&self) -> EngineThreads {
        EngineThreads(self.runtime.as_ref().map(|runtime| runtime.handle().clone()))
    }

    /// Shows that the threads still do something.
    pub(super) fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }
}

impl Drop for EngineRuntime {
    fn drop(&mut self) {
        // Engines have ended by now. Dropped without this, a runtime would wait for a name that is being
        // looked up.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Threads on which engines run. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct EngineThreads(Option<Handle>);

impl EngineThreads {
    /// Sends what is spawned to these threads, until the guard is dropped. The default is the runtime of the
    /// caller.
    pub(super) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Handle::enter)
    }
}

/// Beats once a second on a runtime, as long as that runs tasks. Clones share it.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    began: Instant,
    /// Milliseconds after the beginning.
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    fn start(runtime: &Handle) -> Self {
        let heartbeat = Self { began: Instant::now(), last: Arc::default() };
        let beating = heartbeat.clone();
        runtime.spawn(async move {
            let mut ticks = interval(HEARTBEAT_PERIOD);
            loop {
                ticks.tick().await;
                beating.last.store(beating.now_ms(), Ordering::Relaxed);
            }
        });
        heartbeat
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns how long it has been silent, once that is long enough for its threads to be stuck for good.
    #[must_use]
    pub fn stuck_for(&self) -> Option<Duration> {
        let silent = Duration::from_millis(self.now_ms().saturating_sub(self.last.load(Ordering::Relaxed)));
        (silent >= STUCK_AFTER).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_runtime_counts_as_stuck_after_a_minute_without_a_beat() {
        let heartbeat = Heartbeat::start(&Handle::current());
        tokio::time::sleep(STUCK_AFTER * 2).await;
        assert_eq!(heartbeat.stuck_for(), None);
        // A current-thread runtime beats no more while this thread does not let it.
        tokio::time::advance(STUCK_AFTER + HEARTBEAT_PERIOD * 2).await;
        let silent = Heartbeat { last: Arc::default(), ..heartbeat.clone() };
        assert!(silent.stuck_for().is_some());
    }

    #[tokio::test]
    async fn tasks_run_on_the_threads_of_the_engines() {
        let engines = EngineRuntime::start().unwrap();
        let threads = engines.threads();
        let name = || std::thread::current().name().map(str::to_owned);
        let there = {
            let _guard = threads.enter();
            tokio::spawn(async move { name() })
        };
        assert_eq!(there.await.unwrap().as_deref(), Some("engines"));
        assert_ne!(name().as_deref(), Some("engines"));
        let here = EngineThreads::default();
        assert!(here.enter().is_none());
    }
}
