//! Midday: registrars that have granted all their trunks fall silent.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    DEADLINE, HEALTHY, SECTION, SILENT,
    harness::{FairnessHarness, Window, lateness},
};
use crate::report::{Bench, Figure, Goal, grouped};

pub struct Plan {
    /// Expiry that each REGISTER is granted, in seconds.
    pub expires_s: u32,
    /// `registerInterval`, in seconds.
    pub interval_s: u64,
    /// Time while all respond: the reference. One round of refreshes at least.
    pub day: Duration,
    /// Time while some are silent.
    pub silence: Duration,
}

pub async fn run(bench: &mut Bench, plan: &super::Plan) {
    let Plan { expires_s, interval_s, day, silence } = plan.midday;
    let window = Window { interval: Duration::from_secs(interval_s) };
    let spec = format!("  registerInterval: {interval_s}s\n");
    bench.progress(&format!(
        "fairness: mid-day, grants of {expires_s} s; all respond for {} s",
        day.as_secs()
    ));
    let stage = FairnessHarness::start(plan.stage(expires_s, spec), 0..0).await;
    stage.all_registered(DEADLINE).await;
    let began = Instant::now();
    sleep(day).await;

    let silent_from = Instant::now();
    stage.registrars.set_silent(stage.plan.registrars(SILENT), true);
    bench.progress(&format!("fairness: mid-day, {} for {} s", plan.words(), silence.as_secs()));
    sleep(silence).await;

    let (log, healthy, end) = (stage.registrars.log(), stage.plan.registrars(HEALTHY), Instant::now());
    let reference = lateness(&log, &healthy, window, began, silent_from);
    let found = lateness(&log, &healthy, window, silent_from, end);
    let asked = log.iter().filter(|register| !register.repeated && register.at >= silent_from);
    let into_silence = asked.filter(|register| !healthy.contains(&register.registrar)).count();
    let beside = format!("{} healthy registrars, {}", grouped(healthy.len() as u64), plan.words());
    bench.figure(Figure {
        section: SECTION,
        what: format!("in mid-day: the most that a REGISTER came after its window, {beside}"),
        value: found.worst.as_secs_f64() * 1e3,
        unit: "ms",
        reference: Some((reference.worst.as_secs_f64() * 1e3, "all respond")),
        goal: Some(Goal::AtMost(3_000.0)),
        note: format!(
            "{} refreshes in {} s, {} before; {into_silence} REGISTERs went to silent ones",
            grouped(found.refreshes as u64),
            silence.as_secs(),
            grouped(reference.refreshes as u64)
        ),
    });
    bench.figure(Figure {
        section: SECTION,
        what: "in mid-day: healthy bindings that expired".into(),
        value: found.expired as f64,
        unit: "",
        reference: Some((reference.expired as f64, "all respond")),
        goal: Some(Goal::AtMost(0.0)),
        note: format!(
            "the least that was left of one is {:.1} s",
            found.least_left.unwrap_or_default().as_secs_f64()
        ),
    });
}
