//! "The next leader always comes up": whatever a tenant's Registries are like, they are listed, and no one
//! leads who cannot.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;
use routr_registry::spec::Registry;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::operator::harness::{Installation, Operator, PACE, RELEASE, TestRegistry, condition};
use crate::support::control_plane::ControlPlane;
use crate::support::wait::{PATIENCE, wait_at_pace};

/// Far beyond what it takes: an API server with so much in it is slow.
const SOON: Duration = PATIENCE.saturating_mul(3);
/// Bytes of memory that a leader of 137 MB of Registries may have needed at most.
const MOST_MEMORY: usize = 256 << 20;

/// A Registry with about this number of bytes of labels. What the API server notes of their writers takes as
/// much again.
fn with_labels(name: &str, bytes: usize, stage: &TestRegistry) -> Value {
    let label =
        |n: usize| (format!("{}.example/{n:04}{}", "l".repeat(180), "x".repeat(50)), json!("v".repeat(60)));
    let labels: serde_json::Map<String, Value> = (0..bytes / 310).map(label).collect();
    json!({
        "apiVersion": "routr.io/v2beta1",
        "kind": "Registry",
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "requesterAddr": format!("127.0.0.1:{}", stage.requester_port),
            "apiAddr": format!("127.0.0.1:{}", stage.api_port),
            "edgePorts": [{ "address": "10.0.0.1:5060" }],
            "suspend": true,
        },
    })
}

async fn create(api: &Api<DynamicObject>, object: Value) -> usize {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let created = api.create(&PostParams::default(), &object).await.unwrap();
    serde_json::to_string(&created).unwrap().len()
}

/// Returns the text of `/readyz`, once it has this code and these words.
async fn says(operator: &Operator, code: u16, parts: &[&str]) -> String {
    let look = async || match operator.public("/readyz").await? {
        (status, body) if status == code && parts.iter().all(|part| body.contains(part)) => Ok(body),
        (status, body) => Err(format!("{status}: {body}")),
    };
    wait_at_pace(PACE, look, SOON, &format!("{code} {parts:?}")).await
}

/// The most memory that a process has had, in bytes.
fn peak(operator: &Operator) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.service.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn registries_with_megabytes_of_labels_do_not_stop_the_next_leader() {
    // One of its own: what others watch should not get these.
    let plane = ControlPlane::start().await;
    plane.apply_crds().await;
    let stage = TestRegistry::with(&["alice"]).await;
    let (namespace, tenant) = (plane.namespace("honest").await, plane.namespace("labels").await);
    let watch = format!("watchNamespaces={{{},{}}}", namespace.name(), tenant.name());
    let cluster = Installation::install(&plane, namespace, &["crds.install=false".to_owned(), watch]).await;
    let api: Api<DynamicObject> =
        Api::namespaced_with(plane.client().await, tenant.name(), &ApiResource::erase::<Registry>(&()));
    let began = Instant::now();
    let sizes: Vec<usize> = stream::iter(0..125)
        .map(|n| create(&api, with_labels(&format!("large-{n:03}"), 600_000, &stage)))
        .buffer_unordered(4)
        .collect()
        .await;
    let total: usize = sizes.iter().sum();
    assert!(total > 128 << 20, "{total} bytes in all");
    // One that cannot be read as a whole, and an honest one.
    let mut spoilt = with_labels("spoilt", 0, &stage);
    spoilt["metadata"]["finalizers"] =
        (0..1_000).map(|n| format!("tenant.example/finalizer-number-{n}")).collect::<Vec<_>>().into();
    create(&api, spoilt).await;
    cluster.apply("honest", &stage, "").await;

    let created = began.elapsed();
    let operator = cluster.start("pod-a");
    cluster.condition("honest", "Ready", "True", "AllRegistered").await;
    let honest = began.elapsed() - created;
    assert_eq!(cluster.leader().await.as_deref(), Some("pod-a"));
    says(&operator, 200, &["leads", "are listed and watched"]).await;
    // None hides another: all are known, and what cannot be read says so itself.
    let known = async || {
        let (_, metrics) = operator.public("/metrics").await?;
        let known = metrics.lines().filter(|line| line.starts_with("routr_registry_ready{")).count();
        if known == 127 { Ok(()) } else { Err(format!("{known} of 127 Registries")) }
    };
    wait_at_pace(PACE, known, SOON, "all Registries to be known").await;
    let look = async || {
        let shown =
            plane.kubectl(["get", "registry", "spoilt", "--output=json", "--namespace", tenant.name()]).await;
        let registry: Value = serde_json::from_str(&shown.stdout).map_err(|_| shown.stderr.clone())?;
        let found = condition(&registry["status"], "Stalled");
        if found["reason"] == "InvalidSpec" { Ok(found) } else { Err(found.to_string()) }
    };
    let found = wait_at_pace(PACE, look, SOON, "the status of what cannot be read").await;
    let message = found["message"].as_str().unwrap();
    assert!(message.starts_with("metadata.finalizers has "), "{message}");
    let peak = peak(&operator);
    eprintln!(
        "{} MiB of Registries, created in {created:.0?}; the honest one is Ready after {honest:.0?}; {} MiB at the most",
        total >> 20,
        peak >> 20
    );
    assert!(peak < MOST_MEMORY, "{} MiB", peak >> 20);
}

/// Replaces the rules of the Role.
async fn set_rules(cluster: &Installation<'_>, rules: &[Value]) {
    let patch = json!({ "rules": rules }).to_string();
    cluster.kubectl(&["patch", "role", RELEASE, "--type=merge", "--patch", &patch]).await.ok();
}

#[tokio::test]
async fn who_cannot_list_takes_no_lease_and_is_not_ready_and_says_why() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("unlisted").await;
    let role = cluster.kubectl(&["get", "role", RELEASE, "--output=json"]).await.json();
    let rules = role["rules"].as_array().unwrap().clone();
    let without: Vec<Value> =
        rules.iter().filter(|rule| rule["resources"] != json!(["registries"])).cloned().collect();
    assert_eq!(without.len() + 1, rules.len(), "{role:#}");
    set_rules(&cluster, &without).await;
    cluster.apply("main", &stage, "").await;
    let operator = cluster.start("pod-a");
    let body =
        says(&operator, 503, &["watch ", "failed", "cannot list Registries in namespace", "403 (Forbidden)"])
            .await;
    assert!(!body.contains("leads"), "{body}");
    let lists = || {
        let audit = cluster.plane.audit_of(cluster.namespace.name(), RELEASE);
        let lists = audit.iter().filter(|access| access.verb == "list" && access.code == 403).count();
        let leases = audit.iter().filter(|access| access.resource == "leases").count();
        (lists, leases)
    };
    let look = async || if lists().0 >= 3 { Ok(()) } else { Err(format!("{:?}", lists())) };
    wait_at_pace(PACE, look, SOON, "three lists").await;
    assert_eq!(lists().1, 0, "it asks for the Lease");
    assert_eq!(cluster.leader().await, None);
    set_rules(&cluster, &rules).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    assert_eq!(cluster.leader().await.as_deref(), Some("pod-a"));
    says(&operator, 200, &["leads", "are listed and watched"]).await;
}
