//! The store that the configuration asks for.

use super::{MemoryStore, RedisSettingsError, RedisStore};
use crate::{config::Cache, quota::Quota, runtime::ports::Store};
use routr_registration::{
    model::{Change, Record, Rival, StoreError},
    registration::identity::RegistryId,
};
use std::sync::Arc;
use tokio::sync::watch;

/// Identity that distinguishes one registry from the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id that its Call-IDs and its keys in Redis are made of.
    pub id: RegistryId,
    /// Name under which Redis keeps the id for the next start; `None` where it is known without.
    pub kept_as: Option<String>,
    /// `id` counts only until Redis says which one it keeps, or where it keeps none.
    pub proposed: bool,
    /// One process at a time acts for the registry, and Redis says which. Where a Lease of Kubernetes says
    /// so, Redis is not asked.
    pub exclusive: bool,
}

/// Memory or Redis, as configured.
pub enum AnyStore {
    /// Nothing outlives the process.
    Memory(MemoryStore),
    /// Redis.
    Redis(Box<RedisStore>),
}

impl AnyStore {
    /// The store of a registry. Nothing is sent before the first use.
    ///
    /// # Errors
    /// When a file of the cache (CA, certificate, key) cannot be used.
    pub fn open(cache: &Cache, identity: &Identity) -> Result<Self, RedisSettingsError> {
        let id = identity.id.as_str();
        Ok(match cache {
            Cache::Memory => Self::Memory(MemoryStore::new()),
            Cache::Redis(settings) => Self::Redis(Box::new(match &identity.kept_as {
                Some(key) if identity.proposed => {
                    RedisStore::proposing(settings, key, id)?.with_owner(identity.exclusive)
                }
                Some(key) => RedisStore::new(settings, id)?.with_identity(key).with_owner(identity.exclusive),
                None => RedisStore::new(settings, id)?.with_owner(identity.exclusive),
            })),
        })
    }
}

impl AnyStore {
    /// Reads no more than a Registry's quota has room for, and connects within it.
    #[must_use]
    pub fn within(self, quota: &Arc<Quota>) -> Self {
        match self {
            Self::Memory(store) => Self::Memory(store),
            Self::Redis(store) => Self::Redis(Box::new(store.paid_by(quota).within(quota.clone()))),
        }
    }
}

impl Store for AnyStore {
    fn is_durable(&self) -> bool {
        match self {
            Self::Memory(store) => store.is_durable(),
            Self::Redis(store) => store.is_durable(),
        }
    }

    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        match self {
            Self::Memory(store) => store.load().await,
            Self::Redis(store) => store.load().await,
        }
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.apply(changes).await,
            Self::Redis(store) => store.apply(changes).await,
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.ping().await,
            Self::Redis(store) => store.ping().await,
        }
    }

    async fn detect_data_loss(&self) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => store.detect_data_loss().await,
            Self::Redis(store) => store.detect_data_loss().await,
        }
    }

    fn instance_id(&self) -> Option<Box<str>> {
        match self {
            Self::Memory(store) => store.instance_id(),
            Self::Redis(store) => store.instance_id(),
        }
    }

    fn rival(&self) -> watch::Receiver<Option<Rival>> {
        match self {
            Self::Memory(store) => store.rival(),
            Self::Redis(store) => store.rival(),
        }
    }

    fn other_writer(&self) -> Option<Rival> {
        match self {
            Self::Memory(store) => store.other_writer(),
            Self::Redis(store) => store.other_writer(),
        }
    }

    async fn release(&self) {
        match self {
            Self::Memory(store) => store.release().await,
            Self::Redis(store) => store.release().await,
        }
    }
}
