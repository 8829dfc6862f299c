//! The same for the operator: two replicas, installed by the chart on a real control plane, and one Registry
//! of as many trunks. Its scenarios break the control plane and the leader; what is judged is in `truth`.
//!
//! One control plane serves all of them, and they run one after the other: a failed one takes it along.

mod cases;
mod fake;
mod fault;
mod sample;
mod truth;
mod watch;
mod world;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

pub use self::cases::all;

use self::fault::{Broken, Fault};
use self::sample::{Cluster, PODS, Said, Sample};
use self::truth::{IDLE, STATUS};
use self::watch::Places;
use self::world::World;
use crate::report::Report;
use crate::scenario::{self, Kind, Outcome, Peak, Played, not_started, panic_text};
use crate::support::control_plane::ControlPlane;
use crate::watch::Watch;

/// Report or state that is required at each look, from the given time after the beginning until the end.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// The leader reports this dependency as not working, in all places, and the status does a little later.
    Down(&'static str, Duration),
    /// Every replica that runs says that it cannot take over, and is not ready.
    Blind(Duration),
    /// Nothing is sent to the Requester.
    Silent(Duration),
    /// The other replica leads, and has the Lease.
    TakenOver(Duration),
    /// The same replica leads all the time.
    Leads,
}

/// The kind of world.
#[derive(Clone, Copy, Debug)]
pub struct OfOperator;

impl Kind for OfOperator {
    type Fault = Fault;
    type Says = Says;
    type Special = Infallible;

    fn suspect(fault: &Fault) -> Option<&'static str> {
        fault.suspect()
    }
}

pub type Scenario = scenario::Scenario<OfOperator>;
pub type Step = scenario::Step<OfOperator>;

/// Plays all of these.
pub async fn lane(mut queue: VecDeque<Scenario>, report: &Report, trunks: usize) {
    while let Some(next) = queue.front().map(|scenario| scenario.name.clone()) {
        let played = AssertUnwindSafe(on_one_plane(&mut queue, report, trunks)).catch_unwind().await;
        let problem = match played {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(panic) => panic_text(&*panic),
        };
        queue.pop_front();
        not_started(&next, &problem, report);
    }
}

/// Plays them until one fails.
async fn on_one_plane(queue: &mut VecDeque<Scenario>, report: &Report, trunks: usize) -> Result<(), String> {
    let plane = ControlPlane::start().await;
    plane.apply_crds().await;
    let mut world = World::start(&plane, trunks).await?;
    while let Some(scenario) = queue.pop_front() {
        if !scenario::run(&scenario, &mut world, report).await {
            break;
        }
    }
    Ok(())
}

impl scenario::World for World<'_> {
    type Kind = OfOperator;
    type Watched = Places;
    type Broken = Broken;
    /// The leader.
    type Before = Option<usize>;
    const WELL_BETWEEN_STEPS: bool = true;

    fn watch(&self) -> &Watch<Places> {
        &self.watch
    }

    fn suspect(&self, suspects: Vec<&'static str>) {
        let mut facts = self.watch.facts();
        (facts.suspects, facts.limits) = (suspects, [None; 2]);
    }

    fn accounts(&self) -> usize {
        self.users.len()
    }

    fn pids(&self) -> Vec<i32> {
        let replicas = self.replicas.iter().map(|replica| replica.service.pid());
        replicas.chain([self.requester.pid()]).collect()
    }

    fn before_step(&self) -> Option<usize> {
        self.watch.last().and_then(|sample| sample.leader())
    }

    async fn begin(&mut self, fault: &Fault, broken: &mut Broken) {
        fault::begin(*fault, self, broken).await;
    }

    async fn end(&mut self, fault: &Fault, broken: &mut Broken) {
        fault::end(*fault, self, broken).await;
    }

    async fn play_special(&mut self, special: Infallible, _: &mut Outcome) -> Result<(), String> {
        match special {}
    }

    fn said(
        says: Says,
        played: &Played<'_, OfOperator, Option<usize>>,
        during: &[&Sample],
    ) -> Result<(), String> {
        let (step, led, began) = (played.step, played.before, played.began);
        let from = |within: Duration| -> Vec<&Sample> {
            during.iter().copied().filter(|sample| sample.at >= began + within).collect()
        };
        let each = |within: Duration, what: &str, good: &dyn Fn(&Sample) -> bool| {
            let after = from(within);
            match (after.len(), after.iter().find(|sample| !good(sample))) {
                (0, _) => Err(format!("nothing was seen from {within:?} on")),
                (_, None) => Ok(()),
                (all, Some(first)) => Err(format!(
                    "{what}, from {within:?} on: not so in {} of {all} looks; after {:.1?}: {:?}, {:?}",
                    after.iter().filter(|sample| !good(sample)).count(),
                    first.at - began,
                    first.leases(),
                    first.cluster.1.as_ref().map(|cluster| cluster.holder.clone())
                )),
            }
        };
        match says {
            Says::Down(dependency, within) => {
                let what = format!("{dependency} is reported as not working");
                each(within, &what, &|sample| sample.says_down(dependency))?;
                if step.faults.iter().any(|fault| fault.suspect() == Some("kubernetes")) {
                    return Ok(());
                }
                let what = format!("{dependency} does not work by the status");
                each(within + STATUS, &what, &|sample| {
                    sample.cluster.1.as_ref().is_ok_and(|cluster| cluster.health(dependency) == Some(false))
                })
            }
            Says::Blind(within) => {
                let blind = |sample: &Sample| sample.replicas.iter().flatten().all(Said::blind);
                each(within, "no replica could take over, and says so", &blind)
            }
            Says::TakenOver(within) => {
                let other = led.map(|led| 1 - led).ok_or("no replica led at the beginning")?;
                each(within, &format!("{} has taken over", PODS[other]), &|sample| {
                    let holds = |cluster: &Cluster| cluster.holder.as_deref() == Some(PODS[other]);
                    sample.leader() == Some(other)
                        && sample.cluster.1.as_ref().map_or(true, |cluster| holds(cluster))
                })
            }
            Says::Leads => each(Duration::ZERO, "the leader goes on", &|sample| {
                // One that is stopped says nothing; no one else may lead then.
                let there = led.filter(|led| sample.replicas[*led].is_some());
                sample.leader() == there
            }),
            Says::Silent(after) => {
                let looks = from(after);
                let total = |sample: &&Sample| sample.sent.iter().sum::<usize>();
                let (first, last) = looks.first().zip(looks.last()).ok_or("nothing was seen")?;
                match total(last).saturating_sub(total(first)) {
                    0..=IDLE => Ok(()),
                    bytes => Err(format!("{bytes} bytes were sent to the Requester after {after:?}")),
                }
            }
        }
    }

    fn peaks(&self, samples: &[Sample]) -> Vec<Peak> {
        let peak = |index: usize| {
            let vitals = samples.iter().filter_map(|sample| sample.vitals[index]);
            vitals.map(|vitals| vitals.peak).max().unwrap_or_default()
        };
        let usual = self.usual.0.rss;
        [0, 1].map(|index| Peak { name: PODS[index], registry: true, peak: peak(index), usual }).into()
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
