//! Records that the store is given when it is replaced by another one.

use super::{
    driver::{harness, reload, trunks},
    fakes::{Mode, pass},
};
use crate::runtime::driver::Reload;
use routr_registration::engine::view::Refresh;

#[tokio::test(start_paused = true)]
async fn a_write_to_the_store_before_a_reload_does_not_overwrite_what_came_after() {
    let harness = harness(10);
    pass(2).await;
    // What is written now arrives in half a minute.
    harness.shelf.set(Mode::Slow);
    assert_eq!(harness.controls.handle.refresh("t003".to_owned()).await.unwrap(), Refresh::Queued);
    pass(2).await;
    let other = harness.shelf.beside();
    let before = other.records.lock().unwrap()["t003"].cseq;
    let changed = Reload { store: Some(other.clone()), ..reload(harness.settings.clone()) };
    harness.controls.reload.send(Box::new(changed)).await.ok().unwrap();
    pass(2).await;
    assert_eq!(harness.controls.handle.refresh("t003".to_owned()).await.unwrap(), Refresh::Queued);
    pass(2).await;
    let used = harness.get("t003").await.cseq;
    let kept = || other.records.lock().unwrap()["t003"].cseq;
    assert!(used > before + 1);
    assert_eq!(kept(), used);
    pass(40).await;
    assert_eq!((kept(), harness.get("t003").await.cseq), (used, used));
}

#[tokio::test(start_paused = true)]
async fn what_was_being_forgotten_at_a_reload_is_forgotten() {
    let harness = harness(10);
    pass(2).await;
    harness.shelf.set(Mode::Slow);
    harness.source.put(&trunks(9));
    harness.controls.handle.sync_now().await.unwrap();
    pass(2).await;
    let other = harness.shelf.beside();
    assert_eq!(other.len(), 10);
    let changed = Reload { store: Some(other.clone()), ..reload(harness.settings.clone()) };
    harness.controls.reload.send(Box::new(changed)).await.ok().unwrap();
    pass(2).await;
    assert_eq!(other.len(), 9);
}
