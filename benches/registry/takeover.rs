//! A leader is killed, and the other replica takes over, with the state in Redis.
//!
//! Two replicas of the real binary on a real control plane, one Registry, a real Redis. Most trunks are
//! granted two hours and are not due; the others are granted little, so that some are due at each moment, and
//! a backlog of them when the Lease has run out. The leader gets SIGKILL. From the moment that the new one
//! says that it has the Lease: when the cache is loaded, when the first REGISTER arrives, when the trunks are
//! read, when nothing that was due is waiting any more. For half a minute the backend looks for REGISTERs of
//! trunks that were not due, and for registrations that expired.
//!
//! The reference is a bare client in this process that reads the same records from the same Redis (HGETALL of
//! each key, in pipelines), and the same list page by page, without keeping any of it.

mod reading;

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use routr_environment::unix_ms;
use tokio::time::{Instant, sleep_until};

use crate::{
    backend::{Backend, Mode, Settings, Short, Tally},
    operator::cluster::{Cluster, Replica},
    report::{Bench, Figure, Goal, grouped},
    support::{
        control_plane::ControlPlane,
        redis::{self, Redis},
        wait::wait_at_pace,
    },
    usage,
};

const SECTION: &str = "take-over";
/// Interval between two looks at the backend while something is expected.
const LOOK: Duration = Duration::from_millis(10);

/// One size.
#[derive(Clone, Copy, Debug)]
struct Case {
    trunks: usize,
    /// Those that fall due all the time.
    short: Short,
    /// `registerInterval`, which is the lead of a refresh: longer than a take-over.
    interval: u64,
    /// Seconds that the Lease lasts; the chart has 10.
    lease: u64,
    /// Time that the backend is watched after the take-over, in seconds.
    watch: u64,
}

impl Case {
    /// REGISTERs per second when all is well: a refresh comes at random in the tenth of the time before the
    /// lead.
    fn rate(self) -> f64 {
        let granted = f64::from(self.short.seconds);
        let pause = granted - self.interval as f64 - granted / 20.0;
        (self.trunks / self.short.every) as f64 / pause
    }
}

const QUICK: [Case; 1] =
    [Case { trunks: 10_000, short: Short { every: 10, seconds: 20 }, interval: 7, lease: 3, watch: 8 }];
const FULL: [Case; 2] = [
    Case { trunks: 100_000, short: Short { every: 10, seconds: 80 }, interval: 30, lease: 10, watch: 30 },
    Case { trunks: 1_000_000, short: Short { every: 50, seconds: 80 }, interval: 30, lease: 10, watch: 30 },
];

/// Runs the section.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let cases: &[Case] = if bench.quick { &QUICK } else { &FULL };
    bench.progress("a Kubernetes control plane for the take-over");
    let plane = ControlPlane::shared().await;
    for case in cases {
        measure(bench, plane, *case).await?;
    }
    Ok(())
}

async fn measure(bench: &mut Bench, plane: &ControlPlane, case: Case) -> anyhow::Result<()> {
    let trunks = grouped(case.trunks as u64);
    bench.progress(&format!("take-over of {trunks} trunks: registering them"));
    let redis = Redis::start(redis::Options::default()).await;
    let settings = Settings {
        trunks: case.trunks,
        registrars: 100,
        mode: Mode::Pages,
        first_grant_s: None,
        short: Some(case.short),
    };
    let mut backend = Backend::start(&settings)?;
    let cluster = Cluster::install(plane).await?;
    let lease = format!("--lease-duration={}", case.lease);
    let mut old = cluster.start("pod-a", &[&lease])?;
    old.says_it("leads").await;
    let new = cluster.start("pod-b", &[&lease])?;
    new.says_it("follows").await;
    cluster.apply("main", &spec(&backend, &redis, case)).await;
    registered(&mut backend, &redis, &cluster, case).await?;

    bench.progress(&format!("take-over of {trunks} trunks: until some are due at each moment"));
    // Between the first of them to be refreshed and the last, whose first grant was twice as long.
    let pause = u64::from(case.short.seconds) * 3 / 2 - case.interval - case.lease;
    sleep_until(Instant::now() + Duration::from_secs(pause)).await;
    let reference = reading::all(&redis, &backend, case.trunks).await?;
    let before = backend.tally()?;
    ensure!(before.needless == 0 && before.expired == 0, "before anything was killed: {before:?}");

    bench.progress(&format!("take-over of {trunks} trunks: SIGKILL to the leader"));
    let killed = unix_ms() as f64;
    old.service.signal(Signal::SIGKILL);
    old.service.exit(Duration::from_secs(5)).await;
    // What it sent last has arrived when the Lease has half run out.
    sleep_until(Instant::now() + Duration::from_secs(case.lease) / 2).await;
    backend.mark()?;
    let seen = Seen::take(&mut backend, &new, case).await?;
    sleep_until(Instant::now() + Duration::from_secs(case.watch)).await;
    let after = backend.tally()?;
    ensure!(after.strange == 0, "{after:?}");
    figures(bench, &trunks, killed, &seen, &after, reference);
    let peak = usage::memory(u32::try_from(new.service.pid())?)?.peak;
    bench.figure(Figure {
        section: SECTION,
        what: format!("{trunks} trunks: peak memory of the new leader"),
        value: peak as f64 / f64::from(1 << 20),
        unit: "MiB",
        reference: None,
        goal: Some(Goal::AtMost(512.0)),
        note: String::new(),
    });
    Ok(())
}

fn spec(backend: &Backend, redis: &Redis, case: Case) -> String {
    let (address, port, interval) = (backend.address, redis.port(), case.interval);
    format!(
        "  requesterAddr: {address}\n  apiAddr: {address}\n  registerInterval: {interval}s\n  registration: {{ expires: 7200s, \
         ratePerRegistrar: unlimited }}\n  cache: {{ provider: redis, parameters: \"host=127.0.0.1,port={port}\" }}\n"
    )
}

/// Waits until all are registered, and Redis knows it.
async fn registered(
    backend: &mut Backend,
    redis: &Redis,
    cluster: &Cluster<'_>,
    case: Case,
) -> anyhow::Result<()> {
    let deadline = Duration::from_secs(60) + Duration::from_micros(600) * u32::try_from(case.trunks)?;
    let trunks = case.trunks as u64;
    let all = async || match backend.tally() {
        Ok(Tally { trunks: seen, .. }) if seen == trunks => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_at_pace(Duration::from_millis(250), all, deadline, "a REGISTER of each trunk").await;
    cluster.ready("main", case.trunks, Duration::from_secs(60)).await;
    let kept = async || match reading::records(redis).await {
        Ok(records) if records == trunks => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_at_pace(Duration::from_millis(250), kept, Duration::from_secs(60), "all records to be in Redis")
        .await;
    Ok(())
}

/// Moments, in milliseconds since the Unix epoch.
struct Seen {
    lease: f64,
    loaded: f64,
    first: f64,
    listed: f64,
    caught_up: f64,
    /// Number of REGISTERs that it took to catch up.
    backlog: u64,
}

impl Seen {
    async fn take(backend: &mut Backend, new: &Replica, case: Case) -> anyhow::Result<Self> {
        let end = Instant::now() + Duration::from_secs(60 + 2 * case.lease);
        // When, and how many REGISTERs there were by then.
        let mut counts: Vec<(f64, u64)> = Vec::new();
        let (mut first, mut listed) = (None, None);
        let (caught_up, backlog) = loop {
            ensure!(Instant::now() < end, "no end of the backlog: {:?}", counts.last());
            sleep_until(Instant::now() + LOOK).await;
            let tally = backend.tally()?;
            let now = unix_ms() as f64;
            if tally.registers > 0 {
                first.get_or_insert(now - tally.since_first_ns as f64 / 1e6);
                counts.push((now, tally.registers));
            }
            if tally.syncs > 0 {
                listed.get_or_insert(now);
            }
            if let (Some(_), Some(end)) = (listed, end_of_burst(&counts, case.rate())) {
                break end;
            }
        };
        let (lease, _) = new.logged("acquired the lease")?;
        let (loaded, line) = new.logged("resuming from the state in the cache")?;
        let records = line["fields"]["registrations"].as_u64().or(line["registrations"].as_u64());
        ensure!(records == Some(case.trunks as u64), "{line}");
        Ok(Self {
            lease,
            loaded,
            first: first.context("no REGISTER came")?,
            listed: listed.context("the trunks were not listed")?,
            caught_up,
            backlog,
        })
    }
}

/// Returns the moment when REGISTERs began to come no faster than twice as fast as ever, for a quarter of a
/// second, and their number until then.
fn end_of_burst(counts: &[(f64, u64)], rate: f64) -> Option<(f64, u64)> {
    const WINDOW: f64 = 250.0;
    let (now, all) = *counts.last()?;
    let (then, before) = *counts.iter().rev().find(|(at, _)| now - at >= WINDOW)?;
    let calm = ((all - before) as f64) < 2.0 * rate * (now - then) / 1e3 + 2.0;
    calm.then_some((then, before))
}

fn figures(
    bench: &mut Bench,
    trunks: &str,
    killed: f64,
    seen: &Seen,
    after: &Tally,
    reference: reading::Read,
) {
    let mut figure = |what: &str, value: f64, unit, reference, goal, note: String| {
        let what = format!("{trunks} trunks: {what}");
        bench.figure(Figure { section: SECTION, what, value, unit, reference, goal, note });
    };
    let since = |moment: f64| moment - seen.lease;
    let (cache, list) = (reference.cache_ms, reference.list_ms);
    let both = Some((cache + list, "bare client: the same records, and the list by pages"));
    let lease = format!("the Lease was had {:.1} s after SIGKILL", (seen.lease - killed) / 1e3);
    figure(
        "Lease to cache loaded",
        since(seen.loaded),
        "ms",
        Some((cache, "bare client: the same records")),
        None,
        lease,
    );
    figure("Lease to first REGISTER due", since(seen.first), "ms", both, None, String::new());
    figure("Lease to all trunks read", since(seen.listed), "ms", both, None, String::new());
    let note = format!("{} REGISTERs", grouped(seen.backlog));
    figure("Lease to nothing overdue", since(seen.caught_up), "ms", both, None, note);
    let watched = format!("of {} REGISTERs since the Lease", grouped(after.registers));
    figure(
        "sent though not due, or twice",
        after.needless as f64,
        "REGISTERs",
        None,
        Some(Goal::AtMost(0.0)),
        watched,
    );
    figure("expired meanwhile", after.expired as f64, "trunks", None, Some(Goal::AtMost(0.0)), String::new());
}
