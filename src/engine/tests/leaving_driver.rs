//! The end of all registrations.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    driver::{rig, trunks},
    fakes::{GRACE, Mode, Rig, neighbours, pass},
    sim::settings,
};
use crate::engine::handle::{EngineStopped, LeaveReport};

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
    let rig = super::driver::rig(4);
    pass(5).await;
    rig.phone.set(Mode::Down);
    assert!(!leaves(&rig, 100).await);
    rig.phone.forget();
    rig.phone.set(Mode::Up);
    assert!(leaves(&rig, 20).await);
    assert_eq!(expiries(&rig), [0; 4]);
}
