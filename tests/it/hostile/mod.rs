//! Attacks: hostile tenants, providers and pods, against the real program. Each test is one that once broke through, or its kind.

mod addresses;
mod door;
mod leader;
mod memory;
mod tenants;
mod truth;
