//! `make chaos`: the built program among real dependencies, all of which break in turn. Runs the real
//! registry with a real Redis, a real Kamailio, the embedded Requester and an API server, each a process of
//! its own on loopback, with 1,000 trunks.
//!
//! The operator runs as well, as two replicas on a real control plane: see `operator`.
//!
//! A scenario (`scenario`) breaks something (a `fault`) for a while. A watcher (`watch`) looks four times a
//! second at what the registry says, and each second at Kamailio's `table`; `truth` judges each look. In the
//! end everything has to be as before: one contact for each trunk, the same processes, their memory,
//! descriptors and use of the processor. The loop and the watcher are the same for both worlds, `standalone`
//! and `operator`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod datagrams;
mod fakes;
mod http;
mod link;
mod operator;
mod parts;
mod pokes;
mod report;
mod scenario;
mod standalone;
mod table;
mod vitals;
mod watch;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::Parser;
use futures_util::future::join_all;
use routr_test_support as support;
use tokio::signal::unix::{SignalKind, signal};

use report::Report;

/// Faults with real processes: kills and stops each dependency of the registry and the registry itself, cuts
/// wires, and answers garbage, while a watcher asserts that what the registry says is true.
#[derive(Parser)]
#[command(name = "chaos", override_usage = "make chaos [ARGS='[--quick] [NAME...]']")]
struct Args {
    /// Only scenarios whose name is, or contains, one of these.
    names: Vec<String>,
    /// Only the most telling ones, in about two minutes.
    #[arg(long)]
    quick: bool,
    /// Print the names of the scenarios and end.
    #[arg(long)]
    list: bool,
    /// Number of scenarios that run at a time, each in a world of its own.
    #[arg(long, default_value_t = 2)]
    lanes: usize,
    /// Trunks in each world.
    #[arg(long, default_value_t = 1_000)]
    trunks: usize,
    /// Folder for the logs of failed scenarios.
    #[arg(long, default_value = "target/chaos")]
    logs: PathBuf,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let given: Vec<String> = std::env::args().collect();
    if let [_, role, port, file] = &given[..]
        && role == parts::API_SERVER
    {
        runtime.block_on(parts::serve_api(port, Path::new(file)));
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    let chosen = choose(&args);
    if args.list {
        chosen.names().for_each(|name| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    if chosen.names().next().is_none() {
        eprintln!("chaos: no scenario is called {:?}; --list shows all", args.names.join(" "));
        return ExitCode::FAILURE;
    }
    let code = runtime.block_on(run(&args, chosen));
    runtime.shutdown_background();
    code
}

/// The scenarios to play.
struct Chosen {
    standalone: Vec<standalone::Scenario>,
    operator: Vec<operator::Scenario>,
}

impl Chosen {
    fn names(&self) -> impl Iterator<Item = &str> {
        let standalone = self.standalone.iter().map(|scenario| &*scenario.name);
        standalone.chain(self.operator.iter().map(|scenario| &*scenario.name))
    }

    fn retain(&mut self, wanted: impl Fn(&str, bool) -> bool) {
        self.standalone.retain(|scenario| wanted(&scenario.name, scenario.quick));
        self.operator.retain(|scenario| wanted(&scenario.name, scenario.quick));
    }
}

/// By exact name where that is one, else by a part of it.
fn choose(args: &Args) -> Chosen {
    let mut chosen = Chosen { standalone: standalone::all(), operator: operator::all() };
    let whole = args.names.join(" ");
    if chosen.names().any(|name| name == whole) {
        chosen.retain(|name, _| name == whole);
        return chosen;
    }
    chosen.retain(|name, quick| {
        let named =
            args.names.is_empty() || name.contains(&whole) || args.names.iter().any(|given| name == *given);
        named && (!args.quick || quick)
    });
    chosen
}

async fn run(args: &Args, chosen: Chosen) -> ExitCode {
    let count = chosen.names().count();
    // Those of the operator share one lane.
    let most = chosen.standalone.len() + usize::from(!chosen.operator.is_empty());
    let lanes = args.lanes.clamp(1, most);
    println!("{count} scenarios, {lanes} at a time, each with {} trunks; starting the worlds", args.trunks);
    let report = Arc::new(Report::new(count, args.trunks, args.logs.clone()));
    // The longest first, so that no lane is left alone with one.
    let mut standalone = chosen.standalone;
    standalone.sort_by_key(|scenario| {
        std::cmp::Reverse(scenario.steps.iter().map(|step| step.lasts).sum::<std::time::Duration>())
    });
    let queue = Arc::new(Mutex::new(VecDeque::from(standalone)));
    let mut of_operator = Some(VecDeque::from(chosen.operator));
    let lanes = join_all((0..lanes).map(|_| {
        // One lane takes those of the operator, all in one world, before it joins in the others.
        let (of_operator, queue, report) =
            (of_operator.take().unwrap_or_default(), queue.clone(), report.clone());
        async move {
            operator::lane(of_operator, &report, args.trunks).await;
            standalone::lane(queue, &report, args.trunks).await;
        }
    }));
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt()).expect("SIGINT can be received"),
        signal(SignalKind::terminate()).expect("SIGTERM can be received"),
    );
    // What a lane had started is ended when it is dropped, here.
    let interrupted = tokio::select! {
        _ = lanes => false,
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    };
    let well = report.end();
    let gone = report::nothing_left().await;
    if interrupted {
        println!("interrupted");
        return ExitCode::from(130);
    }
    if well && gone { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
