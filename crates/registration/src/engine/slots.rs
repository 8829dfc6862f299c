//! All trunks of an engine, by slot and by ref.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

use super::{
    edge_ports::EdgePorts,
    packed_trunk::{PackedTrunk, PackedTrunkRef},
    registrar_users::RegistrarUsers,
    view::Counts,
};
use crate::registration::state::TrunkState;
use crate::{
    model::{Change, EarlierBinding, Record, RecordExtras, RefusalRecord},
    registration::{
        EdgePortId, Refusal, Registration,
        outcome::Reason,
        time::{Moment, Now},
    },
};
use std::hash::BuildHasher;

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

/// What a slot takes beside itself: its places in the index, the timers and a queue.
const SLOT_OVERHEAD_BYTES: usize = 64;

/// Bytes of memory for a slot with this trunk.
fn footprint(trunk: &PackedTrunk) -> u64 {
    (size_of::<Slot>() + SLOT_OVERHEAD_BYTES + trunk.bytes()) as u64
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Slab<Slot>,
    /// Bytes of all slots and what they own.
    bytes: u64,
    /// Slots of trunks that are there, by ref.
    index: HashTable<u32>,
    /// How many of those use each registrar.
    registrar_users: RegistrarUsers,
    /// Slots of registrations that are being removed, by ref.
    deregistering: HashMap<Box<str>, Vec<u32>>,
    hasher: DefaultHashBuilder,
    counts: Counts,
    /// How many are queued.
    waiting: usize,
    /// How many hold a binding elsewhere than where they are preferred.
    failed_over: u64,
    /// Slots that are redirected.
    redirected: BTreeSet<u32>,
    /// Slots of trunks that are not well: few of a million, and asked for every second.
    unhealthy: HashSet<u32>,
    dirty: Vec<u32>,
    forgotten: Vec<Box<str>>,
    /// The highest CSeq number of a registration that is no more: its trunk may return before the numbers,
    /// which go by time, have overtaken it.
    pub last_cseq: u32,
    /// Nothing outlives the process: changes need not be remembered.
    volatile: bool,
}

impl Slots {
    /// Whether changes are remembered for a store.
    pub fn keep(&mut self, durable: bool) {
        self.volatile = !durable;
        if self.volatile {
            (self.dirty, self.forgotten) = (Vec::new(), Vec::new());
            for (_, entry) in &mut self.slots {
                entry.dirty = false;
            }
        }
    }

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

    /// Whether it waits in the queue of a registrar.
    pub fn set_queued(&mut self, slot: u32, queued: bool) {
        if let Some(entry) = self.slots.get_mut(slot as usize)
            && std::mem::replace(&mut entry.queued, queued) != queued
        {
            if queued { self.waiting += 1 } else { self.waiting -= 1 }
        }
    }

    /// Whether it waits for a registrar or an EdgePort that is down, though it is due.
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
        let hash = self.hasher.hash_one(reference);
        self.index.find(hash, |slot| self.slots[*slot as usize].trunk.reference() == reference).copied()
    }

    pub fn insert(
        &mut self,
        trunk: PackedTrunk,
        registration: Registration,
        fingerprint: u64,
        seen: u32,
        invalid: bool,
    ) -> u32 {
        let hash = self.hasher.hash_one(trunk.reference());
        let state = if invalid { TrunkState::Invalid } else { TrunkState::Pending };
        *self.counts.of_mut(state) += 1;
        self.bytes += footprint(&trunk);
        self.registrar_users.add(&trunk.view());
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
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| hasher.hash_one(slots[*slot as usize].trunk.reference()));
        slot
    }

    /// Takes a slot out of the index: its trunk is gone, its registration is being removed.
    pub fn mark_deregistering(&mut self, slot: u32) {
        let Some(entry) = self.slots.get(slot as usize) else { return };
        let reference = entry.trunk.reference();
        let hash = self.hasher.hash_one(reference);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
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
        self.last_cseq = self.last_cseq.max(entry.registration.cseq());
        let reference = entry.trunk.reference();
        let hash = self.hasher.hash_one(reference);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
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

    /// Its record has to be written.
    pub fn mark_dirty(&mut self, slot: u32) {
        if !self.volatile
            && let Some(entry) = self.slots.get_mut(slot as usize)
            && !std::mem::replace(&mut entry.dirty, true)
        {
            self.dirty.push(slot);
        }
    }

    /// Everything has to be written.
    pub fn mark_all_dirty(&mut self) {
        for slot in self.all() {
            self.mark_dirty(slot);
        }
    }

    /// Returns how many changes wait to be written.
    pub fn unwritten(&self) -> usize {
        self.dirty.len() + self.forgotten.len()
    }

    /// A trunk that the store knows and the API server does not.
    pub fn forget(&mut self, reference: Box<str>) {
        if !self.volatile {
            self.forgotten.push(reference);
        }
    }

    /// At most `most` changes to write. Where nothing is to be kept of a trunk itself, `restored` may have a
    /// record for it.
    pub fn take_changes(
        &mut self,
        most: usize,
        known: impl Fn(&str) -> Option<Record>,
        edges: &mut EdgePortNames<'_>,
        now: Now,
    ) -> Vec<Change> {
        let mut changes = Vec::with_capacity(most.min(self.unwritten()));
        while changes.len() < most {
            if let Some(reference) = self.forgotten.pop() {
                if self.nothing_to_keep(&reference) && known(&reference).is_none() {
                    changes.push(Change::Forget(reference));
                }
            } else if let Some(slot) = self.dirty.pop() {
                let Some(entry) = self.slots.get_mut(slot as usize) else { continue };
                // One that is spoilt now, but registered by its last good version, goes on using numbers.
                let usable = entry.trunk.view().uris() > 0;
                if std::mem::take(&mut entry.dirty) && !entry.registration.is_deregistering() {
                    let record =
                        if usable { Some(entry.record(edges, now)) } else { known(entry.trunk.reference()) };
                    changes.extend(record.map(Change::Put));
                }
            } else {
                break;
            }
        }
        changes
    }

    /// These changes were not written after all.
    pub fn return_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(record) => {
                    if let Some(slot) = self.find(&record.reference) {
                        self.mark_dirty(slot);
                    }
                }
                Change::Forget(reference) => self.forgotten.push(reference),
            }
        }
    }
}

/// EdgePorts as records name them, each made once.
pub(super) struct EdgePortNames<'a> {
    edges: &'a EdgePorts,
    known: HashMap<EdgePortId, Arc<str>>,
}

impl<'a> EdgePortNames<'a> {
    pub fn new(edges: &'a EdgePorts) -> Self {
        Self { edges, known: HashMap::new() }
    }

    fn get(&mut self, edge: EdgePortId) -> Arc<str> {
        let edges = self.edges;
        self.known.entry(edge).or_insert_with(|| edges.key(edge).into()).clone()
    }
}

impl Slot {
    fn record(&self, edges: &mut EdgePortNames<'_>, now: Now) -> Record {
        let trunk = self.trunk.view();
        let binding = self.registration.binding();
        let aor = |position| {
            let uri = trunk.uri(position);
            uri.map_or_else(String::new, |uri| format!("{}@{}", uri.user, uri.host)).into_boxed_str()
        };
        let refusal_record = |refusal: Refusal| RefusalRecord {
            unknown_account: refusal.reason == Reason::UnknownAccount,
            aor: aor(refusal.position),
            username: trunk.username().unwrap_or_default().into(),
            until_ms: now.unix_ms_of(refusal.until),
            since_ms: refusal.since_unix_ms,
            times: refusal.times,
        };
        let refusals: Vec<_> = self.registration.refusals(now.at).into_iter().map(refusal_record).collect();
        let earlier: Vec<_> = self
            .registration
            .earlier_bindings()
            .iter()
            .filter(|earlier| earlier.expires_at > now.at)
            .map(|earlier| EarlierBinding {
                aor: aor(earlier.position),
                edge_port: (*edges.get(earlier.edge)).into(),
                expires_at_ms: now.unix_ms_of(earlier.expires_at),
            })
            .collect();
        let more = (!refusals.is_empty() || !earlier.is_empty())
            .then(|| Box::new(RecordExtras { refusals, earlier }));
        Record {
            reference: trunk.reference().into(),
            cseq: self.registration.cseq(),
            aor: binding.map_or_else(|| "".into(), |binding| aor(binding.position)),
            expires_at_ms: binding.map_or(0, |binding| now.unix_ms_of(binding.expires_at)),
            granted_s: binding.map_or(0, |binding| binding.granted_s.get()),
            edge_port: binding.map_or_else(|| "".into(), |binding| edges.get(binding.edge)),
            more,
        }
    }

    /// Returns whether it waits in the queue of a registrar.
    pub fn queued(&self) -> bool {
        self.queued
    }

    /// Returns whether it is due, and waits for a registrar or an EdgePort that is down.
    pub fn blocked(&self) -> bool {
        self.blocked
    }

    /// As it is counted.
    pub fn state(&self) -> TrunkState {
        self.state
    }
}
