//! Values that every part of the registry shares, and nothing else: no IO, no clock, no randomness.

pub mod digest_minimum;
pub mod error_text;
pub mod extension;
pub mod host;
pub mod secret;
pub mod text;
