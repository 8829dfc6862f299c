//! One scenario: what is broken and for how long, what must be said of it meanwhile, and the looks that judge
//! it. The loop is the same for each world; what a world is, [`World`] says.

use std::any::Any;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};

use crate::report::Report;
use crate::vitals::forget_peak;
use crate::watch::{PACE, Sample, Watch, Watched};

/// The words of a kind of world.
pub trait Kind: Clone + Debug {
    type Fault: Clone + Debug;
    /// Report that is required while something is broken.
    type Says: Copy + Debug;
    /// Course of events that faults with a beginning and an end cannot express.
    type Special: Copy + Debug;

    /// Returns what may be reported as not working, rightly, while that is broken.
    fn suspect(fault: &Self::Fault) -> Option<&'static str>;
}

/// A scenario: its steps, and what is required during and after them.
#[derive(Clone, Debug)]
pub struct Scenario<K: Kind> {
    pub name: String,
    /// True if it is one of the few of `--quick`.
    pub quick: bool,
    /// One after the other.
    pub steps: Vec<Step<K>>,
    /// True if no binding may be missing at any moment.
    pub kept: bool,
    /// Longest time until all is well again and reported healthy.
    pub recovers: Duration,
    /// By how many MiB the memory of a process may grow meanwhile.
    pub peak: u64,
    pub special: Option<K::Special>,
}

impl<K: Kind> Scenario<K> {
    /// A scenario in which bindings may expire, and memory may grow by as much as it does without a reason.
    pub fn new(name: impl Into<String>, steps: Vec<Step<K>>, recovers: Duration) -> Self {
        Self { name: name.into(), quick: false, steps, kept: false, recovers, peak: 64, special: None }
    }

    pub fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    pub fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    pub fn peak(self, peak: u64) -> Self {
        Self { peak, ..self }
    }
}

/// Faults that begin and end together.
#[derive(Clone, Debug)]
pub struct Step<K: Kind> {
    pub faults: Vec<K::Fault>,
    pub lasts: Duration,
    pub says: Vec<K::Says>,
}

/// Outcome of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Time for which something was broken.
    pub out: Duration,
    /// From the end of the faults until all trunks were registered and everything said to be well.
    pub back: Duration,
    /// The fewest accounts that had a binding at a moment, while Kamailio could be asked.
    pub fewest: Option<usize>,
    /// The most resident memory of a registry, in KiB.
    pub peak: u64,
    /// By how much the watcher itself was late at most: on a machine that is too busy nothing can be judged
    /// by times.
    pub late: Duration,
    /// Requirements that were not met.
    pub wrong: Vec<String>,
}

/// The most memory that a process had.
pub struct Peak {
    pub name: &'static str,
    /// True for a registry, which is in the table of the report.
    pub registry: bool,
    /// In KiB, as is what it needs when all is well.
    pub peak: u64,
    pub usual: u64,
}

/// A step as it was played, for the check of what must have been said in it.
pub struct Played<'a, K: Kind, B> {
    pub step: &'a Step<K>,
    /// Notes of the world before it.
    pub before: B,
    /// Moment when all was broken.
    pub began: Instant,
    ended: Instant,
}

/// Everything that runs: registries among their dependencies, and the watcher.
pub trait World {
    type Kind: Kind;
    type Watched: Watched;
    /// State that is kept while a fault is on.
    type Broken: Default;
    /// Notes that are taken before each step.
    type Before;
    /// True if all has to be well between two steps, so that the next one has something to break.
    const WELL_BETWEEN_STEPS: bool;

    fn watch(&self) -> &Watch<Self::Watched>;
    /// Notes whom the registries may report, rightly, and that a scenario begins.
    fn suspect(&self, suspects: Vec<&'static str>);
    /// Accounts at Kamailio.
    fn accounts(&self) -> usize;
    /// The processes whose memory is measured.
    fn pids(&self) -> Vec<i32>;
    fn before_step(&self) -> Self::Before;
    async fn begin(&mut self, fault: &<Self::Kind as Kind>::Fault, broken: &mut Self::Broken);
    async fn end(&mut self, fault: &<Self::Kind as Kind>::Fault, broken: &mut Self::Broken);
    /// Plays what is more than faults that begin and end, and notes how long something was broken.
    async fn play_special(
        &mut self,
        special: <Self::Kind as Kind>::Special,
        outcome: &mut Outcome,
    ) -> Result<(), String>;
    /// Judges what was said while a step was on.
    fn said(
        says: <Self::Kind as Kind>::Says,
        played: &Played<'_, Self::Kind, Self::Before>,
        during: &[&<Self::Watched as Watched>::Sample],
    ) -> Result<(), String>;
    fn peaks(&self, samples: &[<Self::Watched as Watched>::Sample]) -> Vec<Peak>;
    /// Waits until everything is well and said to be.
    async fn all_well(&mut self, deadline: Duration) -> Result<(), String>;
    /// Waits until the processes need no more than after the warm-up.
    async fn at_rest(&mut self) -> Result<(), String>;
    /// Looks for passwords and panics in all that was said.
    async fn assert_discreet(&self) -> Result<(), String>;
    /// Returns what is worth keeping after a failure: file names with their contents.
    fn logs(&self) -> Vec<(&'static str, String)>;
}

/// Plays a scenario, and reports what came of it. Returns whether all was as it should be: else the world is
/// of no more use to others.
pub async fn run<W: World>(scenario: &Scenario<W::Kind>, world: &mut W, report: &Report) -> bool {
    let outcome = match AssertUnwindSafe(play(scenario, world)).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => Outcome { wrong: vec![panic_text(&*panic)], ..Outcome::default() },
    };
    let good = outcome.wrong.is_empty();
    if !good {
        report.keep_logs(&scenario.name, world.logs(), &outcome);
    }
    report.add(&scenario.name, outcome);
    good
}

/// Reports a scenario whose world did not start.
pub fn not_started(name: &str, problem: &str, report: &Report) {
    let wrong = vec![format!("the world did not start: {problem}")];
    report.add(name, Outcome { wrong, ..Outcome::default() });
}

/// Returns the text of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic".to_owned())
}

async fn play<W: World>(scenario: &Scenario<W::Kind>, world: &mut W) -> Outcome {
    let mut outcome = Outcome::default();
    let faults = scenario.steps.iter().flat_map(|step| &step.faults);
    world.suspect(faults.filter_map(W::Kind::suspect).collect());
    world.watch().begin();
    world.pids().into_iter().for_each(forget_peak);
    let mut played = Vec::new();
    if let Some(special) = scenario.special {
        let result = world.play_special(special, &mut outcome).await;
        outcome.wrong.extend(result.err());
    }
    for step in &scenario.steps {
        let begun = Instant::now();
        played.push(play_step(step, world).await);
        outcome.out += begun.elapsed();
        if W::WELL_BETWEEN_STEPS && !recovers(scenario, world, &faults_of(step), &mut outcome).await {
            break;
        }
    }
    if !W::WELL_BETWEEN_STEPS {
        recovers(scenario, world, &scenario.name, &mut outcome).await;
    }
    outcome.wrong.extend(world.at_rest().await.err());
    outcome.wrong.extend(world.assert_discreet().await.err());
    judge(scenario, world, &played, &mut outcome);
    outcome
}

/// Waits until all is well again. Returns whether it is.
async fn recovers<W: World>(
    scenario: &Scenario<W::Kind>,
    world: &mut W,
    what: &str,
    outcome: &mut Outcome,
) -> bool {
    let ended = Instant::now();
    let result = world.all_well(scenario.recovers).await;
    outcome.back = outcome.back.max(ended.elapsed());
    if let Err(error) = &result {
        outcome.wrong.push(format!("{what}: {} s after the end: {error}", ended.elapsed().as_secs()));
    }
    result.is_ok()
}

async fn play_step<'a, W: World>(step: &'a Step<W::Kind>, world: &mut W) -> Played<'a, W::Kind, W::Before> {
    let before = world.before_step();
    let mut broken = W::Broken::default();
    for fault in &step.faults {
        world.begin(fault, &mut broken).await;
    }
    let began = Instant::now();
    sleep_until(began + step.lasts).await;
    let ended = Instant::now();
    for fault in step.faults.iter().rev() {
        world.end(fault, &mut broken).await;
    }
    Played { step, before, began, ended }
}

/// Judges what the watcher saw.
fn judge<W: World>(
    scenario: &Scenario<W::Kind>,
    world: &W,
    played: &[Played<'_, W::Kind, W::Before>],
    outcome: &mut Outcome,
) {
    let seen = world.watch().seen();
    for played in played {
        let during = seen.samples.iter().filter(|s| s.at() >= played.began && s.ended() <= played.ended);
        let during: Vec<_> = during.collect();
        for says in &played.step.says {
            if let Err(error) = W::said(*says, played, &during) {
                outcome.wrong.push(format!("{}: {error}", faults_of(played.step)));
            }
        }
    }
    for (what, (times, details)) in &seen.findings.wrong {
        let details: String = details.chars().take(900).collect();
        outcome.wrong.push(format!("{what} ({times} looks): {details}"));
    }
    outcome.fewest = seen.findings.fewest;
    let gaps = seen.samples.windows(2).map(|two| two[1].at().saturating_duration_since(two[0].at() + PACE));
    outcome.late = gaps.max().unwrap_or_default();
    let all = world.accounts();
    if scenario.kept && outcome.fewest.is_some_and(|fewest| fewest < all) {
        outcome.wrong.push(format!("only {:?} of {all} bindings were there at a moment", outcome.fewest));
    }
    for Peak { name, registry, peak, usual } in world.peaks(&seen.samples) {
        if registry {
            outcome.peak = outcome.peak.max(peak);
        }
        let most = usual + scenario.peak * 1024;
        if peak > most {
            let (peak, most) = (peak >> 10, most >> 10);
            outcome.wrong.push(format!("{name} had {peak} MiB at its peak; at most {most} are good"));
        }
    }
}

fn faults_of<K: Kind>(step: &Step<K>) -> String {
    let words = step.faults.iter().map(|fault| format!("{fault:?}").chars().take(80).collect());
    words.collect::<Vec<String>>().join(" + ")
}
