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
    registration::{EdgePortId, classify::EdgePortHealth, target, time::Moment},
};
use routr_types::host::HostPort;

/// Time that an EdgePort is passed over where there are others.
const PASSED_OVER: Backoff = Backoff::new(30_000, 300_000);
/// EdgePorts beyond the configured ones that are remembered: bindings of a configuration before.
const MAX_FORMER_EDGE_PORTS: usize = 1_000;

/// Those that wait for an EdgePort and go to one registrar: urgency, slot and stamp.
type Waiting = BinaryHeap<Reverse<(Urgency, u32, u32)>>;

#[derive(Clone, Debug)]
struct EdgePortEntry {
    address: HostPort,
    public: PublicAddresses,
    shown: String,
    /// As records name it: the address, and the public ones where it has some. A binding is of both: its
    /// Contact names the public one, and only with the same is it removed.
    key: String,
    region: Option<String>,
    outage: Outage,
    /// The last pause while it was passed over.
    pause: u64,
    /// When the latest request was sent that was answered through it.
    responded: Option<Moment>,
    /// When it came back last.
    back_at: Option<Moment>,
    /// Those that wait for it, by the number of the registrar that they go to.
    waiting: BTreeMap<u32, Waiting>,
    /// The slot that was let through to probe it, and until when it is awaited: it may be held up elsewhere,
    /// or be gone.
    candidate: Option<(u32, Moment)>,
    /// What the last trunk met with when it went down.
    down_message: Box<str>,
}

/// See the module.
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
        let shown = edge_port.address.to_string();
        let key = match edge_port.public.to_string() {
            none if none.is_empty() => shown.clone(),
            public => format!("{shown} {public}"),
        };
        if let Some(at) = self.all.iter().position(|edge| edge.key == key) {
            self.all[at].region.clone_from(&edge_port.region);
            return id(at);
        }
        self.all.push(EdgePortEntry {
            address: edge_port.address.clone(),
            public: edge_port.public.clone(),
            shown,
            key,
            region: edge_port.region.clone(),
            outage: Outage::default(),
            pause: 0,
            responded: None,
            back_at: None,
            waiting: BTreeMap::new(),
            candidate: None,
            down_message: "".into(),
        });
        id(self.all.len() - 1)
    }

    /// The EdgePort of a key as the store has it, which may not be configured any more; `None` for what
    /// is no address.
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

    /// An EdgePort as records name it.
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
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::{
        engine::packed_trunk::PackedTrunk,
        trunk::{Trunk, TrunkUri},
    };
    use routr_types::host::Transport;

    fn trunk() -> PackedTrunk {
        PackedTrunk::new(&Trunk {
            reference: "t".into(),
            name: "".into(),
            region: Some("eu".into()),
            uris: vec![TrunkUri {
                user: "u".into(),
                registrar: HostPort::new("h", 5060),
                names_port: true,
                transport: Transport::Udp,
                priority: 0,
                weight: 1,
            }],
            credentials: None,
            digest: routr_types::digest_minimum::DigestMinimum::default(),
            problem: None,
            updated_at_s: 0,
        })
    }

    fn edges() -> EdgePorts {
        let edge = |host: &str, region: &str| EdgePort {
            address: HostPort::new(host, 5060),
            region: Some(region.to_owned()),
            public: PublicAddresses::default(),
        };
        EdgePorts::new(&[edge("10.0.0.1", "eu"), edge("10.0.0.2", "us")])
    }

    fn fail(edges: &mut EdgePorts, registrar: u32, at: u64) {
        let rng = &mut SmallRng::seed_from_u64(at);
        edges.failed(EdgePortId(0), registrar, Some(registrar), false, Moment(at), rng);
    }

    #[test]
    fn silences_towards_one_registrar_say_nothing_of_the_edge_port() {
        let (trunk, mut edges) = (trunk(), edges());
        (0..50).for_each(|_| fail(&mut edges, 1, 0));
        assert_eq!(edges.choose(&trunk.view(), 0, Moment(0)), EdgePortId(0));
    }

    #[test]
    fn a_silent_edge_port_is_passed_over_and_comes_back_when_it_has_recovered() {
        let (trunk, mut edges) = (trunk(), edges());
        let rng = &mut SmallRng::seed_from_u64(1);
        [1, 2, 1].into_iter().for_each(|registrar| fail(&mut edges, registrar, 0));
        assert_eq!(edges.address(edges.choose(&trunk.view(), 0, Moment(1))), HostPort::new("10.0.0.2", 5060));
        // One is let through after a while, one alone; as it fails too, the wait grows.
        let at = Moment(120_000);
        assert_eq!(edges.choose(&trunk.view(), 0, at), EdgePortId(0));
        assert!(edges.sent(EdgePortId(0), 7, at, rng));
        assert_eq!(edges.choose(&trunk.view(), 0, at), EdgePortId(1));
        fail(&mut edges, 1, 152_000);
        edges.ended(EdgePortId(0), true);
        assert_eq!(edges.choose(&trunk.view(), 0, Moment(170_000)), EdgePortId(1));
        let (since, waiting) = edges.responded(EdgePortId(0), Moment(180_000), Moment(180_020)).unwrap();
        assert_eq!((since, waiting.len()), (Moment(0), 0));
        assert_eq!(edges.choose(&trunk.view(), 0, Moment(180_001)), EdgePortId(0));
    }

    fn none(_: u32, _: u32) -> u32 {
        0
    }

    #[test]
    fn an_edge_port_is_probed_towards_the_registrar_that_left_the_fewest_unanswered() {
        let only = EdgePort {
            address: HostPort::new("10.0.0.1", 5060),
            region: None,
            public: PublicAddresses::default(),
        };
        let (mut edges, rng) = (EdgePorts::new(&[only]), &mut SmallRng::seed_from_u64(3));
        [1, 2, 3].into_iter().for_each(|registrar| fail(&mut edges, registrar, 0));
        // Two silent registrars have the most urgent trunks, and they come back at once.
        let registrar = |slot: u32| if slot < 20 { slot % 2 } else { slot };
        let urgency = |slot: u32| (false, Moment(u64::from(slot)), crate::registration::Priority::Refresh);
        let all = (0..10).chain(30..33);
        all.for_each(|slot| edges.wait(EdgePortId(0), registrar(slot), urgency(slot), slot, 0));
        let mut tries = std::collections::HashMap::from([(0, 1), (1, 1)]);
        let mut probed = Vec::new();
        for _ in 0..7 {
            let at = edges.next_at().unwrap();
            let of = |registrar, _| tries.get(&registrar).copied().unwrap_or(0);
            let slot = edges.next_probe(at, |_, _| true, of).unwrap();
            *tries.entry(registrar(slot)).or_insert(0) += 1;
            edges.sent(EdgePortId(0), slot, at, rng);
            edges.ended(EdgePortId(0), true);
            edges.wait(EdgePortId(0), registrar(slot), urgency(slot), slot, 0);
            probed.push(registrar(slot));
        }
        assert_eq!(probed, [30, 31, 32, 0, 1, 30, 31]);
    }

    #[test]
    fn where_there_is_no_other_trunks_wait_and_one_probes() {
        let only = EdgePort {
            address: HostPort::new("10.0.0.1", 5060),
            region: None,
            public: PublicAddresses::default(),
        };
        let (mut edges, rng) = (EdgePorts::new(&[only]), &mut SmallRng::seed_from_u64(3));
        [1, 2, 3].into_iter().for_each(|registrar| fail(&mut edges, registrar, 0));
        let urgency = |at| (true, Moment(at), crate::registration::Priority::Retry);
        for slot in 1..=3 {
            assert_eq!(edges.passage(EdgePortId(0), slot, Moment(1)), EdgePortAdmission::Closed);
            edges.wait(EdgePortId(0), slot, urgency(u64::from(10 - slot)), slot, 0);
        }
        assert_eq!(edges.next_probe(Moment(1), |_, _| true, none), None);
        let at = edges.next_at().unwrap();
        assert!((5_000..=10_000).contains(&at.0));
        assert_eq!(edges.next_probe(at, |_, _| true, none), Some(3), "not the most urgent one");
        assert_eq!(edges.next_probe(at, |_, _| true, none), None, "one at a time");
        assert_eq!(edges.passage(EdgePortId(0), 3, at), EdgePortAdmission::Open);
        assert!(edges.sent(EdgePortId(0), 3, at, rng));
        let (_, waiting) = edges.responded(EdgePortId(0), at, at.plus(20)).unwrap();
        assert_eq!(waiting, [(2, 0), (1, 0)]);
    }

    #[test]
    fn silences_of_registrars_that_are_known_to_be_silent_say_nothing_of_the_edge_port() {
        let (trunk, mut edges) = (trunk(), edges());
        let rng = &mut SmallRng::seed_from_u64(1);
        for at in 0..50_u32 {
            assert!(edges.failed(EdgePortId(0), 1, Some(at % 5), true, Moment(at.into()), rng).is_none());
        }
        assert_eq!(edges.choose(&trunk.view(), 0, Moment(50)), EdgePortId(0));
        fail(&mut edges, 9, 51);
        assert!(edges.is_down(EdgePortId(0)), "one that was not known to be silent is silent as well");
    }

    #[test]
    fn a_probe_without_a_response_does_not_keep_the_next_one_from_the_only_edge_port() {
        let (trunk, mut edges) = (trunk(), edges());
        let rng = &mut SmallRng::seed_from_u64(7);
        edges.set_probes(4);
        [1, 2, 1].into_iter().for_each(|registrar| fail(&mut edges, registrar, 0));
        // While another one can be used, one probe at a time is enough.
        edges.sent(EdgePortId(0), 7, Moment(40_000), rng);
        assert_eq!(edges.choose(&trunk.view(), 0, Moment(60_000)), EdgePortId(1));
        edges.ended(EdgePortId(0), true);
        for registrar in [1, 2, 1] {
            edges.failed(EdgePortId(1), registrar, Some(registrar), false, Moment(60_000), rng);
        }
        let (mut at, mut sent) = (Moment(70_000), 0);
        let urgency = (true, Moment(0), crate::registration::Priority::Retry);
        edges.wait(EdgePortId(0), 1, urgency, 100, 0);
        while let Some(next) = edges.next_at().filter(|next| *next <= Moment(110_000)) {
            at = at.max(next);
            let slot = edges.next_probe(at, |_, _| true, none).expect("it waits");
            edges.sent(EdgePortId(0), slot, at, rng);
            edges.wait(EdgePortId(0), 1, urgency, slot + 1, 0);
            sent += 1;
        }
        assert_eq!(sent, 4, "as many as may be under way, and none has ended");
        assert!(at <= Moment(100_010), "10 s apart at most: {at:?}");
        edges.ended(EdgePortId(0), true);
        assert!(edges.next_at().is_some());
    }

    #[test]
    fn where_all_are_down_each_is_probed_and_the_first_that_is_back_takes_all() {
        let (trunk, mut edges) = (trunk(), edges());
        let rng = &mut SmallRng::seed_from_u64(5);
        [1, 2, 1].into_iter().for_each(|registrar| fail(&mut edges, registrar, 0));
        for registrar in [1, 2, 1] {
            edges.failed(EdgePortId(1), registrar, Some(registrar), false, Moment(100), rng);
        }
        let urgency = (true, Moment(0), crate::registration::Priority::Retry);
        edges.wait(EdgePortId(0), 1, urgency, 1, 0);
        edges.wait(EdgePortId(1), 1, urgency, 2, 0);
        for id in [EdgePortId(0), EdgePortId(1)] {
            assert_eq!(
                edges.passage(id, 9, Moment(10_100)),
                EdgePortAdmission::Open,
                "{id:?} is probed within ten seconds"
            );
        }
        let (_, mut waiting) = edges.responded(EdgePortId(1), Moment(10_100), Moment(10_120)).unwrap();
        waiting.sort_unstable();
        assert_eq!(waiting, [(1, 0), (2, 0)]);
        assert_eq!(edges.choose(&trunk.view(), 0, Moment(200)), EdgePortId(1));
    }

    #[test]
    fn an_address_of_the_store_is_found_or_remembered() {
        let mut edges = edges();
        assert_eq!(edges.of_key("10.0.0.2:5060"), Some(EdgePortId(1)));
        assert_eq!(edges.of_key("[2001:db8::1]:5070"), Some(EdgePortId(2)));
        assert_eq!(edges.address(EdgePortId(2)), HostPort::new("2001:db8::1", 5070));
        assert_eq!((edges.of_key("nothing"), edges.len()), (None, 2));
        edges.configure(&[]);
        assert_eq!(
            edges.address(EdgePortId(0)),
            HostPort::new("10.0.0.1", 5060),
            "it is forgotten with the configuration"
        );
    }
}
