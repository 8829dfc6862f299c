//! docs/configuration.md against the code.

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use serde_json::{Value, json};

use super::*;

/// Read when the test runs: `make docs` writes it without a new build.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    std::fs::read_to_string(path).unwrap()
});

/// Code blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    TEXT.split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect()
}

/// The rows of the tables whose first cell is code, as cells.
fn rows() -> Vec<Vec<&'static str>> {
    TEXT.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Rows of the keys of the document.
fn keys() -> Vec<(&'static str, Vec<&'static str>)> {
    rows()
        .into_iter()
        .map(|cells| (code(cells[0])[0], cells))
        .filter(|(key, cells)| {
            cells.len() == 4
                && (["kind", "apiVersion"].contains(key)
                    || key.starts_with("metadata")
                    || key.starts_with("spec"))
        })
        .collect()
}

fn read(text: &str) -> map_reader::Findings {
    let Ok(node) = tree::read(text, Format::Yaml) else { panic!("{text}") };
    let mut findings = map_reader::Findings::default();
    document::read(&mut findings, node);
    findings
}

#[test]
fn examples_load() {
    let yaml_blocks = blocks("yaml");
    assert_eq!(yaml_blocks.len(), 3);
    let least = yaml(yaml_blocks[0]).unwrap();
    assert_eq!(least, yaml(LEAST).unwrap());
    let json_blocks = blocks("json");
    assert_eq!(json_blocks.len(), 1);
    assert_eq!(parse(json_blocks[0], Format::Json).unwrap(), least);
    yaml(yaml_blocks[1]).unwrap();
}

#[test]
fn table_has_every_key_and_no_other() {
    assert_eq!(read(blocks("yaml")[1]).errors, []);
    let of_the_code = |only_in_kubernetes: bool| -> BTreeSet<String> {
        let keys = rules::KEYS.iter().filter(|key| key.only_in_kubernetes == only_in_kubernetes);
        keys.map(|key| key.path.to_owned()).collect()
    };
    let listed: BTreeSet<String> = keys().into_iter().map(|(key, _)| key.to_owned()).collect();
    assert_eq!(listed, of_the_code(false));
    // Those of a resource alone stand in a table of their own, of three columns.
    let elsewhere: BTreeSet<String> = rows()
        .into_iter()
        .filter(|cells| cells.len() == 3)
        .map(|cells| code(cells[0])[0].to_owned())
        .filter(|key| key.starts_with("spec"))
        .collect();
    assert_eq!(elsewhere, of_the_code(true));
}

/// The example of a resource is one with every key that only a resource has.
#[test]
fn the_example_of_a_resource_is_good() {
    let example = blocks("yaml")[2];
    let document: RegistryDocument = serde_saphyr::from_str(example).unwrap();
    let secrets = Secrets {
        password: Some(Secret::new("x")),
        requester_token: Some(Secret::new("t")),
        ..Secrets::default()
    };
    Config::from_resource("europe", &document.spec, &secrets).unwrap();
    let errors: BTreeSet<String> = read(example)
        .errors
        .into_iter()
        .map(|mistake| format!("{}: {}", mistake.path, mistake.problem))
        .collect();
    let expected = ["spec.cache.passwordSecretRef", "spec.requesterTokenSecretRef", "spec.suspend"]
        .map(|key| format!("{key}: only in Kubernetes"));
    assert_eq!(errors, BTreeSet::from(expected));
}

/// The decoder and the serde types name the same keys: what serde reads from the complete example and writes
/// again has every key of the table.
#[test]
fn serde_types_have_the_same_keys() {
    let complete = blocks("yaml")[1];
    let document: RegistryDocument = serde_saphyr::from_str(complete).unwrap();
    assert_eq!(Config::from_spec("europe", &document.spec).unwrap(), yaml(complete).unwrap());
    let value = serde_json::to_value(&document).unwrap();
    for (key, _) in keys() {
        let pointer = format!("/{}", key.replace("[]", ".0").replace('.', "/"));
        assert!(value.pointer(&pointer).is_some_and(|it| !it.is_null()), "{key}");
    }
}

/// [`LEAST`] with one key set.
fn set(key: &str, value: &str) -> Result<Config, ValidationErrors> {
    let mut document: Value = serde_saphyr::from_str(LEAST).unwrap();
    let mut place = &mut document;
    for part in key.split('.') {
        place = &mut place[part];
    }
    *place = serde_saphyr::from_str(value).unwrap();
    parse(&document.to_string(), Format::Json)
}

#[test]
fn defaults_are_those_of_the_code() {
    let mut seen = 0;
    for (key, cells) in keys() {
        let default = cells[2];
        if !default.starts_with('`') || !default.ends_with('`') {
            continue;
        }
        seen += 1;
        let config = set(key, code(default)[0]).unwrap_or_else(|errors| panic!("{key}: {errors}"));
        assert_eq!(config, yaml(LEAST).unwrap(), "{key}");
    }
    let in_code = |key: &&rules::Key| key.default_text().is_some_and(|text| text.starts_with('`'));
    let expected = rules::KEYS.iter().filter(|key| !key.only_in_kubernetes).filter(in_code).count();
    assert!(seen == expected && seen >= 20, "{seen} rows with a default in code, not {expected}");
}

#[test]
fn bounds_are_those_of_the_code() {
    let mut seen = 0;
    for (key, cells) in keys() {
        let bounds = code(cells[3]);
        let [least, most] = bounds[..] else { continue };
        seen += 1;
        for good in [least, most] {
            set(key, good).unwrap_or_else(|errors| panic!("{key}: {errors}"));
        }
        let beyond = |bound: &str, factor: f64| match duration::parse(bound) {
            Ok(duration) => json!(duration.as_secs_f64() * factor).to_string(),
            Err(_) => panic!("{bound}"),
        };
        for bad in [beyond(least, 0.5), beyond(most, 2.0)] {
            assert!(set(key, &bad).is_err(), "{key}: {bad} loads");
        }
    }
    let expected = rules::KEYS.iter().filter(|key| key.range().is_some()).count();
    assert!(seen == expected && seen >= 12, "{seen} rows with two bounds, not {expected}");
}

#[test]
fn parameters_and_variables_are_listed() {
    let listed: BTreeSet<&str> = rows().iter().map(|cells| code(cells[0])[0]).collect();
    for key in parameters::KEYS {
        assert!(listed.contains(key), "{key}");
    }
    for variable in [CONFIG_PATH, "LOGS_LEVEL", "RUST_LOG", "ENABLE_HEALTHCHECKS"] {
        assert!(listed.contains(variable), "{variable}");
    }
    for path in DEFAULT_PATHS {
        assert!(TEXT.contains(path), "{path}");
    }
}
