//! Degree to which two statuses differ.

use super::{Diff, reasons};
use crate::spec::status::RegistryStatus;

/// Returns how much there is to write.
pub fn diff(before: &RegistryStatus, after: &RegistryStatus) -> Diff {
    if before == after {
        return Diff::None;
    }
    let same = before.observed_generation == after.observed_generation
        && before.trunks == after.trunks
        && conditions(before).eq(conditions(after))
        && failures(before) == failures(after)
        && redirections(before).eq(redirections(after));
    if same { Diff::Cosmetic } else { Diff::Significant }
}

/// Conditions without their words, but for those of Stalled: they say what a person has to do, and change
/// only when that does.
fn conditions(status: &RegistryStatus) -> impl Iterator<Item = impl PartialEq> {
    status.conditions.iter().map(|c| {
        let words = (c.type_ == reasons::STALLED).then_some(&*c.message);
        (&*c.type_, &*c.status, &*c.reason, c.observed_generation, &c.last_transition_time, words)
    })
}

/// Returns which trunks are redirected and where to, whatever the time.
fn redirections(status: &RegistryStatus) -> impl Iterator<Item = impl PartialEq> {
    status.redirections.iter().map(|one| (&*one.reference, &*one.from, &*one.to))
}

/// Returns which trunks fail and why, in an order that does not depend on which of them was tried last.
fn failures(status: &RegistryStatus) -> Vec<(&str, &str, &str)> {
    let mut failures: Vec<_> =
        status.failures.iter().map(|f| (&*f.reference, &*f.state, &*f.reason)).collect();
    failures.sort_unstable();
    failures
}
