//! Mode 2: Registry resources of a Kubernetes API server. One engine for each, run by the one replica that
//! holds the lease.
//!
//! ```text
//!   watch --> controller --> reconcile: dereference, validate --> Desired --> engines, by UID
//!                                |                                   ^            |
//!   Lease                        +--> cleanup (deletion) ------------+            +--> status_updater
//! ```
//!
//! * [`routr_leader_election`]: who leads; a leader that cannot renew stops before another could start,
//! * [`controller`]: watches, and has each Registry reconciled when it changes,
//! * [`reconcile`]: from a Registry to its [`Desired`](engines::Desired) state, as named steps
//!   ([`dereference`], [`validate`]); [`engines`]: brings that state about,
//! * [`client`]: clients without hidden retries, [`backoff`]: when to try again, [`health`]: what is logged
//!   of failures and shown by `/readyz`, [`routr_kube_errors`]: failures in words,
//! * [`status_updater`]: one for each Registry, from what its engine says of itself ([`status`], pure) to
//!   what is written ([`status_writer`]).

mod backoff;
mod bounded;
mod client;
pub mod controller;
pub mod definition;
pub mod dereference;
pub mod engines;
pub mod events;
pub mod health;
pub mod kube_client;
pub mod lenient_registry;
pub mod listing;
pub mod reconcile;
mod request_limiter;
mod run;
pub mod runtime;
pub mod status;
pub mod status_updater;
pub mod status_writer;
pub mod validate;

pub use run::{OperatorArgs, OperatorError, run};
