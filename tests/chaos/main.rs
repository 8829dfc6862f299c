//! `make chaos`: the built program among real dependencies, all of which break in turn. Runs the real
//! registry with a real Redis, a real Kamailio, the embedded Requester and an API server, each a process of
//! its own on loopback, with 1,000 trunks.
//!
//! The operator runs as well, as two replicas on a real control plane: see `operator`.
//!
//! A scenario (`cases`) breaks something (`fault`) for a while. A watcher (`watch`) looks four times a second
//! at what the registry says, and each second at Kamailio's table; `truth` judges each look. In the end
//! everything has to be as before: one contact for each trunk, the same processes, their memory, descriptors
//! and use of the processor.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod cases;
mod datagrams;
mod fakes;
mod fault;
mod http;
mod link;
mod operator;
mod parts;
mod pokes;
mod report;
mod scenario;
#[allow(dead_code, unused_imports, reason = "the tests of tests/it need more of it")]
#[path = "../it/support/mod.rs"]
mod support;
mod truth;
mod vitals;
mod watch;
mod world;

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::Parser;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::signal::unix::{SignalKind, signal};

use report::Report;
use scenario::{Outcome, Scenario};
use world::World;

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
    /// How many scenarios run at a time, each in a world of its own.
    #[arg(long, default_value_t = 2)]
    lanes: usize,
    /// Trunks in each world.
    #[arg(long, default_value_t = 1_000)]
    trunks: usize,
    /// Where the logs of failed scenarios go.
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

/// What is to be played.
struct Chosen {
    standalone: Vec<Scenario>,
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
    let mut chosen = Chosen { standalone: cases::all(), operator: operator::all() };
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
            lane(queue, report, args.trunks).await;
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

/// Plays scenario after scenario in one world, and in a new one after a failure.
async fn lane(queue: Arc<Mutex<VecDeque<Scenario>>>, report: Arc<Report>, trunks: usize) {
    let mut world: Option<World> = None;
    loop {
        let Some(scenario) = queue.lock().expect("nobody panics here").pop_front() else { return };
        if world.is_none() {
            match AssertUnwindSafe(World::start(trunks)).catch_unwind().await {
                Ok(Ok(started)) => world = Some(started),
                Ok(Err(error)) => {
                    let wrong = vec![format!("the world did not start: {error}")];
                    report.add(&scenario.name, Outcome { wrong, ..Outcome::default() });
                    continue;
                }
                Err(panic) => {
                    let wrong = vec![format!("the world did not start: {}", words(&*panic))];
                    report.add(&scenario.name, Outcome { wrong, ..Outcome::default() });
                    continue;
                }
            }
        }
        let Some(stage) = world.as_mut() else { continue };
        let outcome = match AssertUnwindSafe(scenario::play(&scenario, stage)).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => Outcome { wrong: vec![words(&*panic)], ..Outcome::default() },
        };
        if !outcome.wrong.is_empty() {
            report.keep_logs(&scenario.name, stage.logs(), &outcome);
            world = None;
        }
        report.add(&scenario.name, outcome);
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic".to_owned())
}
