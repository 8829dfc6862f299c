//! The operator as a process, on a real control plane, installed by its chart and running as the chart's ServiceAccount.

mod lease;
mod life;
mod resource;
mod stage;
