//! The policies that docs/security.md offers for clusters, on a real API server.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::wait::{PATIENCE, wait_at_pace};

const TEXT: &str = include_str!("../../../docs/security.md");
const TENANT: &str = "tenant-a";
const SOON: Duration = PATIENCE;
const PACE: Duration = Duration::from_millis(500);

/// The examples in YAML, but that of a configuration file.
fn examples() -> Vec<&'static str> {
    let blocks = TEXT.split("```").skip(1).step_by(2);
    let yaml = blocks.filter_map(|block| block.strip_prefix("yaml\n"));
    yaml.filter(|block| !block.starts_with("# registry.yaml")).collect()
}

/// A Registry within the policy, with the keys of `patch` instead of its own.
fn registry(name: &str, namespace: &str, patch: &Value) -> String {
    let mut spec = json!({
        "requesterAddr": "https://requester.routr.svc:51909",
        "apiAddr": "apiserver.routr.svc:51907",
        "edgePorts": [{"address": "192.0.2.1:5060"}],
    });
    for (key, value) in patch.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "routr.io/v2beta1", "kind": "Registry", "metadata": metadata, "spec": spec})
        .to_string()
}

#[tokio::test]
async fn the_documented_policy_says_which_addresses_and_secrets_a_registry_may_name() {
    const ADDRESSES: &str = "only Services of the namespace routr";
    const CACHE: &str = "only host=redis.routr.svc";
    const SECRETS: &str = "only Secrets whose names begin with routr-";
    let apply = ["apply", "--server-side", "-f", "-"];
    let try_out = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
    let plane = ControlPlane::start().await;
    plane.apply_crds().await;
    for namespace in ["routr", TENANT] {
        plane.kubectl(["create", "namespace", namespace]).await.ok();
    }
    let patch_old = async |patch: &str| {
        let (within, patch) = (format!("--namespace={TENANT}"), format!("--patch={patch}"));
        plane.kubectl(["patch", "registry", "old", &within, "--type=merge", &patch]).await
    };
    // Older than the policy, against it, and with the operator's finalizer.
    let elsewhere = json!({"apiAddr": "192.0.2.7:51907"});
    plane.kubectl_stdin(apply, &registry("old", TENANT, &elsewhere)).await.ok();
    patch_old(r#"{"metadata":{"finalizers":["routr.io/deregister"]}}"#).await.ok();

    let all = examples();
    assert!(all.len() >= 4, "{all:#?}");
    for example in &all {
        plane.kubectl_stdin(try_out, example).await.ok();
    }
    let policies: Vec<_> =
        all.iter().filter(|example| example.contains("ValidatingAdmissionPolicy")).collect();
    assert_eq!(policies.len(), 1, "{all:#?}");
    plane.kubectl_stdin(apply, policies[0]).await.ok();
    // It counts some time after it was applied.
    let counts = async || {
        let output = plane.kubectl_stdin(try_out, &registry("new", TENANT, &elsewhere)).await;
        if output.success() { Err(output.to_string()) } else { Ok(()) }
    };
    wait_at_pace(PACE, counts, SOON, "the policy to count").await;

    let redis = |more: Value| {
        let mut cache = json!({"provider": "redis"});
        cache.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        json!({"cache": cache})
    };
    let reference = |name: &str| json!({"name": name, "key": "value"});
    for good in [
        json!({}),
        json!({"apiAddr": "https://apiserver.routr.svc"}),
        json!({"requesterTokenSecretRef": reference("routr-requester")}),
        redis(json!({
            "parameters": "host=redis.routr.svc, username=a,secure",
            "passwordSecretRef": reference("routr-redis"),
        })),
        redis(json!({"parameters": "port=6380,host=redis.routr.svc"})),
    ] {
        plane.kubectl_stdin(try_out, &registry("good", TENANT, &good)).await.ok();
    }
    for (bad, said) in [
        (elsewhere.clone(), ADDRESSES),
        (json!({"apiAddr": "apiserver.tenant-a.svc:51907"}), ADDRESSES),
        (json!({"apiAddr": "apiserver.routr.svc.example.com:51907"}), ADDRESSES),
        (json!({"requesterAddr": "unix:/run/routr/requester.sock"}), ADDRESSES),
        (redis(json!({"parameters": "host=redis.tenant-a.svc"})), CACHE),
        (redis(json!({"parameters": "host=redis.routr.svc,nodes=192.0.2.7:6379"})), CACHE),
        (redis(json!({"parameters": "redis://192.0.2.7"})), CACHE),
        (redis(json!({"parametersSecretRef": reference("routr-redis")})), "cannot see the address"),
        (redis(json!({"passwordSecretRef": reference("other")})), SECRETS),
        (json!({"requesterTokenSecretRef": reference("other")}), SECRETS),
    ] {
        let text = plane.kubectl_stdin(try_out, &registry("bad", TENANT, &bad)).await.refused();
        assert!(text.contains(said), "{bad}: {text}");
    }
    plane.kubectl_stdin(try_out, &registry("free", "routr", &elsewhere)).await.ok();

    // The old one cannot be changed, and can go.
    let text = patch_old(r#"{"spec":{"suspend":true}}"#).await.refused();
    assert!(text.contains(ADDRESSES), "{text}");
    let within = format!("--namespace={TENANT}");
    plane.kubectl(["delete", "registry", "old", &within, "--wait=false"]).await.ok();
    patch_old(r#"{"metadata":{"finalizers":null}}"#).await.ok();
    let left = plane.kubectl(["get", "registries", &within, "--output=name"]).await.ok();
    assert_eq!(left, "");
}
