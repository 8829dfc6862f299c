//! Slots of one trunk that may send under the same Call-ID: the trunk that is there, and removals of what it
//! was before. Of those that share a Call-ID one at a time has a request in flight, and each goes on after
//! the numbers of the others.

use super::{
    Engine,
    packed_trunk::{PackedTrunkRef, UriKey},
    registrars::Target,
};
use crate::registration::{UriIndex, UriSet, time::Now};

impl Engine {
    /// Cancels removals that the trunk's return has made pointless, and goes on after their numbers. Returns
    /// whether there is a conflict: another slot of the same trunk has a request in flight for the Call-ID
    /// that this one would use.
    pub(super) fn take_over_call_id(&mut self, slot: u32, now: Now) -> bool {
        let Some(entry) = self.slots.get(slot) else { return false };
        let leaves = entry.registration.is_deregistering();
        // Nearly always: this is on the way of every REGISTER.
        if !leaves && self.slots.deregistering(entry.trunk.reference()).is_empty() {
            return false;
        }
        let reference: Box<str> = entry.trunk.reference().into();
        let mut others = self.slots.deregistering(&reference).to_vec();
        others.extend(self.slots.find(&reference));
        others.retain(|other| *other != slot);
        if others.is_empty() {
            return false;
        }
        let used =
            others.iter().filter_map(|other| self.slots.get(*other)).map(|e| e.registration.cseq()).max();
        if let (Some(used), Some(entry)) = (used, self.slots.get_mut(slot)) {
            entry.registration.raise_cseq(used);
        }
        let mut conflicts = false;
        for other in others {
            let (Some(entry), Some(rival)) = (self.slots.get(slot), self.slots.get(other)) else { continue };
            // A removal uses one address of record, against all that the trunk may use.
            let (one, all) = if leaves { (slot, rival) } else { (other, entry) };
            let shares = self
                .uri_in_use(one)
                .is_some_and(|uri| all.trunk.view().index_of(&uri.user, &uri.host).is_some());
            if shares && rival.registration.in_flight() {
                conflicts = true;
            } else if !leaves {
                self.cancel_deregistration(other, now);
            }
        }
        conflicts
    }

    /// Cancels a removal at the addresses that the trunk, which has returned meanwhile, has again: what may
    /// be bound there is the trunk's from now on.
    pub(super) fn cancel_deregistration(&mut self, removal: u32, now: Now) {
        let Some(rival) = self.slots.get(removal).filter(|entry| entry.registration.is_deregistering())
        else {
            return;
        };
        let Some(slot) = self.slots.find(rival.trunk.reference()) else { return };
        let Some(present) = self.slots.get(slot) else { return };
        let (gone, trunk) = (rival.trunk.view(), present.trunk.view());
        let held = rival.registration.binding().map(|binding| binding.index);
        let all = rival.registration.unconfirmed().iter().chain(held);
        let again = |index| Some((index, UriKey::of(gone.uri(index)?).locate(&trunk)?));
        let again: Vec<(UriIndex, UriIndex)> = all.filter_map(again).collect();
        let ours: Vec<_> = again.iter().map(|(_, index)| (*index, trunk.same_as(*index))).collect();
        if again.is_empty() {
            return;
        }
        let theirs: UriSet = again.iter().map(|(index, _)| *index).collect();
        if let Some(present) = self.slots.get_mut(slot) {
            ours.into_iter().for_each(|(index, same)| present.registration.assume_bound(index, same));
        }
        let Some(rival) = self.slots.get_mut(removal) else { return };
        if rival.registration.cancel_deregistration(theirs, now.at) {
            self.drop_removal(removal);
        } else if !rival.registration.in_flight() {
            self.reschedule(removal, now);
        }
    }

    /// Returns whether this removal would take away what the trunk, which has returned meanwhile, is about to
    /// register: it has become pointless, and would leave the trunk without a binding for as long as its
    /// tries take.
    pub(super) fn is_superseded(&self, slot: u32) -> bool {
        let Some(entry) = self.slots.get(slot).filter(|entry| entry.registration.is_deregistering()) else {
            return false;
        };
        let Some(present) = self.slots.find(entry.trunk.reference()) else { return false };
        let same = |one: &UriKey, other: &UriKey| one.user == other.user && one.host == other.host;
        match (self.uri_in_use(slot), self.uri_in_use(present)) {
            (Some(gone), Some(wanted)) => same(&gone, &wanted),
            _ => false,
        }
    }

    /// The URI that a slot has a request in flight to, or sends to next.
    fn uri_in_use(&self, slot: u32) -> Option<UriKey> {
        if let Some(flight) = self.in_flight.iter().find(|flight| flight.slot == slot) {
            return Some(flight.uri.clone());
        }
        let entry = self.slots.get(slot)?;
        let trunk = entry.trunk.view();
        trunk.uri(trunk.order().resolve(entry.registration.ranks().0)).map(UriKey::of)
    }

    /// A removal has ended; the trunk that took its place goes on after its numbers.
    pub(super) fn drop_removal(&mut self, slot: u32) {
        let Some(entry) = self.slots.get(slot) else { return };
        let cseq = entry.registration.cseq();
        let targets = targets_of(&entry.trunk.view());
        let successor = self.slots.find(entry.trunk.reference()).filter(|other| *other != slot);
        if let Some(successor) = successor.and_then(|successor| self.slots.get_mut(successor)) {
            successor.registration.raise_cseq(cseq);
        }
        self.stop_using_registrars(slot, &targets);
        self.slots.remove(slot);
    }

    /// A slot has no URI at these registrars any more.
    pub(super) fn stop_using_registrars(&mut self, slot: u32, targets: &[Target]) {
        targets.iter().for_each(|target| self.registrars.stop_use_by(target, slot));
    }
}

/// The registrars of a trunk's URIs.
pub(super) fn targets_of(trunk: &PackedTrunkRef<'_>) -> Vec<Target> {
    trunk.all_uris().map(Target::of).collect()
}
