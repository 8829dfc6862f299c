//! Stores in which registrations outlive the process: memory (which does not) or Redis.
//!
//! # Layout in Redis
//!
//! Everything is under `routr-registry:`, and every key has a TTL, so that nothing stays for ever.
//!
//! | key | type | holds | TTL |
//! |---|---|---|---|
//! | `routr-registry:{<instance>}:regs:<00..ff>` | hash | trunk ref → one registration | 24 h, or twice the longest expiry granted, from the last write |
//! | `routr-registry:{<instance>}:alive` | string | a mark by which a loss of data is noticed, and another process | 24 h |
//! | `routr-registry:{<instance>}:owner` | string | the process that acts for the registry, where no Lease of Kubernetes says so | 5 s |
//! | `routr-registry:instance:<hash>` | string | the instance id that a registry has had since its first start | 90 days |
//!
//! With `prefix` among the parameters, that stands before each of them.
//!
//! The bucket of a trunk is the first byte of the SHA-256 of its ref, so it is the same in every version. The
//! braces keep all keys of a registry in one slot, where Redis is a cluster; its instance id may be in
//! another one.
//!
//! An ACL user needs `~routr-registry:* +ping +get +set +expire +hset +hdel +hgetall +hlen +multi +exec`, and
//! `+asking` in a cluster. Redis 6 or later, or Valkey.

mod any;
#[doc(hidden)] // for fuzz/
pub mod codec;
mod connection;
mod error_text;
mod identity;
#[doc(hidden)] // for fuzz/
pub mod keys;
mod mark;
mod memory;
mod migration;
mod owner;
mod process;
mod redis_store;
mod servers;
mod settings_error;
mod stream;

pub use any::{AnyStore, Identity};
pub use identity::instance_id;
pub use memory::MemoryStore;
pub use redis_store::RedisStore;
pub use settings_error::RedisSettingsError;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
