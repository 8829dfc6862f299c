//! Detects when a dependency cannot be reached any more, and when it can again: tonic makes a lost connection
//! again only for the next call, which may be minutes away. A connection that ends, and of which another one
//! can be made, is no event; but the dependency may be another one than before, so it is looked at.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{channel::listens, guard::Events};
use crate::{config::Endpoint, quota::sockets::Payers};
use routr_registration::model::Link;

/// Pause between two attempts to reach a dependency that was lost.
const RETRY: Duration = Duration::from_millis(500);
/// A call may make another connection so soon by itself.
const SETTLE: Duration = Duration::from_millis(100);
/// Interval between two looks at a dependency whose connections end while nothing is sent: proxies end each
/// of them after a while.
const IDLE_CHECK_PERIOD: Duration = Duration::from_secs(60);

/// Task that watches one dependency. Dropped, it ends.
#[derive(Debug)]
pub struct Monitor {
    task: JoinHandle<()>,
}

/// Finding after a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionChange {
    /// Another one can be made.
    Reachable,
    /// Another one could not be made for a while, and can again.
    Back,
}

impl Monitor {
    /// Begins. `look` runs when a connection has ended and no call has made another one.
    pub fn start<F>(
        endpoint: Endpoint,
        payers: Payers,
        events: Arc<Events>,
        link: Arc<watch::Sender<Link>>,
        look: impl Fn(ConnectionChange) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let task = tokio::spawn(async move {
            // When to look next, and how many streams had been made when one ended: anyone who calls looks as
            // well.
            let mut due: Option<(Instant, u64)> = None;
            let mut looked: Option<Instant> = None;
            loop {
                let at = due.map_or_else(|| Instant::now() + IDLE_CHECK_PERIOD, |(at, _)| at);
                tokio::select! {
                    () = events.ended() => {}
                    () = sleep_until(at), if due.is_some() => {
                        if due.take().is_some_and(|(_, made)| events.made() == made) {
                            look(ConnectionChange::Reachable).await;
                            looked = Some(Instant::now());
                        }
                        continue;
                    }
                }
                let made = events.made();
                sleep(SETTLE).await;
                if events.made() > made {
                    continue;
                }
                // Twice, for a proxy that is restarted is away for a moment.
                let mut there = listens(&endpoint, &payers).await;
                if !there {
                    sleep(RETRY).await;
                    there = listens(&endpoint, &payers).await;
                }
                if there {
                    let now = Instant::now();
                    due = Some((looked.map_or(now, |at| now.max(at + IDLE_CHECK_PERIOD)), made));
                    continue;
                }
                link.send_modify(|link| link.lost = true);
                while !listens(&endpoint, &payers).await {
                    sleep(RETRY).await;
                }
                link.send_modify(|link| link.lost = false);
                look(ConnectionChange::Back).await;
                (due, looked) = (None, Some(Instant::now()));
            }
        });
        Self { task }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}
