//! Bindings and numbers that a response makes known, whatever comes next.

use std::num::NonZeroU32;

use super::{
    Binding, Registration, SentTo, UriSet, backoff, identity::CSEQ_RESERVE, on_response::MAX_FIRST_EXPIRES_S,
    outcome::Outcome, time::Now,
};
use crate::model::{RegisterResponse, SendError};

/// A CSeq in an answer that is further ahead than this is not believed.
const MAX_CSEQ_LEAP: u32 = 1_000;

impl Registration {
    /// Returns what a 423 has asked for before this success, which grants that much: it was no forgery, for a
    /// registrar that rejects less does not grant less.
    pub(super) fn confirmed_min_expires(
        &self,
        granted_s: u32,
        asked_s: u32,
        configured_s: u32,
    ) -> Option<u32> {
        let failure = self.failure.as_ref()?;
        let wanted_s = failure.min_expires_s.unwrap_or_else(|| failure.ask_s.max(failure.guessed_s));
        // Others begin with no more than an hour, too.
        let shared_s = wanted_s.min(MAX_FIRST_EXPIRES_S);
        (shared_s > configured_s && asked_s >= wanted_s && granted_s >= shared_s).then_some(shared_s)
    }

    /// A Requester that answers a challenge uses further CSeq numbers; where no answer tells how many, some
    /// are reserved.
    pub(super) fn learn_cseq(&mut self, answer: &Result<RegisterResponse, SendError>) {
        let from_registrar = answer
            .as_ref()
            .ok()
            .filter(|response| response.code != Some(408))
            .and_then(|response| response.cseq);
        self.cseq = match from_registrar {
            Some(cseq) if cseq <= self.cseq.saturating_add(MAX_CSEQ_LEAP) => self.cseq.max(cseq),
            _ => self.cseq.saturating_add(CSEQ_RESERVE),
        };
    }

    /// A request that no one answered, to where the binding is, may have put another one in its place: that
    /// lasts no longer than what was asked for.
    pub(super) fn shorten_unconfirmed(&mut self, outcome: &Outcome, sent: SentTo<'_>, asked_s: u32) {
        let unknown = outcome.may_have_bound();
        let Some(binding) = self.binding.as_mut().filter(|held| unknown && held.index == sent.index) else {
            return;
        };
        let expires_at = sent.at.plus(u64::from(asked_s) * backoff::SECOND_MS);
        if let Some(granted_s) = NonZeroU32::new(asked_s).filter(|_| expires_at < binding.expires_at) {
            *binding = Binding { expires_at, granted_s, ..*binding };
        }
    }

    /// A success that grants no time, to where the binding is, says that there is none any more.
    pub(super) fn record_nothing_granted(
        &mut self,
        answer: &Result<RegisterResponse, SendError>,
        outcome: &Outcome,
        sent: SentTo<'_>,
        now: Now,
    ) {
        let success = answer.as_ref().is_ok_and(|response| matches!(response.code, Some(200..=299)));
        if success && matches!(outcome, Outcome::Failed { .. }) {
            self.binding = self.binding.map(|held| {
                let here = held.index == sent.index && held.expires_at > now.at;
                if here { Binding { expires_at: now.at, longer: false, ..held } } else { held }
            });
        }
    }

    /// Remembers that what is believed to have expired is removed with the trunk all the same.
    pub(super) fn record_longer(&mut self, longer: bool) {
        if let Some(binding) = self.binding.as_mut().filter(|_| longer) {
            binding.longer = true;
        }
    }

    /// A success makes a binding, and what may have been one leaves one to be removed.
    pub(super) fn record_binding(&mut self, outcome: &Outcome, sent: SentTo<'_>) {
        match *outcome {
            Outcome::Registered { expires_s } => {
                let expires_at = sent.at.plus(u64::from(expires_s) * backoff::SECOND_MS);
                let granted_s = NonZeroU32::new(expires_s).unwrap_or(NonZeroU32::MIN);
                let (index, edge) = (sent.index, sent.edge);
                let binding = Binding { expires_at, granted_s, index, edge, longer: false };
                self.record_earlier(binding, sent);
                self.binding = Some(binding);
                self.unconfirmed = UriSet::default();
            }
            // Unavailable too: the connection may have broken after the request was sent.
            ref open if open.may_have_bound() => {
                // One way for each address of record: that of its binding, else the last one.
                let bound = self.bound_at(sent.at).filter(|index| sent.same.contains(*index));
                self.unconfirmed.remove_all(sent.same);
                self.unconfirmed.insert(bound.unwrap_or(sent.index));
            }
            Outcome::UnknownAccount { .. } => self.unconfirmed.remove_all(sent.same),
            _ => {}
        }
    }
}
