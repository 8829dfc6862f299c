//! What the engine shows of itself, against what the world knows.

use std::{sync::Arc, time::Duration};

use routr_registration::{
    engine::view::{Filter, Summary, TrunkView},
    registration::state::TrunkState,
};
use tokio::time::{sleep, timeout};

use crate::{
    process::Reach,
    rules::SECOND,
    world::{State, World},
};

/// Looks at the views from time to time.
pub async fn look_often(world: Arc<World>) {
    loop {
        sleep(Duration::from_secs(3 * 3_600 + 17)).await;
        look(&world).await;
    }
}

/// The summary, and all trunks.
pub async fn read(reach: &Reach) -> Option<(Summary, Vec<TrunkView>)> {
    let all = async {
        let before = reach.handle.summary().await.ok()?;
        let page = reach.handle.list(Filter::default(), None, 500).await.ok()?;
        let after = reach.handle.summary().await.ok()?;
        (before.counts == after.counts).then_some((before, page.items))
    };
    timeout(Duration::from_secs(5), all).await.ok()?
}

async fn look(world: &Arc<World>) {
    let reach = world.lock().reach.clone();
    let Some(reach) = reach else { return };
    let Some((summary, views)) = read(&reach).await else { return };
    let failures = timeout(Duration::from_secs(5), reach.handle.failures(5)).await;
    let mut state = world.lock();
    state.say(format_args!("~{} shows {summary:?} {failures:?}", reach.run));
    for view in &views {
        state.say(format_args!("~{} shows {view:?}", reach.run));
    }
    state.check_views(&reach, &summary, &views);
}

impl State {
    /// Counts add up, and `registered` means that a registrar holds a binding for as long as is shown.
    pub fn check_views(&mut self, reach: &Reach, summary: &Summary, views: &[TrunkView]) {
        for kind in TrunkState::ALL {
            let shown = views.iter().filter(|view| view.state == kind).count() as u64;
            let counted = summary.counts.of(kind);
            self.check("views are true", shown == counted, |_| {
                format!("{counted} are counted {kind:?}, {shown} shown")
            });
        }
        if !self.model.runs.contains_key(&reach.run) {
            return;
        }
        let at = self.now();
        let wall = reach.life.machine.wall_ms();
        for view in views.iter().filter(|view| view.state == TrunkState::Registered) {
            let Some(until) = view.expires_at_ms else {
                self.check("views are true", false, |_| {
                    format!("{} is registered for no time", view.reference)
                });
                continue;
            };
            let left = until.saturating_sub(wall);
            let Some(call) = self.model.calls.get(&*view.call_id) else { continue };
            if call.misled_until > at {
                continue;
            }
            if call.grant.as_ref().is_none_or(|grant| grant.sent <= self.forgot_at || grant.run != reach.run)
            {
                continue;
            }
            let held = self.hosts.values().any(|host| {
                host.bindings.get(&*view.call_id).is_some_and(|bound| bound.expires + 2 * SECOND >= at + left)
            });
            self.check("views are true", held || call_is_open(self, &view.call_id), |_| {
                format!(
                    "{} is shown as registered for {left} ms more, and no registrar knows",
                    view.reference
                )
            });
        }
    }
}

/// A request on its way may have removed or shortened what is shown.
fn call_is_open(state: &State, call_id: &str) -> bool {
    state.model.calls.get(call_id).is_some_and(|call| call.flight.is_some())
}

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
        let busy = summary.in_flight > 0 || !world.lock().model.flights.is_empty();
        if busy && attempt < 9 {
            sleep(Duration::from_secs(11)).await;
            continue;
        }
        let mut state = world.lock();
        state.check_views(&reach, &summary, &views);
        state.check_states(&views);
        if state.rules.durable {
            state.check_store(&reach, &views);
        }
        return;
    }
    world.lock().check("views are true", false, |_| "nobody answers at the end".to_owned());
}

impl State {
    fn check_states(&mut self, views: &[TrunkView]) {
        let entries = self.catalogue.entries.iter();
        let expected: Vec<(String, bool, bool)> = entries
            .map(|(reference, entry)| {
                (reference.clone(), entry.problem.is_none(), self.may_wait_for_ever(entry))
            })
            .collect();
        for (reference, good, waits) in &expected {
            let shown = views.iter().find(|view| view.reference == *reference).map(|view| view.state);
            let right = if *good {
                shown == Some(TrunkState::Registered) || (*waits && shown.is_some())
            } else {
                shown == Some(TrunkState::Invalid)
            };
            self.check("views are true", right, |_| format!("{reference} is shown as {shown:?} at the end"));
        }
        self.check("views are true", views.len() == expected.len(), |_| {
            format!("{} trunks are shown at the end, {} are there", views.len(), expected.len())
        });
    }

    fn check_store(&mut self, reach: &Reach, views: &[TrunkView]) {
        let _ = reach;
        for view in views.iter().filter(|view| view.state == TrunkState::Registered) {
            let record = self.records.all.get(&*view.reference).cloned();
            let same = record.as_ref().is_some_and(|record| {
                let until = view.expires_at_ms.unwrap_or(0);
                record.cseq == view.cseq
                    && record.expires_at_ms.abs_diff(until) < 2 * SECOND
                    && *record.aor == *view.aor
            });
            self.check("store equals engine", same, |_| format!("{view:?} is kept as {record:?}"));
        }
        let stray = self
            .records
            .all
            .keys()
            .find(|kept| !views.iter().any(|view| *view.reference == ***kept))
            .cloned();
        let stray = stray.filter(|_| !self.records.restored);
        self.check("store equals engine", stray.is_none(), |_| format!("{stray:?} is kept and not there"));
    }
}

/// The registry is deleted: all bindings go.
pub async fn farewell(world: &Arc<World>) {
    let reach = world.lock().reach.clone();
    let Some(reach) = reach else { return };
    {
        let mut state = world.lock();
        if let Some(run) = state.model.runs.get_mut(&reach.run) {
            run.farewell = true;
        }
        state.look();
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
    state.check("farewell", abandoned == Some(0) && left.is_empty(), |_| {
        format!("{report:?}, still bound: {left:?}")
    });
}
