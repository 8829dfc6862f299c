//! Keeps registrations alive (RFC 3261 §10): a pure core, without IO, clock or randomness of its own.
//!
//! [`registration`] is the state machine of one trunk, [`engine`] schedules a million of them, [`model`] is
//! what both exchange with the program around them. No dependency of this crate brings tokio, tonic, kube or
//! redis.

pub mod engine;
pub mod model;
pub mod registration;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trunk;
