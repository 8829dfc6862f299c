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

pub mod identity;
pub mod reply;
pub mod request;
pub mod schedule;
pub mod target;
pub mod time;
mod trouble;

use rand::Rng;

use self::{
    identity::{CSEQ_RESERVE, next_cseq},
    reply::{Asked, Cause, Hold, Reason, Verdict, judge},
    time::{Moment, Now},
    trouble::Trouble,
};
use crate::{
    engine::view::TrunkState,
    ports::{RedirectTarget, Reply, SendError},
    trunk::{HostPort, Transport},
};

/// Most redirections in a row (RFC 3261 §8.1.3.4 leaves the bound to the client).
const MAX_HOPS: usize = 5;
/// Most times in a row that a 423 is answered by asking for more.
const MAX_TOO_BRIEF: u8 = 2;
/// Most tries to remove a binding.
const MAX_LEAVES: u8 = 3;
/// A CSeq in an answer that is further ahead than this is not believed.
const MAX_CSEQ_LEAP: u32 = 1_000;

/// What all registrations of an engine have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Milliseconds between two syncs; the lead of a refresh.
    pub interval_ms: u64,
    /// Expiry to ask for, in seconds.
    pub expires_s: u32,
    /// Longest that one REGISTER may take, in milliseconds.
    pub deadline_ms: u64,
    /// Option tags sent in Require.
    pub tags: Vec<String>,
}

/// What a decision about one trunk depends on besides its registration.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// How many URIs the trunk has; ranks go from 0 to one less.
    pub uris: u8,
    /// How many EdgePorts there are.
    pub edges: u8,
    /// Common settings.
    pub settings: &'a Settings,
}

/// In which order waiting registrations are served, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A binding exists and must not lapse, or a reply told what to send at once.
    Refresh,
    /// There is none, and an earlier attempt failed.
    Retry,
    /// Never tried.
    First,
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To create or refresh the binding.
    Register,
    /// To find out whether the preferred target has recovered, while another one holds a valid binding.
    Probe,
    /// To remove the binding.
    Leave,
}

/// One REGISTER to send, in terms of ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What it is for.
    pub purpose: Purpose,
    /// Which URI.
    pub uri: UriChoice,
    /// Rank of the EdgePort.
    pub edge: u8,
    /// Where it was redirected to.
    pub redirect: Option<RedirectTarget>,
    /// Requested expiry in seconds.
    pub expires: u32,
    /// CSeq number.
    pub cseq: u32,
    /// Option tags to leave out, one bit for each.
    pub without_tags: u32,
}

/// Where an attempt went.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Host and port.
    pub address: &'a HostPort,
    /// How.
    pub transport: Transport,
    /// Position of its URI in the trunk as it is now.
    pub position: u8,
    /// When it was sent. What is granted counts from here: an answer that was slow to come must not make a binding look
    /// longer than it is.
    pub at: Moment,
}

/// How an [`Attempt`] names a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriChoice {
    /// By its rank in [`target::uri_order`].
    Rank(u8),
    /// By its position in the trunk, where the binding is.
    Position(u8),
}

/// A binding that the registrar holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// When it lapses.
    pub expires_at: Moment,
    /// What was granted, in seconds.
    pub granted_s: u32,
    /// Position of its URI in the trunk.
    pub position: u8,
}

/// What an answer changes outside the registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The registrar wants at least this expiry, in seconds.
    pub min_expires: Option<u32>,
    /// The registrar wants no request of any trunk before this moment.
    pub hold_registrar_until: Option<Moment>,
    /// The registration has ended: forget it.
    pub finished: bool,
    /// Something changed that must outlive the process.
    pub persist: bool,
}

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
    /// A request may have created a binding that nobody confirmed.
    /// It went to the URI of this position.
    maybe_bound: Option<u8>,
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
            maybe_bound: None,
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
        let mut registration = Self { cseq, class: Class::Retry, ..Self::new(now) };
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

    /// The same, with a CSeq number that is not lower than `cseq`.
    #[must_use]
    pub fn with_cseq(mut self, cseq: u32) -> Self {
        self.cseq = self.cseq.max(cseq);
        self
    }

    /// Nothing can be sent for this trunk, because of `cause`.
    pub fn never(&mut self, cause: Cause, unix_ms: u64) {
        self.due = Moment::NEVER;
        self.trouble_mut().blame(cause, unix_ms);
    }

    /// What was wrong is no longer.
    pub fn clear_cause(&mut self) {
        if let Some(trouble) = self.trouble.as_mut()
            && trouble.cause.as_ref().is_some_and(|cause| cause.reason == Reason::InvalidTrunk)
        {
            trouble.cause = None;
        }
    }

    /// When the next REGISTER is due; [`Moment::NEVER`] while one is in flight.
    pub fn due(&self) -> Moment {
        if self.flight.is_some() || self.phase == Phase::Finished { Moment::NEVER } else { self.due }
    }

    /// How urgent it is, and since when: what a queue sorts by, smallest first. A refresh goes by the time of its lapse.
    pub fn urgency(&self) -> (bool, Moment, Class) {
        match (self.class, self.binding) {
            (Class::Refresh, Some(binding)) => (false, binding.expires_at, Class::Refresh),
            (class, _) => (true, self.due, class),
        }
    }

    /// How urgent it is.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether a REGISTER is in flight.
    pub fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Position of the URI where the registrar holds a binding, or may hold one that nobody confirmed.
    pub fn bound_at(&self, now: Moment) -> Option<u8> {
        let held = self.binding.filter(|binding| binding.expires_at > now);
        held.map(|binding| binding.position).or(self.maybe_bound)
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
        let bound = self.binding.map(|binding| binding.position).or(self.maybe_bound);
        match (self.phase, bound, probes) {
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
        self.trouble.as_ref()?.detour.as_ref().filter(|detour| detour.until > now).map(|detour| &detour.to)
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

    /// The next REGISTER; from now on it is in flight. `min_expires_s` is what the registrar is known to want at least.
    pub fn attempt(&mut self, min_expires_s: u32, plan: &Plan<'_>, now: Now) -> Attempt {
        let (uri, edge) = self.ranks();
        let purpose = match self.phase {
            Phase::Active if self.probe_next => Purpose::Probe,
            Phase::Active => Purpose::Register,
            Phase::Leaving | Phase::Finished => Purpose::Leave,
        };
        let redirect = self.redirect(now.at).cloned();
        self.cseq = next_cseq(self.cseq, now.unix_ms);
        self.flight = Some((purpose, self.cseq));
        self.probe_next = false;
        self.outdated = false;
        let expires = if purpose == Purpose::Leave {
            0
        } else {
            plan.settings.expires_s.max(min_expires_s).min(86_400)
        };
        Attempt { purpose, uri, edge, redirect, expires, cseq: self.cseq, without_tags: self.without_tags }
    }

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
        let asked =
            Asked { expires: attempt.expires, tags: &plan.settings.tags, without_tags: attempt.without_tags };
        let (verdict, cause) = judge(answer, asked);
        if self.flight != Some((attempt.purpose, attempt.cseq)) {
            return (verdict, Effect::default());
        }
        self.flight = None;
        self.learn_cseq(answer);
        let mut effect = Effect { persist: true, ..Effect::default() };
        // What the registrar asks of everybody holds whatever the request was for.
        match verdict {
            Verdict::TooBrief { ask } => effect.min_expires = Some(ask),
            Verdict::Failed { retry_after_s: Some(seconds), whole_registrar: true, .. } => {
                effect.hold_registrar_until = Some(now.at.plus(schedule::retry_after(seconds)));
            }
            _ => {}
        }
        match attempt.purpose {
            Purpose::Leave => effect.finished = self.left_answered(&verdict, sent, now, rng),
            _ if self.phase == Phase::Leaving => {
                self.note_binding(&verdict, sent);
                effect.finished = self.start_leaving(now);
            }
            Purpose::Probe if !verdict.tells_how() => {
                self.probe_answered(&verdict, sent, plan, now, rng);
            }
            Purpose::Probe | Purpose::Register => {
                if attempt.purpose == Purpose::Probe {
                    // The preferred target is there again, and only wants to be asked in another way.
                    (self.uri, self.edge) = (0, 0);
                }
                self.register_answered(&verdict, cause, sent, plan, now, rng);
            }
        }
        if self.outdated && self.phase == Phase::Active {
            self.start_over(now.at);
        }
        (verdict, effect)
    }

    /// A Requester that answers a challenge uses further CSeq numbers; where no answer tells how many, some are reserved.
    fn learn_cseq(&mut self, answer: &Result<Reply, SendError>) {
        let told = answer.as_ref().ok().filter(|reply| reply.code != Some(408)).and_then(|reply| reply.cseq);
        self.cseq = match told {
            Some(cseq) if cseq <= self.cseq.saturating_add(MAX_CSEQ_LEAP) => self.cseq.max(cseq),
            _ => self.cseq.saturating_add(CSEQ_RESERVE),
        };
    }

    fn note_binding(&mut self, verdict: &Verdict, sent: Sent<'_>) {
        match *verdict {
            Verdict::Registered { expires_s } => {
                let expires_at = sent.at.plus(u64::from(expires_s) * schedule::SECOND);
                self.binding = Some(Binding { expires_at, granted_s: expires_s, position: sent.position });
                self.maybe_bound = None;
            }
            // Unavailable too: the connection may have broken after the request was sent.
            Verdict::Silent | Verdict::Unknown | Verdict::Unavailable => {
                self.maybe_bound = Some(sent.position);
            }
            Verdict::UnknownAccount { .. } => self.maybe_bound = None,
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
            self.succeeded(plan, now, rng);
            return;
        }
        self.trouble_mut().blame(cause, now.unix_ms);
        match verdict {
            Verdict::Registered { .. } => {}
            Verdict::TooBrief { .. } | Verdict::BadExtension { .. } | Verdict::Redirected { .. } => {
                self.target_failed(false, None, plan, now, rng);
            }
            Verdict::Rejected => self.rejected(0, now, rng),
            Verdict::UnknownAccount { retry_after_s } => {
                self.rejected(retry_after_s.map_or(0, schedule::retry_after), now, rng);
            }
            Verdict::Failed { way, retry_after_s, .. } => {
                let until = retry_after_s.map(|seconds| now.at.plus(schedule::retry_after(seconds)));
                self.target_failed(*way, until, plan, now, rng);
            }
            Verdict::Silent | Verdict::Unknown => {
                self.silent(*verdict == Verdict::Silent, plan, now, rng);
            }
            // The way is broken, not the trunk: it keeps its place, and the Requester's breaker decides when.
            Verdict::Unavailable => self.due = self.due.min(now.at),
            Verdict::WayRefused => {
                self.due = now.at.plus(schedule::back_off(0, self.left(now.at), rng));
            }
        }
    }

    /// Whether the reply only tells how to ask instead, so that the same target, or the one that it points to, is asked
    /// again at once. That is no failure yet.
    fn goes_on(&mut self, verdict: &Verdict, sent: Sent<'_>, now: Now) -> bool {
        match verdict {
            Verdict::TooBrief { .. } => {
                self.trouble_mut().too_brief += 1;
                self.trouble_mut().too_brief <= MAX_TOO_BRIEF
            }
            Verdict::BadExtension { tags } => {
                self.without_tags |= tags;
                let first = !std::mem::replace(&mut self.trouble_mut().extension_dropped, true);
                *tags != 0 && first
            }
            Verdict::Redirected { to, hold } => self.follow(sent, to, *hold, now),
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
            let probe_at = trouble.preferred_retry_at.max(now.at.plus(schedule::SECOND));
            let over = probe_at.plus(plan.settings.deadline_ms + 5 * schedule::SECOND);
            let last_call = if over <= self.due { self.due } else { binding.expires_at };
            if over <= last_call && probe_at <= self.due {
                self.due = probe_at;
                self.probe_next = true;
            }
        }
    }

    /// Drops what a success makes pointless: the reason, the counts, and a redirection that does not last.
    fn settle(&mut self, now: Moment) {
        let preferred = (self.uri, self.edge) == (0, 0);
        let idle = self.trouble.as_mut().is_none_or(|trouble| {
            trouble.settle(preferred, now);
            preferred && trouble.detour.is_none()
        });
        if idle {
            self.trouble = None;
        }
    }

    fn probe_answered(
        &mut self,
        verdict: &Verdict,
        sent: Sent<'_>,
        plan: &Plan<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        match verdict {
            Verdict::Registered { .. } => {
                self.note_binding(verdict, sent);
                (self.uri, self.edge) = (0, 0);
                self.succeeded(plan, now, rng);
                return;
            }
            Verdict::Unavailable | Verdict::WayRefused => {}
            Verdict::Rejected => self.preferred_rejected(None, now, rng),
            Verdict::UnknownAccount { retry_after_s } => self.preferred_rejected(*retry_after_s, now, rng),
            Verdict::Failed { retry_after_s, .. } => {
                self.preferred_failed(now, rng);
                let asked = now.at.plus(retry_after_s.map_or(0, schedule::retry_after));
                let trouble = self.trouble_mut();
                trouble.preferred_retry_at = trouble.preferred_retry_at.max(asked);
            }
            _ => self.preferred_failed(now, rng),
        }
        self.class = Class::Refresh;
        if let Some(binding) = self.binding {
            self.due = refresh(&binding, plan.settings, now.at, rng);
        }
    }

    /// Removal of the binding was answered. Returns whether that ends it.
    fn left_answered(&mut self, verdict: &Verdict, sent: Sent<'_>, now: Now, rng: &mut impl Rng) -> bool {
        if self.goes_on(verdict, sent, now) {
            self.due = now.at;
            return false;
        }
        self.trouble_mut().leave_target();
        let asked = match verdict {
            Verdict::Failed { retry_after_s, .. } => retry_after_s.map_or(0, schedule::retry_after),
            _ => 0,
        };
        let tries = match verdict {
            Verdict::Registered { .. } | Verdict::UnknownAccount { .. } => MAX_LEAVES,
            Verdict::Unavailable => self.trouble_mut().leaves,
            _ => self.trouble_mut().leaves.saturating_add(1),
        };
        self.trouble_mut().leaves = tries;
        let over = tries >= MAX_LEAVES || self.binding.is_some() && self.left(now.at).is_none();
        if over {
            self.phase = Phase::Finished;
        } else {
            self.class = Class::Retry;
            self.due = now.at.plus(schedule::between_leaves(u32::from(tries), rng).max(asked));
        }
        over
    }

    /// Ends a removal whose binding has lapsed by itself. Returns whether it has ended.
    pub fn give_up_leaving(&mut self, now: Moment) -> bool {
        let lapsed = self.binding.is_some() && self.left(now).is_none();
        if self.phase == Phase::Leaving && self.flight.is_none() && lapsed {
            self.phase = Phase::Finished;
        }
        self.phase == Phase::Finished
    }

    /// Removes the binding and ends. Nothing brings a leaving registration back. Returns whether it has ended already,
    /// there being no binding to remove.
    pub fn leave(&mut self, now: Now) -> bool {
        if self.phase == Phase::Active {
            self.phase = Phase::Leaving;
            self.probe_next = false;
            if self.flight.is_none() {
                return self.start_leaving(now);
            }
        }
        self.phase == Phase::Finished
    }

    fn start_leaving(&mut self, now: Now) -> bool {
        if let Some(trouble) = self.trouble.as_mut() {
            // The redirection that led to the binding leads to its removal too; one that was not tried yet does not.
            let detour = trouble.detour.take().filter(|_| trouble.cause.is_none());
            trouble.leave_target();
            trouble.detour = detour;
        }
        if self.left(now.at).is_none() && self.maybe_bound.is_some() {
            self.binding = None;
        }
        if self.bound_at(now.at).is_some() {
            self.class = Class::Retry;
            self.due = now.at;
            false
        } else {
            self.phase = Phase::Finished;
            true
        }
    }

    /// The trunk changed: everything learnt about it is void, and it registers at once. `position` is where the URI of
    /// its binding ([`Registration::bound_at`]) is now.
    pub fn changed(&mut self, position: Option<u8>, now: Moment) {
        self.maybe_bound = position.filter(|_| self.maybe_bound.is_some() && self.left(now).is_none());
        match (&mut self.binding, position) {
            (Some(binding), Some(position)) => binding.position = position,
            (binding, _) => *binding = None,
        }
        self.without_tags = 0;
        (self.failures, self.backed_off) = (0, 0);
        self.outdated = self.flight.is_some();
        self.start_over(now);
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
        // What is in trouble waits for a reason: refused credentials, or a registrar that asked for time.
        if self.cause().is_some() {
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

    /// The binding lapsed while its refresh was waiting for its turn.
    pub fn lapsed(&mut self, unix_ms: u64) {
        if self.cause().is_none() {
            let message = "the binding lapsed before its refresh was answered".into();
            self.trouble_mut().blame(Cause { reason: Reason::Lapsed, code: None, message }, unix_ms);
        }
    }

    /// Tries another URI than the one that is due, because its registrar asked to be left alone until then.
    pub fn divert(&mut self, rank: u8, until: Moment) {
        if self.uri == 0 {
            self.trouble_mut().preferred_retry_at = until;
        }
        self.trouble_mut().leave_target();
        self.trouble_mut().tried |= bit(self.uri);
        self.uri = rank;
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
    let granted_ms = u64::from(binding.granted_s) * schedule::SECOND;
    schedule::refresh_at(binding.expires_at, granted_ms, settings.interval_ms, now, rng)
}

/// The bit of a rank in a set of ranks; ranks past 63 share the last one.
fn bit(rank: u8) -> u64 {
    1 << rank.min(63)
}

#[cfg(test)]
#[path = "registration/tests.rs"]
mod tests;
