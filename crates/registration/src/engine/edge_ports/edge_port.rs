//! One EdgePort: its outage, and the trunks that wait for its end.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use crate::{
    engine::{outage::Outage, registrars::Urgency},
    model::{EdgePort, PublicAddresses},
    registration::time::Moment,
};
use routr_types::host::HostPort;

/// Those that wait for an EdgePort and go to one registrar: urgency, slot and stamp.
pub(super) type Waiting = BinaryHeap<Reverse<(Urgency, u32, u32)>>;

/// An EdgePort, its outage, and the trunks that wait for its end.
#[derive(Clone, Debug)]
pub(super) struct EdgePortEntry {
    pub address: HostPort,
    pub public: PublicAddresses,
    pub shown: String,
    /// Name in records: the address, and the public ones where it has some. A binding is of both: its Contact
    /// names the public one, and only with the same is it removed.
    pub key: String,
    pub region: Option<String>,
    pub outage: Outage,
    /// The last pause while it was passed over.
    pub pause: u64,
    /// Time at which the latest request was sent that was answered through it.
    pub responded: Option<Moment>,
    /// Time at which it came back last.
    pub back_at: Option<Moment>,
    /// Those that wait for it, by the number of the registrar that they go to.
    pub waiting: BTreeMap<u32, Waiting>,
    /// The slot that was let through to probe it, and until when it is awaited: it may be held up elsewhere,
    /// or be gone.
    pub candidate: Option<(u32, Moment)>,
    /// Message of the last trunk before it went down.
    pub down_message: Box<str>,
}

impl EdgePortEntry {
    pub fn new(edge_port: &EdgePort, key: String) -> Self {
        Self {
            address: edge_port.address.clone(),
            public: edge_port.public.clone(),
            shown: edge_port.address.to_string(),
            key,
            region: edge_port.region.clone(),
            outage: Outage::default(),
            pause: 0,
            responded: None,
            back_at: None,
            waiting: BTreeMap::new(),
            candidate: None,
            down_message: "".into(),
        }
    }

    /// The one of those who wait that has the best chance of a response: see
    /// [`super::EdgePorts::next_probe`].
    pub fn choose_probe(
        &mut self,
        waits: impl Fn(u32, u32) -> bool,
        tries: impl Fn(u32, u32) -> u32,
    ) -> Option<u32> {
        for waiting in self.waiting.values_mut() {
            // Entries that no longer count.
            while waiting.peek().is_some_and(|Reverse((_, slot, stamp))| !waits(*slot, *stamp)) {
                waiting.pop();
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        let heads = self.waiting.iter().filter_map(|(registrar, waiting)| {
            let Reverse((urgency, slot, _)) = *waiting.peek()?;
            Some((tries(*registrar, slot), urgency, slot, *registrar))
        });
        let (_, _, slot, registrar) = heads.min()?;
        self.waiting.get_mut(&registrar).and_then(BinaryHeap::pop);
        Some(slot)
    }

    /// Returns whether this slot was let through to probe it.
    pub fn awaits(&self, slot: u32) -> bool {
        self.candidate.is_some_and(|(candidate, _)| candidate == slot)
    }

    /// Returns when the next of those who wait may probe it; `most` probes at a time.
    pub fn opens_at(&self, most: u32) -> Moment {
        self.outage.opens_at(most).max(self.candidate.map_or(Moment::default(), |(_, until)| until))
    }
}
