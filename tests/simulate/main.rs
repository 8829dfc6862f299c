//! The simulation: the real driver, engine and election on simulated time, in worlds of which every fault is
//! drawn from a seed. `make simulate SEEDS=N`. See the modules for what happens ([`script`]) and what is
//! checked ([`register_checks`], [`response_checks`], [`expectations`], [`registration_checks`],
//! [`view_checks`], [`fairness_checks`], [`credential_checks`], [`outage_checks`], [`binding_checks`]);
//! README.md says how to add to either.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::cast_precision_loss)]

mod arriving;
mod binding_checks;
mod calls;
mod contacts;
mod credential_checks;
mod dependencies;
mod edits;
mod expectations;
mod fairness_checks;
mod faults;
mod field;
mod history;
mod lease;
mod model;
mod mutants;
mod network;
mod outage_checks;
mod process;
mod process_state;
mod register_checks;
mod registrar;
mod registration_checks;
mod regressions;
mod response_checks;
mod rules;
mod runs;
mod script;
mod seed;
mod travel;
mod trunks;
mod view_checks;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    runs::main()
}
