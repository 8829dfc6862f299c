//! A million trunks that are registered: their memory, and what it costs to read them again when nothing has changed.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::{
    backend::{Backend, Mode},
    product::{Product, Settings},
    report::{Bench, Figure, Goal, grouped},
    wave,
};

/// Waves of so many trunks are measured when they stand, too.
pub const FROM: usize = 1_000_000;
/// Syncs that change nothing.
const SYNCS: u32 = 3;
/// Seconds between them.
const INTERVAL: u32 = 15;
const MIB: f64 = (1 << 20) as f64;

/// The section: by itself it makes its own wave; after the first waves it only adds what a server costs that lists all in
/// one message.
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
    let (_, mut product) = wave::wave(&mut backend, &Settings::default()).await?;
    syncs(&mut backend, &mut product).await?;
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
    let name = grouped(trunks as u64);
    bench.progress(&format!("{name} trunks are registered: memory, and {SYNCS} syncs that change nothing"));
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
        note: format!("the first wave and {SYNCS} syncs"),
    });
    bench.figure(Figure {
        section: "processor",
        what: format!("a sync of {name} trunks that changes nothing"),
        value: each.as_secs_f64(),
        unit: "s",
        reference: None,
        goal: Some(Goal::AtMost(2.0)),
        note: format!("mean of {SYNCS}, with all else that {INTERVAL} s of idling take"),
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
    product.reconfigure(backend, &Settings { interval: INTERVAL, ..Settings::default() })?;
    next_sync(backend).await?;
    let cpu = product.cpu()?;
    for _ in 0..SYNCS {
        next_sync(backend).await?;
    }
    let each = product.cpu()?.saturating_sub(cpu) / SYNCS;
    ensure!(backend.tally()?.registers == before, "a sync that changes nothing has sent REGISTERs");
    Ok(each)
}

/// Waits until a listing has been read to its end, and a little longer.
pub async fn next_sync(backend: &mut Backend) -> anyhow::Result<()> {
    let before = backend.tally()?.syncs;
    let end = Instant::now() + Duration::from_secs(180);
    while backend.tally()?.syncs == before {
        ensure!(Instant::now() < end, "no sync in three minutes");
        sleep(Duration::from_millis(100)).await;
    }
    // The last of it was sent; now it is worked up.
    sleep(Duration::from_millis(2_500)).await;
    Ok(())
}
