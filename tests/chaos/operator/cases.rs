//! The scenarios of the operator, with the times within which things have to be said and to be well again.
//!
//! The times that they go by: the Lease lasts 5 s, so a leader stops 3.5 s after the last renewal that it sent, each of which
//! may take 0.75 s; another replica leads at most 5 s, a look (0.5 s) and two requests after it saw that renewal. A follower
//! says that it could not take over when the Lease was of no use for 3 s. Trunks are read every 8 s with a timeout of 2 s;
//! 24 s are asked for, so that a trunk is refreshed after 13.6 to 16 s, 8 s before its binding lapses.

use std::time::Duration;

use super::fault::Fault::{Kill, Stop};
use super::fault::{Fault, Part};
use super::scenario::{Says, Scenario, Step};

/// By how many MiB memory may grow for a while in a scenario that gives no reason for more.
const PEAK: u64 = 64;
/// A leader that loses the API server of Kubernetes, and a follower too.
const BLIND: Says = Says::Blind(ms(6_500));
/// From then on nothing is sent: the end of a term, and what its work may take.
const SILENT: Says = Says::Silent(ms(5_500));
/// A dead leader, or one that is stopped.
const TAKEN_OVER: Says = Says::TakenOver(ms(7_500));

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        scenario("operator: kill the leader", vec![step(vec![Kill(Part::Leader)], 9, &[TAKEN_OVER])], 20)
            .kept()
            .quick(),
    ]
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn step(faults: Vec<Fault>, lasts: u64, says: &[Says]) -> Step {
    Step { faults, lasts: Duration::from_secs(lasts), says: says.to_vec() }
}

fn scenario(name: &str, steps: Vec<Step>, recovers: u64) -> Scenario {
    let recovers = Duration::from_secs(recovers);
    Scenario { name: name.to_owned(), quick: false, steps, kept: false, recovers, peak: PEAK }
}

impl Scenario {
    fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    fn peak(self, peak: u64) -> Self {
        Self { peak, ..self }
    }
}
