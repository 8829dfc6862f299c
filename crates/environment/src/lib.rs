//! The wall clock and the random source of the running process. They are read here and nowhere else
//! (clippy.toml bans the calls), so that everything else can be tested on simulated time and seeded
//! randomness.
#![allow(clippy::disallowed_methods)]

#[cfg(feature = "testing")]
pub mod testing;

use std::time::{SystemTime, UNIX_EPOCH};

/// The real clock and the real randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

/// Wall-clock time in milliseconds since the Unix epoch; 0 before it.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// A number that cannot be guessed.
pub fn random() -> u64 {
    rand::random()
}
