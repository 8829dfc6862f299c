//! A term: the time for which this replica leads.

use tokio::{
    select,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    client::LeaseClient,
    display_name,
    election::{ElectionAction, LostReason},
    fence::{Fence, TermEnd},
};

/// This replica leads, and goes on renewing the Lease until this is dropped or released.
///
/// Dropped without a release, it leaves the Lease to run out: the others wait for its whole duration.
#[derive(Debug)]
pub struct Leadership {
    /// Cancelled as soon as this replica must not lead any longer. The work of a leader has to have stopped
    /// within a quarter of the lease's duration from then on.
    pub lost: CancellationToken,
    term_end: TermEnd,
    stop: CancellationToken,
    _stops: DropGuard,
    task: JoinHandle<LeaseClient>,
}

impl Leadership {
    /// Begins to renew. The election has to lead already.
    pub(super) fn begin(client: LeaseClient, until: Instant) -> Self {
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        let term_end = TermEnd::new(until);
        let end = End { lost: lost.clone(), term_end: term_end.clone() };
        let task = tokio::spawn(renew(client, stop.clone(), end));
        Self { lost, term_end, _stops: stop.clone().drop_guard(), stop, task }
    }

    /// Makes the fence that holds as long as this replica leads.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.term_end.fence()
    }

    /// Ends the term and lets another one lead at once. To be called when the work of the leader has stopped.
    /// Takes at most a second; a failure is logged, and the Lease then runs out by itself.
    pub async fn release(mut self) {
        self.term_end.end();
        self.lost.cancel();
        self.stop.cancel();
        match (&mut self.task).await {
            Ok(mut client) => client.release().await,
            Err(problem) => tracing::warn!(%problem, "the lease is not released: it has to expire"),
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.term_end.end();
        self.lost.cancel();
    }
}

/// Whatever becomes of the renewing task, without it there is no term.
struct End {
    lost: CancellationToken,
    term_end: TermEnd,
}

impl Drop for End {
    fn drop(&mut self) {
        self.term_end.end();
        self.lost.cancel();
    }
}

async fn renew(mut client: LeaseClient, stop: CancellationToken, end: End) -> LeaseClient {
    let mut trouble = None;
    loop {
        let act = client.election.next(Instant::now());
        if let ElectionAction::Lose(loss) = &act {
            drop(end);
            log_lost(loss, trouble.as_deref());
            return client;
        }
        if let ElectionAction::Wait(until) = act {
            select! {
                () = stop.cancelled() => return client,
                () = sleep_until(until) => continue,
            }
        }
        let done = select! {
            () = stop.cancelled() => return client,
            done = client.act(&act) => done,
        };
        match done {
            Ok(()) => {
                if let Some(until) = client.election.leads_until() {
                    end.term_end.extend(until);
                }
                if matches!(act, ElectionAction::Write { .. }) && trouble.take().is_some() {
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

fn log_lost(loss: &LostReason, trouble: Option<&str>) {
    match loss {
        LostReason::Expired => {
            let problem = trouble.unwrap_or("this process was paused");
            tracing::error!(%problem, "lost the lease: it could not be renewed in time");
        }
        LostReason::Taken { holder } if holder.is_empty() => {
            tracing::error!("lost the lease: another client cleared its holderIdentity");
        }
        LostReason::Taken { holder } => {
            tracing::error!(leader = display_name(holder), "lost the lease: another replica holds it");
        }
    }
}
