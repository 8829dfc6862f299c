//! State that only a registration in trouble has.

use super::{
    Binding, TargetRanks, UriIndex, UriRank, UriSet,
    outcome::{Failure, Reason},
    redirect::Redirect,
    refusal::RefusedUris,
    time::{Moment, Now},
};
use crate::model::RedirectTarget;
use routr_types::host::{HostPort, Transport};

/// State that only a registration in trouble has.
#[derive(Clone, Debug, Default)]
pub(super) struct FailureState {
    /// Failure of the last attempt; `None` while the preferred target is merely being waited for.
    pub cause: Option<Failure>,
    /// Since when it has been failing.
    pub since_unix_ms: u64,
    /// The URIs that failed in this round.
    pub tried: UriSet<UriRank>,
    /// Another EdgePort was tried in this round.
    pub edge_tried: bool,
    /// The one other target after a silence was tried in this round.
    pub silenced: bool,
    /// 423s in a row.
    pub too_brief: u8,
    /// Least expiry that the target is asked for after those, in seconds, and what the last of them said,
    /// where it did.
    pub ask_s: u32,
    pub min_expires_s: Option<u32>,
    /// Expiry that was asked for after a 423 that did not say how much it takes, in seconds: the next round
    /// begins there.
    pub guessed_s: u32,
    /// Option tags were dropped in this round.
    pub extension_dropped: bool,
    /// Not before this moment, a target of this round asked: the next round keeps to it.
    pub not_before: Moment,
    /// Refusals of credentials or account in a row.
    pub rejections: u8,
    /// Tries to remove the binding that is being removed.
    pub deregister_attempts: u8,
    /// A binding was left to expire.
    pub abandoned: bool,
    /// Times that the preferred target failed in a row.
    pub preferred_failures: u8,
    /// Times that the preferred target refused credentials or account in a row, when it was probed.
    pub preferred_rejections: u8,
    /// Not before this moment is the preferred target probed.
    pub preferred_retry_at: Moment,
    /// Until when targets asked to be left alone, by the rank of their URI. It outlives the round, and a
    /// success elsewhere: neither a probe nor another target's failure leads there before.
    pub asked: Vec<(UriRank, Moment)>,
    /// The redirection that is followed.
    pub redirect: Option<Redirect>,
    /// Target of the redirection that the binding was made by.
    pub bound_redirect: Option<RedirectTarget>,
    /// The other targets of redirections of this round, in the order to try them.
    pub redirects: Vec<Redirect>,
    /// Targets that redirections of this round came from, and led to.
    pub hops: Vec<(HostPort, Transport)>,
    /// Option tags that are left out only to see whether a 400 was about them, one bit for each.
    pub guessed_tags: u32,
    /// Indices of the URIs whose last attempt met with silence: when the first of those in a row was sent.
    pub silent: Vec<(UriIndex, Moment)>,
    /// It waits for the end of an outage of its target.
    pub outage_wait: bool,
    /// Calls to the Requester that failed in a row: at least 1 after one did, more only for those that were
    /// this trunk's own failure and found no valid binding.
    pub failed_calls: u8,
    /// The connections of so many of its calls in a row broke.
    pub disconnects: u8,
    /// Time at which the first request of this round was sent that failed, and the same of the round before.
    pub round_sent_at: Option<Moment>,
    pub last_round_sent_at: Option<Moment>,
    /// Index of the URI whose registrar refused credentials or account last, why, and since when.
    pub refused_at: Option<UriIndex>,
    pub refused_for: Option<Reason>,
    pub refused_since_ms: u64,
    /// URIs whose registrars refused credentials or account, and until when they are not asked again.
    pub refused_uris: RefusedUris,
    /// Bindings made before the current one, elsewhere: other URIs, other EdgePorts. Some may still be valid.
    pub earlier: Vec<Binding>,
}

impl FailureState {
    pub fn record_failure(&mut self, cause: Failure, unix_ms: u64) {
        if self.cause.is_none() {
            self.since_unix_ms = unix_ms;
        }
        self.cause = Some(cause);
    }

    /// A success at a target: see [`super::Registration::clear_failure`]. Returns whether nothing is left to
    /// remember.
    pub fn clear_after_success(&mut self, target: TargetRanks, now: Moment) -> bool {
        let (uri, preferred) = (target.uri, target.is_preferred());
        let redirect = self.redirect.take().filter(|redirect| !redirect.once && redirect.until > now);
        let refused = if preferred || self.preferred_rejections == 0 { None } else { self.refused_at };
        let mut earlier = std::mem::take(&mut self.earlier);
        earlier.retain(|binding| binding.expires_at > now);
        let mut asked = std::mem::take(&mut self.asked);
        asked.retain(|(rank, until)| *rank != uri && *until > now);
        let mut refused_uris = std::mem::take(&mut self.refused_uris);
        refused_uris.accepted(uri, now);
        *self = Self {
            refused_uris,
            redirect,
            asked,
            earlier,
            refused_at: refused,
            refused_for: self.refused_for,
            refused_since_ms: self.refused_since_ms,
            preferred_failures: if preferred { 0 } else { self.preferred_failures },
            preferred_rejections: if preferred { 0 } else { self.preferred_rejections },
            preferred_retry_at: self.preferred_retry_at,
            ..Self::default()
        };
        let nothing = self.asked.is_empty() && self.earlier.is_empty() && self.refused_uris.is_empty();
        preferred && self.redirect.is_none() && nothing
    }

    pub fn keep_only_reason(&mut self) {
        let earlier = std::mem::take(&mut self.earlier);
        let refused_uris = std::mem::take(&mut self.refused_uris);
        let silent = std::mem::take(&mut self.silent);
        *self = Self {
            cause: self.cause.take(),
            since_unix_ms: self.since_unix_ms,
            bound_redirect: self.bound_redirect.take(),
            earlier,
            refused_uris,
            silent,
            ..Self::default()
        };
    }

    /// Remembers what was refused, and since when.
    pub fn refused(&mut self, (index, reason): (UriIndex, Reason), now: Now) {
        if self.rejections == 0 && self.preferred_rejections == 0 {
            self.refused_since_ms = now.unix_ms;
        }
        (self.refused_at, self.refused_for) = (Some(index), Some(reason));
    }

    pub fn end_round(&mut self) {
        self.tried = UriSet::default();
        (self.edge_tried, self.silenced) = (false, false);
        self.last_round_sent_at = self.round_sent_at.take();
        self.not_before = Moment::default();
        self.forget_target();
    }

    /// The target of this rank wants to be left alone until then.
    pub fn set_retry_after(&mut self, rank: UriRank, until: Moment) {
        if rank == UriRank::FIRST {
            self.preferred_retry_at = self.preferred_retry_at.max(until);
        }
        match self.asked.iter_mut().find(|(other, _)| *other == rank) {
            Some((_, before)) => *before = until.max(*before),
            None => self.asked.push((rank, until)),
        }
    }

    /// Until when the target of this rank asked to be left alone.
    pub fn retry_after_until(&self, rank: UriRank) -> Moment {
        self.asked.iter().find(|(other, _)| *other == rank).map_or(Moment::default(), |(_, until)| *until)
    }

    /// Until when the target of this rank is not to be asked: it wants that, or it refused the credentials.
    pub fn shut_until(&self, rank: UriRank) -> Moment {
        let refused = rank == UriRank::FIRST && self.preferred_rejections > 0;
        let probe = if refused { self.preferred_retry_at } else { Moment::default() };
        self.retry_after_until(rank).max(probe).max(self.refused_uris.shut_until(rank))
    }

    /// Forgets what was learnt on the way to one target: it says nothing of the next one.
    pub fn forget_target(&mut self) {
        (self.too_brief, self.ask_s, self.min_expires_s) = (0, 0, None);
        self.extension_dropped = false;
        self.hops.clear();
        (self.redirect, self.redirects) = (None, Vec::new());
    }
}
