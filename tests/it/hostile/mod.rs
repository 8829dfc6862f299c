//! Attacks: hostile tenants, providers and pods, against the real program. Each test is one that once broke
//! through, or its kind.

mod addresses;
mod crowd;
mod documented;
mod flooding_servers;
mod http2_floods;
mod impersonation;
mod leader;
mod memory;
mod policies;
mod requester_access;
mod secrets;
mod slow_clients;
mod sockets;
mod tenants;
mod truth;

use crate::support::wait::PATIENCE;
use std::time::Duration;

/// Deadline of steps that happen at once, on a busy machine.
const SOON: Duration = PATIENCE;
