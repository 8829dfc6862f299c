//! Notices when a dependency cannot be reached any more, and when it can again: tonic makes a lost connection again only for the
//! next call, which may be minutes away. A connection that ends, and of which another one can be made, is no event.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{channel::listens, connection::Events};
use crate::{config::Target, ports::Link};

/// Between two attempts to reach a dependency that was lost.
const RETRY: Duration = Duration::from_millis(500);
/// A call may make another connection so soon by itself.
const SETTLE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct Monitor {
    task: JoinHandle<()>,
}

impl Monitor {
    /// Begins; `back` runs when the dependency can be reached again.
    pub fn start<F>(
        address: Target,
        events: Arc<Events>,
        link: Arc<watch::Sender<Link>>,
        back: impl Fn() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let task = tokio::spawn(async move {
            loop {
                events.ended().await;
                let made = events.made();
                sleep(SETTLE).await;
                // Twice, for a proxy that is restarted is away for a moment.
                if events.made() > made || listens(&address).await {
                    continue;
                }
                sleep(RETRY).await;
                if listens(&address).await {
                    continue;
                }
                link.send_modify(|link| link.lost = true);
                while !listens(&address).await {
                    sleep(RETRY).await;
                }
                link.send_modify(|link| link.lost = false);
                back().await;
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
