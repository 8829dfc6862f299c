//! EdgePorts: those of the configuration, those that a binding was made through, and which of them are
//! silent.
//!
//! One trunk's silence proves nothing about an EdgePort: its registrar may be dead. Silences towards several
//! registrars in a row do, and what the Requester says of an EdgePort itself. Then trunks pass it over; where
//! there is no other, they wait for it, and one trunk in 5 to 10 s tries whether it has recovered, while
//! those before may still be unanswered.

mod edge_port;

use std::cmp::Reverse;

use rand::Rng;

use self::edge_port::EdgePortEntry;
use super::{outage::PROBE_PERIOD_MS, packed_trunk::PackedTrunkRef, registrars::Urgency};
use crate::{
    model::{EdgePort, PublicAddresses},
    registration::{
        EdgePortId, EdgePortRank, backoff::Backoff, classify::EdgePortHealth, target, time::Moment,
    },
};
use routr_types::host::HostPort;

/// Time that an EdgePort is passed over where there are others.
const PASSED_OVER: Backoff = Backoff::new(30_000, 300_000);
/// EdgePorts beyond the configured ones that are remembered: bindings of a configuration before.
const MAX_FORMER_EDGE_PORTS: usize = 1_000;

/// All EdgePorts, and which of them are silent.
#[derive(Clone, Debug)]
pub(super) struct EdgePorts {
    all: Vec<EdgePortEntry>,
    /// Those of the configuration, in its order.
    configured: Vec<EdgePortId>,
    /// Probes at one time through an EdgePort that is down, where no other can be used.
    probes_each: u32,
}

/// Admission of a request through an EdgePort now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdgePortAdmission {
    Open,
    /// It is down, and this is not the probe.
    Closed,
}

impl EdgePorts {
    pub fn new(edge_ports: &[EdgePort]) -> Self {
        let mut edges =
            Self { all: Vec::with_capacity(edge_ports.len()), configured: Vec::new(), probes_each: 1 };
        edges.configure(edge_ports);
        edges
    }

    /// Takes another configuration: what is known of EdgePorts that stay is kept.
    pub fn configure(&mut self, edge_ports: &[EdgePort]) {
        self.configured = edge_ports.iter().map(|edge_port| self.enter(edge_port)).collect();
    }

    fn enter(&mut self, edge_port: &EdgePort) -> EdgePortId {
        let key = match edge_port.public.to_string() {
            none if none.is_empty() => edge_port.address.to_string(),
            public => format!("{} {public}", edge_port.address),
        };
        if let Some(at) = self.all.iter().position(|edge| edge.key == key) {
            self.all[at].region.clone_from(&edge_port.region);
            return id(at);
        }
        self.all.push(EdgePortEntry::new(edge_port, key));
        id(self.all.len() - 1)
    }

    /// The EdgePort of a key as the store has it, which may not be configured any more; `None` for what is no
    /// address.
    pub fn of_key(&mut self, key: &str) -> Option<EdgePortId> {
        if let Some(at) = self.all.iter().position(|edge| edge.key == key) {
            return Some(id(at));
        }
        let (address, public) = key.split_once(' ').unwrap_or((key, ""));
        let public = public.parse().ok()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port =
            port.parse().ok().filter(|_| self.all.len() < self.configured.len() + MAX_FORMER_EDGE_PORTS)?;
        Some(self.enter(&EdgePort { address: HostPort::new(host, port), region: None, public }))
    }

    /// Returns how many are configured, 255 at most.
    pub fn len(&self) -> u8 {
        u8::try_from(self.configured.len()).unwrap_or(u8::MAX)
    }

    fn get(&self, id: EdgePortId) -> Option<&EdgePortEntry> {
        self.all.get(usize::from(id.0))
    }

    fn get_mut(&mut self, id: EdgePortId) -> Option<&mut EdgePortEntry> {
        self.all.get_mut(usize::from(id.0))
    }

    /// An EdgePort's address; an empty one where there is none of that number.
    pub fn address(&self, id: EdgePortId) -> HostPort {
        self.get(id).map_or_else(|| HostPort::new("", 0), |edge| edge.address.clone())
    }

    /// An EdgePort's public addresses; none where there is none of that number.
    pub fn public(&self, id: EdgePortId) -> &PublicAddresses {
        const NONE: &PublicAddresses = &PublicAddresses { udp: None, tcp: None, tls: None };
        self.get(id).map_or(NONE, |edge| &edge.public)
    }

    /// An EdgePort's name in records.
    pub fn key(&self, id: EdgePortId) -> &str {
        self.get(id).map_or("", |edge| &edge.key)
    }

    /// An EdgePort's address as text.
    pub fn shown(&self, id: EdgePortId) -> &str {
        self.get(id).map_or("", |edge| &edge.shown)
    }

    /// The one of a rank for a trunk. Those that are down are passed over, but for one trunk now and then.
    pub fn choose(&self, trunk: &PackedTrunkRef<'_>, rank: EdgePortRank, now: Moment) -> EdgePortId {
        let most = self.most_probes();
        self.choose_among(trunk, rank, |edge| edge.outage.opens_at(most) <= now)
    }

    /// The one of a rank for a trunk, as if all were well.
    pub fn prefer(&self, trunk: &PackedTrunkRef<'_>, rank: EdgePortRank) -> EdgePortId {
        self.choose_among(trunk, rank, |_| true)
    }

    fn choose_among(
        &self,
        trunk: &PackedTrunkRef<'_>,
        rank: EdgePortRank,
        usable: impl Fn(&EdgePortEntry) -> bool,
    ) -> EdgePortId {
        let edges = self.configured.iter().filter_map(|id| self.get(*id));
        let edges = edges.map(|edge| (&*edge.shown, edge.region.as_deref(), usable(edge)));
        let index = target::edge_port(trunk.reference(), trunk.region(), edges, rank);
        self.configured.get(index).copied().unwrap_or_default()
    }

    /// Returns how many probes of one EdgePort may be under way: one silent probe lasts for half a minute,
    /// and while no EdgePort can be used, all trunks wait for the first that is back. Where another one can
    /// be used, each probe is a trunk that could have used that.
    fn most_probes(&self) -> u32 {
        if self.are_all_down() { self.probes_each } else { 1 }
    }

    fn are_all_down(&self) -> bool {
        self.configured.iter().all(|id| self.is_down(*id))
    }

    /// Returns whether no EdgePort can be used, and one may be probed now: who does that is to be chosen
    /// among all that would have to wait for it.
    pub fn seek_a_probe(&self, now: Moment) -> bool {
        let most = self.most_probes();
        self.are_all_down() && self.all.iter().any(|edge| edge.outage.is_down() && edge.opens_at(most) <= now)
    }

    /// Changes how many probes of one EdgePort may be under way where no other can be used.
    pub fn set_probes(&mut self, each: u32) {
        self.probes_each = each.max(1);
    }

    /// Returns whether a trunk may go through an EdgePort. Where it may not, it is to wait
    /// ([`EdgePorts::wait`]).
    pub fn admission(&self, id: EdgePortId, slot: u32, now: Moment) -> EdgePortAdmission {
        match self.get(id) {
            Some(edge) if edge.outage.opens_at(self.most_probes()) > now && !edge.awaits(slot) => {
                EdgePortAdmission::Closed
            }
            _ => EdgePortAdmission::Open,
        }
    }

    /// Returns whether a trunk would have to wait for its EdgePort.
    pub fn is_down(&self, id: EdgePortId) -> bool {
        self.get(id).is_some_and(|edge| edge.outage.is_down())
    }

    /// Since when it has been down.
    pub fn down_since(&self, id: EdgePortId) -> Option<Moment> {
        self.get(id)?.outage.since()
    }

    /// A trunk that goes to a registrar waits for an EdgePort.
    pub fn wait(&mut self, id: EdgePortId, registrar: u32, urgency: Urgency, slot: u32, stamp: u32) {
        if let Some(edge) = self.get_mut(id) {
            edge.waiting.entry(registrar).or_default().push(Reverse((urgency, slot, stamp)));
        }
    }

    /// A trunk whose turn it is to probe an EdgePort that is down. It may be the registrars that are silent,
    /// so it is one towards the registrar that left the fewest requests in a row without a response: one that
    /// responded last, as long as there is one, and never the same few. Of these the most urgent. `waits`
    /// tells by slot and stamp whether an entry still counts, `tries` by registrar and slot how many requests
    /// brought nothing.
    pub fn next_probe(
        &mut self,
        now: Moment,
        waits: impl Fn(u32, u32) -> bool,
        tries: impl Fn(u32, u32) -> u32,
    ) -> Option<u32> {
        let most = self.most_probes();
        for edge in &mut self.all {
            if edge.opens_at(most) > now {
                continue;
            }
            if let Some(slot) = edge.choose_probe(&waits, &tries) {
                edge.candidate = Some((slot, now.plus(PROBE_PERIOD_MS.1)));
                return Some(slot);
            }
        }
        None
    }

    /// Returns when [`EdgePorts::next_probe`] may have one.
    pub fn next_at(&self) -> Option<Moment> {
        let waited_for =
            self.all.iter().filter(|edge| edge.waiting.values().any(|waiting| !waiting.is_empty()));
        let most = self.most_probes();
        waited_for.map(|edge| edge.opens_at(most)).filter(|at| *at != Moment::NEVER).min()
    }

    /// A request of a slot goes through an EdgePort. Returns whether it is a probe.
    pub fn sent(&mut self, id: EdgePortId, slot: u32, now: Moment, rng: &mut impl Rng) -> bool {
        let Some(edge) = self.get_mut(id) else { return false };
        edge.candidate = edge.candidate.filter(|(candidate, _)| *candidate != slot);
        edge.outage.sent(now, rng)
    }

    /// A request through an EdgePort is over.
    pub fn ended(&mut self, id: EdgePortId, probe: bool) {
        if let Some(edge) = self.get_mut(id).filter(|_| probe) {
            edge.outage.probe_ended();
        }
    }

    /// The answer to a request that was sent then came through it. Where it was down, returns since when, and
    /// those who wait for it or for another one, by slot and stamp: they can go through this one now.
    pub fn responded(
        &mut self,
        id: EdgePortId,
        sent_at: Moment,
        now: Moment,
    ) -> Option<(Moment, Vec<(u32, u32)>)> {
        let edge = self.get_mut(id)?;
        edge.responded = edge.responded.max(Some(sent_at));
        (edge.pause, edge.candidate) = (0, None);
        let since = edge.outage.alive()?;
        edge.back_at = Some(now);
        let waiting = self.all.iter_mut().flat_map(|edge| std::mem::take(&mut edge.waiting).into_values());
        let mut waiting: Vec<_> = waiting.flatten().collect();
        // Most urgent first.
        waiting.sort_unstable_by(|one, other| other.cmp(one));
        Some((since, waiting.into_iter().map(|Reverse((_, slot, stamp))| (slot, stamp)).collect()))
    }

    /// Silence through it towards a registrar, or, without one, a failure that is surely its own. `expected`:
    /// the registrar was known to be silent. Where that makes an outage, returns the slots that met with it
    /// before.
    pub fn failed(
        &mut self,
        id: EdgePortId,
        slot: u32,
        registrar: Option<u32>,
        expected: bool,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Option<Vec<u32>> {
        let other = |edge: &EdgePortId| *edge != id && !self.is_down(*edge);
        let replaceable = self.configured.contains(&id) && self.configured.iter().any(other);
        let edge = self.get_mut(id)?;
        let pause = if replaceable {
            edge.pause = PASSED_OVER.after(edge.pause);
            (edge.pause, edge.pause)
        } else {
            PROBE_PERIOD_MS
        };
        let row = edge.outage.failed(slot, registrar, expected, pause, now, rng)?;
        // None is left that could be used instead of one that was passed over: its return counts as well now.
        if !replaceable {
            for other in self.all.iter_mut().filter(|edge| edge.outage.is_down()) {
                other.outage.probe_no_later_than(now, rng);
            }
        }
        Some(row)
    }

    /// Returns when the latest request was sent that was answered through an EdgePort.
    pub fn last_response(&self, id: EdgePortId) -> Option<Moment> {
        self.get(id)?.responded
    }

    /// Returns whether an EdgePort has come back since then.
    pub fn is_back_since(&self, id: EdgePortId, sent_at: Moment) -> bool {
        self.get(id).is_some_and(|edge| edge.back_at >= Some(sent_at))
    }

    /// Returns how an EdgePort stands, for one that sent a request through it then.
    pub fn standing(&self, id: EdgePortId, sent_at: Moment) -> EdgePortHealth {
        match self.get(id) {
            Some(edge) if edge.outage.is_down() => EdgePortHealth::Silent,
            Some(EdgePortEntry { responded: Some(at), .. }) if *at >= sent_at => EdgePortHealth::Answering,
            Some(EdgePortEntry { responded: None, .. }) => EdgePortHealth::NeverAnswered,
            _ => EdgePortHealth::Unknown,
        }
    }

    /// The configured EdgePorts that are down, and since when.
    pub fn down(&self) -> impl Iterator<Item = (&str, Moment, &str)> {
        let configured = self.configured.iter().filter_map(|id| self.get(*id));
        configured.filter_map(|edge| Some((&*edge.shown, edge.outage.since()?, &*edge.down_message)))
    }

    /// Remembers what the last trunk met with when an EdgePort went down.
    pub fn note_down(&mut self, id: EdgePortId, message: &str) {
        if let Some(edge) = self.get_mut(id) {
            edge.down_message = message.into();
        }
    }
}

fn id(at: usize) -> EdgePortId {
    EdgePortId(u16::try_from(at).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests;
