//! All scenarios, with the times within which things have to be said and to be well again.
//!
//! The configuration that they go by: trunks are read every 2 s with a timeout of 2 s; 24 s are asked for, so
//! that a trunk is refreshed after 16.6 to 19 s; Redis may take 5 s for an answer; one REGISTER may take 40
//! s.

mod garbage;
mod kills;
mod network;
mod silent;
pub mod special;

use std::time::Duration;

use crate::standalone::fault::Fault;
use crate::standalone::{Says, Scenario, Step};

/// An API server is asked every 2 s, and has 2 s to answer: what is wrong is known after 4 s.
const API: Says = Says::Down("api", secs(7));
/// A lost connection is noticed at once, and so is one that cannot be made.
const REQUESTER: Says = Says::Down("requester", secs(4));
/// Refreshes come in waves: between them nothing is sent. Then another Requester in the place of the first is
/// noticed by the early refreshes.
const ANOTHER_REQUESTER: Says = Says::Down("requester", secs(12));
/// And then nothing is written: the cache is looked at every 10 s.
const CACHE: Says = Says::Down("cache", secs(12));
/// A silent cache, which is given up after 5 s.
const SILENT_CACHE: Says = Says::Down("cache", secs(18));

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    [kills::all(), network::all(), garbage::all()].concat()
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn step(faults: Vec<Fault>, lasts: u64, says: &[Says]) -> Step {
    Step { faults, lasts: secs(lasts), says: says.to_vec() }
}

fn scenario(name: impl Into<String>, steps: Vec<Step>, recovers: u64) -> Scenario {
    Scenario::new(name, steps, secs(recovers))
}
