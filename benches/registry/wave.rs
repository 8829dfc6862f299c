//! The first wave: all trunks are new, and register as fast as it goes. And what it costs.

use std::time::Duration;

use anyhow::ensure;

use crate::{
    backend::{self, Backend, Mode},
    product::{Product, Settings},
    reference::{self, Reference},
    report::{Bench, Cost, Figure, Goal, grouped, median},
    standing,
};

/// Number of registrars that the trunks are spread over.
pub const REGISTRARS: usize = 100;
/// Most calls of the reference: its rate does not depend on their number.
const REFERENCE_CALLS: usize = 200_000;

/// Returns the time limit of a wave with this number of trunks.
pub fn deadline(trunks: usize) -> Duration {
    Duration::from_secs(30 + trunks as u64 / 2_000)
}

/// A backend for `trunks`, listed page by page.
pub fn backend(trunks: usize, mode: Mode) -> anyhow::Result<Backend> {
    Backend::start(&backend::Settings {
        trunks,
        registrars: REGISTRARS,
        mode,
        first_grant_s: None,
        short: None,
    })
}

/// Runs a first wave of all trunks of the backend. The product goes on running.
pub async fn wave(backend: &mut Backend, settings: &Settings) -> anyhow::Result<(Cost, Product)> {
    let trunks = backend.settings.trunks as u64;
    backend.reset()?;
    let mut product = Product::start(backend, settings)?;
    product.registers(backend, trunks, deadline(backend.settings.trunks)).await?;
    product.settles(trunks, deadline(0)).await?;
    let tally = backend.tally()?;
    ensure!(
        tally.registers == trunks && tally.strange == 0,
        "{} REGISTERs for {trunks} trunks, {} of them strange",
        tally.registers,
        tally.strange
    );
    let cost = Cost {
        trunks,
        wave_s: tally.span_ns as f64 / 1e9,
        cpu_s: product.cpu()?.as_secs_f64(),
        resident: product.memory()?.resident,
    };
    Ok((cost, product))
}

/// A REGISTER as the product sends it, for the reference to repeat.
pub async fn sample(backend: &mut Backend) -> anyhow::Result<String> {
    let mut product = Product::start(backend, &Settings::default())?;
    product.registers(backend, 1, deadline(0)).await?;
    let sample = backend.sample()?;
    ensure!(!sample.is_empty(), "the backend has no sample");
    Ok(sample)
}

/// The section.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let sizes: &[usize] = if bench.quick { &[1_000, 10_000] } else { &[1_000, 10_000, 100_000, 1_000_000] };
    for trunks in sizes {
        size(bench, *trunks).await?;
    }
    Ok(())
}

/// Reference, wave, reference, as often as is worth it for the size.
async fn size(bench: &mut Bench, trunks: usize) -> anyhow::Result<()> {
    let name = grouped(trunks as u64);
    bench.progress(&format!("first wave of {name} trunks: finding the best concurrency of the reference"));
    let mut backend = backend(trunks, Mode::Pages)?;
    let sample = sample(&mut backend).await?;
    let calls = trunks.min(REFERENCE_CALLS);
    let concurrency = reference::best(&mut backend, &sample, calls.min(50_000), bench.quick)?;
    let repeat = match trunks {
        ..=10_000 if bench.quick => 3,
        ..=10_000 => 5,
        _ => 1,
    };
    let (mut costs, mut references): (Vec<Cost>, Vec<Reference>) = (Vec::new(), Vec::new());
    bench.progress(&format!("first wave of {name} trunks, {repeat} x, between runs of the reference"));
    references.push(reference::measure(&mut backend, &sample, concurrency, calls, None)?);
    for _ in 0..repeat {
        let (cost, mut product) = wave(&mut backend, &Settings::default()).await?;
        costs.push(cost);
        if trunks >= standing::FROM {
            standing::measure(bench, &mut backend, &mut product).await?;
        }
        drop(product);
        references.push(reference::measure(&mut backend, &sample, concurrency, calls, None)?);
    }
    let middle = |of: &dyn Fn(&Cost) -> f64| median(&mut costs.iter().map(of).collect::<Vec<_>>());
    let (wave_s, cpu_s) = (middle(&|cost| cost.wave_s), middle(&|cost| cost.cpu_s));
    let resident = middle(&|cost| cost.resident as f64) as u64;
    let middle = |of: &dyn Fn(&Reference) -> f64| median(&mut references.iter().map(of).collect::<Vec<_>>());
    let (rate, cpu) = (middle(&|run| run.rate), middle(&|run| run.cpu.as_secs_f64() * 1e6));
    bench.costs.push(Cost { trunks: trunks as u64, wave_s, cpu_s, resident });
    bench.figure(Figure {
        section: "first wave",
        what: format!("{name} trunks"),
        value: (trunks - 1) as f64 / wave_s,
        unit: "REGISTER/s",
        reference: Some((rate, "bare client")),
        goal: Some(Goal::RatioAtLeast(0.9)),
        note: format!("took {wave_s:.2} s; the reference at {concurrency} in flight"),
    });
    bench.figure(Figure {
        section: "processor",
        what: format!("each REGISTER of a first wave, {name} trunks"),
        value: cpu_s * 1e6 / trunks as f64,
        unit: "us",
        reference: Some((cpu, "bare client")),
        goal: None,
        note: "with the start and reading the trunks".into(),
    });
    Ok(())
}
