//! One life of a process: it can be frozen (SIGSTOP: nothing of it runs, its timers fire late) and killed
//! (SIGKILL: nothing of it ever runs again).

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use routr_registration::model::{
    Change, Link, Record, RegisterRequest, RegisterResponse, SendError, StoreError,
};
use routr_registry::runtime::ports::{Environment, Requester, Store};
use tokio::{sync::watch, time::Instant};

use crate::history;

/// Wall-clock time at which a history begins, in milliseconds since the Unix epoch: 2026-09-21.
pub const EPOCH_MS: u64 = 1_790_000_000_000;

/// A machine: its clocks outlive its processes.
pub struct Machine {
    start: Instant,
    /// Time that the wall clock is ahead, in milliseconds.
    pub wall_ahead: AtomicI64,
    /// Drift of the election's monotonic clock, in millionths; positive when it is faster.
    pub drift: i64,
}

impl Machine {
    pub fn new(start: Instant, drift: i64) -> Self {
        Self { start, wall_ahead: AtomicI64::new(0), drift }
    }

    /// The wall clock.
    pub fn wall_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0);
        (EPOCH_MS + elapsed).saturating_add_signed(self.wall_ahead.load(Relaxed))
    }

    /// The monotonic clock by which the lease is judged.
    pub fn steady(&self) -> Instant {
        let elapsed = self.start.elapsed();
        let drift = i64::try_from(elapsed.as_micros()).unwrap_or(0) / 1_000 * self.drift / 1_000;
        self.start + Duration::from_secs(1_000) + elapsed.saturating_add_signed_micros(drift)
    }

    /// Returns the moment of the simulation at which the monotonic clock of the machine shows `steady`.
    pub fn when(&self, steady: Instant) -> Instant {
        let left = steady.saturating_duration_since(self.steady());
        Instant::now() + left.mul_f64(1_000_000.0 / (1_000_000 + self.drift) as f64)
    }
}

trait AddSigned {
    fn saturating_add_signed_micros(self, micros: i64) -> Self;
}

impl AddSigned for Duration {
    fn saturating_add_signed_micros(self, micros: i64) -> Self {
        let change = Self::from_micros(micros.unsigned_abs());
        if micros < 0 { self.saturating_sub(change) } else { self.saturating_add(change) }
    }
}

/// One life of a process.
pub struct Life {
    pub id: u32,
    pub machine: Arc<Machine>,
    frozen: AtomicBool,
    dead: AtomicBool,
    waiting: Mutex<(u64, BTreeMap<u64, Waker>)>,
    /// Number of times that its loop was polled.
    pub polls: AtomicU64,
    seeds: AtomicU64,
}

impl Life {
    pub fn new(id: u32, machine: Arc<Machine>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            machine,
            frozen: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            waiting: Mutex::default(),
            polls: AtomicU64::new(0),
            seeds: AtomicU64::new(seed),
        })
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }

    pub fn kill(&self) {
        self.dead.store(true, Relaxed);
        self.wake();
    }

    pub fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Relaxed);
        self.wake();
    }

    fn wake(&self) {
        let wakers: Vec<Waker> =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).1.values().cloned().collect();
        wakers.iter().for_each(Waker::wake_by_ref);
    }

    /// Runs as long as the process does; `None`: it was killed.
    pub fn run<F: Future>(self: &Arc<Self>, future: F) -> Gate<F> {
        let id = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.0 += 1;
            waiting.0
        };
        Gate { life: self.clone(), id, counts: false, inner: Some(Box::pin(future)) }
    }

    /// The same for the process's main loop, whose turns are counted.
    pub fn run_main<F: Future>(self: &Arc<Self>, future: F) -> Gate<F> {
        let mut gate = self.run(future);
        gate.counts = true;
        gate
    }
}

impl Environment for Life {
    fn unix_ms(&self) -> u64 {
        self.machine.wall_ms()
    }

    fn seed(&self) -> u64 {
        self.seeds.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed)
    }
}

/// See [`Life::run`].
pub struct Gate<F> {
    life: Arc<Life>,
    id: u64,
    counts: bool,
    inner: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Gate<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.life.is_dead() {
            self.inner = None;
            return Poll::Ready(None);
        }
        {
            let id = self.id;
            let mut waiting = self.life.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let waker = waiting.1.entry(id).or_insert_with(|| cx.waker().clone());
            waker.clone_from(cx.waker());
        }
        if self.life.is_frozen() {
            return Poll::Pending;
        }
        if self.counts {
            self.life.polls.fetch_add(1, Relaxed);
        }
        let spoke = history::speaks(self.life.id);
        let polled = self.inner.as_mut().map_or(Poll::Pending, |inner| inner.as_mut().poll(cx).map(Some));
        history::speaks(spoke);
        polled
    }
}

impl<F> Drop for Gate<F> {
    fn drop(&mut self) {
        self.life.waiting.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.id);
    }
}

/// A port of a process: nothing passes it while the process does not run.
pub struct Gated<P> {
    pub port: P,
    pub life: Arc<Life>,
}

const KILLED: &str = "killed";

impl<P: Requester> Requester for Gated<P> {
    async fn register(
        &self,
        request: RegisterRequest,
        deadline: Duration,
    ) -> Result<RegisterResponse, SendError> {
        let answer = self.life.run(self.port.register(request, deadline)).await;
        answer.unwrap_or(Err(SendError::Unavailable(KILLED.into())))
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.port.link()
    }
}

impl<P: Store> Store for Gated<P> {
    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        self.life.run(self.port.load()).await.unwrap_or(Err(StoreError::Unavailable(KILLED.into())))
    }

    fn is_durable(&self) -> bool {
        self.port.is_durable()
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.life.run(self.port.apply(changes)).await.unwrap_or(Err(StoreError::Unavailable(KILLED.into())))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.life.run(self.port.ping()).await.unwrap_or(Err(StoreError::Unavailable(KILLED.into())))
    }

    async fn detect_data_loss(&self) -> Result<bool, StoreError> {
        self.life
            .run(self.port.detect_data_loss())
            .await
            .unwrap_or(Err(StoreError::Unavailable(KILLED.into())))
    }
    fn check_every(&self) -> Duration {
        self.port.check_every()
    }
}
