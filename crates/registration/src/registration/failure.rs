//! What only a troubled registration has to remember, and the moves from one target to the next.

use rand::Rng;

use super::{
    Binding, Phase, Priority, Refusal, Registration, Targets, bit,
    failover::{next_target_pair, other},
    outcome::{Failure, Reason},
    redirect::Redirect,
    refusal::RefusedUris,
    schedule,
    time::{Moment, Now},
};
use crate::model::RedirectTarget;
use routr_types::host::{HostPort, Transport};

/// Connections that may break in a row under a trunk's calls, with those of others, before that counts as its
/// own failure.
const BREAKS_AMONG_OTHERS: u8 = 3;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct FailureState {
    /// Why the last attempt failed; `None` while the preferred target is merely being waited for.
    pub cause: Option<Failure>,
    /// Since when it has been failing.
    pub since_unix_ms: u64,
    /// Ranks of the URIs that failed in this round, one bit for each.
    pub tried: u64,
    /// Another EdgePort was tried in this round.
    pub edge_tried: bool,
    /// The one other target after a silence was tried in this round.
    pub silenced: bool,
    /// 423s in a row.
    pub too_brief: u8,
    /// What the target is asked for at least after those, in seconds, and what the last of them said, where
    /// it did.
    pub ask_s: u32,
    pub min_expires_s: Option<u32>,
    /// What was asked for after a 423 that did not say how much it takes, in seconds: the next round begins
    /// there.
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
    pub asked: Vec<(u8, Moment)>,
    /// The redirection that is followed.
    pub redirect: Option<Redirect>,
    /// Where the redirection led that the binding was made by.
    pub bound_redirect: Option<RedirectTarget>,
    /// The other targets of redirections of this round, in the order to try them.
    pub redirects: Vec<Redirect>,
    /// Where redirections of this round came from, and led to.
    pub hops: Vec<(HostPort, Transport)>,
    /// Option tags that are left out only to see whether a 400 was about them, one bit for each.
    pub guessed_tags: u32,
    /// Positions of the URIs whose last attempt met with silence: when the first of those in a row was sent.
    pub silent: Vec<(u8, Moment)>,
    /// What it waits for is an outage of its target.
    pub outage_wait: bool,
    /// Calls to the Requester that failed in a row: at least 1 after one did, more only for those that were
    /// this trunk's own failure and found no valid binding.
    pub failed_calls: u8,
    /// The connections of so many of its calls in a row broke.
    pub disconnects: u8,
    /// When the first request of this round was sent that failed, and the same of the round before.
    pub round_sent_at: Option<Moment>,
    pub last_round_sent_at: Option<Moment>,
    /// Position of the URI whose registrar refused credentials or account last, why, and since when.
    pub refused_at: Option<u8>,
    pub refused_for: Option<Reason>,
    pub refused_since_ms: u64,
    /// Which URIs' registrars refused credentials or account, and until when they are not asked again.
    pub refused_uris: RefusedUris,
    /// Bindings made before the current one, elsewhere: other URIs, other EdgePorts. Some may still be valid.
    pub earlier: Vec<Binding>,
}

/// How a target failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TargetFailure {
    /// It may be the EdgePort rather than the registrar.
    pub edge_port_suspect: bool,
    /// It does not do its work, or cannot be reached.
    pub outage: bool,
    /// It asked to be left alone until then.
    pub not_before: Option<Moment>,
}

impl FailureState {
    pub fn record_failure(&mut self, cause: Failure, unix_ms: u64) {
        if self.cause.is_none() {
            self.since_unix_ms = unix_ms;
        }
        self.cause = Some(cause);
    }

    /// A success by those ranks: see [`Registration::clear_failure`]. Returns whether nothing is left to
    /// remember.
    pub fn clear_after_success(&mut self, (uri, edge): (u8, u8), now: Moment) -> bool {
        let preferred = (uri, edge) == (0, 0);
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
    fn refused(&mut self, (position, reason): (u8, Reason), now: Now) {
        if self.rejections == 0 && self.preferred_rejections == 0 {
            self.refused_since_ms = now.unix_ms;
        }
        (self.refused_at, self.refused_for) = (Some(position), Some(reason));
    }

    fn end_round(&mut self) {
        self.tried = 0;
        (self.edge_tried, self.silenced) = (false, false);
        self.last_round_sent_at = self.round_sent_at.take();
        self.not_before = Moment::default();
        self.forget_target();
    }

    /// The target of this rank wants to be left alone until then.
    fn set_retry_after(&mut self, rank: u8, until: Moment) {
        if rank == 0 {
            self.preferred_retry_at = self.preferred_retry_at.max(until);
        }
        match self.asked.iter_mut().find(|(other, _)| *other == rank) {
            Some((_, before)) => *before = until.max(*before),
            None => self.asked.push((rank, until)),
        }
    }

    /// Until when the target of this rank asked to be left alone.
    pub fn retry_after_until(&self, rank: u8) -> Moment {
        self.asked.iter().find(|(other, _)| *other == rank).map_or(Moment::default(), |(_, until)| *until)
    }

    /// Until when the target of this rank is not to be asked: it wants that, or it refused the credentials.
    pub fn shut_until(&self, rank: u8) -> Moment {
        let refused = rank == 0 && self.preferred_rejections > 0;
        let probe = if refused { self.preferred_retry_at } else { Moment::default() };
        self.retry_after_until(rank).max(probe).max(self.refused_uris.shut_until(rank))
    }

    /// What was learnt on the way to one target says nothing of the next one.
    pub fn forget_target(&mut self) {
        (self.too_brief, self.ask_s, self.min_expires_s) = (0, 0, None);
        self.extension_dropped = false;
        self.hops.clear();
        (self.redirect, self.redirects) = (None, Vec::new());
    }
}

impl Registration {
    /// This target failed for sure: the next one at once while one is untried in this round, then back off.
    /// `not_before` is what the registrar asked for: it does not keep us from other targets.
    pub(super) fn target_failed(
        &mut self,
        failed: TargetFailure,
        plan: &Targets<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let TargetFailure { edge_port_suspect, outage, not_before } = failed;
        self.leave_preferred(now, rng);
        self.forget_guessed_tags();
        let uri = self.uri;
        let failure = self.failure_mut();
        if let Some(until) = not_before {
            failure.set_retry_after(uri, until);
        }
        failure.tried |= bit(uri);
        failure.forget_target();
        failure.not_before = failure.not_before.max(not_before.unwrap_or_default());
        let (tried, asked) = (failure.tried, failure.not_before.since(now.at));
        let open = |rank: &u8| tried & bit(*rank) == 0 && failure.shut_until(*rank) <= now.at;
        let untried = (0..plan.uris.min(64)).find(open);
        let other_edge = edge_port_suspect && plan.edges > 1 && !failure.edge_tried;
        if other_edge && (untried.is_some() || not_before.is_none()) {
            failure.edge_tried = true;
            // Over the rounds, each of the others.
            self.edge = other(self.edge, 1 + self.failures % u16::from(plan.edges - 1));
        }
        if let Some(rank) = untried {
            self.uri = rank;
            self.next_at(now.at, now);
        } else if other_edge && not_before.is_none() {
            self.next_at(now.at, now);
        } else {
            self.round_failed(now.at);
            self.back_off(asked, true, now, rng);
            self.failure_mut().outage_wait = outage && asked == 0;
        }
    }

    /// The tags were not what a 400 was about.
    fn forget_guessed_tags(&mut self) {
        let guessed = std::mem::take(&mut self.failure_mut().guessed_tags);
        self.without_tags &= !guessed;
    }

    /// Waits before the next round, at least `asked` ms. A wait that is cut short because a binding is still
    /// valid does not make the next one longer: an outage of minutes before an expiry must not become one of
    /// half an hour after it.
    fn back_off(&mut self, asked: u64, counts: bool, now: Now, rng: &mut impl Rng) {
        let left = self.remaining_ms(now.at);
        if counts && left.is_none() {
            self.backed_off = self.backed_off.saturating_add(1);
        }
        let exponent = if counts { u32::from(self.backed_off).max(1) } else { u32::from(self.backed_off) };
        self.wait(schedule::back_off(exponent, left, rng).max(asked), now);
    }

    /// No one answered: one other target after 5 to 10 s, then back off; never a quick round of all targets,
    /// for a silence may be a password that the EdgePort keeps offering.
    pub(super) fn silent(&mut self, counts: bool, plan: &Targets<'_>, now: Now, rng: &mut impl Rng) {
        self.leave_preferred(now, rng);
        self.forget_guessed_tags();
        let round = self.failures;
        let (uri, edge) = (self.uri, self.edge);
        let failure = self.failure_mut();
        failure.forget_target();
        // Not at once again, even when the other target says at once that it cannot help.
        failure.tried |= bit(uri);
        failure.edge_tried = true;
        let (tried, asked) = (failure.tried, failure.not_before.since(now.at));
        if !std::mem::replace(&mut failure.silenced, true) {
            let shut = |rank: u8| failure.shut_until(rank) > now.at;
            let (mut next, other_edge) = next_target_pair((uri, edge), (plan.uris, plan.edges), round);
            if shut(next) {
                let untried = |rank: &u8| !shut(*rank) && tried & bit(*rank) == 0;
                next = (0..plan.uris.min(64)).find(untried).unwrap_or(uri);
            }
            if (next, other_edge) != (uri, edge) {
                (self.uri, self.edge) = (next, other_edge);
                let pause = schedule::after_silence(rng);
                let within = self
                    .remaining_ms(now.at)
                    .map_or(pause, |left| pause.min((left / 2).max(2 * schedule::SECOND_MS)));
                self.next_at(now.at.plus(within), now);
                return;
            }
        }
        let failures = self.failures;
        self.round_failed(now.at);
        if !counts {
            self.failures = failures;
        }
        self.back_off(asked, counts, now, rng);
        self.failure_mut().outage_wait = counts && asked == 0;
    }

    /// Credentials or account are refused at the URI of a position: every target would say the same. Never
    /// sooner than `asked_to_wait` ms.
    pub(super) fn rejected(
        &mut self,
        (position, reason): (u8, Reason),
        asked_to_wait: u64,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let (rank, preferred) = (self.uri, self.uri == 0);
        self.forget_guessed_tags();
        let failure = self.failure_mut();
        failure.refused((position, reason), now);
        failure.rejections = failure.rejections.max(failure.refused_uris.times(rank));
        // A probe that was refused before counts, and this one for the next.
        if preferred {
            failure.rejections = failure.rejections.max(failure.preferred_rejections);
        }
        let wait = one_more_refusal(&mut failure.rejections, rng);
        if preferred {
            failure.preferred_rejections = failure.rejections;
        }
        let (times, since_unix_ms) = (failure.rejections, failure.refused_since_ms);
        self.round_failed(now.at);
        let wait = wait.max(asked_to_wait);
        let refusal = Refusal { position, reason, until: now.at.plus(wait), times, since_unix_ms };
        self.remember_refusal(rank, refusal);
        self.wait(wait, now);
    }

    /// The call to the Requester failed, which says nothing of the registrar. `shared` where the calls of
    /// others fail as well. Where only its connection broke, the trunk keeps its place: the first time, and
    /// some times more where calls of others were under way by it (`among_others`), as where a Requester ends
    /// its connection after each response.
    pub(super) fn call_failed(
        &mut self,
        broken: bool,
        among_others: bool,
        shared: bool,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let left = self.remaining_ms(now.at);
        let due = self.due;
        let failure = self.failure_mut();
        failure.disconnects = if broken { failure.disconnects.saturating_add(1) } else { 0 };
        let forgiven = if among_others { BREAKS_AMONG_OTHERS } else { 1 };
        if broken && failure.failed_calls == 0 && failure.disconnects <= forgiven {
            self.due = due.min(now.at);
            return;
        }
        if failure.failed_calls == 0 || (!shared && left.is_none()) {
            failure.failed_calls = failure.failed_calls.saturating_add(1);
        }
        let wait = if shared {
            schedule::after_shared_failure(rng)
        } else {
            schedule::after_failed_call(failure.failed_calls, left, rng)
        };
        self.wait(wait, now);
    }

    /// A call that failed was not this trunk's own failure. Returns whether it waits less because of that.
    pub fn shared_failure(&mut self, now: Now, rng: &mut impl Rng) -> bool {
        let until = now.at.plus(schedule::after_shared_failure(rng));
        let shorter = self.failed_calls() > 0 && self.flight.is_none() && until < self.due;
        if shorter {
            self.due = until;
        }
        shorter
    }

    /// The call to the Requester brought a response, or timed out: no row of failed calls goes on.
    pub(super) fn call_succeeded(&mut self) {
        if let Some(failure) = self.failure.as_mut() {
            (failure.failed_calls, failure.disconnects) = (0, 0);
        }
    }

    /// Ends the round: the next one starts at the preferred target, unless that is not to be asked yet.
    pub(super) fn round_failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        let shut = self.failure_mut().shut_until(0) > now;
        (self.uri, self.edge) = if shut { (self.uri, self.edge) } else { (0, 0) };
        self.failure_mut().end_round();
    }

    /// Begins another round now: a target that failed in this one is back. Not while a target of this round
    /// wants to be left alone.
    pub fn begin_again(&mut self, now: Moment) {
        let asked = self.failure.as_ref().is_some_and(|failure| failure.not_before > now);
        if asked || self.probe_next || self.flight.is_some() || self.phase != Phase::Active {
            return;
        }
        let failures = self.failures;
        self.round_failed(now);
        self.failures = failures;
        self.due = self.due.min(now);
    }

    fn next_at(&mut self, moment: Moment, now: Now) {
        self.class = if self.remaining_ms(now.at).is_some() { Priority::Refresh } else { Priority::Retry };
        self.due = moment;
    }

    fn leave_preferred(&mut self, now: Now, rng: &mut impl Rng) {
        if (self.uri, self.edge) == (0, 0) {
            self.preferred_failed(now, rng);
        }
    }

    /// Remembers when the preferred target may be probed again.
    pub(super) fn preferred_failed(&mut self, now: Now, rng: &mut impl Rng) {
        let failure = self.failure_mut();
        let wait = schedule::back_off(u32::from(failure.preferred_failures), None, rng);
        failure.preferred_failures = failure.preferred_failures.saturating_add(1);
        failure.preferred_retry_at = now.at.plus(wait);
    }

    /// The preferred target wants to be left alone until then.
    pub(super) fn preferred_retry_after(&mut self, until: Moment) {
        self.failure_mut().set_retry_after(0, until);
    }

    /// The preferred target refused a probe: its password is not offered more often than after any other
    /// refusal.
    pub(super) fn preferred_rejected(
        &mut self,
        (position, reason): (u8, Reason),
        retry_after_s: Option<u32>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let failure = self.failure_mut();
        failure.refused((position, reason), now);
        failure.preferred_rejections = failure.preferred_rejections.max(failure.refused_uris.times(0));
        let wait = one_more_refusal(&mut failure.preferred_rejections, rng);
        let asked = retry_after_s.map_or(0, schedule::retry_after);
        let until = now.at.plus(wait.max(asked));
        failure.preferred_retry_at = until;
        let (times, since_unix_ms) = (failure.preferred_rejections, failure.refused_since_ms);
        failure.refused_uris.note(0, Refusal { position, reason, until, times, since_unix_ms });
    }

    /// A probe was refused where the binding is, by another EdgePort: the refresh would offer the same to the
    /// same registrar. Returns how many milliseconds it waits. Only refusals since the last success count,
    /// for the EdgePort may be to blame.
    pub(super) fn account_refused(&mut self, retry_after_s: Option<u32>, rng: &mut impl Rng) -> u64 {
        let wait = one_more_refusal(&mut self.failure_mut().rejections, rng);
        wait.max(retry_after_s.map_or(0, schedule::retry_after))
    }
}

/// Counts a refusal of credentials or account. Returns how many milliseconds to wait after it: the longer,
/// the more there were.
fn one_more_refusal(count: &mut u8, rng: &mut impl Rng) -> u64 {
    let wait = schedule::after_rejection(u32::from(*count), rng);
    *count = count.saturating_add(1);
    wait
}
