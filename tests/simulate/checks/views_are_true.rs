//! The views of the engine agree with what the world knows.

use std::{sync::Arc, time::Duration};

use routr_registration::{
    engine::view::{Filter, Summary, TrunkView},
    registration::state::TrunkState,
};
use tokio::time::{sleep, timeout};

use crate::{
    checks::Invariant,
    process::Reach,
    rules::SECOND,
    world::{State, World},
};

/// Looks at the views from time to time.
pub async fn check_often(world: Arc<World>) {
    loop {
        sleep(Duration::from_secs(3 * 3_600 + 17)).await;
        check_now(&world).await;
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

pub async fn check_now(world: &Arc<World>) {
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
            self.check(Invariant::ViewsAreTrue, shown == counted, |_| {
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
                self.check(Invariant::ViewsAreTrue, false, |_| {
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
            self.check(Invariant::ViewsAreTrue, held || call_is_open(self, &view.call_id), |_| {
                format!(
                    "{} is shown as registered for {left} ms more, and no registrar knows",
                    view.reference
                )
            });
        }
    }
}

/// A request on its way may have removed or shortened what is shown.
pub fn call_is_open(state: &State, call_id: &str) -> bool {
    state.model.calls.get(call_id).is_some_and(|call| call.open.is_some())
}

impl State {
    pub fn check_states(&mut self, views: &[TrunkView]) {
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
            self.check(Invariant::ViewsAreTrue, right, |_| {
                format!("{reference} is shown as {shown:?} at the end")
            });
        }
        self.check(Invariant::ViewsAreTrue, views.len() == expected.len(), |_| {
            format!("{} trunks are shown at the end, {} are there", views.len(), expected.len())
        });
    }
}
