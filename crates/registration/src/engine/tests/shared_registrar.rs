//! Facts that the trunks of one registrar share, and the moves from target to target.

use super::{
    sim::{HOUR, MINUTE, SECOND_MS, Sent, Sim, settings},
    world::{Policy, trunk},
};
use crate::{
    registration::{Purpose, state::TrunkState},
    trunk::{OutboundProxy, Trunk},
};

#[test]
fn a_503_with_retry_after_holds_for_all_trunks_of_that_registrar_and_no_other() {
    let trunks: Vec<_> = (0..40)
        .map(|n| trunk(&format!("t{n:05}"), &[&format!("u{n}@{}", ["busy", "well"][n % 2])]))
        .collect();
    let mut sim = Sim::with(&trunks);
    sim.policy("busy", Policy::busy(900));
    sim.run(14 * MINUTE);
    assert_eq!(sim.counts().registered, 20);
    let asked = sim.log.iter().filter(|sent| sent.host == "busy").count();
    assert!(asked <= 4, "{asked} REGISTERs, all in flight when it said so");
    sim.policy("busy", Policy::Grants(600));
    sim.run(3 * MINUTE);
    assert_eq!(sim.counts().registered, 40);
}

#[test]
fn n9_budgets_and_outages_count_by_the_outbound_proxy() {
    let behind = |number: usize, proxy: &str| {
        let proxy = OutboundProxy { host: proxy.into(), port: Some(5070), transport: None };
        let reference = format!("t{number:05}");
        let uri = format!("u{number}@domain{number}");
        Trunk { outbound_proxy: Some(proxy), ..trunk(&reference, &[uri.as_str()]) }
    };
    let trunks: Vec<_> = (0..40).map(|number| behind(number, ["busy", "well"][number % 2])).collect();
    let mut sim = Sim::with(&trunks);
    sim.policy("busy", Policy::busy(900));
    sim.run(14 * MINUTE);
    assert_eq!(sim.counts().registered, 20);
    assert!(sim.log.iter().all(|sent| ["busy", "well"].contains(&&*sent.host) && sent.port == 5070));
    let asked = sim.log.iter().filter(|sent| sent.host == "busy").count();
    assert!(asked <= 4, "{asked} REGISTERs, all in flight when it said so");
    assert!(sim.view("t00000").aor.ends_with("@domain0"));
    sim.policy("busy", Policy::Grants(600));
    sim.run(3 * MINUTE);
    assert_eq!(sim.counts().registered, 40);
    // Another proxy, or none any more: it registers there soon.
    sim.forget_log();
    sim.put(&behind(0, "other"));
    sim.put(&Trunk { outbound_proxy: None, ..behind(1, "well") });
    sim.sync();
    sim.run(MINUTE);
    let hosts = |reference| sim.of(reference).iter().map(|sent| sent.host.clone()).collect::<Vec<_>>();
    assert!(hosts("t00000").contains(&"other".to_owned()), "{:?}", hosts("t00000"));
    assert!(hosts("t00001").contains(&"domain1".to_owned()), "{:?}", hosts("t00001"));
    assert_eq!(sim.counts().registered, 40);
}

#[test]
fn retry_after_of_a_registrar_sends_its_trunks_to_their_other_one() {
    let mut sim = Sim::new(settings(1, Some(1.0)), 1);
    for n in 0..20 {
        sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@busy"), &format!("u{n}@spare")]));
    }
    sim.policy("busy", Policy::busy(3_600));
    sim.run(MINUTE);
    assert_eq!(sim.counts().registered, 20, "they waited in the queue of the one that wants no request");
    sim.policy("busy", Policy::Grants(600));
    sim.run(90 * MINUTE);
    assert!((0..20).all(|n| sim.view(&format!("t{n:05}")).aor.ends_with("@busy")), "not back");
}

#[test]
fn min_expires_is_remembered_for_the_registrar() {
    let trunks: Vec<_> = (0..30).map(|n| trunk(&format!("t{n:05}"), &[&format!("u{n}@h0")])).collect();
    let mut sim = Sim::with(&trunks[..1]);
    sim.policy("h0", Policy::AtLeast(1_800));
    sim.run(SECOND_MS);
    assert_eq!(sim.log.iter().map(|sent| sent.expires).collect::<Vec<_>>(), [600, 1_800]);
    trunks.iter().for_each(|trunk| sim.put(trunk));
    sim.sync();
    sim.forget_log();
    sim.run(2 * HOUR);
    // It is forgotten after an hour, and learned again by the next trunk that is refreshed.
    let as_learned = |sent: &&Sent| sent.expires == 1_800 && sent.code == Some(200);
    let (learned, others): (Vec<_>, Vec<_>) = sim.log.iter().partition(as_learned);
    assert!(learned.len() > 100 && others.len() <= 4, "{others:?}");
    assert!(others.iter().all(|sent| sent.expires == 600 && sent.code == Some(423)), "{others:?}");
    // Without Min-Expires it is doubled.
    let mut sim = Sim::with(&trunks[..1]);
    sim.policy("h0", Policy::AtLeastUntold(2_000));
    sim.run(SECOND_MS);
    assert_eq!(sim.log.iter().map(|sent| sent.expires).collect::<Vec<_>>(), [600, 1_200, 2_400]);
}

#[test]
fn refused_option_tags_are_left_out_until_the_configured_ones_change() {
    let mut sim = Sim::with(&[trunk("t", &["u@h0"])]);
    sim.policy("h0", Policy::RefusesTags(true));
    sim.run(20 * MINUTE);
    assert_eq!(sim.log.iter().map(|sent| sent.without_tags).take(3).collect::<Vec<_>>(), [0, 1, 1]);
    sim.policy("h0", Policy::Grants(600));
    let mut settings = sim.settings.clone();
    settings.registration.tags = vec!["path".into(), "gin".into()];
    sim.reconfigure(settings);
    sim.forget_log();
    sim.run(20 * MINUTE);
    assert!(sim.log.iter().all(|sent| sent.without_tags == 0), "bits of the old tags were kept");
}

/// Two registrars; the preferred one fails, the other takes over.
fn on_the_backup(granted: u32) -> Sim {
    let mut sim = Sim::with(&[trunk("t", &["u@first", "u@second"])]);
    sim.policy("first", Policy::Code(500));
    sim.policy("second", Policy::Grants(granted));
    sim.run(5 * SECOND_MS);
    assert_eq!(sim.view("t").aor, "u@second");
    sim
}

#[test]
fn failover_to_a_backup_is_at_once_and_failback_when_the_preferred_one_has_recovered() {
    for granted in [60, 120, 600] {
        let mut sim = on_the_backup(granted);
        assert_eq!(sim.state("t"), TrunkState::Registered);
        sim.run(HOUR);
        assert!(sim.log.iter().filter(|s| s.host == "second").all(|s| s.code == Some(200)));
        sim.policy("first", Policy::Grants(600));
        sim.run(45 * MINUTE);
        assert_eq!(sim.view("t").aor, "u@first", "granted {granted}");
        sim.forget_log();
        sim.run(HOUR);
        assert!(sim.log.iter().all(|sent| sent.host == "first"));
    }
}

#[test]
fn failback_of_a_trunk_that_was_on_its_backup_after_a_restart() {
    let mut sim = on_the_backup(600);
    sim.restart(10 * SECOND_MS, 0);
    sim.run(5 * SECOND_MS);
    assert_eq!((sim.view("t").aor.as_str(), sim.state("t")), ("u@second", TrunkState::Registered));
    sim.policy("first", Policy::Grants(600));
    sim.run(90 * MINUTE);
    assert_eq!(sim.view("t").aor, "u@first");
}

#[test]
fn what_the_preferred_registrar_responds_to_a_failback_probe_is_heeded() {
    // A password that it refuses is not offered more often than anywhere (the checks see to that).
    let mut sim = on_the_backup(600);
    sim.policy("first", Policy::Password("other"));
    sim.run(12 * HOUR);
    let probes = sim.log.iter().filter(|s| s.purpose == Purpose::Probe && s.code == Some(403)).count();
    assert!((8..=20).contains(&probes), "{probes} probes in twelve hours");
    // It asks to wait: also through a probe, for all (the checks see to that).
    let mut sim = on_the_backup(600);
    sim.policy("first", Policy::busy(3_000));
    sim.run(3 * HOUR);
    let probes = sim.log.iter().filter(|sent| sent.host == "first").count();
    assert!(probes <= 6, "{probes} requests in three hours");
    // It is back, but wants something else than before.
    for policy in [Policy::AtLeast(900), Policy::RefusesTags(true), Policy::moved(302, "elsewhere", None)] {
        let mut sim = on_the_backup(600);
        sim.policy("first", policy.clone());
        sim.run(HOUR);
        assert_eq!(
            (sim.view("t").aor.as_str(), sim.state("t")),
            ("u@first", TrunkState::Registered),
            "{policy:?}"
        );
    }
}

#[test]
fn when_the_backup_fails_the_preferred_one_that_refused_the_password_is_left_alone() {
    for policy in [Policy::Code(500), Policy::Silent, Policy::busy(900)] {
        let mut sim = on_the_backup(600);
        sim.policy("first", Policy::Password("other"));
        sim.run(3 * MINUTE);
        assert_eq!(sim.log.last().map(|sent| (sent.purpose, sent.code)), Some((Purpose::Probe, Some(403))));
        let refused_at = sim.t;
        sim.policy("second", policy.clone());
        sim.refresh("t");
        sim.run(HOUR);
        let again = sim.log.iter().find(|sent| sent.host == "first" && sent.at > refused_at).unwrap().at;
        assert!(again >= refused_at + 2 * MINUTE, "{policy:?}: after {} ms", again - refused_at);
    }
}

#[test]
fn a_probe_that_stays_silent_costs_no_binding() {
    for granted in [45, 50, 60, 90, 120, 300] {
        let mut sim = on_the_backup(granted);
        sim.policy("first", Policy::Silent);
        for _ in 0..720 {
            sim.run(10 * SECOND_MS);
            assert_eq!(sim.state("t"), TrunkState::Registered, "granted {granted}");
        }
    }
}

#[test]
fn silence_is_never_followed_by_a_quick_round_of_all_targets() {
    let mut sim = Sim::with(&[trunk("t", &["u@a", "u@b", "u@c", "u@d"])]);
    ["a", "b", "c", "d"].iter().for_each(|host| sim.policy(host, Policy::Silent));
    sim.run(100 * SECOND_MS);
    assert_eq!(sim.log.iter().map(|sent| &*sent.host).collect::<Vec<_>>(), ["a", "b"]);
    let pause = sim.log[1].at - sim.log[0].answered_at;
    assert!((5_000..=10_000).contains(&pause), "{pause}");
    sim.run(24 * HOUR);
    assert!(sim.log.len() < 150, "{} REGISTERs in a day", sim.log.len());
}

#[test]
fn a_redirection_counts_for_the_registrar_that_it_leads_to() {
    let mut sim = Sim::new(settings(1, Some(1.0)), 1);
    for n in 0..30 {
        sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@h{}", n % 6)]));
    }
    (0..6).for_each(|n| sim.policy(&format!("h{n}"), Policy::moved(302, "centre", Some(3_600))));
    // The checks see to the budget of «centre».
    sim.run(2 * MINUTE);
    assert_eq!(sim.counts().registered, 30);
    sim.forget_log();
    sim.run(30 * MINUTE);
    assert!(sim.log.iter().all(|sent| sent.host == "centre"), "it holds for its expiry");
    sim.run(2 * HOUR);
    assert!(sim.log.iter().any(|sent| sent.host == "h0"), "not for longer");
    assert_eq!(sim.counts().registered, 30);
}

#[test]
fn a_circle_of_redirections_ends() {
    let mut sim = Sim::with(&[trunk("t", &["u@a"])]);
    sim.policy("a", Policy::moved(302, "b", None));
    sim.policy("b", Policy::moved(301, "a", None));
    sim.run(HOUR);
    assert_eq!(sim.reason("t").as_deref(), Some("RedirectFailed"));
    assert!(sim.log.len() < 30, "{} REGISTERs in an hour", sim.log.len());
}

#[test]
fn a_binding_never_expires_during_a_back_off() {
    let mut sim = Sim::with(&[trunk("t", &["u@h0"])]);
    sim.run(MINUTE);
    sim.policy("h0", Policy::Code(500));
    sim.refresh("t");
    sim.run(530 * SECOND_MS);
    assert_eq!(sim.state("t"), TrunkState::AtRisk);
    sim.policy("h0", Policy::Grants(600));
    sim.run(8 * SECOND_MS);
    assert_eq!(sim.state("t"), TrunkState::Registered);
}

#[test]
fn a_expiry_during_a_long_wait_is_seen_when_it_happens() {
    let mut sim = Sim::with(&[trunk("t", &["u@h0"])]);
    sim.policy("h0", Policy::Grants(60));
    sim.run(SECOND_MS);
    sim.policy("h0", Policy::Code(403));
    sim.refresh("t");
    sim.run(50 * SECOND_MS);
    assert_eq!((sim.state("t"), sim.counts().at_risk), (TrunkState::AtRisk, 1));
    // Refused credentials wait for five minutes; the checks compare the counts at each step.
    sim.run(15 * SECOND_MS);
    assert_eq!((sim.state("t"), sim.counts().failing), (TrunkState::Failing, 1));
}
