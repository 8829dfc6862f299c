//! The operator as a process, on a real control plane, installed by its chart and running as the chart's
//! ServiceAccount.

mod deleting;
mod failover_registrations;
mod faults;
pub mod harness;
mod identity;
mod kube_client;
mod leader_failover;
mod lease;
mod lifecycle;
mod many_registries;
mod outages;
mod reconciling;
mod replicas;
mod resource;
mod rights;
mod secrets;
mod shared_redis;
mod status_size;
mod suspending;
mod table;
