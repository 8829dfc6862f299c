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
#![allow(dead_code)]

mod report;
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod udp;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Some(done) = udp::role(&args) {
        return done;
    }
    let mut bench = report::Bench { quick: args.iter().any(|arg| arg == "quick"), figures: Vec::new() };
    tokio::runtime::Runtime::new()?.block_on(async { udp::run(&mut bench).await })?;
    for f in &bench.figures {
        println!(
            "{:20} {:45} {:10.0} {} ratio {:?}  {}",
            f.section,
            f.what,
            f.value,
            f.unit,
            f.ratio(),
            f.note
        );
    }
    Ok(())
}
