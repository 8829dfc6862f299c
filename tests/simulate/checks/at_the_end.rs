//! All is well again: the engine, the store and the registrars agree.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    checks::{Invariant, views_are_true::read},
    world::World,
};

/// The end: all is well, and the engine, the store and the registrars say the same.
pub async fn settle(world: &Arc<World>) {
    for attempt in 0..10 {
        let reach = world.lock().reach.clone();
        let Some(reach) = reach else {
            sleep(Duration::from_secs(60)).await;
            continue;
        };
        let Some((summary, views)) = read(&reach).await else {
            sleep(Duration::from_secs(11)).await;
            continue;
        };
        let busy = summary.in_flight > 0 || !world.lock().model.in_flight.is_empty();
        if busy && attempt < 9 {
            sleep(Duration::from_secs(11)).await;
            continue;
        }
        let mut state = world.lock();
        state.check_views(&reach, &summary, &views);
        state.check_states(&views);
        if state.rules.durable {
            state.check_store(&views);
        }
        return;
    }
    world.lock().check(Invariant::ViewsAreTrue, false, |_| "nobody answers at the end".to_owned());
}
