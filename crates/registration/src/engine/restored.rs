//! Records of the store, until their trunks turn up.

use super::ref_index::RefIndex;
use crate::model::Record;

/// Records by the ref of their trunk.
#[derive(Debug, Default)]
pub(super) struct RestoredRecords {
    /// `None`: taken.
    records: Vec<Option<Record>>,
    index: RefIndex,
}

impl RestoredRecords {
    /// Of two records of one trunk the later one counts.
    pub fn new(records: Vec<Record>) -> Self {
        let mut index = RefIndex::with_capacity(records.len());
        let mut records: Vec<Option<Record>> = records.into_iter().map(Some).collect();
        for number in 0..u32::try_from(records.len()).unwrap_or(u32::MAX) {
            if let Some(earlier) = index.insert(number, |number| reference_at(&records, number)) {
                records[earlier as usize] = None;
            }
        }
        Self { records, index }
    }

    /// Takes the record of this trunk out.
    pub fn take(&mut self, reference: &str) -> Option<Record> {
        let Self { records, index } = self;
        let number = index.remove(reference, |number| reference_at(records, number) == reference)?;
        let record = records.get_mut(number as usize)?.take();
        if self.index.is_empty() {
            *self = Self::default();
        }
        record
    }

    /// Adds records; of two of one trunk the later one counts.
    pub fn extend(&mut self, records: Vec<Record>) {
        let mut all: Vec<Record> = std::mem::take(self).records.into_iter().flatten().collect();
        all.extend(records);
        *self = Self::new(all);
    }

    /// The record of this trunk, which stays.
    pub fn get(&self, reference: &str) -> Option<&Record> {
        let number = self.index.find(reference, |number| reference_at(&self.records, number))?;
        self.records.get(number as usize)?.as_ref()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The trunks that there are records of.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.records.iter().flatten().map(|record| &*record.reference)
    }

    /// Drops all records but those of these trunks, and the room they took. Returns whose they were.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool) -> Vec<Box<str>> {
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for record in std::mem::take(self).records.into_iter().flatten() {
            if stays(&record.reference) {
                kept.push(record);
            } else {
                gone.push(record.reference);
            }
        }
        kept.shrink_to_fit();
        *self = Self::new(kept);
        gone
    }
}

fn reference_at(records: &[Option<Record>], number: u32) -> &str {
    records.get(number as usize).and_then(Option::as_ref).map_or("", |record| &record.reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(reference: &str, cseq: u32) -> Record {
        Record { reference: reference.into(), cseq, aor: "u@h".into(), ..Record::default() }
    }

    #[test]
    fn each_is_found_once_and_the_later_of_two_counts() {
        let all = (0..1_000).map(|number| record(&format!("trunk-{number}"), number));
        let mut known = RestoredRecords::new(all.chain([record("trunk-7", 70), record("", 1)]).collect());
        assert_eq!(known.len(), 1_001);
        assert_eq!(known.take("trunk-7"), Some(record("trunk-7", 70)));
        assert_eq!(known.take("trunk-7"), None);
        assert_eq!(known.take("trunk-1000"), None);
        for number in (0..1_000).filter(|number| *number != 7 && *number != 8) {
            assert_eq!(known.take(&format!("trunk-{number}")).map(|record| record.cseq), Some(number));
        }
        assert_eq!(known.take(""), Some(record("", 1)));
        assert_eq!((known.len(), known.retain(|_| false)), (1, vec!["trunk-8".into()]));
        assert_eq!((known.len(), known.retain(|_| false)), (0, Vec::new()));
    }

    #[test]
    fn what_stays_is_found_and_takes_the_room_of_what_stays() {
        let all = (0..1_000).map(|number| record(&format!("trunk-{number}"), number));
        let mut known = RestoredRecords::new(all.collect());
        known.take("trunk-5");
        let mut gone = known.retain(|reference| matches!(reference, "trunk-3" | "trunk-5" | "trunk-700"));
        gone.sort_unstable();
        assert_eq!((gone.len(), &*gone[0], gone.contains(&"trunk-700".into())), (997, "trunk-0", false));
        assert_eq!((known.len(), known.get("trunk-3")), (2, Some(&record("trunk-3", 3))));
        assert_eq!((known.get("trunk-4"), known.get("trunk-5")), (None, None));
        assert!(known.records.capacity() <= 4 && known.index.capacity() <= 8, "it kept the room of all");
        assert_eq!(known.take("trunk-700"), Some(record("trunk-700", 700)));
        assert_eq!(known.retain(|_| false), vec![Box::<str>::from("trunk-3")]);
        assert_eq!((known.records.capacity(), known.index.capacity()), (0, 0));
    }

    #[test]
    fn a_record_that_was_taken_takes_no_more_room_than_one_that_was_not() {
        assert_eq!(size_of::<Option<Record>>(), size_of::<Record>());
        let mut known = RestoredRecords::new(vec![record("a", 1)]);
        known.take("a");
        assert_eq!((known.records.capacity(), known.index.capacity()), (0, 0));
    }
}
