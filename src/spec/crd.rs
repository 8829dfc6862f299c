//! The CustomResourceDefinition of [`super::Registry`], as `routr-registry crd` prints it and crds/ holds it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{
    Registry, cel,
    key::{Key, Kind},
    rules::KEYS,
};

/// Reason that there is no definition, which is a defect.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The definition derived from the types has an unexpected shape.
    #[error("the definition has no {0}")]
    Shape(String),
    /// It is no definition any more.
    #[error("the definition cannot be read back: {0}")]
    Json(#[from] serde_json::Error),
    /// It cannot be written.
    #[error("the definition cannot be written: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// Returns what an API server fills in where a key is left out or null: path below the resource, and value.
/// The same as what the interpretation of a file takes. An empty mapping has the defaults of its keys filled
/// in, too; what is below a mapping without a default is left to the interpretation.
fn defaults() -> Vec<(&'static str, Value)> {
    let filled = |key: &Key| Some((key.path, key.default_value().filter(|_| is_filled(key.parent()))?));
    keys().filter_map(filled).collect()
}

/// The keys of a resource that the table has.
fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.path.starts_with("spec."))
}

/// True where an API server makes the mapping at that path.
fn is_filled(path: &str) -> bool {
    path == "spec"
        || keys().any(|key| key.path == path && key.default_value().is_some() && is_filled(key.parent()))
}

/// The definition: what is derived from the types, with the defaults, bounds and descriptions of the table of
/// keys.
///
/// # Errors
/// When it does not have the shape that it has to have, which is a defect.
pub fn definition() -> Result<CustomResourceDefinition, CrdError> {
    let mut definition = serde_json::to_value(Registry::crd())?;
    unfold(&mut definition);
    for key in keys() {
        complete(property(&mut definition, key.path)?, key)?;
    }
    for (path, default) in defaults() {
        let property = property(&mut definition, path)?;
        property.insert("default".to_owned(), default);
        // A null that is allowed stays; one that is not is replaced by the default.
        property.remove("nullable");
    }
    Ok(serde_json::from_value(definition)?)
}

/// The schema of the key at that path.
fn property<'a>(definition: &'a mut Value, path: &str) -> Result<&'a mut Map<String, Value>, CrdError> {
    let pointer = format!(
        "/spec/versions/0/schema/openAPIV3Schema/properties/{}",
        path.replace("[]", "/items").replace('.', "/properties/")
    );
    definition
        .pointer_mut(&pointer)
        .and_then(Value::as_object_mut)
        .ok_or_else(|| CrdError::Shape(path.to_owned()))
}

/// Adds what the table says of a key.
fn complete(property: &mut Map<String, Value>, key: &Key) -> Result<(), CrdError> {
    let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = key.description(&meaning.replace("\n\n", " "));
    property.insert("description".to_owned(), description.into());
    let rule = match key.kind {
        Kind::Duration(range) => cel::duration(range),
        Kind::Rate(range) => cel::rate(range),
        Kind::Line(most) => {
            property.insert("maxLength".to_owned(), most.into());
            cel::text(&key.hint())
        }
        Kind::Whole(range) => {
            property.insert("minimum".to_owned(), range.least.into());
            property.insert("maximum".to_owned(), range.most.into());
            return Ok(());
        }
        _ => return Ok(()),
    };
    let rules = property.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    if let Value::Array(rules) = rules {
        rules.insert(0, serde_json::to_value(rule)?);
    }
    Ok(())
}

/// Takes the line breaks of the source out of the descriptions; `kubectl explain` breaks lines by itself.
fn unfold(value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| match value {
            Value::String(text) if key == "description" => {
                let paragraphs: Vec<String> = text.split("\n\n").map(|it| it.replace('\n', " ")).collect();
                *text = paragraphs.join("\n\n");
            }
            value => unfold(value),
        }),
        Value::Array(list) => list.iter_mut().for_each(unfold),
        _ => {}
    }
}

/// The definition as YAML, ready for `kubectl apply --server-side -f`.
///
/// # Errors
/// When it cannot be written, which is a defect.
pub fn yaml() -> Result<String, CrdError> {
    Ok(serde_saphyr::to_string(&definition()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Secrets},
        spec::RegistrySpec,
    };

    #[test]
    fn the_committed_definition_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/registries.routr.io.yaml");
        assert!(
            yaml().unwrap() == std::fs::read_to_string(path).unwrap(),
            "crds/registries.routr.io.yaml is stale: `make crds` regenerates it"
        );
    }

    /// A spec with all defaults written out comes to the same as one with none.
    #[test]
    fn defaults_are_those_of_the_interpretation() {
        let least = json!({ "requesterAddr": "r", "apiAddr": "a", "edgePorts": [{ "address": "e" }] });
        let mut filled = json!({ "spec": least });
        for (path, default) in defaults() {
            let mut place = &mut filled;
            for key in path.split('.') {
                place = &mut place[key];
            }
            *place = default;
        }
        let config = |spec: &Value| {
            let spec: RegistrySpec = serde_json::from_value(spec.clone()).unwrap();
            Config::from_resource("name", &spec, &Secrets::default()).unwrap()
        };
        assert_eq!(config(&filled["spec"]), config(&least));
        assert_ne!(filled["spec"], least);
    }

    /// kubectl warns of a format that it does not know at each apply.
    #[test]
    fn formats_are_those_that_kubernetes_knows() {
        fn formats(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, value)| match value {
                    Value::String(format) if key == "format" => found.push(format.clone()),
                    value => formats(value, found),
                }),
                Value::Array(list) => list.iter().for_each(|value| formats(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        formats(&serde_json::to_value(definition().unwrap()).unwrap(), &mut found);
        found.sort();
        found.dedup();
        assert_eq!(found, ["date-time", "int64"]);
    }
}
