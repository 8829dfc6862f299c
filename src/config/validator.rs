//! Checks that the values of many keys have in common. Each collects its validation errors.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::spec::{Quantity, RegistryDocument};

use super::{
    Config, Secrets,
    duration::{self, DurationError},
    files::Files,
    rules::{self, DurationRange, WholeRange, hint},
    validation_error::{ValidationError, show},
};

/// Collects what is wrong with the values.
pub(super) struct Validator<'a> {
    pub(super) files: &'a dyn Files,
    /// Content of a resource's Secrets; `None` for a document that is no Kubernetes resource.
    pub(super) secrets: Option<&'a Secrets>,
    /// Paths that need no second error.
    pub(super) blamed: HashSet<String>,
    pub(super) lines: HashMap<String, u32>,
    pub(super) errors: Vec<ValidationError>,
}

impl Validator<'_> {
    pub(super) fn wrong(
        &mut self,
        path: &str,
        problem: impl Into<String>,
        value: Option<String>,
        hint: &str,
    ) {
        // The path and all that it is in; a document may have many of both.
        let ends = path.match_indices(['.', '[']).map(|(at, _)| at).chain([path.len()]);
        if ends.map(|end| &path[..end]).any(|outer| self.blamed.contains(outer)) {
            return;
        }
        self.errors.push(ValidationError {
            path: path.to_owned(),
            line: self.lines.get(path).copied().filter(|line| *line > 0),
            problem: problem.into(),
            value,
            hint: hint.to_owned(),
        });
    }

    /// Validates the whole document. Where there are errors, placeholders stand for the values at fault.
    pub(super) fn document(&mut self, document: &RegistryDocument) -> Config {
        if !matches!(document.kind.as_str(), "Registry" | "registry") {
            self.wrong("kind", "another kind of document", Some(show(&document.kind)), hint::KIND);
        }
        if !matches!(document.api_version.as_str(), "v2beta1" | "routr.io/v2beta1") {
            let given = show(&document.api_version);
            self.wrong("apiVersion", "another version", Some(given), hint::API_VERSION);
        }
        let name = document.metadata.as_ref().and_then(|metadata| metadata.name.as_deref());
        self.spec(name.unwrap_or(rules::NAME), &document.spec)
    }

    /// Reports the key at `path` where this is no resource.
    pub(super) fn only_in_kubernetes(&mut self, path: &str) {
        if self.secrets.is_none() {
            self.wrong(path, rules::ONLY_IN_KUBERNETES, None, hint::ONLY_IN_KUBERNETES);
        }
    }

    pub(super) fn duration(
        &mut self,
        path: &str,
        given: Option<&Quantity>,
        span: &DurationRange,
    ) -> Duration {
        let Some(given) = given else { return span.default };
        let (read, shown) = match given {
            #[allow(clippy::cast_precision_loss)]
            Quantity::Whole(number) => (
                u64::try_from(*number).map(Duration::from_secs).map_err(|_| DurationError::OutOfBounds),
                number.to_string(),
            ),
            Quantity::Number(number) => (duration::seconds(*number), format!("{number:?}")),
            Quantity::Text(text) => (duration::parse(text), show(text)),
        };
        let read = read.and_then(|duration| match duration {
            duration if (span.least..=span.most).contains(&duration) => Ok(duration),
            _ => Err(DurationError::OutOfBounds),
        });
        match read {
            Ok(duration) => {
                if span.whole_seconds && duration.subsec_nanos() != 0 {
                    let given = duration::show(duration);
                    self.wrong(path, "not a whole number of seconds", Some(given), &span.hint());
                }
                duration
            }
            Err(error) => {
                self.wrong(path, error.to_string(), Some(shown), &span.hint());
                span.default
            }
        }
    }

    pub(super) fn whole(&mut self, path: &str, given: Option<i64>, range: &WholeRange) -> i64 {
        let Some(number) = given else { return range.default };
        if (range.least..=range.most).contains(&number) {
            return number;
        }
        self.wrong(path, "out of bounds", Some(number.to_string()), &range.hint());
        range.default
    }

    /// Each must be a token (RFC 3261 §25.1), and none a repetition.
    pub(super) fn tokens(&mut self, path: &str, all: &[String], given: &[String], problem: &str, hint: &str) {
        let mut seen = HashMap::new();
        for (index, (text, given)) in all.iter().zip(given).enumerate() {
            let path_of = |index: usize| format!("{path}[{index}]");
            let first = *seen.entry(text.to_ascii_lowercase()).or_insert(index);
            if !is_token(text) {
                self.wrong(&path_of(index), problem, Some(show(given)), hint);
            } else if first < index {
                let problem = format!("the same as {}", path_of(first));
                self.wrong(&path_of(index), problem, Some(show(given)), "remove one of them");
            }
        }
    }
}

/// Something to read, that cannot break a header field.
pub(super) fn is_text(text: &str, most: u32) -> bool {
    !text.trim().is_empty() && text.chars().count() <= most as usize && !text.chars().any(char::is_control)
}

/// `token` of RFC 3261 §25.1.
fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}
