//! Responses in: what each changes in a registration.

use rand::Rng;

use super::{
    Attempt, EdgePortRank, Effects, Phase, Priority, Purpose, Registration, SentTo, TargetRanks, Targets,
    UriRank, backoff,
    classify::{PriorBinding, RequestContext, RouteHealth, classify, may_last_longer},
    outcome::{Failure, Outcome},
    refresh,
    rounds::TargetFailure,
    time::{Moment, Now},
};
use crate::model::{RegisterResponse, SendError};

/// The longest expiry, in seconds, that is asked for at first when a 423 wants more: a registrar may reject
/// nothing that lasts an hour (RFC 3261 §10.3). One that says so again gets what it wants, but each binding
/// of that kind is counted on, and refreshed, as if it lasted an hour: a 423 that someone forged must not
/// keep a registration from being looked after for a day.
pub(super) const MAX_FIRST_EXPIRES_S: u32 = 3_600;
/// Most times in a row that a 423 is answered by asking for more.
const MAX_INTERVAL_RETRIES: u8 = 2;
/// The longest expiry, in seconds, that is remembered for a registrar which said «too brief» and not how long
/// would do. It may say so of less than an hour only (RFC 3261 §10.3). One that says so whatever is asked
/// must not have everybody ask for a day: what is bound for so long is not looked after for so long.
const MAX_GUESSED_EXPIRES_S: u32 = 3_600;
impl Registration {
    /// Takes the answer to an attempt, and where that went.
    ///
    /// An answer that belongs to no attempt in flight changes nothing.
    pub fn on_response(
        &mut self,
        attempt: &Attempt,
        sent: SentTo<'_>,
        answer: &Result<RegisterResponse, SendError>,
        plan: &Targets<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) -> (Outcome, Effects) {
        let held =
            self.binding.filter(|binding| binding.expires_at > sent.at && sent.same.contains(binding.index));
        let held = held.map(|binding| PriorBinding {
            left_then: binding.expires_at.since(sent.at),
            left_now: binding.expires_at.since(now.at),
            granted_s: binding.granted_s.get(),
        });
        let asked = RequestContext {
            expires: attempt.expires,
            tags: &plan.settings.tags,
            without_tags: attempt.without_tags,
            sent_at: sent.at,
            took_ms: now.at.since(sent.at),
            held,
            never_registered: self.binding.is_none_or(|held| !sent.same.contains(held.index)),
            silent_since: self.failure.as_ref().and_then(|failure| {
                let here = failure.silent.iter().find(|(index, _)| *index == sent.index);
                here.map(|(_, since)| *since)
            }),
            silent_elsewhere: self.binding.is_some()
                && self.failure.as_ref().is_some_and(|failure| {
                    failure.silent.iter().any(|(index, _)| !sent.same.contains(*index))
                }),
            refused_before: self.failure.as_ref().is_some_and(|failure| failure.rejections > 0),
            route: RouteHealth {
                has_credentials: sent.route.has_credentials && !attempt.without_credentials,
                ..sent.route
            },
            redirects: Some((sent.registrar, &plan.settings.redirects)),
            without_credentials: attempt.without_credentials,
            longest_s: if attempt.expires > plan.settings.expires_s {
                plan.settings.expires_s.max(MAX_FIRST_EXPIRES_S)
            } else {
                0
            },
        };
        let (outcome, cause) = classify(answer, asked);
        if self.flight != Some((attempt.purpose, attempt.cseq)) {
            return (outcome, Effects::default());
        }
        self.flight = None;
        let longer =
            attempt.purpose != Purpose::Deregister && may_last_longer(answer, &outcome, attempt.expires);
        if !outcome.is_requester_failure() {
            self.call_succeeded();
        }
        self.learn_cseq(answer);
        if attempt.purpose != Purpose::Deregister {
            self.shorten_unconfirmed(&outcome, sent, attempt.expires);
        }
        if attempt.purpose != Purpose::Deregister && asked.expires > 0 {
            self.record_nothing_granted(answer, &outcome, sent, now);
        }
        let mut effect = Effects { persist: true, ..Effects::default() };
        effect.failure = (!matches!(outcome, Outcome::Registered { .. })).then(|| cause.clone());
        effect.outage = outcome.is_outage().then(|| cause.message.clone());
        // What the registrar asks of everybody holds whatever the request was for.
        match outcome {
            Outcome::Registered { expires_s } => {
                let configured_s = plan.settings.expires_s;
                effect.min_expires = self.confirmed_min_expires(expires_s, attempt.expires, configured_s);
            }
            Outcome::Failed { retry_after_s: Some(seconds), whole_registrar: true, .. } => {
                let until = now.at.plus(backoff::retry_after(seconds));
                effect.hold_registrar_until = Some(until).filter(|until| *until > now.at);
            }
            _ => {}
        }
        if outcome == Outcome::Timeout && asked.silent_since.is_none() {
            self.failure_mut().silent.push((sent.index, sent.at));
        } else if let Some(failure) = self.failure.as_mut().filter(|_| outcome != Outcome::Timeout) {
            failure.silent.retain(|(index, _)| *index != sent.index);
        }
        let guessed = self.failure.as_ref().map_or(0, |failure| failure.guessed_tags);
        let bound_redirect = self.failure.as_ref().and_then(|failure| failure.bound_redirect.clone());
        if matches!(outcome, Outcome::Registered { .. }) {
            effect.dropped_tags = guessed;
        }
        match attempt.purpose {
            Purpose::Deregister => effect.finished = self.on_deregister_response(&outcome, sent, now, rng),
            _ if self.phase == Phase::Deregistering => {
                self.record_binding(&outcome, sent);
                self.record_longer(longer);
                effect.finished = self.deregister_after(&outcome, now, rng);
            }
            Purpose::Probe if !outcome.is_retry_hint() => {
                self.probe_answered(&outcome, cause, sent, plan, now, rng);
            }
            Purpose::Probe | Purpose::Register => {
                if attempt.purpose == Purpose::Probe {
                    // The preferred target is there again, and only wants to be asked in another way.
                    self.target = TargetRanks::PREFERRED;
                }
                self.register_answered(&outcome, cause, sent, plan, now, rng);
            }
        }
        if matches!(outcome, Outcome::Registered { .. }) && attempt.purpose != Purpose::Deregister {
            effect.redirection_changed =
                self.record_redirection(bound_redirect.as_ref(), attempt.redirect.as_ref());
        }
        self.record_longer(longer);
        if self.outdated && self.phase == Phase::Active {
            self.start_over(now.at);
        }
        if std::mem::take(&mut self.early) {
            self.refresh_early(now.at, rng);
        }
        (outcome, effect)
    }

    fn register_answered(
        &mut self,
        outcome: &Outcome,
        cause: Failure,
        sent: SentTo<'_>,
        plan: &Targets<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        self.record_binding(outcome, sent);
        if self.retries_at_once(outcome, sent, now) {
            self.class = Priority::Refresh;
            self.due = now.at;
            return;
        }
        if let Outcome::Registered { .. } = outcome {
            if sent.preferred_edge {
                // A probe would go where the binding is.
                self.target.edge = EdgePortRank::FIRST;
            }
            self.succeeded(plan, now, rng);
            return;
        }
        let reason = cause.reason;
        self.failure_mut().round_sent_at.get_or_insert(sent.at);
        self.failure_mut().record_failure(cause, now.unix_ms);
        match outcome {
            Outcome::Registered { .. } => {}
            Outcome::IntervalTooBrief { .. } | Outcome::BadExtension { .. } | Outcome::Redirected { .. } => {
                if !self.next_redirect_after(sent, 0, now) {
                    self.target_failed(TargetFailure::default(), plan, now, rng);
                }
            }
            Outcome::CredentialsRejected { .. } => self.rejected((sent.index, reason), 0, now, rng),
            Outcome::UnknownAccount { retry_after_s } => {
                let asked = retry_after_s.map_or(0, backoff::retry_after);
                self.rejected((sent.index, reason), asked, now, rng);
            }
            Outcome::Failed { edge_port_suspect, retry_after_s, outage, .. } => {
                let not_before = retry_after_s.map(|seconds| now.at.plus(backoff::retry_after(seconds)));
                if !self.next_redirect_after(sent, 0, now) {
                    let failed =
                        TargetFailure { edge_port_suspect: *edge_port_suspect, outage: *outage, not_before };
                    self.target_failed(failed, plan, now, rng);
                }
            }
            Outcome::Timeout | Outcome::Unknown => {
                if !self.next_redirect_after(sent, backoff::after_silence(rng), now) {
                    self.silent(*outcome == Outcome::Timeout, plan, now, rng);
                }
            }
            // Nothing was sent: it keeps its place, and the Requester's breaker decides when.
            Outcome::RequesterUnavailable => self.due = self.due.min(now.at),
            Outcome::CallFailed { .. } | Outcome::RequesterRefused => {
                let broken = *outcome == Outcome::CallFailed { broken: true };
                self.call_failed(broken, sent.route.among_others, sent.route.requester_down, now, rng);
            }
        }
    }

    /// Returns whether the reply only tells how to ask instead, so that the same target, or the one that it
    /// points to, is asked again at once. That is no failure yet.
    pub(super) fn retries_at_once(&mut self, outcome: &Outcome, sent: SentTo<'_>, now: Now) -> bool {
        match outcome {
            Outcome::IntervalTooBrief { ask, from_registrar } => {
                let failure = self.failure_mut();
                failure.too_brief += 1;
                let again = failure.min_expires_s.is_some();
                failure.ask_s =
                    if *from_registrar && !again { (*ask).min(MAX_FIRST_EXPIRES_S) } else { *ask };
                failure.min_expires_s = from_registrar.then_some(*ask);
                if !from_registrar {
                    failure.guessed_s = failure.guessed_s.max((*ask).min(MAX_GUESSED_EXPIRES_S));
                }
                failure.too_brief <= MAX_INTERVAL_RETRIES
            }
            Outcome::BadExtension { tags, guessed } => {
                let first = !std::mem::replace(&mut self.failure_mut().extension_dropped, true);
                if *guessed && first {
                    self.failure_mut().guessed_tags = *tags;
                }
                if !guessed || first {
                    self.without_tags |= tags;
                }
                *tags != 0 && first
            }
            Outcome::Redirected { targets } => self.follow(sent, targets, now),
            _ => false,
        }
    }

    /// 200: refresh in time; look after the preferred target where another one took over.
    fn succeeded(&mut self, plan: &Targets<'_>, now: Now, rng: &mut impl Rng) {
        (self.failures, self.backed_off) = (0, 0);
        self.class = Priority::Refresh;
        self.clear_failure(now.at);
        let Some(binding) = self.binding else { return };
        self.due = refresh(&binding, plan.settings, now.at, rng);
        if !self.target.is_preferred() {
            let failure = self.failure_mut();
            // A probe must be over, at its worst, before the binding has to be refreshed at the latest.
            let shut_until = failure.refused_uris.shut_until(UriRank::FIRST);
            let probe_at = failure.preferred_retry_at.max(shut_until).max(now.at.plus(backoff::SECOND_MS));
            let over = probe_at.plus(plan.settings.deadline_ms + refresh::PROBE_MARGIN_MS);
            let last_call = if over <= self.due { self.due } else { binding.expires_at };
            if over <= last_call && probe_at <= self.due {
                self.due = probe_at;
                self.probe_next = true;
            }
        }
    }

    /// Drops what a success makes pointless: the reason, the counts, and a redirection that does not last.
    fn clear_failure(&mut self, now: Moment) {
        let target = self.target;
        if self.failure.as_mut().is_some_and(|failure| failure.clear_after_success(target, now)) {
            self.failure = None;
        }
    }

    fn probe_answered(
        &mut self,
        outcome: &Outcome,
        cause: Failure,
        sent: SentTo<'_>,
        plan: &Targets<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        // The binding is at the same URI, by another EdgePort: what the registrar says concerns the refresh
        // as well.
        let same = self.target.uri == UriRank::FIRST;
        let mut not_before = Moment::default();
        self.record_binding(outcome, sent);
        match outcome {
            Outcome::Registered { .. } => {
                self.target = TargetRanks::PREFERRED;
                self.succeeded(plan, now, rng);
                return;
            }
            Outcome::RequesterUnavailable | Outcome::CallFailed { .. } | Outcome::RequesterRefused => {}
            Outcome::CredentialsRejected { .. } | Outcome::UnknownAccount { .. } => {
                let asked = match outcome {
                    Outcome::UnknownAccount { retry_after_s } => *retry_after_s,
                    _ => None,
                };
                self.preferred_rejected((sent.index, cause.reason), asked, now, rng);
                if same {
                    not_before = now.at.plus(self.account_refused(asked, rng));
                    self.failure_mut().record_failure(cause, now.unix_ms);
                }
            }
            Outcome::Failed { edge_port_suspect, retry_after_s, outage, .. } => {
                self.preferred_failed(now, rng);
                if let Some(seconds) = retry_after_s {
                    let until = now.at.plus(backoff::retry_after(*seconds));
                    self.preferred_retry_after(until);
                    let over = until.plus(plan.settings.deadline_ms + refresh::PROBE_MARGIN_MS);
                    if same && self.binding.is_none_or(|binding| over > binding.expires_at) {
                        // No time would be left for the refresh. Another target, or a wait, as if this had
                        // been it.
                        self.failure_mut().record_failure(cause, now.unix_ms);
                        let failed = TargetFailure {
                            edge_port_suspect: *edge_port_suspect,
                            outage: *outage,
                            not_before: Some(until),
                        };
                        return self.target_failed(failed, plan, now, rng);
                    }
                    not_before = until;
                }
            }
            _ => self.preferred_failed(now, rng),
        }
        self.class = Priority::Refresh;
        if let Some(binding) = self.binding {
            self.due = refresh(&binding, plan.settings, now.at, rng);
            if same {
                self.due = self.due.max(not_before);
            }
        }
    }
}
