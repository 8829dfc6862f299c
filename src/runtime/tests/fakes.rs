//! Dependencies of a driver that fail on request.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::runtime::{
    clock::Clock,
    driver::{Controls, Driver, Ports},
    ports::{Environment, Requester, Store, TrunkSource},
};
use routr_registration::testing::{Item, code};
use routr_registration::{
    engine::{Engine, EngineSettings, view::TrunkView},
    model::{
        Absence, Change, Link, Record, RegisterRequest, RegisterResponse, Rival, SendError, SourceError,
        StoreError,
    },
    registration::identity::RegistryId,
    trunk::Trunk,
};

/// Behaviour of a dependency when it is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Up,
    Down,
    Hanging,
    /// Responds after half a minute, with what there was at the start.
    Slow,
    /// Wrong credentials.
    Denying,
}

/// Serves trunks.
pub struct Source {
    pub mode: Mutex<Mode>,
    items: Mutex<Vec<Item>>,
    /// Moments at which it was called.
    pub asked: Mutex<Vec<Instant>>,
    pub lists: Mutex<Lists>,
}

/// Trustworthiness of its lists.
#[derive(Clone, Copy)]
pub struct Lists {
    /// Trunks at the front that are left out.
    pub lacking: usize,
    pub absence: Absence,
    /// It can be asked for one trunk, which then has what the lists lack.
    pub looks_up: bool,
    /// It fails when it is asked for one trunk.
    pub look_up_fails: bool,
}

impl Default for Lists {
    fn default() -> Self {
        Self { lacking: 0, absence: Absence::Certain, looks_up: false, look_up_fails: false }
    }
}

impl Source {
    pub fn put(&self, trunks: &[Trunk]) {
        static REVISION: AtomicU64 = AtomicU64::new(1);
        *self.items.lock().unwrap() = trunks
            .iter()
            .map(|trunk| Item {
                reference: Some(trunk.reference.to_string()),
                revision: REVISION.fetch_add(1, Ordering::Relaxed),
                trunk: Ok(trunk.clone()),
            })
            .collect();
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Returns how often it was asked since then.
    pub fn asked_since(&self, since: Instant) -> usize {
        self.asked.lock().unwrap().iter().filter(|at| **at >= since).count()
    }
}

impl TrunkSource for Source {
    type Item = Item;

    async fn list(&self, batches: mpsc::Sender<Vec<Item>>) -> Result<Absence, SourceError> {
        self.asked.lock().unwrap().push(Instant::now());
        let lists = *self.lists.lock().unwrap();
        let items: Vec<Item> = self.items.lock().unwrap().iter().skip(lists.lacking).cloned().collect();
        let mode = *self.mode.lock().unwrap();
        // Whatever goes wrong, a part had arrived.
        let count = if matches!(mode, Mode::Up | Mode::Slow) { items.len() } else { items.len() / 2 };
        for item in &items[..count] {
            batches.send(vec![item.clone()]).await.map_err(|_| SourceError::Abandoned)?;
        }
        match mode {
            Mode::Up => Ok(lists.absence),
            Mode::Slow => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Ok(lists.absence)
            }
            Mode::Down | Mode::Denying => Err(SourceError::Unavailable("down".into())),
            Mode::Hanging => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Err(SourceError::Deadline(Duration::from_secs(30)))
            }
        }
    }

    async fn look_up(
        &self,
        references: Vec<Box<str>>,
        batches: mpsc::Sender<Vec<Item>>,
    ) -> Result<bool, SourceError> {
        let lists = *self.lists.lock().unwrap();
        if lists.look_up_fails {
            return Err(SourceError::Unavailable("down".into()));
        }
        let asked = |item: &Item| references.iter().any(|one| item.reference.as_deref() == Some(one));
        let there = self.items.lock().unwrap().iter().filter(|item| asked(item)).cloned().collect();
        if lists.looks_up {
            batches.send(there).await.map_err(|_| SourceError::Abandoned)?;
        }
        Ok(lists.looks_up)
    }
}

/// Sends nothing, and responds at once.
pub struct FakeRequester {
    pub mode: Mutex<Mode>,
    pub sent: Mutex<Vec<(Instant, RegisterRequest)>>,
    link: watch::Sender<Link>,
}

impl FakeRequester {
    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    pub fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// The connection is lost, and made again.
    pub fn reconnect(&self) {
        self.link.send_modify(|link| link.lost = true);
        self.link.send_modify(|link| {
            link.lost = false;
            link.restarts += 1;
        });
    }

    pub fn forget(&self) {
        self.sent.lock().unwrap().clear();
    }
}

impl Requester for FakeRequester {
    async fn register(
        &self,
        request: RegisterRequest,
        deadline: Duration,
    ) -> Result<RegisterResponse, SendError> {
        let expires = i32::try_from(request.expires).unwrap();
        self.sent.lock().unwrap().push((Instant::now(), request));
        let mode = *self.mode.lock().unwrap();
        match mode {
            Mode::Up => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(RegisterResponse { contact_expires: Some(expires), ..code(200) })
            }
            Mode::Down | Mode::Denying => Err(SendError::Unavailable("down".into())),
            Mode::Hanging | Mode::Slow => {
                tokio::time::sleep(deadline).await;
                Err(SendError::Deadline(deadline))
            }
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }
}

/// Keeps records in a map that outlives the driver.
pub struct FakeStore {
    pub mode: Mutex<Mode>,
    pub records: Arc<Mutex<HashMap<Box<str>, Record>>>,
    pub calls: Mutex<Vec<Instant>>,
    pub lost: Mutex<bool>,
    /// The instance id that it keeps.
    pub instance_id: Mutex<Option<Box<str>>>,
    pub rival: watch::Sender<Option<Rival>>,
    pub other_writer: Mutex<Option<Rival>>,
}

impl FakeStore {
    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    pub fn len(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    /// The same store by another connection.
    pub fn beside(&self) -> Arc<Self> {
        let records = self.records.clone();
        Arc::new(Self {
            mode: Mutex::new(Mode::Up),
            records,
            calls: Mutex::default(),
            lost: Mutex::new(false),
            instance_id: Mutex::default(),
            rival: watch::Sender::new(None),
            other_writer: Mutex::default(),
        })
    }

    /// It restarts without its data.
    pub fn lose(&self) {
        self.records.lock().unwrap().clear();
        *self.lost.lock().unwrap() = true;
    }

    pub fn called_since(&self, since: Instant) -> usize {
        self.calls.lock().unwrap().iter().filter(|at| **at >= since).count()
    }

    async fn call(&self) -> Result<(), StoreError> {
        self.calls.lock().unwrap().push(Instant::now());
        let mode = *self.mode.lock().unwrap();
        match mode {
            Mode::Up => Ok(()),
            Mode::Down => Err(StoreError::Unavailable("down".into())),
            Mode::Denying => Err(StoreError::Denied("WRONGPASS".into())),
            Mode::Hanging => std::future::pending().await,
            Mode::Slow => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Ok(())
            }
        }
    }
}

impl Store for FakeStore {
    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        self.call().await?;
        Ok(self.records.lock().unwrap().values().cloned().collect())
    }

    fn is_durable(&self) -> bool {
        true
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.call().await?;
        let mut records = self.records.lock().unwrap();
        for change in changes {
            match change {
                Change::Put(record) => drop(records.insert(record.reference.clone(), record)),
                Change::Forget(reference) => drop(records.remove(&reference)),
            }
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.call().await
    }

    async fn detect_data_loss(&self) -> Result<bool, StoreError> {
        self.call().await?;
        Ok(std::mem::take(&mut *self.lost.lock().unwrap()))
    }

    fn instance_id(&self) -> Option<Box<str>> {
        self.instance_id.lock().unwrap().clone()
    }

    fn rival(&self) -> watch::Receiver<Option<Rival>> {
        self.rival.subscribe()
    }

    fn other_writer(&self) -> Option<Rival> {
        self.other_writer.lock().unwrap().clone()
    }
}

/// A paused clock: the moment since which it counts, and the milliseconds that it was set ahead since then.
struct PausedClock(Instant, Arc<AtomicI64>);

impl Environment for PausedClock {
    fn unix_ms(&self) -> u64 {
        let right = 1_790_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap();
        right.saturating_add_signed(self.1.load(Ordering::Relaxed))
    }

    fn seed(&self) -> u64 {
        5
    }
}

/// A driver and its dependencies. Time is tokio's, paused: it jumps to whatever is next.
pub struct DriverHarness {
    pub source: Arc<Source>,
    pub phone: Arc<FakeRequester>,
    pub shelf: Arc<FakeStore>,
    pub settings: EngineSettings,
    pub controls: Controls<Source, FakeRequester, FakeStore>,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<Engine>,
    /// Lead of its wall clock, in milliseconds.
    pub wall_ahead: Arc<AtomicI64>,
    started: Instant,
}

pub const GRACE: Duration = Duration::from_secs(8);

impl DriverHarness {
    pub fn start(settings: EngineSettings, trunks: &[Trunk]) -> Self {
        let (source, phone, shelf) = dependencies();
        source.put(trunks);
        Self::start_with(settings, source, phone, shelf, Instant::now())
    }

    /// Starts with these dependencies.
    pub fn start_on(
        settings: EngineSettings,
        source: Arc<Source>,
        phone: Arc<FakeRequester>,
        shelf: Arc<FakeStore>,
    ) -> Self {
        Self::start_with(settings, source, phone, shelf, Instant::now())
    }

    fn start_with(
        settings: EngineSettings,
        source: Arc<Source>,
        phone: Arc<FakeRequester>,
        shelf: Arc<FakeStore>,
        started: Instant,
    ) -> Self {
        let engine = Engine::new(RegistryId::new("rig"), settings.clone(), 5);
        let ports = Ports { source: source.clone(), requester: phone.clone(), store: shelf.clone() };
        let wall_ahead = Arc::<AtomicI64>::default();
        let clock = Clock::start(Arc::new(PausedClock(started, wall_ahead.clone())));
        let (driver, controls) = Driver::new(engine, ports, (), clock);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(driver.run(shutdown.clone(), GRACE));
        Self { source, phone, shelf, settings, controls, shutdown, task, wall_ahead, started }
    }

    /// Ends the process, and starts another one with the same dependencies.
    pub async fn restart(self) -> Self {
        self.shutdown.cancel();
        self.task.await.unwrap();
        Self::start_with(self.settings, self.source, self.phone, self.shelf, self.started)
    }

    /// The process dies without a word.
    pub async fn kill(self) -> Self {
        self.task.abort();
        let _ = self.task.await;
        Self::start_with(self.settings, self.source, self.phone, self.shelf, self.started)
    }

    pub async fn registered(&self) -> u64 {
        self.controls.handle.summary().await.unwrap().counts.registered
    }

    pub async fn get(&self, reference: &str) -> TrunkView {
        self.controls.handle.get(reference.to_owned()).await.unwrap().unwrap()
    }
}

pub fn dependencies() -> (Arc<Source>, Arc<FakeRequester>, Arc<FakeStore>) {
    let up = || Mutex::new(Mode::Up);
    let source =
        Source { mode: up(), items: Mutex::default(), asked: Mutex::default(), lists: Mutex::default() };
    let phone =
        FakeRequester { mode: up(), sent: Mutex::default(), link: watch::Sender::new(Link::default()) };
    let shelf = FakeStore {
        mode: up(),
        records: Arc::default(),
        calls: Mutex::default(),
        lost: Mutex::new(false),
        instance_id: Mutex::default(),
        rival: watch::Sender::new(None),
        other_writer: Mutex::default(),
    };
    (Arc::new(source), Arc::new(phone), Arc::new(shelf))
}

/// Lets this number of seconds pass. The clock is paused, so this takes no time.
pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
