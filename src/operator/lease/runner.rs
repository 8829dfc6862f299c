//! The election and its requests together: does what the election says.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    election::{Act, Election, Times, Unwritten},
    requests::{RequestError, Requests},
};
use crate::environment;

/// How long writing the release of a Lease may take.
const RELEASE: Duration = Duration::from_secs(1);

/// One replica's election, and its requests.
#[derive(Clone, Debug)]
pub struct Runner {
    /// What to do.
    pub election: Election,
    requests: Requests,
    times: Times,
}

impl Runner {
    /// Does the election's requests.
    #[must_use]
    pub fn new(election: Election, requests: Requests, times: Times) -> Self {
        Self { election, requests, times }
    }

    /// Does one [`Act::Read`] or [`Act::Write`].
    ///
    /// # Errors
    /// When it failed. The election knows already.
    pub async fn act(&mut self, act: &Act) -> Result<(), RequestError> {
        let sent = Instant::now();
        // Nothing is waited for that would come too late for a leader.
        let deadline = sent + self.times.request;
        let deadline = self.election.leads_until().map_or(deadline, |until| deadline.min(until));
        match act {
            Act::Read => {
                let answer = self.requests.read(deadline).await;
                let now = Instant::now();
                answer.map(|lease| self.election.read(lease, now)).inspect_err(|_| self.election.unread(now))
            }
            Act::Write { over } => {
                let record = self.election.claim(wall());
                let answer = self.requests.write(over.as_deref(), &record, deadline).await;
                let now = Instant::now();
                answer
                    .map(|lease| self.election.wrote(lease, sent, now))
                    .inspect_err(|error| self.election.unwritten(error.why, now))
            }
            Act::Wait(_) | Act::Lose(_) => Ok(()),
        }
    }

    /// Writes that nobody holds the Lease, if this replica does. A failure is logged: the others then wait until the record
    /// is out of date.
    pub async fn release(&mut self) {
        match timeout(RELEASE, self.try_release()).await {
            Ok(Ok(true)) => tracing::info!("released the lease: another replica may lead at once"),
            Ok(Ok(false)) => {}
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "the lease could not be released: it has to run out")
            }
            Err(_) => tracing::warn!("the lease could not be released within 1 s: it has to run out"),
        }
    }

    /// Whether it was this replica's.
    async fn try_release(&mut self) -> Result<bool, RequestError> {
        let deadline = Instant::now() + RELEASE;
        loop {
            if let Some((record, over)) = self.election.give_up(wall()) {
                match self.requests.write(Some(&over), &record, deadline).await {
                    Ok(_) => return Ok(true),
                    Err(error) if error.why == Unwritten::Missing => return Ok(false),
                    // A renewal was under way that was done after all: look at what it left.
                    Err(error) if error.why == Unwritten::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
            let found = self.requests.read(deadline).await?;
            let now = Instant::now();
            self.election.stand(now);
            self.election.read(found, now);
            if self.election.give_up(wall()).is_none() {
                return Ok(false);
            }
        }
    }
}

/// For those who read the Lease: microseconds since the Unix epoch.
fn wall() -> i64 {
    i64::try_from(environment::unix_ms()).unwrap_or(i64::MAX).saturating_mul(1000)
}
