//! The engine on simulated time, with faults; and its driver on paused tokio time.

mod calls;
mod checks;
mod doubts;
mod driver;
mod ending;
mod fakes;
mod field;
mod keeping;
mod late;
mod leaving_driver;
mod missing;
mod missing_driver;
mod outages;
mod random;
mod sending;
mod sharing;
mod sim;
mod spoilt;
mod trunks;
mod way;
mod world;
