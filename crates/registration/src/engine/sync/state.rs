//! State of a sync: the counts of its list, and whether what the list lacks is believed to be gone.

use crate::model::{Absence, Excess};

/// Losing more than half of the trunks and more than this many at once takes a second sync to be believed.
const MASS_LOSS: usize = 10;

/// Result of a complete sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Trunks that were listed.
    pub listed: u64,
    /// Trunks that are gone and are being de-registered.
    pub removed: u64,
    /// Trunks that seem to be gone, but so many at once, or in a list so unsure, that a second sync must say
    /// the same.
    pub held: u64,
    /// Trunks without a ref: they cannot be told apart and are left out.
    pub nameless: u64,
    /// Trunks that share their ref with an earlier one of the same listing and differ from it: they are left
    /// out. The same trunk twice, as in pages between which it moved, is none.
    pub duplicates: u64,
    /// Trunks, new or larger than before, that were left out, because there are as many as
    /// [`crate::engine::EngineSettings::max_trunks`] allows, or because of `excess`.
    pub surplus: u64,
    /// Limit of the operator that left the last of these out, if one did.
    pub excess: Option<Excess>,
}

/// State of the present sync, and what is remembered of the one before.
#[derive(Debug, Default)]
pub(in crate::engine) struct SyncState {
    number: u32,
    last_complete_ms: Option<u64>,
    held: u64,
    left_out: (u64, Option<Excess>),
    /// Trunks there were when it began, those that only the store knew included.
    before: usize,
    /// Trunks that were listed a second time, as they were or differently.
    repeated: u64,
    counts: SyncReport,
}

impl SyncState {
    /// A sync begins; there are `before` trunks, those that only the store knows included.
    pub fn start(&mut self, before: usize) {
        self.number = self.number.wrapping_add(1).max(1);
        self.before = before;
        (self.repeated, self.counts) = (0, SyncReport::default());
    }

    /// Number of the present sync, never 0: a trunk that bears it has been listed.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The time of the last complete sync, in milliseconds since the Unix epoch.
    pub fn last_complete_ms(&self) -> Option<u64> {
        self.last_complete_ms
    }

    /// Trunks that the last complete sync did not list, and that are kept until a second one says the same.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Trunks that the last complete list had and that were left out, and because of which limit.
    pub fn left_out(&self) -> (u64, Option<Excess>) {
        self.left_out
    }

    /// A trunk without a ref was listed.
    pub fn count_nameless(&mut self) {
        self.counts.nameless += 1;
    }

    /// A trunk was listed.
    pub fn count_listed(&mut self) {
        self.counts.listed += 1;
    }

    /// A trunk was listed again, as it was or differently.
    pub fn count_repeated(&mut self, differs: bool) {
        self.repeated += 1;
        self.counts.duplicates += u64::from(differs);
    }

    /// A trunk is left out, because of the configuration's own bound.
    pub fn count_surplus(&mut self) {
        self.counts.surplus += 1;
    }

    /// A trunk that was counted as listed is left out, because of a limit of the operator: if it is new, it
    /// is not there after all.
    pub fn count_excess(&mut self, excess: Excess, new: bool) {
        self.counts.surplus += 1;
        self.counts.excess = Some(excess);
        self.counts.listed -= u64::from(new);
    }

    /// Returns whether the list has had so far each of the trunks that are there.
    pub fn has_listed_all(&self, present: usize) -> bool {
        u64::try_from(present).is_ok_and(|present| self.counts.listed - self.repeated == present)
    }

    /// Returns whether it takes a second sync to believe that so many trunks are gone.
    pub fn doubts(&self, lost: usize, absence: Absence) -> bool {
        let massive = lost > MASS_LOSS && lost * 2 > self.before;
        massive || absence == Absence::Unconfirmed
    }

    /// The list is complete. Returns its counts; nothing is removed or held so far.
    pub fn complete(&mut self, unix_ms: u64) -> SyncReport {
        self.last_complete_ms = Some(unix_ms);
        self.left_out = (self.counts.surplus, self.counts.excess);
        self.counts
    }

    /// So many trunks are kept until a second sync says that they are gone.
    pub fn hold(&mut self, held: u64) {
        self.held = held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_of_more_than_half_and_more_than_ten_is_doubted_as_is_a_list_that_is_unsure() {
        let mut sync = SyncState::default();
        for (before, lost, doubted) in
            [(100, 50, false), (100, 51, true), (20, 10, false), (21, 11, true), (10, 10, false)]
        {
            sync.start(before);
            assert_eq!(sync.doubts(lost, Absence::Certain), doubted, "{lost} of {before}");
        }
        assert!(sync.doubts(1, Absence::Unconfirmed));
    }

    #[test]
    fn a_trunk_that_is_listed_twice_counts_once_and_one_that_is_left_out_does_not() {
        let mut sync = SyncState::default();
        sync.start(0);
        (0..3).for_each(|_| sync.count_listed());
        sync.count_repeated(true);
        assert!(sync.has_listed_all(2) && !sync.has_listed_all(3));
        sync.count_listed();
        sync.count_excess(Excess::Trunks, true);
        sync.count_surplus();
        let report = sync.complete(7);
        assert_eq!((report.listed, report.duplicates, report.surplus), (3, 1, 2));
        assert_eq!((sync.left_out(), sync.last_complete_ms()), ((2, Some(Excess::Trunks)), Some(7)));
        let number = sync.number();
        sync.start(3);
        assert_eq!((sync.number(), sync.complete(8)), (number + 1, SyncReport::default()));
    }
}
