//! Keeps the SIP registrations of Routr's trunks alive.
pub mod config;
pub mod engine;
pub mod environment;
pub mod ports;
pub mod proto;
pub mod secret;
pub mod store;
pub mod trunk;
