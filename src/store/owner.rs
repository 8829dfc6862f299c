//! Ownership of a registry by one process: a key in Redis that its owner renews, so that of two installations
//! with one identity the second one stands by, and names the first.
//!
//! The key is a lease of [`OWNER_TTL_S`] seconds. An owner that ends in order removes it. One that was killed
//! leaves it to expire, unless its successor can see that it is gone: on the same machine, in the same PID
//! namespace. A successor in another one, such as the next container, waits for some 8 s, the lease and two
//! looks. That cannot safely be less: an owner that is cut off from Redis goes on sending, and nothing that a
//! container sees of itself (its host name, the paths of its mounts, its network namespace) is not shared by
//! others that run beside it. The commands are those that the store uses anyway (GET, SET, EXPIRE), so no ACL
//! has to grow: EXPIRE is what a full Redis takes, too.
//!
//! Without a script the key cannot be compared and set at once. So it is only ever taken where it is absent
//! (SET NX), or from a process that is gone; each renewal reads it first, and an owner that finds another one
//! yields. Two that took each other's place at the same moment agree at the next renewal.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use super::{connection::RedisConnection, identity::InstanceCell, process};
use routr_registration::model::{Rival, StoreError};
use routr_types::text;

/// Seconds that the key lives after its last renewal.
const OWNER_TTL_S: u64 = 5;
/// Interval between two renewals, and between two looks of a process that stands by.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// Pause after refused credentials: trying again soon would be a loop.
const DENIED_RETRY_PERIOD: Duration = Duration::from_secs(30);
/// Looks in a row that must find the key absent before a process that stood by takes it: an owner that is
/// well but was cut off from Redis for a while writes it again before that.
const ABSENCES_TO_TAKE: u32 = 2;

/// Content of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OwnerRecord {
    /// Random text of the process.
    run: String,
    host: String,
    pid: u32,
    /// The machine's boot and the PID namespace: where `pid` and `started` mean something.
    #[serde(default)]
    namespace: String,
    /// Start of the process, in the kernel's ticks.
    #[serde(default)]
    started: u64,
    /// Start of its ownership, in milliseconds since the Unix epoch.
    since_ms: u64,
    /// Rises with each owner: of two records the higher one is the later one.
    fence: u64,
}

/// This process's claim to one registry.
pub(super) struct Owner {
    connection: Arc<RedisConnection>,
    instance: Arc<InstanceCell>,
    rival: watch::Sender<Option<Rival>>,
    /// One claim at a time.
    looks: tokio::sync::Mutex<Looks>,
}

/// Findings of consecutive looks.
#[derive(Debug, Default)]
struct Looks {
    /// No owner, so often.
    absences: u32,
    /// True when the key cannot be read; it has an end now.
    unreadable: bool,
}

impl Owner {
    pub(super) fn new(connection: Arc<RedisConnection>, instance: Arc<InstanceCell>) -> Self {
        Self { connection, instance, rival: watch::Sender::new(None), looks: tokio::sync::Mutex::default() }
    }

    pub(super) fn rival(&self) -> watch::Receiver<Option<Rival>> {
        self.rival.subscribe()
    }

    /// Returns whether another process owns the registry.
    pub(super) fn stands_by(&self) -> bool {
        self.rival.borrow().is_some()
    }

    /// Claims the registry, or renews the claim. After an error everything stays as it was: without Redis no
    /// other process can be seen.
    pub(super) async fn claim(&self) -> Result<(), StoreError> {
        let mut looks = self.looks.lock().await;
        let key = self.instance.get(&self.connection).await?.keys.owner();
        let found = match self.read(&key).await? {
            Found::Nothing => None,
            Found::Owner(record) => Some(record),
            Found::Unreadable => {
                // Without an expiry it would stay there for ever; an owner that is alive renews it.
                if !std::mem::replace(&mut looks.unreadable, true) {
                    self.ask(redis::cmd("EXPIRE").arg(&key).arg(OWNER_TTL_S)).await?;
                }
                let what = format!("{key} does not hold what names the process that acts for this registry");
                return Err(StoreError::Refused(what.into()));
            }
        };
        looks.unreadable = false;
        let me = process::this();
        let fence = match &found {
            None => 0,
            Some(record) if record.run == me.run => {
                self.ask(redis::cmd("EXPIRE").arg(&key).arg(OWNER_TTL_S)).await?;
                self.stand_by(None);
                return Ok(());
            }
            Some(record) if process::is_gone(&record.namespace, record.pid, record.started) => record.fence,
            Some(record) => {
                if !self.stands_by() {
                    // Whatever left it there without an end: who owns it renews it.
                    self.ask(redis::cmd("EXPIRE").arg(&key).arg(OWNER_TTL_S)).await?;
                }
                looks.absences = 0;
                self.stand_by(Some(record.rival()));
                return Ok(());
            }
        };
        if found.is_none() && self.stands_by() {
            looks.absences += 1;
            if looks.absences < ABSENCES_TO_TAKE {
                return Ok(());
            }
        }
        let since_ms = routr_environment::unix_ms();
        let record = OwnerRecord {
            run: me.run.clone(),
            host: me.host.clone(),
            pid: me.pid,
            namespace: me.namespace.clone(),
            started: me.started,
            since_ms,
            fence: since_ms.max(fence.saturating_add(1)),
        };
        let text = serde_json::to_string(&record).map_err(|e| StoreError::Refused(e.to_string().into()))?;
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(text).arg("EX").arg(OWNER_TTL_S);
        if found.is_none() {
            set.arg("NX");
        }
        let taken = self.ask(&set).await? != redis::Value::Nil;
        looks.absences = 0;
        if taken {
            self.stand_by(None);
        } else if let Found::Owner(record) = self.read(&key).await?
            && record.run != me.run
        {
            self.stand_by(Some(record.rival()));
        }
        Ok(())
    }

    /// Renews the claim for as long as this is polled.
    pub(super) async fn renew_for_ever(&self) {
        loop {
            let pause = match self.claim().await {
                Err(StoreError::Denied(_)) => DENIED_RETRY_PERIOD,
                Ok(()) | Err(_) => RENEW_EVERY,
            };
            sleep(pause).await;
        }
    }

    /// Removes the key where it is this process's.
    pub(super) async fn release(&self) {
        // One that was never looked for is not this process's.
        let Ok(instance) = self.instance.get(&self.connection).await else { return };
        let key = instance.keys.owner();
        if let Ok(Found::Owner(record)) = self.read(&key).await
            && record.run == process::this().run
        {
            // EXPIRE with 0 deletes, and needs no further permission.
            let _ = self.ask(redis::cmd("EXPIRE").arg(&key).arg(0)).await;
        }
    }

    async fn read(&self, key: &str) -> Result<Found, StoreError> {
        Ok(match self.ask(redis::cmd("GET").arg(key)).await? {
            redis::Value::Nil => Found::Nothing,
            redis::Value::BulkString(bytes) => {
                serde_json::from_slice(&bytes).map_or(Found::Unreadable, Found::Owner)
            }
            _ => Found::Unreadable,
        })
    }

    async fn ask(&self, command: &redis::Cmd) -> Result<redis::Value, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.add_command(command.clone());
        let (value,) = self.connection.run::<(redis::Value,)>(&pipeline, 0).await?;
        Ok(value)
    }

    fn stand_by(&self, rival: Option<Rival>) {
        self.rival.send_if_modified(|current| {
            let differs = *current != rival;
            if differs {
                *current = rival;
            }
            differs
        });
    }
}

/// Content found in the key.
#[derive(Debug)]
enum Found {
    Nothing,
    Owner(OwnerRecord),
    /// It names no other process: a Redis that is confused must not stop a registry that is well.
    Unreadable,
}

impl OwnerRecord {
    fn rival(&self) -> Rival {
        // Whatever is in Redis, a line of text must stay one.
        let host = text::escaped(&self.host, 253);
        Rival { who: format!("process {} on host {host}", self.pid).into(), since_ms: self.since_ms }
    }
}
