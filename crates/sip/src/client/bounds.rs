//! Bounds on the number of connections, and the choice of those that go when another one is wanted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::connection::Connection;
use routr_net::descriptors;

/// Most connections at a time, where descriptors allow as many.
const MAX_CONNECTIONS: usize = 16_384;
/// Most that are made at a time, each with up to four sockets.
const MAX_DIALING: usize = 4096;

/// Bounds on connections over TCP and TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionBounds {
    /// Most of them at a time, from 1 on. One more ends the one that was idle for the longest time; where all
    /// are in use, it is refused.
    pub most: usize,
    /// Time that a connection may have no request.
    pub idle: Duration,
    /// Most that are made at a time, from 1 on; others wait.
    pub dialing: usize,
    /// Most names that are looked up at a time, from 1 on; others wait.
    pub look_ups: usize,
}

impl Default for ConnectionBounds {
    /// Shares of the descriptors that this process may have: half for connections, an eighth for the sockets
    /// of those that are made, a sixteenth for look-ups; 20 min idle.
    fn default() -> Self {
        Self::within(descriptors::limit())
    }
}

impl ConnectionBounds {
    /// Returns the shares of this number of descriptors; `None`: without a limit.
    fn within(descriptors: Option<u64>) -> Self {
        let share = |part: u64| {
            descriptors.map_or(usize::MAX, |limit| usize::try_from(limit / part).unwrap_or(usize::MAX))
        };
        Self {
            most: share(2).clamp(8, MAX_CONNECTIONS),
            idle: Duration::from_secs(1200),
            dialing: share(32).clamp(4, MAX_DIALING),
            look_ups: share(16).clamp(4, MAX_DIALING),
        }
    }
}

/// All connections that hold a descriptor, those that are being made and those out of use included.
pub(super) struct Open {
    bounds: ConnectionBounds,
    connections: Mutex<HashMap<u64, Weak<Connection>>>,
    /// Those that are being made.
    dialing: AtomicUsize,
    turns: Semaphore,
}

/// A place for a connection that is being made.
pub(super) struct Dialing(Arc<Open>);

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.dialing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Open {
    pub(super) fn new(bounds: ConnectionBounds) -> Arc<Self> {
        let turns = Semaphore::new(bounds.dialing.clamp(1, Semaphore::MAX_PERMITS));
        Arc::new(Self { bounds, connections: Mutex::default(), dialing: AtomicUsize::new(0), turns })
    }

    pub(super) fn bounds(&self) -> ConnectionBounds {
        self.bounds
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for one more. Returns the connection that has to go for it, too. `None`: all are in use.
    pub(super) fn place(self: &Arc<Self>) -> Option<(Dialing, Option<Arc<Connection>>)> {
        let open = self.lock().len() + self.dialing.load(Ordering::Relaxed);
        let goes = if open >= self.bounds.most { Some(self.close_idle()?) } else { None };
        self.dialing.fetch_add(1, Ordering::Relaxed);
        Some((Dialing(self.clone()), goes))
    }

    /// Waits for the turn to make a connection.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// Closes the connection that was idle for the longest time, and returns it; `None`: there is none.
    pub(super) fn close_idle(&self) -> Option<Arc<Connection>> {
        let all: Vec<Arc<Connection>> = self.lock().values().filter_map(Weak::upgrade).collect();
        let idle = all.into_iter().filter(|connection| !connection.is_in_use() && !connection.is_closing());
        let longest = idle.max_by_key(|connection| connection.unused_for())?;
        tracing::debug!(to = %longest.target(), "too many connections: closing an idle one");
        self.close(&longest);
        Some(longest)
    }

    fn close(&self, connection: &Connection) {
        connection.close();
        self.lock().remove(&connection.id());
    }

    pub(super) fn add(&self, connection: &Arc<Connection>) {
        self.lock().insert(connection.id(), Arc::downgrade(connection));
    }

    pub(super) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shares_of_the_descriptors() {
        let of = |limit| {
            let bounds = ConnectionBounds::within(limit);
            (bounds.most, bounds.dialing, bounds.look_ups)
        };
        assert_eq!(of(None), (16_384, 4096, 4096));
        assert_eq!(of(Some(1024)), (512, 32, 64));
        assert_eq!(of(Some(256)), (128, 8, 16));
        assert_eq!(of(Some(0)), (8, 4, 4));
    }
}
