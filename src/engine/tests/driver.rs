//! The driver on paused time, with neighbours that fail.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::Instant;

use super::{
    fakes::{GRACE, Mode, Rig, neighbours, pass},
    sim::{MINUTE, SECOND, settings},
    world::trunk,
};
use crate::{
    config::EdgePort,
    engine::{
        EngineSettings,
        driver::Reload,
        handle::Refresh,
        view::{Filter, TrunkState},
    },
    trunk::{HostPort, Trunk},
};

pub fn trunks(count: usize) -> Vec<Trunk> {
    (0..count).map(|n| trunk(&format!("t{n:03}"), &[&format!("u{n}@h0")])).collect()
}

pub fn rig(count: usize) -> Rig {
    Rig::start(settings(1, Some(100.0)), &trunks(count))
}

pub fn reload(
    settings: EngineSettings,
) -> Reload<super::fakes::Source, super::fakes::Phone, super::fakes::Shelf> {
    Reload { settings, source: None, requester: None, requester_moved: false, store: None }
}

#[tokio::test(start_paused = true)]
async fn the_first_sync_is_at_the_start_and_the_next_one_an_interval_later() {
    let start = Instant::now();
    let rig = rig(5);
    pass(2).await;
    assert_eq!((rig.registered().await, rig.source.asked_since(start)), (5, 1));
    pass(121).await;
    assert_eq!(rig.source.asked_since(start), 3);
    assert_eq!(rig.phone.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn refreshes_go_on_while_the_api_server_fails_and_it_is_not_asked_in_a_loop() {
    for mode in [Mode::Down, Mode::Hanging] {
        let rig = rig(20);
        pass(2).await;
        rig.source.set(mode);
        let since = Instant::now();
        pass(3_600).await;
        let summary = rig.controls.handle.summary().await.unwrap();
        assert_eq!((summary.counts.registered, summary.api.ok), (20, Some(false)));
        assert!(rig.phone.sent.lock().unwrap().iter().all(|(_, register)| register.expires == 600));
        let asked = rig.source.asked_since(since);
        assert!((40..=150).contains(&asked), "asked {asked} times in an hour");
        // With jitter: not in step.
        let gaps: Vec<_> =
            rig.source.asked.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps[20..].windows(2).any(|pair| pair[0].abs_diff(pair[1]) > Duration::from_secs(1)));
        rig.source.set(Mode::Up);
        rig.source.put(&trunks(21));
        pass(91).await;
        assert_eq!(rig.registered().await, 21);
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_loss_acts_at_once_and_a_great_one_takes_two_syncs() {
    let rig = rig(40);
    pass(2).await;
    rig.source.put(&trunks(30));
    pass(62).await;
    assert_eq!(rig.registered().await, 30);
    rig.source.put(&[]);
    rig.controls.handle.sync_now().await.unwrap();
    pass(5).await;
    let summary = rig.controls.handle.summary().await.unwrap();
    assert_eq!((summary.counts.registered, summary.removals_held), (30, 30));
    pass(62).await;
    assert_eq!(rig.registered().await, 0);
    assert_eq!(
        rig.phone.sent.lock().unwrap().iter().filter(|(_, register)| register.expires == 0).count(),
        40
    );
}

#[tokio::test(start_paused = true)]
async fn a_sync_asked_for_while_one_runs_is_done_after_it() {
    let rig = rig(3);
    pass(2).await;
    rig.source.set(Mode::Slow);
    rig.controls.handle.sync_now().await.unwrap();
    pass(1).await;
    rig.source.set(Mode::Up);
    rig.source.put(&trunks(4));
    rig.controls.handle.sync_now().await.unwrap();
    // The slow one ends after 30 s.
    pass(30).await;
    assert_eq!(rig.registered().await, 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_outlives_the_process() {
    let rig = rig(30);
    pass(60).await;
    assert_eq!(rig.shelf.len(), 30);
    let before = rig.get("t000").await;
    let rig = rig.kill().await;
    rig.phone.forget();
    pass(60).await;
    let after = rig.get("t000").await;
    assert_eq!((rig.registered().await, rig.phone.count()), (30, 0));
    assert_eq!((before.call_id, before.cseq), (after.call_id, after.cseq));
    pass(600).await;
    assert!(rig.get("t000").await.cseq > after.cseq);
    assert_eq!((rig.registered().await, rig.phone.count()), (30, 30));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_at_the_start_is_run_without_and_given_everything_later() {
    for mode in [Mode::Down, Mode::Hanging] {
        let (source, phone, shelf) = neighbours();
        source.put(&trunks(10));
        shelf.set(mode);
        let rig = Rig::start_on(settings(1, None), source, phone, shelf);
        pass(30).await;
        assert_eq!(rig.registered().await, 10);
        assert_eq!(rig.controls.handle.summary().await.unwrap().cache.ok, Some(false));
        rig.shelf.set(Mode::Up);
        if mode == Mode::Down {
            pass(60).await;
            assert_eq!(rig.shelf.len(), 10);
            assert_eq!(rig.controls.handle.summary().await.unwrap().cache.ok, Some(true));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_later_is_given_everything_when_it_is_back() {
    let rig = rig(10);
    pass(10).await;
    rig.shelf.set(Mode::Down);
    let since = Instant::now();
    pass(1_200).await;
    let calls = rig.shelf.called_since(since);
    assert!((60..=200).contains(&calls), "asked {calls} times in 20 minutes");
    assert_eq!(rig.registered().await, 10);
    rig.shelf.lose();
    rig.shelf.set(Mode::Up);
    pass(40).await;
    assert_eq!(rig.shelf.len(), 10);
    let kept = rig.shelf.records.lock().unwrap()["t003"].clone();
    assert_eq!(kept.cseq, rig.get("t003").await.cseq);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_its_data_is_given_everything_again() {
    let rig = rig(10);
    pass(10).await;
    rig.shelf.lose();
    pass(30).await;
    assert_eq!(rig.shelf.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_noticed_though_there_is_always_something_to_write() {
    let rig = rig(10);
    pass(10).await;
    rig.shelf.lose();
    for _ in 0..30 {
        pass(1).await;
        let _ = rig.controls.handle.refresh("t003".into()).await;
    }
    assert_eq!(rig.shelf.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn when_the_clock_was_set_everything_is_written_by_the_new_one() {
    let rig = rig(10);
    pass(10).await;
    let kept = |rig: &Rig| rig.shelf.records.lock().unwrap()["t003"].expires_at_ms;
    let before = kept(&rig);
    rig.wall_ahead.store(-3_600_000, Relaxed);
    pass(60).await;
    assert_eq!(kept(&rig).abs_diff(before - 3_600_000), 0);
    assert_eq!(Some(kept(&rig)), rig.get("t003").await.expires_at_ms);
}

#[tokio::test(start_paused = true)]
async fn what_a_wrong_clock_wrote_is_put_right_at_the_start() {
    let rig = rig(10);
    pass(10).await;
    let shelf = rig.shelf.clone();
    shelf.records.lock().unwrap().get_mut("t003").unwrap().expires_at_ms += 3_600_000;
    let rig = rig.kill().await;
    pass(10).await;
    let kept = shelf.records.lock().unwrap()["t003"].expires_at_ms;
    assert_eq!(Some(kept), rig.get("t003").await.expires_at_ms);
}

#[tokio::test(start_paused = true)]
async fn a_restart_within_the_same_half_second_uses_no_number_twice() {
    let rig = rig(1);
    pass(2).await;
    let mut old = rig.shelf.records.lock().unwrap().clone();
    // It lapsed long ago, so that it is sent at once.
    old.get_mut("t000").unwrap().expires_at_ms = 1;
    let shelf = rig.shelf.clone();
    let _ = rig.controls.handle.refresh("t000".into()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let rig = rig.kill().await;
    // What was written last did not arrive.
    *shelf.records.lock().unwrap() = old;
    pass(600).await;
    let sent = rig.phone.sent.lock().unwrap();
    let numbers: Vec<u32> = sent.iter().map(|(_, register)| register.cseq).collect();
    assert!(numbers.len() > 2 && numbers.windows(2).all(|pair| pair[1] > pair[0] + 2), "{numbers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_the_credentials_is_not_asked_in_a_loop() {
    let (source, phone, shelf) = neighbours();
    source.put(&trunks(10));
    shelf.set(Mode::Denying);
    let rig = Rig::start_on(settings(1, None), source, phone, shelf);
    let since = Instant::now();
    pass(3_600).await;
    assert_eq!(rig.registered().await, 10);
    let calls = rig.shelf.called_since(since);
    // Once in half a minute, and a little quicker at the start.
    assert!((60..=130).contains(&calls), "asked {calls} times in an hour");
    let cache = rig.controls.handle.summary().await.unwrap().cache;
    assert!(cache.message.unwrap().contains("rejects the credentials"));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_answers_writes_everything_and_de_registers_nothing() {
    let rig = rig(10);
    pass(5).await;
    rig.phone.forget();
    assert_eq!(rig.controls.handle.refresh("t004".to_owned()).await.unwrap(), Refresh::Queued);
    let at = Instant::now();
    let (shelf, phone, handle) = (rig.shelf.clone(), rig.phone.clone(), rig.controls.handle.clone());
    rig.shutdown.cancel();
    let engine = rig.task.await.unwrap();
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
        let rig = rig(10);
        pass(5).await;
        rig.phone.set(phone);
        rig.shelf.set(shelf);
        rig.controls.handle.refresh("t004".to_owned()).await.unwrap();
        pass(1).await;
        let cseq = rig.phone.sent.lock().unwrap().last().unwrap().1.cseq;
        let at = Instant::now();
        rig.shutdown.cancel();
        rig.task.await.unwrap();
        assert!(at.elapsed() <= GRACE + GRACE / 4 + Duration::from_millis(10), "{:?}", at.elapsed());
        if shelf == Mode::Up {
            let kept = rig.shelf.records.lock().unwrap()["t004"].cseq;
            assert!(kept >= cseq, "the number of the request that was given up is not kept");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_it_left_off() {
    let rig = rig(10);
    pass(5).await;
    let rig = rig.restart().await;
    rig.phone.forget();
    pass(60).await;
    assert_eq!((rig.registered().await, rig.phone.count()), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reconnection_refreshes_early_and_another_one_soon_after_is_not_lost() {
    let rig = rig(300);
    pass(60).await;
    rig.phone.forget();
    rig.phone.reconnect();
    pass(4).await;
    let second = Instant::now();
    rig.phone.reconnect();
    pass(150).await;
    let sent = rig.phone.sent.lock().unwrap();
    for n in 0..300 {
        let user = format!("u{n}");
        let late = sent.iter().any(|(at, register)| *register.user == *user && *at >= second);
        assert!(late, "{user} still has the Contact of before the second restart");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_changes_only_what_it_concerns() {
    let rig = rig(10);
    pass(5).await;
    rig.phone.forget();
    rig.controls.reload.send(Box::new(reload(rig.settings.clone()))).await.ok().unwrap();
    pass(60).await;
    assert_eq!((rig.registered().await, rig.phone.count()), (10, 0));
    // Another interval.
    let mut settings = rig.settings.clone();
    settings.registration.interval_ms = 10 * SECOND;
    let since = Instant::now();
    rig.controls.reload.send(Box::new(reload(settings.clone()))).await.ok().unwrap();
    pass(101).await;
    assert!((9..=12).contains(&rig.source.asked_since(since)));
    // Another EdgePort: calls must arrive there soon.
    settings.edge_ports = vec![EdgePort { address: HostPort::new("new-edge.example", 5060), region: None }];
    rig.phone.forget();
    rig.controls.reload.send(Box::new(reload(settings.clone()))).await.ok().unwrap();
    pass(150).await;
    {
        let sent = rig.phone.sent.lock().unwrap();
        assert_eq!(sent.len(), 10);
        assert!(sent.iter().all(|(_, register)| &*register.edge_port.host == "new-edge.example"));
    }
    // Another API server is read at once, another store gets everything.
    let (source, phone, shelf) = neighbours();
    source.put(&trunks(12));
    let changed = Reload {
        source: Some(source),
        requester: Some(phone.clone()),
        requester_moved: true,
        store: Some(shelf.clone()),
        ..reload(settings)
    };
    rig.controls.reload.send(Box::new(changed)).await.ok().unwrap();
    pass(1).await;
    assert_eq!((rig.registered().await, shelf.len()), (12, 12));
    pass(150).await;
    assert_eq!(phone.count(), 12, "the Contact of the other Requester is another");
}

#[tokio::test(start_paused = true)]
async fn commands_are_answered_while_everything_fails() {
    let (source, phone, shelf) = neighbours();
    source.put(&trunks(10));
    phone.set(Mode::Hanging);
    shelf.set(Mode::Down);
    let rig = Rig::start_on(settings(1, None), source, phone, shelf);
    pass(200).await;
    let handle = &rig.controls.handle;
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
    let rig = rig(20);
    pass(5).await;
    rig.phone.set(Mode::Down);
    pass(20 * MINUTE / SECOND).await;
    assert_eq!(rig.registered().await, 0);
    assert!(rig.phone.count() < 1_000, "{} calls in twenty minutes", rig.phone.count());
    rig.phone.set(Mode::Up);
    pass(10).await;
    assert_eq!(rig.registered().await, 20);
}
