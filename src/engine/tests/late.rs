//! A store that says late what it kept, or that another process writes to.

use std::sync::Arc;

use super::{
    driver::{rig, trunks},
    fakes::{Mode, Rig, Shelf, neighbours, pass},
    sim::settings,
};
use crate::{engine::view::Fault, ports::Rival, registration::identity::RegistryId};

/// A store with the records of ten trunks that are registered, and the Call-ID of one of them.
async fn kept() -> (Arc<Shelf>, Box<str>) {
    let rig = rig(10);
    pass(10).await;
    let call_id = rig.phone.sent.lock().unwrap()[0].1.call_id.clone();
    let shelf = rig.shelf.clone();
    rig.shutdown.cancel();
    rig.task.await.unwrap();
    assert_eq!(shelf.len(), 10);
    (shelf, call_id)
}

fn beside(shelf: &Shelf) -> Rig {
    let (source, phone, _) = neighbours();
    source.put(&trunks(10));
    Rig::start_on(settings(1, None), source, phone, shelf.beside())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_late_is_waited_for_while_the_trunks_are_read() {
    for late in [1, 5, 12] {
        let (shelf, _) = kept().await;
        let rig = beside(&shelf);
        rig.shelf.set(Mode::Down);
        pass(late).await;
        assert_eq!(rig.source.asked.lock().unwrap().is_empty(), late == 1, "{late} s late");
        rig.shelf.set(Mode::Up);
        pass(4).await;
        assert_eq!((rig.registered().await, rig.phone.count()), (10, 0), "{late} s late");
        // Each is refreshed when it is time, and not all at once.
        pass(600).await;
        assert_eq!(rig.registered().await, 10);
        assert!((10..=20).contains(&rig.phone.count()), "{}", rig.phone.count());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_says_after_the_registry_began_is_merged() {
    let (shelf, _) = kept().await;
    for record in shelf.records.lock().unwrap().values_mut() {
        // Numbers that the clock has not reached.
        record.cseq += 1_000_000;
    }
    let rig = beside(&shelf);
    rig.shelf.set(Mode::Down);
    pass(40).await;
    assert_eq!(rig.phone.count(), 10, "it has begun without");
    *rig.shelf.instance_id.lock().unwrap() = Some("kept".into());
    rig.shelf.set(Mode::Up);
    pass(60).await;
    let numbers = shelf.records.lock().unwrap()["t003"].cseq;
    assert!(numbers > 1_000_000, "nothing lower was written over it");
    pass(700).await;
    let sent = rig.phone.sent.lock().unwrap();
    let later: Vec<_> = sent.iter().skip(10).map(|(_, register)| register).collect();
    assert!(later.len() >= 10);
    let kept = RegistryId::new("kept");
    for register in later {
        assert!(register.cseq > 1_000_000, "{}", register.cseq);
        assert!(
            (0..10).any(|n| *register.call_id == kept.call_id(&format!("t{n:03}"), "h0", &format!("u{n}")))
        );
    }
    assert_eq!(*rig.controls.identity.borrow(), Some(kept));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stands_by_sends_and_writes_nothing_and_goes_on_from_what_the_other_one_wrote() {
    let (shelf, call_id) = kept().await;
    let rig = beside(&shelf);
    let rival = Rival { who: "process 7 on host a".into(), since_ms: 1_790_000_000_000 };
    rig.shelf.rival.send_replace(Some(rival));
    pass(900).await;
    assert_eq!(rig.phone.count(), 0);
    let summary = rig.controls.handle.summary().await.unwrap();
    assert_eq!((summary.cache.ok, summary.cache.reason), (Some(false), Some(Fault::Taken)));
    let message = summary.cache.message.unwrap();
    assert!(message.contains("process 7 on host a, since 2026-"), "{message}");
    // The other one has refreshed all of them meanwhile.
    let before = shelf.records.lock().unwrap().clone();
    for record in shelf.records.lock().unwrap().values_mut() {
        record.cseq += 100_000;
        record.expires_at_ms += 900_000;
    }
    rig.shelf.rival.send_replace(None);
    pass(5).await;
    assert_eq!((rig.registered().await, rig.phone.count()), (10, 0), "nothing is due yet");
    pass(600).await;
    assert!(rig.phone.count() >= 10);
    let sent = rig.phone.sent.lock().unwrap();
    assert!(sent.iter().all(|(_, register)| register.cseq > before["t000"].cseq + 99_000));
    assert!(sent.iter().any(|(_, register)| register.call_id == call_id));
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_place_is_taken_stops_sending() {
    let rig = rig(10);
    pass(10).await;
    rig.shelf.rival.send_replace(Some(Rival { who: "another".into(), since_ms: 0 }));
    pass(1).await;
    rig.phone.forget();
    let written = rig.shelf.calls.lock().unwrap().len();
    pass(3_600).await;
    assert_eq!((rig.phone.count(), rig.shelf.calls.lock().unwrap().len()), (0, written));
}

#[tokio::test(start_paused = true)]
async fn another_process_that_writes_the_same_keys_is_named_and_is_no_loss_of_data() {
    let rig = rig(10);
    pass(10).await;
    let other = Rival { who: "process 7 on host a".into(), since_ms: 1_790_000_000_000 };
    let found = |rig: &Rig, other: Option<&Rival>| {
        *rig.shelf.other_writer.lock().unwrap() = other.cloned();
        *rig.shelf.lost.lock().unwrap() = other.is_some();
    };
    found(&rig, Some(&other));
    pass(11).await;
    let summary = rig.controls.handle.summary().await.unwrap();
    assert_eq!((summary.cache.ok, summary.cache.reason), (Some(false), Some(Fault::Shared)));
    let message = summary.cache.message.unwrap();
    assert!(message.contains("another process writes the same keys"), "{message}");
    assert!(message.contains("process 7 on host a, since 2026-"), "{message}");
    // It stays so; and everything is written again once, not at each look.
    assert_eq!(rig.shelf.len(), 10);
    rig.shelf.records.lock().unwrap().clear();
    for _ in 0..5 {
        found(&rig, Some(&other));
        pass(10).await;
    }
    assert_eq!(rig.shelf.len(), 0);
    let summary = rig.controls.handle.summary().await.unwrap();
    assert_eq!(summary.cache.reason, Some(Fault::Shared));
    found(&rig, None);
    pass(11).await;
    let summary = rig.controls.handle.summary().await.unwrap();
    assert_eq!((summary.cache.ok, summary.cache.reason), (Some(true), None));
    assert_eq!((rig.registered().await, rig.phone.count()), (10, 10), "it goes on sending");
}
