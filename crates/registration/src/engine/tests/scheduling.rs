//! Times of REGISTERs: at the start, in steady state, after a restart, after a reconnection; and budgets.

use std::collections::HashSet;

use super::{
    sim::{HOUR, MINUTE, SECOND_MS, Sim, settings},
    world::{ConcurrencyLimit, Policy, trunk},
};
use crate::{
    engine::view::Refresh,
    registration::state::TrunkState,
    trunk::{MAX_URIS, Trunk},
};
use routr_types::secret::Secret;

fn many(count: usize) -> Vec<Trunk> {
    (0..count).map(|n| trunk(&format!("t{n:05}"), &[&format!("u{n}@h{}", n % 3)])).collect()
}

#[test]
fn the_first_sync_is_at_the_start_and_registers_at_once() {
    let mut sim = Sim::with(&many(3));
    sim.run(SECOND_MS);
    assert_eq!(sim.counts().registered, 3);
    assert!(sim.log.iter().all(|sent| sent.at < 500 && sent.expires == 600));
}

#[test]
fn in_steady_state_nothing_expires_nothing_is_early_and_nothing_spins() {
    for (granted, interval) in [(86_400, 60), (600, 10), (300, 60), (90, 60), (45, 10), (20, 60), (7, 60)] {
        let mut settings = settings(2, Some(20.0));
        settings.registration.interval_ms = interval * SECOND_MS;
        let mut sim = Sim::new(settings, granted);
        many(30).iter().for_each(|trunk| sim.put(trunk));
        (0..3).for_each(|n| sim.policy(&format!("h{n}"), Policy::Grants(u32::try_from(granted).unwrap())));
        sim.run(5 * SECOND_MS);
        sim.wakeups = 0;
        for _ in 0..if granted < 60 { 60 } else { 240 } {
            sim.run(MINUTE / 2);
            assert_eq!(sim.counts().registered, 30, "a binding of {granted} s expired");
        }
        let sent = sim.log.len() as u64;
        let refreshes = 30 * (sim.t / SECOND_MS) / granted.min(600);
        assert!(sent <= refreshes * 3 + 60, "{sent} REGISTERs, {refreshes} lifetimes");
        assert!(sim.wakeups <= 4 * sent + 100, "{} wakeups for {sent} REGISTERs", sim.wakeups);
        assert!(sim.log.iter().all(|sent| sent.code == Some(200)));
    }
}

#[test]
fn a_refresh_says_how_late_it_is_and_nothing_else_does() {
    let mut sim = Sim::with(&many(3));
    sim.run(10 * MINUTE);
    let (first, refreshes): (Vec<_>, Vec<_>) = sim.log.iter().partition(|sent| sent.at < MINUTE);
    assert!(first.len() == 3 && first.iter().all(|sent| sent.late_ms.is_none()), "{first:?}");
    assert!(refreshes.len() >= 3 && refreshes.iter().all(|sent| sent.late_ms == Some(0)), "{refreshes:?}");

    // Refreshes that are due within twelve seconds, at a registrar that takes one in two seconds.
    let mut sim = Sim::new(settings(1, Some(0.5)), 3);
    (0..20).for_each(|n| sim.put(&trunk(&format!("t{n:02}"), &[&format!("u{n}@h")])));
    sim.policy("h", Policy::Grants(120));
    sim.run(3 * MINUTE);
    let late: Vec<u64> = sim.log.iter().filter_map(|sent| sent.late_ms).collect();
    assert!(late.iter().any(|ms| *ms > SECOND_MS), "none waited for its turn: {late:?}");
    assert!(late.iter().all(|ms| *ms < MINUTE), "{late:?}");
    sim.remove("t00");
    sim.run(5 * MINUTE);
    let left = sim.log.iter().find(|sent| sent.expires == 0).unwrap();
    assert_eq!(left.late_ms, None, "a removal is no refresh");
}

#[test]
fn a_changed_trunk_acts_with_the_sync_and_an_unchanged_one_does_not() {
    let mut sim = Sim::with(&many(3));
    sim.run(2 * MINUTE);
    sim.forget_log();
    let mut changed = trunk("t00001", &["u1@h1:5070"]);
    sim.put(&changed);
    sim.sync();
    sim.run(SECOND_MS);
    assert_eq!((sim.log.len(), &*sim.log[0].trunk, sim.log[0].port), (1, "t00001", 5070));
    // The name is no reason to register.
    changed.name = "Other".into();
    sim.put(&changed);
    sim.sync();
    sim.run(SECOND_MS);
    assert_eq!(sim.log.len(), 1);
    assert_eq!(sim.view("t00001").name, "Other");
}

#[test]
fn call_ids_are_for_life_and_each_trunk_has_its_own() {
    let same_account = [trunk("a", &["u@h0"]), trunk("b", &["u@h0"])];
    let mut sim = Sim::with(&same_account);
    sim.run(HOUR);
    sim.restart(5 * SECOND_MS, 2);
    sim.run(HOUR);
    sim.store.clear();
    sim.restart(HOUR, 0);
    sim.run(HOUR);
    let ids: HashSet<_> = sim.log.iter().map(|sent| (&*sent.trunk, &*sent.call_id)).collect();
    assert_eq!(ids.len(), 2, "a Call-ID changed: {ids:?}");
    assert_eq!(sim.registrars["h0"].fake.bindings.len(), 2);
}

#[test]
fn after_a_restart_with_a_cache_valid_bindings_wait_for_their_time() {
    let mut sim = Sim::with(&many(50));
    sim.run(3 * MINUTE);
    sim.forget_log();
    sim.restart(5 * SECOND_MS, 0);
    sim.run(4 * MINUTE);
    assert_eq!(sim.counts().registered, 50);
    assert!(sim.log.is_empty(), "{} were sent again", sim.log.len());
    sim.run(4 * MINUTE);
    assert_eq!((sim.log.len(), sim.counts().registered), (50, 50));
}

#[test]
fn after_a_restart_with_a_clock_that_is_behind_bindings_are_not_believed_to_last_longer() {
    let mut sim = Sim::with(&many(50));
    sim.run(3 * MINUTE);
    // The latest of them tells how late it was.
    sim.put(&trunk("latest", &["latest@h0"]));
    sim.sync();
    sim.run(SECOND_MS);
    sim.forget_log();
    // They were written by a clock that was ahead of ours.
    sim.store.values_mut().for_each(|record| record.expires_at_ms += 2 * HOUR);
    sim.restart(5 * SECOND_MS, 0);
    sim.run(8 * MINUTE);
    let early = sim.log.iter().filter(|sent| sent.trunk != "latest").count();
    assert_eq!((early, sim.counts().registered), (50, 51));
}

#[test]
fn what_passes_between_the_cache_and_the_first_listing_counts_by_a_clock_that_is_behind_too() {
    let mut sim = Sim::with(&many(50));
    sim.run(3 * MINUTE);
    sim.forget_log();
    sim.store.values_mut().for_each(|record| record.expires_at_ms += 2 * HOUR);
    // The first half is listed at once, the others when the API server is back.
    sim.api_up = false;
    sim.restart(5 * SECOND_MS, 0);
    sim.run(11 * MINUTE);
    let first: HashSet<String> = sim.log.iter().map(|sent| sent.trunk.clone()).collect();
    assert_eq!(first.len(), 25);
    sim.forget_log();
    sim.api_up = true;
    sim.run(2 * MINUTE);
    // They have expired meanwhile, and are not believed to last.
    let late = sim.log.iter().filter(|sent| !first.contains(&sent.trunk)).count();
    assert_eq!((late, sim.counts().registered), (25, 50));
}

#[test]
fn after_a_restart_without_a_cache_sends_are_spread() {
    let mut sim = Sim::new(settings(1, Some(5.0)), 1);
    many(300).iter().for_each(|trunk| sim.put(trunk));
    sim.run(2 * MINUTE);
    sim.store.clear();
    sim.forget_log();
    sim.restart(5 * SECOND_MS, 0);
    sim.checks.nothing_is_early();
    let start = sim.t;
    sim.run(2 * MINUTE);
    assert_eq!(sim.log.len(), 300);
    let first_seconds = sim.log.iter().filter(|sent| sent.at < start + 2 * SECOND_MS).count();
    assert!(first_seconds <= 3 * (10 + 3), "a burst of {first_seconds}");
}

#[test]
fn what_expired_during_the_downtime_goes_most_overdue_first() {
    let mut sim = Sim::new(settings(1, Some(1.0)), 1);
    // They register one after another, so they expire one after another.
    for n in 0..20 {
        sim.put(&trunk(&format!("t{:05}", 19 - n), &[&format!("u{n}@h0")]));
        sim.sync();
        sim.run(2 * SECOND_MS);
    }
    let order: Vec<String> = sim.log.iter().map(|sent| sent.trunk.clone()).collect();
    sim.forget_log();
    sim.restart(HOUR, 0);
    sim.put(&trunk("new", &["n@h0"]));
    sim.run(MINUTE);
    let again: Vec<String> = sim.log.iter().map(|sent| sent.trunk.clone()).take(20).collect();
    assert_eq!(again, order);
    assert_eq!(sim.log[20].trunk, "new", "a retry goes before a first registration");
}

#[test]
fn after_a_reconnection_valid_registrations_are_refreshed_within_a_quarter_of_what_is_left() {
    let mut sim = Sim::with(&many(90));
    sim.run(MINUTE);
    sim.forget_log();
    let at = sim.t;
    sim.reconnected();
    sim.run(140 * SECOND_MS);
    let trunks: HashSet<_> = sim.log.iter().map(|sent| &*sent.trunk).collect();
    assert_eq!((trunks.len(), sim.log.len()), (90, 90));
    let early = sim.log.iter().filter(|sent| sent.at < at + 30 * SECOND_MS).count();
    let late = sim.log.iter().filter(|sent| sent.at > at + 100 * SECOND_MS).count();
    assert!((5..50).contains(&early) && late > 5, "not spread: {early}, {late}");
}

#[test]
fn a_reconnection_offers_no_refused_password_and_breaks_no_promise_to_wait() {
    let mut sim = Sim::with(&[trunk("refused", &["u@h0"]), trunk("asked", &["u@h1"])]);
    sim.run(MINUTE);
    sim.policy("h0", Policy::Password("other"));
    sim.policy("h1", Policy::Later(480, 900));
    sim.refresh("refused");
    sim.refresh("asked");
    sim.run(SECOND_MS);
    assert_eq!((sim.state("refused"), sim.state("asked")), (TrunkState::AtRisk, TrunkState::AtRisk));
    sim.forget_log();
    for _ in 0..4 {
        sim.reconnected();
        sim.run(MINUTE);
    }
    assert!(sim.log.is_empty(), "{:?}", sim.log);
}

#[test]
fn a_refresh_goes_before_a_retry_before_a_first_registration() {
    let mut sim = Sim::new(settings(1, Some(1.0)), 1);
    sim.put(&trunk("bound", &["b@h0"]));
    sim.put(&trunk("failed", &["f@h0"]));
    sim.run(10 * SECOND_MS);
    sim.concurrency = ConcurrencyLimit::Down;
    // While nothing can be sent, all three kinds of waiting pile up: a expired one, firsts, and a refresh.
    sim.run(30 * SECOND_MS);
    for n in 0..20 {
        sim.put(&trunk(&format!("new{n:02}"), &[&format!("n{n}@h0")]));
    }
    sim.sync();
    sim.run(SECOND_MS);
    sim.refresh("bound");
    sim.forget_log();
    sim.concurrency = ConcurrencyLimit::Up;
    sim.run(40 * SECOND_MS);
    let done: Vec<&str> = sim.log.iter().filter(|s| s.code == Some(200)).map(|s| &*s.trunk).collect();
    assert_eq!(done[0], "bound");
    assert_eq!(done.len(), 21);
}

#[test]
fn a_budget_is_for_one_registrar_and_can_be_lifted() {
    for (rate, least, most) in [(Some(2.0), 95, 160), (None, 0, 5)] {
        let mut sim = Sim::new(settings(1, rate), 1);
        for n in 0..400 {
            sim.put(&trunk(&format!("t{n:05}"), &[&format!("u{n}@{}", ["a", "b"][n % 2])]));
        }
        sim.run(5 * MINUTE);
        let last =
            |host: &str| sim.log.iter().filter(|s| s.host == host).map(|s| s.at).max().unwrap() / SECOND_MS;
        for host in ["a", "b"] {
            assert!((least..=most).contains(&last(host)), "{rate:?}: {host} took {} s", last(host));
        }
    }
}

#[test]
fn a_removed_trunk_leaves_nothing_in_a_queue_for_the_next_one_in_its_slot() {
    let mut sim = Sim::new(settings(1, Some(1.0)), 1);
    for n in 0..8 {
        sim.put(&trunk(&format!("old{n}"), &[&format!("u{n}@slow")]));
    }
    sim.sync();
    (0..8).for_each(|n| sim.remove(&format!("old{n}")));
    for n in 0..8 {
        sim.put(&trunk(&format!("new{n}"), &[&format!("u{n}@other")]));
    }
    sim.sync();
    // The checks see to the budget of each registrar.
    sim.run(MINUTE);
    assert_eq!(sim.counts().registered, 8);
}

#[test]
fn many_uris_are_no_trouble_and_those_beyond_the_bound_are_left_out() {
    let uris: Vec<String> = (0..90).map(|n| format!("u@host{n}")).collect();
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let mut sim = Sim::with(&[trunk("t", &uris)]);
    (0..90).for_each(|n| sim.policy(&format!("host{n}"), Policy::Code(500)));
    sim.policy("host31", Policy::Grants(600));
    sim.run(MINUTE);
    assert_eq!(sim.state("t"), TrunkState::Registered);
    let tried: HashSet<_> = sim.log.iter().map(|sent| &*sent.host).collect();
    assert_eq!((tried.len(), sim.view("t").aor.as_str()), (MAX_URIS, "u@host31"));
    sim.policy("host31", Policy::Code(500));
    sim.run(24 * HOUR);
    assert!(sim.log.len() < MAX_URIS * 200, "{} REGISTERs in a day", sim.log.len());
}

#[test]
fn a_clock_that_jumps_changes_nothing_that_is_scheduled() {
    for jump in [HOUR as i64, -(HOUR as i64), 400 * 24 * HOUR as i64, -(400 * 24 * HOUR as i64)] {
        let mut sim = Sim::with(&many(30));
        sim.run(2 * MINUTE);
        sim.forget_log();
        sim.skew = jump;
        sim.run(5 * MINUTE);
        assert!(sim.log.is_empty(), "a burst of {} after a jump of {jump} ms", sim.log.len());
        sim.run(4 * MINUTE);
        assert_eq!((sim.log.len(), sim.counts().registered), (30, 30));
        // Across a restart too: never longer than what was granted, and the CSeq goes on rising.
        sim.run(10 * MINUTE);
        sim.skew = jump / 2;
        sim.forget_log();
        sim.restart(2 * SECOND_MS, 0);
        sim.checks.nothing_is_early();
        let at = sim.t;
        sim.run(20 * MINUTE);
        assert_eq!(sim.counts().registered, 30);
        let first = (0..30).map(|n| sim.of(&format!("t{n:05}"))[0].at).max().unwrap();
        assert!(first <= at + 10 * MINUTE, "a binding was believed for {} ms", first - at);
    }
}

#[test]
fn a_person_may_ask_for_a_refresh() {
    let mut sim = Sim::with(&many(1));
    sim.run(MINUTE);
    sim.forget_log();
    assert_eq!(sim.refresh("nobody"), Refresh::NotFound);
    assert_eq!(sim.refresh("t00000"), Refresh::Queued);
    assert_eq!(sim.refresh("t00000"), Refresh::InFlight);
    sim.run(SECOND_MS);
    assert_eq!((sim.log.len(), sim.state("t00000")), (1, TrunkState::Registered));
    sim.remove("t00000");
    sim.sync();
    assert_eq!(sim.refresh("t00000"), Refresh::NotFound, "nothing brings a leaving one back");
}

#[test]
fn changed_credentials_are_tried_at_once_and_unchanged_ones_rarely() {
    let mut sim = Sim::with(&many(1));
    sim.policy("h0", Policy::Password("changed"));
    sim.run(24 * HOUR);
    assert_eq!(sim.reason("t00000").as_deref(), Some("CredentialsRejected"));
    assert!((20..=28).contains(&sim.log.len()), "{} tries in a day", sim.log.len());
    let mut right = many(1).remove(0);
    right.credentials.as_mut().unwrap().password = Secret::new("changed");
    sim.put(&right);
    sim.sync();
    sim.run(SECOND_MS);
    assert_eq!(sim.state("t00000"), TrunkState::Registered);
}

#[test]
fn the_expiry_to_ask_for_is_settable() {
    let mut sim = Sim::with(&many(2));
    sim.run(MINUTE);
    let mut settings = sim.settings.clone();
    settings.registration.expires_s = 300;
    sim.reconfigure(settings);
    sim.forget_log();
    sim.run(HOUR);
    assert!(sim.log.iter().all(|sent| sent.expires == 300));
    assert!((18..=36).contains(&sim.log.len()), "{}", sim.log.len());
}

#[test]
fn killed_at_any_moment_no_trunk_is_doubled_or_lost() {
    for seed in 0..10 {
        let mut sim = Sim::new(settings(2, Some(50.0)), seed);
        many(150).iter().for_each(|trunk| sim.put(trunk));
        for kill in 0..4 {
            // In the middle of registering, and later in the middle of refreshing; the last writes never
            // arrived.
            sim.run(300 + seed * 170 + kill % 2 * 490 * SECOND_MS);
            sim.restart(2 * SECOND_MS + seed * 100, 7);
        }
        sim.run(2 * MINUTE);
        assert_eq!(sim.counts().registered, 150);
        let bindings: usize = sim.registrars.values().map(|registrar| registrar.fake.bindings.len()).sum();
        assert_eq!(bindings, 150, "a binding was doubled");
        assert!((0..150).all(|n| sim.bound(&format!("t{n:05}"), &format!("u{n}@h{}", n % 3))));
    }
}

#[test]
fn an_address_that_changed_during_the_downtime_is_registered_at_once() {
    let mut sim = Sim::with(&many(2));
    sim.run(MINUTE);
    sim.put(&trunk("t00001", &["other@h1"]));
    sim.forget_log();
    sim.restart(5 * SECOND_MS, 0);
    sim.run(SECOND_MS);
    assert_eq!((sim.log.len(), &*sim.log[0].trunk), (1, "t00001"));
    assert!(sim.bound("t00001", "other@h1"));
}

#[test]
fn of_the_same_age_a_retry_goes_before_a_first_registration() {
    let mut sim = Sim::new(settings(1, Some(1.0)), 1);
    sim.put(&trunk("z-failed", &["z@h0"]));
    sim.policy("h0", Policy::Code(500));
    sim.run(SECOND_MS);
    sim.policy("h0", Policy::Grants(600));
    sim.put(&trunk("a-new", &["a@h0"]));
    sim.forget_log();
    sim.restart(5 * SECOND_MS, 0);
    sim.run(3 * SECOND_MS);
    assert_eq!(sim.log.iter().map(|sent| &*sent.trunk).collect::<Vec<_>>(), ["z-failed", "a-new"]);
}

#[test]
fn numbers_that_run_ahead_of_the_clock_are_kept_though_the_requester_cannot_be_reached() {
    let mut sim = Sim::with(&[trunk("t", &["u@h0"])]);
    sim.run(MINUTE);
    sim.skew = -24 * 3_600_000;
    sim.concurrency = ConcurrencyLimit::Down;
    sim.run(30 * MINUTE);
    // The process is killed. Each number is checked to be higher than any that was used before.
    sim.restart(SECOND_MS, 0);
    sim.concurrency = ConcurrencyLimit::Up;
    sim.run(MINUTE);
    assert!(sim.bound("t", "u@h0"));
}
