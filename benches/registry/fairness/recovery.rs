//! A registrar falls silent, and is back: what it receives meanwhile, and how soon its trunks are registered
//! again.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    DEADLINE, SECTION,
    harness::{FairnessHarness, Group},
};
use crate::{
    report::{Bench, Figure, Goal, grouped},
    support::{registrars::Register, wait::wait_for},
};

/// Shortest pause between two probes in an outage, in seconds.
const PROBE_PAUSE_S: f64 = 5.0;

pub struct Plan {
    /// Trunks of the one registrar, in runs of their own that go on at the same time.
    pub trunks: &'static [usize],
    /// Expiry that each REGISTER is granted, in seconds.
    pub expires_s: u32,
    /// Duration from the moment that the registry counts the registrar as down.
    pub outage: Duration,
}

/// Result of one run.
struct LenientRegistry {
    first_wave: Duration,
    /// Time from the first REGISTER without a response until the registry counted the registrar as down.
    noticed: Duration,
    probes: usize,
    back: Duration,
}

pub async fn run(bench: &mut Bench, plan: &Plan) {
    let seconds = plan.outage.as_secs();
    bench.progress(&format!("fairness: a registrar is silent, {seconds} s from when that is noticed"));
    let all = join_all(plan.trunks.iter().map(|trunks| outage(plan, *trunks))).await;
    for (trunks, found) in plan.trunks.iter().zip(all) {
        let trunks = grouped(*trunks as u64);
        bench.figure(Figure {
            section: SECTION,
            what: format!("a registrar is back: until all {trunks} trunks are registered"),
            value: found.back.as_secs_f64(),
            unit: "s",
            reference: None,
            goal: Some(Goal::AtMost(15.0)),
            note: format!(
                "budget lifted; silent for {:.0} s until it counted as down, and for {seconds} s more; the first wave took {:.0} ms",
                found.noticed.as_secs_f64(),
                found.first_wave.as_secs_f64() * 1e3
            ),
        });
        bench.figure(Figure {
            section: SECTION,
            what: format!("REGISTERs into the outage, {trunks} trunks"),
            value: found.probes as f64 / plan.outage.as_secs_f64() * PROBE_PAUSE_S,
            unit: "in 5 s",
            reference: None,
            goal: Some(Goal::AtMost(1.0)),
            note: format!("{} in {seconds} s; retransmissions do not count", found.probes),
        });
    }
}

async fn outage(plan: &Plan, trunks: usize) -> LenientRegistry {
    let spec = "  registerInterval: 10s\n  registration: { ratePerRegistrar: unlimited }\n".to_owned();
    let groups = vec![Group { registrars: 1, trunks_each: trunks }];
    let stage =
        FairnessHarness::start(super::harness::Plan { groups, expires: plan.expires_s, spec }, 0..0).await;
    stage.all_registered(DEADLINE).await;
    let log = stage.registrars.log();
    let first_wave = granted_since(&log, log[0].at, trunks).map_or(Duration::ZERO, |last| last - log[0].at);

    let silent_from = Instant::now();
    stage.registrars.set_silent(0..1, true);
    stage.noticed(DEADLINE + Duration::from_secs(plan.expires_s.into())).await;
    let noticed_at = Instant::now();
    sleep(plan.outage).await;
    let back_at = Instant::now();
    stage.registrars.set_silent(0..1, false);
    let all_back = async || {
        let log = stage.registrars.log();
        granted_since(&log, back_at, trunks).ok_or_else(|| format!("some are not\n{}", stage.log_end()))
    };
    let last = wait_for(all_back, DEADLINE, "all trunks to be registered again").await;
    stage.all_registered(DEADLINE).await;

    let log = stage.registrars.log();
    let unanswered =
        log.iter().find(|register| register.at >= silent_from).map_or(silent_from, |first| first.at);
    let probes = log
        .iter()
        .filter(|register| !register.repeated && register.at >= noticed_at && register.at < back_at);
    LenientRegistry {
        first_wave,
        noticed: noticed_at - unanswered,
        probes: probes.count(),
        back: last - back_at,
    }
}

/// Returns when the last of `trunks` trunks was granted its first REGISTER since `from`; `None` while one is
/// missing.
fn granted_since(log: &[Register], from: Instant, trunks: usize) -> Option<Instant> {
    let mut users = HashSet::new();
    let granted = log.iter().filter(|register| register.at >= from && register.granted.is_some());
    let first = granted.filter(|register| users.insert(&*register.user));
    let times: Vec<Instant> = first.map(|register| register.at).collect();
    (times.len() == trunks).then(|| times.last().copied()).flatten()
}
