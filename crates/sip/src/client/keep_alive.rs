//! Keep-alives on connections (RFC 5626 §3.5.1 and §4.4.1): two line ends, to which the peer responds with
//! one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::sleep;

use super::{Destination, connection::Connection, pool::Connections};

pub(super) const PING: &[u8] = b"\r\n\r\n";
pub(super) const PONG: &[u8] = b"\r\n";

/// Connections in a row that must live without ever a pong until the peer is taken for one that knows none.
const MAX_MISSED_PONGS: u32 = 2;

/// Most destinations that are remembered.
const MAX_DESTINATIONS: usize = 1024;

/// Keep-alives as they are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// A ping goes out when nothing came for this long, shortened at random by up to a fifth (RFC 5626
    /// §4.4.1).
    pub every: Duration,
    /// Silence after a ping for which the connection counts as dead: 10 s in RFC 5626 §4.4.1.
    pub pong_within: Duration,
}

impl KeepAlive {
    /// A ping at that interval, with 10 s for the pong.
    pub fn every(every: Duration) -> Self {
        Self { every, pong_within: Duration::from_secs(10) }
    }
}

/// Destinations whose connections had responses to requests, but never to a ping, and the number of pings in
/// a row.
#[derive(Default)]
pub(super) struct Unanswered {
    misses: Mutex<HashMap<Destination, u32>>,
}

impl Unanswered {
    fn answered(&self, destination: &Destination) {
        self.misses.lock().unwrap_or_else(PoisonError::into_inner).remove(destination);
    }

    /// Counts one more ping without a pong, and returns their number.
    fn missed(&self, destination: &Destination) -> u32 {
        let mut misses = self.misses.lock().unwrap_or_else(PoisonError::into_inner);
        if misses.len() >= MAX_DESTINATIONS && !misses.contains_key(destination) {
            misses.clear();
        }
        let missed = misses.entry(destination.clone()).or_default();
        *missed = missed.saturating_add(1);
        *missed
    }
}

/// Sends pings for as long as the connection is in use, and takes it out of use when nothing comes back.
/// Never ends.
pub(super) async fn run(pool: &Connections, connection: &Connection) {
    if let Some(settings) = pool.settings().keep_alive {
        ping(settings, pool, connection).await;
    }
    std::future::pending().await
}

async fn ping(KeepAlive { every, pong_within }: KeepAlive, pool: &Connections, connection: &Connection) {
    let destination = &connection.target().destination;
    let mut ponged = false;
    loop {
        let before = connection.reads();
        sleep(every.mul_f64(1.0 - 0.2 * routr_environment::random() as f64 / u64::MAX as f64)).await;
        if connection.reads() != before {
            continue;
        }
        if !connection.is_usable() {
            return;
        }
        connection.try_write(Bytes::from_static(PING));
        sleep(pong_within).await;
        if connection.reads() != before {
            ponged = true;
            pool.pings().answered(destination);
            continue;
        }
        // A peer that responds to requests and never to a ping does not know pings: RFC 5626 is optional.
        let misses = if ponged || before == 0 { 0 } else { pool.pings().missed(destination) };
        if misses <= MAX_MISSED_PONGS {
            tracing::debug!(peer = %connection.remote(), "no response to a keep-alive: the next request \
                                                          opens a new connection");
            pool.retire(connection);
            return;
        }
        if misses == MAX_MISSED_PONGS + 1 {
            tracing::warn!(
                to = %destination,
                "never responds to a keep-alive (RFC 5626): no longer judging its connections by that"
            );
        }
    }
}
