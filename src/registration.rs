//! The state machine of one trunk's registration. PURE: no IO, no clock, no randomness of its own; time and a random
//! number generator are arguments, and no Kubernetes, gRPC or Redis type appears.
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
//! A registration knows its targets only by rank (0 is preferred; [`target`] makes the order), so it stays small: a healthy
//! one is a few dozen bytes, and all that only a troubled one needs is in a box of its own.

mod answer;
mod attempt;
pub mod classify;
mod earlier;
mod explain;
mod failover;
pub mod identity;
mod leaving;
mod positions;
mod redirect;
pub mod redirect_policy;
mod refusal;
pub mod reply;
pub mod request;
pub mod schedule;
pub mod target;
pub mod time;
mod trouble;

use rand::Rng;

pub use self::{
    attempt::{Attempt, Binding, Class, EdgeId, Effect, Plan, Purpose, Refusal, Sent, Settings, UriChoice},
    positions::Positions,
    redirect::Redirected,
};
use self::{
    classify::MAX_EXPIRES,
    identity::{CSEQ_RESERVE, next_cseq},
    reply::{Cause, Reason},
    time::{Moment, Now},
    trouble::Trouble,
};
use crate::{engine::view::TrunkState, ports::RedirectTarget};

/// Where a registrar has only said how to ask, or where, what asks again counts as a refresh of what expires so soon, in milliseconds.
const FOLLOW_UP: u64 = 30_000;
/// Most redirections in a row (RFC 3261 §8.1.3.4 leaves the bound to the client).
const MAX_HOPS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Active,
    Leaving,
    Finished,
}

/// One trunk's registration. See the module.
#[derive(Clone, Debug)]
pub struct Registration {
    due: Moment,
    binding: Option<Binding>,
    trouble: Option<Box<Trouble>>,
    cseq: u32,
    without_tags: u32,
    failures: u16,
    /// Rounds in a row after which the full back-off was waited for: its exponent.
    backed_off: u16,
    phase: Phase,
    class: Class,
    /// What is in flight, and its CSeq number.
    flight: Option<(Purpose, u32)>,
    probe_next: bool,
    /// The trunk changed while a request was in flight: send again when that is answered.
    outdated: bool,
    /// The Requester's Contact may have changed while a request was in flight: refresh early when that is answered.
    early: bool,
    /// Nothing was sent since a restart: one REGISTER may have gone out that nobody kept the number of.
    resumed: bool,
    /// Since the last success, requests to the URIs of these positions may have created bindings that nobody confirmed.
    maybe_bound: Positions,
    uri: u8,
    edge: u8,
}

impl Registration {
    /// Of a trunk that nothing is known of: due at once.
    pub fn new(now: Moment) -> Self {
        Self {
            due: now,
            binding: None,
            trouble: None,
            cseq: 0,
            without_tags: 0,
            failures: 0,
            backed_off: 0,
            phase: Phase::Active,
            class: Class::First,
            flight: None,
            probe_next: false,
            outdated: false,
            early: false,
            resumed: false,
            maybe_bound: Positions::default(),
            uri: 0,
            edge: 0,
        }
    }

    /// Of a trunk that was registered before a restart: not sent again before its time while the binding is valid, at
    /// once where it lapsed. `uri` is the rank of the binding's URI.
    pub fn resume(
        cseq: u32,
        binding: Option<(Binding, u8)>,
        settings: &Settings,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Self {
        let mut registration = Self { cseq, resumed: true, class: Class::Retry, ..Self::new(now) };
        if let Some((binding, uri)) = binding {
            registration.binding = Some(binding);
            if binding.expires_at > now {
                registration.uri = uri;
                registration.class = Class::Refresh;
                registration.due = refresh(&binding, settings, now, rng);
            } else {
                // Most overdue first.
                registration.due = binding.expires_at;
            }
        }
        registration
    }

    /// Nothing can be sent for this trunk, because of `cause`.
    pub fn never(&mut self, cause: Cause, unix_ms: u64) {
        self.due = Moment::NEVER;
        self.trouble_mut().blame(cause, unix_ms);
    }

    /// When the next REGISTER is due; [`Moment::NEVER`] while one is in flight.
    pub fn due(&self) -> Moment {
        if self.flight.is_some() || self.phase == Phase::Finished { Moment::NEVER } else { self.due }
    }

    /// How urgent it is, and since when: what a queue sorts by, smallest first. A refresh goes by the time of its expiry. A trunk whose last
    /// call failed goes behind those that never failed, and behind those that failed before it: no few trunks are always first. A
    /// probe of the preferred target is in no hurry: the trunk is registered.
    pub fn urgency(&self) -> (bool, Moment, Class) {
        match (self.class, self.binding) {
            _ if self.failed_calls() > 0 => (true, self.due, Class::Retry),
            (_, Some(_)) if self.probe_next => (true, self.due, Class::First),
            (Class::Refresh, Some(binding)) => (false, binding.expires_at, Class::Refresh),
            // Its registrar has just said how to ask, and where nothing is bound yet it must not wait behind those that are silent.
            (Class::Refresh, None) => (false, self.due.plus(FOLLOW_UP), Class::Refresh),
            (class, _) => (true, self.due, class),
        }
    }

    /// Until when the probe that is next may wait for its turn, where it is due: then the binding is refreshed without it.
    pub fn probe_may_wait_until(&self, settings: &Settings) -> Option<Moment> {
        let binding = self.binding.filter(|_| self.probe_next)?;
        let worst = settings.deadline_ms + schedule::PROBE_MARGIN;
        let granted_ms = u64::from(binding.granted_s.get()) * schedule::SECOND;
        let latest = schedule::refresh_by(binding.expires_at, granted_ms, settings.interval_ms);
        Some(if self.due.plus(worst) < latest { latest } else { binding.expires_at.minus(worst) })
    }

    /// Calls to the Requester that failed in a row.
    pub fn failed_calls(&self) -> u8 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.failed_calls)
    }

    /// Whether the next attempt is a refresh that keeps a binding from lapsing.
    pub fn refreshes(&self) -> bool {
        self.class == Class::Refresh && self.binding.is_some() && self.phase == Phase::Active
    }

    /// How urgent it is.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether a REGISTER is in flight.
    pub fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether nothing was sent for it so far, and nothing is known of what was sent before.
    pub fn is_untouched(&self) -> bool {
        self.class == Class::First
            && self.binding.is_none()
            && self.trouble.is_none()
            && self.flight.is_none()
            && self.phase == Phase::Active
            && self.maybe_bound.is_empty()
    }

    /// Nothing was sent so far, but a predecessor that left no trace may have made a binding at the URI of this position.
    pub fn presume_bound(&mut self, position: u8) {
        let untouched = self.class == Class::First && self.binding.is_none() && self.trouble.is_none();
        if untouched && self.flight.is_none() {
            self.maybe_bound.insert(position);
        }
    }

    /// A request of another registration to the URI of this position may have created a binding. `same` are the positions of
    /// all URIs of its address of record: one way to remove it is enough.
    pub fn presume(&mut self, position: u8, same: Positions) {
        let known =
            self.maybe_bound.meets(same) || self.binding.is_some_and(|held| same.contains(held.position));
        if !known {
            self.maybe_bound.insert(position);
        }
    }

    /// Position of the URI where the registrar holds a binding.
    pub fn bound_at(&self, now: Moment) -> Option<u8> {
        self.binding.filter(|binding| binding.expires_at > now).map(|binding| binding.position)
    }

    /// As [`Registration::bound_at`], of a binding that the registrar may hold for longer than is believed, too.
    pub fn may_be_bound_at(&self, now: Moment) -> Option<u8> {
        self.binding.filter(|binding| binding.may_last(now)).map(|binding| binding.position)
    }

    /// Positions of the URIs where the registrars may hold bindings that nobody confirmed.
    pub fn maybe_bound(&self) -> Positions {
        self.maybe_bound
    }

    /// Numbers up to that one were used by another registration with the same Call-ID.
    pub fn raise_cseq(&mut self, cseq: u32) {
        self.cseq = self.cseq.max(cseq);
    }

    /// The last binding that was confirmed; it may have lapsed.
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

    /// Whether the binding is being removed.
    pub fn is_leaving(&self) -> bool {
        self.phase != Phase::Active
    }

    /// Whether the next attempt tries the preferred target while another one holds the binding.
    pub fn probes_next(&self) -> bool {
        self.probe_next
    }

    /// Ranks of the URI and the EdgePort that are used, or tried next.
    pub fn ranks(&self) -> (UriChoice, u8) {
        let probes = self.probe_next || matches!(self.flight, Some((Purpose::Probe, _)));
        match (self.phase, self.leaves_at(), probes) {
            (Phase::Leaving, Some(position), _) => (UriChoice::Position(position), self.edge),
            (_, _, true) => (UriChoice::Rank(0), 0),
            _ => (UriChoice::Rank(self.uri), self.edge),
        }
    }

    /// Where the next attempt is redirected to.
    pub fn redirect(&self, now: Moment) -> Option<&RedirectTarget> {
        if self.probe_next {
            return None;
        }
        self.trouble
            .as_ref()?
            .redirect
            .as_ref()
            .filter(|redirect| redirect.until > now)
            .map(|redirect| &redirect.to)
    }

    /// Why it is not simply registered, and since when (milliseconds since the Unix epoch).
    pub fn cause(&self) -> Option<(&Cause, u64)> {
        let trouble = self.trouble.as_ref()?;
        trouble.cause.as_ref().map(|cause| (cause, trouble.since_unix_ms))
    }

    /// How it stands.
    pub fn state(&self, now: Moment) -> TrunkState {
        let bound = self.left(now).is_some();
        match (self.phase, bound, self.cause().is_some()) {
            (Phase::Leaving | Phase::Finished, _, _) => TrunkState::Leaving,
            (_, true, false) => TrunkState::Registered,
            (_, true, true) => TrunkState::AtRisk,
            (_, false, true) => TrunkState::Failing,
            (_, false, false) => TrunkState::Pending,
        }
    }

    /// Milliseconds that are left of the binding; `None` where there is none any more.
    pub fn left(&self, now: Moment) -> Option<u64> {
        self.binding.map(|binding| binding.expires_at.since(now)).filter(|left| *left > 0)
    }

    /// The EdgePort that the next attempt goes through whatever its rank: it removes a binding that was made through it.
    pub fn next_bound_edge(&self) -> Option<EdgeId> {
        if self.phase == Phase::Leaving { self.leaves_through() } else { None }
    }

    /// Option tags that are left out, one bit for each in configuration order.
    pub fn without_tags(&self) -> u32 {
        self.without_tags
    }

    /// The next REGISTER; from now on it is in flight. `min_expires_s` is what the registrar is known to want at least.
    pub fn attempt(&mut self, min_expires_s: u32, plan: &Plan<'_>, now: Now) -> Attempt {
        let (uri, edge) = self.ranks();
        let purpose = match self.phase {
            Phase::Active if self.probe_next => Purpose::Probe,
            Phase::Active => Purpose::Register,
            Phase::Leaving | Phase::Finished => Purpose::Leave,
        };
        let redirect = self.redirect(now.at).cloned();
        let followed = self.trouble.as_ref().and_then(|trouble| trouble.redirect.as_ref());
        let without_credentials = redirect.is_some() && followed.is_some_and(|to| to.without_credentials);
        let unkept = if std::mem::take(&mut self.resumed) { 1 + CSEQ_RESERVE } else { 0 };
        self.cseq = next_cseq(self.cseq.saturating_add(unkept), now.unix_ms);
        self.flight = Some((purpose, self.cseq));
        self.probe_next = false;
        self.outdated = false;
        if let Some(trouble) = self.trouble.as_mut() {
            trouble.outage_wait = false;
        }
        let expires = if purpose == Purpose::Leave {
            0
        } else {
            let wanted = self.trouble.as_ref().map_or(0, |trouble| trouble.ask_s.max(trouble.guessed_s));
            plan.settings.expires_s.max(min_expires_s).max(wanted).min(MAX_EXPIRES)
        };
        let bound_edge = if purpose == Purpose::Leave { self.leaves_through() } else { None };
        let (cseq, without_tags) = (self.cseq, self.without_tags);
        Attempt { purpose, uri, edge, bound_edge, redirect, without_credentials, expires, cseq, without_tags }
    }

    /// The trunk changed, and has `uris` URIs now: everything learnt about it is void but refusals, and it registers at once, unless what
    /// was refused (user, password, registrar) is what would be offered again. `locate` tells where the URI of a position is now, `keeps` the
    /// same with its rank where the account there is still the same. Bindings, and what may be bound, where the trunk has no URI any more are
    /// another registration's to remove ([`Registration::removal`], [`Registration::orphans`]).
    pub fn changed(
        &mut self,
        locate: impl Fn(u8) -> Option<u8>,
        keeps: impl Fn(u8) -> Option<(u8, u8)>,
        uris: u8,
        now: Moment,
    ) {
        self.maybe_bound = self.maybe_bound.iter().filter_map(&locate).collect();
        let moved = |binding: Binding| Some(Binding { position: locate(binding.position)?, ..binding });
        self.binding = self.binding.filter(|binding| binding.may_last(now)).and_then(moved);
        let mut same_account = false;
        if let Some(trouble) = self.trouble.as_mut() {
            trouble.earlier = trouble.earlier.drain(..).filter_map(moved).collect();
            trouble.refused_uris.changed(&keeps);
            // Nor does silence of a registrar that is offered the same as before begin again.
            let silent = trouble.silent.drain(..);
            trouble.silent = silent.filter_map(|(at, since)| Some((keeps(at)?.0, since))).collect();
            same_account = trouble.refused_at.and_then(&keeps).is_some_and(|(_, rank)| rank == 0);
            trouble.refused_at = trouble.refused_at.and_then(&locate);
        }
        self.without_tags = 0;
        let refused = self.trouble.as_ref().is_some_and(|trouble| trouble.rejections > 0);
        if same_account && refused && (self.flight.is_some() || self.due > now) {
            (self.uri, self.edge, self.probe_next) = (0, 0, false);
            return;
        }
        (self.failures, self.backed_off) = (0, 0);
        self.outdated = self.flight.is_some();
        self.start_over(now);
        self.pass_over_refused(uris, now);
    }

    /// Whether it waits because its registrar, or the way to it, failed: the first sign of life ends that wait.
    pub fn waits_out_an_outage(&self) -> bool {
        self.phase == Phase::Active
            && self.flight.is_none()
            && self.trouble.as_ref().is_some_and(|trouble| trouble.outage_wait)
    }

    /// When the first request of the last round was sent, where that has failed.
    pub fn round_sent_at(&self) -> Option<Moment> {
        self.trouble.as_ref().and_then(|trouble| trouble.last_round_sent_at)
    }

    fn start_over(&mut self, now: Moment) {
        (self.uri, self.edge, self.probe_next) = (0, 0, false);
        if let Some(trouble) = self.trouble.as_mut() {
            trouble.forget_all_but_the_cause();
        }
        self.class = if self.left(now).is_some() { Class::Refresh } else { Class::Retry };
        self.due = now;
    }

    /// Which option tags to leave out has to be learnt anew: their list is another one.
    pub fn forget_tags(&mut self) {
        self.without_tags = 0;
    }

    /// Registers at once, because a person asks for it.
    pub fn refresh_now(&mut self, now: Moment) {
        if self.phase == Phase::Active && self.flight.is_none() {
            self.class = Class::Refresh;
            self.due = now;
            self.probe_next = false;
        }
    }

    /// The Contact of the Requester may have changed: a valid binding is refreshed early, spread over a quarter of what
    /// is left of it.
    pub fn refresh_early(&mut self, now: Moment, rng: &mut impl Rng) {
        // What is in flight may still bind the old one.
        self.early = self.flight.is_some() && self.phase == Phase::Active;
        // What is in trouble waits for a reason: refused credentials, or a registrar that asked for time.
        let asked = self.trouble.as_ref().is_some_and(|trouble| trouble.asked_until(self.uri) > now);
        if self.cause().is_some() || asked {
            return;
        }
        if let (Phase::Active, None, Some(left)) = (self.phase, self.flight, self.left(now)) {
            let early = schedule::early_refresh(left, now, rng);
            if early < self.due {
                self.due = early;
                self.class = Class::Refresh;
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
    pub fn lapsed(&mut self, waiting_for: Option<&str>, unix_ms: u64) {
        if self.cause().is_none() {
            let message = match waiting_for {
                Some(what) => format!("the binding expired while its refresh waited for {what}"),
                None => "the binding expired before its refresh got a response".to_owned(),
            };
            let message = message.into();
            self.trouble_mut().blame(Cause { reason: Reason::Lapsed, code: None, message }, unix_ms);
        }
    }

    /// Not before that moment, for a reason that lies outside the registration.
    pub fn defer(&mut self, until: Moment) {
        self.due = self.due.max(until);
    }

    /// There is no time, or no way, for the probe that is next: the binding is refreshed as if there had been none.
    pub fn skip_probe(&mut self, settings: &Settings, now: Moment, rng: &mut impl Rng) {
        if let (true, Some(binding)) = (std::mem::take(&mut self.probe_next), self.binding) {
            self.due = refresh(&binding, settings, now, rng);
        }
    }

    fn trouble_mut(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    fn wait(&mut self, ms: u64, now: Now) {
        self.class = if self.left(now.at).is_some() { Class::Refresh } else { Class::Retry };
        self.due = now.at.plus(ms);
    }
}

fn refresh(binding: &Binding, settings: &Settings, now: Moment, rng: &mut impl Rng) -> Moment {
    let granted_ms = u64::from(binding.granted_s.get()) * schedule::SECOND;
    schedule::refresh_at(binding.expires_at, granted_ms, settings.interval_ms, now, rng)
}

/// The bit of a rank in a set of ranks; ranks past 63 share the last one.
fn bit(rank: u8) -> u64 {
    1 << rank.min(63)
}

#[cfg(test)]
mod tests;
