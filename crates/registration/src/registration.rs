//! The state machine of one trunk's registration. PURE: no IO, no clock, no randomness of its own; time and a
//! random number generator are arguments, and no Kubernetes, gRPC or Redis type appears.
//!
//! The loop that drives it:
//!
//! ```text
//!            due() <= now                    answered(...)
//!   waiting ---------------> attempt() ... in flight -------> waiting, with a new due() and a new class()
//!      ^                                                         |
//!      +---------------------------------------------------------+      leave() -> ... -> Effect::finished
//! ```
//!
//! A registration knows its targets only by rank (0 is preferred; [`target`] makes the order), so it stays
//! small: a healthy one is a few dozen bytes, and all that only a troubled one needs is in a box of its own.

mod attempt;
pub mod classify;
mod deregistration;
mod earlier;
mod explain;
mod failover;
mod failure;
pub mod identity;
mod on_response;
pub mod outcome;
mod redirect;
pub mod redirect_policy;
mod refusal;
pub mod request;
pub mod schedule;
pub mod state;
pub mod target;
pub mod time;
mod uri_set;

use rand::Rng;

pub use self::{
    attempt::{
        Attempt, Binding, EdgePortId, Effects, Priority, Purpose, Refusal, SentTo, Settings, Targets,
        UriChoice,
    },
    failover::Failover,
    redirect::Redirected,
    uri_set::UriSet,
};
use self::{
    classify::MAX_EXPIRES_S,
    failure::FailureState,
    identity::{CSEQ_RESERVE, next_cseq},
    outcome::{Failure, Reason},
    time::{Moment, Now},
};
use crate::{model::RedirectTarget, registration::state::TrunkState};

/// Where a registrar has only said how to ask, or where, what asks again counts as a refresh of what expires
/// so soon, in milliseconds.
const FOLLOW_UP_MS: u64 = 30_000;
/// Most redirections in a row (RFC 3261 §8.1.3.4 leaves the bound to the client).
const MAX_REDIRECTS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Active,
    Deregistering,
    Finished,
}

/// One trunk's registration. See the module.
#[derive(Clone, Debug)]
pub struct Registration {
    due: Moment,
    binding: Option<Binding>,
    failure: Option<Box<FailureState>>,
    cseq: u32,
    without_tags: u32,
    failures: u16,
    /// Rounds in a row after which the full back-off was waited for: its exponent.
    backed_off: u16,
    phase: Phase,
    class: Priority,
    /// What is in flight, and its CSeq number.
    flight: Option<(Purpose, u32)>,
    probe_next: bool,
    /// The trunk changed while a request was in flight: send again when that is answered.
    outdated: bool,
    /// The Requester's Contact may have changed while a request was in flight: refresh early when that is
    /// answered.
    early: bool,
    /// Nothing was sent since a restart: one REGISTER may have gone out that no one kept the number of.
    resumed: bool,
    /// Since the last success, requests to the URIs of these positions may have created bindings that no one
    /// confirmed.
    unconfirmed: UriSet,
    uri: u8,
    edge: u8,
}

impl Registration {
    /// Of a trunk that nothing is known of: due at once.
    pub fn new(now: Moment) -> Self {
        Self {
            due: now,
            binding: None,
            failure: None,
            cseq: 0,
            without_tags: 0,
            failures: 0,
            backed_off: 0,
            phase: Phase::Active,
            class: Priority::First,
            flight: None,
            probe_next: false,
            outdated: false,
            early: false,
            resumed: false,
            unconfirmed: UriSet::default(),
            uri: 0,
            edge: 0,
        }
    }

    /// Of a trunk that was registered before a restart: not sent again before its time while the binding is
    /// valid, at once where it expired. `uri` is the rank of the binding's URI.
    pub fn resume(
        cseq: u32,
        binding: Option<(Binding, u8)>,
        settings: &Settings,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Self {
        let mut registration = Self { cseq, resumed: true, class: Priority::Retry, ..Self::new(now) };
        if let Some((binding, uri)) = binding {
            registration.binding = Some(binding);
            if binding.expires_at > now {
                registration.uri = uri;
                registration.class = Priority::Refresh;
                registration.due = refresh(&binding, settings, now, rng);
            } else {
                // Most overdue first.
                registration.due = binding.expires_at;
            }
        }
        registration
    }

    /// Nothing can be sent for this trunk, because of `cause`.
    pub fn set_unregistrable(&mut self, cause: Failure, unix_ms: u64) {
        self.due = Moment::NEVER;
        self.failure_mut().record_failure(cause, unix_ms);
    }

    /// Returns when the next REGISTER is due; [`Moment::NEVER`] while one is in flight.
    pub fn due(&self) -> Moment {
        if self.flight.is_some() || self.phase == Phase::Finished { Moment::NEVER } else { self.due }
    }

    /// Returns how urgent it is, and since when: what a queue sorts by, smallest first. A refresh goes by the
    /// time of its expiry. A trunk whose last call failed goes behind those that never failed, and behind
    /// those that failed before it: no few trunks are always first. A probe of the preferred target is in no
    /// hurry: the trunk is registered.
    pub fn urgency(&self) -> (bool, Moment, Priority) {
        match (self.class, self.binding) {
            _ if self.failed_calls() > 0 => (true, self.due, Priority::Retry),
            (_, Some(_)) if self.probe_next => (true, self.due, Priority::First),
            (Priority::Refresh, Some(binding)) => (false, binding.expires_at, Priority::Refresh),
            // Its registrar has just said how to ask, and where nothing is bound yet it must not wait behind
            // those that are silent.
            (Priority::Refresh, None) => (false, self.due.plus(FOLLOW_UP_MS), Priority::Refresh),
            (class, _) => (true, self.due, class),
        }
    }

    /// Until when the probe that is next may wait for its turn, where it is due: then the binding is
    /// refreshed without it.
    pub fn probe_may_wait_until(&self, settings: &Settings) -> Option<Moment> {
        let binding = self.binding.filter(|_| self.probe_next)?;
        let worst = settings.deadline_ms + schedule::PROBE_MARGIN_MS;
        let granted_ms = u64::from(binding.granted_s.get()) * schedule::SECOND_MS;
        let latest = schedule::refresh_by(binding.expires_at, granted_ms, settings.interval_ms);
        Some(if self.due.plus(worst) < latest { latest } else { binding.expires_at.minus(worst) })
    }

    /// Returns whether the probe that is next, if one is, has waited until the binding has to be refreshed
    /// without it, or could not be over before the binding expires.
    pub fn is_probe_too_late(&self, settings: &Settings, now: Moment) -> bool {
        let worst = settings.deadline_ms + schedule::PROBE_MARGIN_MS;
        self.probe_next
            && (self.probe_may_wait_until(settings).is_some_and(|until| until <= now)
                || self.remaining_ms(now).unwrap_or(0) < worst)
    }

    /// Calls to the Requester that failed in a row.
    pub fn failed_calls(&self) -> u8 {
        self.failure.as_ref().map_or(0, |failure| failure.failed_calls)
    }

    /// Returns whether the next attempt is a refresh that keeps a binding from expiring.
    pub fn refreshes(&self) -> bool {
        self.class == Priority::Refresh && self.binding.is_some() && self.phase == Phase::Active
    }

    /// Returns how urgent it is.
    pub fn class(&self) -> Priority {
        self.class
    }

    /// Returns whether a REGISTER is in flight.
    pub fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Returns whether nothing was sent for it so far, and nothing is known of what was sent before.
    pub fn is_untouched(&self) -> bool {
        self.class == Priority::First
            && self.binding.is_none()
            && self.failure.is_none()
            && self.flight.is_none()
            && self.phase == Phase::Active
            && self.unconfirmed.is_empty()
    }

    /// Nothing was sent so far, but a predecessor that left no trace may have made a binding at the URI of
    /// this position.
    pub fn assume_predecessor_bound(&mut self, position: u8) {
        let untouched = self.class == Priority::First && self.binding.is_none() && self.failure.is_none();
        if untouched && self.flight.is_none() {
            self.unconfirmed.insert(position);
        }
    }

    /// A request of another registration to the URI of this position may have created a binding. `same` are
    /// the positions of all URIs of its address of record: one way to remove it is enough.
    pub fn assume_bound(&mut self, position: u8, same: UriSet) {
        let known = self.unconfirmed.intersects(same)
            || self.binding.is_some_and(|held| same.contains(held.position));
        if !known {
            self.unconfirmed.insert(position);
        }
    }

    /// Position of the URI where the registrar holds a binding.
    pub fn bound_at(&self, now: Moment) -> Option<u8> {
        self.binding.filter(|binding| binding.expires_at > now).map(|binding| binding.position)
    }

    /// As [`Registration::bound_at`], of a binding that the registrar may hold for longer than is believed,
    /// too.
    pub fn may_be_bound_at(&self, now: Moment) -> Option<u8> {
        self.binding.filter(|binding| binding.may_still_exist(now)).map(|binding| binding.position)
    }

    /// Positions of the URIs where the registrars may hold bindings that no one confirmed.
    pub fn unconfirmed(&self) -> UriSet {
        self.unconfirmed
    }

    /// Numbers up to that one were used by another registration with the same Call-ID.
    pub fn raise_cseq(&mut self, cseq: u32) {
        self.cseq = self.cseq.max(cseq);
    }

    /// The last binding that was confirmed; it may have expired.
    pub fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    /// The last CSeq number that may have been used.
    pub fn cseq(&self) -> u32 {
        self.cseq
    }

    /// Rounds that failed in a row.
    pub fn failures(&self) -> u32 {
        u32::from(self.failures)
    }

    /// Returns whether the binding is being removed.
    pub fn is_deregistering(&self) -> bool {
        self.phase != Phase::Active
    }

    /// Returns whether the next attempt tries the preferred target while another one holds the binding.
    pub fn probes_next(&self) -> bool {
        self.probe_next
    }

    /// Ranks of the URI and the EdgePort that are used, or tried next.
    pub fn ranks(&self) -> (UriChoice, u8) {
        let probes = self.probe_next || matches!(self.flight, Some((Purpose::Probe, _)));
        match (self.phase, self.next_deregistration(), probes) {
            (Phase::Deregistering, Some(position), _) => (UriChoice::Position(position), self.edge),
            (_, _, true) => (UriChoice::Rank(0), 0),
            _ => (UriChoice::Rank(self.uri), self.edge),
        }
    }

    /// Returns where the next attempt is redirected to.
    pub fn redirect(&self, now: Moment) -> Option<&RedirectTarget> {
        if self.probe_next {
            return None;
        }
        self.failure
            .as_ref()?
            .redirect
            .as_ref()
            .filter(|redirect| redirect.until > now)
            .map(|redirect| &redirect.to)
    }

    /// Returns why it is not simply registered, and since when (milliseconds since the Unix epoch).
    pub fn cause(&self) -> Option<(&Failure, u64)> {
        let failure = self.failure.as_ref()?;
        failure.cause.as_ref().map(|cause| (cause, failure.since_unix_ms))
    }

    /// Returns how it stands.
    pub fn state(&self, now: Moment) -> TrunkState {
        let bound = self.remaining_ms(now).is_some();
        match (self.phase, bound, self.cause().is_some()) {
            (Phase::Deregistering | Phase::Finished, _, _) => TrunkState::Deregistering,
            (_, true, false) => TrunkState::Registered,
            (_, true, true) => TrunkState::AtRisk,
            (_, false, true) => TrunkState::Failing,
            (_, false, false) => TrunkState::Pending,
        }
    }

    /// Milliseconds that are left of the binding; `None` where there is none any more.
    pub fn remaining_ms(&self, now: Moment) -> Option<u64> {
        self.binding.map(|binding| binding.expires_at.since(now)).filter(|left| *left > 0)
    }

    /// The EdgePort that the next attempt goes through whatever its rank: it removes a binding that was made
    /// through it.
    pub fn next_bound_edge(&self) -> Option<EdgePortId> {
        if self.phase == Phase::Deregistering { self.deregister_edge_port() } else { None }
    }

    /// Option tags that are left out, one bit for each in configuration order.
    pub fn without_tags(&self) -> u32 {
        self.without_tags
    }

    /// The next REGISTER; from now on it is in flight. `min_expires_s` is what the registrar is known to want
    /// at least.
    pub fn attempt(&mut self, min_expires_s: u32, plan: &Targets<'_>, now: Now) -> Attempt {
        let (uri, edge) = self.ranks();
        let purpose = match self.phase {
            Phase::Active if self.probe_next => Purpose::Probe,
            Phase::Active => Purpose::Register,
            Phase::Deregistering | Phase::Finished => Purpose::Deregister,
        };
        let redirect = self.redirect(now.at).cloned();
        let followed = self.failure.as_ref().and_then(|failure| failure.redirect.as_ref());
        let without_credentials = redirect.is_some() && followed.is_some_and(|to| to.without_credentials);
        let unkept = if std::mem::take(&mut self.resumed) { 1 + CSEQ_RESERVE } else { 0 };
        self.cseq = next_cseq(self.cseq.saturating_add(unkept), now.unix_ms);
        self.flight = Some((purpose, self.cseq));
        self.probe_next = false;
        self.outdated = false;
        if let Some(failure) = self.failure.as_mut() {
            failure.outage_wait = false;
        }
        let expires = if purpose == Purpose::Deregister {
            0
        } else {
            let wanted = self.failure.as_ref().map_or(0, |failure| failure.ask_s.max(failure.guessed_s));
            plan.settings.expires_s.max(min_expires_s).max(wanted).min(MAX_EXPIRES_S)
        };
        let bound_edge = if purpose == Purpose::Deregister { self.deregister_edge_port() } else { None };
        let (cseq, without_tags) = (self.cseq, self.without_tags);
        Attempt { purpose, uri, edge, bound_edge, redirect, without_credentials, expires, cseq, without_tags }
    }

    /// The trunk changed, and has `uris` URIs now: everything learnt about it is void but refusals, and it
    /// registers at once, unless what was refused (user, password, registrar) is what would be offered again.
    /// `locate` tells where the URI of a position is now, `keeps` the same with its rank where the account
    /// there is still the same. Bindings, and what may be bound, where the trunk has no URI any more are
    /// another registration's to remove ([`Registration::removal`], [`Registration::orphans`]).
    pub fn changed(
        &mut self,
        locate: impl Fn(u8) -> Option<u8>,
        keeps: impl Fn(u8) -> Option<(u8, u8)>,
        uris: u8,
        now: Moment,
    ) {
        self.unconfirmed = self.unconfirmed.iter().filter_map(&locate).collect();
        let moved = |binding: Binding| Some(Binding { position: locate(binding.position)?, ..binding });
        self.binding = self.binding.filter(|binding| binding.may_still_exist(now)).and_then(moved);
        let mut same_account = false;
        if let Some(failure) = self.failure.as_mut() {
            failure.earlier = failure.earlier.drain(..).filter_map(moved).collect();
            failure.refused_uris.changed(&keeps);
            // Nor does silence of a registrar that is offered the same as before begin again.
            let silent = failure.silent.drain(..);
            failure.silent = silent.filter_map(|(at, since)| Some((keeps(at)?.0, since))).collect();
            same_account = failure.refused_at.and_then(&keeps).is_some_and(|(_, rank)| rank == 0);
            failure.refused_at = failure.refused_at.and_then(&locate);
        }
        self.without_tags = 0;
        let refused = self.failure.as_ref().is_some_and(|failure| failure.rejections > 0);
        if same_account && refused && (self.flight.is_some() || self.due > now) {
            (self.uri, self.edge, self.probe_next) = (0, 0, false);
            return;
        }
        (self.failures, self.backed_off) = (0, 0);
        self.outdated = self.flight.is_some();
        self.start_over(now);
        self.pass_over_refused(uris, now);
    }

    /// Returns whether it waits because its registrar, or the way to it, failed: the first sign of life ends
    /// that wait.
    pub fn waits_for_recovery(&self) -> bool {
        self.phase == Phase::Active
            && self.flight.is_none()
            && self.failure.as_ref().is_some_and(|failure| failure.outage_wait)
    }

    /// Returns when the first request of the last round was sent, where that has failed.
    pub fn round_sent_at(&self) -> Option<Moment> {
        self.failure.as_ref().and_then(|failure| failure.last_round_sent_at)
    }

    fn start_over(&mut self, now: Moment) {
        (self.uri, self.edge, self.probe_next) = (0, 0, false);
        if let Some(failure) = self.failure.as_mut() {
            failure.keep_only_reason();
        }
        self.class = if self.remaining_ms(now).is_some() { Priority::Refresh } else { Priority::Retry };
        self.due = now;
    }

    /// Which option tags to leave out has to be learnt again: their list is another one.
    pub fn forget_tags(&mut self) {
        self.without_tags = 0;
    }

    /// Registers at once, because a person asks for it.
    pub fn refresh_now(&mut self, now: Moment) {
        if self.phase == Phase::Active && self.flight.is_none() {
            self.class = Priority::Refresh;
            self.due = now;
            self.probe_next = false;
        }
    }

    /// The Contact of the Requester may have changed: a valid binding is refreshed early, spread over a
    /// quarter of what is left of it.
    pub fn refresh_early(&mut self, now: Moment, rng: &mut impl Rng) {
        // What is in flight may still bind the old one.
        self.early = self.flight.is_some() && self.phase == Phase::Active;
        // What is in trouble waits for a reason: refused credentials, or a registrar that asked for time.
        let asked = self.failure.as_ref().is_some_and(|failure| failure.retry_after_until(self.uri) > now);
        if self.cause().is_some() || asked {
            return;
        }
        if let (Phase::Active, None, Some(left)) = (self.phase, self.flight, self.remaining_ms(now)) {
            let early = schedule::early_refresh(left, now, rng);
            if early < self.due {
                self.due = early;
                self.class = Priority::Refresh;
                self.probe_next = false;
            }
        }
    }

    /// Settings changed: the refresh of a registered trunk moves to its new time.
    pub fn reschedule(&mut self, settings: &Settings, now: Moment, rng: &mut impl Rng) {
        let waits = self.flight.is_none() && self.state(now) == TrunkState::Registered && self.due > now;
        if let (true, false, Some(binding)) = (waits, self.probe_next, self.binding) {
            self.due = refresh(&binding, settings, now, rng);
        }
    }

    /// The binding expired while its refresh was waiting for its turn, or for what is named.
    pub fn expired_while_waiting(&mut self, waiting_for: Option<&str>, unix_ms: u64) {
        if self.cause().is_none() {
            let message = match waiting_for {
                Some(what) => format!("the binding expired while its refresh waited for {what}"),
                None => "the binding expired before its refresh got a response".to_owned(),
            };
            let message = message.into();
            self.failure_mut()
                .record_failure(Failure { reason: Reason::BindingExpired, code: None, message }, unix_ms);
        }
    }

    /// Not before that moment, for a reason that lies outside the registration.
    pub fn defer(&mut self, until: Moment) {
        self.due = self.due.max(until);
    }

    /// There is no time, or no way, for the probe that is next: the binding is refreshed as if there had been
    /// none.
    pub fn skip_probe(&mut self, settings: &Settings, now: Moment, rng: &mut impl Rng) {
        if let (true, Some(binding)) = (std::mem::take(&mut self.probe_next), self.binding) {
            self.due = refresh(&binding, settings, now, rng);
        }
    }

    fn failure_mut(&mut self) -> &mut FailureState {
        self.failure.get_or_insert_default()
    }

    fn wait(&mut self, ms: u64, now: Now) {
        self.class = if self.remaining_ms(now.at).is_some() { Priority::Refresh } else { Priority::Retry };
        self.due = now.at.plus(ms);
    }
}

fn refresh(binding: &Binding, settings: &Settings, now: Moment, rng: &mut impl Rng) -> Moment {
    let granted_ms = u64::from(binding.granted_s.get()) * schedule::SECOND_MS;
    schedule::refresh_at(binding.expires_at, granted_ms, settings.interval_ms, now, rng)
}

/// The bit of a rank in a set of ranks; ranks past 63 share the last one.
fn bit(rank: u8) -> u64 {
    1 << rank.min(63)
}

#[cfg(test)]
mod tests;
