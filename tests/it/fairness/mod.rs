//! Field case F1 with real processes, on a small scale: silent registrars that come first in the list delay
//! no other. The benchmark's section `fairness` measures the same on a large scale.

#[allow(dead_code, reason = "the benchmark needs more of it")]
mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use self::harness::{FairnessHarness, Group, Plan, Window, lateness};
use crate::support::wait::{PATIENCE, wait_at_pace};

/// Times that a REGISTER over UDP is sent until its transaction ends without a response: at 0 s, 0.5 s, 1.5
/// s, 3.5 s, 7.5 s, 11.5 s and so on until Timer F, 32 s.
const SENDINGS: usize = 11;
/// Expiry that the registrars grant, in seconds. Refreshes come after 9.6 to 12 s, and have as much to spare.
const EXPIRES: u32 = 24;
const LONG: Duration = PATIENCE;

#[tokio::test]
async fn f1_silent_registrars_that_come_first_delay_no_other() {
    let (silent, healthy) =
        (Group { registrars: 10, trunks_each: 5 }, Group { registrars: 40, trunks_each: 1 });
    let spec = "  registerInterval: 12s\n".to_owned();
    let plan = Plan { groups: vec![silent, healthy], expires: EXPIRES, spec };
    let window = Window { interval: Duration::from_secs(12) };
    let stage = FairnessHarness::start(plan, 0..silent.registrars).await;

    let (first, last) = stage.all_asked(1, LONG).await;
    println!("the last one was asked after {:?}", last - first);
    // No place of a silent one had to be given back for that: when the last one was asked, none of the
    // transactions that came first had ended. By the specification it takes 3 s, which the benchmark
    // measures.
    let mut sent: BTreeMap<(usize, Box<str>), usize> = BTreeMap::new();
    for register in stage.registrars.log() {
        if register.registrar < silent.registrars && register.at <= last {
            *sent.entry((register.registrar, register.user)).or_default() += 1;
        }
    }
    assert!(sent.values().all(|times| *times < SENDINGS), "{sent:?}\n{}", stage.log_end());
    // A registrar that has never responded has one place, and gets a second only after a second.
    let asked: BTreeSet<usize> = sent.keys().map(|(registrar, _)| *registrar).collect();
    assert_eq!(asked.len(), silent.registrars, "each silent one is asked: {sent:?}");

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
}
