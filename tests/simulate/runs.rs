//! The command line, the threads, and the table at the end.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use clap::{Parser, builder::PossibleValuesParser};

use crate::{
    checks::{Invariant, mutants::Mutant},
    history::Log,
    regressions,
    seed::{self, Outcome},
    world::Tally,
};

/// Invariants that do not count.
static LEFT_OUT: OnceLock<Vec<String>> = OnceLock::new();
/// Lines of a failing history that are shown.
const SHOWN: usize = 40;
/// Seeds that are run twice, in another order and on another thread, to see that their histories are the
/// same.
const TWICE: usize = 3;

/// Simulated days of the real driver.
#[derive(Parser)]
struct Args {
    /// Number of seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// One seed alone: prints its history and the verdict.
    #[arg(long)]
    seed: Option<u64>,
    /// Simulated days of each seed [default: 2 or 3, as the seed has it].
    #[arg(long)]
    days: Option<u64>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Leaves out the mutants, which show that each check can fail.
    #[arg(long)]
    no_self_test: bool,
    /// A mutant, by name: with --seed, to see what its check says.
    #[arg(long)]
    broken: Option<String>,
    /// An invariant to leave out, by name; may be given again.
    #[arg(long, value_parser = PossibleValuesParser::new(Invariant::ALL.map(Invariant::name)))]
    without: Vec<String>,
    /// Arguments that cargo test passes to every test binary.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    ignored: Vec<String>,
}

impl Args {
    /// Returns the arguments that a replay needs as well as the seed.
    fn days_again(&self) -> String {
        self.days.map_or_else(String::new, |days| format!(" ARGS='--days {days}'"))
    }
}

pub fn main() -> ExitCode {
    let args = Args::parse();
    if is_for_others(&args.ignored) {
        return ExitCode::SUCCESS;
    }
    seed::catch_panics();
    let _ = LEFT_OUT.set(args.without.clone());
    let _ = tracing::subscriber::set_global_default(Log);
    if let Some(number) = args.seed { replay(number, &args) } else { many(&args) }
}

/// Returns whether an invariant was left out on the command line.
pub fn is_left_out(invariant: &str) -> bool {
    LEFT_OUT.get().is_some_and(|all| all.iter().any(|one| one == invariant))
}

/// `cargo test NAME` and `cargo test -- --list` reach this binary too.
fn is_for_others(ignored: &[String]) -> bool {
    let names = |word: &String| !word.starts_with('-') && !"simulate".contains(word.as_str());
    ignored.iter().any(|word| word == "--list" || names(word))
}

fn replay(number: u64, args: &Args) -> ExitCode {
    let named = |name: &String| {
        Mutant::ALL.iter().find(|(broken, _)| format!("{broken:?}").eq_ignore_ascii_case(name))
    };
    let broken = args.broken.as_ref().and_then(named).map_or(Mutant::Nothing, |(broken, _)| *broken);
    let outcome = seed::run(number, args.days, broken, true);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(outcome.text.as_bytes());
    let _ = writeln!(
        out,
        "\nseed {number}: {:.1} days, {} lines, digest {:016x}",
        outcome.days, outcome.lines, outcome.digest
    );
    for violation in &outcome.violations {
        let _ = writeln!(out, "BROKEN «{}»: {}", violation.invariant.name(), violation.what);
    }
    if outcome.violations.is_empty() {
        let _ = writeln!(out, "every invariant held");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// Sums that all threads add to.
#[derive(Default)]
struct Sum {
    done: u64,
    days: f64,
    tally: Tally,
    failed: Vec<u64>,
    digests: BTreeMap<u64, u64>,
}

fn many(args: &Args) -> ExitCode {
    let began = wall_clock();
    let found = regressions::all();
    let mut seeds: Vec<u64> = (args.from..args.from + args.seeds).collect();
    seeds.extend(found.iter().filter(|seed| !(args.from..args.from + args.seeds).contains(seed)));
    let sum = Mutex::new(Sum::default());
    run_all(args, &seeds, &|outcome| add_outcome(&sum, outcome, seeds.len(), args));
    let took = began.elapsed().as_secs_f64();
    let mut sum = sum.into_inner().unwrap();
    progress(format_args!("the first seeds again, to compare ..."));
    let repeated = repeat(&sum, &seeds, args);
    let missed = if args.no_self_test { Vec::new() } else { self_test(args) };
    progress(format_args!(""));
    print_table(&sum, took, seeds.len());
    sum.failed.sort_unstable();
    let again = TWICE.min(seeds.len());
    let tested = if args.no_self_test { 0 } else { Mutant::ALL.len() };
    let noticed = tested - missed.len();
    println!("{:<36} {:>12}", "the same when repeated", format!("{} of {again}", again - repeated.len()));
    println!("{:<36} {:>12}", "mutants noticed", format!("{noticed} of {tested}"));
    for seed in &repeated {
        println!("seed {seed} has another history when it is repeated");
    }
    for (broken, invariant) in &missed {
        println!("the check «{}» does not notice the mutant {broken:?}", invariant.name());
    }
    if let Some(first) = sum.failed.first() {
        println!("{} of {} seeds failed: {:?}", sum.failed.len(), seeds.len(), sum.failed);
        println!("replay the first with: make simulate SEED={first}{}", args.days_again());
    }
    let good = sum.failed.is_empty() && repeated.is_empty() && missed.is_empty();
    if good {
        println!("every invariant held in every seed");
    }
    // As other suites end, for scripts/test.sh.
    let (passed, failed) = (seeds.len() - sum.failed.len() + noticed, sum.failed.len() + missed.len());
    println!(
        "\ntest result: {}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        if good { "ok" } else { "FAILED" },
        failed + repeated.len(),
        began.elapsed().as_secs_f64()
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The line that says where a run is, on a terminal: the next one replaces it.
fn progress(what: std::fmt::Arguments<'_>) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
        let _ = std::io::stderr().flush();
    }
}

/// Runs seeds on all threads.
fn run_all(args: &Args, seeds: &[u64], take: &(impl Fn(Outcome) + Sync)) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                while let Some(seed) =
                    seeds.get(usize::try_from(next.fetch_add(1, Relaxed)).unwrap_or(usize::MAX))
                {
                    take(seed::run(*seed, args.days, Mutant::Nothing, false));
                }
            });
        }
    });
}

fn add_outcome(sum: &Mutex<Sum>, outcome: Outcome, all: usize, args: &Args) {
    let mut sum = sum.lock().unwrap();
    sum.done += 1;
    sum.days += outcome.days;
    sum.digests.insert(outcome.seed, outcome.digest);
    add(&mut sum.tally.events, &outcome.tally.events);
    add(&mut sum.tally.checks, &outcome.tally.checks);
    if let Some(violation) = outcome.violations.first() {
        progress(format_args!(""));
        sum.failed.push(outcome.seed);
        let lines: Vec<&str> = outcome.text.lines().collect();
        // The first few in full, the others in a line.
        let shown = if sum.failed.len() <= 3 { SHOWN } else { 0 };
        for line in &lines[lines.len().saturating_sub(shown)..] {
            println!("    {}", line.chars().take(300).collect::<String>());
        }
        println!("seed {} broke «{}»: {}", outcome.seed, violation.invariant.name(), violation.what);
        println!("replay it with: make simulate SEED={}{}\n", outcome.seed, args.days_again());
    }
    let failed = sum.failed.len();
    progress(format_args!("{} of {all} seeds, {:.0} simulated days, {failed} failed ", sum.done, sum.days));
    if !std::io::stderr().is_terminal() && sum.done.is_multiple_of((all as u64 / 4).clamp(25, 500)) {
        println!("{} of {all} seeds, {:.0} simulated days, {failed} failed", sum.done, sum.days);
    }
}

fn add(to: &mut BTreeMap<&'static str, u64>, from: &BTreeMap<&'static str, u64>) {
    for (name, count) in from {
        *to.entry(name).or_default() += count;
    }
}

/// The first seeds again, alone on one thread after another one: their histories have to be the same to the
/// byte.
fn repeat(sum: &Sum, seeds: &[u64], args: &Args) -> Vec<u64> {
    let again = seeds.iter().take(TWICE).rev();
    again
        .filter(|seed| {
            sum.digests.get(seed) != Some(&seed::run(**seed, args.days, Mutant::Nothing, false).digest)
        })
        .copied()
        .collect()
}

/// Runs each mutant on a few seeds, until its check finds it.
fn self_test(args: &Args) -> Vec<(Mutant, Invariant)> {
    let missed = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                while let Some((broken, invariant)) =
                    Mutant::ALL.get(usize::try_from(next.fetch_add(1, Relaxed)).unwrap_or(usize::MAX))
                {
                    let finds = |seed| {
                        seed::run(seed, Some(1), *broken, false)
                            .violations
                            .iter()
                            .any(|v| v.invariant == *invariant)
                    };
                    if !(1..=60).any(finds) {
                        missed.lock().unwrap().push((*broken, *invariant));
                    }
                }
            });
        }
    });
    missed.into_inner().unwrap()
}

fn print_table(sum: &Sum, took: f64, seeds: usize) {
    let lists = [("what happened", "times", &sum.tally.events), ("invariant", "checked", &sum.tally.checks)];
    for (what, how, list) in lists {
        println!("\n{what:<36} {how:>12}");
        for (name, count) in list {
            println!("{name:<36} {count:>12}");
        }
    }
    println!();
    println!(
        "{seeds} seeds, {:.0} simulated days in {took:.1} s: {:.1} seeds per second, a day in {:.1} ms",
        sum.days,
        seeds as f64 / took,
        took * 1_000.0 / sum.days.max(0.001)
    );
}

/// Reads the real clock, to measure how long the run takes; nothing else does.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> Instant {
    Instant::now()
}
