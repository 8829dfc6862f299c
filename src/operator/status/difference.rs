//! How much two statuses differ.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Difference, conditions::find, reasons};
use crate::spec::status::RegistryStatus;

/// How much there is to write.
pub fn difference(before: &RegistryStatus, after: &RegistryStatus) -> Difference {
    if before == after {
        return Difference::None;
    }
    let same = before.observed_generation == after.observed_generation
        && before.trunks == after.trunks
        && conditions(before) == conditions(after)
        && stall(before) == stall(after)
        && failures(before) == failures(after);
    if same { Difference::Slight } else { Difference::Real }
}

/// Conditions without their words.
fn conditions(status: &RegistryStatus) -> Vec<(&str, &str, &str, Option<i64>, &Time)> {
    let conditions = status.conditions.iter();
    conditions
        .map(|c| (&*c.type_, &*c.status, &*c.reason, c.observed_generation, &c.last_transition_time))
        .collect()
}

/// What a person has to do. It changes only when that does.
fn stall(status: &RegistryStatus) -> Option<&str> {
    find(status, reasons::STALLED).map(|stalled| &*stalled.message)
}

/// Which trunks fail and why, in an order that does not depend on which of them was tried last.
fn failures(status: &RegistryStatus) -> Vec<(&str, &str, &str)> {
    let mut failures: Vec<_> =
        status.failures.iter().map(|f| (&*f.reference, &*f.state, &*f.reason)).collect();
    failures.sort_unstable();
    failures
}
