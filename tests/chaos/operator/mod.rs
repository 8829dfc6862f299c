//! The same for the operator: two replicas, installed by the chart on a real control plane, and one Registry
//! of as many trunks. Its scenarios break the control plane and the leader; what is judged is in `truth`.
//!
//! One control plane serves all of them, and they run one after the other: a failed one takes it along.

mod cases;
mod fake;
mod fault;
mod look;
mod scenario;
mod truth;
mod watch;
mod world;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

pub use self::cases::all;
pub use self::scenario::Scenario;

use self::world::World;
use crate::report::Report;
use crate::scenario::Outcome;
use crate::support::control_plane::ControlPlane;

/// Plays all of these.
pub async fn lane(mut queue: VecDeque<Scenario>, report: &Report, trunks: usize) {
    while let Some(next) = queue.front().map(|scenario| scenario.name.clone()) {
        let played = AssertUnwindSafe(on_one_plane(&mut queue, report, trunks)).catch_unwind().await;
        let problem = match played {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(panic) => crate::words(&*panic),
        };
        queue.pop_front();
        let wrong = vec![format!("the world did not start: {problem}")];
        report.add(&next, Outcome { wrong, ..Outcome::default() });
    }
}

/// Plays them until one fails.
async fn on_one_plane(queue: &mut VecDeque<Scenario>, report: &Report, trunks: usize) -> Result<(), String> {
    let plane = ControlPlane::start().await;
    plane.apply_crds().await;
    let mut world = World::start(&plane, trunks).await?;
    while let Some(scenario) = queue.pop_front() {
        let outcome = match AssertUnwindSafe(scenario::play(&scenario, &mut world)).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => Outcome { wrong: vec![crate::words(&*panic)], ..Outcome::default() },
        };
        let failed = !outcome.wrong.is_empty();
        if failed {
            report.keep_logs(&scenario.name, world.logs(), &outcome);
        }
        report.add(&scenario.name, outcome);
        if failed {
            break;
        }
    }
    Ok(())
}
