//! Problems of resource files, worded so that a person can fix them.

use std::fmt;

/// Most problems that are listed one by one.
const LISTED: usize = 20;

/// One problem in a resource file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Name of the file.
    pub file: String,
    /// The resource: its kind and ref, or its place in the file; empty where the file as a whole is meant.
    pub resource: String,
    /// Path of the field in the resource; empty where the resource as a whole is meant.
    pub field: String,
    /// The value as it stands there; absent where there is none, or where it is a secret.
    pub value: Option<String>,
    /// Problem in plain words, with the suggested correction.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for part in [&self.resource, &self.field] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        if let Some(value) = &self.value {
            write!(f, ": {value}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Several problems, one a line; only the first twenty are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().take(LISTED).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.0.len().checked_sub(LISTED) {
            Some(more) if more > 0 => write!(f, "\nand {more} more"),
            _ => Ok(()),
        }
    }
}
