//! Changes to write to the store, and the record of a slot.

use std::{collections::HashMap, sync::Arc};

use super::{Slot, Slots};
use crate::{
    engine::edge_ports::EdgePorts,
    model::{Change, EarlierBinding, Record, RecordExtras, RefusalRecord},
    registration::{EdgePortId, Refusal, outcome::Reason, time::Now},
};

/// EdgePorts as records name them, each made once.
pub(in crate::engine) struct EdgePortNames<'a> {
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

impl Slots {
    /// Remembers changes for a store, or no longer.
    pub fn keep(&mut self, durable: bool) {
        self.volatile = !durable;
        if self.volatile {
            (self.dirty, self.forgotten) = (Vec::new(), Vec::new());
            for (_, entry) in &mut self.slots {
                entry.dirty = false;
            }
        }
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

impl Slot {
    fn record(&self, edges: &mut EdgePortNames<'_>, now: Now) -> Record {
        let trunk = self.trunk.view();
        let binding = self.registration.binding();
        let aor = |index| {
            let uri = trunk.uri(index);
            uri.map_or_else(String::new, |uri| format!("{}@{}", uri.user, uri.host)).into_boxed_str()
        };
        let refusal_record = |refusal: Refusal| RefusalRecord {
            unknown_account: refusal.reason == Reason::UnknownAccount,
            aor: aor(refusal.index),
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
                aor: aor(earlier.index),
                edge_port: (*edges.get(earlier.edge)).into(),
                expires_at_ms: now.unix_ms_of(earlier.expires_at),
            })
            .collect();
        let more = (!refusals.is_empty() || !earlier.is_empty())
            .then(|| Box::new(RecordExtras { refusals, earlier }));
        Record {
            reference: trunk.reference().into(),
            cseq: self.registration.cseq(),
            aor: binding.map_or_else(|| "".into(), |binding| aor(binding.index)),
            expires_at_ms: binding.map_or(0, |binding| now.unix_ms_of(binding.expires_at)),
            granted_s: binding.map_or(0, |binding| binding.granted_s.get()),
            edge_port: binding.map_or_else(|| "".into(), |binding| edges.get(binding.edge)),
            more,
        }
    }
}
