//! The election as a state machine: no requests, no clock. It receives each record that was read and the
//! result of each write, with the moment on this machine's monotonic clock, and returns what to do next.

mod times;

use std::time::Duration;

use tokio::time::Instant;

pub use self::times::LeaseTimes;
use self::times::MAX_LEASE_DURATION_S;

/// Content of the Lease that matters to the election. Times are compared for being the same, never with a
/// clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Name of the holder; empty: no one.
    pub holder: String,
    /// Seconds that the holder asks the others to wait.
    pub seconds: Option<i32>,
    /// Time of acquisition by the holder's own wall clock, in microseconds since the Unix epoch.
    pub acquired: Option<i64>,
    /// Time of the last renewal by the holder's own wall clock, in microseconds since the Unix epoch.
    pub renewed: Option<i64>,
    /// Number of times that the holder has changed.
    pub transitions: i32,
}

/// A record and the version of the object that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Content of the object.
    pub record: LeaseRecord,
    /// The resourceVersion; never empty.
    pub version: String,
}

/// Next step of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElectionAction {
    /// Nothing until then.
    Wait(Instant),
    /// Read the Lease.
    Read,
    /// Write [`ElectionState::acquire_or_renew`]: in the place of this version, or create the Lease.
    Write {
        /// The version that it replaces; `None`: there must be no Lease.
        over: Option<String>,
    },
    /// Stop leading at once.
    Lose(LostReason),
}

/// Reason that a term ended against this replica's will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// It could not be renewed in time.
    Expired,
    /// Another one has it; empty: someone took the holder out of the Lease.
    Taken {
        /// Holder, as the record names it.
        holder: String,
    },
}

/// Reason that a write did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// The Lease is not the one that the write replaces, or exists already.
    Conflict,
    /// There is no Lease to replace.
    Missing,
    /// The API server did not do it.
    Refused,
    /// No response, or one that says nothing: the write may have been done, or may still be done.
    Unknown,
}

impl WriteFailure {
    /// Another one was quicker: nothing is wrong with the API server.
    #[must_use]
    pub fn is_race(self) -> bool {
        matches!(self, Self::Conflict | Self::Missing)
    }
}

/// Record that the next write builds on.
#[derive(Clone, Debug)]
enum WriteBase {
    Nothing,
    Missing,
    Lease(Observed),
}

/// A foreign record (or that there is none any more), and since when this replica sees it unchanged.
#[derive(Clone, Debug)]
struct Seen {
    what: Option<LeaseRecord>,
    since: Instant,
    lasts: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    until: Instant,
    acquired: i64,
    transitions: i32,
}

/// One replica's part in the election.
#[derive(Clone, Debug)]
pub struct ElectionState {
    me: String,
    times: LeaseTimes,
    known: WriteBase,
    seen: Option<Seen>,
    /// Nothing is done before.
    wake: Instant,
    held: Option<Held>,
    loss: Option<LostReason>,
    /// The newest renewal time that was put into a record.
    stamp: i64,
    /// The last write met a conflict.
    clashed: bool,
    /// The claim under way, and the version over which a claim was sent whose fate is unknown.
    sent: Option<(i64, i32)>,
    unsure: Option<Option<String>>,
}

impl ElectionState {
    /// A replica that knows nothing yet and goes under this name, which no other process may ever use.
    #[must_use]
    pub fn new(me: String, times: LeaseTimes, now: Instant) -> Self {
        Self {
            me,
            times,
            known: WriteBase::Nothing,
            seen: None,
            wake: now,
            held: None,
            loss: None,
            stamp: i64::MIN,
            clashed: false,
            sent: None,
            unsure: None,
        }
    }

    /// Stands for election again after a term; what was seen of the others counts on.
    pub fn stand(&mut self, now: Instant) {
        self.held = None;
        self.loss = None;
        self.known = WriteBase::Nothing;
        self.wake = now;
        self.clashed = false;
    }

    /// Returns what to do now.
    pub fn next(&mut self, now: Instant) -> ElectionAction {
        if let Some(loss) = &self.loss {
            return ElectionAction::Lose(loss.clone());
        }
        if self.held.is_some_and(|held| now >= held.until) {
            self.loss = Some(LostReason::Expired);
            return ElectionAction::Lose(LostReason::Expired);
        }
        if now < self.wake {
            return ElectionAction::Wait(self.held.map_or(self.wake, |held| held.until.min(self.wake)));
        }
        match &self.known {
            WriteBase::Nothing => ElectionAction::Read,
            WriteBase::Missing => ElectionAction::Write { over: None },
            WriteBase::Lease(lease) => ElectionAction::Write { over: Some(lease.version.clone()) },
        }
    }

    /// Returns the moment until which this replica leads, unless it renews; `None` where it does not lead.
    #[must_use]
    pub fn leads_until(&self) -> Option<Instant> {
        if self.loss.is_some() { None } else { self.held.map(|held| held.until) }
    }

    /// The next step is to write: the Lease is there to be taken, or this replica's own.
    #[must_use]
    pub fn takes(&self) -> bool {
        !matches!(self.known, WriteBase::Nothing)
    }

    /// The other one that holds the Lease, as far as is known.
    #[must_use]
    pub fn leader(&self) -> Option<&str> {
        let record = self.seen.as_ref()?.what.as_ref()?;
        (record.holder != self.me && !record.holder.is_empty()).then_some(record.holder.as_str())
    }

    /// The Lease may carry this replica's name, or a request that is under way may yet put it there.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        self.unsure.is_some()
            || matches!(&self.known, WriteBase::Lease(lease) if lease.record.holder == self.me)
    }

    /// The Lease was read; `None`: there is none.
    pub fn read(&mut self, lease: Option<Observed>, now: Instant) {
        if self.unsure.as_ref().is_some_and(|over| over.as_ref() != lease.as_ref().map(|l| &l.version)) {
            self.unsure = None;
        }
        match (lease, self.held.is_some()) {
            (Some(lease), _) if lease.record.holder == self.me => self.build_on(WriteBase::Lease(lease), now),
            (Some(lease), true) => self.loss = Some(LostReason::Taken { holder: lease.record.holder }),
            // No one else can hold what does not exist: anyone who creates it leads.
            (None, true) => self.build_on(WriteBase::Missing, now),
            (Some(lease), false) => self.judge(lease, now),
            (None, false) => self.judge_missing(now),
        }
    }

    /// The Lease could not be read.
    pub fn unread(&mut self, now: Instant) {
        self.wake = now + if self.held.is_some() { self.times.retry_period } else { self.times.poll_period };
    }

    /// Returns what to write. `wall`: microseconds since the Unix epoch by the wall clock, for those who read
    /// the Lease.
    pub fn acquire_or_renew(&mut self, wall: i64) -> LeaseRecord {
        if let WriteBase::Lease(Observed { record: LeaseRecord { holder, renewed: Some(last), .. }, .. }) =
            &self.known
            && *holder == self.me
        {
            self.stamp = self.stamp.max(*last);
        }
        let renewed = self.stamped(wall);
        let (acquired, transitions) = match (&self.known, self.held) {
            (_, Some(held)) => (held.acquired, held.transitions),
            (WriteBase::Lease(old), None) if old.record.holder == self.me => {
                (old.record.acquired.unwrap_or(renewed), old.record.transitions)
            }
            (WriteBase::Lease(old), None) => (renewed, old.record.transitions.saturating_add(1).max(0)),
            (_, None) => (renewed, 0),
        };
        self.sent = Some((acquired, transitions));
        LeaseRecord {
            holder: self.me.clone(),
            seconds: Some(self.times.seconds()),
            acquired: Some(acquired),
            renewed: Some(renewed),
            transitions,
        }
    }

    /// Returns what to write at the end of a term, in the place of which version; `None` where the Lease has
    /// to be read first.
    pub fn give_up(&mut self, wall: i64) -> Option<(LeaseRecord, String)> {
        let renewed = self.stamped(wall);
        let WriteBase::Lease(lease) = &self.known else { return None };
        let record = LeaseRecord {
            holder: String::new(),
            seconds: Some(1),
            acquired: Some(renewed),
            renewed: Some(renewed),
            transitions: lease.record.transitions,
        };
        (lease.record.holder == self.me).then(|| (record, lease.version.clone()))
    }

    /// A claim was written; `sent`: when the request began.
    pub fn wrote(&mut self, lease: Observed, sent: Instant, now: Instant) {
        let until = sent + self.times.renew_deadline;
        self.unsure = None;
        self.clashed = false;
        self.wake = sent + self.times.renew_period;
        let (acquired, transitions) = self.sent.take().unwrap_or((self.stamp, lease.record.transitions));
        self.note(Some(lease.record.clone()), self.times.lease_duration, now);
        self.known = WriteBase::Lease(lease);
        if now < until || self.held.is_some() {
            self.held = Some(Held { until, acquired, transitions });
        } else {
            // The response took so long that the claim is worth nothing: claim again.
            self.wake = now;
        }
    }

    /// The claim was sent several times, and one of them may have been written though another one met a
    /// conflict.
    pub fn doubt(&mut self) {
        self.unsure = Some(match &self.known {
            WriteBase::Lease(lease) => Some(lease.version.clone()),
            WriteBase::Missing | WriteBase::Nothing => None,
        });
    }

    /// A claim was not written.
    pub fn unwritten(&mut self, why: WriteFailure, now: Instant) {
        let leads = self.held.is_some();
        let over = match &self.known {
            WriteBase::Lease(lease) => Some(lease.version.clone()),
            WriteBase::Missing | WriteBase::Nothing => None,
        };
        // A conflict is looked into at once; a server that says nothing else is not asked without a pause.
        let clashes = why.is_race();
        let pause = match (leads, why) {
            _ if clashes && !self.clashed => Duration::ZERO,
            (true, _) => self.times.retry_period,
            (false, _) => self.times.poll_period,
        };
        self.clashed = clashes;
        self.wake = now + pause;
        match why {
            WriteFailure::Conflict => self.known = WriteBase::Nothing,
            WriteFailure::Missing if leads => self.known = WriteBase::Missing,
            WriteFailure::Unknown => {
                self.unsure = Some(over);
                // A leader continues at once with the same version: if the write was done after all, a
                // conflict shows it.
                if !leads {
                    self.known = WriteBase::Nothing;
                }
            }
            WriteFailure::Refused if leads => {}
            WriteFailure::Missing | WriteFailure::Refused => self.known = WriteBase::Nothing,
        }
    }

    fn build_on(&mut self, known: WriteBase, now: Instant) {
        self.known = known;
        self.wake = now;
    }

    fn judge(&mut self, lease: Observed, now: Instant) {
        let lasts = match lease.record.seconds {
            Some(seconds @ 1..=MAX_LEASE_DURATION_S) => {
                Duration::from_secs(u64::from(seconds.unsigned_abs()))
            }
            _ => self.times.lease_duration,
        };
        let dead = self.note(Some(lease.record.clone()), lasts, now);
        if lease.record.holder.is_empty() || now >= dead {
            self.build_on(WriteBase::Lease(lease), now);
        } else {
            self.look_again(dead, now);
        }
    }

    /// There is no Lease. Where there never was one, it is created at once. Where there was one, its holder
    /// may be at work still and create it again with its next renewal: it is given the time.
    fn judge_missing(&mut self, now: Instant) {
        let Some(seen) = &self.seen else { return self.build_on(WriteBase::Missing, now) };
        let lasts = seen.lasts.max(self.times.lease_duration);
        let dead = self.note(None, lasts, now);
        if now >= dead {
            self.build_on(WriteBase::Missing, now);
        } else {
            self.look_again(dead, now);
        }
    }

    fn look_again(&mut self, dead: Instant, now: Instant) {
        self.known = WriteBase::Nothing;
        self.clashed = false;
        self.wake = dead.min(now + self.times.poll_period);
    }

    /// Notes what was seen; returns when it counts no longer.
    fn note(&mut self, what: Option<LeaseRecord>, lasts: Duration, now: Instant) -> Instant {
        match &self.seen {
            Some(seen) if seen.what == what => seen.since + seen.lasts,
            _ => {
                self.seen = Some(Seen { what, since: now, lasts });
                now + lasts
            }
        }
    }

    /// Returns a renewal time that no earlier record of this replica carried, whatever the wall clock does:
    /// the others recognize a renewal by it.
    fn stamped(&mut self, wall: i64) -> i64 {
        self.stamp = wall.max(self.stamp.saturating_add(1));
        self.stamp
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
