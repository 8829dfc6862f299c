//! The operator as a process, on a real control plane, installed by its chart and running as the chart's ServiceAccount.

mod deleting;
mod eyes;
mod life;
mod reconciling;
mod stage;
mod table;
