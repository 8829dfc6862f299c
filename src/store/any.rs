//! The store that the configuration asks for.

use super::{MemoryStore, RedisSettingsError, RedisStore};
use crate::{
    config::Cache,
    ports::{Change, Record, Store, StoreError},
};

/// Memory or Redis, as configured.
pub enum AnyStore {
    /// Nothing outlives the process.
    Memory(MemoryStore),
    /// In Redis.
    Redis(Box<RedisStore>),
}

impl AnyStore {
    /// The store of a registry: `instance` names its Call-IDs, `registry_key` the place where that name is kept, if it
    /// has to be. Nothing is sent before the first use.
    ///
    /// # Errors
    /// When the CA file cannot be used.
    pub fn open(
        cache: &Cache,
        instance: &str,
        registry_key: Option<&str>,
    ) -> Result<Self, RedisSettingsError> {
        Ok(match cache {
            Cache::Memory => Self::Memory(MemoryStore::new()),
            Cache::Redis(settings) => {
                let store = RedisStore::new(settings, instance)?;
                Self::Redis(Box::new(match registry_key {
                    Some(key) => store.with_identity(key),
                    None => store,
                }))
            }
        })
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

    async fn lost_data(&self) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => store.lost_data().await,
            Self::Redis(store) => store.lost_data().await,
        }
    }
}
