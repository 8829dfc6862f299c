//! Base of tests/it, the suite of faults, the demo on Kubernetes and the benchmarks: real processes on
//! loopback ports, and waiting by condition.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a test that cannot go on panics, with what it waited for"
)]

pub mod control_plane;
pub mod http;
pub mod installation;
pub mod kamailio;
pub mod lateness;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod registrars;
pub mod service;
pub mod wait;
