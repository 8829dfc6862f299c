//! The end of a registration: what is bound, or may be, is removed, one URI after the other.

use rand::Rng;

use super::{
    Binding, EdgePortId, Phase, Priority, Registration, SentTo, UriIndex, UriSet, backoff,
    outcome::Outcome,
    time::{Moment, Now},
};

/// Most tries to remove one binding.
const MAX_DEREGISTER_ATTEMPTS: u8 = 3;

impl Registration {
    /// Of what an edit has left without an owner: removes these bindings, and what may be bound at these
    /// indices, of the trunk as it was. Its numbers go on after `cseq`.
    pub fn removal(indices: UriSet, bindings: Vec<Binding>, cseq: u32, now: Moment) -> Self {
        let nothing = indices.is_empty() && bindings.is_empty();
        let phase = if nothing { Phase::Finished } else { Phase::Deregistering };
        let mut removal =
            Self { cseq, phase, class: Priority::Retry, unconfirmed: indices, ..Self::new(now) };
        removal.resume_earlier(bindings);
        removal.next_binding(now);
        removal
    }

    /// Turns to the next binding that was made elsewhere, where none is left to remove: it takes the place of
    /// the binding.
    fn next_binding(&mut self, now: Moment) {
        if self.binding.is_none()
            && let Some(failure) = self.failure.as_mut()
        {
            failure.earlier.retain(|binding| binding.expires_at > now);
            self.binding = failure.earlier.pop();
        }
    }

    /// The EdgePort that the removal of a binding goes through: the one that it was made through, for the
    /// Contact may name it. `None` where no binding is known for sure.
    pub(super) fn deregister_edge_port(&self) -> Option<EdgePortId> {
        self.binding.map(|binding| binding.edge)
    }

    /// Removes the binding, and all that may exist without our knowing, and ends. Nothing brings a leaving
    /// registration back. Returns whether it has ended already, there being nothing to remove.
    pub fn deregister(&mut self, now: Now) -> bool {
        if self.phase == Phase::Active {
            self.phase = Phase::Deregistering;
            self.probe_next = false;
            if self.flight.is_none() {
                return self.start_deregistering(now);
            }
        }
        self.phase == Phase::Finished
    }

    pub(super) fn start_deregistering(&mut self, now: Now) -> bool {
        if let Some(failure) = self.failure.as_mut() {
            // The redirection that led to the binding leads to its removal too; one that was not tried yet
            // does not.
            let redirect = failure.redirect.take().filter(|_| failure.cause.is_none());
            failure.forget_target();
            failure.redirect = redirect;
        }
        self.binding = self.binding.filter(|binding| binding.may_still_exist(now.at));
        self.next_removal(now.at)
    }

    /// Returns where the next removal goes: the binding first, then what may be bound.
    pub(super) fn next_deregistration(&self) -> Option<UriIndex> {
        self.binding.map(|binding| binding.index).or(self.unconfirmed.first())
    }

    /// Ends the wait for a binding that has expired by itself. A request that no one answered may have
    /// prolonged it, or have made another one elsewhere: that is removed still. Returns whether the
    /// registration has ended.
    pub fn abandon_deregistration(&mut self, now: Moment) -> bool {
        if self.phase == Phase::Deregistering && self.flight.is_none() && self.forget_expired(now) {
            self.give_up();
            self.next_removal(now);
        }
        self.phase == Phase::Finished
    }

    /// Returns whether it has ended, or goes on, without having heard that a binding is gone.
    pub fn abandoned(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.abandoned)
    }

    /// Returns what is bound at these indices is another registration's concern
    /// ([`Registration::assume_bound`]). Returns whether this one has ended.
    pub fn cancel_deregistration(&mut self, indices: UriSet, now: Moment) -> bool {
        let before = self.next_deregistration();
        self.unconfirmed.remove_all(indices);
        if let Some(failure) = self.failure.as_mut() {
            failure.earlier.retain(|binding| !indices.contains(binding.index));
        }
        self.binding = self.binding.filter(|binding| !indices.contains(binding.index));
        if self.phase == Phase::Deregistering && self.flight.is_none() && self.next_deregistration() != before
        {
            self.next_removal(now);
        }
        self.phase == Phase::Finished
    }

    /// Removal of the binding was answered. Returns whether that ends it.
    pub(super) fn on_deregister_response(
        &mut self,
        outcome: &Outcome,
        sent: SentTo<'_>,
        now: Now,
        rng: &mut impl Rng,
    ) -> bool {
        // No registrar can mean that nothing lasts too short a time.
        if !matches!(outcome, Outcome::IntervalTooBrief { .. }) && self.retries_at_once(outcome, sent, now) {
            self.due = now.at;
            return false;
        }
        self.failure_mut().forget_target();
        let gone = matches!(outcome, Outcome::Registered { .. } | Outcome::UnknownAccount { .. });
        let asked = match outcome {
            Outcome::Failed { retry_after_s, .. } => retry_after_s.map_or(0, backoff::retry_after),
            _ => 0,
        };
        let failure = self.failure_mut();
        failure.deregister_attempts = failure.deregister_attempts.saturating_add(u8::from(!matches!(
            outcome,
            Outcome::RequesterUnavailable | Outcome::CallFailed { .. }
        )));
        let tries = failure.deregister_attempts;
        if !gone && tries < MAX_DEREGISTER_ATTEMPTS && !self.forget_expired(now.at) {
            self.class = Priority::Retry;
            let pause = backoff::deregister_pause(u32::from(tries), rng).max(asked);
            self.due = now.at.plus(pause.max(pause_after(outcome, rng)));
            return false;
        }
        if gone || tries >= MAX_DEREGISTER_ATTEMPTS {
            let done = self.next_deregistration();
            self.binding = None;
            done.into_iter().for_each(|index| self.unconfirmed.remove(index));
        }
        if !gone {
            self.give_up();
        }
        self.next_removal(now.at)
    }

    /// It was to end while a request was in flight, and that is answered.
    pub(super) fn deregister_after(&mut self, outcome: &Outcome, now: Now, rng: &mut impl Rng) -> bool {
        let ended = self.start_deregistering(now);
        self.due = self.due.max(now.at.plus(pause_after(outcome, rng)));
        ended
    }

    /// Forgets a binding that has expired. Returns whether nothing can be left of it where it was.
    fn forget_expired(&mut self, now: Moment) -> bool {
        let Some(expired) = self.binding.take_if(|binding| !binding.may_still_exist(now)) else {
            return false;
        };
        if self.next_deregistration() != Some(expired.index) {
            self.failure_mut().deregister_attempts = 0;
        }
        !self.unconfirmed.contains(expired.index)
    }

    fn give_up(&mut self) {
        self.failure_mut().abandoned = true;
    }

    /// Turns to the next removal. Returns whether there is none.
    fn next_removal(&mut self, now: Moment) -> bool {
        if let Some(failure) = self.failure.as_mut() {
            failure.deregister_attempts = 0;
        }
        self.next_binding(now);
        if self.next_deregistration().is_some() {
            self.class = Priority::Retry;
            self.due = now;
        } else {
            self.phase = Phase::Finished;
        }
        self.phase == Phase::Finished
    }
}

/// Returns where no one answered, the EdgePort may still be offering the password: the next request waits. So
/// it does after a failed call, which does not count as a try.
fn pause_after(outcome: &Outcome, rng: &mut impl Rng) -> u64 {
    let waits = matches!(outcome, Outcome::Timeout | Outcome::Unknown | Outcome::CallFailed { .. });
    if waits { backoff::after_silence(rng) } else { 0 }
}
