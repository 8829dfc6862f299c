//! The field's cases, played against the built program as registry and as Requester. Each test is named after
//! its row; what a row asks for is in the file of its case, `src/devstack/field/cases`.

mod challenges;
mod command;
mod fairness;
pub mod harness;
mod misleading_messages;
mod reaching;
mod responses;

use crate::support::wait::PATIENCE;
use std::time::Duration;

/// Deadline of steps that happen at once, on a busy machine.
const SOON: Duration = PATIENCE;
/// Deadline of steps after Timer F of RFC 3261, 32 s, with that on top.
const AFTER_TIMER_F: Duration = PATIENCE.saturating_add(Duration::from_secs(32));
