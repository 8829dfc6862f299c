//! Conversion of the tree to the types of [`crate::spec`], by the table of keys.

use serde_json::{Map, Value};

use crate::spec::{
    RegistryDocument,
    key::{Key, Kind},
    rules::keys_of,
};

use super::{
    map_reader::{Findings, MapReader},
    tree::{self, Node},
    validation_error::show,
};

/// Reads the document; `None` where its shape leaves nothing to interpret. What is wrong goes to `findings`.
pub(super) fn read(findings: &mut Findings, node: Node) -> Option<RegistryDocument> {
    serde_json::from_value(value(findings, node)?)
        // Neither the value nor serde's words are shown: they may quote a password.
        .inspect_err(|_| findings.defect())
        .ok()
}

/// Reads the document as a value that has the shape of [`RegistryDocument`]; the empty text stands for a text
/// that is wrong and has to be there.
pub(super) fn value(findings: &mut Findings, node: Node) -> Option<Value> {
    findings.lines.insert(String::new(), node.line);
    let fields = MapReader::of(findings, "", node)?;
    let document = mapping(fields, &keys_of("").collect::<Vec<_>>(), false);
    document.contains_key("spec").then_some(Value::Object(document))
}

/// Reads a mapping with these keys.
fn mapping(mut fields: MapReader<'_>, keys: &[&'static Key], is_open: bool) -> Map<String, Value> {
    for key in keys.iter().filter(|key| key.only_in_kubernetes) {
        fields.only_in_kubernetes(key.name());
    }
    let mut all = Map::new();
    for key in keys.iter().filter(|key| !key.only_in_kubernetes) {
        if let Some(value) = field(&mut fields, key).or_else(|| placeholder(key)) {
            all.insert(key.name().to_owned(), value);
        }
    }
    if is_open {
        fields.accept_rest();
    }
    fields.finish();
    all
}

/// Returns what stands for a value that has to be there and is missing or wrong, so that the others are still
/// read.
fn placeholder(key: &Key) -> Option<Value> {
    match key.kind {
        _ if !key.is_required() => None,
        Kind::Mappings => Some(Value::Array(Vec::new())),
        Kind::Mapping | Kind::OpenMapping => None,
        _ => Some(Value::String(String::new())),
    }
}

fn field(fields: &mut MapReader<'_>, key: &'static Key) -> Option<Value> {
    let (path, node) = fields.take(key.name());
    let Some(node) = node else {
        if key.is_required() {
            fields.missing(&path, &key.hint());
        }
        return None;
    };
    match (key.kind, node.value) {
        (Kind::Mapping | Kind::OpenMapping, value) => {
            let mut inner = MapReader::of(fields.findings(), &path, Node { line: node.line, value })?;
            if key.hides_values {
                inner.hide_values();
            }
            let keys: Vec<_> = keys_of(key.path).collect();
            Some(mapping(inner, &keys, matches!(key.kind, Kind::OpenMapping)).into())
        }
        (Kind::Mappings, tree::Value::List(items)) => Some(mappings(fields, key, &path, items)),
        (Kind::Texts(hint), tree::Value::List(items)) => {
            let mut texts = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                let path = format!("{path}[{index}]");
                fields.findings().lines.insert(path.clone(), item.line);
                texts.push(text(fields, &path, item, hint, true).unwrap_or_default());
            }
            Some(texts.into())
        }
        (Kind::Word(words), value) => {
            let line = node.line;
            let given = text(fields, &path, Node { line, value }, &key.hint(), false)?;
            if !words.contains(&given.as_str()) {
                fields.wrong(&path, line, "unknown", Some(show(&given)), &key.hint());
                return None;
            }
            Some(given.into())
        }
        (Kind::Text | Kind::Line(_), value) => {
            // An optional text may well look like a number (a name, a path), and then needs quotes.
            let quotes = !key.is_required();
            text(fields, &path, Node { line: node.line, value }, &key.hint(), quotes).map(Value::from)
        }
        (Kind::Whole(_) | Kind::Duration(_) | Kind::Rate(_), tree::Value::Whole(number)) => {
            Some(number.into())
        }
        (Kind::Duration(_) | Kind::Rate(_), tree::Value::Number(number)) => Some(number.into()),
        (Kind::Duration(_) | Kind::Rate(_), tree::Value::Text(text)) => Some(text.into()),
        (Kind::Flag, tree::Value::Bool(flag)) => Some(flag.into()),
        (kind, value) => {
            fields.wrong_type(&path, &Node { line: node.line, value }, wanted(kind), &key.hint());
            None
        }
    }
}

/// The items of a list of mappings.
fn mappings(fields: &mut MapReader<'_>, key: &Key, path: &str, items: Vec<Node>) -> Value {
    let keys: Vec<_> = keys_of(&format!("{}[]", key.path)).collect();
    let mut all = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        fields.findings().lines.insert(path.clone(), item.line);
        all.push(match MapReader::of(fields.findings(), &path, item) {
            Some(inner) => mapping(inner, &keys, false),
            None => keys.iter().filter_map(|key| Some((key.name().to_owned(), placeholder(key)?))).collect(),
        });
    }
    all.into()
}

/// A text; `quotes` says that something else may have been meant as one, and needs quotes.
fn text(fields: &mut MapReader<'_>, path: &str, node: Node, hint: &str, quotes: bool) -> Option<String> {
    if let tree::Value::Text(text) = node.value {
        return Some(text);
    }
    let scalar = matches!(node.value, tree::Value::Bool(_) | tree::Value::Whole(_) | tree::Value::Number(_));
    let quoted = format!("{hint}, in quotes");
    fields.wrong_type(path, &node, "a text", if quotes && scalar { &quoted } else { hint });
    None
}

/// Returns what belongs there, in a message.
fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Line(_) | Kind::Word(_) => "a text",
        Kind::Texts(_) | Kind::Mappings => "a list",
        Kind::Duration(_) | Kind::Rate(_) => "a number or a text",
        Kind::Whole(_) => "a whole number",
        Kind::Flag => "true or false",
        Kind::Mapping | Kind::OpenMapping | Kind::SecretKey => "a mapping",
    }
}
