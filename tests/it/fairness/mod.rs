//! Field case F1 with real processes, on a small scale: silent registrars that come first in the list delay no other. The
//! benchmark's section `fairness` measures the same on a large scale.

#[allow(dead_code, reason = "the benchmark needs more of it")]
mod stage;

use std::time::Duration;

use tokio::time::Instant;

use self::stage::{Group, Plan, Stage, Window, lateness};
use crate::support::wait::wait_at_pace;

/// Within 3 s by the specification; three times that for a loaded machine, and far below the 32 s of a transaction without a
/// response.
const ASKED_WITHIN: Duration = Duration::from_secs(9);
/// What the registrars grant, in seconds. Refreshes come after 8.5 to 10 s.
const EXPIRES: u32 = 15;
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn f1_silent_registrars_that_come_first_delay_no_other() {
    let (silent, healthy) =
        (Group { registrars: 10, trunks_each: 5 }, Group { registrars: 40, trunks_each: 1 });
    let spec = "  registerInterval: 5s\n".to_owned();
    let plan = Plan { groups: vec![silent, healthy], expires: EXPIRES, spec };
    let window = Window { interval: Duration::from_secs(5) };
    let stage = Stage::start(plan, 0..silent.registrars).await;

    let (first, last) = stage.all_asked(1, LONG).await;
    let took = last - first;
    assert!(took <= ASKED_WITHIN, "the last one was asked after {took:?}\n{}", stage.log_end());

    // Each is refreshed twice in time, while the others stay silent.
    let healthy = stage.plan.registrars(1);
    let refreshed = async || {
        let mut times = vec![0; healthy.len()];
        for register in stage.registrars.log().iter().filter(|register| healthy.contains(&register.registrar))
        {
            times[register.registrar - healthy.start] += usize::from(!register.repeated);
        }
        let rare = times.iter().filter(|times| **times < 3).count();
        if rare == 0 { Ok(()) } else { Err(format!("{rare} were not\n{}", stage.log_end())) }
    };
    wait_at_pace(Duration::from_millis(100), refreshed, LONG, "each trunk to be refreshed twice").await;
    let found = lateness(&stage.registrars.log(), &healthy, window, first, Instant::now());
    assert!(found.refreshes >= 2 * healthy.len() && found.expired == 0, "{found:?}\n{}", stage.log_end());

    // A registrar that has never responded has one place, and gets a second only after a second.
    let mut sent = vec![0; silent.registrars];
    for register in stage.registrars.log() {
        if register.registrar < silent.registrars && !register.repeated && register.at <= first + ASKED_WITHIN
        {
            sent[register.registrar] += 1;
        }
    }
    assert!(sent.iter().all(|sent| (1..=5).contains(sent)), "REGISTERs to each silent one: {sent:?}");
}
