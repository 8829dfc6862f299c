//! A registry that is deleted leaves no binding behind.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{checks::Invariant, world::World};

/// The registry is deleted: all bindings go.
pub async fn deregister_all(world: &Arc<World>) {
    let reach = world.lock().reach.clone();
    let Some(reach) = reach else { return };
    {
        let mut state = world.lock();
        if let Some(run) = state.model.runs.get_mut(&reach.run) {
            run.farewell = true;
        }
        state.update_model();
    }
    let report = timeout(Duration::from_secs(1_200), reach.handle.deregister_all(true)).await;
    let mut state = world.lock();
    state.say(format_args!("* farewell: {report:?}"));
    let at = state.now();
    let abandoned =
        report.as_ref().ok().and_then(|report| report.as_ref().ok()).map(|report| report.abandoned);
    let left: Vec<String> = state
        .hosts
        .values()
        .flat_map(|host| host.bindings.iter())
        .filter(|(id, bound)| bound.expires > at && state.can_be_removed_by(reach.run, id))
        .map(|(id, _)| state.model.call_name(&state.catalogue, id))
        .collect();
    state.check(Invariant::AllDeregistered, abandoned == Some(0) && left.is_empty(), |_| {
        format!("{report:?}, still bound: {left:?}")
    });
}
