//! Redis in every state at a start, and in every form that it is run in.

mod cluster;
mod deployments;
mod harness;
mod owner;
mod restarts;
