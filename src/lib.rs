//! Keeps the SIP registrations of Routr's trunks alive.
pub mod config;
pub mod engine;
pub mod environment;
pub mod grpc;
pub mod ports;
pub mod proto;
pub mod registration;
pub mod secret;
pub mod spec;
pub mod trunk;
