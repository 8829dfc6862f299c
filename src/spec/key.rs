//! One key of the document as data: what may stand there, its default and its bounds. The table of all keys
//! is [`super::rules::KEYS`].

use std::{borrow::Cow, time::Duration};

use serde_json::{Value, json};

use super::duration;

/// Default and bounds of a duration.
pub(crate) struct DurationRange {
    pub(crate) default: Duration,
    pub(crate) least: Duration,
    pub(crate) most: Duration,
    /// True where a fraction of a second is an error.
    pub(crate) whole_seconds: bool,
}

impl DurationRange {
    pub(super) const fn of(default_s: u64, least_s: u64, most_s: u64) -> Self {
        Self {
            default: Duration::from_secs(default_s),
            least: Duration::from_secs(least_s),
            most: Duration::from_secs(most_s),
            whole_seconds: false,
        }
    }

    pub(super) const fn whole_seconds(mut self) -> Self {
        self.whole_seconds = true;
        self
    }

    /// Returns what would be right.
    pub(crate) fn hint(&self) -> String {
        format!(
            "write a duration from {} to {}, such as {}, or a number of seconds",
            duration::show(self.least),
            duration::show(self.most),
            duration::show(self.default)
        )
    }
}

/// Default and bounds of a whole number.
pub(crate) struct WholeRange {
    pub(crate) default: i64,
    pub(crate) least: i64,
    pub(crate) most: i64,
}

impl WholeRange {
    /// Returns what would be right.
    pub(crate) fn hint(&self) -> String {
        format!("write a whole number from {} to {}", self.least, self.most)
    }
}

/// Default and bounds of REGISTERs per second.
pub(crate) struct RateRange {
    pub(crate) default: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl RateRange {
    /// Returns what would be right.
    pub(crate) fn hint(&self) -> String {
        format!(
            "write a number of REGISTERs per second from {} to {}, or the word {UNLIMITED}",
            self.least, self.most
        )
    }
}

/// The rate without a bound.
pub(crate) const UNLIMITED: &str = "unlimited";

/// Shape of a value.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A text, judged by [`crate::config`] and by the rules at its field.
    Text,
    /// A text of at most that many characters, not blank, without control characters.
    Line(u32),
    /// A list of texts; with what would be right for one.
    Texts(&'static str),
    /// A duration, or a number of seconds.
    Duration(&'static DurationRange),
    /// A whole number.
    Whole(&'static WholeRange),
    /// REGISTERs per second, or [`UNLIMITED`].
    Rate(&'static RateRange),
    /// One of these.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// More keys.
    Mapping,
    /// A mapping of which only the named keys have a meaning, and any other is accepted.
    OpenMapping,
    /// A list of mappings.
    Mappings,
    /// Name and key of a Secret.
    SecretKey,
}

/// Value that holds where a key is left out or null.
#[derive(Clone, Copy)]
pub(crate) enum KeyDefault {
    /// None: leaving it out is an error.
    Required,
    /// That of the range, for a duration, a whole number and a rate.
    OfRange,
    /// A value that could be written.
    Is(fn() -> Value),
    /// Words for what no value says.
    Words(&'static str),
}

/// One key of the document.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    /// Path: `spec.edgePorts[].address`.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: KeyDefault,
    /// Bounds in words, for a kind that does not know them, or where docs/configuration.md has them (`see`).
    pub(crate) bounds: &'static str,
    /// Values in the example with every key, as YAML; several where it stands in the items of a list.
    pub(crate) example: &'static [&'static str],
    /// True where a file may not have it.
    pub(crate) only_in_kubernetes: bool,
    /// True where values in the mapping may hold a password.
    pub(crate) hides_values: bool,
    hint: &'static str,
}

impl Key {
    const fn new(path: &'static str, kind: Kind, default: KeyDefault) -> Self {
        Self {
            path,
            kind,
            default,
            bounds: "",
            example: &[],
            only_in_kubernetes: false,
            hides_values: false,
            hint: "",
        }
    }

    pub(super) const fn text(path: &'static str, hint: &'static str) -> Self {
        Self::new(path, Kind::Text, KeyDefault::Words("none")).hint_of(hint)
    }

    pub(super) const fn line(path: &'static str, most: u32, hint: &'static str) -> Self {
        Self::new(path, Kind::Line(most), KeyDefault::Words("none")).hint_of(hint)
    }

    pub(super) const fn texts(path: &'static str, hint: &'static str, item: &'static str) -> Self {
        Self::new(path, Kind::Texts(item), KeyDefault::Is(|| json!([]))).hint_of(hint)
    }

    pub(super) const fn duration(path: &'static str, range: &'static DurationRange) -> Self {
        Self::new(path, Kind::Duration(range), KeyDefault::OfRange)
    }

    pub(super) const fn whole(path: &'static str, range: &'static WholeRange) -> Self {
        Self::new(path, Kind::Whole(range), KeyDefault::OfRange)
    }

    pub(super) const fn rate(path: &'static str, range: &'static RateRange) -> Self {
        Self::new(path, Kind::Rate(range), KeyDefault::OfRange)
    }

    pub(super) const fn word(path: &'static str, words: &'static [&'static str]) -> Self {
        Self::new(path, Kind::Word(words), KeyDefault::Words("none"))
    }

    pub(super) const fn flag(path: &'static str) -> Self {
        Self::new(path, Kind::Flag, KeyDefault::Is(|| json!(false)))
    }

    pub(super) const fn mapping(path: &'static str) -> Self {
        Self::new(path, Kind::Mapping, KeyDefault::Words(SEE_BELOW))
    }

    pub(super) const fn open_mapping(path: &'static str) -> Self {
        Self::new(path, Kind::OpenMapping, KeyDefault::Words("none"))
    }

    pub(super) const fn mappings(path: &'static str, hint: &'static str) -> Self {
        Self::new(path, Kind::Mappings, KeyDefault::Required).hint_of(hint)
    }

    pub(super) const fn secret_key(path: &'static str) -> Self {
        Self::new(path, Kind::SecretKey, KeyDefault::Words("none")).only_in_kubernetes()
    }

    pub(super) const fn hint_of(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.default = KeyDefault::Required;
        self
    }

    /// Its default as a value.
    pub(super) const fn is(mut self, default: fn() -> Value) -> Self {
        self.default = KeyDefault::Is(default);
        self
    }

    /// Its default in words.
    pub(super) const fn otherwise(mut self, words: &'static str) -> Self {
        self.default = KeyDefault::Words(words);
        self
    }

    pub(super) const fn bounds(mut self, words: &'static str) -> Self {
        self.bounds = words;
        self
    }

    pub(super) const fn example(mut self, values: &'static [&'static str]) -> Self {
        self.example = values;
        self
    }

    pub(super) const fn only_in_kubernetes(mut self) -> Self {
        self.only_in_kubernetes = true;
        self
    }

    pub(super) const fn hides_values(mut self) -> Self {
        self.hides_values = true;
        self
    }

    /// Path of the mapping that it stands in: `spec.edgePorts[]`; empty for the document itself.
    pub(crate) fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// Last part of its path.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// True where leaving it out is an error.
    pub(crate) fn is_required(&self) -> bool {
        matches!(self.default, KeyDefault::Required)
    }

    /// Returns what would be right.
    pub(crate) fn hint(&self) -> Cow<'static, str> {
        match self.kind {
            Kind::Duration(range) => range.hint().into(),
            Kind::Whole(range) => range.hint().into(),
            Kind::Rate(range) => range.hint().into(),
            Kind::Word(words) => format!("write {}", words.join(" or ")).into(),
            Kind::Flag => "write true or false".into(),
            _ => self.hint.into(),
        }
    }

    /// The default as a value, where one says it. A number is whole, because a resource has no other.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn default_value(&self) -> Option<Value> {
        match (self.default, self.kind) {
            (KeyDefault::Is(value), _) => Some(value()),
            (KeyDefault::OfRange, Kind::Duration(range)) => {
                Some(json!(format!("{}s", range.default.as_secs())))
            }
            (KeyDefault::OfRange, Kind::Whole(range)) => Some(json!(range.default)),
            (KeyDefault::OfRange, Kind::Rate(range)) => Some(json!(range.default as i64)),
            _ => None,
        }
    }

    /// The default for people, a value in backquotes; `None` where there has to be a value.
    pub(crate) fn default_text(&self) -> Option<String> {
        match (self.default_value(), self.default) {
            (Some(Value::Object(_)), _) => Some(SEE_BELOW.to_owned()),
            (Some(value), _) => Some(format!("`{}`", shown(&value))),
            (None, KeyDefault::Words(words)) => Some(words.to_owned()),
            (None, _) => None,
        }
    }

    /// Returns the description of a resource's field: its meaning, where and within which bounds it holds,
    /// and its default.
    pub(super) fn description(&self, meaning: &str) -> String {
        let mut text =
            if self.only_in_kubernetes { "In Kubernetes only. ".to_owned() } else { String::new() };
        text += meaning;
        if let Some((least, most)) = self.range() {
            let form = match self.kind {
                Kind::Duration(_) => "A duration (`60s`, `1m30s`) or a number of seconds, ",
                _ => "",
            };
            text += &format!(" {form}{least} to {most}.");
        }
        if !self.bounds.is_empty() && !self.bounds.starts_with("see ") {
            let (first, rest) = self.bounds.split_at(1);
            text += &format!(" {}{rest}.", first.to_uppercase());
        }
        match self.default_text() {
            Some(default) if default != SEE_BELOW => format!("{text} Default: {default}."),
            _ => text,
        }
    }

    /// Least and most, where its kind has them.
    pub(crate) fn range(&self) -> Option<(String, String)> {
        match self.kind {
            Kind::Duration(range) => Some((duration::show(range.least), duration::show(range.most))),
            Kind::Whole(range) => Some((range.least.to_string(), range.most.to_string())),
            Kind::Rate(range) => Some((range.least.to_string(), range.most.to_string())),
            _ => None,
        }
    }
}

/// Default of a mapping whose keys have defaults of their own.
const SEE_BELOW: &str = "see below";

/// A value for people: a text without quotes, a list in brackets.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
