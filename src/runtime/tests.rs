//! The driver on paused tokio time, with faults.

mod driver;
mod fakes;
mod late_store;
mod leaving_driver;
mod missing_driver;
mod store_change;
