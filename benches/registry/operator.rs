//! Requests of the operator to the Kubernetes API server, and their cost: idle, and with 100 trunks that fail
//! and recover in each second.
//!
//! The chart with its defaults (two replicas of the real binary as pods) on a real control plane. Idle: one
//! Registry, whose trunks are registered for two hours. Flapping: a second one as well, whose trunks are
//! granted 10 s, so that each is refreshed all 4 to 5 s; its backend refuses 100 registered trunks in each
//! second with a 503, each once. They come back at their next try, so that 200 trunks change their state in
//! each second. Requests are counted in the audit log of the API server.
//!
//! The reference is the least that could be: what two replicas need for the Lease, and one watch of
//! Registries that the API server ends after 295 s or more.

pub mod cluster;

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use tokio::time::{Instant, sleep_until};

use self::cluster::{Cluster, Replica};
use crate::{
    backend::{Backend, Mode, Settings, Short},
    report::{Bench, Figure},
    support::control_plane::ControlPlane,
    usage,
};

const SECTION: &str = "operator";
/// The chart's lease lasts 10 s: the leader renews it each 1.5 s, a follower looks at it each half second.
const LEASE_PER_MINUTE: f64 = 60.0 / 1.5 + 60.0 / 0.5;
/// The watch: kube asks for one of 290 s.
const WATCH_PER_MINUTE: f64 = 60.0 / 290.0;
const LEAST: f64 = LEASE_PER_MINUTE + WATCH_PER_MINUTE;
const IDLE: &str = "idle";
/// Trunks of each Registry, enough that [`FLAPS`] of them are refreshed in each second.
const TRUNKS: usize = 2_000;
/// Trunks that are refused in each second.
const FLAPS: u32 = 100;

/// Runs the section.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let window = if bench.quick { 6 } else { 90 };
    bench.progress("starting a Kubernetes control plane");
    let plane = ControlPlane::shared().await;
    let cluster = Cluster::install(plane).await?;
    let leader = cluster.start("pod-a", &[])?;
    leader.says_it("leads").await;
    let follower = cluster.start("pod-b", &[])?;
    follower.says_it("follows").await;

    let (window, calm) = (Duration::from_secs(window), backend(None)?);
    registered(&cluster, "calm", &calm, "7200s").await;
    let seen = look(bench, IDLE, &cluster, [&leader, &follower], window).await?;
    take(bench, IDLE, &seen, "");

    // Asked for 20 s, so that the first grants can be spread: refreshes that come in a lump leave no one to
    // refuse between.
    let mut restless = backend(Some(Short { every: 1, seconds: 10 }))?;
    registered(&cluster, "restless", &restless, "20s").await;
    restless.flap(FLAPS)?;
    // What the change itself makes it write is not what is measured.
    sleep_until(Instant::now() + Duration::from_secs(8)).await;
    restless.mark()?;
    let what = format!("{FLAPS} trunks flapping each second");
    let seen = look(bench, &what, &cluster, [&leader, &follower], window).await?;
    let tally = restless.tally()?;
    ensure!(tally.strange == 0 && tally.expired == 0, "{tally:?}");
    let (registers, refused) = (tally.registers as f64 / seen.seconds, tally.refused as f64 / seen.seconds);
    ensure!(refused > 0.8 * f64::from(FLAPS), "only {refused} in each second: {tally:?}");
    take(bench, &what, &seen, &format!("{registers:.0} REGISTER/s, {refused:.0} of them refused"));
    Ok(())
}

fn backend(short: Option<Short>) -> anyhow::Result<Backend> {
    Backend::start(&Settings {
        trunks: TRUNKS,
        registrars: 10,
        mode: Mode::Pages,
        first_grant_s: None,
        short,
    })
}

/// Makes a Registry over a backend, and waits until all its trunks are registered.
async fn registered(cluster: &Cluster<'_>, name: &str, backend: &Backend, expires: &str) {
    let address = backend.address;
    let spec = format!(
        "  requesterAddr: {address}\n  apiAddr: {address}\n  registerInterval: 30s\n  registration: {{ expires: {expires}, \
         ratePerRegistrar: unlimited }}\n"
    );
    cluster.apply(name, &spec).await;
    cluster.ready(name, TRUNKS, Duration::from_secs(60)).await;
}

/// Observations in a window.
struct Seen {
    seconds: f64,
    /// Requests by verb and resource.
    asked: BTreeMap<String, u64>,
    /// Processor time of the leader and of the follower.
    cpu: [Duration; 2],
}

async fn look(
    bench: &Bench,
    what: &str,
    cluster: &Cluster<'_>,
    replicas: [&Replica; 2],
    window: Duration,
) -> anyhow::Result<Seen> {
    bench.progress(&format!("the operator, {what}, for {} s", window.as_secs()));
    let cpu = || -> anyhow::Result<[Duration; 2]> {
        Ok([usage::cpu(pid(replicas[0]))?, usage::cpu(pid(replicas[1]))?])
    };
    let (began, before, cpu_before) = (Instant::now(), cluster.asked(), cpu()?);
    sleep_until(began + window).await;
    let (seconds, mut asked, cpu_after) = (began.elapsed().as_secs_f64(), cluster.asked(), cpu()?);
    for (what, times) in &mut asked {
        *times -= before.get(what).copied().unwrap_or(0);
    }
    asked.retain(|_, times| *times > 0);
    Ok(Seen { seconds, asked, cpu: [cpu_after[0] - cpu_before[0], cpu_after[1] - cpu_before[1]] })
}

fn pid(replica: &Replica) -> u32 {
    u32::try_from(replica.service.pid()).unwrap_or(0)
}

fn take(bench: &mut Bench, what: &str, seen: &Seen, load: &str) {
    let minutes = seen.seconds / 60.0;
    let per_minute = |times: u64| times as f64 / minutes;
    let of = |part: &str| {
        per_minute(seen.asked.iter().filter(|(what, _)| what.contains(part)).map(|(_, times)| times).sum())
    };
    let list: Vec<String> =
        seen.asked.iter().map(|(what, times)| format!("{what} {:.0}", per_minute(*times))).collect();
    let mut figure = |of: &str, value: f64, unit: &'static str, reference, note: String| {
        let what = format!("{of}, {what}");
        bench.figure(Figure { section: SECTION, what, value, unit, reference, goal: None, note });
    };
    let least = Some((LEAST, "Lease and watch of two replicas"));
    figure("API requests", per_minute(seen.asked.values().sum()), "/min", least, list.join(", "));
    figure("status writes", of("registries/status"), "/min", None, load.to_owned());
    figure("events", of("events"), "/min", None, String::new());
    let [leader, follower] = seen.cpu.map(|cpu| cpu.as_secs_f64() / minutes);
    figure(
        "CPU of the leader",
        leader * 1e3,
        "ms/min",
        None,
        format!("of the follower: {:.0} ms/min", follower * 1e3),
    );
}
