//! The non-INVITE client transaction (RFC 3261 §17.1.2). Pure: it reads no clock and sends nothing; time
//! comes in with every call, and what has to be done comes out.
//!
//! ```text
//!             request sent
//!                  |            E: send again
//!   F        +----------+ --------+
//!  +---------|  Trying  | <-------+
//!  |         +----------+
//!  |   1xx      |    |  final
//!  |            v    +------------+
//!  |  +------------+              v        K
//!  +--| Proceeding |------> +-----------+ ---+
//!  |  +------------+ final  | Completed |    |
//!  |   E: send again        +-----------+    |
//!  v                                         v
//!  +-----------------------------------------+
//!  |                Terminated               |
//!  +-----------------------------------------+
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// The base values of all SIP timers (RFC 3261 §17.1.1.1 and table 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// An estimate of the round trip: the first interval of Timer E.
    pub t1: Duration,
    /// The longest interval of Timer E.
    pub t2: Duration,
    /// Time that a message can stay in the network: Timer K.
    pub t4: Duration,
}

impl Default for Timers {
    /// 500 ms, 4 s, 5 s.
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timers {
    /// Timer F: how long a transaction waits for its final response. 32 s by default.
    pub fn f(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// State of a transaction (RFC 3261 §17.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, nothing heard.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// The final response came; retransmissions of it are absorbed until Timer K.
    Completed,
    /// Over.
    Terminated,
}

/// Action that a response calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnResponse {
    /// A provisional response: there is more to come.
    Provisional,
    /// The first final response: it goes to the user of the transaction.
    Final,
    /// One that comes too late or once more.
    Absorb,
}

/// Action that a timer calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimer {
    /// Nothing is due.
    Idle,
    /// Timer E: send the request again.
    Retransmit,
    /// Timer F: the user gets an error, the transaction is over.
    TimedOut,
    /// Timer K: the transaction is over.
    Over,
}

/// One transaction. The caller sends the request when it makes one.
#[derive(Clone, Debug)]
pub struct ClientTransaction {
    state: State,
    timers: Timers,
    reliable: bool,
    started: Instant,
    /// Timer E; none on a reliable transport and once a final response came.
    retransmit_at: Option<Instant>,
    interval: Duration,
    /// Timer F, then Timer K.
    ends_at: Instant,
}

impl ClientTransaction {
    /// The request is sent at `now`; `reliable` says whether over TCP or the like, where nothing is sent
    /// again.
    pub fn start(timers: Timers, reliable: bool, now: Instant) -> Self {
        Self {
            state: State::Trying,
            timers,
            reliable,
            started: now,
            retransmit_at: (!reliable).then(|| now + timers.t1),
            interval: timers.t1,
            ends_at: now + timers.f(),
        }
    }

    /// Returns how far it has come.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns when the request was first sent.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Returns when [`ClientTransaction::on_timer`] has to be called next; `None` when it is over.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Terminated => None,
            _ => Some(self.retransmit_at.map_or(self.ends_at, |at| at.min(self.ends_at))),
        }
    }

    /// A response to this transaction came at `now`.
    pub fn on_response(&mut self, code: u16, now: Instant) -> OnResponse {
        match self.state {
            State::Trying | State::Proceeding if code < 200 => {
                // Timer E goes on as it is set; from its next firing on its interval is T2.
                self.state = State::Proceeding;
                OnResponse::Provisional
            }
            State::Trying | State::Proceeding => {
                self.retransmit_at = None;
                if self.reliable {
                    self.state = State::Terminated;
                } else {
                    self.state = State::Completed;
                    self.ends_at = now + self.timers.t4;
                }
                OnResponse::Final
            }
            State::Completed | State::Terminated => OnResponse::Absorb,
        }
    }

    /// It is `now`: says what is due. A call too early or too often is harmless.
    pub fn on_timer(&mut self, now: Instant) -> OnTimer {
        if self.state == State::Terminated {
            return OnTimer::Idle;
        }
        if now >= self.ends_at {
            let was = std::mem::replace(&mut self.state, State::Terminated);
            return if was == State::Completed { OnTimer::Over } else { OnTimer::TimedOut };
        }
        if self.retransmit_at.is_none_or(|at| now < at) {
            return OnTimer::Idle;
        }
        self.interval = match self.state {
            State::Trying => self.interval.saturating_mul(2).min(self.timers.t2),
            _ => self.timers.t2,
        };
        self.retransmit_at = Some(now + self.interval);
        OnTimer::Retransmit
    }
}

#[cfg(test)]
mod tests;
