//! One scenario of the operator: what is broken and for how long, and what must be said of it meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::fault::{self, Broken, Fault};
use super::look::{Cluster, PODS, Said, Sample};
use super::truth::{IDLE, STATUS};
use super::world::World;
use crate::scenario::Outcome;
use crate::vitals::forget_peak;
use crate::watch::PACE;

/// What must be said, or be so, at each look from so long after the beginning until the end.
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

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    /// Whether it is one of the few of `--quick`.
    pub quick: bool,
    /// One after the other; between two of them all has to be well, so that there is a leader to break.
    pub steps: Vec<Step>,
    /// Whether no binding may be missing at any moment.
    pub kept: bool,
    /// How long it may take after each step until all is well again and said to be.
    pub recovers: Duration,
    /// By how many MiB the memory of a replica may grow meanwhile.
    pub peak: u64,
}

/// Faults that begin and end together.
#[derive(Clone, Debug)]
pub struct Step {
    pub faults: Vec<Fault>,
    pub lasts: Duration,
    pub says: Vec<Says>,
}

/// Plays it.
pub async fn play(scenario: &Scenario, world: &mut World<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let faults = scenario.steps.iter().flat_map(|step| &step.faults);
    world.watch.facts().suspects = faults.filter_map(|fault| fault.suspect()).collect();
    world.watch.facts().limits = [None; 2];
    world.watch.begin();
    let pids = [&world.replicas[0].service, &world.replicas[1].service].map(|service| service.pid());
    pids.into_iter().chain([world.requester.pid()]).for_each(forget_peak);
    let mut played = Vec::new();
    for step in &scenario.steps {
        let begun = Instant::now();
        let led = world.watch.last().and_then(|sample| sample.leader());
        let (began, ended) = play_step(step, world).await;
        played.push((step, led, began, ended));
        let mended = Instant::now();
        outcome.out += mended - begun;
        if let Err(error) = world.all_well(scenario.recovers).await {
            let after = mended.elapsed().as_secs();
            outcome.wrong.push(format!("{}: {after} s after the end: {error}", words(&step.faults)));
            break;
        }
        outcome.back = outcome.back.max(mended.elapsed());
    }
    if let Err(error) = world.at_rest().await {
        outcome.wrong.push(error);
    }
    if let Err(error) = world.assert_discreet().await {
        outcome.wrong.push(error);
    }
    let seen = world.watch.seen();
    for (step, led, began, ended) in played {
        let during = seen.samples.iter().filter(|sample| sample.at >= began && sample.at + PACE <= ended);
        let during: Vec<&Sample> = during.collect();
        for says in &step.says {
            if let Err(error) = said(*says, step, led, &during, began) {
                outcome.wrong.push(format!("{}: {error}", words(&step.faults)));
            }
        }
    }
    drop(seen);
    judge(scenario, world, &mut outcome);
    outcome
}

/// From when to when everything of the step was broken.
async fn play_step(step: &Step, world: &mut World<'_>) -> (Instant, Instant) {
    let mut broken = Broken::default();
    for fault in &step.faults {
        fault::begin(*fault, world, &mut broken).await;
    }
    let began = Instant::now();
    sleep_until(began + step.lasts).await;
    let ended = Instant::now();
    for fault in step.faults.iter().rev() {
        fault::end(*fault, world, &mut broken).await;
    }
    (began, ended)
}

/// What the watcher saw.
fn judge(scenario: &Scenario, world: &World<'_>, outcome: &mut Outcome) {
    let seen = world.watch.seen();
    for (what, (times, details)) in &seen.table.wrong {
        let details: String = details.chars().take(900).collect();
        outcome.wrong.push(format!("{what} ({times} looks): {details}"));
    }
    outcome.fewest = seen.table.fewest;
    let gaps = seen.samples.windows(2).map(|two| two[1].at.saturating_duration_since(two[0].at + PACE));
    outcome.late = gaps.max().unwrap_or_default();
    let all = world.users.len();
    if scenario.kept && outcome.fewest.is_some_and(|fewest| fewest < all) {
        outcome.wrong.push(format!("only {:?} of {all} bindings were there at a moment", outcome.fewest));
    }
    let peak_of =
        |index: usize| seen.samples.iter().filter_map(|sample| sample.vitals[index]).map(|v| v.peak).max();
    for (index, pod) in PODS.into_iter().enumerate() {
        let (peak, most) = (peak_of(index).unwrap_or_default(), world.usual.0.rss + scenario.peak * 1024);
        outcome.peak = outcome.peak.max(peak);
        if peak > most {
            outcome.wrong.push(format!(
                "{pod} had {} MiB at its peak; at most {} are good",
                peak >> 10,
                most >> 10
            ));
        }
    }
}

fn words(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{fault:?}")).collect::<Vec<String>>().join(" + ")
}

fn said(
    says: Says,
    step: &Step,
    led: Option<usize>,
    during: &[&Sample],
    began: Instant,
) -> Result<(), String> {
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
            let other = led.map(|led| 1 - led).ok_or("nobody led at the beginning")?;
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
