//! What the operator asks of the Kubernetes API server, and what it costs: idle, and with 100 trunks that fail and recover in
//! each second.
//!
//! The chart with its defaults (two replicas of the real binary as pods) on a real control plane, one Registry over a backend
//! that grants 10 s, so that each of its trunks is refreshed all 4 to 5 s. While they flap, the backend refuses 100 registered
//! trunks in each second with a 503, each once; they come back at their next try, so that 200 trunks change their state in each
//! second. Requests are counted in the audit log of the API server.
//!
//! The reference is the least that could be: what two replicas need for the Lease, and one watch of Registries that the API
//! server ends after 295 s or more.

pub mod cluster;

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use tokio::time::{Instant, sleep_until};

use self::cluster::{Cluster, Replica};
use crate::{
    backend::{Backend, Mode, Settings},
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
/// Enough that so many of them are refreshed in each second.
const TRUNKS: usize = 2_000;
/// As the issue has it.
const FLAPS: u32 = 100;

/// Runs the section.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let window = if bench.quick { 6 } else { 90 };
    bench.progress("starting a Kubernetes control plane");
    let plane = ControlPlane::shared().await;
    let cluster = Cluster::install(plane).await?;
    let mut backend = Backend::start(&Settings {
        trunks: TRUNKS,
        registrars: 10,
        mode: Mode::Pages,
        first_grant_s: None,
        short: None,
    })?;
    let leader = cluster.start("pod-a", &[])?;
    leader.says_it("leads").await;
    let follower = cluster.start("pod-b", &[])?;
    follower.says_it("follows").await;
    cluster.apply(&spec(&backend)).await;
    cluster.ready(TRUNKS, Duration::from_secs(60)).await;

    let window = Duration::from_secs(window);
    for flaps in [0, FLAPS] {
        let what =
            if flaps == 0 { "idle".to_owned() } else { format!("{flaps} trunks flapping each second") };
        bench.progress(&format!("the operator, {what}, for {} s", window.as_secs()));
        backend.flap(flaps)?;
        // What the change itself makes it write is not what is measured.
        sleep_until(Instant::now() + Duration::from_secs(5)).await;
        backend.mark()?;
        let seen = look(&cluster, &leader, &follower, window).await?;
        let tally = backend.tally()?;
        ensure!(tally.strange == 0 && tally.lapsed == 0, "{tally:?}");
        let refused = tally.refused as f64 / seen.seconds;
        ensure!(flaps == 0 || refused > 0.9 * f64::from(flaps), "only {refused} in each second: {tally:?}");
        let registers = tally.registers as f64 / seen.seconds;
        let load = format!("{registers:.0} REGISTER/s, {refused:.0} of them refused");
        take(bench, &what, &seen, &load);
    }
    Ok(())
}

fn spec(backend: &Backend) -> String {
    let address = backend.address;
    format!(
        "  requesterAddr: {address}\n  apiAddr: {address}\n  registerInterval: 30s\n  registration: {{ expires: 10s, \
         ratePerRegistrar: unlimited }}\n"
    )
}

/// What was seen in a window.
struct Seen {
    seconds: f64,
    /// Requests by verb and resource.
    asked: BTreeMap<String, u64>,
    /// Processor time of the leader and of the follower.
    cpu: [Duration; 2],
}

async fn look(
    cluster: &Cluster<'_>,
    leader: &Replica,
    follower: &Replica,
    window: Duration,
) -> anyhow::Result<Seen> {
    let cpu =
        || -> anyhow::Result<[Duration; 2]> { Ok([usage::cpu(pid(leader))?, usage::cpu(pid(follower))?]) };
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
