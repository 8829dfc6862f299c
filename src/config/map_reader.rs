//! Reads keys out of a mapping and collects what is wrong with their shape: unknown, repeated and missing
//! keys, and values of the wrong type. What the values mean is the business of [`super::validator`].

use std::collections::{HashMap, HashSet};

use super::{
    parameters,
    rules::{self, hint},
    tree::{Entry, Node, Value},
    validation_error::{ValidationError, nearest, show, suggest},
};

/// Findings about a document while it is read.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<ValidationError>,
    /// Paths of values that are missing or of the wrong type: nothing more is reported of them.
    pub(super) blamed: HashSet<String>,
    /// Line at which each path begins.
    pub(super) lines: HashMap<String, u32>,
}

impl Findings {
    fn add_error(&mut self, path: &str, line: u32, problem: String, value: Option<String>, hint: &str) {
        self.blamed.insert(path.to_owned());
        self.report(path, line, problem, value, hint);
    }

    /// Reports that the table of keys and the types differ. Tests exclude it.
    pub(super) fn defect(&mut self) {
        let problem = "cannot be interpreted".to_owned();
        self.report("the document", 0, problem, None, "report this as a defect of routr-registry");
    }

    fn report(&mut self, path: &str, line: u32, problem: String, value: Option<String>, hint: &str) {
        self.errors.push(ValidationError {
            path: path.to_owned(),
            line: (line > 0).then_some(line),
            problem,
            value,
            hint: hint.to_owned(),
        });
    }
}

/// One mapping of the document. [`MapReader::finish`] must be called when all known keys have been asked for.
pub(super) struct MapReader<'d> {
    findings: &'d mut Findings,
    path: String,
    line: u32,
    /// True where values in here may hold a password.
    secret: bool,
    entries: Vec<Entry>,
    /// Keys given again, with their line and that of the first.
    repeated: Vec<(String, u32, u32)>,
    names: Vec<&'static str>,
}

impl<'d> MapReader<'d> {
    /// Returns the mapping that `node` must be; `None`, with an error, where it is not one.
    pub(super) fn of(findings: &'d mut Findings, path: &str, node: Node) -> Option<Self> {
        let Value::Map(given) = node.value else {
            let shown = if path.is_empty() { "the document" } else { path };
            let problem = format!("{} where a mapping belongs", node.value.kind());
            findings.add_error(
                shown,
                node.line,
                problem,
                None,
                "write `key: value` lines, indented under it",
            );
            return None;
        };
        let mut fields = Self {
            findings,
            path: path.to_owned(),
            line: node.line,
            secret: false,
            entries: Vec::new(),
            repeated: Vec::new(),
            names: Vec::new(),
        };
        let mut seen = HashMap::with_capacity(given.len());
        for entry in given {
            match seen.get(&entry.key) {
                None => {
                    seen.insert(entry.key.clone(), entry.line);
                    fields.entries.push(entry);
                }
                Some(earlier) => fields.repeated.push((entry.key, entry.line, *earlier)),
            }
        }
        Some(fields)
    }

    /// Returns where to report what is wrong.
    pub(super) fn findings(&mut self) -> &mut Findings {
        self.findings
    }

    /// Values in here may hold a password: none is shown from now on.
    pub(super) fn hide_values(&mut self) {
        self.secret = true;
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The key as it may be shown: one that is no plain name may be a slip with a password in it, as in
    /// `{ parameters: host=redis, password=... }`, where the comma begins a new key.
    fn safe(&self, key: &str) -> String {
        let plain: String =
            key.chars().take(64).take_while(|c| c.is_ascii_alphanumeric() || "_-./".contains(*c)).collect();
        let hidden = self.secret
            && nearest(&plain, &self.names).is_none()
            && nearest(&plain, &parameters::KEYS).is_none();
        match () {
            () if hidden => "***".to_owned(),
            // A path is never empty, and never ends in a point.
            () if key.is_empty() => "\"\"".to_owned(),
            () if plain.len() < key.len() => format!("{plain}***"),
            () => plain,
        }
    }

    /// The value of a key, with its path; `None` where it is missing or null.
    pub(super) fn take(&mut self, name: &'static str) -> (String, Option<Node>) {
        let path = self.join(name);
        self.names.push(name);
        let Some(at) = self.entries.iter().position(|entry| entry.key == name) else {
            self.findings.lines.insert(path.clone(), self.line);
            return (path, None);
        };
        let entry = self.entries.remove(at);
        self.findings.lines.insert(path.clone(), entry.line);
        let node = (!matches!(entry.node.value, Value::Null)).then_some(entry.node);
        (path, node)
    }

    /// Reports a value of another type than the wanted one.
    pub(super) fn wrong_type(&mut self, path: &str, node: &Node, wanted: &str, hint: &str) {
        let value = (!self.secret).then(|| shown(&node.value)).flatten();
        let problem = format!("{} where {wanted} belongs", node.value.kind());
        self.findings.add_error(path, node.line, problem, value, hint);
    }

    /// Reports a value, about which nothing more is said.
    pub(super) fn wrong(&mut self, path: &str, line: u32, problem: &str, value: Option<String>, hint: &str) {
        self.findings.add_error(path, line, problem.to_owned(), value, hint);
    }

    /// Reports a key that has to be there.
    pub(super) fn missing(&mut self, path: &str, hint: &str) {
        self.findings.add_error(path, self.line, "missing".to_owned(), None, hint);
    }

    /// Reports a key that is wrong in a file, even though a resource may have it.
    pub(super) fn only_in_kubernetes(&mut self, name: &str) {
        let path = self.join(name);
        if let Some(at) = self.entries.iter().position(|entry| entry.key == name) {
            let line = self.entries.remove(at).line;
            self.findings.report(
                &path,
                line,
                rules::ONLY_IN_KUBERNETES.to_owned(),
                None,
                hint::ONLY_IN_KUBERNETES,
            );
        }
    }

    /// Accepts whatever else there is.
    pub(super) fn accept_rest(&mut self) {
        self.entries.clear();
    }

    /// Reports the keys that were given twice, and those that no one asked for. Their values are never shown.
    pub(super) fn finish(mut self) {
        for (key, line, earlier) in std::mem::take(&mut self.repeated) {
            let problem = match earlier {
                0 => "given twice".to_owned(),
                earlier => format!("given twice, before in line {earlier}"),
            };
            let path = self.join(&self.safe(&key));
            self.findings.report(&path, line, problem, None, "keep one of them");
        }
        for entry in std::mem::take(&mut self.entries) {
            let path = self.join(&self.safe(&entry.key));
            let bare: String = entry.key.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            let hint = match parameters::KEYS.iter().find(|key| **key == bare) {
                Some(key) if self.secret => format!(
                    "write it inside the text of parameters, which takes quotes where it stands in braces: \
                     parameters: '{key}=...'"
                ),
                _ => suggest(&entry.key, &self.names),
            };
            self.findings.report(&path, entry.line, "unknown key".to_owned(), None, &hint);
        }
    }
}

/// A scalar as it was given. A text of the wrong type is not shown: a whole block may have become one, with a
/// password in it.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Bool(it) => Some(it.to_string()),
        Value::Whole(it) => Some(it.to_string()),
        Value::Number(it) => Some(format!("{it:?}")),
        Value::Text(it) if !it.contains(char::is_whitespace) => Some(show(it)),
        _ => None,
    }
}
