//! The table of keys ([`rules::KEYS`]) against the types of [`crate::spec`], and what `make docs` writes of
//! both: sections of docs/configuration.md and of the fuzz dictionary.

use std::{collections::BTreeSet, fmt::Write, path::Path};

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::*;
use crate::spec::{
    RegistryDocument,
    key::{Key, Kind},
    rules::{KEYS, keys_of},
};

/// The schema of the document, without references.
fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<RegistryDocument>().to_value()
}

/// The schema itself, or what an optional one wraps.
fn bare(schema: &Value) -> &Value {
    schema["anyOf"].as_array().map_or(schema, |any| &any[0])
}

/// The schema of what stands at the path of a key.
fn at<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |outer, part| {
        let inner = &bare(outer)["properties"][part.trim_end_matches("[]")];
        if part.ends_with("[]") { &bare(inner)["items"] } else { inner }
    })
}

/// The path of each field of the types, but of those of a [`crate::spec::SecretKeyRef`].
fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let Some(properties) = bare(schema)["properties"].as_object() else { return };
    for (name, inner) in properties {
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !name.ends_with("SecretRef") {
            fields(inner, &here, found);
            fields(&bare(inner)["items"], &format!("{here}[]"), found);
        }
        found.insert(here);
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    let kind = &bare(schema)["type"];
    kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
}

/// The words of an enumeration, however schemars writes it.
fn words(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match schema {
        Value::Object(map) => {
            found.extend(map.get("const").and_then(Value::as_str).map(str::to_owned));
            let listed = map.get("enum").and_then(Value::as_array).into_iter().flatten();
            found.extend(listed.filter_map(Value::as_str).map(str::to_owned));
            found.extend(["anyOf", "oneOf"].iter().filter_map(|of| map.get(*of)).flat_map(words));
        }
        Value::Array(all) => found.extend(all.iter().flat_map(words)),
        _ => {}
    }
    found
}

#[test]
fn the_table_and_the_types_have_the_same_keys() {
    let schema = schema();
    let mut found = BTreeSet::new();
    fields(&schema, "", &mut found);
    let listed: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(listed, found, "each field of src/spec.rs has a row in KEYS of src/spec/rules.rs");
    assert_eq!(listed.len(), KEYS.len(), "a key stands twice in KEYS");
    for key in KEYS {
        let here = at(&schema, key.path);
        let good = match key.kind {
            Kind::Text | Kind::Line(_) => has_type(here, "string"),
            Kind::Texts(_) => has_type(here, "array") && has_type(&bare(here)["items"], "string"),
            Kind::Duration(_) | Kind::Rate(_) => bare(here)["x-kubernetes-int-or-string"] == true,
            Kind::Whole(_) => has_type(here, "integer"),
            Kind::Word(listed) => words(here) == listed.iter().map(|word| (*word).to_owned()).collect(),
            Kind::Flag => has_type(here, "boolean"),
            Kind::Mapping | Kind::OpenMapping | Kind::SecretKey => has_type(here, "object"),
            Kind::Mappings => has_type(here, "array") && has_type(&bare(here)["items"], "object"),
        };
        assert!(good, "{}: the kind in KEYS is not that of the type: {here:#}", key.path);
        let outer = if key.parent().is_empty() { &schema } else { at(&schema, key.parent()) };
        let required =
            bare(outer)["required"].as_array().is_some_and(|all| all.iter().any(|it| it == key.name()));
        assert_eq!(required, key.is_required(), "{}", key.path);
    }
}

/// Each kind knows good and bad values of its own: no key needs a test for them.
#[test]
fn every_range_is_kept_with_its_words() {
    let mut seen = 0;
    for key in KEYS {
        let Some((least, most)) = key.range() else { continue };
        seen += 1;
        let bad = match key.kind {
            Kind::Duration(range) => [0.0, range.most.as_secs_f64() + 1.0],
            _ => [0.0, most.parse::<f64>().unwrap() + 1.0],
        };
        let read = |value: &str| {
            let mut document: Value = serde_saphyr::from_str(LEAST).unwrap();
            let mut place = &mut document;
            for part in key.path.split('.') {
                place = &mut place[part];
            }
            *place = serde_saphyr::from_str(value).unwrap();
            parse(&document.to_string(), Format::Json)
        };
        for good in [least, most] {
            read(&good).unwrap_or_else(|errors| panic!("{}: {errors}", key.path));
        }
        for bad in bad {
            let shown = read(&format!("{bad}")).unwrap_err().to_string();
            let expected = format!("{}: out of bounds: {bad}; {}", key.path, key.hint());
            assert_eq!(shown, expected);
        }
        let shown = read("[]").unwrap_err().to_string();
        assert!(shown.starts_with(&format!("{}: a list where ", key.path)), "{shown}");
        assert!(shown.ends_with(&*key.hint()), "{shown}");
    }
    assert!(seen > 10, "{seen} keys with a range");
}

/// The first paragraph of the doc comment, as a cell of a table.
fn meaning(schema: &Value, key: &Key) -> String {
    let whole = at(schema, key.path)["description"].as_str().unwrap_or_else(|| panic!("{}", key.path));
    let first = whole.split("\n\n").next().unwrap().replace('\n', " ");
    assert!(!first.contains('|'), "{}: a bar would end the cell of the table", key.path);
    first.trim_end_matches('.').to_owned()
}

fn reference() -> String {
    let schema = schema();
    let mut text = "| key | meaning | default | bounds |\n|---|---|---|---|\n".to_owned();
    for key in KEYS.iter().filter(|key| !key.only_in_kubernetes) {
        let default = key.default_text().unwrap_or_else(|| "required".to_owned());
        let bounds = match key.range() {
            Some((least, most)) => format!("`{least}` to `{most}`"),
            None => key.bounds.to_owned(),
        };
        let bounds = if bounds.is_empty() { bounds } else { format!("{bounds} ") };
        writeln!(text, "| `{}` | {} | {default} | {bounds}|", key.path, meaning(&schema, key)).unwrap();
    }
    text
}

fn reference_of_a_resource() -> String {
    let schema = schema();
    let mut text = "| key | meaning | default |\n|---|---|---|\n".to_owned();
    for key in KEYS.iter().filter(|key| key.only_in_kubernetes) {
        let default = key.default_text().unwrap_or_else(|| "required".to_owned());
        writeln!(text, "| `{}` | {} | {default} |", key.path, meaning(&schema, key)).unwrap();
    }
    text
}

/// The document with an example of every key that a file may have.
fn example() -> String {
    let mut text = "```yaml\n".to_owned();
    write_example("", 0, &mut text);
    text + "```\n"
}

fn write_example(parent: &str, depth: usize, text: &mut String) {
    for key in keys_of(parent).filter(|key| !key.only_in_kubernetes) {
        let (indent, name) = ("  ".repeat(depth), key.name());
        match key.kind {
            Kind::Mapping | Kind::OpenMapping => {
                writeln!(text, "{indent}{name}:").unwrap();
                write_example(key.path, depth + 1, text);
            }
            Kind::Mappings => {
                writeln!(text, "{indent}{name}:").unwrap();
                let keys: Vec<&Key> = keys_of(&format!("{}[]", key.path)).collect();
                let items = keys.iter().map(|key| key.example.len()).max().unwrap_or_default();
                for item in 0..items {
                    let given: Vec<(&str, &str)> =
                        keys.iter().filter_map(|key| Some((key.name(), *key.example.get(item)?))).collect();
                    for (index, (name, value)) in given.into_iter().enumerate() {
                        let dash = if index == 0 { "- " } else { "  " };
                        writeln!(text, "{indent}  {dash}{name}: {value}").unwrap();
                    }
                }
            }
            _ => {
                let [value] = key.example else { panic!("{} has no example in KEYS", key.path) };
                writeln!(text, "{indent}{name}: {value}").unwrap();
            }
        }
    }
}

/// Words for libFuzzer: each key, and each word that a value may be.
fn dictionary() -> String {
    let mut all: Vec<String> = KEYS.iter().map(|key| format!("{}: ", key.name())).collect();
    all.extend(KEYS.iter().flat_map(|key| match key.kind {
        Kind::Word(words) => words.iter().map(|word| (*word).to_owned()).collect(),
        _ => Vec::new(),
    }));
    all.push(rules::UNLIMITED.to_owned());
    all.extend(parameters::KEYS.map(|key| format!("{key}=")));
    let mut seen = BTreeSet::new();
    all.retain(|word| seen.insert(word.clone()));
    all.iter().map(|word| format!("\"{word}\"\n")).collect()
}

/// Puts a text between the lines that begin and end the section of that name.
fn fill(text: &str, name: &str, filling: &str) -> String {
    let line = |word: &str| {
        let marked = |line: &&str| line.contains(&format!("{word} generated: {name}"));
        text.lines().find(marked).unwrap_or_else(|| panic!("no line `{word} generated: {name}`"))
    };
    let (before, rest) = text.split_once(line("begin")).unwrap();
    let (_, after) = rest.split_once(line("end")).unwrap();
    format!("{before}{}\n{filling}{}{after}", line("begin"), line("end"))
}

/// Writes the sections where `WRITE_GENERATED` is set, as `make docs` does; else they must be there already.
#[test]
fn what_make_docs_writes_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, sections) in [
        (
            "docs/configuration.md",
            &[
                ("example", example()),
                ("reference", reference()),
                ("reference of a resource", reference_of_a_resource()),
            ][..],
        ),
        ("fuzz/dictionaries/config.dict", &[("keys", dictionary())][..]),
    ] {
        let path = root.join(file);
        let there = std::fs::read_to_string(&path).unwrap();
        let right = sections.iter().fold(there.clone(), |text, (name, filling)| fill(&text, name, filling));
        if std::env::var_os("WRITE_GENERATED").is_some() {
            std::fs::write(&path, right).unwrap();
        } else {
            assert!(there == right, "{file} is stale: `make docs` regenerates it");
        }
    }
}
