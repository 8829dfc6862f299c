//! EdgePorts, and which of them are silent at the moment.
//!
//! One trunk's silence proves nothing about an EdgePort: its registrar may be dead. Silences towards several registrars in a
//! row do, and then trunks pass the EdgePort over; from time to time one is let through to see whether it has recovered.

use super::packed::TrunkView;
use crate::{
    config::EdgePort,
    registration::{target, time::Moment},
    trunk::HostPort,
};

/// So many silences in a row, towards two registrars at least, and the EdgePort is passed over.
const SUSPECT_FROM: u32 = 3;
/// First and longest time that it is passed over, in milliseconds.
const SUSPECT_FOR: (u64, u64) = (30_000, 300_000);
/// How long the one that is let through may take, in milliseconds.
const TRIAL: u64 = 45_000;

#[derive(Debug)]
struct Edge {
    address: HostPort,
    shown: String,
    region: Option<String>,
    silences: u32,
    last_registrar: Option<u32>,
    several: bool,
    suspect_until: Moment,
    pause: u64,
    /// The one that was let through is under way.
    trial: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Edges(Vec<Edge>);

impl Edges {
    pub fn new(edge_ports: &[EdgePort]) -> Self {
        let edges = edge_ports.iter().map(|edge_port| Edge {
            address: edge_port.address.clone(),
            shown: edge_port.address.to_string(),
            region: edge_port.region.clone(),
            silences: 0,
            last_registrar: None,
            several: false,
            suspect_until: Moment(0),
            pause: SUSPECT_FOR.0,
            trial: false,
        });
        Self(edges.collect())
    }

    /// How many there are, 255 at most.
    pub fn len(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }

    /// The one of a rank for a trunk: position and address.
    pub fn choose(&self, trunk: &TrunkView<'_>, rank: u8, now: Moment) -> (usize, HostPort) {
        let edges =
            self.0.iter().map(|edge| (&*edge.shown, edge.region.as_deref(), edge.suspect_until <= now));
        let position = target::edge_port(trunk.reference(), trunk.region(), edges, rank);
        let address = self.0.get(position).map_or_else(|| HostPort::new("", 0), |edge| edge.address.clone());
        (position, address)
    }

    /// A request goes through an EdgePort. Where that was passed over, it is the one that is let through: the others go on
    /// passing it over until the answer is there.
    pub fn sent(&mut self, position: usize, now: Moment) {
        if let Some(edge) = self.0.get_mut(position)
            && edge.silences >= SUSPECT_FROM
            && edge.several
            && edge.suspect_until <= now
        {
            edge.trial = true;
            edge.suspect_until = now.plus(TRIAL);
        }
    }

    /// A request through an EdgePort is over.
    pub fn finished(&mut self, position: usize, registrar: u32, silent: bool, now: Moment) {
        let Some(edge) = self.0.get_mut(position) else { return };
        if !silent {
            (edge.silences, edge.several, edge.last_registrar) = (0, false, None);
            (edge.suspect_until, edge.pause, edge.trial) = (Moment(0), SUSPECT_FOR.0, false);
            return;
        }
        edge.silences += 1;
        edge.several |= edge.last_registrar.is_some_and(|last| last != registrar);
        edge.last_registrar = Some(registrar);
        if edge.silences >= SUSPECT_FROM && edge.several && (edge.trial || edge.suspect_until <= now) {
            edge.trial = false;
            edge.suspect_until = now.plus(edge.pause);
            edge.pause = (edge.pause * 2).min(SUSPECT_FOR.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::packed::PackedTrunk,
        trunk::{Transport, Trunk, TrunkUri},
    };

    fn trunk() -> PackedTrunk {
        PackedTrunk::new(&Trunk {
            reference: "t".into(),
            name: "".into(),
            region: Some("eu".into()),
            uris: vec![TrunkUri {
                user: "u".into(),
                registrar: HostPort::new("h", 5060),
                transport: Transport::Udp,
                priority: 0,
                weight: 1,
            }],
            credentials: None,
            problem: None,
        })
    }

    fn edges() -> Edges {
        let edge = |host: &str, region: &str| EdgePort {
            address: HostPort::new(host, 5060),
            region: Some(region.to_owned()),
        };
        Edges::new(&[edge("10.0.0.1", "eu"), edge("10.0.0.2", "us")])
    }

    #[test]
    fn silences_towards_one_registrar_say_nothing_of_the_edge_port() {
        let (trunk, mut edges) = (trunk(), edges());
        for _ in 0..50 {
            edges.finished(0, 1, true, Moment(0));
        }
        assert_eq!(edges.choose(&trunk.open(), 0, Moment(0)).0, 0);
    }

    #[test]
    fn a_silent_edge_port_is_passed_over_and_comes_back_when_it_has_recovered() {
        let (trunk, mut edges) = (trunk(), edges());
        for registrar in [1, 2, 1] {
            edges.finished(0, registrar, true, Moment(0));
        }
        assert_eq!(edges.choose(&trunk.open(), 0, Moment(1)).1, HostPort::new("10.0.0.2", 5060));
        // One is let through after a while, one alone; as it fails too, the wait doubles.
        assert_eq!(edges.choose(&trunk.open(), 0, Moment(30_000)).0, 0);
        edges.sent(0, Moment(30_000));
        assert_eq!(edges.choose(&trunk.open(), 0, Moment(30_000)).0, 1);
        edges.finished(0, 1, true, Moment(30_001));
        assert_eq!(edges.choose(&trunk.open(), 0, Moment(90_000)).0, 1);
        assert_eq!(edges.choose(&trunk.open(), 0, Moment(90_001)).0, 0);
        edges.finished(0, 1, true, Moment(90_001));
        edges.finished(0, 2, false, Moment(90_002));
        assert_eq!(edges.choose(&trunk.open(), 0, Moment(90_003)).0, 0);
    }
}
