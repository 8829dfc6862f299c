//! `make bench`: what a million trunks cost, each figure beside a reference measured in the same run on the same machine.
//!
//! Each section is a module with `pub async fn run(bench: &mut Bench) -> anyhow::Result<()>`. What is measured runs in processes of
//! its own: the product is the real binary, backends and references are this binary again with a role as its first argument.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod report;

fn main() {}
