//! The end of all registrations.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    driver::{harness, trunks},
    fakes::{DriverHarness, GRACE, Mode, dependencies, pass},
};
use crate::runtime::handle::EngineStopped;
use routr_registration::engine::view::DeregistrationReport;
use routr_registration::testing::settings;

/// Expiries that were sent, in order.
fn expiries(harness: &DriverHarness) -> Vec<u32> {
    harness.phone.sent.lock().unwrap().iter().map(|(_, register)| register.expires).collect()
}

/// Returns whether it ends within this number of seconds.
async fn leaves(harness: &DriverHarness, seconds: u64) -> bool {
    let end = timeout(Duration::from_secs(seconds), harness.controls.handle.deregister_all(true)).await;
    end.is_ok_and(|left| left.is_ok())
}

#[tokio::test(start_paused = true)]
async fn deregistering_removes_every_binding_once_forgets_them_and_reads_no_more() {
    let harness = harness(20);
    pass(5).await;
    harness.phone.forget();
    assert!(leaves(&harness, 5).await);
    assert_eq!(expiries(&harness), [0; 20]);
    let since = Instant::now();
    pass(300).await;
    assert_eq!((harness.shelf.len(), harness.source.asked_since(since), harness.phone.count()), (0, 0, 20));
    // Again, and it is done at once.
    assert!(leaves(&harness, 1).await);
    assert_eq!(harness.phone.count(), 20);
}

#[tokio::test(start_paused = true)]
async fn deregistering_before_the_first_sync_reads_first_and_registers_nothing() {
    let harness = harness(20);
    let end = tokio::join!(
        harness.controls.handle.deregister_all(true),
        harness.controls.handle.deregister_all(true)
    );
    let report = DeregistrationReport { removed: 20, abandoned: 0 };
    assert_eq!(end, (Ok(report), Ok(report)));
    assert_eq!(expiries(&harness), [0; 20]);
}

#[tokio::test(start_paused = true)]
async fn deregistering_while_the_api_server_is_down_waits_without_sending_and_blocks_nothing() {
    let (source, phone, shelf) = dependencies();
    source.put(&trunks(20));
    source.set(Mode::Down);
    let harness = DriverHarness::start_on(settings(1, None), source, phone, shelf);
    assert!(!leaves(&harness, 300).await, "there is nothing to remove it could know of");
    assert_eq!(harness.phone.count(), 0);
    assert_eq!(harness.controls.handle.summary().await.unwrap().api.ok, Some(false));
    // Anyone who goes on after a suspension meanwhile does not make it register.
    harness.controls.handle.pause(false).await.unwrap();
    harness.source.set(Mode::Up);
    assert!(leaves(&harness, 70).await, "not taken up when the API server was back");
    assert_eq!(expiries(&harness), [0; 20]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_ended_while_it_deregisters_ends_in_time_and_says_so() {
    for (source_mode, phone_mode) in [(Mode::Down, Mode::Up), (Mode::Up, Mode::Hanging)] {
        let (source, phone, shelf) = dependencies();
        source.put(&trunks(20));
        source.set(source_mode);
        phone.set(phone_mode);
        let harness = DriverHarness::start_on(settings(1, None), source, phone, shelf);
        let handle = harness.controls.handle.clone();
        let deregistering = tokio::spawn(async move { handle.deregister_all(true).await });
        pass(5).await;
        let at = Instant::now();
        harness.shutdown.cancel();
        harness.task.await.unwrap();
        assert!(at.elapsed() <= GRACE + GRACE / 4 + Duration::from_millis(10), "{:?}", at.elapsed());
        assert_eq!(deregistering.await.unwrap(), Err(EngineStopped));
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_outlives_the_engine() {
    let (source, phone, shelf) = dependencies();
    source.put(&trunks(20));
    phone.set(Mode::Hanging);
    let harness = DriverHarness::start_on(settings(1, None), source, phone, shelf);
    pass(5).await;
    assert!(harness.phone.count() > 0);
    harness.shutdown.cancel();
    harness.task.await.unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    // Each call holds the port that it was made on.
    assert_eq!(Arc::strong_count(&harness.phone), 1, "another process may act for these trunks by now");
}

#[tokio::test(start_paused = true)]
async fn deregistering_ends_a_pause() {
    let harness = harness(10);
    harness.controls.handle.pause(true).await.unwrap();
    pass(30).await;
    assert_eq!(harness.phone.count(), 0, "it sent something while paused");
    assert_eq!(
        harness.controls.handle.summary().await.unwrap().counts.pending,
        10,
        "trunks are read all the same"
    );
    assert!(leaves(&harness, 5).await);
    assert_eq!(expiries(&harness), [0; 10], "a predecessor may have registered them");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_removed_after_its_answer() {
    let harness = harness(4);
    pass(5).await;
    harness.phone.set(Mode::Hanging);
    harness.controls.handle.refresh("t001".to_owned()).await.unwrap();
    pass(1).await;
    harness.phone.forget();
    harness.phone.set(Mode::Up);
    let at = Instant::now();
    assert!(leaves(&harness, 60).await);
    assert!(at.elapsed() >= Duration::from_secs(38), "two in flight for one Call-ID");
    assert_eq!(expiries(&harness), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn attempts_to_deregister_are_bounded_when_the_requester_does_not_respond() {
    let harness = harness(4);
    pass(5).await;
    harness.phone.forget();
    harness.phone.set(Mode::Hanging);
    assert!(leaves(&harness, 400).await);
    assert!(harness.phone.count() <= 12, "{} tries for 4 trunks", harness.phone.count());
}

#[tokio::test(start_paused = true)]
async fn deregistering_without_a_requester_ends_when_the_bindings_expire() {
    let harness = harness(4);
    pass(5).await;
    harness.phone.forget();
    harness.phone.set(Mode::Down);
    assert!(!leaves(&harness, 100).await);
    assert!(harness.phone.count() <= 80, "{} calls in 100 s", harness.phone.count());
    assert!(leaves(&harness, 500).await);
    // In between it comes back.
    let harness = super::driver::harness(4);
    pass(5).await;
    harness.phone.set(Mode::Down);
    assert!(!leaves(&harness, 100).await);
    harness.phone.forget();
    harness.phone.set(Mode::Up);
    assert!(leaves(&harness, 20).await);
    assert_eq!(expiries(&harness), [0; 4]);
}
