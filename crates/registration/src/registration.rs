//! The state machine of one trunk's registration. PURE: no IO, no clock, no randomness of its own; time and a
//! random number generator are arguments, and no Kubernetes, gRPC or Redis type appears.
//!
//! The loop that drives it:
//!
//! ```text
//!            due() <= now                    on_response(...)
//!   waiting ---------------> attempt() ... in flight ----------> waiting, with a new due() and class()
//!      ^                                                            |
//!      +------------------------------------------------------------+   deregister() ... Effects::finished
//! ```
//!
//! A registration knows its targets only by rank (0 is preferred; [`target`] makes the order), so it stays
//! small: a healthy one is a few dozen bytes, and all that only a troubled one needs is in a box of its own.

mod attempt;
pub mod backoff;
mod bindings;
pub mod classify;
mod deregistration;
mod earlier;
mod events;
mod explain;
mod failover;
mod failure;
pub mod identity;
mod on_response;
pub mod outcome;
mod redirect;
pub mod redirect_policy;
pub mod refresh;
mod refusal;
pub mod request;
mod rounds;
pub mod state;
pub mod target;
pub mod time;
mod urgency;
pub mod uri;

use rand::Rng;

pub use self::{
    attempt::{
        Attempt, Binding, EdgePortId, Effects, Priority, Purpose, Refusal, SentTo, Settings, Targets,
        UriChoice,
    },
    failover::Failover,
    redirect::Redirected,
    uri::{EdgePortRank, TargetRanks, UriIndex, UriRank, UriSet},
};
use self::{
    classify::MAX_EXPIRES_S,
    failure::FailureState,
    identity::{CSEQ_RESERVE, next_cseq},
    outcome::Failure,
    time::{Moment, Now},
};
use crate::{model::RedirectTarget, registration::state::TrunkState};

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
    /// Request in flight, and its CSeq number.
    flight: Option<(Purpose, u32)>,
    probe_next: bool,
    /// The trunk changed while a request was in flight: send again when that is answered.
    outdated: bool,
    /// The Requester's Contact may have changed while a request was in flight: refresh early when that is
    /// answered.
    early: bool,
    /// Nothing was sent since a restart: one REGISTER may have gone out that no one kept the number of.
    resumed: bool,
    /// Since the last success, requests to the URIs of these indices may have created bindings that no one
    /// confirmed.
    unconfirmed: UriSet,
    /// The URI and the EdgePort that are used, or tried next.
    target: TargetRanks,
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
            target: TargetRanks::PREFERRED,
        }
    }

    /// Of a trunk that was registered before a restart: not sent again before its time while the binding is
    /// valid, at once where it expired. `uri` is the rank of the binding's URI.
    pub fn resume(
        cseq: u32,
        binding: Option<(Binding, UriRank)>,
        settings: &Settings,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Self {
        let mut registration = Self { cseq, resumed: true, class: Priority::Retry, ..Self::new(now) };
        if let Some((binding, uri)) = binding {
            registration.binding = Some(binding);
            if binding.expires_at > now {
                registration.target.uri = uri;
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

    /// Calls to the Requester that failed in a row.
    pub fn failed_calls(&self) -> u8 {
        self.failure.as_ref().map_or(0, |failure| failure.failed_calls)
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
    /// this index.
    pub fn assume_predecessor_bound(&mut self, index: UriIndex) {
        let untouched = self.class == Priority::First && self.binding.is_none() && self.failure.is_none();
        if untouched && self.flight.is_none() {
            self.unconfirmed.insert(index);
        }
    }

    /// A request of another registration to the URI of this index may have created a binding. `same` are
    /// the indices of all URIs of its address of record: one way to remove it is enough.
    pub fn assume_bound(&mut self, index: UriIndex, same: UriSet) {
        let known =
            self.unconfirmed.intersects(same) || self.binding.is_some_and(|held| same.contains(held.index));
        if !known {
            self.unconfirmed.insert(index);
        }
    }

    /// Index of the URI where the registrar holds a binding.
    pub fn bound_at(&self, now: Moment) -> Option<UriIndex> {
        self.binding.filter(|binding| binding.expires_at > now).map(|binding| binding.index)
    }

    /// As [`Registration::bound_at`], of a binding that the registrar may hold for longer than is believed,
    /// too.
    pub fn may_be_bound_at(&self, now: Moment) -> Option<UriIndex> {
        self.binding.filter(|binding| binding.may_still_exist(now)).map(|binding| binding.index)
    }

    /// Indices of the URIs where the registrars may hold bindings that no one confirmed.
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
    pub fn ranks(&self) -> (UriChoice, EdgePortRank) {
        let probes = self.probe_next || matches!(self.flight, Some((Purpose::Probe, _)));
        match (self.phase, self.next_deregistration(), probes) {
            (Phase::Deregistering, Some(index), _) => (UriChoice::Index(index), self.target.edge),
            (_, _, true) => (UriChoice::Rank(UriRank::FIRST), EdgePortRank::FIRST),
            _ => (UriChoice::Rank(self.target.uri), self.target.edge),
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

    /// Returns whether it waits because its registrar, or the way to it, failed: the first sign of life ends
    /// that wait.
    pub fn waits_for_recovery(&self) -> bool {
        self.phase == Phase::Active
            && self.flight.is_none()
            && self.failure.as_ref().is_some_and(|failure| failure.outage_wait)
    }

    /// Returns whether the last request to the URI of this index was left without a response.
    pub fn met_silence(&self, index: UriIndex) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.silent.iter().any(|(at, _)| *at == index))
    }

    /// Returns when the first request of the last round was sent, where that has failed.
    pub fn round_sent_at(&self) -> Option<Moment> {
        self.failure.as_ref().and_then(|failure| failure.last_round_sent_at)
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
    let granted_ms = u64::from(binding.granted_s.get()) * backoff::SECOND_MS;
    refresh::refresh_at(binding.expires_at, granted_ms, settings.interval_ms, now, rng)
}

#[cfg(test)]
mod tests;
