//! The operator as a process, on a real control plane, installed by its chart and running as the chart's ServiceAccount.

mod crowds;
mod deleting;
mod eyes;
mod faults;
mod lease;
mod life;
mod many;
mod reconciling;
mod resource;
mod secrets;
mod stage;
mod suspending;
mod table;
