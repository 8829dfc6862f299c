//! State that lives as long as the process: for `cache.provider: memory`, where one process may run a
//! registry more than once (a reload, a leader that comes back).

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use hashbrown::{HashTable, hash_table::Entry};

use super::codec::{self, Decoder};
use crate::runtime::ports::Store;
use routr_registration::model::{Change, Record, StoreError};

/// Keeps records in this process, packed: a million of them take about 100 bytes each.
#[derive(Debug, Default)]
pub struct MemoryStore {
    table: Mutex<Table>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        // Nothing in here leaves the table half-changed, so it is good even after a panic elsewhere.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn is_durable(&self) -> bool {
        false
    }

    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        let mut decoder = Decoder::default();
        Ok(self.table().entries.iter().filter_map(|packed| packed.unpack(&mut decoder)).collect())
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut table = self.table();
        for change in changes {
            match change {
                Change::Put(record) => table.put(&record)?,
                Change::Forget(reference) => table.forget(&reference),
            }
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn detect_data_loss(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[derive(Debug, Default)]
struct Table {
    entries: HashTable<Packed>,
    hasher: RandomState,
}

impl Table {
    fn put(&mut self, record: &Record) -> Result<(), StoreError> {
        let packed = Packed::pack(record)?;
        let hash = self.hasher.hash_one(record.reference.as_bytes());
        let same = |p: &Packed| p.reference() == record.reference.as_bytes();
        match self.entries.entry(hash, same, |p| self.hasher.hash_one(p.reference())) {
            Entry::Occupied(mut entry) => *entry.get_mut() = packed,
            Entry::Vacant(entry) => {
                entry.insert(packed);
            }
        }
        Ok(())
    }

    fn forget(&mut self, reference: &str) {
        let hash = self.hasher.hash_one(reference.as_bytes());
        if let Ok(entry) = self.entries.find_entry(hash, |p| p.reference() == reference.as_bytes()) {
            entry.remove();
        }
    }
}

/// One record in one allocation: the length of the ref in four bytes, the ref, the rest as Redis would keep
/// it.
#[derive(Debug)]
struct Packed(Box<[u8]>);

impl Packed {
    fn pack(record: &Record) -> Result<Self, StoreError> {
        let refuse = |cause: &str| StoreError::Refused(cause.into());
        let length = u32::try_from(record.reference.len()).map_err(|_| refuse("a ref of more than 4 GiB"))?;
        let mut bytes = Vec::with_capacity(4 + record.reference.len() + record.aor.len() + 24);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(record.reference.as_bytes());
        let bytes = codec::encode(record, bytes).map_err(|e| refuse(&e.to_string()))?;
        Ok(Self(bytes.into_boxed_slice()))
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let Some((length, rest)) = self.0.split_first_chunk::<4>() else { return (&[], &[]) };
        rest.split_at_checked(u32::from_le_bytes(*length) as usize).unwrap_or((&[], &[]))
    }

    fn reference(&self) -> &[u8] {
        self.parts().0
    }

    fn unpack(&self, decoder: &mut Decoder) -> Option<Record> {
        let (reference, rest) = self.parts();
        decoder.decode(std::str::from_utf8(reference).ok()?.into(), rest)
    }
}
