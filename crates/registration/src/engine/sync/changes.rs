//! Changes of single trunks: a new one, another version of one, one that cannot be used, one that is gone.

use crate::{
    engine::{
        Engine, call_id_conflicts,
        packed_trunk::{PackedTrunk, PackedTrunkRef, UriKey},
        registrars::Target,
    },
    registration::{
        Registration, UriIndex, UriSet,
        outcome::{Failure, Reason},
        time::Now,
    },
    trunk::{Trunk, TrunkProblem},
};

impl Engine {
    /// A trunk that was not there: it goes on from its record, if there is one.
    pub(super) fn add(&mut self, trunk: &Trunk, fingerprint: u64, now: Now) -> u32 {
        let packed = PackedTrunk::new(trunk);
        let known = self.restored.take(&trunk.reference);
        let mut registration = match &known {
            Some(record) => self.resumed(&packed.view(), record, trunk.updated_at_s, now),
            None => Registration::new(now.at),
        };
        // It was written by a clock that was wrong, or this one is: what is believed now is to be kept.
        let expiry_differs =
            registration.binding().is_some() && known.is_some_and(|record| self.expiry_differs(&record, now));
        // A predecessor that has gone, or is still being removed, may have used higher numbers.
        let predecessors = self.slots.deregistering(&trunk.reference);
        let cseq =
            predecessors.iter().filter_map(|slot| self.slots.get(*slot)).map(|old| old.registration.cseq());
        registration.raise_cseq(cseq.max().unwrap_or(0).max(self.slots.last_cseq));
        let slot = self.slots.insert(packed, registration, fingerprint, self.sync.number(), false);
        if expiry_differs {
            self.slots.mark_dirty(slot);
        }
        self.reschedule(slot, now);
        slot
    }

    /// The trunk as listed differs in its bytes from what is known. Returns the slot that now stands for it.
    pub(super) fn update(&mut self, slot: u32, trunk: &Trunk, now: Now) -> Option<u32> {
        let packed = PackedTrunk::new(trunk);
        let entry = self.slots.get(slot)?;
        if entry.trunk.view().uris() == 0 {
            // It was never usable.
            self.slots.remove(slot);
            return Some(self.add(trunk, 0, now));
        }
        if entry.trunk.view().registers_as(&packed.view()) {
            self.slots.replace_trunk(slot, packed);
            self.slots.get_mut(slot)?.invalid = false;
            self.update_state(slot, now);
            return Some(slot);
        }
        if self.loses_a_binding(slot, &packed.view(), now) {
            self.remove_trunk(slot, now);
            let present = self.add(trunk, 0, now);
            self.cancel_deregistration(slot, now);
            return Some(present);
        }
        let entry = self.slots.get_mut(slot)?;
        let (old, new) = (entry.trunk.view(), packed.view());
        let locate = |index| old.uri(index).and_then(|uri| UriKey::of(uri).locate(&new));
        let lost: UriSet =
            entry.registration.unconfirmed().iter().filter(|index| locate(*index).is_none()).collect();
        let orphans = entry.registration.orphans(locate, now.at);
        let order = new.order();
        let same_account = |refused: UriIndex, offered: UriIndex| {
            old.uri(refused).zip(new.uri(offered)).is_some_and(|(refused, offered)| {
                (refused.user, refused.port) == (offered.user, offered.port)
                    && refused.host.eq_ignore_ascii_case(offered.host)
            })
        };
        let same_credentials = old.offers_the_same(&new);
        let keeps = |refused: UriIndex| {
            let rank = order.rank_that(|offered| same_account(refused, offered))?;
            same_credentials.then_some((order.index_of(rank)?, rank))
        };
        let uris = new.uris();
        let (before, kept) = (call_id_conflicts::targets_of(&old), call_id_conflicts::targets_of(&new));
        let left: Vec<Target> = before.into_iter().filter(|target| !kept.contains(target)).collect();
        entry.registration.changed(locate, keeps, uris, now.at);
        let cseq = entry.registration.cseq();
        entry.invalid = false;
        let old = self.slots.replace_trunk(slot, packed)?;
        self.stop_using_registrars(slot, &left);
        self.reschedule(slot, now);
        if !lost.is_empty() || !orphans.is_empty() {
            let removal = Registration::removal(lost, orphans, cseq, now.at);
            let removal = self.slots.insert_removal(old, removal, self.sync.number());
            self.reschedule(removal, now);
        }
        Some(slot)
    }

    /// Returns whether the trunk as it is now has no longer the address of record that is bound, or that a
    /// request in flight may bind.
    fn loses_a_binding(&self, slot: u32, new: &PackedTrunkRef<'_>, now: Now) -> bool {
        let Some(entry) = self.slots.get(slot) else { return false };
        let old = entry.trunk.view();
        let bound = entry.registration.may_be_bound_at(now.at).and_then(|index| old.uri(index));
        let lost = bound.is_some_and(|uri| new.index_of(uri.user, uri.host).is_none());
        let in_flight =
            || self.in_flight.iter().any(|flight| flight.slot == slot && flight.uri.locate(new).is_none());
        lost || (entry.registration.in_flight() && in_flight())
    }

    /// A trunk as listed cannot be used. Returns the slot that now stands for it.
    pub(super) fn invalid(
        &mut self,
        found: Option<u32>,
        (reference, name): (&str, &str),
        problem: &TrunkProblem,
        now: Now,
    ) -> u32 {
        let message = problem.to_string();
        let usable = found.filter(|slot| self.slots.get(*slot).is_some_and(|e| e.trunk.view().uris() > 0));
        let cause = Failure { reason: Reason::InvalidTrunk, code: None, message: message.as_str().into() };
        match (usable, problem) {
            // Its last good version stays registered.
            (Some(slot), TrunkProblem::Malformed { .. }) => {
                if let Some(entry) = self.slots.get_mut(slot) {
                    entry.invalid = true;
                    let spoilt = entry.trunk.with_problem(Some(&message));
                    self.slots.replace_trunk(slot, spoilt);
                }
                self.update_state(slot, now);
                return slot;
            }
            (Some(slot), TrunkProblem::AllDisabled) => self.remove_trunk(slot, now),
            (None, _) => {
                if let Some(slot) = found {
                    self.slots.remove(slot);
                }
            }
        }
        // What the store kept of a trunk that is malformed is left for its next good version.
        if *problem == TrunkProblem::AllDisabled {
            self.forget_restored(reference);
        }
        let mut registration = Registration::new(now.at);
        registration.set_unregistrable(cause, now.unix_ms);
        let trunk = PackedTrunk::unusable(reference, name, &message);
        let slot = self.slots.insert(trunk, registration, 0, self.sync.number(), true);
        if self.restored.get(reference).is_some_and(|record| self.expiry_differs(record, now)) {
            self.slots.mark_dirty(slot);
        }
        if let Some(entry) = self.slots.get(slot) {
            let transition = self.transition(entry, entry.state(), entry.state(), now);
            self.transitions.push(transition);
        }
        slot
    }

    /// The trunk is gone: its binding is removed, then it is forgotten.
    pub(in crate::engine) fn remove_trunk(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if entry.registration.is_deregistering() {
            return;
        }
        let ended = entry.registration.deregister(now);
        let targets = call_id_conflicts::targets_of(&entry.trunk.view());
        self.slots.mark_deregistering(slot);
        if ended {
            self.stop_using_registrars(slot, &targets);
            self.slots.remove(slot);
        } else {
            self.reschedule(slot, now);
        }
    }
}
