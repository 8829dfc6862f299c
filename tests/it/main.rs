//! The integration tests: one binary, so that the tree is linked once. Each module is a suite; `support`
//! starts the real dependencies (Kamailio, Redis) and the built program as processes of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chain;
mod chart;
mod control_plane_harness;
mod demo_k8s;
mod dependencies;
mod fairness;
mod field;
mod fuzz_corpus;
mod hostile;
mod kamailio_harness;
mod modules;
mod monitoring;
mod operator;
mod process_harness;
mod requester;
mod standalone;

use routr_test_support as support;
