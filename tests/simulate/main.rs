//! The simulation: the real driver, engine and election on simulated time, in worlds of which every fault is
//! drawn from a seed. `make simulate SEEDS=N`. [`faults`] has what happens, [`checks`] what is checked, and
//! [`model`] what the checks know; README.md says how to add to each.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::cast_precision_loss)]

mod arriving;
mod checks;
mod contacts;
mod dependencies;
mod faults;
mod field;
mod history;
mod lease;
mod model;
mod network;
mod process;
mod process_state;
mod registrar;
mod regressions;
mod rules;
mod runs;
mod seed;
mod travel;
mod trunks;
mod users;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    runs::main()
}
