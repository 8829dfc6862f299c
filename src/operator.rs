//! Mode 2: Registry resources of a Kubernetes API server. One engine for each, run by the one replica that holds the lease.
//!
//! ```text
//!   watch ----> controller --> reconcile: dereference, validate, run -----> fleet: one engine for each Registry
//!                                  |                                             |
//!   lease                          +--> finalize (deletion)                      +--> reporter: status and events
//! ```
//!
//! * `lease`: who leads; a leader that cannot renew stops before another could start,
//! * `status`: pure, from what an engine says of itself to the status of its resource, and to events.

pub mod lease;
pub mod status;
