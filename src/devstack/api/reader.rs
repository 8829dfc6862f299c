//! Reads the fields of one resource, and notes what is wrong with each instead of stopping at the first.

use serde_json::{Map, Value};

use super::problem::Problem;

/// Most characters of a value that a problem shows.
const MAX_SHOWN_CHARS: usize = 60;
/// Keys at least this alike are taken for a slip of the pen (Jaro-Winkler, 0 to 1).
const MIN_SIMILARITY: f64 = 0.88;

/// A mapping somewhere in a resource.
#[derive(Clone)]
pub(super) struct Node<'v> {
    path: String,
    map: &'v Map<String, Value>,
}

impl<'v> Node<'v> {
    pub(super) fn root(map: &'v Map<String, Value>) -> Self {
        Self { path: String::new(), map }
    }

    /// The value of a key; a null counts as absent.
    fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Collects what is wrong with the resources of one file.
pub(super) struct Reader<'f> {
    file: &'f str,
    resource: String,
    /// Problems for which the file cannot be used.
    pub(super) problems: Vec<Problem>,
    /// Notes on values that can be used, but are probably not what was meant.
    pub(super) notes: Vec<Problem>,
}

impl<'f> Reader<'f> {
    pub(super) fn new(file: &'f str) -> Self {
        Self { file, resource: String::new(), problems: Vec::new(), notes: Vec::new() }
    }

    /// Names the resource that the following problems belong to.
    pub(super) fn enter(&mut self, resource: String) {
        self.resource = resource;
    }

    fn describe(&self, field: String, value: Option<&Value>, message: &str) -> Problem {
        // Whatever stands where a password belongs is one, be its type right or wrong.
        let secret =
            field.rsplit('.').next().is_some_and(|key| key.to_ascii_lowercase().contains("password"));
        let value = value.filter(|_| !secret).map(shown);
        Problem {
            file: self.file.to_owned(),
            resource: self.resource.clone(),
            field,
            value,
            message: message.to_owned(),
        }
    }

    pub(super) fn problem(&mut self, field: String, value: Option<&Value>, message: &str) {
        let problem = self.describe(field, value, message);
        self.problems.push(problem);
    }

    pub(super) fn note(&mut self, node: &Node<'_>, key: &str, message: &str) {
        let note = self.describe(node.path_of(key), node.get(key), message);
        self.notes.push(note);
    }

    /// Notes keys that look like one of `known` but are not.
    pub(super) fn slips(&mut self, node: &Node<'_>, known: &[&str]) {
        for key in node.map.keys().filter(|key| !known.contains(&key.as_str())) {
            let nearest = known
                .iter()
                .map(|name| {
                    (strsim::jaro_winkler(&key.to_ascii_lowercase(), &name.to_ascii_lowercase()), name)
                })
                .max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((likeness, name)) = nearest
                && likeness >= MIN_SIMILARITY
            {
                let note = self.describe(node.path_of(key), None, &format!("unknown, did you mean {name}?"));
                self.notes.push(note);
            }
        }
    }

    /// The text of a key, which may be absent.
    pub(super) fn text(&mut self, node: &Node<'_>, key: &str) -> Option<String> {
        match node.get(key)? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => {
                self.problem(node.path_of(key), Some(value), "must be text: put it in quotes");
                None
            }
            value => {
                self.problem(node.path_of(key), Some(value), "must be text");
                None
            }
        }
    }

    /// The text of a key, which must be there and not empty.
    pub(super) fn required(&mut self, node: &Node<'_>, key: &str, what: &str) -> Option<String> {
        match node.get(key) {
            None => self.problem(node.path_of(key), None, &format!("missing: {what}")),
            Some(Value::String(text)) if text.is_empty() => {
                self.problem(
                    node.path_of(key),
                    Some(&Value::String(String::new())),
                    &format!("must be {what}"),
                );
            }
            Some(_) => return self.text(node, key),
        }
        None
    }

    /// The whole number of a key, 0 where it is absent.
    pub(super) fn number(&mut self, node: &Node<'_>, key: &str) -> i32 {
        let Some(value) = node.get(key) else { return 0 };
        if let Some(number) = value.as_i64().and_then(|number| i32::try_from(number).ok()) {
            return number;
        }
        let message = match value {
            Value::String(_) => "must be a whole number, without quotes",
            _ => "must be a whole number of at most 2147483647",
        };
        self.problem(node.path_of(key), Some(value), message);
        0
    }

    /// The yes or no of a key, `None` where it is absent.
    pub(super) fn switch(&mut self, node: &Node<'_>, key: &str) -> Option<bool> {
        let value = node.get(key)?;
        if value.as_bool().is_none() {
            self.problem(node.path_of(key), Some(value), "must be true or false, without quotes");
        }
        value.as_bool()
    }

    /// The mapping of a key, which may be absent.
    pub(super) fn mapping<'v>(&mut self, node: &Node<'v>, key: &str) -> Option<Node<'v>> {
        self.node(node.path_of(key), node.get(key)?)
    }

    /// The mappings in the list of a key, which may be absent.
    pub(super) fn mappings<'v>(&mut self, node: &Node<'v>, key: &str) -> Vec<Node<'v>> {
        match node.get(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| self.node(format!("{}[{at}]", node.path_of(key)), item))
                .collect(),
            Some(value) => {
                self.problem(node.path_of(key), Some(value), "must be a list");
                Vec::new()
            }
        }
    }

    fn node<'v>(&mut self, path: String, value: &'v Value) -> Option<Node<'v>> {
        let Value::Object(map) = value else {
            self.problem(path, Some(value), "must be a mapping of names to values");
            return None;
        };
        Some(Node { path, map })
    }
}

/// A value as a problem shows it. Lists and mappings are only named: a password may stand in them.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::String(text) if text.chars().count() > MAX_SHOWN_CHARS => {
            format!("{:?}...", text.chars().take(MAX_SHOWN_CHARS).collect::<String>())
        }
        value => value.to_string(),
    }
}
