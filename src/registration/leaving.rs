//! The end of a registration: what is bound, or may be, is removed, one URI after the other.

use rand::Rng;

use super::{
    Binding, Class, EdgeId, Phase, Positions, Registration, Sent,
    reply::Verdict,
    schedule,
    time::{Moment, Now},
};

/// Most tries to remove one binding.
const MAX_LEAVES: u8 = 3;

impl Registration {
    /// Of what an edit has left without an owner: removes these bindings, and what may be bound at these positions, of the
    /// trunk as it was. Its numbers go on after `cseq`.
    pub fn removal(positions: Positions, bindings: Vec<Binding>, cseq: u32, now: Moment) -> Self {
        let nothing = positions.is_empty() && bindings.is_empty();
        let phase = if nothing { Phase::Finished } else { Phase::Leaving };
        let mut removal = Self { cseq, phase, class: Class::Retry, maybe_bound: positions, ..Self::new(now) };
        removal.resume_earlier(bindings);
        removal.next_binding(now);
        removal
    }

    /// Where none is left to remove, the next of those that were made elsewhere takes the place of the binding.
    fn next_binding(&mut self, now: Moment) {
        if self.binding.is_none()
            && let Some(trouble) = self.trouble.as_mut()
        {
            trouble.earlier.retain(|binding| binding.expires_at > now);
            self.binding = trouble.earlier.pop();
        }
    }

    /// The EdgePort that the removal of a binding goes through: the one that it was made through, for the Contact may name
    /// it. `None` where no binding is known for sure.
    pub(super) fn leaves_through(&self) -> Option<EdgeId> {
        self.binding.map(|binding| binding.edge)
    }

    /// Removes the binding, and all that may exist without our knowing, and ends. Nothing brings a leaving registration back.
    /// Returns whether it has ended already, there being nothing to remove.
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

    pub(super) fn start_leaving(&mut self, now: Now) -> bool {
        if let Some(trouble) = self.trouble.as_mut() {
            // The redirection that led to the binding leads to its removal too; one that was not tried yet does not.
            let redirect = trouble.redirect.take().filter(|_| trouble.cause.is_none());
            trouble.leave_target();
            trouble.redirect = redirect;
        }
        self.binding = self.binding.filter(|binding| binding.may_last(now.at));
        self.leave_next(now.at)
    }

    /// Where the next removal goes: the binding first, then what may be bound.
    pub(super) fn leaves_at(&self) -> Option<u8> {
        self.binding.map(|binding| binding.position).or(self.maybe_bound.first())
    }

    /// Ends the wait for a binding that has lapsed by itself. A request that nobody answered may have prolonged it, or have made
    /// another one elsewhere: that is removed still. Returns whether the registration has ended.
    pub fn give_up_leaving(&mut self, now: Moment) -> bool {
        if self.phase == Phase::Leaving && self.flight.is_none() && self.forget_lapsed(now) {
            self.give_up();
            self.leave_next(now);
        }
        self.phase == Phase::Finished
    }

    /// Whether it has ended, or goes on, without having heard that a binding is gone.
    pub fn gave_up(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.gave_up)
    }

    /// What is bound at these positions is another registration's concern ([`Registration::presume`]). Returns whether this one
    /// has ended.
    pub fn withdraw(&mut self, positions: Positions, now: Moment) -> bool {
        let before = self.leaves_at();
        self.maybe_bound.remove_all(positions);
        if let Some(trouble) = self.trouble.as_mut() {
            trouble.earlier.retain(|binding| !positions.contains(binding.position));
        }
        self.binding = self.binding.filter(|binding| !positions.contains(binding.position));
        if self.phase == Phase::Leaving && self.flight.is_none() && self.leaves_at() != before {
            self.leave_next(now);
        }
        self.phase == Phase::Finished
    }

    /// Removal of the binding was answered. Returns whether that ends it.
    pub(super) fn left_answered(
        &mut self,
        verdict: &Verdict,
        sent: Sent<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) -> bool {
        // No registrar can mean that nothing lasts too short a time.
        if !matches!(verdict, Verdict::TooBrief { .. }) && self.goes_on(verdict, sent, now) {
            self.due = now.at;
            return false;
        }
        self.trouble_mut().leave_target();
        let gone = matches!(verdict, Verdict::Registered { .. } | Verdict::UnknownAccount { .. });
        let asked = match verdict {
            Verdict::Failed { retry_after_s, .. } => retry_after_s.map_or(0, schedule::retry_after),
            _ => 0,
        };
        let trouble = self.trouble_mut();
        trouble.leaves = trouble
            .leaves
            .saturating_add(u8::from(!matches!(verdict, Verdict::Unavailable | Verdict::CallFailed { .. })));
        let tries = trouble.leaves;
        if !gone && tries < MAX_LEAVES && !self.forget_lapsed(now.at) {
            self.class = Class::Retry;
            let pause = schedule::between_leaves(u32::from(tries), rng).max(asked);
            self.due = now.at.plus(pause.max(pause_after(verdict, rng)));
            return false;
        }
        if gone || tries >= MAX_LEAVES {
            let done = self.leaves_at();
            self.binding = None;
            done.into_iter().for_each(|position| self.maybe_bound.remove(position));
        }
        if !gone {
            self.give_up();
        }
        self.leave_next(now.at)
    }

    /// It was to end while a request was in flight, and that is answered.
    pub(super) fn leave_after(&mut self, verdict: &Verdict, now: Now, rng: &mut impl Rng) -> bool {
        let ended = self.start_leaving(now);
        self.due = self.due.max(now.at.plus(pause_after(verdict, rng)));
        ended
    }

    /// Forgets a binding that has lapsed. Returns whether nothing can be left of it where it was.
    fn forget_lapsed(&mut self, now: Moment) -> bool {
        let Some(lapsed) = self.binding.take_if(|binding| !binding.may_last(now)) else { return false };
        if self.leaves_at() != Some(lapsed.position) {
            self.trouble_mut().leaves = 0;
        }
        !self.maybe_bound.contains(lapsed.position)
    }

    fn give_up(&mut self) {
        self.trouble_mut().gave_up = true;
    }

    /// Turns to the next removal. Returns whether there is none.
    fn leave_next(&mut self, now: Moment) -> bool {
        if let Some(trouble) = self.trouble.as_mut() {
            trouble.leaves = 0;
        }
        self.next_binding(now);
        if self.leaves_at().is_some() {
            self.class = Class::Retry;
            self.due = now;
        } else {
            self.phase = Phase::Finished;
        }
        self.phase == Phase::Finished
    }
}

/// Where nobody answered, the EdgePort may still be offering the password: the next request waits. So it does after a failed call,
/// which does not count as a try.
fn pause_after(verdict: &Verdict, rng: &mut impl Rng) -> u64 {
    let waits = matches!(verdict, Verdict::Silent | Verdict::Unknown | Verdict::CallFailed { .. });
    if waits { schedule::after_silence(rng) } else { 0 }
}
