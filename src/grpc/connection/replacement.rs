//! Watches a connection while it is used, and replaces it where it hangs.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    Inner, Response,
    generation::{Generation, Health},
};

/// [`super::Peer::quiet`] is doubled after each health check that has a response, up to this.
const MAX_QUIET_PERIOD: Duration = Duration::from_secs(40);
/// So many calls in a row without a response, though the health checks have one, and another connection is
/// tried: a proxy may respond to the checks itself.
const MAX_TIMEOUTS_IN_A_ROW: u32 = 3;
/// Health checks on a connection that has just taken the place of another one, at most.
const PROVING_CHECKS: u32 = 30;
/// Between two looks at a connection that is used.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// Looks without a call under way before the looking ends.
const IDLE_PERIODS: u32 = 10;
/// First and longest pause between two replacements.
const REPLACE_PERIOD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// Result of an attempt to replace a connection.
enum Replaced {
    /// This one is used now.
    By(Arc<Generation>),
    NotNow,
}

impl Inner {
    /// Another connection takes the place of one that `hangs`, or may.
    fn replace(&self, old: &Arc<Generation>, hangs: bool) -> Replaced {
        let mut state = self.state();
        if !Arc::ptr_eq(&state.current, old) {
            return Replaced::By(state.current.clone());
        }
        let now = Instant::now();
        if state.replace_at.is_some_and(|at| now < at) {
            return Replaced::NotNow;
        }
        let made = match Generation::new(&self.make, &self.events) {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, "cannot replace the hanging connection to the {}", self.peer.name);
                return Replaced::NotNow;
            }
        };
        state.pause = (state.pause * 2).clamp(REPLACE_PERIOD.0, REPLACE_PERIOD.1);
        state.replace_at = Some(now + state.pause);
        let made = Arc::new(made);
        let old = std::mem::replace(&mut state.current, made.clone());
        state.replaced = hangs.then_some(old);
        self.has_replaced.store(true, Ordering::Relaxed);
        if hangs {
            tracing::warn!("the connection to the {} hangs: replacing it", self.peer.name);
        } else {
            tracing::debug!("calls to the {} get no response: trying another connection", self.peer.name);
        }
        Replaced::By(made)
    }

    /// Drops a connection that is not used, where its peer says so: the next call makes one. A call that has
    /// just taken it keeps it.
    fn end_idle(&self, generation: &Arc<Generation>) {
        if !self.peer.ends_idle {
            return;
        }
        let mut state = self.state();
        if Arc::ptr_eq(&state.current, generation)
            && let Ok(made) = Generation::new(&self.make, &self.events)
        {
            (state.current, state.replaced) = (Arc::new(made), None);
        }
    }

    /// Looks after a connection for as long as it is used.
    pub(super) async fn watch(self: Arc<Self>, generation: Arc<Generation>) {
        let (mut idle, mut wait, mut responses) = (0, self.peer.quiet, 0);
        loop {
            sleep(WATCH_PERIOD).await;
            if std::mem::replace(&mut responses, generation.responses.load(Ordering::Relaxed)) != responses {
                wait = self.peer.quiet;
            }
            idle = if generation.calls.load(Ordering::Relaxed) == 0 { idle + 1 } else { 0 };
            if idle >= IDLE_PERIODS {
                generation.watched.store(false, Ordering::SeqCst);
                // One may have begun meanwhile, and taken it for watched.
                if generation.calls.load(Ordering::SeqCst) == 0
                    || generation.watched.swap(true, Ordering::SeqCst)
                {
                    return self.end_idle(&generation);
                }
                idle = 0;
            }
            if generation.timeouts.load(Ordering::Relaxed) >= MAX_TIMEOUTS_IN_A_ROW
                && let Replaced::By(_) = self.replace(&generation, false)
            {
                return;
            }
            if generation.quiet(self.now_ms()) < wait {
                continue;
            }
            match generation.check(self.peer.check_timeout).await {
                Health::Responds => {
                    self.responded(&generation, Response::OfACheck);
                    responses = generation.responses.load(Ordering::Relaxed);
                    wait = (wait * 2).min(MAX_QUIET_PERIOD);
                }
                Health::Hangs => {
                    if let Replaced::By(other) = self.replace(&generation, true) {
                        return self.prove(&other).await;
                    }
                }
                Health::Unknown => {}
            }
        }
    }

    /// Sends health checks on a connection that has taken the place of another one, until it has a response:
    /// calls under way on that need not wait for another call.
    async fn prove(&self, other: &Arc<Generation>) {
        for _ in 0..PROVING_CHECKS {
            if other.check(self.peer.check_timeout).await == Health::Responds {
                return self.responded(other, Response::OfACheck);
            }
            let wanted = {
                let state = self.state();
                Arc::ptr_eq(&state.current, other) && state.replaced.is_some()
            };
            if !wanted {
                return;
            }
            sleep(WATCH_PERIOD).await;
        }
    }
}
