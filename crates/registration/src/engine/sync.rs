//! Trunks in: what a listing of the API server changes.

use super::{
    Engine, call_id_conflicts,
    packed_trunk::{PackedTrunk, PackedTrunkRef, UriKey},
    registrars::Target,
    slots::Slot,
    view::Health,
};
use crate::{
    model::{Absence, Excess, SourceError, StoreError, TrunkItem},
    registration::{
        Registration, UriSet,
        outcome::{Failure, Reason},
        time::Now,
    },
    trunk::{Trunk, TrunkProblem},
};

/// Losing more than half of the trunks and more than this many at once takes a second sync to be believed.
const MASS_LOSS: usize = 10;

/// Where a sync stands.
#[derive(Debug, Default)]
pub(super) struct SyncState {
    number: u32,
    pub last_complete_ms: Option<u64>,
    pub held: u64,
    /// Trunks there were when it began, those that only the store knew included.
    before: usize,
    listed: u64,
    nameless: u64,
    duplicates: u64,
    /// Trunks that were listed a second time, as they were or differently.
    repeated: u64,
    surplus: u64,
    /// Why the last of these was left out, where it was not the configuration's own bound.
    excess: Option<Excess>,
    /// Trunks that the last complete list had and that were left out, and why.
    pub left_out: (u64, Option<Excess>),
}

/// What a registrar takes, with its host: one that is named by many trunks is there once.
const BYTES_PER_REGISTRAR: u64 = 512;
/// What is kept of a trunk that cannot be used: why.
const MAX_PROBLEM_BYTES: usize = 512;

/// What a complete sync came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Trunks that were listed.
    pub listed: u64,
    /// Trunks that are gone and are being de-registered.
    pub removed: u64,
    /// Trunks that seem to be gone, but so many at once, or in a list so unsure, that a second sync must say
    /// the same.
    pub held: u64,
    /// Trunks without a ref: they cannot be told apart and are left out.
    pub nameless: u64,
    /// Trunks that share their ref with an earlier one of the same listing and differ from it: they are left
    /// out. The same trunk twice, as in pages between which it moved, is none.
    pub duplicates: u64,
    /// Trunks, new or larger than before, that were left out, because there are as many as
    /// [`super::EngineSettings::max_trunks`] allows, or
    pub surplus: u64,
    /// because of this.
    pub excess: Option<Excess>,
}

impl Engine {
    /// A listing begins.
    pub fn begin_sync(&mut self) {
        self.sync.number = self.sync.number.wrapping_add(1).max(1);
        self.sync.before = self.slots.present() + self.restored.len() - self.held_for_invalid();
        (self.sync.listed, self.sync.nameless) = (0, 0);
        (self.sync.duplicates, self.sync.repeated, self.sync.surplus) = (0, 0, 0);
        self.sync.excess = None;
    }

    /// The listing has this trunk. What is new or changed registers at once.
    pub fn offer(&mut self, item: &impl TrunkItem, now: Now) {
        let Some(reference) = item.reference() else {
            self.sync.nameless += 1;
            return;
        };
        let fingerprint = item.fingerprint();
        let number = self.sync.number;
        let found = self.slots.find(reference);
        // Lists that fail, each with other trunks, must not add up without end.
        if found.is_none() && self.slots.len() >= self.settings.max_trunks {
            self.sync.surplus += 1;
            return;
        }
        self.sync.listed += 1;
        if let Some(entry) = found.and_then(|slot| self.slots.get_mut(slot)) {
            if entry.seen == number {
                self.sync.repeated += 1;
                self.sync.duplicates += u64::from(entry.fingerprint != fingerprint);
                return;
            }
            (entry.seen, entry.missed) = (number, 0);
            if entry.fingerprint == fingerprint {
                return;
            }
        }
        let decoded = item.decode();
        if let Err(excess) = self.has_room(found, &decoded) {
            (self.sync.surplus, self.sync.excess) = (self.sync.surplus + 1, Some(excess));
            // One that is new is not there after all.
            self.sync.listed -= u64::from(found.is_none());
            return;
        }
        let slot = match (found, decoded) {
            (Some(slot), Ok(trunk)) => self.update(slot, &trunk, now),
            (None, Ok(trunk)) => Some(self.add(&trunk, fingerprint, now)),
            (found, Err(problem)) => Some(self.invalid(found, (reference, &item.name()), &problem, now)),
        };
        if let Some(entry) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            (entry.seen, entry.fingerprint) = (number, fingerprint);
        }
        self.note_room();
    }

    /// Returns whether there is room for a trunk that is new, or larger than it was.
    fn has_room(&self, found: Option<u32>, decoded: &Result<Trunk, TrunkProblem>) -> Result<(), Excess> {
        let Some(room) = &self.room else { return Ok(()) };
        let after = decoded.as_ref().map_or(MAX_PROBLEM_BYTES, Trunk::text_bytes);
        let before = found.and_then(|slot| self.slots.get(slot)).map(|entry| entry.trunk.bytes());
        let more = match before {
            Some(before) => after.saturating_sub(before),
            None => after + size_of::<Slot>(),
        };
        // What shrinks always fits.
        if before.is_some() && more == 0 {
            return Ok(());
        }
        room.fits(u64::from(before.is_none()), more as u64)
    }

    /// Says how much is kept.
    fn note_room(&self) {
        if let Some(room) = &self.room {
            let registrars = self.registrars.len() as u64 * BYTES_PER_REGISTRAR;
            room.uses(self.slots.len() as u64, self.slots.bytes() + registrars);
        }
    }

    /// The trunks that this sync has not listed so far, those that only the store knew included; `None` where
    /// there are more than `most`.
    pub fn missing(&self, most: usize) -> Option<Vec<Box<str>>> {
        let unclaimed = self.restored.len() - self.held_for_invalid();
        let present = u64::try_from(self.slots.present()).unwrap_or(u64::MAX);
        // Each trunk that was listed is there now.
        if unclaimed == 0 && self.sync.listed - self.sync.repeated == present {
            return Some(Vec::new());
        }
        let unseen = self.slots.iter().filter(|(_, entry)| self.is_missing(entry));
        let mut missing: Vec<Box<str>> =
            unseen.map(|(_, entry)| entry.trunk.reference().into()).take(most + 1).collect();
        if unclaimed > 0 {
            let unclaimed =
                self.restored.references().filter(|reference| self.slots.find(reference).is_none());
            missing.extend(unclaimed.map(Box::from).take(most + 1));
        }
        (missing.len() <= most).then_some(missing)
    }

    fn is_missing(&self, entry: &Slot) -> bool {
        entry.seen != self.sync.number && !entry.registration.is_deregistering()
    }

    /// The listing is complete: what it does not have is gone, at once or when a second one says the same.
    pub fn finish_sync(&mut self, absence: Absence, now: Now) -> SyncReport {
        self.sync.last_complete_ms = Some(now.unix_ms);
        let gone: Vec<u32> =
            self.slots.iter().filter(|(_, entry)| self.is_missing(entry)).map(|(slot, _)| slot).collect();
        let unclaimed = self.restored.len() - self.held_for_invalid();
        let lost = gone.len() + unclaimed;
        let massive = lost > MASS_LOSS && lost * 2 > self.sync.before;
        let doubted = massive || absence == Absence::Unconfirmed;
        let mut report = SyncReport {
            listed: self.sync.listed,
            nameless: self.sync.nameless,
            duplicates: self.sync.duplicates,
            surplus: self.sync.surplus,
            excess: self.sync.excess,
            ..SyncReport::default()
        };
        for slot in gone {
            let Some(entry) = self.slots.get_mut(slot) else { continue };
            entry.missed = entry.missed.saturating_add(1);
            if doubted && entry.missed < 2 {
                report.held += 1;
            } else {
                report.removed += 1;
                let reference: Box<str> = entry.trunk.reference().into();
                self.remove_trunk(slot, now);
                self.forget_restored(&reference);
            }
        }
        self.sync.left_out = (report.surplus, report.excess);
        // What was left out is no more missing than what the store keeps of it.
        if report.surplus == 0 && (!doubted || self.sync.held > 0) {
            // What is listed but spoilt goes on from its record when it is good again.
            let slots = &self.slots;
            let mut unclaimed = self.restored.retain(|reference| slots.find(reference).is_some());
            // In an order that can be repeated.
            unclaimed.sort_unstable();
            unclaimed.into_iter().for_each(|reference| self.slots.forget(reference));
        }
        self.sync.held = if doubted { report.held.max(u64::from(unclaimed > 0)) } else { 0 };
        self.registrars.forget_unused(now.at, self.slots.len());
        self.note_room();
        self.api.update(None, now);
        report
    }

    /// Returns whether a list has been read to its end since the start.
    pub fn has_list(&self) -> bool {
        self.sync.last_complete_ms.is_some()
    }

    /// The listing failed. An error is never a removal. Returns whether it failed in another way than the one
    /// before.
    pub fn abort_sync(&mut self, error: &SourceError, now: Now) -> bool {
        let before = self.api.reason;
        self.api.update(Some((error.into(), error.to_string())), now);
        before != self.api.reason
    }

    /// How the cache fares: `None` where it works.
    pub fn set_cache_health(&mut self, error: Option<&StoreError>, now: Now) {
        self.cache.update(error.map(|error| (error.into(), error.to_string())), now);
    }

    /// Another cache, which has not been asked yet.
    pub fn forget_cache_health(&mut self) {
        self.cache = Health::default();
    }

    /// Returns how many of the records that no one has claimed are of trunks that are there, but were not
    /// good since the start.
    fn held_for_invalid(&self) -> usize {
        if self.restored.len() == 0 {
            return 0;
        }
        let known = |entry: &Slot| self.restored.get(entry.trunk.reference()).is_some();
        self.slots.unhealthy().filter(|(_, entry)| entry.invalid && known(entry)).count()
    }

    /// What the store knew of a trunk does not count any more, though the trunk did not turn up in a good
    /// version.
    fn forget_restored(&mut self, reference: &str) {
        if let Some(record) = self.restored.take(reference) {
            self.slots.last_cseq = self.slots.last_cseq.max(record.cseq);
            self.slots.forget(record.reference);
        }
    }

    fn add(&mut self, trunk: &Trunk, fingerprint: u64, now: Now) -> u32 {
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
        let slot = self.slots.insert(packed, registration, fingerprint, self.sync.number, false);
        if expiry_differs {
            self.slots.mark_dirty(slot);
        }
        self.reschedule(slot, now);
        slot
    }

    /// The trunk as listed differs in its bytes from what is known. Returns the slot that now stands for it.
    fn update(&mut self, slot: u32, trunk: &Trunk, now: Now) -> Option<u32> {
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
        let locate = |position| old.uri(position).and_then(|uri| UriKey::of(uri).locate(&new));
        let lost: UriSet =
            entry.registration.unconfirmed().iter().filter(|position| locate(*position).is_none()).collect();
        let orphans = entry.registration.orphans(locate, now.at);
        let order = new.order();
        let same_account = |refused: u8, offered: u8| {
            old.uri(refused).zip(new.uri(offered)).is_some_and(|(refused, offered)| {
                (refused.user, refused.port) == (offered.user, offered.port)
                    && refused.host.eq_ignore_ascii_case(offered.host)
            })
        };
        let same_credentials = old.offers_the_same(&new);
        let keeps = |refused: u8| {
            let rank = order.iter().position(|offered| same_account(refused, *offered))?;
            same_credentials.then_some((order[rank], u8::try_from(rank).ok()?))
        };
        let uris = u8::try_from(order.len()).unwrap_or(u8::MAX);
        let (before, kept) =
            (call_id_conflicts::targets_of(&old, |_| true), call_id_conflicts::targets_of(&new, |_| true));
        let left: Vec<Target> = before.into_iter().filter(|target| !kept.contains(target)).collect();
        entry.registration.changed(locate, keeps, uris, now.at);
        let cseq = entry.registration.cseq();
        entry.invalid = false;
        let old = self.slots.replace_trunk(slot, packed)?;
        self.stop_using_registrars(slot, &left);
        self.reschedule(slot, now);
        if !lost.is_empty() || !orphans.is_empty() {
            let removal = Registration::removal(lost, orphans, cseq, now.at);
            let removal = self.slots.insert(old, removal, 0, self.sync.number, false);
            self.slots.mark_deregistering(removal);
            self.reschedule(removal, now);
        }
        Some(slot)
    }

    /// Returns whether the trunk as it is now has no longer the address of record that is bound, or that a
    /// request in flight may bind.
    fn loses_a_binding(&self, slot: u32, new: &PackedTrunkRef<'_>, now: Now) -> bool {
        let Some(entry) = self.slots.get(slot) else { return false };
        let old = entry.trunk.view();
        let bound = entry.registration.may_be_bound_at(now.at).and_then(|position| old.uri(position));
        let lost = bound.is_some_and(|uri| new.position_of(uri.user, uri.host).is_none());
        let in_flight =
            || self.in_flight.iter().any(|flight| flight.slot == slot && flight.uri.locate(new).is_none());
        lost || (entry.registration.in_flight() && in_flight())
    }

    fn invalid(
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
        let slot = self.slots.insert(trunk, registration, 0, self.sync.number, true);
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
    pub(super) fn remove_trunk(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if entry.registration.is_deregistering() {
            return;
        }
        let ended = entry.registration.deregister(now);
        let targets = call_id_conflicts::targets_of(&entry.trunk.view(), |_| true);
        self.slots.mark_deregistering(slot);
        if ended {
            self.stop_using_registrars(slot, &targets);
            self.slots.remove(slot);
        } else {
            self.reschedule(slot, now);
        }
    }
}
