//! Punctuality under steady load: how long after their moment refreshes go out, and what each costs.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use crate::{
    backend::{self, Backend, Mode},
    histogram::Histogram,
    product::{Product, Settings},
    reference,
    report::{Bench, Figure, Goal, grouped},
    standing::next_sync,
    wave,
};

/// Layout of a run.
struct Plan {
    trunks: usize,
    expires: u32,
    interval: u32,
    /// The shortest first grant: refreshes begin soon after the first wave, at the rate of an installation
    /// that has been up for long.
    first_grant_s: u32,
    /// Times that a stretch with a sync and one without follow each other.
    rounds: u32,
    /// Seconds of a stretch without a sync.
    quiet_s: u64,
    /// Time that the last part of a sync may take to be worked up.
    rest: Duration,
}

const FULL: Plan = Plan {
    trunks: 1_000_000,
    expires: 600,
    interval: 60,
    first_grant_s: 120,
    rounds: 3,
    quiet_s: 40,
    rest: Duration::from_millis(2_500),
};
const QUICK: Plan = Plan {
    trunks: 10_000,
    expires: 30,
    interval: 5,
    first_grant_s: 12,
    rounds: 2,
    quiet_s: 3,
    rest: Duration::from_millis(300),
};

/// Counts of the product and the backend at a moment.
struct Sample {
    delays: Histogram,
    registers: u64,
    cpu: Duration,
}

async fn sample(product: &Product, backend: &mut Backend) -> anyhow::Result<Sample> {
    // The scrape itself belongs to the stretch that ends with it.
    let delays = product.metrics().await?.histogram("routr_registry_refresh_delay_seconds");
    Ok(Sample { delays, registers: backend.tally()?.registers, cpu: product.cpu()? })
}

/// The section.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let plan = if bench.quick { QUICK } else { FULL };
    let name = grouped(plan.trunks as u64);
    let mut backend = Backend::start(&backend::Settings {
        trunks: plan.trunks,
        registrars: wave::REGISTRARS,
        mode: Mode::Pages,
        first_grant_s: Some(plan.first_grant_s),
        short: None,
    })?;
    let message = wave::sample(&mut backend).await?;
    bench.progress(&format!("punctuality: {name} trunks of {} s are being registered", plan.expires));
    let settings = Settings { expires: plan.expires, interval: plan.interval, ..Settings::default() };
    backend.reset()?;
    let mut product = Product::start(&backend, &settings)?;
    product.registers(&mut backend, plan.trunks as u64, wave::deadline(plan.trunks)).await?;
    next_sync(&mut backend, plan.rest).await?;

    let first = sample(&product, &mut backend).await?;
    let (mut refreshes, mut cpu, mut quiet_s) = (0, Duration::ZERO, 0.0);
    let mut syncing: Vec<(Histogram, Histogram)> = Vec::new();
    for round in 1..=plan.rounds {
        bench.progress(&format!("punctuality: round {round} of {}", plan.rounds));
        let (began, from) = (tokio::time::Instant::now(), sample(&product, &mut backend).await?);
        sleep(Duration::from_secs(plan.quiet_s)).await;
        let to = sample(&product, &mut backend).await?;
        quiet_s += began.elapsed().as_secs_f64();
        refreshes += to.registers - from.registers;
        cpu += to.cpu.saturating_sub(from.cpu);
        next_sync(&mut backend, plan.rest).await?;
        syncing.push((to.delays, sample(&product, &mut backend).await?.delays));
    }
    let last = sample(&product, &mut backend).await?;
    let tally = backend.tally()?;
    let least_left = backend.least_left_ms()?;
    drop(product);
    ensure!(refreshes > 0, "no refresh in {quiet_s:.0} s");

    let pace = refreshes as f64 / quiet_s;
    bench.progress(&format!("punctuality: the reference at {pace:.0} REGISTERs a second"));
    let calls = (pace * if bench.quick { 4.0 } else { 20.0 }) as usize;
    let bare = reference::measure(&mut backend, &message, 64, calls.max(100), Some(pace))?;

    let delays = last.delays.since(&first.delays);
    let load = format!("{name} trunks of {} s, {pace:.0} refreshes/s", plan.expires);
    let parts: [(&str, f64, Option<f64>); 3] =
        [("p50", 0.5, None), ("p99", 0.99, Some(250.0)), ("max", 1.0, None)];
    for (part, of, goal) in parts {
        bench.figure(Figure {
            section: "punctuality",
            what: format!("{part} of the delay, {load}"),
            value: delays.at_most(of) * 1e3,
            unit: "ms, at most",
            reference: None,
            goal: goal.map(Goal::AtMost),
            note: format!("{} refreshes", grouped(delays.count())),
        });
    }
    let during: Vec<Histogram> = syncing.iter().map(|(from, to)| to.since(from)).collect();
    let worst = during.iter().map(|histogram| histogram.at_most(0.99)).fold(0.0, f64::max);
    bench.figure(Figure {
        section: "punctuality",
        what: format!("p99 in the stretches with a sync, the worst of {}", plan.rounds),
        value: worst * 1e3,
        unit: "ms, at most",
        reference: None,
        goal: Some(Goal::AtMost(250.0)),
        note: "a sync delays no refresh".into(),
    });
    bench.figure(Figure {
        section: "punctuality",
        what: "refreshes past expiry, as the backend sees it".into(),
        value: tally.expired as f64 + f64::from(u8::from(least_left < 0)),
        unit: "",
        reference: None,
        goal: Some(Goal::AtMost(0.0)),
        note: format!("the least that is left of any is {:.0} s", least_left as f64 / 1e3),
    });
    bench.figure(Figure {
        section: "processor",
        what: format!("each refresh, {load}"),
        value: cpu.as_secs_f64() * 1e6 / refreshes as f64,
        unit: "us",
        reference: Some((bare.cpu.as_secs_f64() * 1e6, "bare client at this pace")),
        goal: Some(Goal::RatioAtMost(1.25)),
        note: "between syncs".into(),
    });
    Ok(())
}
