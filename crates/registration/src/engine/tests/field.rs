//! Field cases: rows of their table that concern many trunks, on simulated time.

use super::{
    sim::{HOUR, MINUTE, SECOND_MS, Sim, settings},
    world::{ConcurrencyLimit, Policy, trunk},
};
use crate::{
    engine::{notice::Notice, registrars::Target},
    registration::state::TrunkState,
    trunk::Credentials,
};
use routr_types::{host::HostPort, secret::Secret};

fn at(host: &str) -> Target {
    Target { host: host.into(), port: 5060 }
}

/// Returns when each host was asked for the first time since `from`.
fn first_asked(sim: &Sim, from: u64, hosts: impl Iterator<Item = String>) -> Vec<Option<u64>> {
    hosts
        .map(|host| {
            sim.log.iter().find(|sent| sent.at >= from && sent.host == host).map(|sent| sent.at - from)
        })
        .collect()
}

/// `silent` registrars with so many trunks each, first in every order, and `well` ones with one trunk each.
fn silent_first(silent: usize, trunks_each: usize, well: usize, silent_from_start: bool) -> Sim {
    let mut sim = Sim::new(settings(1, Some(20.0)), 5).with_ours();
    sim.settings.max_in_flight = 1_000;
    let settings = sim.settings.clone();
    sim.reconfigure(settings);
    for registrar in 0..silent {
        let host = format!("a-silent-{registrar:03}");
        for n in 0..trunks_each {
            sim.put(&trunk(&format!("a-{registrar:03}-{n:02}"), &[&format!("u{n}@{host}")]));
        }
        sim.policy(&host, if silent_from_start { Policy::Silent } else { Policy::Grants(600) });
    }
    for registrar in 0..well {
        sim.put(&trunk(&format!("b-{registrar:03}"), &[&format!("u@well-{registrar:03}")]));
    }
    sim
}

fn well(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("well-{n:03}"))
}

#[test]
fn f1_every_registrar_that_answers_is_asked_within_three_seconds_of_the_start() {
    for (silent, trunks_each, healthy) in [(3, 1, 12), (6, 1, 12), (50, 20, 500), (200, 3, 200)] {
        let mut sim = silent_first(silent, trunks_each, healthy, true);
        sim.run(10 * SECOND_MS);
        let asked = first_asked(&sim, 0, well(healthy));
        let last = asked.iter().map(|at| at.unwrap_or(u64::MAX)).max().unwrap();
        assert!(last <= 3 * SECOND_MS, "{silent} silent ones: the last one was asked after {last} ms");
        assert_eq!(sim.counts().registered as usize, healthy);
    }
}

#[test]
fn f1_with_two_places_no_registrar_has_a_second_one_before_each_has_had_one() {
    let mut sim = Sim::new(settings(1, None), 5);
    for registrar in 0..12 {
        for n in 0..5 {
            sim.put(&trunk(&format!("t-{registrar:02}-{n}"), &[&format!("u{n}@r{registrar:02}")]));
        }
    }
    sim.concurrency = ConcurrencyLimit::java();
    sim.run(30 * SECOND_MS);
    let first: Vec<u64> =
        first_asked(&sim, 0, (0..12).map(|n| format!("r{n:02}"))).into_iter().flatten().collect();
    assert_eq!(first.len(), 12);
    let last = first.iter().max().unwrap();
    let seconds = sim.log.iter().filter(|sent| sent.at < *last).count();
    assert!(seconds <= 12 + 4, "{seconds} REGISTERs before the last registrar had its first");
}

#[test]
fn in_the_middle_of_a_day_silent_registrars_delay_nobody() {
    let (silent, healthy) = (50, 500);
    let mut sim = silent_first(silent, 20, healthy, false);
    sim.run(20 * MINUTE);
    assert_eq!(sim.counts().registered as usize, silent * 20 + healthy);
    for registrar in 0..silent {
        sim.policy(&format!("a-silent-{registrar:03}"), Policy::Silent);
    }
    let mut worst = 0;
    for _ in 0..60 {
        sim.run(MINUTE);
        let late =
            sim.log.iter().filter(|sent| sent.host.starts_with("well")).filter_map(|sent| sent.late_ms);
        worst = worst.max(late.max().unwrap_or(0));
        sim.forget_log();
    }
    assert!(worst <= 3 * SECOND_MS, "a refresh of a healthy trunk went out {worst} ms late");
    let healthy_now =
        (0..healthy).filter(|n| sim.state(&format!("b-{n:03}")) == TrunkState::Registered).count();
    assert_eq!(healthy_now, healthy);
}

/// A registrar with so many trunks goes down for a minute. Returns the requests that it saw meanwhile, after
/// it was noticed, and how long it took after its return until all were registered.
fn outage(trunks: usize, down: Policy, ours: bool) -> (usize, u64) {
    let mut settings = settings(1, None);
    settings.registration.expires_s = 60;
    let mut sim = Sim::new(settings, 9);
    if ours {
        sim = sim.with_ours();
    }
    (0..trunks).for_each(|n| sim.put(&trunk(&format!("t{n:04}"), &[&format!("u{n}@h")])));
    sim.run(5 * MINUTE);
    assert_eq!(sim.counts().registered as usize, trunks);
    let before = sim.registrar("h").fake.policy.clone();
    sim.policy("h", down);
    let began = sim.t;
    while sim.engine.registrars.down(&at("h")).is_none() {
        sim.run(100);
        assert!(sim.t - began < 3 * MINUTE, "the outage was not noticed");
    }
    sim.forget_log();
    sim.run(MINUTE);
    let during = sim.log.len();
    sim.policy("h", before);
    let back = sim.t;
    while (sim.counts().registered as usize) < trunks {
        sim.run(100);
        if sim.t - back >= 5 * MINUTE {
            let all: Vec<_> = (0..trunks)
                .map(|n| sim.view(&format!("t{n:04}")))
                .filter(|v| v.state != TrunkState::Registered)
                .collect();
            panic!("{:?} at {:?}", all, sim.now());
        }
    }
    (during, sim.t - back)
}

#[test]
fn a_registrar_that_is_back_has_its_trunks_back_within_fifteen_seconds() {
    for trunks in [20, 1_000] {
        for down in [Policy::Code(500), Policy::Code(503), Policy::Silent] {
            let (during, took) = outage(trunks, down.clone(), true);
            assert!(
                during <= 12,
                "{trunks} trunks, {down:?}: {during} REGISTERs into the outage within a minute"
            );
            assert!(took <= 15 * SECOND_MS, "{trunks} trunks, {down:?}: back after {took} ms");
        }
    }
    let (during, _) = outage(20, Policy::Silent, false);
    assert!(during <= 3, "{during} probes through a Requester that may have two places");
}

#[test]
fn a_probe_that_ends_after_its_registrar_is_back_waits_for_no_time_of_its_own() {
    let mut settings = settings(1, None);
    settings.registration.expires_s = 60;
    let mut sim = Sim::new(settings, 9).with_ours();
    (0..20).for_each(|n| sim.put(&trunk(&format!("t{n:02}"), &[&format!("u{n}@h")])));
    sim.run(5 * MINUTE);
    let before = sim.registrar("h").fake.policy.clone();
    sim.policy("h", Policy::Silent);
    sim.run(5 * MINUTE);
    assert!(sim.engine.registrars.down(&at("h")).is_some());
    // Nothing is sent again of what is under way: its connection is lost.
    sim.registrar("h").fake.policy = before;
    sim.run(12 * SECOND_MS);
    assert!(sim.engine.registrars.down(&at("h")).is_none());
    sim.run(25 * SECOND_MS);
    assert_eq!(sim.counts().registered, 20);
}

#[test]
fn an_edge_port_that_is_back_has_its_trunks_back_within_fifteen_seconds() {
    let mut settings = settings(1, None);
    settings.registration.expires_s = 60;
    let mut sim = Sim::new(settings, 9);
    (0..100).for_each(|n| sim.put(&trunk(&format!("t{n:04}"), &[&format!("u{n}@h{}", n % 30)])));
    sim.run(5 * MINUTE);
    sim.dead_edges.insert("edge-0.example".to_owned());
    sim.run(3 * MINUTE);
    assert!(sim.engine.summary(sim.now()).down.iter().any(|down| down.what == "edgePort"));
    sim.forget_log();
    sim.run(2 * MINUTE);
    assert!(sim.log.len() <= 24, "{} REGISTERs into the outage within two minutes", sim.log.len());
    assert!(sim.view("t0000").next.contains("EdgePort edge-0.example:5060"), "{:?}", sim.view("t0000"));
    sim.dead_edges.clear();
    sim.retransmit();
    sim.run(15 * SECOND_MS);
    let all: Vec<_> = (0..100)
        .map(|n| sim.view(&format!("t{n:04}")))
        .filter(|v| v.state != TrunkState::Registered)
        .collect();
    assert_eq!(sim.counts().registered, 100, "{:?} at {:?}", all, sim.now());
}

fn with_password(reference: &str, uris: &[&str], password: &str) -> crate::trunk::Trunk {
    let credentials = Credentials { username: "user".into(), password: Secret::new(password) };
    crate::trunk::Trunk { credentials: Some(credentials), ..trunk(reference, uris) }
}

#[test]
fn f2_a_refused_password_is_not_offered_again_by_restarts_and_edits() {
    let mut sim = Sim::with(&[with_password("t", &["u@h"], "wrong")]);
    sim.policy("h", Policy::Password("right"));
    sim.run(5 * SECOND_MS);
    for _ in 0..5 {
        sim.restart(2 * SECOND_MS, 0);
        sim.run(SECOND_MS);
    }
    assert_eq!(sim.of("t").len(), 1, "offered again by a restart");
    assert_eq!(sim.reason("t").as_deref(), Some("CredentialsRejected"));
    // Another weight, another name, another URI behind it: the same account.
    let mut edited = with_password("t", &["u@h"], "wrong");
    edited.uris[0].weight = 77;
    sim.put(&edited);
    sim.sync();
    sim.run(SECOND_MS);
    assert_eq!(sim.of("t").len(), 1, "offered again by an edit of the weight");
    // After the five minutes, once, and then after ten.
    sim.run(6 * MINUTE);
    assert_eq!(sim.of("t").len(), 2);
    sim.restart(SECOND_MS, 0);
    sim.run(9 * MINUTE);
    assert_eq!(sim.of("t").len(), 2, "the doubled wait did not outlive the restart");
    // The right password, and it is tried at once.
    sim.put(&with_password("t", &["u@h"], "right"));
    sim.sync();
    sim.run(SECOND_MS);
    assert_eq!((sim.of("t").len(), sim.state("t")), (3, TrunkState::Registered));
    let kept = format!("{:?}", sim.store);
    assert!(!kept.contains("wrong") && !kept.contains("right"), "{kept}");
}

#[test]
fn f2_what_was_refused_again_after_an_edit_is_not_offered_by_a_restart() {
    let mut sim = Sim::with(&[with_password("t", &["u@h"], "wrong")]);
    sim.policy("h", Policy::Password("right"));
    sim.run(2 * MINUTE);
    let mut edited = with_password("t", &["u@h"], "wrong");
    edited.updated_at_s = u32::try_from(sim.now().unix_ms / 1_000).unwrap();
    edited.uris[0].weight = 77;
    sim.put(&edited);
    sim.sync();
    sim.run(5 * MINUTE);
    assert_eq!(sim.of("t").len(), 2, "refused again, as it is after the edit");
    sim.restart(2 * SECOND_MS, 0);
    sim.run(7 * MINUTE);
    assert_eq!(sim.of("t").len(), 2, "offered again by a restart");
}

#[test]
fn f2_another_user_registrar_or_a_later_edit_is_tried_at_once() {
    for edit in [with_password("t", &["v@h"], "wrong"), with_password("t", &["u@other"], "wrong")] {
        let mut sim = Sim::with(&[with_password("t", &["u@h"], "wrong")]);
        sim.policy("h", Policy::Password("right"));
        sim.policy("other", Policy::Password("right"));
        sim.run(5 * SECOND_MS);
        sim.put(&edit);
        sim.sync();
        sim.run(SECOND_MS);
        assert_eq!(sim.of("t").len(), 2);
    }
    // While the process was away, as the API server says.
    let mut sim = Sim::with(&[with_password("t", &["u@h"], "wrong")]);
    sim.policy("h", Policy::Password("right"));
    sim.run(5 * SECOND_MS);
    let mut edited = with_password("t", &["u@h"], "right");
    edited.updated_at_s = u32::try_from(sim.now().unix_ms / 1_000).unwrap() + 1;
    sim.put(&edited);
    sim.restart(2 * SECOND_MS, 0);
    sim.run(SECOND_MS);
    assert_eq!(sim.state("t"), TrunkState::Registered);
}

#[test]
fn f3_what_is_removed_is_what_was_bound() {
    let mut sim = Sim::with(&[trunk("t", &["u@h"])]);
    sim.run(MINUTE);
    assert_eq!(sim.of("t")[0].edge, "edge-0.example");
    let mut other = sim.settings.clone();
    other.edge_ports[0].address = HostPort::new("edge-new.example", 5060);
    // At once, before anything is sent by the new one; in the second round after a restart.
    for restart in [false, true] {
        let mut sim = Sim::with(&[trunk("t", &["u@h"])]);
        sim.run(MINUTE);
        if restart {
            sim.settings = other.clone();
            sim.restart(SECOND_MS, 0);
            sim.sync();
        } else {
            sim.reconfigure(other.clone());
        }
        sim.remove("t");
        sim.sync();
        sim.run(MINUTE);
        let removals: Vec<_> =
            sim.of("t").iter().filter(|sent| sent.expires == 0).map(|sent| sent.edge.clone()).collect();
        assert_eq!(removals[0], "edge-0.example", "restart: {restart}");
    }
    // Refreshed by the new one: both Contacts are bound, and both are removed.
    sim.reconfigure(other);
    sim.run(3 * MINUTE);
    assert!(sim.of("t").iter().any(|sent| sent.edge == "edge-new.example"));
    sim.restart(SECOND_MS, 0);
    sim.run(SECOND_MS);
    sim.forget_log();
    sim.remove("t");
    sim.sync();
    sim.run(MINUTE);
    let mut removed: Vec<_> = sim.of("t").iter().map(|sent| (sent.expires, sent.edge.clone())).collect();
    removed.sort();
    assert_eq!(removed, [(0, "edge-0.example".to_owned()), (0, "edge-new.example".to_owned())]);
}

#[test]
fn f4_a_password_that_edge_ports_keep_offering_starts_one_loop_in_five_minutes() {
    let mut sim = Sim::new(settings(2, Some(20.0)), 4);
    (0..10).for_each(|n| sim.put(&trunk(&format!("good-{n}"), &[&format!("u{n}@h")])));
    sim.put(&with_password("wrong", &["w@h"], "wrong"));
    sim.put(&with_password("alone", &["w@own"], "wrong"));
    // Behind Routr's EdgePorts the refusal never comes back.
    sim.policy("h", Policy::SilentUnless("right"));
    sim.policy("own", Policy::SilentUnless("right"));
    sim.run(HOUR);
    let offers =
        |reference: &str, until: u64| sim.of(reference).iter().filter(|sent| sent.at < until).count();
    assert_eq!(offers("wrong", 5 * MINUTE), 1, "{:?}", sim.of("wrong"));
    assert_eq!(offers("alone", 5 * MINUTE), 2, "{:?}", sim.of("alone"));
    // 0, 5, 15, 35 minutes, and half a minute for each.
    assert!(offers("wrong", HOUR) <= 5, "{:?}", sim.of("wrong").len());
    for reference in ["wrong", "alone"] {
        assert_eq!(sim.reason(reference).as_deref(), Some("CredentialsRejected"));
    }
    assert_eq!(
        sim.of("wrong").iter().map(|sent| &sent.edge).collect::<std::collections::HashSet<_>>().len(),
        1
    );
    assert_eq!(sim.counts().registered, 10);
}

#[test]
fn f5_an_outage_is_no_matter_of_the_budget() {
    let trunks: Vec<_> = (0..20).map(|n| trunk(&format!("t{n:02}"), &[&format!("u{n}@h")])).collect();
    for requester_down in [false, true] {
        let mut settings = settings(1, Some(20.0));
        settings.registration.expires_s = 60;
        let mut sim = Sim::new(settings, 3).with_ours();
        trunks.iter().for_each(|trunk| sim.put(trunk));
        sim.run(5 * MINUTE);
        if requester_down {
            sim.concurrency = ConcurrencyLimit::Down
        } else {
            sim.policy("h", Policy::Silent)
        }
        for _ in 0..60 {
            sim.run(2 * SECOND_MS);
            let summary = sim.engine.summary(sim.now());
            assert!(summary.over_budget.is_empty(), "{:?} at {}", summary.over_budget, sim.t);
        }
    }
    // It is what is missing.
    let mut settings = settings(1, Some(0.2));
    settings.registration.expires_s = 60;
    let mut sim = Sim::new(settings, 3).with_ours();
    trunks.iter().for_each(|trunk| sim.put(trunk));
    let mut said = false;
    for _ in 0..60 {
        sim.run(5 * SECOND_MS);
        said |= sim.engine.summary(sim.now()).over_budget == ["h"];
    }
    assert!(said);
}

#[test]
fn changes_of_what_is_shared_are_said_once() {
    let trunks: Vec<_> = (0..20).map(|n| trunk(&format!("t{n:02}"), &[&format!("u{n}@h")])).collect();
    let mut sim = Sim::with(&trunks).with_ours();
    sim.run(MINUTE);
    sim.policy("h", Policy::Code(500));
    sim.run(20 * MINUTE);
    sim.policy("h", Policy::Grants(600));
    sim.run(MINUTE);
    sim.concurrency = ConcurrencyLimit::Down;
    sim.refresh("t00");
    sim.run(MINUTE);
    sim.concurrency = ConcurrencyLimit::Up;
    sim.run(MINUTE);
    let said: Vec<_> = sim.notices.iter().map(std::mem::discriminant).collect();
    assert_eq!(said.len(), 4, "{:?}", sim.notices);
    assert!(matches!(&sim.notices[0], Notice::RegistrarDown { message, .. } if message.contains("500")));
    assert!(matches!(&sim.notices[1], Notice::RegistrarBack { after_ms, .. } if *after_ms > MINUTE));
    assert!(matches!(&sim.notices[2], Notice::RequesterDown { .. }));
    assert!(matches!(&sim.notices[3], Notice::RequesterBack { .. }));
}

#[test]
fn a_silent_registrar_on_the_last_place_does_not_delay_a_deregistration() {
    let mut settings = settings(1, Some(20.0));
    settings.max_in_flight = 1;
    let mut sim = Sim::new(settings, 2);
    (0..5).for_each(|n| sim.put(&trunk(&format!("s{n}"), &[&format!("u{n}@silent")])));
    sim.put(&trunk("gone", &["u@well"]));
    sim.run(5 * MINUTE);
    sim.policy("silent", Policy::Silent);
    sim.run(20 * MINUTE);
    sim.remove("gone");
    sim.run(20 * MINUTE);
    assert!(!sim.bound("gone", "u@well"), "{:?}", sim.of("gone"));
}

#[test]
fn two_uris_that_redirect_to_a_registrar_that_is_down_are_not_asked_in_turn_for_ever() {
    let mut sim = Sim::with(&[trunk("t", &["u@one", "u@two"])]).with_ours();
    for n in 0..5 {
        sim.put(&trunk(&format!("other-{n}"), &[&format!("u{n}@down")]));
    }
    sim.policy("one", Policy::moved(301, "down", None));
    sim.policy("two", Policy::moved(301, "down", None));
    sim.policy("down", Policy::Code(503));
    sim.run(10 * MINUTE);
    let sent = sim.of("t").len();
    assert!(sent < 60, "{sent} REGISTERs in ten minutes");
    sim.policy("down", Policy::Grants(600));
    sim.run(HOUR);
    assert_eq!(sim.state("t"), TrunkState::Registered);
}

#[test]
fn trunks_that_wait_for_a_registrar_that_is_down_say_so_and_are_no_longer_well() {
    let mut settings = settings(1, None);
    settings.registration.expires_s = 60;
    let mut sim = Sim::new(settings, 9).with_ours();
    (0..20).for_each(|n| sim.put(&trunk(&format!("t{n:02}"), &[&format!("u{n}@h")])));
    sim.run(5 * MINUTE);
    sim.policy("h", Policy::Code(503));
    sim.run(40 * SECOND_MS);
    let counts = sim.counts();
    assert_eq!((counts.registered, counts.at_risk + counts.failing), (0, 20), "{counts:?}");
    let views: Vec<_> = (0..20).map(|n| sim.view(&format!("t{n:02}"))).collect();
    let waiting: Vec<_> = views.iter().filter(|view| view.failures == 0 && !view.in_flight).collect();
    assert!(waiting.len() >= 10, "{views:?}");
    for view in waiting {
        let failure = view.failure.clone().unwrap();
        assert_eq!(failure.reason, "RegistrarDown");
        assert!(
            failure.message.starts_with("registrar h:5060 is down: the registrar responded with 503"),
            "{failure:?}"
        );
        assert!(failure.since_ms < sim.now().unix_ms);
        assert_eq!(view.next, "waiting for registrar h:5060, which is down");
    }
    let by_reason = sim.engine.failures(50, sim.now()).by_reason;
    assert!(by_reason["RegistrarDown"] >= 10, "{by_reason:?}");
    // A person's wish goes out at once.
    sim.forget_log();
    sim.refresh("t07");
    sim.run(100);
    assert_eq!((sim.log.len(), sim.of("t07").len()), (1, 1));
    sim.policy("h", Policy::Grants(600));
    sim.run(15 * SECOND_MS);
    assert_eq!(sim.counts().registered, 20);
}

#[test]
fn a_failover_and_the_failback_are_counted_and_have_a_line_each() {
    let mut sim = Sim::new(settings(1, None), 5);
    sim.put(&trunk("t", &["u@first", "u@second"]));
    sim.put(&trunk("other", &["u@third"]));
    sim.run(10 * SECOND_MS);
    let over = |sim: &mut Sim| sim.engine.summary(sim.now()).failed_over;
    assert_eq!(over(&mut sim), 0);
    sim.transitions.clear();
    sim.policy("first", Policy::Code(500));
    sim.run(HOUR);
    assert_eq!((over(&mut sim), sim.view("t").failed_over), (1, true));
    let moved = std::mem::take(&mut sim.transitions);
    let said = |moved: &[crate::engine::Transition]| {
        let last = moved.iter().rev().find(|one| one.reference == "t").expect("a line");
        (last.registrar.clone(), last.failed_over, last.to)
    };
    assert_eq!(said(&moved), ("second".to_owned(), true, TrunkState::Registered));
    assert!(moved.iter().all(|one| !one.edge_port.is_empty()));
    sim.policy("first", Policy::Grants(600));
    sim.run(2 * HOUR);
    assert_eq!((over(&mut sim), sim.view("t").failed_over), (0, false));
    assert_eq!(said(&sim.transitions), ("first".to_owned(), false, TrunkState::Registered));
    // One that is removed is counted no longer.
    sim.policy("first", Policy::Code(500));
    sim.run(HOUR);
    assert_eq!(over(&mut sim), 1);
    sim.remove("t");
    sim.run(HOUR);
    assert_eq!(over(&mut sim), 0);
}

#[test]
fn a_trunk_whose_registrar_the_others_have_left_has_that_to_itself() {
    let mut sim = Sim::new(settings(2, Some(20.0)), 4);
    sim.put(&trunk("gone", &["u@own"]));
    sim.policy("own", Policy::SilentUnless("right"));
    sim.run(10 * MINUTE);
    assert_eq!(sim.state("gone"), TrunkState::Registered);
    sim.remove("gone");
    sim.sync();
    sim.run(5 * MINUTE);
    sim.put(&with_password("alone", &["w@own"], "wrong"));
    sim.sync();
    sim.run(5 * MINUTE);
    assert_eq!(sim.reason("alone").as_deref(), Some("CredentialsRejected"), "{:?}", sim.of("alone"));
}

#[test]
fn a_refusal_that_a_clock_ahead_wrote_waits_no_longer_than_any_other() {
    let mut sim = Sim::with(&[with_password("t", &["u@h"], "wrong")]);
    sim.policy("h", Policy::Password("right"));
    sim.skew = 48 * i64::try_from(HOUR).unwrap();
    sim.run(5 * SECOND_MS);
    assert_eq!(sim.of("t").len(), 1);
    sim.skew = 0;
    sim.restart(2 * SECOND_MS, 0);
    sim.run(4 * MINUTE);
    assert_eq!(sim.of("t").len(), 1);
    sim.run(2 * MINUTE);
    assert_eq!(sim.of("t").len(), 2);
}

#[test]
fn a_registrar_that_is_another_trunks_backup_is_not_a_trunks_own() {
    let mut sim = Sim::new(settings(1, Some(20.0)), 4);
    sim.put(&trunk("other", &["u@its", "u@shared"]));
    sim.put(&trunk("t", &["w@shared"]));
    sim.policy("shared", Policy::Silent);
    sim.run(10 * MINUTE);
    assert_eq!(sim.state("other"), TrunkState::Registered);
    assert_ne!(sim.reason("t").as_deref(), Some("CredentialsRejected"), "{:?}", sim.of("t"));
    // Nor is it by another spelling.
    sim.put(&trunk("other", &["u@its", "u@SHARED"]));
    sim.sync();
    sim.run(HOUR);
    assert_ne!(sim.reason("t").as_deref(), Some("CredentialsRejected"), "{:?}", sim.of("t"));
}

#[test]
fn a_probe_of_the_preferred_edge_port_waits_for_new_trunks_and_never_too_long() {
    for seed in 0..4 {
        let mut sim = Sim::new(settings(2, Some(0.5)), seed);
        sim.put(&trunk("t", &["u@h"]));
        sim.run(MINUTE);
        let edge = |sim: &Sim| sim.of("t").last().map(|sent| sent.edge.clone()).unwrap();
        let preferred = edge(&sim);
        sim.dead_edges.insert(preferred.clone());
        while sim.state("t") != TrunkState::Registered || edge(&sim) == preferred {
            sim.run(SECOND_MS);
        }
        sim.dead_edges.clear();
        // Seven minutes' worth of the budget.
        (0..200).for_each(|n| sim.put(&trunk(&format!("n{n:03}"), &[&format!("u{n}@h")])));
        sim.sync();
        sim.forget_log();
        for _ in 0..200 {
            sim.run(10 * SECOND_MS);
            assert_eq!(sim.state("t"), TrunkState::Registered, "seed {seed}");
        }
        let early = sim.log.iter().take(100).filter(|sent| sent.trunk == "t").count();
        assert_eq!(early, 0, "seed {seed}: it is registered, and others are not");
        assert_eq!(edge(&sim), preferred, "seed {seed}");
    }
}
