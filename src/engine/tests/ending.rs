//! What an operator asks of an engine: the worst troubles, a pause, the end of all registrations.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    fakes::{GRACE, Mode, Rig, neighbours, pass},
    sim::{MINUTE, SECOND, Sim, settings},
    world::{Policy, trunk},
};
use crate::{
    engine::{
        handle::{EngineStopped, LeaveReport},
        view::{Filter, TrunkState, TrunkView},
    },
    trunk::{Trunk, TrunkProblem},
};

fn trunks(count: usize) -> Vec<Trunk> {
    (0..count).map(|n| trunk(&format!("t{n:03}"), &[&format!("u{n}@h0")])).collect()
}

const BAD: [TrunkState; 3] = [TrunkState::Failing, TrunkState::Invalid, TrunkState::AtRisk];

/// Trunks that are well, refused, unknown, silent, at risk and invalid, in trouble since different moments.
fn troubled() -> Sim {
    let hosts = ["good", "refused", "unknown", "silent", "risky", "late"];
    let all: Vec<Trunk> =
        (0..60).map(|n| trunk(&format!("t{n:03}"), &[&format!("u{n}@{}", hosts[n % 6])])).collect();
    let mut sim = Sim::with(&all);
    sim.policy("refused", Policy::Password("another"));
    sim.policy("unknown", Policy::Code(404));
    sim.policy("silent", Policy::Silent);
    let malformed = || TrunkProblem::Malformed { message: "uris[0].host: empty".into() };
    for n in 0..5 {
        sim.list(&format!("x{n}"), Err(malformed()));
    }
    sim.run(2 * MINUTE);
    sim.policy("late", Policy::Code(500));
    sim.policy("risky", Policy::Code(500));
    // A version that is malformed: the last good one stays registered.
    sim.list("t000", Err(malformed()));
    sim.run(450 * SECOND);
    sim
}

fn rank(view: &TrunkView) -> (usize, u64) {
    let since = view.trouble.as_ref().map_or(0, |trouble| trouble.since_ms);
    (BAD.iter().position(|state| *state == view.state).unwrap(), if since == 0 { u64::MAX } else { since })
}

#[test]
fn the_worst_troubles_are_those_of_the_list_in_order_and_bounded() {
    let sim = troubled();
    let list =
        sim.engine.list(&Filter { states: BAD.to_vec(), ..Filter::default() }, None, 500, sim.now()).items;
    assert!(list.len() >= 40, "{}", list.len());
    let everything = sim.engine.troubles(500, sim.now());
    assert!(everything.worst.is_sorted_by_key(rank));
    let states: Vec<TrunkState> =
        BAD.into_iter().filter(|s| list.iter().any(|view| view.state == *s)).collect();
    assert_eq!(states, BAD, "the simulation has one of each");
    let by_ref = |views: &[TrunkView]| -> BTreeMap<String, TrunkView> {
        views.iter().map(|view| (view.reference.clone(), view.clone())).collect()
    };
    assert_eq!(by_ref(&everything.worst), by_ref(&list));
    let mut counted = BTreeMap::<String, u64>::new();
    for view in &list {
        *counted.entry(view.trouble.as_ref().unwrap().reason.clone()).or_default() += 1;
    }
    assert_eq!(everything.by_reason, counted);
    assert_eq!(
        (counted["CredentialsRejected"], counted["UnknownAccount"], counted["InvalidTrunk"]),
        (10, 10, 6)
    );
    for most in [0, 1, 7, 50] {
        let part = sim.engine.troubles(most, sim.now());
        assert_eq!(part.worst, everything.worst[..most.min(list.len())], "{most}");
        assert_eq!(part.by_reason, counted, "{most}");
    }
}

#[test]
fn where_all_is_well_there_are_no_troubles() {
    let mut sim = Sim::with(&trunks(9));
    assert_eq!(sim.engine.troubles(50, sim.now()), super::super::view::Troubles::default());
    sim.run(MINUTE);
    assert_eq!(sim.engine.troubles(50, sim.now()), super::super::view::Troubles::default());
}

/// The simulation fails when a wakeup is not in the future.
#[test]
fn a_pause_sends_nothing_notices_lapses_and_ends() {
    let mut sim = Sim::with(&trunks(30));
    sim.run(2 * MINUTE);
    assert_eq!(sim.counts().registered, 30);
    sim.engine.pause(true);
    sim.forget_log();
    sim.wakeups = 0;
    sim.run(5 * MINUTE);
    assert_eq!((sim.counts().registered, sim.log.len()), (30, 0), "bindings stay");
    sim.put(&trunk("new", &["new@h0"]));
    sim.run(10 * MINUTE);
    assert_eq!((sim.counts().registered, sim.counts().failing, sim.counts().pending), (0, 30, 1));
    assert_eq!(sim.reason("t007").as_deref(), Some("Lapsed"));
    assert_eq!(sim.engine.summary(sim.now()).next_lapse_ms, None);
    sim.run(60 * MINUTE);
    assert_eq!(sim.log.len(), 0);
    assert!(sim.wakeups <= 200, "woke {} times", sim.wakeups);
    sim.engine.pause(false);
    sim.run(10 * SECOND);
    assert_eq!(sim.counts().registered, 31);
}

#[test]
fn leaving_removes_what_was_never_sent_too_and_leaves_refused_trunks_alone() {
    let mut all = trunks(3);
    all.push(trunk("refused", &["x@strict"]));
    let mut sim = Sim::with(&all);
    sim.policy("strict", Policy::Password("another"));
    sim.list("bad", Err(TrunkProblem::Malformed { message: "name: empty".into() }));
    sim.run(SECOND);
    // Read while paused: nothing was sent for it.
    sim.engine.pause(true);
    sim.put(&trunk("untouched", &["u@other", "u@second"]));
    sim.sync();
    sim.forget_log();
    let refs: Vec<String> = sim.trunks.keys().cloned().collect();
    refs.iter().for_each(|reference| sim.remove(reference));
    let now = sim.now();
    sim.engine.leave_all(true, now);
    sim.engine.pause(false);
    sim.run(5 * SECOND);
    assert!(sim.engine.is_empty());
    assert!(sim.log.iter().all(|sent| sent.expires == 0), "{:?}", sim.log);
    let mut sent: Vec<(&str, &str)> = sim.log.iter().map(|sent| (&*sent.trunk, &*sent.host)).collect();
    sent.sort_unstable();
    assert_eq!(sent, [("t000", "h0"), ("t001", "h0"), ("t002", "h0"), ("untouched", "other")]);
}

fn rig(count: usize) -> Rig {
    Rig::start(settings(1, Some(100.0)), &trunks(count))
}

/// Expiries that were sent, in order.
fn expiries(rig: &Rig) -> Vec<u32> {
    rig.phone.sent.lock().unwrap().iter().map(|(_, register)| register.expires).collect()
}

/// Whether it ends within so many seconds.
async fn leaves(rig: &Rig, seconds: u64) -> bool {
    let end = timeout(Duration::from_secs(seconds), rig.controls.handle.leave(true)).await;
    end.is_ok_and(|left| left.is_ok())
}

#[tokio::test(start_paused = true)]
async fn leaving_removes_every_binding_once_forgets_them_and_reads_no_more() {
    let rig = rig(20);
    pass(5).await;
    rig.phone.forget();
    assert!(leaves(&rig, 5).await);
    assert_eq!(expiries(&rig), [0; 20]);
    let since = Instant::now();
    pass(300).await;
    assert_eq!((rig.shelf.len(), rig.source.asked_since(since), rig.phone.count()), (0, 0, 20));
    // Again, and it is done at once.
    assert!(leaves(&rig, 1).await);
    assert_eq!(rig.phone.count(), 20);
}

#[tokio::test(start_paused = true)]
async fn leaving_before_the_first_sync_reads_first_and_registers_nothing() {
    let rig = rig(20);
    let end = tokio::join!(rig.controls.handle.leave(true), rig.controls.handle.leave(true));
    let report = LeaveReport { removed: 20, given_up: 0 };
    assert_eq!(end, (Ok(report), Ok(report)));
    assert_eq!(expiries(&rig), [0; 20]);
}

#[tokio::test(start_paused = true)]
async fn leaving_while_the_api_server_is_down_waits_without_sending_and_blocks_nothing() {
    let (source, phone, shelf) = neighbours();
    source.put(&trunks(20));
    source.set(Mode::Down);
    let rig = Rig::start_on(settings(1, None), source, phone, shelf);
    assert!(!leaves(&rig, 300).await, "there is nothing to remove it could know of");
    assert_eq!(rig.phone.count(), 0);
    assert_eq!(rig.controls.handle.summary().await.unwrap().api.ok, Some(false));
    // Whoever goes on after a suspension meanwhile does not make it register.
    rig.controls.handle.pause(false).await.unwrap();
    rig.source.set(Mode::Up);
    assert!(leaves(&rig, 70).await, "not taken up when the API server was back");
    assert_eq!(expiries(&rig), [0; 20]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_ended_while_it_leaves_ends_in_time_and_says_so() {
    for (source_mode, phone_mode) in [(Mode::Down, Mode::Up), (Mode::Up, Mode::Hanging)] {
        let (source, phone, shelf) = neighbours();
        source.put(&trunks(20));
        source.set(source_mode);
        phone.set(phone_mode);
        let rig = Rig::start_on(settings(1, None), source, phone, shelf);
        let handle = rig.controls.handle.clone();
        let leaving = tokio::spawn(async move { handle.leave(true).await });
        pass(5).await;
        let at = Instant::now();
        rig.shutdown.cancel();
        rig.task.await.unwrap();
        assert!(at.elapsed() <= GRACE + GRACE / 4 + Duration::from_millis(10), "{:?}", at.elapsed());
        assert_eq!(leaving.await.unwrap(), Err(EngineStopped));
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_outlives_the_engine() {
    let (source, phone, shelf) = neighbours();
    source.put(&trunks(20));
    phone.set(Mode::Hanging);
    let rig = Rig::start_on(settings(1, None), source, phone, shelf);
    pass(5).await;
    assert!(rig.phone.count() > 0);
    rig.shutdown.cancel();
    rig.task.await.unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    // Each call holds the port that it was made on.
    assert_eq!(Arc::strong_count(&rig.phone), 1, "another process may act for these trunks by now");
}

#[tokio::test(start_paused = true)]
async fn leaving_ends_a_pause() {
    let rig = rig(10);
    rig.controls.handle.pause(true).await.unwrap();
    pass(30).await;
    assert_eq!(rig.phone.count(), 0, "it sent something while paused");
    assert_eq!(
        rig.controls.handle.summary().await.unwrap().counts.pending,
        10,
        "trunks are read all the same"
    );
    assert!(leaves(&rig, 5).await);
    assert_eq!(expiries(&rig), [0; 10], "a predecessor may have registered them");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_removed_after_its_answer() {
    let rig = rig(4);
    pass(5).await;
    rig.phone.set(Mode::Hanging);
    rig.controls.handle.refresh("t001".to_owned()).await.unwrap();
    pass(1).await;
    rig.phone.forget();
    rig.phone.set(Mode::Up);
    let at = Instant::now();
    assert!(leaves(&rig, 60).await);
    assert!(at.elapsed() >= Duration::from_secs(38), "two in flight for one Call-ID");
    assert_eq!(expiries(&rig), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn tries_to_leave_are_bounded_when_the_requester_does_not_answer() {
    let rig = rig(4);
    pass(5).await;
    rig.phone.forget();
    rig.phone.set(Mode::Hanging);
    assert!(leaves(&rig, 400).await);
    assert!(rig.phone.count() <= 12, "{} tries for 4 trunks", rig.phone.count());
}

#[tokio::test(start_paused = true)]
async fn leaving_without_a_requester_ends_when_the_bindings_lapse() {
    let rig = rig(4);
    pass(5).await;
    rig.phone.forget();
    rig.phone.set(Mode::Down);
    assert!(!leaves(&rig, 100).await);
    assert!(rig.phone.count() <= 80, "{} calls in 100 s", rig.phone.count());
    assert!(leaves(&rig, 500).await);
    // In between it comes back.
    let rig = self::rig(4);
    pass(5).await;
    rig.phone.set(Mode::Down);
    assert!(!leaves(&rig, 100).await);
    rig.phone.forget();
    rig.phone.set(Mode::Up);
    assert!(leaves(&rig, 20).await);
    assert_eq!(expiries(&rig), [0; 4]);
}
