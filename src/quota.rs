//! Limits of one Registry, and of the Registries of one namespace, in a process that serves many tenants.
//!
//! * [`Limits`] are the operator's, by its flags: no Registry can raise them;
//! * [`Quotas`] is what the process has in use, [`Quota`] is one Registry's part in it;
//! * [`pool`] divides memory between tenants, [`pace`] divides processor time, [`sockets`] counts
//!   connections.
//!
//! A stand-alone registry has the machine to itself: its [`Quota`] is unlimited, and its own configuration
//! bounds it.

pub mod pace;
pub mod pool;
pub mod sockets;

use routr_registration::model::Excess;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use self::{
    pace::Pace,
    pool::{Pool, Used},
};
use crate::config::{Config, SyncBounds};
use routr_registration::model::MemoryBudget;

/// Time that a Registry is shown to exceed a limit after it did so last.
const SHOWN_FOR: Duration = Duration::from_secs(300);
/// Bytes of a response that are free for each Registry: lists of a few hundred trunks never wait for those of
/// others.
const FREE_RESPONSE_BYTES: u64 = 256 << 10;
/// Bytes of a response to a REGISTER that are free: a SIP response over UDP rarely has more than 2 KiB.
pub const FREE_REGISTER_RESPONSE_BYTES: u64 = 4 << 10;
/// One response has at most this part of the memory for all.
const MAX_RESPONSE_FRACTION: u64 = 4;
/// The bytes of one sync are at most this many times the memory for responses.
const SYNC_FACTOR: u64 = 8;
/// The bytes of one trunk are at most this part of the memory for responses.
const MAX_TRUNK_FRACTION: u64 = 128;
/// Open files that are left for other things than connections of Registries: look-ups of names, the API
/// server of Kubernetes, the admin ports.
const KEPT_FILES: u64 = 1_024;
/// Pages of one sync.
const MAX_PAGES: u32 = 100_000;

/// Limits of all Registries of a process together. The defaults fit into 512 MiB, the chart's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Limits {
    /// Registries that run at the same time, 1 to 100,000. Newer ones wait.
    #[arg(long = "max-registries", value_name = "NUMBER", default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub registries: u64,
    /// Trunks of all Registries together, 1 to 100,000,000. One namespace gets at most as many as are left
    /// for the others.
    #[arg(long = "max-trunks", value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub trunks: u64,
    /// Memory for all trunks together, in MiB, 1 to 1,048,576. One namespace gets at most as much as is left
    /// for the others.
    #[arg(long = "max-trunk-memory", value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub trunk_mib: u64,
    /// Memory for the responses of API servers and Requesters that are read at the same time, in MiB, 4 to
    /// 65,536. One response gets at most a quarter.
    #[arg(long = "max-response-memory", value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(4..=65_536))]
    pub response_mib: u64,
    /// Connections of all Registries together to API servers, Requesters and Redis, 64 to 1,000,000, and at
    /// most what the limit on open files leaves. Those of one namespace have at most as many as are left for
    /// the others.
    #[arg(long = "max-connections", value_name = "NUMBER", default_value_t = 8_192, value_parser = clap::value_parser!(u64).range(64..=1_000_000))]
    pub connections: u64,
    /// REGISTERs in flight of one Registry, 1 to 100,000, whatever its spec.registration.maxInFlight says.
    #[arg(long = "max-in-flight", value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
}

impl Limits {
    fn response_bytes(&self) -> u64 {
        self.response_mib << 20
    }

    /// Lowers the number of connections to what the limit on open files leaves: a half of it at least, and
    /// all but 1,024.
    #[must_use]
    pub fn within_open_files(mut self, open_files: Option<u64>) -> Self {
        let most = open_files.map_or(u64::MAX, |files| files - (files / 2).min(KEPT_FILES));
        if most < self.connections {
            tracing::warn!(
                open_files,
                "--max-connections={} is more than the limit on open files allows: {most} connections are made at most",
                self.connections
            );
            self.connections = most;
        }
        self
    }

    /// Lowers what a Registry asks for to what the operator allows.
    pub fn apply(&self, config: &mut Config) {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let SyncBounds { max_pages, max_trunks, max_bytes, max_trunk_bytes, .. } = &mut config.sync;
        *max_pages = MAX_PAGES.min(*max_pages);
        *max_trunks = narrow(self.trunks).min(*max_trunks);
        *max_bytes = (self.response_bytes() * SYNC_FACTOR).min(*max_bytes);
        *max_trunk_bytes = narrow(self.response_bytes() / MAX_TRUNK_FRACTION).min(*max_trunk_bytes);
        let in_flight = &mut config.registration.max_in_flight;
        *in_flight = self.in_flight.min(*in_flight);
    }
}

/// Usage of a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    trunks: Pool,
    trunk_bytes: Pool,
    responses: Pool,
    sockets: Pool,
    /// Names that are looked up at the same time.
    look_ups: Arc<Semaphore>,
    /// Lists that are taken apart at the same time.
    decoding: Semaphore,
    tenants: Mutex<HashMap<String, Weak<Tenant>>>,
}

/// Usage of all Registries of one namespace together.
#[derive(Debug, Default)]
struct Tenant {
    trunks: Used,
    trunk_bytes: Used,
    responses: Used,
    sockets: Used,
    look_ups: sockets::LookUps,
}

impl Quotas {
    /// Nothing in use yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Inner {
            trunks: Pool::new(limits.trunks),
            trunk_bytes: Pool::new(limits.trunk_mib << 20),
            responses: Pool::new(limits.response_bytes()),
            sockets: Pool::new(limits.connections),
            look_ups: Arc::new(Semaphore::new(sockets::LOOK_UPS)),
            decoding: Semaphore::new((processors / 2).max(1)),
            tenants: Mutex::default(),
            limits,
        }))
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// One Registry's part, of those that its namespace has.
    #[must_use]
    pub fn registry(&self, namespace: &str) -> Arc<Quota> {
        let mut tenants = self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = tenants.get(namespace).and_then(Weak::upgrade).unwrap_or_else(|| {
            tenants.retain(|_, tenant| tenant.strong_count() > 0);
            let tenant = Arc::<Tenant>::default();
            tenants.insert(namespace.to_owned(), Arc::downgrade(&tenant));
            tenant
        });
        drop(tenants);
        Arc::new(Quota::of(Some((self.clone(), tenant))))
    }
}

/// One Registry's part in what the process has. What it holds is given back when it is dropped.
#[derive(Debug)]
pub struct Quota {
    /// `None` where there is no limit.
    shared: Option<(Quotas, Arc<Tenant>)>,
    trunks: AtomicU64,
    trunk_bytes: AtomicU64,
    pace: Pace,
    /// Moment when each of [`Excess::ALL`] was noted last.
    exceeded: Mutex<[Option<Instant>; Excess::ALL.len()]>,
}

impl Quota {
    /// No limit.
    #[must_use]
    pub fn unlimited() -> Arc<Self> {
        Arc::new(Self::of(None))
    }

    fn of(shared: Option<(Quotas, Arc<Tenant>)>) -> Self {
        Self {
            shared,
            trunks: AtomicU64::new(0),
            trunk_bytes: AtomicU64::new(0),
            pace: Pace::default(),
            exceeded: Mutex::default(),
        }
    }

    /// Returns whether others have a part, too.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.shared.is_some()
    }

    /// Bytes of the largest response.
    #[must_use]
    pub fn max_response(&self) -> usize {
        let Some((quotas, _)) = &self.shared else { return usize::MAX };
        usize::try_from(quotas.limits().response_bytes() / MAX_RESPONSE_FRACTION).unwrap_or(usize::MAX)
    }

    /// Room for a list that is about to be received; it grows as bytes arrive.
    #[must_use]
    pub fn response(self: &Arc<Self>) -> Arc<Received> {
        self.received(FREE_RESPONSE_BYTES)
    }

    /// Room for the response to a REGISTER.
    #[must_use]
    pub fn reply(self: &Arc<Self>) -> Arc<Received> {
        self.received(FREE_REGISTER_RESPONSE_BYTES)
    }

    fn received(self: &Arc<Self>, free: u64) -> Arc<Received> {
        Arc::new(Received {
            quota: self.clone(),
            free,
            bytes: AtomicU64::new(0),
            refused: AtomicBool::default(),
        })
    }

    /// Waits for a turn to take a list apart: a few of a process do so at the same time.
    pub async fn decode_turn(&self) -> Option<SemaphorePermit<'_>> {
        let (Quotas(process), _) = self.shared.as_ref()?;
        // It is never closed.
        process.decoding.acquire().await.ok()
    }

    /// Accounts for processor time, and waits while the Registry has used more than its share.
    pub async fn spent(&self, busy: Duration) {
        if self.shared.is_none() {
            return;
        }
        if let Some(pause) = self.pace.spend(busy, Instant::now()) {
            self.note(Excess::Processor);
            tokio::time::sleep(pause).await;
        }
    }

    /// Notes that the Registry exceeds something: its status shows it for some minutes.
    pub fn note(&self, excess: Excess) {
        let mut exceeded = self.exceeded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = Excess::ALL.iter().position(|one| *one == excess) {
            exceeded[place] = Some(Instant::now());
        }
    }

    /// Returns whether something was exceeded at this moment or later.
    #[must_use]
    pub fn exceeded_since(&self, excess: Excess, since: Instant) -> bool {
        let exceeded = self.exceeded.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Excess::ALL.iter().position(|one| *one == excess);
        place.and_then(|place| exceeded[place]).is_some_and(|at| at >= since)
    }

    /// Returns what the Registry has exceeded in the last minutes.
    #[must_use]
    pub fn exceeds(&self) -> Vec<Excess> {
        let exceeded = self.exceeded.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |at: &Option<Instant>| at.is_some_and(|at| at.elapsed() < SHOWN_FOR);
        let noted = Excess::ALL.into_iter().zip(exceeded.iter());
        noted.filter(|(_, at)| lately(at)).map(|(excess, _)| excess).collect()
    }
}

impl MemoryBudget for Quota {
    fn fits(&self, trunks: u64, bytes: u64) -> Result<(), Excess> {
        let Some((Quotas(process), tenant)) = &self.shared else { return Ok(()) };
        let checks = [
            (Excess::Trunks, process.trunks.fits(&tenant.trunks, trunks)),
            (Excess::TrunkMemory, process.trunk_bytes.fits(&tenant.trunk_bytes, bytes)),
        ];
        checks.into_iter().find(|(_, fits)| !fits).map_or(Ok(()), |(excess, _)| Err(excess))
    }

    fn uses(&self, trunks: u64, bytes: u64) {
        let Some((Quotas(process), tenant)) = &self.shared else { return };
        let before = self.trunks.swap(trunks, Ordering::Relaxed);
        process.trunks.change(&tenant.trunks, before, trunks);
        let before = self.trunk_bytes.swap(bytes, Ordering::Relaxed);
        process.trunk_bytes.change(&tenant.trunk_bytes, before, bytes);
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.uses(0, 0);
    }
}

/// Share that a response has of the memory for responses. Given back when it is dropped.
#[derive(Debug)]
pub struct Received {
    quota: Arc<Quota>,
    free: u64,
    bytes: AtomicU64,
    refused: AtomicBool,
}

impl Received {
    /// Counts bytes that have been received, or were made of received ones.
    ///
    /// # Errors
    /// [`Excess::ResponseMemory`]: there is no room for them.
    pub fn grow(&self, by: usize) -> Result<(), Excess> {
        let Some((Quotas(process), tenant)) = &self.quota.shared else { return Ok(()) };
        let by = u64::try_from(by).unwrap_or(u64::MAX);
        let before = self.bytes.load(Ordering::Relaxed);
        let after = before.saturating_add(by);
        let counted = |bytes: u64| bytes.saturating_sub(self.free);
        if !process.responses.take(&tenant.responses, counted(after) - counted(before)) {
            self.refused.store(true, Ordering::Relaxed);
            self.quota.note(Excess::ResponseMemory);
            return Err(Excess::ResponseMemory);
        }
        self.bytes.store(after, Ordering::Relaxed);
        Ok(())
    }

    /// Returns how many bytes are counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns what there was too little of, where there was.
    #[must_use]
    pub fn refused(&self) -> Option<Excess> {
        self.refused.load(Ordering::Relaxed).then_some(Excess::ResponseMemory)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some((Quotas(process), tenant)) = &self.quota.shared {
            let counted = self.bytes.load(Ordering::Relaxed).saturating_sub(self.free);
            process.responses.change(&tenant.responses, counted, 0);
        }
    }
}

#[cfg(test)]
mod tests;
