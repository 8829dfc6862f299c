//! State in Redis.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use redis::Pipeline;
use tokio::sync::{Mutex, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    codec,
    connection::RedisConnection,
    identity::InstanceCell,
    keys::{self, BUCKETS, Keys},
    mark::{Found, Mark},
    owner::Owner,
    settings_error::RedisSettingsError,
};
use crate::{
    config::{RedisDeployment, RedisSettings},
    quota::Quota,
    runtime::ports::Store,
};
use routr_registration::model::{Change, MemoryBudget, Record, Rival, StoreError};

/// Records that one round trip reads at least, where there are as many.
const MIN_RECORDS_PER_READ: u64 = 5_000;
/// Bytes that a record takes in memory, at least.
const MIN_RECORD_BYTES: u64 = 128;
/// Records that room is made for before any has been read: Redis may claim to have more than there are.
const MAX_PREALLOCATED_RECORDS: u64 = 1 << 16;
/// Changes that one round trip writes at most.
const MAX_CHANGES_PER_WRITE: usize = 5_000;
/// Shortest time that a bucket is kept after its last write. No binding outlives its own record, because no
/// expiry of more than a day is ever asked for.
const MIN_BUCKET_TTL_S: u64 = 24 * 60 * 60;
/// Longest time that a bucket is kept, whatever a record says.
const MAX_BUCKET_TTL_S: u64 = 14 * MIN_BUCKET_TTL_S;
/// Time that the mark is kept, in seconds. Each look at it renews it.
const ALIVE_TTL_S: u64 = MIN_BUCKET_TTL_S;

/// Keeps the records of one registry in Redis. See [the module](super) for the layout.
pub struct RedisStore {
    connection: Arc<RedisConnection>,
    instance: Arc<InstanceCell>,
    /// Owner of the registry; `None` where something else than Redis decides on it.
    owner: Option<Arc<Owner>>,
    /// Renews the claim.
    renewal: OnceLock<AbortOnDropHandle<()>>,
    /// Random text that distinguishes this run from any other.
    token: String,
    /// Start of this run, in milliseconds since the Unix epoch.
    since_ms: u64,
    mark: Mutex<Mark>,
    /// Another process that acts for the registry, as of the last look.
    other_writer: std::sync::Mutex<Option<Rival>>,
    /// Longest expiry that was granted to any trunk, in seconds.
    longest_granted: AtomicU32,
    /// Memory budget for reading; `None`: no limit.
    room: Option<Arc<dyn MemoryBudget>>,
}

impl RedisStore {
    /// A store for the registry of this instance id. Nothing is sent before the first use; only files are
    /// read.
    ///
    /// # Errors
    /// When a file of the settings (CA, certificate, key) cannot be used.
    pub fn new(settings: &RedisSettings, instance: &str) -> Result<Self, RedisSettingsError> {
        Self::of(settings, InstanceCell::given(&settings.prefix, instance))
    }

    /// A store for the registry that `registry_key` names. Its instance id is the one that Redis keeps, from
    /// the first use that succeeds; else the proposal, which Redis keeps from then on.
    ///
    /// # Errors
    /// As [`RedisStore::new`].
    pub fn proposing(
        settings: &RedisSettings,
        registry_key: &str,
        proposal: &str,
    ) -> Result<Self, RedisSettingsError> {
        Self::of(settings, InstanceCell::proposed(&settings.prefix, registry_key, proposal))
    }

    fn of(settings: &RedisSettings, mut instance: InstanceCell) -> Result<Self, RedisSettingsError> {
        if matches!(settings.deployment, RedisDeployment::Cluster { .. }) {
            // The id may be on another node than what it names.
            instance.keep_by(RedisConnection::new(settings)?);
        }
        Ok(Self {
            connection: Arc::new(RedisConnection::new(settings)?),
            instance: Arc::new(instance),
            owner: None,
            renewal: OnceLock::new(),
            token: format!("{:016x}{:016x}", routr_environment::random(), routr_environment::random()),
            since_ms: routr_environment::unix_ms(),
            mark: Mutex::default(),
            other_writer: std::sync::Mutex::default(),
            longest_granted: AtomicU32::new(0),
            room: None,
        })
    }

    /// Its connections count for this Registry.
    #[must_use]
    pub fn paid_by(self, quota: &Arc<Quota>) -> Self {
        self.connection.payers().add(quota);
        if let Some(connection) = self.instance.own_connection() {
            connection.payers().add(quota);
        }
        self
    }

    /// Reads no more than there is room for.
    #[must_use]
    pub fn within(mut self, room: Arc<dyn MemoryBudget>) -> Self {
        self.room = Some(room);
        self
    }

    /// Keeps the instance id alive as well, under the key that [`super::instance_id`] found it with: each
    /// [`Store::detect_data_loss`] renews its 90 days, and writes it again where it is gone.
    #[must_use]
    pub fn with_identity(mut self, registry_key: &str) -> Self {
        if let Some(instance) = Arc::get_mut(&mut self.instance) {
            instance.keep_as(registry_key);
        }
        self
    }

    /// Returns where `exclusive`, one process at a time acts for the registry: [`Store::load`] claims it, and
    /// the claim is renewed for as long as the store is there. To be called last.
    #[must_use]
    pub fn with_owner(mut self, exclusive: bool) -> Self {
        self.owner = exclusive.then(|| Arc::new(Owner::new(self.connection.clone(), self.instance.clone())));
        self
    }

    /// Waits for less than the usual 5 s, so that a test of silence is quick.
    #[cfg(test)]
    pub(super) fn with_timeout(mut self, limit: std::time::Duration) -> Self {
        Arc::get_mut(&mut self.connection).expect("it is in use already").set_timeout(limit);
        self
    }

    fn stands_by(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.stands_by())
    }

    async fn keys(&self) -> Result<&Keys, StoreError> {
        Ok(&self.instance.get(&self.connection).await?.keys)
    }

    /// Claims the registry, and sees to it that the claim is renewed.
    async fn claim(&self) {
        let Some(owner) = &self.owner else { return };
        // A Redis that takes no claim leaves no one a claim.
        let _ = owner.claim().await;
        let owner = owner.clone();
        self.renewal.get_or_init(|| {
            AbortOnDropHandle::new(tokio::spawn(
                async move { owner.renew_for_ever().await }.in_current_span(),
            ))
        });
    }

    fn bucket_ttl(&self) -> u64 {
        let granted = u64::from(self.longest_granted.load(Ordering::Relaxed));
        (2 * granted).clamp(MIN_BUCKET_TTL_S, MAX_BUCKET_TTL_S)
    }

    /// Writes the next mark, and keeps the instance id.
    async fn write_mark(&self, mark: &mut Mark) -> Result<(), StoreError> {
        mark.attempted += 1;
        let next = mark.attempted;
        let now = routr_environment::unix_ms();
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("SET")
            .arg(self.keys().await?.alive())
            .arg(Mark::text(&self.token, next, self.since_ms, now))
            .arg("EX")
            .arg(ALIVE_TTL_S);
        self.connection.run::<()>(&pipeline, 0).await?;
        // By itself: in a cluster it may be elsewhere.
        self.instance.renew(&self.connection).await?;
        (mark.confirmed, mark.confirmed_at_ms) = (Some(next), now);
        Ok(())
    }

    /// Returns whether there is room for this number of records, and their bytes.
    fn has_room(&self, records: u64, bytes: u64) -> Result<(), StoreError> {
        let Some(room) = &self.room else { return Ok(()) };
        room.fits(records, bytes).map_err(|excess| {
            StoreError::Refused(format!("it has {records} registrations or more, and {excess}").into())
        })
    }

    /// Reads whole buckets, and returns how many records in them could not be understood.
    async fn read(
        &self,
        buckets: &[u8],
        slack: usize,
        decoder: &mut codec::Decoder,
        into: &mut Vec<Record>,
    ) -> Result<u64, StoreError> {
        let keys = self.keys().await?;
        let mut pipeline = Pipeline::with_capacity(buckets.len());
        for &bucket in buckets {
            pipeline.cmd("HGETALL").arg(keys.bucket(bucket));
        }
        let hashes: Vec<Vec<(Vec<u8>, Vec<u8>)>> = self.connection.run(&pipeline, slack).await?;
        let mut unreadable = 0;
        for (field, value) in hashes.into_iter().flatten() {
            let record =
                String::from_utf8(field).ok().and_then(|f| decoder.decode(f.into_boxed_str(), &value));
            match record {
                Some(record) => {
                    self.longest_granted.fetch_max(record.granted_s, Ordering::Relaxed);
                    into.push(record);
                }
                None => unreadable += 1,
            }
        }
        let bytes = |record: &Record| MIN_RECORD_BYTES + (record.reference.len() + record.aor.len()) as u64;
        self.has_room(into.len() as u64, into.iter().map(bytes).sum())?;
        Ok(unreadable)
    }

    /// Writes some changes, the last one for each trunk.
    async fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut last = HashMap::with_capacity(changes.len());
        for change in changes {
            match change {
                Change::Put(record) => {
                    self.longest_granted.fetch_max(record.granted_s, Ordering::Relaxed);
                    last.insert(&*record.reference, Some(record));
                }
                Change::Forget(reference) => {
                    last.insert(reference, None);
                }
            }
        }
        let mut puts: BTreeMap<u8, Vec<(&str, Vec<u8>)>> = BTreeMap::new();
        let mut forgets: BTreeMap<u8, Vec<&str>> = BTreeMap::new();
        for (reference, record) in last {
            let bucket = keys::bucket_of(reference);
            let Some(record) = record else {
                forgets.entry(bucket).or_default().push(reference);
                continue;
            };
            let value = codec::encode(record, Vec::with_capacity(record.aor.len() + 24))
                .map_err(|e| StoreError::Refused(e.to_string().into()))?;
            puts.entry(bucket).or_default().push((reference, value));
        }
        let keys = self.keys().await?;
        // What is forgotten goes first and by itself: it must succeed even where Redis is full.
        if !forgets.is_empty() {
            let mut pipeline = redis::pipe();
            for (bucket, references) in forgets {
                let key = keys.bucket(bucket);
                pipeline.cmd("HDEL").arg(&key).arg(references);
                pipeline.cmd("EXPIRE").arg(key).arg(self.bucket_ttl());
            }
            self.connection.run::<()>(&pipeline, 0).await?;
        }
        // In a transaction, so that a bucket never stays without its TTL. The library's own transaction is
        // not used: it counts wrong where MULTI itself is refused.
        if !puts.is_empty() {
            let mut pipeline = redis::pipe();
            pipeline.cmd("MULTI");
            for (bucket, fields) in puts {
                let key = keys.bucket(bucket);
                pipeline.cmd("HSET").arg(&key).arg(fields);
                pipeline.cmd("EXPIRE").arg(key).arg(self.bucket_ttl());
            }
            pipeline.cmd("EXEC");
            self.connection.run::<redis::Value>(&pipeline, 0).await?;
        }
        Ok(())
    }
}

impl Store for RedisStore {
    fn is_durable(&self) -> bool {
        true
    }

    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        let keys = self.keys().await?;
        let mut pipeline = Pipeline::with_capacity(BUCKETS);
        for bucket in 0..=u8::MAX {
            pipeline.cmd("HLEN").arg(keys.bucket(bucket));
        }
        let lengths: Vec<u64> = self.connection.run(&pipeline, 0).await?;
        self.claim().await;
        {
            let mut mark = self.mark.lock().await;
            mark.confirmed = None;
            if !self.stands_by() {
                // A Redis that is full, read-only or keeps this user from writing can still be read. Whatever
                // else is wrong shows below.
                let _ = self.write_mark(&mut mark).await;
            }
        }
        let total = lengths.iter().fold(0, |total: u64, length| total.saturating_add(*length));
        self.has_room(total, total.saturating_mul(MIN_RECORD_BYTES))?;
        let mut records =
            Vec::with_capacity(usize::try_from(total.min(MAX_PREALLOCATED_RECORDS)).unwrap_or(0));

        let (mut unreadable, mut decoder) = (0, codec::Decoder::default());
        let mut chunk = Vec::new();
        let mut chunk_total = 0;
        let buckets = (0..=u8::MAX).zip(lengths).filter(|(_, length)| *length > 0);
        for (bucket, length) in buckets {
            chunk.push(bucket);
            chunk_total = length.saturating_add(chunk_total);
            if chunk_total >= MIN_RECORDS_PER_READ {
                unreadable += self.read(&chunk, slack_for(chunk_total), &mut decoder, &mut records).await?;
                chunk.clear();
                chunk_total = 0;
            }
        }
        if !chunk.is_empty() {
            unreadable += self.read(&chunk, slack_for(chunk_total), &mut decoder, &mut records).await?;
        }
        if unreadable > 0 {
            tracing::warn!(
                records = unreadable,
                "some registrations in the cache cannot be read, and are left out: another version wrote them, or they are \
                 damaged"
            );
        }
        Ok(records)
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        for some in changes.chunks(MAX_CHANGES_PER_WRITE) {
            self.write(some).await?;
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("PING");
        self.connection.run(&pipeline, 0).await
    }

    async fn detect_data_loss(&self) -> Result<bool, StoreError> {
        let mut mark = self.mark.lock().await;
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(self.keys().await?.alive());
        let (found,): (Option<Vec<u8>>,) = self.connection.run(&pipeline, 0).await?;
        let found = mark.judge(&self.token, found.as_deref());
        let kept = found == Found::Kept;
        *self.other_writer.lock().unwrap_or_else(PoisonError::into_inner) = match found {
            Found::Other(rival) => Some(rival),
            Found::Kept | Found::Lost => None,
        };
        if !kept {
            // Before the mark is written: a caller that abandons this call here learns of the loss by the
            // next one.
            mark.confirmed = None;
        }
        self.write_mark(&mut mark).await?;
        Ok(!kept)
    }

    fn instance_id(&self) -> Option<Box<str>> {
        self.instance.found().map(Into::into)
    }

    fn rival(&self) -> watch::Receiver<Option<Rival>> {
        self.owner.as_ref().map_or_else(|| watch::channel(None).1, |owner| owner.rival())
    }

    fn other_writer(&self) -> Option<Rival> {
        self.other_writer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn release(&self) {
        if let Some(owner) = &self.owner {
            owner.release().await;
        }
    }
}

/// Returns the number of extra timeouts that a large response gets: one for each 20,000 records, and a
/// minute's at most.
fn slack_for(records: u64) -> usize {
    usize::try_from((records / 20_000).min(12)).unwrap_or(usize::MAX)
}
