//! A Registry as the API server has it. One that cannot be read (another version of the definition, a status that somebody
//! else spoilt) must not keep the others from being seen.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use crate::spec::{Registry, RegistrySpec};

/// Where kubectl keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// See the module.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
pub struct Found {
    metadata: ObjectMeta,
    /// The resource, of its metadata the name, the namespace and the UID; or why its spec cannot be read; that may quote a value. A status that cannot be read is as good as
    /// none: it is written anew.
    pub registry: Result<Registry, String>,
}

#[derive(Deserialize)]
struct Raw {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl From<Raw> for Found {
    fn from(raw: Raw) -> Self {
        let mut metadata = raw.metadata;
        // Nobody reads who wrote which field, and it is the larger part of a resource.
        metadata.managed_fields = None;
        // Nor what kubectl applied last: as large as the spec, and thousands of them are kept.
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
        metadata.annotations = metadata.annotations.filter(|annotations| !annotations.is_empty());
        let named = ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            ..ObjectMeta::default()
        };
        let registry = RegistrySpec::deserialize(raw.spec).map(|spec| Registry {
            metadata: named,
            spec,
            status: Deserialize::deserialize(raw.status).ok(),
        });
        Self { metadata, registry: registry.map_err(|error| error.to_string()) }
    }
}

impl Resource for Found {
    type DynamicType = <Registry as Resource>::DynamicType;
    type Scope = <Registry as Resource>::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        Registry::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        Registry::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        Registry::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        Registry::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(spec: Value, status: Value) -> Found {
        let metadata = json!({"name": "main", "uid": "1", "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn spec() -> Value {
        json!({"apiAddr": "a", "requesterAddr": "r", "edgePorts": [{"address": "e"}]})
    }

    #[test]
    fn what_is_good_is_read_without_who_wrote_it() {
        let found = found(spec(), json!({"observedGeneration": 3, "conditions": []}));
        let registry = found.registry.as_ref().unwrap();
        assert_eq!(registry.status.as_ref().unwrap().observed_generation, Some(3));
        assert_eq!((&registry.meta().name, &registry.meta().uid), (&found.meta().name, &found.meta().uid));
        assert_eq!((&found.meta().managed_fields, &found.meta().annotations), (&None, &None));
    }

    #[test]
    fn a_status_that_cannot_be_read_is_none_and_a_spec_is_told_of() {
        for status in [json!({"lastSync": "2026-01-01T00:00:00+99:99"}), json!(7), json!({"conditions": "x"})]
        {
            assert_eq!(found(spec(), status).registry.unwrap().status, None);
        }
        for spec in [json!({"apiAddr": 1}), json!(null), json!({"cache": {"provider": "of another version"}})]
        {
            let found = found(spec, json!({}));
            assert!(found.registry.is_err());
            assert_eq!(found.meta().uid.as_deref(), Some("1"), "it can be reported on all the same");
        }
    }
}
