//! `make bench`: what a million trunks cost, each figure beside a reference measured in the same run on the
//! same machine.
//!
//! Each section is a module with `pub async fn run(bench: &mut Bench) -> anyhow::Result<()>`. What is
//! measured runs in processes of its own: the product is the real binary, backends and references are this
//! binary again with a role as its first argument.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod backend;
mod fairness;
mod histogram;
mod machine;
mod operator;
mod output;
mod plot;
mod product;
mod punctuality;
mod reference;
mod report;
mod role;
mod screen;
mod standing;
mod takeover;
mod udp;
mod usage;
mod wave;

use anyhow::bail;
use clap::Parser;
use routr_test_support as support;

use crate::{backend::Backend, report::Bench};

/// The sections, in the order of a whole run.
const SECTIONS: [&str; 7] =
    ["first-wave", "memory", "punctuality", "udp", "fairness", "operator", "take-over"];

/// Those of a quick run: a minute for all. The others take minutes, and the last two need a control plane.
const QUICK: usize = 4;

/// Measures the cost of a million trunks on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// Only these sections; all without, or the first four where it is to be quick.
    #[arg(value_parser = SECTIONS)]
    sections: Vec<String>,
    /// Smaller sizes and shorter windows: a minute for all.
    #[arg(long)]
    quick: bool,
    /// Writes the table into BENCHMARKS.md and the picture to docs/benchmarks.svg.
    #[arg(long)]
    save: bool,
    /// Argument that cargo passes to each benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mark, role, settings] = &args[..]
        && mark == role::MARK
    {
        return match role.as_str() {
            Backend::ROLE => backend::serve(settings),
            reference::ROLE => reference::serve(settings),
            other => match udp::role(other, settings) {
                Some(done) => done,
                None => bail!("there is no role {other}"),
            },
        };
    }
    // What blocks says so; the tasks run on the other threads.
    tokio::runtime::Runtime::new()?.block_on(run(Args::parse()))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut bench = Bench::new(args.quick);
    let sections: Vec<&str> = match args.sections.is_empty() {
        true if args.quick => SECTIONS[..QUICK].to_vec(),
        true => SECTIONS.to_vec(),
        false => {
            SECTIONS.into_iter().filter(|name| args.sections.iter().any(|wanted| wanted == name)).collect()
        }
    };
    for section in sections {
        let result = match section {
            "first-wave" => wave::run(&mut bench).await,
            "memory" => standing::run(&mut bench).await,
            "punctuality" => punctuality::run(&mut bench).await,
            "udp" => udp::run(&mut bench).await,
            "fairness" => fairness::run(&mut bench).await,
            "operator" => operator::run(&mut bench).await,
            "take-over" => takeover::run(&mut bench).await,
            other => bail!("there is no section {other}"),
        };
        // What was found so far is not lost.
        if let Err(error) = result {
            output::write(&bench, false)?;
            return Err(error.context(format!("section {section}")));
        }
    }
    output::write(&bench, args.save)
}
