//! YAML or JSON as a tree that still has its lines and its repeated keys, so that every error in it can be
//! reported.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    Error as YamlError, Spanned,
    granit_parser::ErrorKind,
    localizer::ExternalMessageSource,
    options::{DuplicateKeyPolicy, NonFiniteFloatPolicy},
};

use super::validation_error::ValidationError;

/// Format of a document. JSON is YAML too; naming it gives better words for a slip in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
}

/// A value and the line it begins at; 0 where that is not known. No `Debug`: it may hold a password.
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

/// Value of a node.
pub(super) enum Value {
    Null,
    Bool(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u32,
    pub(super) node: Node,
}

impl Value {
    /// Returns what it is, in a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Whole(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Deepest nesting; the document itself needs 4.
const MAX_DEPTH: usize = 32;
const TOO_MUCH: &str = "too large or too deeply nested";

/// Reads the text into a tree.
///
/// # Errors
/// The one error that keeps it from being read. It quotes nothing of the text, which may hold a password.
pub(super) fn read(text: &str, format: Format) -> Result<Node, ValidationError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Json => serde_json::from_str::<Raw<false>>(text)
            .map(|raw| Node { line: 0, value: raw.0 })
            .map_err(|error| json_mistake(&error)),
        Format::Yaml => {
            let options = serde_saphyr::options! {
                budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
                duplicate_keys: DuplicateKeyPolicy::PassThrough,
                non_finite_float_policy: NonFiniteFloatPolicy::AsString,
                strict_booleans: true,
                underscored_numbers_as_strings: true,
                leading_zero_numbers_as_strings: true,
                with_snippet: false,
            };
            serde_saphyr::from_str_with_options::<Spanned<Raw<true>>>(text, options)
                .map(Node::from)
                .map_err(|error| yaml_mistake(&error))
        }
    }
}

fn line(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn syntax(line: u32, problem: String, hint: &str) -> ValidationError {
    ValidationError {
        path: "the document".to_owned(),
        line: (line > 0).then_some(line),
        problem,
        value: None,
        hint: hint.to_owned(),
    }
}

fn json_mistake(error: &serde_json::Error) -> ValidationError {
    // serde_json's own words for a syntax error are fixed: they never quote the text.
    let problem = format!("not valid JSON ({error})");
    let at = u32::try_from(error.line()).unwrap_or(0);
    syntax(at, problem, "fix the JSON syntax at or just before this place")
}

fn yaml_mistake(error: &YamlError) -> ValidationError {
    let at = error.location().map_or(0, |place| line(place.line()));
    let words = match error.without_snippet() {
        YamlError::ExternalMessage { source, .. } => match source.as_ref() {
            ExternalMessageSource::Parser(scan) => match scan.kind() {
                // These carry a piece of the text.
                ErrorKind::Custom(_)
                | ErrorKind::InputIo { .. }
                | ErrorKind::InputDecoding { .. }
                | ErrorKind::UnexpectedCharacter { .. } => "a character that is not allowed there".to_owned(),
                ErrorKind::RecursionLimitExceeded => TOO_MUCH.to_owned(),
                kind => kind.to_string(),
            },
            _ => "it cannot be read".to_owned(),
        },
        YamlError::Eof { .. } => "it ends too early".to_owned(),
        YamlError::MultipleDocuments { .. } => "more than one document, separated by ---".to_owned(),
        YamlError::UnknownAnchor { .. } => "an alias (*name) without its anchor (&name)".to_owned(),
        YamlError::NullIntoString { .. } => "a key without a name".to_owned(),
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => TOO_MUCH.to_owned(),
        _ => "a construct that a configuration cannot contain".to_owned(),
    };
    syntax(
        at,
        format!("not valid YAML ({words})"),
        "fix the YAML syntax at or just before this line; put single quotes around a value that contains any \
         of : # * & ! % @ ` { [ or a quote",
    )
}

/// A value, with (YAML) or without (JSON) the lines of what is in it.
struct Raw<const LINES: bool>(Value);

impl<'de, const LINES: bool> Deserialize<'de> for Raw<LINES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor::<LINES>).map(Self)
    }
}

impl From<Raw<false>> for Node {
    fn from(raw: Raw<false>) -> Self {
        Self { line: 0, value: raw.0 }
    }
}

impl From<Spanned<Raw<true>>> for Node {
    fn from(spanned: Spanned<Raw<true>>) -> Self {
        Self { line: line(spanned.referenced.line()), value: spanned.value.0 }
    }
}

struct RawVisitor<const LINES: bool>;

impl<'de, const LINES: bool> Visitor<'de> for RawVisitor<LINES> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Whole(v))
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(i64::try_from(v).map_or(Value::Number(v as f64), Value::Whole))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Number(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        loop {
            let next = if LINES {
                list.next_element::<Spanned<Raw<true>>>()?.map(Node::from)
            } else {
                list.next_element::<Raw<false>>()?.map(Node::from)
            };
            match next {
                Some(node) => nodes.push(node),
                None => return Ok(Value::List(nodes)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        loop {
            let next = if LINES {
                map.next_entry::<Spanned<String>, Spanned<Raw<true>>>()?.map(|(key, node)| Entry {
                    line: line(key.referenced.line()),
                    key: key.value,
                    node: node.into(),
                })
            } else {
                map.next_entry::<String, Raw<false>>()?.map(|(key, node)| Entry {
                    line: 0,
                    key,
                    node: node.into(),
                })
            };
            match next {
                Some(entry) => entries.push(entry),
                None => return Ok(Value::Map(entries)),
            }
        }
    }
}
