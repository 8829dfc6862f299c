//! A store that says late what it kept, or that another process writes to.

use std::sync::Arc;

use super::{
    driver::{harness, trunks},
    fakes::{DriverHarness, FakeStore, Mode, dependencies, pass},
};
use routr_registration::testing::settings;
use routr_registration::{engine::view::DependencyFailure, model::Rival, registration::identity::RegistryId};

/// A store with the records of ten trunks that are registered, and the Call-ID of one of them.
async fn kept() -> (Arc<FakeStore>, Box<str>) {
    let harness = harness(10);
    pass(10).await;
    let call_id = harness.phone.sent.lock().unwrap()[0].1.call_id.clone();
    let shelf = harness.shelf.clone();
    harness.shutdown.cancel();
    harness.task.await.unwrap();
    assert_eq!(shelf.len(), 10);
    (shelf, call_id)
}

fn beside(shelf: &FakeStore) -> DriverHarness {
    let (source, phone, _) = dependencies();
    source.put(&trunks(10));
    DriverHarness::start_on(settings(1, None), source, phone, shelf.beside())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_late_is_waited_for_while_the_trunks_are_read() {
    for late in [1, 5, 12] {
        let (shelf, _) = kept().await;
        let harness = beside(&shelf);
        harness.shelf.set(Mode::Down);
        pass(late).await;
        assert_eq!(harness.source.asked.lock().unwrap().is_empty(), late == 1, "{late} s late");
        harness.shelf.set(Mode::Up);
        pass(4).await;
        assert_eq!((harness.registered().await, harness.phone.count()), (10, 0), "{late} s late");
        // Each is refreshed when it is time, and not all at once.
        pass(600).await;
        assert_eq!(harness.registered().await, 10);
        assert!((10..=20).contains(&harness.phone.count()), "{}", harness.phone.count());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_says_after_the_registry_began_is_merged() {
    let (shelf, _) = kept().await;
    for record in shelf.records.lock().unwrap().values_mut() {
        // Numbers that the clock has not reached.
        record.cseq += 1_000_000;
    }
    let harness = beside(&shelf);
    harness.shelf.set(Mode::Down);
    pass(40).await;
    assert_eq!(harness.phone.count(), 10, "it has begun without");
    *harness.shelf.instance_id.lock().unwrap() = Some("kept".into());
    harness.shelf.set(Mode::Up);
    pass(60).await;
    let numbers = shelf.records.lock().unwrap()["t003"].cseq;
    assert!(numbers > 1_000_000, "nothing lower was written over it");
    pass(700).await;
    let sent = harness.phone.sent.lock().unwrap();
    let later: Vec<_> = sent.iter().skip(10).map(|(_, register)| register).collect();
    assert!(later.len() >= 10);
    let kept = RegistryId::new("kept");
    for register in later {
        assert!(register.cseq > 1_000_000, "{}", register.cseq);
        assert!(
            (0..10).any(|n| *register.call_id == kept.call_id(&format!("t{n:03}"), "h0", &format!("u{n}")))
        );
    }
    assert_eq!(*harness.controls.identity.borrow(), Some(kept));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stands_by_sends_and_writes_nothing_and_goes_on_from_what_the_other_one_wrote() {
    let (shelf, call_id) = kept().await;
    let harness = beside(&shelf);
    let rival = Rival { who: "process 7 on host a".into(), since_ms: 1_790_000_000_000 };
    harness.shelf.rival.send_replace(Some(rival));
    pass(900).await;
    assert_eq!(harness.phone.count(), 0);
    let summary = harness.controls.handle.summary().await.unwrap();
    assert_eq!((summary.cache.ok, summary.cache.reason), (Some(false), Some(DependencyFailure::Taken)));
    let message = summary.cache.message.unwrap();
    assert!(message.contains("process 7 on host a, since 2026-"), "{message}");
    // The other one has refreshed all of them meanwhile.
    let before = shelf.records.lock().unwrap().clone();
    for record in shelf.records.lock().unwrap().values_mut() {
        record.cseq += 100_000;
        record.expires_at_ms += 900_000;
    }
    harness.shelf.rival.send_replace(None);
    pass(5).await;
    assert_eq!((harness.registered().await, harness.phone.count()), (10, 0), "nothing is due yet");
    pass(600).await;
    assert!(harness.phone.count() >= 10);
    let sent = harness.phone.sent.lock().unwrap();
    assert!(sent.iter().all(|(_, register)| register.cseq > before["t000"].cseq + 99_000));
    assert!(sent.iter().any(|(_, register)| register.call_id == call_id));
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_place_is_taken_stops_sending() {
    let harness = harness(10);
    pass(10).await;
    harness.shelf.rival.send_replace(Some(Rival { who: "another".into(), since_ms: 0 }));
    pass(1).await;
    harness.phone.forget();
    let written = harness.shelf.calls.lock().unwrap().len();
    pass(3_600).await;
    assert_eq!((harness.phone.count(), harness.shelf.calls.lock().unwrap().len()), (0, written));
}

#[tokio::test(start_paused = true)]
async fn another_process_that_writes_the_same_keys_is_named_and_is_no_loss_of_data() {
    let harness = harness(10);
    pass(10).await;
    let other = Rival { who: "process 7 on host a".into(), since_ms: 1_790_000_000_000 };
    let found = |harness: &DriverHarness, other: Option<&Rival>| {
        *harness.shelf.other_writer.lock().unwrap() = other.cloned();
        *harness.shelf.lost.lock().unwrap() = other.is_some();
    };
    found(&harness, Some(&other));
    pass(11).await;
    let summary = harness.controls.handle.summary().await.unwrap();
    assert_eq!((summary.cache.ok, summary.cache.reason), (Some(false), Some(DependencyFailure::Shared)));
    let message = summary.cache.message.unwrap();
    assert!(message.contains("another process writes the same keys"), "{message}");
    assert!(message.contains("process 7 on host a, since 2026-"), "{message}");
    // It stays so; and everything is written again once, not at each look.
    assert_eq!(harness.shelf.len(), 10);
    harness.shelf.records.lock().unwrap().clear();
    for _ in 0..5 {
        found(&harness, Some(&other));
        pass(10).await;
    }
    assert_eq!(harness.shelf.len(), 0);
    let summary = harness.controls.handle.summary().await.unwrap();
    assert_eq!(summary.cache.reason, Some(DependencyFailure::Shared));
    found(&harness, None);
    pass(11).await;
    let summary = harness.controls.handle.summary().await.unwrap();
    assert_eq!((summary.cache.ok, summary.cache.reason), (Some(true), None));
    assert_eq!((harness.registered().await, harness.phone.count()), (10, 10), "it goes on sending");
}
