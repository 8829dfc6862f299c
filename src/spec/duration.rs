//! Spans of time as a configuration has them: `60s`, `1m30s`, `1.5s`, or a bare number of seconds.

use std::time::Duration;

use jiff::{
    SignedDuration,
    fmt::friendly::{Spacing, SpanPrinter},
};

/// Reason that a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It cannot be read.
    #[error("not a duration")]
    Unreadable,
    /// It is below zero, or beyond what can be held.
    #[error("out of bounds")]
    OutOfBounds,
}

/// Reads a duration (`60s`, `1m30s`, `1.5s`, `1h`) or a bare number of seconds.
///
/// # Errors
/// See [`DurationError`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    if bare.starts_with(|c: char| c.is_ascii_digit()) && bare.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        return seconds(text.parse().map_err(|_| DurationError::Unreadable)?);
    }
    let signed: SignedDuration = text.parse().map_err(|_| DurationError::Unreadable)?;
    Duration::try_from(signed).map_err(|_| DurationError::OutOfBounds)
}

/// A number of seconds as a duration, exact to the nanosecond.
///
/// # Errors
/// When it is below zero or too large.
pub fn seconds(number: f64) -> Result<Duration, DurationError> {
    Duration::try_from_secs_f64(number).map_err(|_| DurationError::OutOfBounds)
}

/// Writes a duration in the form that [`parse`] reads: `1m30s`.
pub fn show(duration: Duration) -> String {
    static PRINTER: SpanPrinter = SpanPrinter::new().spacing(Spacing::None);
    PRINTER.unsigned_duration_to_string(&duration)
}
