//! Finds cases: those that the program has with it, and those of a folder.

use std::path::{Path, PathBuf};

use super::case::{Case, CaseError};

include!(concat!(env!("OUT_DIR"), "/field_cases.rs"));

/// Reason that cases cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file is no case.
    #[error("{file}: {source}")]
    Case {
        /// The file.
        file: String,
        /// Problem with the case.
        source: CaseError,
    },
    /// A folder or a file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The path.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// Two files have one name.
    #[error("{file}: name: {name:?} is the name of another case too")]
    Twice {
        /// The file.
        file: String,
        /// The name.
        name: String,
    },
    /// No case has that name.
    #[error("no case is named {name:?}{hint}")]
    Unknown {
        /// The name.
        name: String,
        /// Names that may be meant.
        hint: String,
    },
}

/// One case and its file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The case.
    pub case: Case,
    /// The text of its file.
    pub text: String,
}

/// Cases by name.
#[derive(Clone, Debug, Default)]
pub struct Library(Vec<Entry>);

impl Library {
    /// The cases that the program has with it.
    ///
    /// # Errors
    /// When one of them is no case; a test keeps that from happening.
    pub fn embedded() -> Result<Self, LibraryError> {
        let mut library = Self::default();
        for (file, text) in FIELD_CASES {
            library.add(file, text)?;
        }
        library.sort();
        Ok(library)
    }

    /// The cases of all `*.yaml` and `*.yml` files of a folder.
    ///
    /// # Errors
    /// When a file cannot be read or is no case, with its name.
    pub fn folder(folder: &Path) -> Result<Self, LibraryError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| LibraryError::Read { path, source }
        };
        let mut library = Self::default();
        for entry in std::fs::read_dir(folder).map_err(read(folder))? {
            let path = entry.map_err(read(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                let text = std::fs::read_to_string(&path).map_err(read(&path))?;
                library.add(&path.display().to_string(), &text)?;
            }
        }
        library.sort();
        Ok(library)
    }

    /// All cases, by name.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The case of that name, in any case of letters.
    ///
    /// # Errors
    /// When there is none, with those that begin so, or are nearly so named.
    pub fn find(&self, name: &str) -> Result<&Entry, LibraryError> {
        let found = self.0.iter().find(|entry| entry.case.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let lower = name.to_ascii_lowercase();
            let names = || self.0.iter().map(|entry| entry.case.name.as_str());
            let begin: Vec<&str> = names()
                .filter(|other| other.to_ascii_lowercase().starts_with(&format!("{lower}-")))
                .collect();
            let like = |other: &str| strsim::jaro_winkler(&other.to_ascii_lowercase(), &lower);
            let nearest = names().max_by(|a, b| like(a).total_cmp(&like(b)));
            let hint = match (begin.as_slice(), nearest) {
                ([], Some(nearest)) => format!("; did you mean {nearest}? `devstack list` shows all"),
                ([], None) => "; there are none".to_owned(),
                (several, _) => format!("; there are {}", several.join(", ")),
            };
            LibraryError::Unknown { name: name.to_owned(), hint }
        })
    }

    fn add(&mut self, file: &str, text: &str) -> Result<(), LibraryError> {
        let case =
            Case::parse(text).map_err(|source| LibraryError::Case { file: file.to_owned(), source })?;
        if self.0.iter().any(|entry| entry.case.name.eq_ignore_ascii_case(&case.name)) {
            return Err(LibraryError::Twice { file: file.to_owned(), name: case.name });
        }
        self.0.push(Entry { case, text: text.to_owned() });
        Ok(())
    }

    /// Sorts by row: its letter, its number, then the rest.
    fn sort(&mut self) {
        self.0.sort_by_cached_key(|entry| {
            let name = entry.case.name.clone();
            let letters: String = name.chars().take_while(|c| !c.is_ascii_digit()).collect();
            let digits: String = name[letters.len()..].chars().take_while(char::is_ascii_digit).collect();
            (letters, digits.parse::<u64>().unwrap_or(0), name)
        });
    }
}
