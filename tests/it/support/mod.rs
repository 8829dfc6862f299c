//! Base of the suites: real processes on loopback ports, and waiting by condition.

pub mod control_plane;
pub mod http;
pub mod installation;
pub mod kamailio;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod service;
pub mod wait;
