//! What the store is given when it is replaced by another one.

use super::{
    driver::{reload, rig, trunks},
    fakes::{Mode, pass},
};
use crate::engine::{driver::Reload, handle::Refresh};

#[tokio::test(start_paused = true)]
async fn a_write_to_the_store_before_a_reload_does_not_overwrite_what_came_after() {
    let rig = rig(10);
    pass(2).await;
    // What is written now arrives in half a minute.
    rig.shelf.set(Mode::Slow);
    assert_eq!(rig.controls.handle.refresh("t003".to_owned()).await.unwrap(), Refresh::Queued);
    pass(2).await;
    let other = rig.shelf.beside();
    let before = other.records.lock().unwrap()["t003"].cseq;
    let changed = Reload { store: Some(other.clone()), ..reload(rig.settings.clone()) };
    rig.controls.reload.send(Box::new(changed)).await.ok().unwrap();
    pass(2).await;
    assert_eq!(rig.controls.handle.refresh("t003".to_owned()).await.unwrap(), Refresh::Queued);
    pass(2).await;
    let used = rig.get("t003").await.cseq;
    let kept = || other.records.lock().unwrap()["t003"].cseq;
    assert!(used > before + 1);
    assert_eq!(kept(), used);
    pass(40).await;
    assert_eq!((kept(), rig.get("t003").await.cseq), (used, used));
}

#[tokio::test(start_paused = true)]
async fn what_was_being_forgotten_at_a_reload_is_forgotten() {
    let rig = rig(10);
    pass(2).await;
    rig.shelf.set(Mode::Slow);
    rig.source.put(&trunks(9));
    rig.controls.handle.sync_now().await.unwrap();
    pass(2).await;
    let other = rig.shelf.beside();
    assert_eq!(other.len(), 10);
    let changed = Reload { store: Some(other.clone()), ..reload(rig.settings.clone()) };
    rig.controls.reload.send(Box::new(changed)).await.ok().unwrap();
    pass(2).await;
    assert_eq!(other.len(), 9);
}
