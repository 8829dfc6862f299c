//! The standalone mode as a user meets it: the built program, real sockets, and dependencies that come, go
//! and misbehave.

mod client;
mod demo;
mod drop_in;
pub mod fake;
mod garbage;
mod logs;
mod outage;
mod reload;
mod reload_file;
mod secrets;
mod signals;
mod start;
pub mod test_registry;
mod why;

use crate::support::wait::PATIENCE;
use std::time::Duration;

/// Deadline of steps that happen at once, on a busy machine.
const SOON: Duration = PATIENCE;
