//! A term: the time for which this replica leads.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    select,
    task::JoinHandle,
    time::{Duration, Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    display_name,
    election::{Act, Loss},
    runner::Runner,
};

/// Whether a term is still in force. Cheap to ask and to clone.
#[derive(Clone, Debug)]
pub struct Validity(Arc<Limit>);

#[derive(Debug)]
struct Limit {
    /// What `until` counts from.
    origin: Instant,
    /// Microseconds; 0: over.
    until: AtomicU64,
}

impl Validity {
    fn new(until: Instant) -> Self {
        let limit = Limit { origin: Instant::now(), until: AtomicU64::new(0) };
        let validity = Self(Arc::new(limit));
        validity.extend(until);
        validity
    }

    /// Whether this replica leads at this very moment.
    ///
    /// To be asked before anything is sent that only a leader may send: the answer is right also in a process that was
    /// stopped for a while and whose timers have not fired yet. Between the question and the sending there is no
    /// protection but the margin.
    #[must_use]
    pub fn holds(&self) -> bool {
        let until = Duration::from_micros(self.0.until.load(Ordering::Acquire));
        Instant::now().saturating_duration_since(self.0.origin) < until
    }

    fn extend(&self, until: Instant) {
        let until = until.saturating_duration_since(self.0.origin).as_micros();
        self.0.until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn end(&self) {
        self.0.until.store(0, Ordering::Release);
    }
}

/// This replica leads, and goes on renewing the Lease until this is dropped or released.
///
/// Dropped without a release, it leaves the Lease to run out: the others wait for its whole duration.
#[derive(Debug)]
pub struct Term {
    /// Cancelled as soon as this replica must not lead any longer. The work of a leader has to have stopped within a quarter
    /// of the lease's duration from then on.
    pub lost: CancellationToken,
    validity: Validity,
    stop: CancellationToken,
    _stops: DropGuard,
    task: JoinHandle<Runner>,
}

impl Term {
    /// Begins to renew. The election has to lead already.
    pub(super) fn begin(runner: Runner, until: Instant) -> Self {
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        let validity = Validity::new(until);
        let end = End { lost: lost.clone(), validity: validity.clone() };
        let task = tokio::spawn(renew(runner, stop.clone(), end));
        Self { lost, validity, _stops: stop.clone().drop_guard(), stop, task }
    }

    /// Whether this replica leads at this very moment; see [`Validity::holds`].
    #[must_use]
    pub fn still_valid(&self) -> bool {
        self.validity.holds()
    }

    /// The same question, for those who do not hold the term.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity.clone()
    }

    /// Ends the term and lets another one lead at once. To be called when the work of the leader has stopped. Takes at most
    /// a second; a failure is logged, and the Lease then runs out by itself.
    pub async fn release(mut self) {
        self.validity.end();
        self.lost.cancel();
        self.stop.cancel();
        match (&mut self.task).await {
            Ok(mut runner) => runner.release().await,
            Err(problem) => tracing::warn!(%problem, "the lease is not released: it has to expire"),
        }
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        self.validity.end();
        self.lost.cancel();
    }
}

/// Whatever becomes of the renewing task, without it there is no term.
struct End {
    lost: CancellationToken,
    validity: Validity,
}

impl Drop for End {
    fn drop(&mut self) {
        self.validity.end();
        self.lost.cancel();
    }
}

async fn renew(mut runner: Runner, stop: CancellationToken, end: End) -> Runner {
    let mut trouble = None;
    loop {
        let act = runner.election.next(Instant::now());
        if let Act::Lose(loss) = &act {
            drop(end);
            said_lost(loss, trouble.as_deref());
            return runner;
        }
        if let Act::Wait(until) = act {
            select! {
                () = stop.cancelled() => return runner,
                () = sleep_until(until) => continue,
            }
        }
        let done = select! {
            () = stop.cancelled() => return runner,
            done = runner.act(&act) => done,
        };
        match done {
            Ok(()) => {
                if let Some(until) = runner.election.leads_until() {
                    end.validity.extend(until);
                }
                if matches!(act, Act::Write { .. }) && trouble.take().is_some() {
                    tracing::info!("the lease is renewed again");
                }
            }
            Err(error) => {
                if trouble.as_ref() != Some(&error.problem) {
                    tracing::warn!(problem = %error, "the lease could not be renewed: trying again");
                }
                trouble = Some(error.problem);
            }
        }
    }
}

fn said_lost(loss: &Loss, trouble: Option<&str>) {
    match loss {
        Loss::Expired => {
            let problem = trouble.unwrap_or("this process was paused");
            tracing::error!(%problem, "lost the lease: it could not be renewed in time");
        }
        Loss::Taken { holder } if holder.is_empty() => {
            tracing::error!("lost the lease: another client cleared its holderIdentity");
        }
        Loss::Taken { holder } => {
            tracing::error!(leader = display_name(holder), "lost the lease: another replica holds it");
        }
    }
}
