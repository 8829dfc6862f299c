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
        tls_uri_scheme: None,
        outbound_proxy: None,
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
    assert_eq!(edges.choose(&trunk.view(), EdgePortRank::FIRST, Moment(0)), EdgePortId(0));
}

#[test]
fn a_silent_edge_port_is_passed_over_and_comes_back_when_it_has_recovered() {
    let (trunk, mut edges) = (trunk(), edges());
    let rng = &mut SmallRng::seed_from_u64(1);
    [1, 2, 1].into_iter().for_each(|registrar| fail(&mut edges, registrar, 0));
    assert_eq!(
        edges.address(edges.choose(&trunk.view(), EdgePortRank::FIRST, Moment(1))),
        HostPort::new("10.0.0.2", 5060)
    );
    // One is let through after a while, one alone; as it fails too, the wait grows.
    let at = Moment(120_000);
    assert_eq!(edges.choose(&trunk.view(), EdgePortRank::FIRST, at), EdgePortId(0));
    assert!(edges.sent(EdgePortId(0), 7, at, rng));
    assert_eq!(edges.choose(&trunk.view(), EdgePortRank::FIRST, at), EdgePortId(1));
    fail(&mut edges, 1, 152_000);
    edges.ended(EdgePortId(0), true);
    assert_eq!(edges.choose(&trunk.view(), EdgePortRank::FIRST, Moment(170_000)), EdgePortId(1));
    let (since, waiting) = edges.responded(EdgePortId(0), Moment(180_000), Moment(180_020)).unwrap();
    assert_eq!((since, waiting.len()), (Moment(0), 0));
    assert_eq!(edges.choose(&trunk.view(), EdgePortRank::FIRST, Moment(180_001)), EdgePortId(0));
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
        assert_eq!(edges.admission(EdgePortId(0), slot, Moment(1)), EdgePortAdmission::Closed);
        edges.wait(EdgePortId(0), slot, urgency(u64::from(10 - slot)), slot, 0);
    }
    assert_eq!(edges.next_probe(Moment(1), |_, _| true, none), None);
    let at = edges.next_at().unwrap();
    assert!((5_000..=10_000).contains(&at.0));
    assert_eq!(edges.next_probe(at, |_, _| true, none), Some(3), "not the most urgent one");
    assert_eq!(edges.next_probe(at, |_, _| true, none), None, "one at a time");
    assert_eq!(edges.admission(EdgePortId(0), 3, at), EdgePortAdmission::Open);
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
    assert_eq!(edges.choose(&trunk.view(), EdgePortRank::FIRST, Moment(50)), EdgePortId(0));
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
    assert_eq!(edges.choose(&trunk.view(), EdgePortRank::FIRST, Moment(60_000)), EdgePortId(1));
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
            edges.admission(id, 9, Moment(10_100)),
            EdgePortAdmission::Open,
            "{id:?} is probed within ten seconds"
        );
    }
    let (_, mut waiting) = edges.responded(EdgePortId(1), Moment(10_100), Moment(10_120)).unwrap();
    waiting.sort_unstable();
    assert_eq!(waiting, [(1, 0), (2, 0)]);
    assert_eq!(edges.choose(&trunk.view(), EdgePortRank::FIRST, Moment(200)), EdgePortId(1));
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
