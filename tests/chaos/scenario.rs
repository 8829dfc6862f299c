//! One scenario: what is broken and for how long, what must be said of it meanwhile, and the looks that judge
//! it.

use std::time::Duration;

use routr_registration::registration::state::TrunkState;
use tokio::time::{Instant, sleep_until};

use crate::fault::{self, Broken, Fault};
use crate::vitals::forget_peak;
use crate::watch::{PACE, Sample};
use crate::world::World;

/// What must be said while something is broken.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// This dependency is reported as not working, in all places, at each look from so long after the
    /// beginning until the end.
    Down(&'static str, Duration),
    /// Trunks are reported in trouble, at least once within this time.
    Trouble(Duration),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    /// Whether it is one of the few of `--quick`.
    pub quick: bool,
    /// One after the other, without a rest between them.
    pub steps: Vec<Step>,
    /// Whether no binding may be missing at any moment.
    pub kept: bool,
    /// How long it may take until all is well again and said to be.
    pub recovers: Duration,
    /// By how many MiB the registry's and the Requester's memory may grow meanwhile.
    pub peak: u64,
    /// What cannot be said by the fields above.
    pub special: Option<Special>,
}

/// Faults that begin and end together.
#[derive(Clone, Debug)]
pub struct Step {
    pub faults: Vec<Fault>,
    pub lasts: Duration,
    pub says: Vec<Says>,
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

/// What came of one.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How long something was broken.
    pub out: Duration,
    /// From the end of the faults until all trunks were registered and everything said to be well.
    pub back: Duration,
    /// The fewest accounts that had a binding at a moment, while Kamailio could be asked.
    pub fewest: Option<usize>,
    /// The most resident memory of the registry, in KiB.
    pub peak: u64,
    /// By how much the watcher itself was late at most: on a machine that is too busy nothing can be judged
    /// by times.
    pub late: Duration,
    /// What was not true.
    pub wrong: Vec<String>,
}

/// Plays it.
pub async fn play(scenario: &Scenario, world: &mut World) -> Outcome {
    let mut outcome = Outcome::default();
    let faults = scenario.steps.iter().flat_map(|step| &step.faults);
    let suspects: Vec<&'static str> = faults.filter_map(Fault::suspect).collect();
    world.watch.facts().suspects = suspects;
    world.watch.begin();
    for pid in [world.registry.pid(), world.requester.pid()] {
        forget_peak(pid);
    }
    let began = Instant::now();
    let mut played = Vec::new();
    let result = match scenario.special {
        Some(special) => crate::cases::special::play(special, world, &mut outcome).await,
        None => {
            for step in &scenario.steps {
                played.push(play_step(step, world).await);
            }
            outcome.out = began.elapsed();
            Ok(())
        }
    };
    let mended = Instant::now();
    if let Err(error) = result {
        outcome.wrong.push(error);
    }
    if let Err(error) = world.all_well(scenario.recovers).await {
        outcome.wrong.push(format!("{} s after the end: {error}", mended.elapsed().as_secs()));
    }
    outcome.back = mended.elapsed();
    if let Err(error) = world.at_rest().await {
        outcome.wrong.push(error);
    }
    if let Err(error) = world.assert_discreet().await {
        outcome.wrong.push(error);
    }
    judge(scenario, world, &played, &mut outcome);
    outcome
}

/// From when to when everything of the step was broken.
async fn play_step(step: &Step, world: &mut World) -> (Instant, Instant) {
    let mut broken = Broken::default();
    for fault in &step.faults {
        fault::begin(fault, world, &mut broken).await;
    }
    let began = Instant::now();
    sleep_until(began + step.lasts).await;
    let ended = Instant::now();
    for fault in step.faults.iter().rev() {
        fault::end(fault, world, &mut broken).await;
    }
    (began, ended)
}

/// What the watcher saw.
fn judge(scenario: &Scenario, world: &World, played: &[(Instant, Instant)], outcome: &mut Outcome) {
    let seen = world.watch.seen();
    for (step, (began, ended)) in scenario.steps.iter().zip(played) {
        let during = seen.samples.iter().filter(|s| s.at >= *began && s.at + s.took <= *ended);
        let during: Vec<&Sample> = during.collect();
        for says in &step.says {
            if let Err(error) = said(*says, &during, *began) {
                outcome.wrong.push(format!("{}: {error}", words(&step.faults)));
            }
        }
    }
    for (what, (times, details)) in &seen.wrong {
        let details: String = details.chars().take(600).collect();
        outcome.wrong.push(format!("{what} ({times} looks): {details}"));
    }
    outcome.fewest = seen.fewest;
    let gaps = seen.samples.windows(2).map(|two| two[1].at.saturating_duration_since(two[0].at + PACE));
    outcome.late = gaps.max().unwrap_or_default();
    let all = world.users.len();
    if scenario.kept && seen.fewest.is_some_and(|fewest| fewest < all) {
        outcome.wrong.push(format!("only {:?} of {all} bindings were there at a moment", seen.fewest));
    }
    for (name, usual, vitals) in [
        ("the registry", world.usual.0, seen.samples.iter().filter_map(|sample| sample.registry).next_back()),
        (
            "the Requester",
            world.usual.1,
            seen.samples.iter().filter_map(|sample| sample.requester).next_back(),
        ),
    ] {
        let peak = vitals.map_or(0, |vitals| vitals.peak);
        if name == "the registry" {
            outcome.peak = peak;
        }
        let most = usual.rss + scenario.peak * 1024;
        if peak > most {
            outcome.wrong.push(format!(
                "{name} had {} MiB at its peak; at most {} are good",
                peak >> 10,
                most >> 10
            ));
        }
    }
}

fn words(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(|fault| format!("{fault:?}").chars().take(80).collect())
        .collect::<Vec<String>>()
        .join(" + ")
}

fn said(says: Says, during: &[&Sample], began: Instant) -> Result<(), String> {
    match says {
        Says::Down(dependency, within) => {
            let after: Vec<&&Sample> = during.iter().filter(|sample| sample.at >= began + within).collect();
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
