//! The reference: a bare tonic client that sends the same REGISTER to the same backend over as many
//! connections as the product uses, a process of its own. It keeps nothing, schedules nothing and looks at no
//! response.

use std::{
    io::{BufRead, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use prost::Message;
use routr_registry::proto::requester::{SendMessageRequest, requester_client::RequesterClient};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

use crate::{backend::Backend, report::median, role::Role, usage};

/// Connections: as many as the product has (`CHANNELS` in src/grpc/requester.rs).
const CHANNELS: usize = 2;
/// Concurrencies that are tried to find the best one.
const CONCURRENCIES: [usize; 7] = [1, 8, 32, 64, 256, 1024, 4096];
/// Concurrencies of the quick form.
const FEW: [usize; 3] = [64, 256, 1024];

/// Settings that a client is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Settings {
    address: String,
    /// The REGISTER, in hexadecimal digits: one that the product sent.
    sample: String,
    concurrency: usize,
    count: usize,
    /// Trunks to send it for, in turn.
    trunks: usize,
    /// Calls per second, evenly spread; as fast as it goes without.
    pace: Option<f64>,
}

/// Result of a run of the client.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// REGISTERs per second at the backend, from the first to the last.
    pub rate: f64,
    /// Processor time of the client for each.
    pub cpu: Duration,
}

/// Runs a new client: `count` REGISTERs.
pub fn measure(
    backend: &mut Backend,
    sample: &str,
    concurrency: usize,
    count: usize,
    pace: Option<f64>,
) -> anyhow::Result<Reference> {
    let settings = Settings {
        address: format!("http://{}", backend.address),
        sample: sample.to_owned(),
        concurrency,
        count,
        trunks: backend.settings.trunks,
        pace,
    };
    backend.reset()?;
    let mut role = Role::start(ROLE, &serde_json::to_string(&settings)?)?;
    role.hear()?;
    let before = usage::cpu(role.pid())?;
    role.ask("go")?;
    let cpu = usage::cpu(role.pid())?.saturating_sub(before);
    let tally = backend.tally()?;
    ensure!(tally.registers == count as u64 && tally.strange == 0, "the reference went wrong: {tally:?}");
    backend.reset()?;
    Ok(Reference { rate: tally.rate(), cpu: cpu.div_f64(count as f64) })
}

/// The best concurrency for runs of `count` REGISTERs.
pub fn best(backend: &mut Backend, sample: &str, count: usize, quick: bool) -> anyhow::Result<usize> {
    // Short runs are over before they can be distinguished.
    let repeat = if quick { 1 } else { (20_000 / count.max(1)).clamp(1, 5) };
    let tried = if quick { &FEW[..] } else { &CONCURRENCIES[..] };
    let mut all = Vec::new();
    for concurrency in tried.iter().copied().filter(|concurrency| *concurrency <= count) {
        // One at a time is slow, and no more than a starting point.
        let count = if concurrency == 1 { count.min(2_000) } else { count };
        let mut rates = Vec::new();
        for _ in 0..repeat {
            rates.push(measure(backend, sample, concurrency, count, None)?.rate);
        }
        all.push((median(&mut rates), concurrency));
    }
    let best = all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).context("nothing was tried")?;
    Ok(best.1)
}

/// The role's name on the command line.
pub const ROLE: &str = "client";

/// The role.
pub fn serve(settings: &str) -> anyhow::Result<()> {
    let settings: Settings = serde_json::from_str(settings)?;
    let bytes: Result<Vec<u8>, _> = (0..settings.sample.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&settings.sample[at..at + 2], 16))
        .collect();
    let request = Arc::new(SendMessageRequest::decode(&bytes?[..])?);
    let runtime = tokio::runtime::Runtime::new()?;
    let channels: Vec<Channel> = runtime.block_on(async {
        let one = || {
            Channel::from_shared(settings.address.clone()).map(|builder| {
                let (window, nodelay) = (4 << 20, true);
                builder
                    .initial_connection_window_size(window)
                    .initial_stream_window_size(window)
                    .tcp_nodelay(nodelay)
                    .connect_lazy()
            })
        };
        (0..CHANNELS).map(|_| one()).collect::<Result<_, _>>()
    })?;
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    std::io::stdin().lock().lines().next().context("no one is there")??;
    runtime.block_on(run(&settings, &channels, &request))?;
    writeln!(out, "done")?;
    // Its processor time is read before it ends.
    let _ = std::io::stdin().lock().lines().next();
    runtime.shutdown_background();
    Ok(())
}

async fn run(
    settings: &Settings,
    channels: &[Channel],
    request: &Arc<SendMessageRequest>,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let (count, trunks) = (settings.count, settings.trunks);
    let gap = settings.pace.map(|pace| Duration::from_secs_f64(1.0 / pace));
    let mut workers = Vec::new();
    for worker in 0..settings.concurrency {
        let mut client = RequesterClient::new(channels[worker % channels.len()].clone());
        let (next, request) = (Arc::clone(&next), Arc::clone(request));
        workers.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count {
                    return Ok::<_, tonic::Status>(());
                }
                if let Some(gap) = gap {
                    sleep_until(start + gap.mul_f64(number as f64)).await;
                }
                client.send_message(of(&request, number % trunks)).await?;
            }
        }));
    }
    for worker in workers {
        worker.await??;
    }
    Ok(())
}

/// The REGISTER of a trunk: that of another one, with its user.
fn of(request: &SendMessageRequest, number: usize) -> SendMessageRequest {
    let mut request = request.clone();
    if let Some(message) = &mut request.message {
        let user = |address: Option<&mut routr_registry::proto::sipmessage::Address>| {
            if let Some(uri) = address.and_then(|address| address.uri.as_mut()) {
                uri.user = crate::backend::user(number);
            }
        };
        user(message.to.as_mut().and_then(|to| to.address.as_mut()));
        user(message.from.as_mut().and_then(|from| from.address.as_mut()));
    }
    request
}
