//! The operator as a process, on a real control plane, installed by its chart and running as the chart's ServiceAccount.

mod crowds;
mod deleting;
mod eyes;
mod faults;
mod ha;
mod handed_on;
mod identity;
mod lease;
mod life;
mod many;
mod one_redis;
mod outages;
mod reconciling;
mod replicas;
mod resource;
mod rights;
mod secrets;
pub mod stage;
mod suspending;
mod table;
