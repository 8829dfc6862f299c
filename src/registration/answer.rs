//! What a registration makes of an answer.

use std::num::NonZeroU32;

use rand::Rng;

use super::{
    Attempt, Binding, Class, Effect, Phase, Plan, Positions, Purpose, Registration, Sent,
    classify::{Around, Asked, Held, judge, may_last_longer},
    identity::CSEQ_RESERVE,
    refresh,
    reply::{Cause, Verdict},
    schedule,
    time::{Moment, Now},
    trouble::TargetFailure,
};
use crate::ports::{Reply, SendError};

/// The longest expiry, in seconds, that is asked for at first when a 423 wants more: a registrar may reject nothing that lasts an hour
/// (RFC 3261 §10.3). One that says so again gets what it wants, but each binding of that kind is counted on, and refreshed,
/// as if it lasted an hour: a 423 that somebody forged must not keep a registration from being looked after for a day.
const LONGEST_AT_FIRST: u32 = 3_600;
/// Most times in a row that a 423 is answered by asking for more.
const MAX_TOO_BRIEF: u8 = 2;
/// The longest expiry, in seconds, that is remembered for a registrar which said «too brief» and not how long would do. It may say
/// so of less than an hour only (RFC 3261 §10.3). One that says so whatever is asked must not have everybody ask for a day:
/// what is bound for so long is not looked after for so long.
const LONGEST_GUESS: u32 = 3_600;
/// A CSeq in an answer that is further ahead than this is not believed.
const MAX_CSEQ_LEAP: u32 = 1_000;

impl Registration {
    /// Takes the answer to an attempt, and where that went.
    ///
    /// An answer that belongs to no attempt in flight changes nothing.
    pub fn answered(
        &mut self,
        attempt: &Attempt,
        sent: Sent<'_>,
        answer: &Result<Reply, SendError>,
        plan: &Plan<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) -> (Verdict, Effect) {
        let held = self
            .binding
            .filter(|binding| binding.expires_at > sent.at && sent.same.contains(binding.position));
        let held = held.map(|binding| Held {
            left_then: binding.expires_at.since(sent.at),
            left_now: binding.expires_at.since(now.at),
            granted_s: binding.granted_s.get(),
        });
        let asked = Asked {
            expires: attempt.expires,
            tags: &plan.settings.tags,
            without_tags: attempt.without_tags,
            sent_at: sent.at,
            took_ms: now.at.since(sent.at),
            held,
            never_registered: self.binding.is_none_or(|held| !sent.same.contains(held.position)),
            silent_since: self.trouble.as_ref().and_then(|trouble| {
                let here = trouble.silent.iter().find(|(position, _)| *position == sent.position);
                here.map(|(_, since)| *since)
            }),
            silent_elsewhere: self.binding.is_some()
                && self.trouble.as_ref().is_some_and(|trouble| {
                    trouble.silent.iter().any(|(position, _)| !sent.same.contains(*position))
                }),
            refused_before: self.trouble.as_ref().is_some_and(|trouble| trouble.rejections > 0),
            around: Around {
                has_credentials: sent.around.has_credentials && !attempt.without_credentials,
                ..sent.around
            },
            redirects: Some((sent.registrar, &plan.settings.redirects)),
            without_credentials: attempt.without_credentials,
            longest_s: if attempt.expires > plan.settings.expires_s {
                plan.settings.expires_s.max(LONGEST_AT_FIRST)
            } else {
                0
            },
        };
        let (verdict, cause) = judge(answer, asked);
        if self.flight != Some((attempt.purpose, attempt.cseq)) {
            return (verdict, Effect::default());
        }
        self.flight = None;
        let longer = attempt.purpose != Purpose::Leave && may_last_longer(answer, &verdict, attempt.expires);
        if !verdict.is_requesters() {
            self.call_succeeded();
        }
        self.learn_cseq(answer);
        if attempt.purpose != Purpose::Leave {
            self.doubt_binding(&verdict, sent, attempt.expires);
        }
        if attempt.purpose != Purpose::Leave && asked.expires > 0 {
            self.note_nothing_granted(answer, &verdict, sent, now);
        }
        let mut effect = Effect { persist: true, ..Effect::default() };
        effect.outage = verdict.is_outage().then(|| cause.message.clone());
        // What the registrar asks of everybody holds whatever the request was for.
        match verdict {
            Verdict::Registered { expires_s } => {
                let configured_s = plan.settings.expires_s;
                effect.min_expires = self.confirmed_min_expires(expires_s, attempt.expires, configured_s);
            }
            Verdict::Failed { retry_after_s: Some(seconds), whole_registrar: true, .. } => {
                let until = now.at.plus(schedule::retry_after(seconds));
                effect.hold_registrar_until = Some(until).filter(|until| *until > now.at);
            }
            _ => {}
        }
        if verdict == Verdict::Silent && asked.silent_since.is_none() {
            self.trouble_mut().silent.push((sent.position, sent.at));
        } else if let Some(trouble) = self.trouble.as_mut().filter(|_| verdict != Verdict::Silent) {
            trouble.silent.retain(|(position, _)| *position != sent.position);
        }
        let guessed = self.trouble.as_ref().map_or(0, |trouble| trouble.guessed_tags);
        let bound_redirect = self.trouble.as_ref().and_then(|trouble| trouble.bound_redirect.clone());
        if matches!(verdict, Verdict::Registered { .. }) {
            effect.dropped_tags = guessed;
        }
        match attempt.purpose {
            Purpose::Leave => effect.finished = self.left_answered(&verdict, sent, now, rng),
            _ if self.phase == Phase::Leaving => {
                self.note_binding(&verdict, sent);
                self.note_longer(longer);
                effect.finished = self.leave_after(&verdict, now, rng);
            }
            Purpose::Probe if !verdict.tells_how() => {
                self.probe_answered(&verdict, cause, sent, plan, now, rng);
            }
            Purpose::Probe | Purpose::Register => {
                if attempt.purpose == Purpose::Probe {
                    // The preferred target is there again, and only wants to be asked in another way.
                    (self.uri, self.edge) = (0, 0);
                }
                self.register_answered(&verdict, cause, sent, plan, now, rng);
            }
        }
        if matches!(verdict, Verdict::Registered { .. }) && attempt.purpose != Purpose::Leave {
            effect.redirection_changed =
                self.note_redirection(bound_redirect.as_ref(), attempt.redirect.as_ref());
        }
        self.note_longer(longer);
        if self.outdated && self.phase == Phase::Active {
            self.start_over(now.at);
        }
        if std::mem::take(&mut self.early) {
            self.refresh_early(now.at, rng);
        }
        (verdict, effect)
    }

    /// What a 423 has asked for before this success, which grants that much: it was no forgery, for a registrar that rejects less does not
    /// grant less.
    fn confirmed_min_expires(&self, granted_s: u32, asked_s: u32, configured_s: u32) -> Option<u32> {
        let trouble = self.trouble.as_ref()?;
        let wanted_s = trouble.told_s.unwrap_or_else(|| trouble.ask_s.max(trouble.guessed_s));
        // Others begin with no more than an hour, too.
        let shared_s = wanted_s.min(LONGEST_AT_FIRST);
        (shared_s > configured_s && asked_s >= wanted_s && granted_s >= shared_s).then_some(shared_s)
    }

    /// A Requester that answers a challenge uses further CSeq numbers; where no answer tells how many, some are reserved.
    fn learn_cseq(&mut self, answer: &Result<Reply, SendError>) {
        let told = answer.as_ref().ok().filter(|reply| reply.code != Some(408)).and_then(|reply| reply.cseq);
        self.cseq = match told {
            Some(cseq) if cseq <= self.cseq.saturating_add(MAX_CSEQ_LEAP) => self.cseq.max(cseq),
            _ => self.cseq.saturating_add(CSEQ_RESERVE),
        };
    }

    /// A request that nobody answered, to where the binding is, may have put another one in its place: that lasts no longer than
    /// what was asked for.
    fn doubt_binding(&mut self, verdict: &Verdict, sent: Sent<'_>, asked_s: u32) {
        let unknown = verdict.leaves_open();
        let Some(binding) = self.binding.as_mut().filter(|held| unknown && held.position == sent.position)
        else {
            return;
        };
        let expires_at = sent.at.plus(u64::from(asked_s) * schedule::SECOND);
        if let Some(granted_s) = NonZeroU32::new(asked_s).filter(|_| expires_at < binding.expires_at) {
            *binding = Binding { expires_at, granted_s, ..*binding };
        }
    }

    /// A success that grants no time, to where the binding is, says that there is none any more.
    fn note_nothing_granted(
        &mut self,
        answer: &Result<Reply, SendError>,
        verdict: &Verdict,
        sent: Sent<'_>,
        now: Now,
    ) {
        let success = answer.as_ref().is_ok_and(|reply| matches!(reply.code, Some(200..=299)));
        if success && matches!(verdict, Verdict::Failed { .. }) {
            self.binding = self.binding.map(|held| {
                let here = held.position == sent.position && held.expires_at > now.at;
                if here { Binding { expires_at: now.at, longer: false, ..held } } else { held }
            });
        }
    }

    /// What is believed to have expired is removed with the trunk all the same.
    fn note_longer(&mut self, longer: bool) {
        if let Some(binding) = self.binding.as_mut().filter(|_| longer) {
            binding.longer = true;
        }
    }

    fn note_binding(&mut self, verdict: &Verdict, sent: Sent<'_>) {
        match *verdict {
            Verdict::Registered { expires_s } => {
                let expires_at = sent.at.plus(u64::from(expires_s) * schedule::SECOND);
                let granted_s = NonZeroU32::new(expires_s).unwrap_or(NonZeroU32::MIN);
                let (position, edge) = (sent.position, sent.edge);
                let binding = Binding { expires_at, granted_s, position, edge, longer: false };
                self.note_earlier(binding, sent);
                self.binding = Some(binding);
                self.maybe_bound = Positions::default();
            }
            // Unavailable too: the connection may have broken after the request was sent.
            ref open if open.leaves_open() => {
                // One way for each address of record: that of its binding, else the last one.
                let bound = self.bound_at(sent.at).filter(|position| sent.same.contains(*position));
                self.maybe_bound.remove_all(sent.same);
                self.maybe_bound.insert(bound.unwrap_or(sent.position));
            }
            Verdict::UnknownAccount { .. } => self.maybe_bound.remove_all(sent.same),
            _ => {}
        }
    }

    fn register_answered(
        &mut self,
        verdict: &Verdict,
        cause: Cause,
        sent: Sent<'_>,
        plan: &Plan<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        self.note_binding(verdict, sent);
        if self.goes_on(verdict, sent, now) {
            self.class = Class::Refresh;
            self.due = now.at;
            return;
        }
        if let Verdict::Registered { .. } = verdict {
            if sent.preferred_edge {
                // A probe would go where the binding is.
                self.edge = 0;
            }
            self.succeeded(plan, now, rng);
            return;
        }
        let reason = cause.reason;
        self.trouble_mut().round_sent_at.get_or_insert(sent.at);
        self.trouble_mut().blame(cause, now.unix_ms);
        match verdict {
            Verdict::Registered { .. } => {}
            Verdict::TooBrief { .. } | Verdict::BadExtension { .. } | Verdict::Redirected { .. } => {
                if !self.next_redirect_after(sent, 0, now) {
                    self.target_failed(TargetFailure::default(), plan, now, rng);
                }
            }
            Verdict::Rejected { .. } => self.rejected((sent.position, reason), 0, now, rng),
            Verdict::UnknownAccount { retry_after_s } => {
                let asked = retry_after_s.map_or(0, schedule::retry_after);
                self.rejected((sent.position, reason), asked, now, rng);
            }
            Verdict::Failed { way, retry_after_s, outage, .. } => {
                let not_before = retry_after_s.map(|seconds| now.at.plus(schedule::retry_after(seconds)));
                if !self.next_redirect_after(sent, 0, now) {
                    let failed = TargetFailure { way: *way, outage: *outage, not_before };
                    self.target_failed(failed, plan, now, rng);
                }
            }
            Verdict::Silent | Verdict::Unknown => {
                if !self.next_redirect_after(sent, schedule::after_silence(rng), now) {
                    self.silent(*verdict == Verdict::Silent, plan, now, rng);
                }
            }
            // Nothing was sent: it keeps its place, and the Requester's breaker decides when.
            Verdict::Unavailable => self.due = self.due.min(now.at),
            Verdict::CallFailed { .. } | Verdict::WayRefused => {
                let broken = *verdict == Verdict::CallFailed { broken: true };
                self.call_failed(broken, sent.around.among_others, sent.around.requester_down, now, rng);
            }
        }
    }

    /// Whether the reply only tells how to ask instead, so that the same target, or the one that it points to, is asked
    /// again at once. That is no failure yet.
    pub(super) fn goes_on(&mut self, verdict: &Verdict, sent: Sent<'_>, now: Now) -> bool {
        match verdict {
            Verdict::TooBrief { ask, told } => {
                let trouble = self.trouble_mut();
                trouble.too_brief += 1;
                let again = trouble.told_s.is_some();
                trouble.ask_s = if *told && !again { (*ask).min(LONGEST_AT_FIRST) } else { *ask };
                trouble.told_s = told.then_some(*ask);
                if !told {
                    trouble.guessed_s = trouble.guessed_s.max((*ask).min(LONGEST_GUESS));
                }
                trouble.too_brief <= MAX_TOO_BRIEF
            }
            Verdict::BadExtension { tags, guessed } => {
                let first = !std::mem::replace(&mut self.trouble_mut().extension_dropped, true);
                if *guessed && first {
                    self.trouble_mut().guessed_tags = *tags;
                }
                if !guessed || first {
                    self.without_tags |= tags;
                }
                *tags != 0 && first
            }
            Verdict::Redirected { targets } => self.follow(sent, targets, now),
            _ => false,
        }
    }

    /// 200: refresh in time; look after the preferred target where another one took over.
    fn succeeded(&mut self, plan: &Plan<'_>, now: Now, rng: &mut impl Rng) {
        (self.failures, self.backed_off) = (0, 0);
        self.class = Class::Refresh;
        self.settle(now.at);
        let Some(binding) = self.binding else { return };
        self.due = refresh(&binding, plan.settings, now.at, rng);
        if (self.uri, self.edge) != (0, 0) {
            let trouble = self.trouble_mut();
            // A probe must be over, at its worst, before the binding has to be refreshed at the latest.
            let shut_until = trouble.refused_uris.shut_until(0);
            let probe_at = trouble.preferred_retry_at.max(shut_until).max(now.at.plus(schedule::SECOND));
            let over = probe_at.plus(plan.settings.deadline_ms + schedule::PROBE_MARGIN);
            let last_call = if over <= self.due { self.due } else { binding.expires_at };
            if over <= last_call && probe_at <= self.due {
                self.due = probe_at;
                self.probe_next = true;
            }
        }
    }

    /// Drops what a success makes pointless: the reason, the counts, and a redirection that does not last.
    fn settle(&mut self, now: Moment) {
        let ranks = (self.uri, self.edge);
        if self.trouble.as_mut().is_some_and(|trouble| trouble.settle(ranks, now)) {
            self.trouble = None;
        }
    }

    fn probe_answered(
        &mut self,
        verdict: &Verdict,
        cause: Cause,
        sent: Sent<'_>,
        plan: &Plan<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        // The binding is at the same URI, by another EdgePort: what the registrar says concerns the refresh as well.
        let same = self.uri == 0;
        let mut not_before = Moment::default();
        self.note_binding(verdict, sent);
        match verdict {
            Verdict::Registered { .. } => {
                (self.uri, self.edge) = (0, 0);
                self.succeeded(plan, now, rng);
                return;
            }
            Verdict::Unavailable | Verdict::CallFailed { .. } | Verdict::WayRefused => {}
            Verdict::Rejected { .. } | Verdict::UnknownAccount { .. } => {
                let asked = match verdict {
                    Verdict::UnknownAccount { retry_after_s } => *retry_after_s,
                    _ => None,
                };
                self.preferred_rejected((sent.position, cause.reason), asked, now, rng);
                if same {
                    not_before = now.at.plus(self.account_refused(asked, rng));
                    self.trouble_mut().blame(cause, now.unix_ms);
                }
            }
            Verdict::Failed { way, retry_after_s, outage, .. } => {
                self.preferred_failed(now, rng);
                if let Some(seconds) = retry_after_s {
                    let until = now.at.plus(schedule::retry_after(*seconds));
                    self.preferred_asks(until);
                    let over = until.plus(plan.settings.deadline_ms + schedule::PROBE_MARGIN);
                    if same && self.binding.is_none_or(|binding| over > binding.expires_at) {
                        // No time would be left for the refresh. Another target, or a wait, as if this had been it.
                        self.trouble_mut().blame(cause, now.unix_ms);
                        let failed = TargetFailure { way: *way, outage: *outage, not_before: Some(until) };
                        return self.target_failed(failed, plan, now, rng);
                    }
                    not_before = until;
                }
            }
            _ => self.preferred_failed(now, rng),
        }
        self.class = Class::Refresh;
        if let Some(binding) = self.binding {
            self.due = refresh(&binding, plan.settings, now.at, rng);
            if same {
                self.due = self.due.max(not_before);
            }
        }
    }
}
