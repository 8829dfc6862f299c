//! The driver on paused tokio time, with faults.

mod deregister_all_driver;
mod driver;
mod fakes;
mod late_store;
mod missing_driver;
mod store_change;
