//! The CustomResourceDefinition of [`super::Registry`], as `routr-registry crd` prints it and crds/ holds it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::Registry;
use super::rules::{self, DurationRange};

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
/// The same as what the interpretation of a file takes.
fn defaults() -> Vec<(&'static str, Value)> {
    let span = |span: &DurationRange| json!(format!("{}s", span.default.as_secs()));
    vec![
        ("spec.registerInterval", span(&rules::REGISTER_INTERVAL)),
        ("spec.apiTimeout", span(&rules::API_TIMEOUT)),
        ("spec.sync", json!({})),
        ("spec.sync.maxPages", json!(rules::SYNC_PAGES.default)),
        ("spec.sync.maxTrunks", json!(rules::SYNC_TRUNKS.default)),
        ("spec.sync.maxBytes", json!(rules::SYNC_BYTES.default)),
        ("spec.sync.maxTrunkBytes", json!(rules::TRUNK_BYTES.default)),
        ("spec.suspend", json!(false)),
        ("spec.methods", json!([])),
        // An empty mapping has the defaults of its keys filled in, too.
        ("spec.cache", json!({})),
        ("spec.cache.provider", json!("memory")),
        ("spec.registration", json!({})),
        ("spec.registration.expires", span(&rules::EXPIRES)),
        ("spec.registration.maxInFlight", json!(rules::IN_FLIGHT)),
        ("spec.registration.ratePerRegistrar", json!(rules::RATE as u64)),
        ("spec.registration.timeout", span(&rules::REGISTER_TIMEOUT)),
        ("spec.registration.userAgent", json!(rules::USER_AGENT)),
        ("spec.registration.require", json!(rules::REQUIRE)),
    ]
}

/// The definition: what is derived from the types, with the defaults.
///
/// # Errors
/// When it does not have the shape that it has to have, which is a defect.
pub fn definition() -> Result<CustomResourceDefinition, CrdError> {
    let mut definition = serde_json::to_value(Registry::crd())?;
    for (path, default) in defaults() {
        let pointer = format!(
            "/spec/versions/0/schema/openAPIV3Schema/properties/{}",
            path.replace('.', "/properties/")
        );
        let property = definition
            .pointer_mut(&pointer)
            .and_then(Value::as_object_mut)
            .ok_or_else(|| CrdError::Shape(path.to_owned()))?;
        property.insert("default".to_owned(), default);
        // A null that is allowed stays; one that is not is replaced by the default.
        property.remove("nullable");
    }
    unfold(&mut definition);
    Ok(serde_json::from_value(definition)?)
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

    const COMMITTED: &str = include_str!("../../crds/registries.routr.io.yaml");

    #[test]
    fn the_committed_definition_is_that_of_the_code() {
        assert!(
            yaml().unwrap() == COMMITTED,
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
