//! The registry from a file, among its dependencies, all of which break in turn.

mod cases;
pub mod fault;
mod sample;
mod truth;
pub mod world;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use routr_registration::registration::state::TrunkState;

pub use self::cases::all;

use self::fault::{Broken, Fault};
use self::sample::{Places, Sample};
use self::world::World;
use crate::report::Report;
use crate::scenario::{self, Kind, Outcome, Peak, Played, not_started, panic_text};
use crate::watch::Watch;

/// Report that is required while something is broken.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// This dependency is reported as not working, in all places, at each look from so long after the
    /// beginning until the end.
    Down(&'static str, Duration),
    /// Trunks are reported in trouble, at least once within this time.
    Trouble(Duration),
}

/// Scenarios of their own kind, in `cases::special`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Redis gets another password, and later the configuration too.
    PasswordOfRedis,
    /// Trunks of every wrong kind among the good ones.
    MalformedTrunks,
    /// Registrars that never respond come first in the list, respond in the end, and are removed.
    SilentRegistrars,
}

/// The kind of world.
#[derive(Clone, Copy, Debug)]
pub struct Standalone;

impl Kind for Standalone {
    type Fault = Fault;
    type Says = Says;
    type Special = Special;

    fn suspect(fault: &Fault) -> Option<&'static str> {
        fault.suspect()
    }
}

pub type Scenario = scenario::Scenario<Standalone>;
pub type Step = scenario::Step<Standalone>;

/// Plays scenario after scenario in one world, and in a new one after a failure.
pub async fn lane(queue: Arc<Mutex<VecDeque<Scenario>>>, report: &Report, trunks: usize) {
    let mut world: Option<World> = None;
    loop {
        let Some(scenario) = queue.lock().expect("no holder panics").pop_front() else { return };
        if world.is_none() {
            match AssertUnwindSafe(World::start(trunks)).catch_unwind().await {
                Ok(Ok(started)) => world = Some(started),
                Ok(Err(error)) => not_started(&scenario.name, &error, report),
                Err(panic) => not_started(&scenario.name, &panic_text(&*panic), report),
            }
        }
        let Some(current) = world.as_mut() else { continue };
        if !scenario::run(&scenario, current, report).await {
            world = None;
        }
    }
}

impl scenario::World for World {
    type Kind = Standalone;
    type Watched = Places;
    type Broken = Broken;
    type Before = ();
    const WELL_BETWEEN_STEPS: bool = false;

    fn watch(&self) -> &Watch<Places> {
        &self.watch
    }

    fn suspect(&self, suspects: Vec<&'static str>) {
        self.watch.facts().suspects = suspects;
    }

    fn accounts(&self) -> usize {
        self.users.len()
    }

    fn pids(&self) -> Vec<i32> {
        vec![self.registry.pid(), self.requester.pid()]
    }

    fn before_step(&self) {}

    async fn begin(&mut self, fault: &Fault, broken: &mut Broken) {
        fault::begin(fault, self, broken).await;
    }

    async fn end(&mut self, fault: &Fault, broken: &mut Broken) {
        fault::end(fault, self, broken).await;
    }

    async fn play_special(&mut self, special: Special, outcome: &mut Outcome) -> Result<(), String> {
        cases::special::play(special, self, outcome).await
    }

    fn said(says: Says, played: &Played<'_, Standalone, ()>, during: &[&Sample]) -> Result<(), String> {
        let began = played.began;
        match says {
            Says::Down(dependency, within) => {
                let after: Vec<&&Sample> =
                    during.iter().filter(|sample| sample.at >= began + within).collect();
                let otherwise = after.iter().filter(|sample| !sample.says_down(dependency)).count();
                match (after.len(), otherwise) {
                    (0, _) => Err(format!("nothing was seen from {within:?} on")),
                    (_, 0) => Ok(()),
                    (all, _) => Err(format!(
                        "{dependency} was not reported as not working in {otherwise} of {all} looks from {within:?} on"
                    )),
                }
            }
            Says::Trouble(within) => {
                let trouble = |s: &&&Sample| s.count(TrunkState::AtRisk) + s.count(TrunkState::Failing) > 0;
                let first = during.iter().find(trouble).ok_or("no trunk was reported in trouble")?;
                let after = first.at - began;
                if after > within { Err(format!("trunks in trouble only after {after:.1?}")) } else { Ok(()) }
            }
        }
    }

    fn peaks(&self, samples: &[Sample]) -> Vec<Peak> {
        let last = |of: fn(&Sample) -> Option<crate::vitals::Vitals>| {
            samples.iter().filter_map(of).next_back().map_or(0, |vitals| vitals.peak)
        };
        let (registry, requester) = self.usual;
        vec![
            Peak { name: "the registry", registry: true, peak: last(|s| s.registry), usual: registry.rss },
            Peak {
                name: "the Requester",
                registry: false,
                peak: last(|s| s.requester),
                usual: requester.rss,
            },
        ]
    }

    async fn all_well(&mut self, deadline: Duration) -> Result<(), String> {
        self.all_well(deadline).await
    }

    async fn at_rest(&mut self) -> Result<(), String> {
        self.at_rest().await
    }

    async fn assert_discreet(&self) -> Result<(), String> {
        self.assert_discreet().await
    }

    fn logs(&self) -> Vec<(&'static str, String)> {
        self.logs()
    }
}
