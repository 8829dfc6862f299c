//! The API server and the store, as one run of an engine sees them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::RngExt;
use routr_registration::model::{Absence, Change, Record, SourceError, StoreError};
use routr_registry::runtime::ports::{Store, TrunkSource};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    checks::mutants::Mutant,
    process_state::Life,
    trunks::Item,
    world::{State, World},
};

/// State of the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Api {
    Up,
    /// So many milliseconds for each page.
    Slow(u64),
    Down,
    Hanging,
    /// Breaks off in the middle.
    Half,
    Malformed,
}

/// State of the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StoreMode {
    Up,
    Slow,
    Down,
    Hanging,
    Denied,
    /// Can be read, and takes nothing.
    Full,
}

/// Contents of the store; they outlive the processes.
#[derive(Default)]
pub struct Records {
    pub all: BTreeMap<Box<str>, Record>,
    /// Rises when data is lost.
    pub epoch: u64,
    /// Time at which it last failed, or lost data.
    pub bad_at: u64,
    /// An older copy, for a restart with that.
    pub copy: BTreeMap<Box<str>, Record>,
    /// It was: trunks that are long gone may be back, until the next start of an engine or their time to live
    /// is over.
    pub restored: bool,
}

/// The API server, as one run of an engine sees it.
pub struct Source {
    pub world: Arc<World>,
    pub life: Arc<Life>,
    pub run: u32,
}

impl State {
    /// Returns the state of the API server, the trunks in a listing that begins now, and whether some are
    /// missing.
    fn listing(&mut self, run: u32) -> (Api, Vec<Item>, bool) {
        let mut items: Vec<Item> = self
            .catalogue
            .entries
            .iter()
            .map(|(reference, entry)| Item {
                reference: Some(reference.clone()),
                revision: entry.revision,
                trunk: entry.problem.clone().map_or_else(|| Ok(entry.trunk.clone()), Err),
            })
            .collect();
        let whole = items.len();
        let mut shrunk = false;
        if let Some(lost) = self.shrink.take() {
            let keep = items.len().saturating_sub(lost);
            let left_out = items.split_off(keep);
            let (missed, known) = self.missed_by(run, &items, (lost, whole));
            for item in left_out {
                self.note_missing(item.reference.as_deref().unwrap_or_default(), missed, known);
            }
            shrunk = true;
            self.say(format_args!("api: this listing lacks {lost} of {whole}"));
        }
        if self.rules.broken == Mutant::WrongList && self.model.runs.contains_key(&run) && self.tick % 40 == 7
        {
            items.clear();
        }
        if self.rng.random_bool(0.05) {
            let mut odd = items.first().cloned();
            if let Some(item) = &mut odd {
                item.reference = None;
            }
            items.extend(odd);
            items.extend(items.last().filter(|item| item.reference.is_some()).cloned());
        }
        (self.api.clone(), items, shrunk)
    }
}

impl TrunkSource for Source {
    type Item = Item;

    async fn list(&self, batches: mpsc::Sender<Vec<Item>>) -> Result<Absence, SourceError> {
        self.life.run(self.read(batches)).await.unwrap_or(Err(SourceError::Abandoned))
    }
}

impl Source {
    async fn read(&self, batches: mpsc::Sender<Vec<Item>>) -> Result<Absence, SourceError> {
        let (mode, items, shrunk) = self.world.lock().listing(self.run);
        sleep(Duration::from_millis(5)).await;
        match mode {
            Api::Down => return Err(SourceError::Unavailable("connection refused".into())),
            Api::Malformed => return Err(SourceError::Malformed("not a list of trunks".into())),
            Api::Hanging => {
                let patience = Duration::from_secs(30);
                sleep(patience).await;
                return Err(SourceError::Deadline(patience));
            }
            Api::Up | Api::Slow(_) | Api::Half => {}
        }
        let pages: Vec<&[Item]> = items.chunks(10).collect();
        let most = if mode == Api::Half { pages.len() / 2 } else { pages.len() };
        for page in &pages[..most] {
            if let Api::Slow(ms) = mode {
                sleep(Duration::from_millis(ms)).await;
            }
            self.world.lock().note_listed(self.run, page);
            batches.send(page.to_vec()).await.map_err(|_| SourceError::Abandoned)?;
        }
        if mode == Api::Half {
            return Err(SourceError::Unavailable("connection reset".into()));
        }
        self.world.lock().note_sync(self.run, &items, shrunk);
        Ok(Absence::Certain)
    }
}

/// The store, as one run of an engine sees it.
pub struct Keep {
    pub world: Arc<World>,
    pub run: u32,
    /// The state of the data that this process has seen, plus one; 0: none.
    pub seen: AtomicU64,
}

impl Keep {
    async fn call(&self, writes: bool) -> Result<(), StoreError> {
        let mode = self.world.lock().store_mode;
        match mode {
            StoreMode::Up => sleep(Duration::from_millis(2)).await,
            StoreMode::Slow => sleep(Duration::from_millis(1_500)).await,
            StoreMode::Down => return Err(StoreError::Unavailable("connection refused".into())),
            StoreMode::Denied => {
                return Err(StoreError::Denied("WRONGPASS invalid username-password pair".into()));
            }
            StoreMode::Full if writes => {
                return Err(StoreError::Refused(
                    "OOM command not allowed when used memory > 'maxmemory'".into(),
                ));
            }
            StoreMode::Full => {}
            StoreMode::Hanging => {
                sleep(Duration::from_secs(3)).await;
                return Err(StoreError::Unavailable("no answer within 3 s".into()));
            }
        }
        Ok(())
    }
}

impl Keep {
    fn commit(&self, changes: &[Change]) {
        let mut state = self.world.lock();
        for change in changes {
            state.say(format_args!("~{} store {change:?}", self.run));
            if self.world.broken == Mutant::DeafStore {
                continue;
            }
            match change {
                Change::Put(record) => {
                    drop(state.records.all.insert(record.reference.clone(), record.clone()))
                }
                Change::Forget(reference) => {
                    state.records.all.remove(reference);
                    state.note_forgotten(reference);
                }
            }
        }
    }
}

impl Store for Keep {
    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        if let Err(error) = self.call(false).await {
            self.world.lock().offers_resumed(None);
            return Err(error);
        }
        let mut state = self.world.lock();
        self.seen.store(state.records.epoch + 1, Relaxed);
        let records: Vec<Record> = state.records.all.values().cloned().collect();
        state.note_loaded(self.run, &records);
        Ok(records)
    }

    fn is_durable(&self) -> bool {
        self.world.durable
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let world = self.world.clone();
        if !world.durable {
            return Ok(());
        }
        // A sender that dies now may have got it through already, or not.
        let early = world.lock().rng.random_bool(0.5);
        let call = self.call(true);
        if early && matches!(world.lock().store_mode, StoreMode::Up | StoreMode::Slow) {
            self.commit(&changes);
            return call.await;
        }
        call.await?;
        self.commit(&changes);
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.call(false).await
    }

    async fn detect_data_loss(&self) -> Result<bool, StoreError> {
        self.call(true).await?;
        let epoch = self.world.lock().records.epoch + 1;
        Ok(self.seen.swap(epoch, Relaxed) != epoch)
    }

    /// Rarer than the real one, which would make most of the events of a day.
    fn check_every(&self) -> Duration {
        Duration::from_secs(120)
    }
}
