//! Keeps the SIP registrations of Routr's trunks alive.
pub mod admin;
pub mod client;
pub mod config;
pub mod devstack;
pub mod engine;
pub mod environment;
pub mod grpc;
pub mod metrics;
pub mod ports;
pub mod proto;
pub mod registration;
pub mod secret;
pub mod sip;
pub mod spec;
pub mod table;
pub mod telemetry;
pub mod trunk;
