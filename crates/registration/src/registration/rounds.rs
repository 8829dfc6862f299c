//! Rounds: the moves from one target to the next after a failure, and the waits between rounds.

use rand::Rng;

use super::{
    Phase, Priority, Refusal, Registration, TargetRanks, Targets, UriIndex, UriRank, backoff,
    failover::{next_target_pair, other_edge},
    outcome::Reason,
    time::{Moment, Now},
};

/// Connections that may break in a row under a trunk's calls, with those of others, before that counts as its
/// own failure.
const BREAKS_AMONG_OTHERS: u8 = 3;

/// Failure of a target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TargetFailure {
    /// It may be the EdgePort rather than the registrar.
    pub edge_port_suspect: bool,
    /// It does not do its work, or cannot be reached.
    pub outage: bool,
    /// It asked to be left alone until then.
    pub not_before: Option<Moment>,
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
        let uri = self.target.uri;
        let failure = self.failure_mut();
        if let Some(until) = not_before {
            failure.set_retry_after(uri, until);
        }
        failure.tried.insert(uri);
        failure.forget_target();
        failure.not_before = failure.not_before.max(not_before.unwrap_or_default());
        let (tried, asked) = (failure.tried, failure.not_before.since(now.at));
        let open = |rank: &UriRank| !tried.contains(*rank) && failure.shut_until(*rank) <= now.at;
        let untried = UriRank::first(plan.uris).find(open);
        let turn_edge = edge_port_suspect && plan.edges > 1 && !failure.edge_tried;
        if turn_edge && (untried.is_some() || not_before.is_none()) {
            failure.edge_tried = true;
            // Over the rounds, each of the others.
            self.target.edge = other_edge(self.target.edge, 1 + self.failures % u16::from(plan.edges - 1));
        }
        if let Some(rank) = untried {
            self.target.uri = rank;
            self.next_at(now.at, now);
        } else if turn_edge && not_before.is_none() {
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
        self.wait(backoff::back_off(exponent, left, rng).max(asked), now);
    }

    /// No one answered: one other target after 5 to 10 s, then back off; never a quick round of all targets,
    /// for a silence may be a password that the EdgePort keeps offering.
    pub(super) fn silent(&mut self, counts: bool, plan: &Targets<'_>, now: Now, rng: &mut impl Rng) {
        self.leave_preferred(now, rng);
        self.forget_guessed_tags();
        let round = self.failures;
        let (target, uri) = (self.target, self.target.uri);
        let failure = self.failure_mut();
        failure.forget_target();
        // Not at once again, even when the other target says at once that it cannot help.
        failure.tried.insert(uri);
        failure.edge_tried = true;
        let (tried, asked) = (failure.tried, failure.not_before.since(now.at));
        if !std::mem::replace(&mut failure.silenced, true) {
            let shut = |rank: UriRank| failure.shut_until(rank) > now.at;
            let mut next = next_target_pair(target, (plan.uris, plan.edges), round);
            if shut(next.uri) {
                let untried = |rank: &UriRank| !shut(*rank) && !tried.contains(*rank);
                next.uri = UriRank::first(plan.uris).find(untried).unwrap_or(uri);
            }
            if next != target {
                self.target = next;
                let pause = backoff::after_silence(rng);
                let within = self
                    .remaining_ms(now.at)
                    .map_or(pause, |left| pause.min((left / 2).max(2 * backoff::SECOND_MS)));
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

    /// Credentials or account are refused at the URI of an index: every target would say the same. Never
    /// sooner than `asked_to_wait` ms.
    pub(super) fn rejected(
        &mut self,
        (index, reason): (UriIndex, Reason),
        asked_to_wait: u64,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let (rank, preferred) = (self.target.uri, self.target.uri == UriRank::FIRST);
        self.forget_guessed_tags();
        let failure = self.failure_mut();
        failure.refused((index, reason), now);
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
        let refusal = Refusal { index, reason, until: now.at.plus(wait), times, since_unix_ms };
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
            backoff::after_shared_failure(rng)
        } else {
            backoff::after_failed_call(failure.failed_calls, left, rng)
        };
        self.wait(wait, now);
    }

    /// A call that failed was not this trunk's own failure. Returns whether it waits less because of that.
    pub fn shared_failure(&mut self, now: Now, rng: &mut impl Rng) -> bool {
        let until = now.at.plus(backoff::after_shared_failure(rng));
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
        let shut = self.failure_mut().shut_until(UriRank::FIRST) > now;
        self.target = if shut { self.target } else { TargetRanks::PREFERRED };
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
        if self.target.is_preferred() {
            self.preferred_failed(now, rng);
        }
    }

    /// Remembers when the preferred target may be probed again.
    pub(super) fn preferred_failed(&mut self, now: Now, rng: &mut impl Rng) {
        let failure = self.failure_mut();
        let wait = backoff::back_off(u32::from(failure.preferred_failures), None, rng);
        failure.preferred_failures = failure.preferred_failures.saturating_add(1);
        failure.preferred_retry_at = now.at.plus(wait);
    }

    /// The preferred target wants to be left alone until then.
    pub(super) fn preferred_retry_after(&mut self, until: Moment) {
        self.failure_mut().set_retry_after(UriRank::FIRST, until);
    }

    /// The preferred target refused a probe: its password is not offered more often than after any other
    /// refusal.
    pub(super) fn preferred_rejected(
        &mut self,
        (index, reason): (UriIndex, Reason),
        retry_after_s: Option<u32>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let failure = self.failure_mut();
        failure.refused((index, reason), now);
        failure.preferred_rejections =
            failure.preferred_rejections.max(failure.refused_uris.times(UriRank::FIRST));
        let wait = one_more_refusal(&mut failure.preferred_rejections, rng);
        let asked = retry_after_s.map_or(0, backoff::retry_after);
        let until = now.at.plus(wait.max(asked));
        failure.preferred_retry_at = until;
        let (times, since_unix_ms) = (failure.preferred_rejections, failure.refused_since_ms);
        failure.refused_uris.note(UriRank::FIRST, Refusal { index, reason, until, times, since_unix_ms });
    }

    /// A probe was refused where the binding is, by another EdgePort: the refresh would offer the same to the
    /// same registrar. Returns how many milliseconds it waits. Only refusals since the last success count,
    /// for the EdgePort may be to blame.
    pub(super) fn account_refused(&mut self, retry_after_s: Option<u32>, rng: &mut impl Rng) -> u64 {
        let wait = one_more_refusal(&mut self.failure_mut().rejections, rng);
        wait.max(retry_after_s.map_or(0, backoff::retry_after))
    }
}

/// Counts a refusal of credentials or account. Returns how many milliseconds to wait after it: the longer,
/// the more there were.
fn one_more_refusal(count: &mut u8, rng: &mut impl Rng) -> u64 {
    let wait = backoff::after_rejection(u32::from(*count), rng);
    *count = count.saturating_add(1);
    wait
}
