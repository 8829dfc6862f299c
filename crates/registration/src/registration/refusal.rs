//! The wait after refused credentials, or an unknown account: it outlives the process, so that nothing is
//! offered more often.

use super::{
    Priority, Refusal, Registration, UriIndex, UriRank, backoff,
    outcome::{Failure, Reason},
    time::Moment,
};

/// Time after the end of its wait that a refusal still counts for the next one, in milliseconds.
const COUNTS_FOR_MS: u64 = 3_600 * backoff::SECOND_MS;
/// Most refusals that are kept beyond the life of the process for one trunk.
const MAX_REFUSALS: usize = 4;

/// Refusals of the registrars of single URIs, by the rank of the URI. Each wait outlives a success at
/// another URI, an edit of anything but the account there, and a restart.
#[derive(Clone, Debug, Default)]
pub(super) struct RefusedUris(Vec<(UriRank, Refusal)>);

impl RefusedUris {
    /// Until when the URI of this rank is not to be asked again.
    pub fn shut_until(&self, rank: UriRank) -> Moment {
        self.of(rank).map_or(Moment::default(), |refusal| refusal.until)
    }

    /// Refusals in a row at the URI of this rank.
    pub fn times(&self, rank: UriRank) -> u8 {
        self.of(rank).map_or(0, |refusal| refusal.times)
    }

    fn of(&self, rank: UriRank) -> Option<&Refusal> {
        self.0.iter().find(|(other, _)| *other == rank).map(|(_, refusal)| refusal)
    }

    /// Remembers the latest refusal of a rank.
    pub fn note(&mut self, rank: UriRank, refusal: Refusal) {
        self.0.retain(|(other, _)| *other != rank);
        self.0.push((rank, refusal));
    }

    /// The URI of this rank accepted the credentials. What no longer counts is forgotten as well.
    pub fn accepted(&mut self, rank: UriRank, now: Moment) {
        self.0.retain(|(other, refusal)| *other != rank && refusal.until.plus(COUNTS_FOR_MS) > now);
    }

    /// The trunk changed: `keeps` gives the new index and rank of a URI whose account is still the same.
    pub fn changed(&mut self, keeps: impl Fn(UriIndex) -> Option<(UriIndex, UriRank)>) {
        let moved = |(_, refusal): (UriRank, Refusal)| {
            let (index, rank) = keeps(refusal.index)?;
            Some((rank, Refusal { index, ..refusal }))
        };
        self.0 = self.0.drain(..).filter_map(moved).collect();
    }

    /// Returns whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Registration {
    /// The refusals that still count, at most four: first that of [`Registration::refusal`], then by the end
    /// of their waits, the latest first. A wait that is over counts as well: the next refusal at that URI is
    /// one more in a row.
    pub fn refusals(&self, now: Moment) -> Vec<Refusal> {
        let mut all: Vec<Refusal> = self.refusal(now).into_iter().collect();
        let refused = self.failure.as_ref().map_or(&[][..], |failure| &failure.refused_uris.0);
        let is_new = |refusal: &Refusal| !all.iter().any(|known| known.index == refusal.index);
        let mut others: Vec<Refusal> = refused.iter().map(|(_, refusal)| *refusal).filter(is_new).collect();
        others.sort_by_key(|refusal| std::cmp::Reverse(refusal.until));
        all.extend(others);
        all.truncate(MAX_REFUSALS);
        all
    }

    /// Remembers a refusal that was met with before a restart, at the URI of a rank.
    pub fn remember_refusal(&mut self, rank: UriRank, refusal: Refusal) {
        self.failure_mut().refused_uris.note(rank, refusal);
    }

    /// Leaves out the URIs whose registrars refused the account a while ago: the first one that did not is
    /// next, or, where all `uris` did, the one whose wait ends first.
    pub(super) fn pass_over_refused(&mut self, uris: u8, now: Moment) {
        let Some(failure) = &self.failure else { return };
        let shut_until = |rank: UriRank| failure.refused_uris.shut_until(rank).max(now);
        if let Some((until, rank)) = UriRank::first(uris).map(|rank| (shut_until(rank), rank)).min() {
            self.target.uri = rank;
            self.due = self.due.max(until);
        }
    }

    /// The wait after a refusal, if there is one: of what is tried next, or of the preferred target while
    /// another one holds the binding.
    pub fn refusal(&self, now: Moment) -> Option<Refusal> {
        let failure = self.failure.as_ref()?;
        let (until, times) = match (failure.rejections, failure.preferred_rejections) {
            (0, 0) => return None,
            (0, times) => (failure.preferred_retry_at, times),
            (times, _) => (self.due, times),
        };
        let index = failure.refused_at.filter(|_| until > now && until != Moment::NEVER)?;
        let reason = failure.refused_for.unwrap_or(Reason::CredentialsRejected);
        Some(Refusal { index, reason, until, times, since_unix_ms: failure.refused_since_ms })
    }

    /// Index of the URI whose registrar refused credentials or account last.
    pub fn refused_at(&self) -> Option<UriIndex> {
        self.failure.as_ref()?.refused_at
    }

    /// Goes on waiting after a refusal that was met with before a restart. `preferred` where it is the
    /// preferred target's, while another one holds the binding.
    pub fn resume_refusal(&mut self, refusal: Refusal, preferred: bool) {
        let bound = self.class == Priority::Refresh;
        let failure = self.failure_mut();
        failure.refused_at = Some(refusal.index);
        failure.refused_for = Some(refusal.reason);
        failure.refused_since_ms = refusal.since_unix_ms;
        if preferred && bound {
            failure.preferred_rejections = refusal.times;
            failure.preferred_retry_at = refusal.until;
            return;
        }
        failure.rejections = refusal.times;
        let what = match refusal.reason {
            Reason::UnknownAccount => "the registrar does not know the account",
            _ => "the registrar rejected the credentials",
        };
        let message = format!(
            "{what}, {} times in a row, the last time before this process started; it is not asked again before the wait is over, or the \
             trunk's user, password or registrar changes",
            refusal.times
        );
        failure.record_failure(
            Failure { reason: refusal.reason, code: None, message: message.into() },
            refusal.since_unix_ms,
        );
        self.due = self.due.max(refusal.until);
    }
}
