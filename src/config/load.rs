//! Finds the configuration file and reads it.

use std::{
    env,
    ffi::OsString,
    fmt::Write,
    io,
    path::{Path, PathBuf},
};

use super::{
    Config, document,
    files::{self, Disk, Files, Unread},
    map_reader::Findings,
    tree::{self, Format},
    validation_error::{ValidationError, ValidationErrors},
    validator::Validator,
};
use crate::spec::RegistryDocument;
use routr_types::text::count;

/// Names the file where `--config` does not.
pub const CONFIG_PATH: &str = "CONFIG_PATH";

/// Paths of the file where neither `--config` nor `CONFIG_PATH` names one; the first that exists is read.
pub const DEFAULT_PATHS: [&str; 3] =
    ["/etc/routr/registry.yaml", "/etc/routr/registry.yml", "/etc/routr/registry.json"];

/// Reason that there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error(
        "no configuration found: looked for {}; name a file with --config or {CONFIG_PATH}",
        list(.looked)
    )]
    NotFound {
        /// Paths that were tried.
        looked: Vec<PathBuf>,
    },
    /// The file is there, or was, and cannot be read.
    #[error("{}: cannot be read: {source}; it must be a file that this user may read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file is not good. Never shows a secret.
    #[error("{} {}", .path.display(), counted(.errors))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        errors: ValidationErrors,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}

fn counted(errors: &ValidationErrors) -> String {
    let mut text = format!("has {}:", count(errors.len() as u64, "mistake"));
    for mistake in errors.iter() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {mistake}");
    }
    text
}

/// Finds the file (`path`, else the environment's `CONFIG_PATH`, else [`DEFAULT_PATHS`]) and reads it,
/// together with the files that it points to. Relative paths in it begin at its own directory.
///
/// # Errors
/// See [`ConfigError`]; no text of it shows a secret.
pub fn load(path: Option<&Path>) -> Result<(PathBuf, Config), ConfigError> {
    load_document(path).map(|(found, _, config)| (found, config))
}

/// As [`load()`], with the document as it is written.
pub(super) fn load_document(path: Option<&Path>) -> Result<(PathBuf, RegistryDocument, Config), ConfigError> {
    let found = find(path, env::var_os(CONFIG_PATH), &DEFAULT_PATHS.map(Path::new))?;
    let (document, config) = read(&found)?;
    Ok((found, document, config))
}

/// The file to read; whether it is good is another question.
pub(super) fn find(
    path: Option<&Path>,
    variable: Option<OsString>,
    defaults: &[&Path],
) -> Result<PathBuf, ConfigError> {
    let named = path.map(Path::to_path_buf).or_else(|| variable.filter(|v| !v.is_empty()).map(PathBuf::from));
    let looked = match named {
        Some(named) => vec![named],
        None => defaults.iter().map(|path| path.to_path_buf()).collect(),
    };
    // A file that is there but may not be read is found: reading it will say why.
    let found = looked.iter().find(|path| !matches!(path.try_exists(), Ok(false))).cloned();
    found.ok_or(ConfigError::NotFound { looked })
}

fn read(path: &Path) -> Result<(RegistryDocument, Config), ConfigError> {
    let bytes =
        files::read(path).map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
    let base = path.parent().unwrap_or_else(|| Path::new(""));
    let parsed = match String::from_utf8(bytes) {
        Ok(text) => parse_with(&text, Format::of(path), &Disk { base }),
        Err(error) => Err(ValidationErrors::one(not_utf8(&error))),
    };
    parsed.map_err(|errors| ConfigError::Invalid { path: path.to_path_buf(), errors })
}

fn not_utf8(error: &std::string::FromUtf8Error) -> ValidationError {
    let good = error.utf8_error().valid_up_to();
    let newlines = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count();
    ValidationError {
        path: "the document".to_owned(),
        line: u32::try_from(newlines + 1).ok(),
        problem: "not UTF-8".to_owned(),
        value: None,
        hint: "save it as UTF-8".to_owned(),
    }
}

impl Format {
    /// Returns the format by the name of the file: JSON where it ends in `.json`, else YAML.
    pub fn of(path: &Path) -> Self {
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if json { Self::Json } else { Self::Yaml }
    }
}

/// Makes a configuration of a document, without looking at any file: paths in it are not checked, and a
/// password in a `passwordFile` is left out.
///
/// # Errors
/// All validation errors at once; none shows a secret.
pub fn parse(text: &str, format: Format) -> Result<Config, ValidationErrors> {
    parse_with(text, format, &Unread).map(|(_, config)| config)
}

fn parse_with(
    text: &str,
    format: Format,
    files: &dyn Files,
) -> Result<(RegistryDocument, Config), ValidationErrors> {
    let tree = tree::read(text, format).map_err(ValidationErrors::one)?;
    let mut findings = Findings::default();
    let document = document::read(&mut findings, tree);
    let Findings { errors, blamed, lines } = findings;
    let mut validator = Validator { files, secrets: None, blamed, lines, errors };
    match document {
        Some(document) => {
            let config = validator.document(&document);
            ValidationErrors::none_or(validator.errors, (document, config))
        }
        None => Err(ValidationErrors::all(validator.errors)),
    }
}
