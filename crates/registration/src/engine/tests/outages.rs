//! The end of an outage: who waited for it goes on at once, wherever its last try went.

use routr_types::secret::Secret;

use super::{
    sim::{MINUTE, SECOND_MS, Sim, settings},
    world::{self, Policy, SILENCE},
};
use crate::{
    engine::notice::Notice,
    registration::state::TrunkState,
    trunk::{Credentials, Trunk},
};

/// A Requester that says how much it takes, and sends through EdgePorts.
fn sim(edges: u8, seed: u64) -> Sim {
    let mut settings = settings(edges, None);
    settings.registration.expires_s = 60;
    let mut sim = Sim::new(settings, seed).with_ours();
    sim.ours = false;
    sim
}

/// Without a password: silence cannot be a refused one.
fn trunk(reference: &str, uris: &[&str]) -> Trunk {
    Trunk { credentials: None, ..world::trunk(reference, uris) }
}

fn unregistered(sim: &Sim, count: usize) -> Vec<String> {
    let all = (0..count).map(|n| format!("t{n:03}"));
    all.filter(|reference| sim.state(reference) != TrunkState::Registered).collect()
}

#[test]
fn an_edge_port_is_back_though_what_was_sent_before_is_unanswered() {
    for seed in 0..8 {
        let mut sim = sim(1, seed);
        (0..100).for_each(|n| sim.put(&trunk(&format!("t{n:03}"), &[&format!("u{n}@h{}", n % 30)])));
        sim.run(5 * MINUTE);
        sim.dead_edges.insert("edge-0.example".to_owned());
        sim.run(3 * MINUTE + seed * 4 * SECOND_MS);
        sim.forget_log();
        sim.run(2 * MINUTE);
        assert!(sim.log.len() <= 24, "{} REGISTERs into the outage within two minutes", sim.log.len());
        // Nothing is sent again of what is under way: it went by TCP.
        sim.dead_edges.clear();
        sim.run(15 * SECOND_MS);
        let left = unregistered(&sim, 100);
        assert!(left.len() <= 7, "seed {seed}: only what is under way may be left: {left:?}");
        sim.run(SILENCE);
        assert_eq!(unregistered(&sim, 100), [""; 0], "seed {seed}");
    }
}

#[test]
fn a_registrar_that_came_back_while_the_backup_was_tried_is_asked_after_that() {
    for seed in 0..30 {
        let mut sim = sim(1, seed);
        sim.put(&trunk("t000", &["u@a", "u@b"]));
        (1..7).for_each(|n| sim.put(&trunk(&format!("t{n:03}"), &[&format!("u{n}@a")])));
        // The EdgePort works.
        (0..20).for_each(|n| sim.put(&trunk(&format!("w{n:03}"), &[&format!("u{n}@w{n}")])));
        sim.policy("b", Policy::Silent);
        sim.run(5 * MINUTE);
        let before = sim.registrar("a").fake.policy.clone();
        sim.policy("a", Policy::Silent);
        sim.run(10 * MINUTE + seed * 3 * SECOND_MS);
        sim.registrar("a").fake.policy = before;
        // One that is under way to a, a pause, and one to b.
        sim.run(2 * SILENCE + 25 * SECOND_MS);
        assert_eq!(unregistered(&sim, 7), [""; 0], "seed {seed}: {:?}", sim.view("t000"));
    }
}

#[test]
fn a_trunk_whose_next_edge_port_is_down_waits_for_one_that_is_back() {
    for seed in 0..10 {
        let mut sim = sim(3, seed);
        (0..60).for_each(|n| sim.put(&trunk(&format!("t{n:03}"), &[&format!("u{n}@h{}", n % 20)])));
        sim.run(5 * MINUTE);
        for edge in ["edge-0.example", "edge-1.example"] {
            sim.dead_edges.insert(edge.to_owned());
            sim.run(MINUTE);
        }
        sim.run(MINUTE);
        sim.dead_edges.insert("edge-2.example".to_owned());
        sim.run(10 * MINUTE);
        sim.dead_edges.clear();
        sim.run(15 * SECOND_MS + SILENCE);
        assert_eq!(unregistered(&sim, 60), [""; 0], "seed {seed}");
    }
}

#[test]
fn who_waits_for_a_registrar_goes_to_the_other_one_when_that_is_back() {
    for (seed, back) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        let mut sim = sim(1, seed);
        for n in 0..60 {
            let uris = ["a", "b"].map(|host| format!("u{n}@{host}"));
            sim.put(&trunk(&format!("t{n:03}"), &[&uris[0], &uris[1]]));
        }
        (0..20).for_each(|n| sim.put(&trunk(&format!("w{n:03}"), &[&format!("u{n}@w{n}")])));
        sim.run(5 * MINUTE);
        let before = sim.registrar("a").fake.policy.clone();
        sim.policy("a", Policy::Silent);
        sim.policy("b", Policy::Silent);
        sim.run(10 * MINUTE);
        sim.registrar(back).fake.policy = before;
        sim.run(15 * SECOND_MS);
        let left = unregistered(&sim, 60);
        assert!(left.len() <= 14, "seed {seed}: only what is under way may be left: {left:?}");
        sim.run(2 * SILENCE + 25 * SECOND_MS);
        assert_eq!(unregistered(&sim, 60), [""; 0], "seed {seed}");
    }
}

#[test]
fn an_outage_that_only_removals_meet_with_is_reported_with_what_they_were_told() {
    let mut sim = sim(1, 4);
    (0..40).for_each(|n| sim.put(&trunk(&format!("t{n:03}"), &[&format!("u{n}@a")])));
    sim.run(MINUTE);
    sim.policy("a", Policy::Code(503));
    (0..8).for_each(|n| sim.remove(&format!("t{n:03}")));
    sim.sync();
    sim.run(SECOND_MS);
    let message = sim.notices.iter().find_map(|notice| match notice {
        Notice::RegistrarDown { message, .. } => Some(message.as_str()),
        _ => None,
    });
    assert!(message.is_some_and(|message| message.contains("503")), "{:?}", sim.notices);
}

#[test]
fn registrars_that_are_silent_from_the_start_are_no_edge_port_that_is_down() {
    for seed in 0..10 {
        let mut sim = Sim::new(settings(1, None), seed);
        for n in 0..18 {
            sim.put(&trunk(&format!("s{n:02}"), &[&format!("u@s{n}")]));
            sim.policy(&format!("s{n}"), Policy::Silent);
        }
        // One that the EdgePort is seen to work for, and others that are asked later.
        let good = ["a00".to_owned()].into_iter().chain((0..10).map(|n| format!("w{n:02}")));
        let good: Vec<String> = good.collect();
        good.iter().for_each(|name| sim.put(&trunk(name, &[&format!("u@{name}")])));
        sim.run(4 * MINUTE);
        let down = sim.notices.iter().find(|notice| matches!(notice, Notice::EdgePortDown { .. }));
        assert!(down.is_none(), "seed {seed}: {down:?}");
        let left: Vec<_> = good.iter().filter(|name| sim.state(name) != TrunkState::Registered).collect();
        assert!(left.is_empty(), "seed {seed}: {left:?}");
    }
}

#[test]
fn no_few_silent_registrars_have_all_the_probes_of_edge_ports_while_the_others_expire() {
    for seed in 0..6 {
        let mut settings = settings(2, None);
        settings.registration.interval_ms = 5 * MINUTE;
        settings.max_in_flight = 2;
        let mut sim = Sim::new(settings, seed);
        // The silent ones are due first, and so are their next tries.
        for (kind, count) in [("s", 14), ("w", 16)] {
            (0..count).for_each(|n| sim.put(&trunk(&format!("{kind}{n:03}"), &[&format!("u@{kind}{n}")])));
            sim.sync();
            sim.run(20 * SECOND_MS);
        }
        (0..14).for_each(|n| sim.policy(&format!("s{n}"), Policy::Silent));
        for step in 0..200 {
            sim.run(10 * SECOND_MS);
            let expired = (0..16).filter(|n| !sim.bound(&format!("w{n:03}"), &format!("u@w{n}")));
            let expired: Vec<i32> = expired.collect();
            assert!(expired.is_empty(), "seed {seed}, after {step}0 s: {expired:?}");
        }
    }
}

#[test]
fn a_refresh_that_alone_is_silent_does_not_have_all_the_probes_of_its_registrar() {
    for seed in 0..10 {
        let mut settings = settings(1, None);
        settings.registration.expires_s = 3_600;
        settings.registration.interval_ms = 20 * MINUTE;
        let mut sim = Sim::new(settings, seed);
        (0..20).for_each(|n| sim.put(&world::trunk(&format!("w{n:03}"), &[&format!("u{n}@w{n}")])));
        sim.put(&world::trunk("t000", &["u@a"]));
        sim.sync();
        sim.run(30 * MINUTE);
        sim.policy("a", Policy::Silent);
        sim.run(10 * MINUTE);
        // The others are new, have no binding to lose, and so are less urgent.
        (1..5).for_each(|n| {
            let credentials = Some(Credentials { username: "auth".into(), password: Secret::new("new") });
            sim.put(&Trunk { credentials, ..world::trunk(&format!("t{n:03}"), &[&format!("u{n}@a")]) });
        });
        sim.sync();
        sim.run(2 * MINUTE);
        assert!(sim.notices.iter().any(|notice| matches!(notice, Notice::RegistrarDown { .. })), "{seed}");
        sim.policy("a", Policy::SilentUnless("new"));
        // One that is under way, a pause, and a probe each by the refresh and by those that waited less long.
        sim.run(3 * (SILENCE + 10 * SECOND_MS));
        let left: Vec<String> = unregistered(&sim, 5).into_iter().filter(|one| one != "t000").collect();
        assert!(left.is_empty(), "seed {seed}: {left:?}");
    }
}
