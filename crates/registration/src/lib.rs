//! Keeps registrations alive (RFC 3261 §10): a pure core, without IO, clock or randomness of its own.
//!
//! | module | contents |
//! |---|---|
//! | [`engine`] | the scheduler of a million registrations; its documentation says what a driver calls, in which order |
//! | [`registration`] | the state machine of one trunk's registration |
//! | [`trunk`] | trunks, as parsed from what the API server lists |
//! | [`model`] | what the engine exchanges with the program around it: requests, responses, records, errors |
//! | `testing` | with the feature of this name: trunks, settings and registrars for tests |
//!
//! An engine learns what happened by `handle_*`, and says what to do by `poll_*`; time and randomness are
//! arguments. No dependency of this crate brings tokio, tonic, kube or redis.

pub mod engine;
pub mod model;
pub mod registration;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trunk;
