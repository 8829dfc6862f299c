//! All trunks of an engine, by slot and by ref.

mod writing;

use std::collections::{BTreeSet, HashMap, HashSet};

use slab::Slab;

pub(super) use self::writing::EdgePortNames;
use super::{
    history::Histories,
    packed_trunk::{PackedTrunk, PackedTrunkRef},
    ref_index::RefIndex,
    registrar_users::RegistrarUsers,
    view::Counts,
};
use crate::registration::{Registration, state::TrunkState, time::Moment};

/// One trunk and its registration.
#[derive(Debug)]
pub(super) struct Slot {
    pub trunk: PackedTrunk,
    pub registration: Registration,
    /// Of the bytes that the trunk was read from.
    pub fingerprint: u64,
    /// Tells a queue entry that still counts from one that does not.
    pub stamp: u32,
    /// The last sync that listed it.
    pub seen: u32,
    /// Complete syncs in a row that did not list it.
    pub missed: u8,
    queued: bool,
    /// It is due, and waits for a registrar or an EdgePort that is down, or probes it.
    blocked: bool,
    /// It holds a binding elsewhere than at its preferred URI and EdgePort.
    failed_over: bool,
    pub invalid: bool,
    dirty: bool,
    /// As it is counted.
    state: TrunkState,
}

/// Bytes of a slot's places in the index, the timers and a queue.
const SLOT_OVERHEAD_BYTES: usize = 64;

/// Bytes of memory for a slot with this trunk.
fn footprint(trunk: &PackedTrunk) -> u64 {
    (size_of::<Slot>() + SLOT_OVERHEAD_BYTES + trunk.bytes()) as u64
}

/// Slots of all trunks.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Slab<Slot>,
    /// Bytes of all slots and what they own.
    bytes: u64,
    /// Slots of trunks that are there, by ref.
    index: RefIndex,
    /// Numbers of those that use each registrar.
    registrar_users: RegistrarUsers,
    /// Slots of registrations that are being removed, by ref.
    deregistering: HashMap<Box<str>, Vec<u32>>,
    counts: Counts,
    /// Number of queued slots.
    waiting: usize,
    /// Number of slots that hold a binding elsewhere than at their preferred target.
    failed_over: u64,
    /// Slots that are redirected.
    redirected: BTreeSet<u32>,
    /// Slots of trunks that are not well: few of a million, and asked for every second.
    unhealthy: HashSet<u32>,
    /// Histories of those that were not simply well.
    pub histories: Histories,
    dirty: Vec<u32>,
    forgotten: Vec<Box<str>>,
    /// The highest CSeq number of a registration that is no more: its trunk may return before the numbers,
    /// which go by time, have overtaken it.
    pub last_cseq: u32,
    /// Nothing outlives the process: changes need not be remembered.
    volatile: bool,
}

impl Slots {
    /// Bytes of memory that all trunks take, with their registrations.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Replaces the trunk of a slot, which is in the index, by another version of it.
    pub fn replace_trunk(&mut self, slot: u32, trunk: PackedTrunk) -> Option<PackedTrunk> {
        let entry = self.slots.get_mut(slot as usize)?;
        self.bytes = self.bytes - footprint(&entry.trunk) + footprint(&trunk);
        self.registrar_users.remove(&entry.trunk.view());
        self.registrar_users.add(&trunk.view());
        Some(std::mem::replace(&mut entry.trunk, trunk))
    }

    /// Returns whether no other trunk that is there uses a registrar.
    pub fn is_only_user(&self, trunk: &PackedTrunkRef<'_>, registrar: (&str, u16)) -> bool {
        self.registrar_users.is_only_user(trunk, registrar)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Trunks that are there, the leaving ones left out.
    pub fn present(&self) -> usize {
        self.index.len()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns how many wait in the queue of a registrar.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Notes whether it waits in the queue of a registrar.
    pub fn set_queued(&mut self, slot: u32, queued: bool) {
        if let Some(entry) = self.slots.get_mut(slot as usize)
            && std::mem::replace(&mut entry.queued, queued) != queued
        {
            if queued { self.waiting += 1 } else { self.waiting -= 1 }
        }
    }

    /// Notes whether it waits for a registrar or an EdgePort that is down, though it is due.
    pub fn set_blocked(&mut self, slot: u32, blocked: bool) {
        if let Some(entry) = self.slots.get_mut(slot as usize) {
            entry.blocked = blocked;
        }
    }

    /// Notes whether it is redirected.
    pub fn set_redirected(&mut self, slot: u32, redirected: bool) {
        if redirected {
            self.redirected.insert(slot);
        } else {
            self.redirected.remove(&slot);
        }
    }

    /// Those that are, or were a moment ago, redirected.
    pub fn redirected(&self) -> impl Iterator<Item = &Slot> {
        self.redirected.iter().filter_map(|slot| self.get(*slot))
    }

    /// Notes whether it holds a binding elsewhere than at its preferred URI and EdgePort. Returns whether
    /// that changed.
    pub fn set_failed_over(&mut self, slot: u32, failed_over: bool) -> bool {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return false };
        let changed = std::mem::replace(&mut entry.failed_over, failed_over) != failed_over;
        if changed {
            if failed_over { self.failed_over += 1 } else { self.failed_over -= 1 }
        }
        changed
    }

    /// Returns how many hold a binding elsewhere than at their preferred URI and EdgePort.
    pub fn failed_over(&self) -> u64 {
        self.failed_over
    }

    /// Those that fail, are at risk or are not valid, in any order.
    pub fn unhealthy(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.unhealthy.iter().filter_map(|slot| self.get(*slot).map(|entry| (*slot, entry)))
    }

    pub fn get(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(slot as usize)
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)
    }

    /// All slots are below this one.
    pub fn slot_bound(&self) -> u32 {
        u32::try_from(self.slots.capacity()).unwrap_or(u32::MAX)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.slots.iter().map(|(slot, entry)| (u32::try_from(slot).unwrap_or(u32::MAX), entry))
    }

    /// All slots there are now.
    pub fn all(&self) -> Vec<u32> {
        self.iter().map(|(slot, _)| slot).collect()
    }

    pub fn find(&self, reference: &str) -> Option<u32> {
        self.index.find(reference, |slot| reference_at(&self.slots, slot))
    }

    /// Adds a trunk; no other one of its ref may be in the index.
    pub fn insert(
        &mut self,
        trunk: PackedTrunk,
        registration: Registration,
        fingerprint: u64,
        seen: u32,
        invalid: bool,
    ) -> u32 {
        self.registrar_users.add(&trunk.view());
        let slot = self.store(trunk, registration, fingerprint, seen, invalid);
        let slots = &self.slots;
        self.index.insert(slot, |slot| reference_at(slots, slot));
        slot
    }

    /// Adds a removal of what a trunk was before, beside the trunk.
    pub fn insert_removal(&mut self, trunk: PackedTrunk, registration: Registration, seen: u32) -> u32 {
        let reference: Box<str> = trunk.reference().into();
        let slot = self.store(trunk, registration, 0, seen, false);
        self.deregistering.entry(reference).or_default().push(slot);
        slot
    }

    fn store(
        &mut self,
        trunk: PackedTrunk,
        registration: Registration,
        fingerprint: u64,
        seen: u32,
        invalid: bool,
    ) -> u32 {
        let state = if invalid { TrunkState::Invalid } else { TrunkState::Pending };
        *self.counts.of_mut(state) += 1;
        self.bytes += footprint(&trunk);
        let slot = u32::try_from(self.slots.insert(Slot {
            trunk,
            registration,
            fingerprint,
            stamp: 0,
            seen,
            missed: 0,
            queued: false,
            blocked: false,
            failed_over: false,
            invalid,
            dirty: false,
            state,
        }))
        .unwrap_or(u32::MAX);
        if state.is_unhealthy() {
            self.unhealthy.insert(slot);
        }
        slot
    }

    /// Takes a slot out of the index: its trunk is gone, its registration is being removed.
    pub fn mark_deregistering(&mut self, slot: u32) {
        self.histories.remove(slot);
        let Some(entry) = self.slots.get(slot as usize) else { return };
        let reference = entry.trunk.reference();
        if self.index.remove(reference, |other| other == slot).is_some() {
            self.registrar_users.remove(&entry.trunk.view());
        }
        self.deregistering.entry(reference.into()).or_default().push(slot);
    }

    /// Slots of a ref that are being removed.
    pub fn deregistering(&self, reference: &str) -> &[u32] {
        if self.deregistering.is_empty() {
            return &[];
        }
        self.deregistering.get(reference).map_or(&[], Vec::as_slice)
    }

    /// Drops a slot for good.
    pub fn remove(&mut self, slot: u32) {
        let Some(entry) = self.slots.try_remove(slot as usize) else { return };
        *self.counts.of_mut(entry.state) -= 1;
        self.bytes -= footprint(&entry.trunk);
        self.waiting -= usize::from(entry.queued);
        self.failed_over -= u64::from(entry.failed_over);
        self.unhealthy.remove(&slot);
        self.redirected.remove(&slot);
        self.histories.remove(slot);
        self.last_cseq = self.last_cseq.max(entry.registration.cseq());
        let reference = entry.trunk.reference();
        if self.index.remove(reference, |other| other == slot).is_some() {
            self.registrar_users.remove(&entry.trunk.view());
        }
        if let Some(deregistering) = self.deregistering.get_mut(reference) {
            deregistering.retain(|other| *other != slot);
            if deregistering.is_empty() {
                self.deregistering.remove(reference);
            }
        }
        if self.nothing_to_keep(reference) && !self.deregistering.contains_key(reference) && !self.volatile {
            self.forgotten.push(reference.into());
        }
    }

    /// Returns whether there is no trunk of that ref, or none that can be registered.
    fn nothing_to_keep(&self, reference: &str) -> bool {
        let entry = self.find(reference).and_then(|slot| self.get(slot));
        entry.is_none_or(|entry| entry.trunk.view().uris() == 0)
    }

    /// Brings the count by state up to date. Returns the states before and after, where they differ.
    pub fn update_state(&mut self, slot: u32, now: Moment) -> Option<(TrunkState, TrunkState)> {
        let entry = self.slots.get_mut(slot as usize)?;
        let state = match entry.registration.state(now) {
            TrunkState::Deregistering => TrunkState::Deregistering,
            _ if entry.invalid => TrunkState::Invalid,
            TrunkState::Registered if entry.blocked => TrunkState::AtRisk,
            TrunkState::Pending if entry.blocked => TrunkState::Failing,
            state => state,
        };
        if state == entry.state {
            return None;
        }
        let before = std::mem::replace(&mut entry.state, state);
        *self.counts.of_mut(before) -= 1;
        *self.counts.of_mut(state) += 1;
        match (before.is_unhealthy(), state.is_unhealthy()) {
            (false, true) => drop(self.unhealthy.insert(slot)),
            (true, false) => drop(self.unhealthy.remove(&slot)),
            _ => {}
        }
        Some((before, state))
    }
}

fn reference_at(slots: &Slab<Slot>, slot: u32) -> &str {
    slots.get(slot as usize).map_or("", |entry| entry.trunk.reference())
}

impl Slot {
    /// Returns whether it waits in the queue of a registrar.
    pub fn queued(&self) -> bool {
        self.queued
    }

    /// Returns whether it is due, and waits for a registrar or an EdgePort that is down.
    pub fn blocked(&self) -> bool {
        self.blocked
    }

    /// Returns whether it holds a binding elsewhere than at its preferred URI and EdgePort.
    pub fn failed_over(&self) -> bool {
        self.failed_over
    }

    /// As it is counted.
    pub fn state(&self) -> TrunkState {
        self.state
    }
}
