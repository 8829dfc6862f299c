//! Leader election by a Lease (coordination.k8s.io/v1) that one replica holds at a time.
//!
//! # Why no two lead at once
//!
//! * Time is judged as client-go does it: a foreign record counts for its duration D from when this replica
//!   *first saw* it, on this machine's monotonic clock. The times that a holder writes are compared for being
//!   the same, never with a clock.
//! * Every write names the resourceVersion that it replaces (or creates), so that of two candidates one wins,
//!   and a request that arrives late changes nothing that was written since. A renewal never carries the time
//!   of an earlier one.
//! * A term counts from when its last successful renewal was *sent*, and ends 0.7 D later. No one can have
//!   seen that renewal before it was sent, so no one else writes earlier than D after it. Between the end of
//!   one term and the begin of another are 0.3 D at least (3 s of 10 s). Clocks whose rates differ by 1 %
//!   take 0.17 s of these. The leader's work has to stop within the rest: [`Leadership::lost`] says when to
//!   begin, and a quarter of D is what it may take.
//! * The holder's name has a random part of its own for each process. A container that is killed and comes
//!   back under the same pod name waits like any other: it cannot know whether a process of that name still
//!   sends (two replicas may be given one name by mistake, and a container runtime may start the next before
//!   the last thread of the former is gone).
//! * A Lease that is deleted under a leader is created again by its next renewal. Those who knew it wait for
//!   D before they create one. A replica that starts in these few seconds takes it for a first start and
//!   leads beside the other one until that one's next renewal (0.15 D): no one but an administrator deletes
//!   it. Nor is anything promised for a Lease that is deleted several times in a few D: that there is none
//!   now looks like that there was none before.
//!
//! A process that is stopped (SIGSTOP, a frozen virtual machine) may be behind any deadline when it goes on.
//! Its timers fire some moments later, so a [`Fence`] compares with the clock itself, and is asked before
//! anything is sent. What the operating system's monotonic clock does not count cannot be
//! seen: on Linux it stands still while the whole machine is suspended, and while some hypervisors move or
//! freeze a guest. No node of a cluster should be suspended with a leader on it; should it happen, the first
//! renewal after it finds another holder (409) and ends the term.
//!
//! * `election`: the rules, without requests or a clock; checked by simulation,
//! * `api`: get, create and update, and what their failures mean,
//! * `client`: both together,
//! * `leadership`: renewing, and the end of it,
//! * `fence`: the right to act, as long as a term lasts.

use std::time::Duration;

use kube::Client;
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    api::{LeaseApi, RequestError},
    client::LeaseClient,
    election::{ElectionAction, ElectionState, LeaseTimes},
};
use routr_types::text::clean;

pub mod api;
pub mod client;
pub mod election;
mod fence;
pub mod leadership;

pub use self::{fence::Fence, leadership::Leadership};

/// Bytes of a holder's name that are shown: a pod has no longer one.
const MAX_HOLDER_BYTES: usize = 253;
/// Polls in a row for which the Lease may be unusable before a replica says that it could not take over.
const POLLS_TO_UNAVAILABLE: u32 = 6;
/// Another problem with the Lease, while it cannot be used, is a line in the log after this long.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// Name, holder and duration of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Name of this replica: unique among the replicas.
    pub identity: String,
    /// Time that a record counts after it was last renewed; whole seconds.
    pub duration: Duration,
}

/// Role of this replica.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum LeadershipStatus {
    /// Nothing is known yet.
    #[default]
    Starting,
    /// Another replica leads, and this one is ready to take over.
    Following {
        /// Name of the leader; `None` where no one holds the Lease at the moment.
        leader: Option<String>,
    },
    /// The Lease cannot be read or written: this replica could not take over.
    LeaseUnavailable {
        /// Message in plain words.
        problem: String,
    },
    /// This replica leads.
    Leading,
}

/// Stands for election, as often as is wanted.
#[derive(Clone, Debug)]
pub struct LeaderElector {
    client: LeaseClient,
    holder: String,
    times: LeaseTimes,
}

impl LeaderElector {
    /// A candidate for the Lease. The holder it writes is `<identity>_<random>`, another one for each
    /// elector.
    #[must_use]
    pub fn new(client: Client, settings: &LeaseSettings) -> Self {
        let holder = format!("{}_{:016x}", settings.identity, routr_environment::random());
        let times = LeaseTimes::of(settings.duration);
        let election = ElectionState::new(holder.clone(), times, Instant::now());
        let client = LeaseClient::new(election, LeaseApi::new(client, settings), times);
        Self { client, holder, times }
    }

    /// Returns what this elector writes as the holder.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Waits until this replica leads; `None`: `shutdown` came first. A Lease that was taken just then is
    /// released again, which may take a request's time and a second.
    ///
    /// Says meanwhile how it stands. After a term its end has to be awaited ([`Leadership::lost`], and the
    /// work stopped) before this is called again.
    pub async fn acquire(
        &mut self,
        shutdown: &CancellationToken,
        standing: &watch::Sender<LeadershipStatus>,
    ) -> Option<Leadership> {
        let mut speaker = StatusReporter {
            standing,
            trouble: None,
            patience: self.times.poll_period * POLLS_TO_UNAVAILABLE,
            warned: None,
        };
        self.client.election.stand(Instant::now());
        standing.send_if_modified(|now| {
            let led = *now == LeadershipStatus::Leading;
            if led {
                *now = LeadershipStatus::Starting;
            }
            led
        });
        loop {
            let act = self.client.election.next(Instant::now());
            let began = Instant::now();
            let done = match &act {
                ElectionAction::Wait(until) => select! {
                    () = shutdown.cancelled() => break,
                    () = sleep_until(*until) => continue,
                },
                ElectionAction::Read => select! {
                    () = shutdown.cancelled() => break,
                    done = self.client.act(&act) => done,
                },
                // Not left half-way: its outcome says whether there is something to release.
                ElectionAction::Write { .. } => self.client.act(&act).await,
                ElectionAction::Lose(_) => {
                    self.client.election.stand(Instant::now());
                    continue;
                }
            };
            if shutdown.is_cancelled() {
                break;
            }
            if let Some(until) = self.client.election.leads_until() {
                tracing::info!(holder = self.holder, "acquired the lease: this replica leads");
                standing.send_replace(LeadershipStatus::Leading);
                return Some(Leadership::begin(self.client.clone(), until));
            }
            speaker.note(&act, done, began, &self.client.election);
        }
        if self.client.election.may_hold() {
            self.client.release().await;
        }
        None
    }
}

/// Says how a follower stands.
struct StatusReporter<'a> {
    standing: &'a watch::Sender<LeadershipStatus>,
    /// Moment since which the Lease cannot be used.
    trouble: Option<Instant>,
    patience: Duration,
    /// Moment when a line was last logged about the Lease.
    warned: Option<Instant>,
}

impl StatusReporter<'_> {
    fn note(
        &mut self,
        act: &ElectionAction,
        done: Result<(), RequestError>,
        began: Instant,
        election: &ElectionState,
    ) {
        let now = Instant::now();
        match done {
            Err(error) if !(error.why.is_race() && matches!(act, ElectionAction::Write { .. })) => {
                let since = *self.trouble.get_or_insert(began);
                if now >= since + self.patience {
                    self.lease_unavailable(error.problem, now);
                }
            }
            Err(_) => {}
            // A Lease that is there to be taken: how this replica stands is known when it was written.
            Ok(()) if election.takes() => {}
            Ok(()) => {
                self.trouble = None;
                self.follows(election.leader());
            }
        }
    }

    fn follows(&self, leader: Option<&str>) {
        let leader = leader.map(|holder| clean(display_name(holder), MAX_HOLDER_BYTES));
        let new = LeadershipStatus::Following { leader };
        self.standing.send_if_modified(|old| {
            if *old == new {
                return false;
            }
            if let LeadershipStatus::Following { leader } = &new {
                let leader = leader.as_deref().unwrap_or("no replica at the moment");
                tracing::info!(leader, "follows, and is ready to take over");
            }
            *old = new;
            true
        });
    }

    fn lease_unavailable(&mut self, problem: String, now: Instant) {
        let new = LeadershipStatus::LeaseUnavailable { problem };
        let warned = &mut self.warned;
        self.standing.send_if_modified(|old| {
            if *old == new {
                return false;
            }
            if let LeadershipStatus::LeaseUnavailable { problem } = &new {
                // Two problems that take turns are not a line for each turn.
                let again = matches!(old, LeadershipStatus::LeaseUnavailable { .. })
                    && warned.is_some_and(|at| now < at + WARNING_PERIOD);
                if again {
                    tracing::debug!(%problem, "cannot read or write the Lease");
                } else {
                    *warned = Some(now);
                    tracing::warn!(
                        %problem,
                        "cannot read or write the leader-election Lease; this replica cannot take over"
                    );
                }
            }
            *old = new;
            true
        });
    }
}

/// The name of a holder without what makes it unique. Names of pods have no underscore.
fn display_name(holder: &str) -> &str {
    holder.rsplit_once('_').map_or(holder, |(name, _)| name)
}

#[cfg(test)]
mod tests;
