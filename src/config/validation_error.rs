//! Validation errors of a configuration, worded so that a person can fix it.

use std::fmt;

use routr_types::text::{escaped, one_line};

/// One validation error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationError {
    /// Path in the document: `spec.edgePorts[1].address`.
    pub path: String,
    /// The line, counted from 1, where it is known (YAML only).
    pub line: Option<u32>,
    /// Problem in plain words.
    pub problem: String,
    /// The value as it was given, unless it may hold a secret.
    pub value: Option<String>,
    /// Suggested correction.
    pub hint: String,
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key may be any text.
        f.write_str(&one_line(&self.path))?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": {}", one_line(&self.problem))?;
        if let Some(value) = &self.value {
            write!(f, ": {value}")?;
        }
        write!(f, "; {}", self.hint)
    }
}

/// All validation errors of one document, in its order; never empty. `Display` writes one on each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationErrors(Vec<ValidationError>);

impl ValidationErrors {
    /// Returns `Ok(value)` where there is no error, else all of them.
    pub(super) fn none_or<T>(found: Vec<ValidationError>, value: T) -> Result<T, Self> {
        if found.is_empty() { Ok(value) } else { Err(Self::all(found)) }
    }

    /// Makes one error of all; at least one, put in the order of their lines.
    pub(super) fn all(mut found: Vec<ValidationError>) -> Self {
        found.sort_by_key(|mistake| mistake.line);
        Self(found)
    }

    /// A document that has but one.
    pub(super) fn one(mistake: ValidationError) -> Self {
        Self(vec![mistake])
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &ValidationError> {
        self.0.iter()
    }

    /// Returns how many; at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for ValidationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ValidationErrors {}

/// Longest text that is shown whole.
const MAX_SHOWN_CHARS: usize = 80;

/// A given text in quotes, for a message. What may be a password by accident is not shown: a URI's user and
/// password before an `@`, what follows a `=`, and a text that speaks of a password.
pub(super) fn show(text: &str) -> String {
    let lower = text.to_lowercase();
    if lower.contains("passw") || lower.contains("secret") {
        return "(not shown: it may hold a password)".to_owned();
    }
    let (user, text) = match text.rsplit_once('@') {
        Some((_, after)) => ("***@", after),
        None => ("", text),
    };
    let (text, value) = match text.split_once('=') {
        Some((before, _)) => (before, "=***"),
        None => (text, ""),
    };
    format!("\"{user}{}{value}\"", escaped(text, MAX_SHOWN_CHARS))
}

/// The known word that was probably meant, if any is near.
pub(super) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&given, &word.to_lowercase()), *word))
        .filter(|(distance, word)| *distance <= given.chars().count().max(word.len()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Returns what to write instead of an unknown word.
pub(super) fn suggest(given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(word) => format!("did you mean {word}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}
