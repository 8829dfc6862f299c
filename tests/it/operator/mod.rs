//! The operator as a process, on a real control plane, installed by its chart and running as the chart's ServiceAccount.

mod ha;
mod handed_on;
mod lease;
mod life;
mod one_redis;
mod outages;
mod replicas;
mod resource;
mod stage;
