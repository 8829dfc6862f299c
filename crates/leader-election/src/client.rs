//! The election and its requests together: does what the election says.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    select,
    time::{Instant, sleep_until, timeout},
};

use super::{
    api::{LeaseApi, RequestError},
    election::{ElectionAction, ElectionState, LeaseTimes, WriteFailure},
};

/// Time limits for the write that releases a Lease: at an API server that is quick, and at any.
const RELEASE_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// One replica's election, and its requests.
#[derive(Clone, Debug)]
pub struct LeaseClient {
    /// State machine that decides on the next request.
    pub election: ElectionState,
    requests: LeaseApi,
    times: LeaseTimes,
    /// Round-trip time of the last request that had a response.
    latency: Duration,
}

impl LeaseClient {
    /// Does the election's requests.
    #[must_use]
    pub fn new(election: ElectionState, requests: LeaseApi, times: LeaseTimes) -> Self {
        Self { election, requests, times, latency: Duration::ZERO }
    }

    /// Does one [`ElectionAction::Read`] or [`ElectionAction::Write`].
    ///
    /// # Errors
    /// When it failed. The election knows already.
    pub async fn act(&mut self, act: &ElectionAction) -> Result<(), RequestError> {
        match act {
            ElectionAction::Read => {
                let (read, _) = self.attempts(|requests| async { requests.read().await }).await;
                let found =
                    read.and_then(|(lease, _)| lease.map(|lease| self.requests.observed(lease)).transpose());
                let now = Instant::now();
                found.map(|lease| self.election.read(lease, now)).inspect_err(|_| self.election.unread(now))
            }
            ElectionAction::Write { over } => {
                let record = self.election.acquire_or_renew(wall());
                let (over, record) = (over.as_deref(), &record);
                let (written, sent) =
                    self.attempts(|requests| async move { requests.write(over, record).await }).await;
                let written = written.and_then(|(lease, sent)| Ok((self.requests.observed(lease)?, sent)));
                let now = Instant::now();
                written.map(|(lease, sent)| self.election.wrote(lease, sent, now)).inspect_err(|error| {
                    if sent > 1 {
                        self.election.doubt();
                    }
                    self.election.unwritten(error.why, now);
                })
            }
            ElectionAction::Wait(_) | ElectionAction::Lose(_) => Ok(()),
        }
    }

    /// Sends a request, and once more beside it whenever there was no response for some time. Slow is not
    /// lost: none of them is given up for the next one. The response, and when its request was sent; and how
    /// often it was sent.
    async fn attempts<'a, T, F>(
        &'a mut self,
        send: impl Fn(&'a LeaseApi) -> F,
    ) -> (Result<(T, Instant), RequestError>, usize)
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let Self { election, requests, times, latency } = self;
        let requests: &'a LeaseApi = requests;
        let began = Instant::now();
        // Nothing is waited for that would come too late for a leader.
        let deadline = election.leads_until().unwrap_or(began + times.request_timeout);
        let stagger = times.hedge_delay.max(*latency * 3 / 2);
        let one = || {
            let (sent, response) = (Instant::now(), send(requests));
            async move { (response.await, sent) }
        };
        let mut pending = FuturesUnordered::from_iter([one()]);
        let (mut next, mut count) = (began + stagger, 1);
        loop {
            select! {
                biased;
                Some((response, sent)) = pending.next() => match response {
                    Err(error) if error.why == WriteFailure::Unknown && !pending.is_empty() => {}
                    response => {
                        *latency = sent.elapsed();
                        return (response.map(|response| (response, sent)), count);
                    }
                },
                () = sleep_until(deadline) => return (Err(requests.late(began.elapsed(), times)), count),
                () = sleep_until(next) => {
                    pending.push(one());
                    (next, count) = (next + stagger, count + 1);
                }
            }
        }
    }

    /// Writes that no one holds the Lease, if this replica does. A failure is logged: the others then wait
    /// until the record is out of date.
    pub async fn release(&mut self) {
        let limit = RELEASE_TIMEOUT.0.max(self.latency * 2).min(RELEASE_TIMEOUT.1);
        match timeout(limit, self.try_release()).await {
            Ok(Ok(true)) => tracing::info!("released the lease: another replica may lead immediately"),
            Ok(Ok(false)) => {}
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "the lease could not be released: it has to expire")
            }
            Err(_) => tracing::warn!(
                "the lease could not be released within {:.1} s: it has to expire",
                limit.as_secs_f32()
            ),
        }
    }

    /// Returns whether it was this replica's.
    async fn try_release(&mut self) -> Result<bool, RequestError> {
        loop {
            if let Some((record, over)) = self.election.give_up(wall()) {
                match self.requests.write(Some(&over), &record).await {
                    Ok(_) => return Ok(true),
                    Err(error) if error.why == WriteFailure::Missing => return Ok(false),
                    // A renewal was under way that was done after all: look at what it left.
                    Err(error) if error.why == WriteFailure::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
            let found = self.requests.read().await?;
            let found = found.map(|lease| self.requests.observed(lease)).transpose()?;
            let now = Instant::now();
            self.election.stand(now);
            self.election.read(found, now);
            if self.election.give_up(wall()).is_none() {
                return Ok(false);
            }
        }
    }
}

/// Returns the wall clock, for those who read the Lease: microseconds since the Unix epoch.
fn wall() -> i64 {
    i64::try_from(routr_environment::unix_ms()).unwrap_or(i64::MAX).saturating_mul(1000)
}
