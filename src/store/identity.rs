//! The instance id of a registry: given, or kept in Redis under what the registry is called and talks to.
//!
//! A kept one is read before anything is written: a Redis that takes no writes for now (full, read-only, no
//! permission for SET) still says which id it is. The first id that was ever kept wins.

use std::sync::OnceLock;

use redis::Pipeline;

use super::{
    connection::RedisConnection,
    keys::{self, Keys},
    settings_error::RedisSettingsError,
};
use crate::config::RedisSettings;
use routr_registration::model::StoreError;

/// Time that an instance id is kept after the registry was last seen, in seconds.
const IDENTITY_TTL_S: u64 = 90 * 24 * 60 * 60;
/// Longest instance id, in bytes: as in `spec.instanceId`.
const MAX_ID_BYTES: usize = 128;

/// An instance id and the keys that it names.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: Box<str>,
    pub(super) keys: Keys,
}

/// An instance id that may have to be read first.
pub(super) struct InstanceCell {
    prefix: Box<str>,
    /// Key under which Redis keeps the id.
    kept_at: Option<String>,
    /// The id to keep where Redis keeps none.
    proposal: Box<str>,
    known: OnceLock<Instance>,
    /// The id comes from Redis.
    proposed: bool,
    /// Connection to the Redis that keeps the id, if not the one that keeps everything else.
    own_connection: Option<RedisConnection>,
}

impl InstanceCell {
    /// An id that is known.
    pub(super) fn given(prefix: &str, id: &str) -> Self {
        let cell = Self {
            prefix: prefix.into(),
            kept_at: None,
            proposal: id.into(),
            known: OnceLock::new(),
            proposed: false,
            own_connection: None,
        };
        cell.settle(id);
        cell
    }

    /// An id to be read from under `registry_key`, and written there where there is none.
    pub(super) fn proposed(prefix: &str, registry_key: &str, proposal: &str) -> Self {
        Self {
            prefix: prefix.into(),
            kept_at: Some(keys::identity(prefix, registry_key)),
            proposal: proposal.into(),
            known: OnceLock::new(),
            proposed: true,
            own_connection: None,
        }
    }

    /// Keeps the id under `registry_key`, too.
    pub(super) fn keep_as(&mut self, registry_key: &str) {
        self.kept_at = Some(keys::identity(&self.prefix, registry_key));
    }

    /// Reads and keeps the id through this connection.
    pub(super) fn keep_by(&mut self, connection: RedisConnection) {
        self.own_connection = Some(connection);
    }

    /// Its link, where it has one of its own.
    pub(super) fn own_connection(&self) -> Option<&RedisConnection> {
        self.own_connection.as_ref()
    }

    /// The id that Redis said it keeps; `None` before that, and where the id was given.
    pub(super) fn found(&self) -> Option<&str> {
        self.known.get().filter(|_| self.proposed).map(|instance| &*instance.id)
    }

    /// The id and its keys.
    ///
    /// # Errors
    /// When Redis does not say which id it keeps.
    pub(super) async fn get(&self, connection: &RedisConnection) -> Result<&Instance, StoreError> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let Some(key) = &self.kept_at else { return Ok(self.settle(&self.proposal)) };
        let id =
            read_or_propose(self.own_connection.as_ref().unwrap_or(connection), key, &self.proposal).await?;
        Ok(self.settle(&id))
    }

    fn settle(&self, id: &str) -> &Instance {
        self.known.get_or_init(|| Instance { id: id.into(), keys: Keys::new(&self.prefix, id) })
    }

    /// Renews the kept id, and writes it where it is gone.
    pub(super) async fn renew(&self, connection: &RedisConnection) -> Result<(), StoreError> {
        let (Some(key), Some(known)) = (&self.kept_at, self.known.get()) else { return Ok(()) };
        let mut pipeline = redis::pipe();
        keep(&mut pipeline, key, &known.id);
        self.own_connection.as_ref().unwrap_or(connection).run::<()>(&pipeline, 0).await
    }
}

/// The kept id, else the proposal, which is kept from then on where Redis takes it.
async fn read_or_propose(
    connection: &RedisConnection,
    key: &str,
    proposal: &str,
) -> Result<String, StoreError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("GET").arg(key);
    match connection.run::<(redis::Value,)>(&pipeline, 0).await {
        Ok((redis::Value::Nil,)) => {}
        // Redis has no other response to GET.
        Ok((redis::Value::BulkString(kept),)) => match usable(kept) {
            Some(id) => return Ok(id),
            None => tracing::warn!(key, "the instance id stored in Redis is unusable: using another one"),
        },
        Ok(_) => tracing::warn!(key, "the response to GET is none of Redis's: using another instance id"),
        Err(StoreError::Refused(text)) if text.contains("WRONGTYPE") => {
            tracing::warn!(
                key,
                "the key of the instance id in Redis holds something else: using another one"
            );
        }
        Err(error) => return Err(error),
    }
    let mut pipeline = redis::pipe();
    keep(&mut pipeline, key, proposal);
    pipeline.cmd("GET").arg(key);
    match connection.run::<(redis::Value, redis::Value, Option<Vec<u8>>)>(&pipeline, 0).await {
        Ok((_, _, kept)) => Ok(kept.and_then(usable).unwrap_or_else(|| proposal.to_owned())),
        // It takes no writes, and has no id to contradict this one.
        Err(StoreError::Refused(_) | StoreError::Denied(_)) => Ok(proposal.to_owned()),
        Err(error) => Err(error),
    }
}

fn usable(kept: Vec<u8>) -> Option<String> {
    let visible = !kept.is_empty() && kept.len() <= MAX_ID_BYTES && kept.iter().all(u8::is_ascii_graphic);
    String::from_utf8(kept).ok().filter(|_| visible)
}

fn keep(pipeline: &mut Pipeline, key: &str, proposal: &str) {
    pipeline.cmd("SET").arg(key).arg(proposal).arg("EX").arg(IDENTITY_TTL_S).arg("NX");
    pipeline.cmd("EXPIRE").arg(key).arg(IDENTITY_TTL_S);
}

/// Returns the instance id of the registry that `registry_key` names. The first proposal ever made for it
/// wins; it is kept for 90 days from the last time that it was asked for or a store with that key renewed it.
///
/// # Errors
/// When Redis does not say which id it keeps; [`StoreError::Refused`] too where a file of the settings cannot
/// be used.
pub async fn instance_id(
    settings: &RedisSettings,
    registry_key: &str,
    proposal: &str,
) -> Result<String, StoreError> {
    let refused = |error: RedisSettingsError| StoreError::Refused(error.to_string().into());
    let connection = RedisConnection::new(settings).map_err(refused)?;
    let cell = InstanceCell::proposed(&settings.prefix, registry_key, proposal);
    let id = cell.get(&connection).await?.id.to_string();
    // A Redis that takes no writes now gets it later, by the store.
    let _ = cell.renew(&connection).await;
    Ok(id)
}
