//! Trunks that a list lacks are looked up before they are removed.

use super::{
    driver::{harness, trunks},
    fakes::{DriverHarness, Lists, pass},
};
use routr_registration::model::Absence;

fn set(harness: &DriverHarness, lists: Lists) {
    *harness.source.lists.lock().unwrap() = lists;
}

fn deregistered(harness: &DriverHarness) -> usize {
    harness.phone.sent.lock().unwrap().iter().filter(|(_, register)| register.expires == 0).count()
}

#[tokio::test(start_paused = true)]
async fn g4_trunks_that_are_there_when_they_are_looked_up_stay() {
    for absence in [Absence::Certain, Absence::Unconfirmed] {
        let harness = harness(40);
        pass(2).await;
        set(&harness, Lists { lacking: 30, absence, looks_up: true, ..Lists::default() });
        pass(600).await;
        assert_eq!((harness.registered().await, deregistered(&harness)), (40, 0));
        assert_eq!(harness.controls.handle.summary().await.unwrap().removals_pending_confirmation, 0);
        // One is gone for good, and that is certain: at once.
        harness.source.put(&trunks(40)[..39]);
        let since = tokio::time::Instant::now();
        pass(62).await;
        assert_eq!((harness.registered().await, deregistered(&harness)), (39, 1));
        assert!(harness.source.asked_since(since) <= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn g4_what_cannot_be_looked_up_waits_for_a_second_list_where_the_first_is_unsure() {
    let harness = harness(40);
    pass(2).await;
    set(&harness, Lists { lacking: 5, absence: Absence::Unconfirmed, ..Lists::default() });
    harness.controls.handle.sync_now().await.unwrap();
    pass(5).await;
    let summary = harness.controls.handle.summary().await.unwrap();
    assert_eq!(
        (summary.counts.registered, summary.removals_pending_confirmation, deregistered(&harness)),
        (40, 5, 0)
    );
    set(&harness, Lists::default());
    pass(62).await;
    assert_eq!((harness.registered().await, deregistered(&harness)), (40, 0));
    set(&harness, Lists { lacking: 5, absence: Absence::Unconfirmed, ..Lists::default() });
    pass(125).await;
    assert_eq!((harness.registered().await, deregistered(&harness)), (35, 5));
}

#[tokio::test(start_paused = true)]
async fn g4_an_api_server_that_fails_while_trunks_are_looked_up_removes_none() {
    let harness = harness(40);
    pass(2).await;
    set(&harness, Lists { lacking: 5, look_up_fails: true, ..Lists::default() });
    pass(600).await;
    assert_eq!((harness.registered().await, deregistered(&harness)), (40, 0));
    assert_eq!(harness.controls.handle.summary().await.unwrap().api.ok, Some(false));
    set(&harness, Lists::default());
    pass(120).await;
    assert_eq!((harness.registered().await, deregistered(&harness)), (40, 0));
}
