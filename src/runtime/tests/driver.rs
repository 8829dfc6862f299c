//! The driver on paused time, with dependencies that fail.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::Instant;

use super::fakes::{DriverHarness, GRACE, Mode, dependencies, pass};
use crate::runtime::driver::Reload;
use routr_registration::testing::{MINUTE, SECOND_MS, settings, trunk};
use routr_registration::{
    engine::{
        EngineSettings,
        view::{Filter, Refresh},
    },
    model::{EdgePort, PublicAddresses},
    registration::state::TrunkState,
    trunk::Trunk,
};
use routr_types::host::HostPort;

pub fn trunks(count: usize) -> Vec<Trunk> {
    (0..count).map(|n| trunk(&format!("t{n:03}"), &[&format!("u{n}@h0")])).collect()
}

pub fn harness(count: usize) -> DriverHarness {
    DriverHarness::start(settings(1, Some(100.0)), &trunks(count))
}

pub fn reload(
    settings: EngineSettings,
) -> Reload<super::fakes::Source, super::fakes::FakeRequester, super::fakes::FakeStore> {
    Reload { settings, source: None, requester: None, requester_moved: false, store: None }
}

#[tokio::test(start_paused = true)]
async fn the_first_sync_is_at_the_start_and_the_next_one_an_interval_later() {
    let start = Instant::now();
    let harness = harness(5);
    pass(2).await;
    assert_eq!((harness.registered().await, harness.source.asked_since(start)), (5, 1));
    pass(121).await;
    assert_eq!(harness.source.asked_since(start), 3);
    assert_eq!(harness.phone.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn refreshes_go_on_while_the_api_server_fails_and_it_is_not_asked_in_a_loop() {
    for mode in [Mode::Down, Mode::Hanging] {
        let harness = harness(20);
        pass(2).await;
        harness.source.set(mode);
        let since = Instant::now();
        pass(3_600).await;
        let summary = harness.controls.handle.summary().await.unwrap();
        assert_eq!((summary.counts.registered, summary.api.ok), (20, Some(false)));
        assert!(harness.phone.sent.lock().unwrap().iter().all(|(_, register)| register.expires == 600));
        let asked = harness.source.asked_since(since);
        assert!((40..=150).contains(&asked), "asked {asked} times in an hour");
        // With jitter: not in step.
        let gaps: Vec<_> =
            harness.source.asked.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps[20..].windows(2).any(|pair| pair[0].abs_diff(pair[1]) > Duration::from_secs(1)));
        harness.source.set(Mode::Up);
        harness.source.put(&trunks(21));
        pass(91).await;
        assert_eq!(harness.registered().await, 21);
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_loss_acts_at_once_and_a_great_one_takes_two_syncs() {
    let harness = harness(40);
    pass(2).await;
    harness.source.put(&trunks(30));
    pass(62).await;
    assert_eq!(harness.registered().await, 30);
    harness.source.put(&[]);
    harness.controls.handle.sync_now().await.unwrap();
    pass(5).await;
    let summary = harness.controls.handle.summary().await.unwrap();
    assert_eq!((summary.counts.registered, summary.removals_pending_confirmation), (30, 30));
    pass(62).await;
    assert_eq!(harness.registered().await, 0);
    assert_eq!(
        harness.phone.sent.lock().unwrap().iter().filter(|(_, register)| register.expires == 0).count(),
        40
    );
}

#[tokio::test(start_paused = true)]
async fn a_sync_asked_for_while_one_runs_is_done_after_it() {
    let harness = harness(3);
    pass(2).await;
    harness.source.set(Mode::Slow);
    harness.controls.handle.sync_now().await.unwrap();
    pass(1).await;
    harness.source.set(Mode::Up);
    harness.source.put(&trunks(4));
    harness.controls.handle.sync_now().await.unwrap();
    // The slow one ends after 30 s.
    pass(30).await;
    assert_eq!(harness.registered().await, 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_outlives_the_process() {
    let harness = harness(30);
    pass(60).await;
    assert_eq!(harness.shelf.len(), 30);
    let before = harness.get("t000").await;
    let harness = harness.kill().await;
    harness.phone.forget();
    pass(60).await;
    let after = harness.get("t000").await;
    assert_eq!((harness.registered().await, harness.phone.count()), (30, 0));
    assert_eq!((before.call_id, before.cseq), (after.call_id, after.cseq));
    pass(600).await;
    assert!(harness.get("t000").await.cseq > after.cseq);
    assert_eq!((harness.registered().await, harness.phone.count()), (30, 30));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_at_the_start_is_run_without_and_given_everything_later() {
    for mode in [Mode::Down, Mode::Hanging] {
        let (source, phone, shelf) = dependencies();
        source.put(&trunks(10));
        shelf.set(mode);
        let harness = DriverHarness::start_on(settings(1, None), source, phone, shelf);
        pass(30).await;
        assert_eq!(harness.registered().await, 10);
        assert_eq!(harness.controls.handle.summary().await.unwrap().cache.ok, Some(false));
        harness.shelf.set(Mode::Up);
        if mode == Mode::Down {
            pass(60).await;
            assert_eq!(harness.shelf.len(), 10);
            assert_eq!(harness.controls.handle.summary().await.unwrap().cache.ok, Some(true));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_later_is_given_everything_when_it_is_back() {
    let harness = harness(10);
    pass(10).await;
    harness.shelf.set(Mode::Down);
    let since = Instant::now();
    pass(1_200).await;
    let calls = harness.shelf.called_since(since);
    assert!((60..=200).contains(&calls), "asked {calls} times in 20 minutes");
    assert_eq!(harness.registered().await, 10);
    harness.shelf.lose();
    harness.shelf.set(Mode::Up);
    pass(40).await;
    assert_eq!(harness.shelf.len(), 10);
    let kept = harness.shelf.records.lock().unwrap()["t003"].clone();
    assert_eq!(kept.cseq, harness.get("t003").await.cseq);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_its_data_is_given_everything_again() {
    let harness = harness(10);
    pass(10).await;
    harness.shelf.lose();
    pass(30).await;
    assert_eq!(harness.shelf.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_noticed_though_there_is_always_something_to_write() {
    let harness = harness(10);
    pass(10).await;
    harness.shelf.lose();
    for _ in 0..30 {
        pass(1).await;
        let _ = harness.controls.handle.refresh("t003".into()).await;
    }
    assert_eq!(harness.shelf.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn when_the_clock_was_set_everything_is_written_by_the_new_one() {
    let harness = harness(10);
    pass(10).await;
    let kept = |harness: &DriverHarness| harness.shelf.records.lock().unwrap()["t003"].expires_at_ms;
    let before = kept(&harness);
    harness.wall_ahead.store(-3_600_000, Relaxed);
    pass(60).await;
    assert_eq!(kept(&harness).abs_diff(before - 3_600_000), 0);
    assert_eq!(Some(kept(&harness)), harness.get("t003").await.expires_at_ms);
}

#[tokio::test(start_paused = true)]
async fn what_a_wrong_clock_wrote_is_put_right_at_the_start() {
    let harness = harness(10);
    pass(10).await;
    let shelf = harness.shelf.clone();
    shelf.records.lock().unwrap().get_mut("t003").unwrap().expires_at_ms += 3_600_000;
    let harness = harness.kill().await;
    pass(10).await;
    let kept = shelf.records.lock().unwrap()["t003"].expires_at_ms;
    assert_eq!(Some(kept), harness.get("t003").await.expires_at_ms);
}

#[tokio::test(start_paused = true)]
async fn a_restart_within_the_same_half_second_uses_no_number_twice() {
    let harness = harness(1);
    pass(2).await;
    let mut old = harness.shelf.records.lock().unwrap().clone();
    // It expired long ago, so that it is sent at once.
    old.get_mut("t000").unwrap().expires_at_ms = 1;
    let shelf = harness.shelf.clone();
    let _ = harness.controls.handle.refresh("t000".into()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let harness = harness.kill().await;
    // What was written last did not arrive.
    *shelf.records.lock().unwrap() = old;
    pass(600).await;
    let sent = harness.phone.sent.lock().unwrap();
    let numbers: Vec<u32> = sent.iter().map(|(_, register)| register.cseq).collect();
    assert!(numbers.len() > 2 && numbers.windows(2).all(|pair| pair[1] > pair[0] + 2), "{numbers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_the_credentials_is_not_asked_in_a_loop() {
    let (source, phone, shelf) = dependencies();
    source.put(&trunks(10));
    shelf.set(Mode::Denying);
    let harness = DriverHarness::start_on(settings(1, None), source, phone, shelf);
    let since = Instant::now();
    pass(3_600).await;
    assert_eq!(harness.registered().await, 10);
    let calls = harness.shelf.called_since(since);
    // Once in half a minute, and a little quicker at the start.
    assert!((60..=130).contains(&calls), "asked {calls} times in an hour");
    let cache = harness.controls.handle.summary().await.unwrap().cache;
    assert!(cache.message.unwrap().contains("rejects the credentials"));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_answers_writes_everything_and_de_registers_nothing() {
    let harness = harness(10);
    pass(5).await;
    harness.phone.forget();
    assert_eq!(harness.controls.handle.refresh("t004".to_owned()).await.unwrap(), Refresh::Queued);
    let at = Instant::now();
    let (shelf, phone, handle) =
        (harness.shelf.clone(), harness.phone.clone(), harness.controls.handle.clone());
    harness.shutdown.cancel();
    let engine = harness.task.await.unwrap();
    assert!(at.elapsed() < Duration::from_secs(1));
    assert_eq!((engine.in_flight(), engine.unwritten(), phone.count()), (0, 0, 1));
    let kept = shelf.records.lock().unwrap()["t004"].cseq;
    assert!(kept >= phone.sent.lock().unwrap()[0].1.cseq);
    assert!(handle.summary().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_within_the_grace_period_whatever_hangs() {
    for (phone, shelf) in
        [(Mode::Hanging, Mode::Up), (Mode::Up, Mode::Hanging), (Mode::Hanging, Mode::Hanging)]
    {
        let harness = harness(10);
        pass(5).await;
        harness.phone.set(phone);
        harness.shelf.set(shelf);
        harness.controls.handle.refresh("t004".to_owned()).await.unwrap();
        pass(1).await;
        let cseq = harness.phone.sent.lock().unwrap().last().unwrap().1.cseq;
        let at = Instant::now();
        harness.shutdown.cancel();
        harness.task.await.unwrap();
        assert!(at.elapsed() <= GRACE + GRACE / 4 + Duration::from_millis(10), "{:?}", at.elapsed());
        if shelf == Mode::Up {
            let kept = harness.shelf.records.lock().unwrap()["t004"].cseq;
            assert!(kept >= cseq, "the number of the request that was given up is not kept");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_it_left_off() {
    let harness = harness(10);
    pass(5).await;
    let harness = harness.restart().await;
    harness.phone.forget();
    pass(60).await;
    assert_eq!((harness.registered().await, harness.phone.count()), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reconnection_refreshes_early_and_another_one_soon_after_is_not_lost() {
    let harness = harness(300);
    pass(60).await;
    harness.phone.forget();
    harness.phone.reconnect();
    pass(4).await;
    let second = Instant::now();
    harness.phone.reconnect();
    pass(150).await;
    let sent = harness.phone.sent.lock().unwrap();
    for n in 0..300 {
        let user = format!("u{n}");
        let late = sent.iter().any(|(at, register)| *register.user == *user && *at >= second);
        assert!(late, "{user} still has the Contact of before the second restart");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_changes_only_what_it_concerns() {
    let harness = harness(10);
    pass(5).await;
    harness.phone.forget();
    harness.controls.reload.send(Box::new(reload(harness.settings.clone()))).await.ok().unwrap();
    pass(60).await;
    assert_eq!((harness.registered().await, harness.phone.count()), (10, 0));
    // Another interval.
    let mut settings = harness.settings.clone();
    settings.registration.interval_ms = 10 * SECOND_MS;
    let since = Instant::now();
    harness.controls.reload.send(Box::new(reload(settings.clone()))).await.ok().unwrap();
    pass(101).await;
    assert!((9..=12).contains(&harness.source.asked_since(since)));
    // Another EdgePort: calls must arrive there soon.
    settings.edge_ports = vec![EdgePort {
        address: HostPort::new("new-edge.example", 5060),
        region: None,
        public: PublicAddresses::default(),
    }];
    harness.phone.forget();
    harness.controls.reload.send(Box::new(reload(settings.clone()))).await.ok().unwrap();
    pass(150).await;
    {
        let sent = harness.phone.sent.lock().unwrap();
        assert_eq!(sent.len(), 10);
        assert!(sent.iter().all(|(_, register)| &*register.edge_port.host == "new-edge.example"));
    }
    // Another API server is read at once, another store gets everything.
    let (source, phone, shelf) = dependencies();
    source.put(&trunks(12));
    let changed = Reload {
        source: Some(source),
        requester: Some(phone.clone()),
        requester_moved: true,
        store: Some(shelf.clone()),
        ..reload(settings)
    };
    harness.controls.reload.send(Box::new(changed)).await.ok().unwrap();
    pass(1).await;
    assert_eq!((harness.registered().await, shelf.len()), (12, 12));
    pass(150).await;
    assert_eq!(phone.count(), 12, "the Contact of the other Requester is another");
}

#[tokio::test(start_paused = true)]
async fn commands_are_answered_while_everything_fails() {
    let (source, phone, shelf) = dependencies();
    source.put(&trunks(10));
    phone.set(Mode::Hanging);
    shelf.set(Mode::Down);
    let harness = DriverHarness::start_on(settings(1, None), source, phone, shelf);
    pass(200).await;
    let handle = &harness.controls.handle;
    let page = handle.list(Filter::default(), None, 4).await.unwrap();
    assert_eq!((page.items.len(), page.next_page_token.as_deref()), (4, Some("t003")));
    assert_eq!(page.items[0].state, TrunkState::Failing);
    assert_eq!(handle.get("nobody".to_owned()).await.unwrap(), None);
    assert_eq!(handle.refresh("nobody".to_owned()).await.unwrap(), Refresh::NotFound);
    let summary = handle.summary().await.unwrap();
    assert_eq!(
        (summary.api.ok, summary.requester.ok, summary.cache.ok),
        (Some(true), Some(false), Some(false))
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_requester_ends_within_seconds() {
    let harness = harness(20);
    pass(5).await;
    harness.phone.set(Mode::Down);
    pass(20 * MINUTE / SECOND_MS).await;
    assert_eq!(harness.registered().await, 0);
    assert!(harness.phone.count() < 1_000, "{} calls in twenty minutes", harness.phone.count());
    harness.phone.set(Mode::Up);
    pass(10).await;
    assert_eq!(harness.registered().await, 20);
}
