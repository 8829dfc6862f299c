//! Index of what is stored elsewhere, by ref. With a million trunks every byte counts: it holds numbers
//! alone, and asks its owner for the ref of each.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Numbers by ref; each ref is there once. `ref_of` gives the ref of a number, and must give the same each
/// time.
#[derive(Debug, Default)]
pub(super) struct RefIndex {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl RefIndex {
    pub fn with_capacity(capacity: usize) -> Self {
        Self { table: HashTable::with_capacity(capacity), ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns the number that a ref stands for.
    pub fn find<'a>(&self, reference: &str, ref_of: impl Fn(u32) -> &'a str) -> Option<u32> {
        self.table.find(self.hasher.hash_one(reference), |number| ref_of(*number) == reference).copied()
    }

    /// Lets the ref of a number stand for it. Returns the number that it stood for before.
    pub fn insert<'a>(&mut self, number: u32, ref_of: impl Fn(u32) -> &'a str) -> Option<u32> {
        let Self { table, hasher } = self;
        let reference = ref_of(number);
        let hash = hasher.hash_one(reference);
        match table.find_mut(hash, |other| ref_of(*other) == reference) {
            Some(other) => Some(std::mem::replace(other, number)),
            None => {
                table.insert_unique(hash, number, |other| hasher.hash_one(ref_of(*other)));
                None
            }
        }
    }

    /// Takes a ref out, where it stands for a number that `is_meant`. Returns the number.
    pub fn remove(&mut self, reference: &str, is_meant: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(reference);
        let found = self.table.find_entry(hash, |number| is_meant(*number)).ok()?;
        Some(found.remove().0)
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ref_stands_for_one_number() {
        let refs = ["a", "b", "a", "c"];
        let ref_of = |number: u32| refs[number as usize];
        let mut index = RefIndex::with_capacity(1);
        assert_eq!([0, 1, 2].map(|number| index.insert(number, ref_of)), [None, None, Some(0)]);
        assert_eq!(["a", "b", "c"].map(|one| index.find(one, ref_of)), [Some(2), Some(1), None]);
        assert_eq!(
            (index.remove("a", |number| number == 0), index.len()),
            (None, 2),
            "another one stands there"
        );
        assert_eq!((index.remove("a", |number| number == 2), index.len()), (Some(2), 1));
        assert_eq!(index.find("a", ref_of), None);
    }

    #[test]
    fn many_are_found_when_the_table_has_grown() {
        let refs: Vec<String> = (0..10_000).map(|number| format!("trunk-{number}")).collect();
        let ref_of = |number: u32| refs[number as usize].as_str();
        let mut index = RefIndex::default();
        (0..10_000).for_each(|number| assert_eq!(index.insert(number, ref_of), None));
        assert!((0..10_000).all(|number| index.find(ref_of(number), ref_of) == Some(number)));
    }
}
