//! Runs an engine on tokio: reads the trunks, sends REGISTERs, persists what must outlive the process.

pub mod clock;
pub mod driver;
pub mod handle;
mod persister;
pub mod ports;

#[cfg(test)]
mod tests;
