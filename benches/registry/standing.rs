//! A million trunks that are registered: their memory, and what it costs to read them again when nothing has
//! changed.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::{
    backend::{Backend, Mode},
    product::{Product, Settings},
    report::{Bench, Figure, Goal, grouped},
    wave,
};

/// Size from which a wave is measured when it stands, too, in trunks.
pub const FROM: usize = 1_000_000;
/// Plan for measuring syncs that change nothing.
struct Plan {
    syncs: u32,
    /// Seconds between them.
    interval: u32,
    /// Time that the last part of one may take to be worked up.
    rest: Duration,
}

impl Plan {
    fn of(trunks: usize) -> Self {
        match trunks >= FROM {
            true => Self { syncs: 3, interval: 15, rest: Duration::from_millis(2_500) },
            false => Self { syncs: 2, interval: 2, rest: Duration::from_millis(300) },
        }
    }
}

const MIB: f64 = (1 << 20) as f64;

/// The section: by itself it makes its own wave; after the first waves it only adds what a server costs that
/// lists all in one message.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let trunks = if bench.quick { 10_000 } else { FROM };
    let name = grouped(trunks as u64);
    if !bench.has("memory") {
        bench.progress(&format!("{name} trunks, listed page by page"));
        let mut backend = wave::backend(trunks, Mode::Pages)?;
        let (_, mut product) = wave::wave(&mut backend, &Settings::default()).await?;
        measure(bench, &mut backend, &mut product).await?;
    }
    bench.progress(&format!("{name} trunks, listed all in one message"));
    let mut backend = wave::backend(trunks, Mode::AllInOne)?;
    let (_, product) = wave::wave(&mut backend, &Settings::default()).await?;
    let message = backend.listing_bytes()? as f64 / MIB;
    bench.figure(Figure {
        section: "memory",
        what: format!("peak, {name} trunks, read all in one message"),
        value: product.memory()?.peak as f64 / MIB,
        unit: "MiB",
        reference: None,
        goal: Some(Goal::AtMost(512.0 + message)),
        note: format!("the message has {message:.0} MiB"),
    });
    Ok(())
}

/// Measures a product all of whose trunks have just been registered, read page by page.
pub async fn measure(bench: &mut Bench, backend: &mut Backend, product: &mut Product) -> anyhow::Result<()> {
    let trunks = backend.settings.trunks;
    let (name, plan) = (grouped(trunks as u64), Plan::of(trunks));
    bench.progress(&format!(
        "{name} trunks are registered: memory, and {} syncs that change nothing",
        plan.syncs
    ));
    let empty = empty().await?;
    let registered = product.memory()?;
    let each = syncs(backend, product).await?;
    let after = product.memory()?;
    let per_trunk = |bytes: u64| bytes as f64 / trunks as f64;
    bench.figure(Figure {
        section: "memory",
        what: format!("resident for each of {name} trunks, all in"),
        value: per_trunk(after.resident.max(registered.resident)),
        unit: "B/trunk",
        reference: None,
        goal: (trunks >= FROM).then_some(Goal::AtMost(350.0)),
        note: format!(
            "{:.0} MiB in all, {:.0} B without the {:.0} MiB of a process without trunks",
            after.resident.max(registered.resident) as f64 / MIB,
            per_trunk(after.resident.max(registered.resident).saturating_sub(empty)),
            empty as f64 / MIB
        ),
    });
    bench.figure(Figure {
        section: "memory",
        what: format!("peak, {name} trunks, read in pages"),
        value: after.peak as f64 / MIB,
        unit: "MiB",
        reference: None,
        goal: Some(Goal::AtMost(512.0)),
        note: format!("the first wave and {} syncs", plan.syncs + 1),
    });
    bench.figure(Figure {
        section: "processor",
        what: format!("a sync of {name} trunks that changes nothing"),
        value: each.as_secs_f64(),
        unit: "s",
        reference: None,
        goal: Some(Goal::AtMost(2.0)),
        note: format!("mean of {}, with all else that {} s of idling take", plan.syncs, plan.interval),
    });
    Ok(())
}

/// Resident bytes of a product without trunks.
async fn empty() -> anyhow::Result<u64> {
    let backend = wave::backend(0, Mode::Pages)?;
    let mut product = Product::start(&backend, &Settings::default())?;
    product.settles(0, wave::deadline(0)).await?;
    Ok(product.memory()?.resident)
}

/// Has the trunks read again and again, and returns the processor time of one reading.
async fn syncs(backend: &mut Backend, product: &mut Product) -> anyhow::Result<Duration> {
    let before = backend.tally()?.registers;
    let plan = Plan::of(backend.settings.trunks);
    product.reconfigure(backend, &Settings { interval: plan.interval, ..Settings::default() })?;
    next_sync(backend, plan.rest).await?;
    let cpu = product.cpu()?;
    for _ in 0..plan.syncs {
        next_sync(backend, plan.rest).await?;
    }
    let each = product.cpu()?.saturating_sub(cpu) / plan.syncs;
    ensure!(backend.tally()?.registers == before, "a sync that changes nothing has sent REGISTERs");
    Ok(each)
}

/// Waits until a list has been read to its end, and then until the last part of it has been worked up, too.
pub async fn next_sync(backend: &mut Backend, rest: Duration) -> anyhow::Result<()> {
    let before = backend.tally()?.syncs;
    let end = Instant::now() + Duration::from_secs(180);
    while backend.tally()?.syncs == before {
        ensure!(Instant::now() < end, "no sync in three minutes");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(rest).await;
    Ok(())
}
