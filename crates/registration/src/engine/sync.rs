//! Trunks in: what a listing of the API server changes.

mod changes;
mod state;

pub use self::state::SyncReport;
pub(super) use self::state::SyncState;
use super::{Engine, slots::Slot, view::Health};
use crate::{
    model::{Absence, Excess, SourceError, StoreError, TrunkItem},
    registration::time::Now,
    trunk::{Trunk, TrunkProblem},
};

/// Bytes of a registrar with its host: one that is named by many trunks is there once.
const BYTES_PER_REGISTRAR: u64 = 512;
/// Most bytes that are kept of a trunk that cannot be used: why.
const MAX_PROBLEM_BYTES: usize = 512;

impl Engine {
    /// A listing begins.
    pub fn handle_sync_started(&mut self) {
        self.sync.start(self.slots.present() + self.restored.len() - self.held_for_invalid());
    }

    /// The listing has this trunk. What is new or changed registers at once.
    pub fn handle_trunk(&mut self, item: &impl TrunkItem, now: Now) {
        let Some(reference) = item.reference() else {
            self.sync.count_nameless();
            return;
        };
        let fingerprint = item.fingerprint();
        let number = self.sync.number();
        let found = self.slots.find(reference);
        // Lists that fail, each with other trunks, must not add up without end.
        if found.is_none() && self.slots.len() >= self.settings.max_trunks {
            self.sync.count_surplus();
            return;
        }
        self.sync.count_listed();
        if let Some(entry) = found.and_then(|slot| self.slots.get_mut(slot)) {
            if entry.seen == number {
                self.sync.count_repeated(entry.fingerprint != fingerprint);
                return;
            }
            (entry.seen, entry.missed) = (number, 0);
            if entry.fingerprint == fingerprint {
                return;
            }
        }
        let decoded = item.decode();
        if let Err(excess) = self.has_room(found, &decoded) {
            return self.sync.count_excess(excess, found.is_none());
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
        if unclaimed == 0 && self.sync.has_listed_all(self.slots.present()) {
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
        entry.seen != self.sync.number() && !entry.registration.is_deregistering()
    }

    /// The listing is complete: what it does not have is gone, at once or when a second one says the same.
    pub fn handle_sync_finished(&mut self, absence: Absence, now: Now) -> SyncReport {
        let mut report = self.sync.complete(now.unix_ms);
        let gone: Vec<u32> =
            self.slots.iter().filter(|(_, entry)| self.is_missing(entry)).map(|(slot, _)| slot).collect();
        let unclaimed = self.restored.len() - self.held_for_invalid();
        let doubted = self.sync.doubts(gone.len() + unclaimed, absence);
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
        // What was left out is no more missing than what the store keeps of it.
        if report.surplus == 0 && (!doubted || self.sync.held() > 0) {
            // What is listed but spoilt goes on from its record when it is good again.
            let slots = &self.slots;
            let mut unclaimed = self.restored.retain(|reference| slots.find(reference).is_some());
            // In an order that can be repeated.
            unclaimed.sort_unstable();
            unclaimed.into_iter().for_each(|reference| self.slots.forget(reference));
        }
        self.sync.hold(if doubted { report.held.max(u64::from(unclaimed > 0)) } else { 0 });
        self.registrars.forget_unused(now.at, self.slots.len());
        self.note_room();
        self.api.update(None, now);
        report
    }

    /// Returns whether a list has been read to its end since the start.
    pub fn has_list(&self) -> bool {
        self.sync.last_complete_ms().is_some()
    }

    /// The listing failed. An error is never a removal. Returns whether it failed in another way than the one
    /// before.
    pub fn handle_sync_failed(&mut self, error: &SourceError, now: Now) -> bool {
        let before = self.api.reason;
        self.api.update(Some((error.into(), error.to_string())), now);
        before != self.api.reason
    }

    /// Takes note of how the store fares: `None` where it works.
    pub fn handle_store_health(&mut self, error: Option<&StoreError>, now: Now) {
        self.cache.update(error.map(|error| (error.into(), error.to_string())), now);
    }

    /// Another cache, which has not been asked yet.
    pub fn handle_store_replaced(&mut self) {
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

    /// Forgets what the store knew of a trunk, though the trunk did not turn up in a good
    /// version.
    fn forget_restored(&mut self, reference: &str) {
        if let Some(record) = self.restored.take(reference) {
            self.slots.last_cseq = self.slots.last_cseq.max(record.cseq);
            self.slots.forget(record.reference);
        }
    }
}
