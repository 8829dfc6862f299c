//! The engine on simulated time, with faults; and its driver on paused tokio time.

mod call_failures;
mod checks;
mod concurrency;
mod field;
mod histories;
mod invalid_trunks;
mod missing_trunks;
mod operator_commands;
mod outages;
mod random;
mod scheduling;
mod shared_registrar;
mod sim;
mod trunks;
mod unconfirmed_bindings;
mod world;
