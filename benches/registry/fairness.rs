//! Fairness with real processes: what silent registrars cost the healthy ones, at the start and in the middle
//! of a day, and how soon a registrar that is back has its trunks back.
//!
//! The real program runs as registry and as Requester in direct mode, over UDP, to registrars at loopback
//! addresses of their own. The API server lists the trunks of the silent registrars first. The reference is
//! the same run in which all respond.

#[path = "../../tests/it/fairness/harness/mod.rs"]
#[allow(dead_code)]
mod harness;
mod midday;
mod recovery;

use std::time::Duration;

use self::harness::{FairnessHarness, Group};
use crate::report::{Bench, Figure, Goal, grouped};

const SECTION: &str = "fairness";
/// The silent registrars come first in the list.
const SILENT: usize = 0;
const HEALTHY: usize = 1;
/// Longest time of a phase before the run fails: twice what a transaction without a response takes, and more.
const DEADLINE: Duration = Duration::from_secs(100);

/// Size of a run.
struct Plan {
    silent: Group,
    healthy: Group,
    /// Times that the start is measured; the worst counts.
    starts: usize,
    midday: midday::Plan,
    recovery: recovery::Plan,
}

const FULL: Plan = Plan {
    silent: Group { registrars: 50, trunks_each: 20 },
    healthy: Group { registrars: 500, trunks_each: 1 },
    starts: 3,
    midday: midday::Plan {
        expires_s: 60,
        interval_s: 10,
        day: Duration::from_secs(60),
        silence: Duration::from_secs(150),
    },
    recovery: recovery::Plan { trunks: &[20, 1_000], expires_s: 60, outage: Duration::from_secs(60) },
};
const QUICK: Plan = Plan {
    silent: Group { registrars: 10, trunks_each: 5 },
    healthy: Group { registrars: 100, trunks_each: 1 },
    starts: 1,
    midday: midday::Plan {
        expires_s: 20,
        interval_s: 5,
        day: Duration::from_secs(20),
        silence: Duration::from_secs(45),
    },
    recovery: recovery::Plan { trunks: &[20, 100], expires_s: 20, outage: Duration::from_secs(20) },
};

impl Plan {
    /// Both groups, with grants of `expires_s` seconds; `spec` as in [`harness::Plan`].
    fn stage(&self, expires_s: u32, spec: String) -> harness::Plan {
        harness::Plan { groups: vec![self.silent, self.healthy], expires: expires_s, spec }
    }

    fn words(&self) -> String {
        let Group { registrars, trunks_each } = self.silent;
        format!("{registrars} silent ones with {trunks_each} trunks each")
    }
}

/// Runs the section.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let plan = if bench.quick { &QUICK } else { &FULL };
    starts(bench, plan).await;
    midday::run(bench, plan).await;
    recovery::run(bench, &plan.recovery).await;
    Ok(())
}

/// Measures from the first REGISTER of all until the last healthy registrar is asked for the first time.
async fn starts(bench: &mut Bench, plan: &Plan) {
    let (mut worst, mut reference) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=plan.starts {
        bench.progress(&format!("fairness: start {round} of {}, beside {}", plan.starts, plan.words()));
        reference = reference.max(start(plan, false).await);
        worst = worst.max(start(plan, true).await);
    }
    let healthy = grouped(plan.healthy.registrars as u64);
    bench.figure(Figure {
        section: SECTION,
        what: format!(
            "at the start: until the last of {healthy} healthy registrars is asked, {}",
            plan.words()
        ),
        value: worst.as_secs_f64(),
        unit: "s",
        reference: Some((reference.as_secs_f64(), "all respond")),
        goal: Some(Goal::AtMost(3.0)),
        note: format!("the worst of {}; both from the first REGISTER of all", plan.starts),
    });
}

async fn start(plan: &Plan, some_silent: bool) -> Duration {
    let stage = plan.stage(3_600, String::new());
    let silent = if some_silent { stage.registrars(SILENT) } else { 0..0 };
    let stage = FairnessHarness::start(stage, silent).await;
    let (first, last) = stage.all_asked(HEALTHY, DEADLINE).await;
    last - first
}
