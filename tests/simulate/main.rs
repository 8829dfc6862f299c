//! The simulation: the real driver, engine and election on simulated time, in worlds of which every fault is drawn from a seed.
//! `make simulate SEEDS=N`. See the modules for what happens ([`script`]) and what is checked ([`sending`], [`answers`],
//! [`knowing`], [`watching`], [`views`], [`fairness`], [`offers`], [`outage`], [`belief`]); README.md says how to add to either.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::cast_precision_loss)]

mod answers;
mod arriving;
mod belief;
mod book;
mod broken;
mod calls;
mod contacts;
mod fairness;
mod faults;
mod field;
mod found;
mod history;
mod knowing;
mod lease;
mod life;
mod neighbours;
mod network;
mod offers;
mod outage;
mod people;
mod process;
mod registrar;
mod rules;
mod runs;
mod script;
mod seed;
mod sending;
mod travel;
mod trunks;
mod views;
mod watching;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    runs::main()
}
