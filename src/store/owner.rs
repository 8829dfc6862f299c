//! Which process acts for a registry: a key in Redis that its owner renews, so that of two installations with one identity
//! the second one stands by, and names the first.
//!
//! The key is a lease of [`LEASE_S`] seconds. An owner that ends in order removes it. One that was killed leaves it to
//! expire, unless its successor can see that it is gone: on the same machine, in the same PID namespace. The commands are
//! those that the store uses anyway (GET, SET, EXPIRE), so no ACL has to grow: EXPIRE is what a full Redis takes, too.
//!
//! Without a script the key cannot be compared and set at once. So it is only ever taken where it is absent (SET NX), or
//! from a process that is gone; each renewal reads it first, and an owner that finds another one yields. Two that took each
//! other's place at the same moment agree at the next renewal.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use super::{identity::InstanceCell, link::Link, process};
use crate::{
    environment,
    ports::{Rival, StoreError},
};

/// Seconds that the key lives after its last renewal.
const LEASE_S: u64 = 5;
/// Between two renewals, and between two looks of a process that stands by.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// After refused credentials: trying again soon would be a loop.
const DENIED_PAUSE: Duration = Duration::from_secs(30);
/// Looks in a row that must find the key absent before a process that stood by takes it: an owner that is well but was cut
/// off from Redis for a while writes it again before that.
const ABSENCES: u32 = 2;

/// What the key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OwnerRecord {
    /// Random text of the process.
    run: String,
    host: String,
    pid: u32,
    /// The machine's boot and the PID namespace: where `pid` and `started` mean something.
    #[serde(default)]
    namespace: String,
    /// When the process started, in the kernel's ticks.
    #[serde(default)]
    started: u64,
    /// Since when it owns, in milliseconds since the Unix epoch.
    since_ms: u64,
    /// Rises with each owner: of two records the higher one is the later one.
    fence: u64,
}

/// This process's claim to one registry.
pub(super) struct Owner {
    link: Arc<Link>,
    instance: Arc<InstanceCell>,
    rival: watch::Sender<Option<Rival>>,
    /// One claim at a time, with the looks in a row that found no owner.
    absences: tokio::sync::Mutex<u32>,
}

impl Owner {
    pub(super) fn new(link: Arc<Link>, instance: Arc<InstanceCell>) -> Self {
        Self { link, instance, rival: watch::Sender::new(None), absences: tokio::sync::Mutex::new(0) }
    }

    pub(super) fn rival(&self) -> watch::Receiver<Option<Rival>> {
        self.rival.subscribe()
    }

    /// Whether another process owns the registry.
    pub(super) fn stands_by(&self) -> bool {
        self.rival.borrow().is_some()
    }

    /// Claims the registry, or renews the claim. After an error everything stays as it was: without Redis there is no rival
    /// to hear of.
    pub(super) async fn claim(&self) -> Result<(), StoreError> {
        let mut absences = self.absences.lock().await;
        let key = self.instance.get(&self.link).await?.keys.owner();
        let found = self.read(&key).await?;
        let me = process::this();
        let fence = match &found {
            None => 0,
            Some(Found::Owner(record)) if record.run == me.run => {
                self.ask(redis::cmd("EXPIRE").arg(&key).arg(LEASE_S)).await?;
                self.stand_by(None);
                return Ok(());
            }
            Some(Found::Owner(record)) if process::is_gone(&record.namespace, record.pid, record.started) => {
                record.fence
            }
            Some(found) => {
                if !self.stands_by() {
                    // Whatever left it there without an end: who owns it renews it.
                    self.ask(redis::cmd("EXPIRE").arg(&key).arg(LEASE_S)).await?;
                }
                *absences = 0;
                self.stand_by(Some(found.rival()));
                return Ok(());
            }
        };
        if found.is_none() && self.stands_by() {
            *absences += 1;
            if *absences < ABSENCES {
                return Ok(());
            }
        }
        let since_ms = environment::unix_ms();
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
        set.arg(&key).arg(text).arg("EX").arg(LEASE_S);
        if found.is_none() {
            set.arg("NX");
        }
        let taken = self.ask(&set).await? != redis::Value::Nil;
        *absences = 0;
        if taken {
            self.stand_by(None);
        } else if let Some(found) = self.read(&key).await? {
            self.stand_by(Some(found.rival()));
        }
        Ok(())
    }

    /// Renews the claim for as long as this is polled.
    pub(super) async fn renew_for_ever(&self) {
        loop {
            let pause = match self.claim().await {
                Err(StoreError::Denied(_)) => DENIED_PAUSE,
                Ok(()) | Err(_) => RENEW_EVERY,
            };
            sleep(pause).await;
        }
    }

    /// Removes the key where it is this process's.
    pub(super) async fn release(&self) {
        // One that was never looked for is not this process's.
        let Ok(instance) = self.instance.get(&self.link).await else { return };
        let key = instance.keys.owner();
        if let Ok(Some(Found::Owner(record))) = self.read(&key).await
            && record.run == process::this().run
        {
            // EXPIRE with 0 deletes, and needs no further permission.
            let _ = self.ask(redis::cmd("EXPIRE").arg(&key).arg(0)).await;
        }
    }

    async fn read(&self, key: &str) -> Result<Option<Found>, StoreError> {
        let value = self.ask(redis::cmd("GET").arg(key)).await?;
        Ok(match value {
            redis::Value::Nil => None,
            redis::Value::BulkString(bytes) => {
                Some(serde_json::from_slice(&bytes).map_or(Found::Unreadable, Found::Owner))
            }
            _ => Some(Found::Unreadable),
        })
    }

    async fn ask(&self, command: &redis::Cmd) -> Result<redis::Value, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.add_command(command.clone());
        let (value,) = self.link.run::<(redis::Value,)>(&pipeline, 0).await?;
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

/// What was found in the key.
#[derive(Debug)]
enum Found {
    Owner(OwnerRecord),
    /// Of a later version, or of other hands.
    Unreadable,
}

impl Found {
    fn rival(&self) -> Rival {
        match self {
            Self::Owner(record) => {
                // Whatever is in Redis, a line of text must stay one.
                let host: String =
                    record.host.chars().take(253).flat_map(char::escape_debug).collect::<String>();
                Rival {
                    who: format!("process {} on host {host}", record.pid).into(),
                    since_ms: record.since_ms,
                }
            }
            Self::Unreadable => {
                Rival { who: "a process of another version, which left no name".into(), since_ms: 0 }
            }
        }
    }
}
