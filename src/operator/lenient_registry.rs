//! A Registry as the API server has it. One that cannot be read (another version of the definition, a status
//! that someone else spoilt) must not keep the others from being seen.

use std::{borrow::Cow, io};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use crate::spec::{Registry, RegistrySpec};

/// Bytes of a spec, or of a status, as JSON. The largest spec that the definition allows has a tenth of it; a
/// status, 100 KiB.
const MAX_PART_BYTES: usize = 256 << 10;
/// Bytes of all finalizers together.
const MAX_FINALIZERS_BYTES: usize = 16 << 10;

/// A Registry, readable or not. Of the metadata only the part that the operator uses is there: labels,
/// annotations, owners and the managers of fields may be a megabyte and more of each Registry, and thousands
/// of them are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
pub struct LenientRegistry {
    metadata: ObjectMeta,
    /// The resource, of its metadata the name, the namespace and the UID; or why it cannot be read. A status
    /// that cannot be read counts as missing: it is written again.
    pub registry: Result<Registry, Unreadable>,
    /// Trunks were read for it once: one that has never run has nothing that a predecessor could have
    /// registered.
    pub has_run: bool,
}

impl LenientRegistry {
    /// Drops the status: the one who writes it knows it, and thousands of them are kept.
    pub fn forget_status(&mut self) {
        if let Ok(registry) = &mut self.registry {
            registry.status = None;
        }
    }
}

/// Reason that a resource cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Its spec is none that this version knows. What is wrong may quote a value.
    #[error("the spec cannot be read: {0}")]
    Spec(String),
    /// It has more than this program keeps.
    #[error("{what} has {bytes} bytes; at most {most} are read")]
    TooLarge {
        /// `spec` or `metadata.finalizers`.
        what: &'static str,
        /// Bytes as JSON.
        bytes: usize,
        /// Most bytes that are read.
        most: usize,
    },
}

#[derive(Deserialize)]
struct Raw {
    metadata: RawMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

/// All other fields are passed over while they are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
}

impl From<Raw> for LenientRegistry {
    fn from(raw: Raw) -> Self {
        let RawMeta { name, namespace, uid, finalizers, .. } = raw.metadata;
        let named = ObjectMeta { name, namespace, uid, ..ObjectMeta::default() };
        let bytes = finalizers.iter().flatten().map(|name| name.len() + 3).sum();
        let too_many = bytes > MAX_FINALIZERS_BYTES;
        let metadata = ObjectMeta {
            resource_version: raw.metadata.resource_version,
            generation: raw.metadata.generation,
            creation_timestamp: raw.metadata.creation_timestamp,
            deletion_timestamp: raw.metadata.deletion_timestamp,
            finalizers: finalizers.filter(|_| !too_many),
            ..named.clone()
        };
        let spec = if too_many {
            Err(Unreadable::TooLarge { what: "metadata.finalizers", bytes, most: MAX_FINALIZERS_BYTES })
        } else {
            bounded(&raw.spec).map_or_else(
                |bytes| Err(Unreadable::TooLarge { what: "spec", bytes, most: MAX_PART_BYTES }),
                |()| RegistrySpec::deserialize(raw.spec).map_err(|error| Unreadable::Spec(error.to_string())),
            )
        };
        let registry = spec.map(|spec| Registry {
            metadata: named,
            spec,
            status: bounded(&raw.status).ok().and_then(|()| Deserialize::deserialize(raw.status).ok()),
        });
        let status = registry.as_ref().ok().and_then(|registry| registry.status.as_ref());
        let has_run = status.is_some_and(|status| status.last_sync_time.is_some());
        Self { metadata, registry, has_run }
    }
}

/// # Errors
/// With the bytes that there are, where these are too many.
fn bounded(value: &Value) -> Result<(), usize> {
    let mut bytes = Count(0);
    // Nothing fails while it is counted.
    let _ = serde_json::to_writer(&mut bytes, value);
    if bytes.0 > MAX_PART_BYTES { Err(bytes.0) } else { Ok(()) }
}

/// Counts what is written.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Resource for LenientRegistry {
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

    fn found(spec: Value, status: Value) -> LenientRegistry {
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
    fn what_is_too_large_is_known_by_its_metadata_alone() {
        let large = "x".repeat(MAX_PART_BYTES);
        let mut of = spec();
        of["apiAddr"] = json!(large);
        let found = self::found(of, json!({}));
        assert!(
            matches!(found.registry, Err(Unreadable::TooLarge { what: "spec", .. })),
            "{:?}",
            found.registry.err()
        );
        assert_eq!(found.meta().uid.as_deref(), Some("1"));
        assert_eq!(self::found(spec(), json!({"x": large})).registry.unwrap().status, None);
        let many: Vec<String> = (0..1_000).map(|n| format!("example.com/finalizer-{n}")).collect();
        let metadata = json!({"name": "main", "uid": "1", "finalizers": many});
        let found: LenientRegistry =
            serde_json::from_value(json!({"metadata": metadata, "spec": spec()})).unwrap();
        assert_eq!(found.meta().finalizers, None);
        assert!(found.registry.unwrap_err().to_string().starts_with("metadata.finalizers has "));
    }

    #[test]
    fn a_status_that_cannot_be_read_is_none_and_a_spec_is_told_of() {
        for status in
            [json!({"lastSyncTime": "2026-01-01T00:00:00+99:99"}), json!(7), json!({"conditions": "x"})]
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
