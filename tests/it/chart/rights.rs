//! The operator's rights: these and no others.

use serde_json::{Value, json};

use super::{NAMESPACE, Objects, render};

fn served() -> Vec<Value> {
    vec![
        json!({"apiGroups": ["routr.io"], "resources": ["registries"], "verbs": ["list", "watch", "patch"]}),
        json!({"apiGroups": ["routr.io"], "resources": ["registries/status"], "verbs": ["patch"]}),
        json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}),
    ]
}

fn secrets() -> Value {
    json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
}

fn with_secrets() -> Value {
    let mut rules = served();
    rules.push(secrets());
    json!(rules)
}

#[track_caller]
fn assert_bound(objects: &Objects, binding: &Value, account: &str) {
    let role = &binding["roleRef"];
    let namespace = binding["metadata"]["namespace"].clone();
    let there = objects.of_kind(role["kind"].as_str().unwrap());
    let found = there.iter().any(|found| {
        found["metadata"]["name"] == role["name"] && found["metadata"]["namespace"] == namespace
    });
    assert!(found, "{binding:#}");
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}])
    );
}

#[test]
fn cluster_wide_by_default() {
    let objects = render(json!({}));
    assert_eq!(objects.only("ClusterRole")["rules"], with_secrets());
    assert_bound(&objects, objects.only("ClusterRoleBinding"), "routr-registry");
    // Helm would take the one of another namespace for its own.
    assert_eq!(objects.only("ClusterRole")["metadata"]["name"], "voice:routr-registry");
    // Nothing but the Lease by a Role.
    assert_eq!(objects.only("Role")["metadata"]["name"], "routr-registry-lease");
}

#[test]
fn in_the_listed_namespaces_alone() {
    let objects =
        render(json!({"watchNamespaces": ["a", "b", "a"], "rbac": {"namespaceFinalizerCleanup": false}}));
    assert!(objects.of_kind("ClusterRole").is_empty());
    assert!(objects.of_kind("ClusterRoleBinding").is_empty());
    for namespace in ["a", "b"] {
        assert_eq!(objects.named("Role", namespace, "routr-registry")["rules"], with_secrets());
        assert_bound(&objects, objects.named("RoleBinding", namespace, "routr-registry"), "routr-registry");
    }
    assert_eq!(objects.of_kind("Role").len(), 3);
    assert_eq!(objects.of_kind("RoleBinding").len(), 3);
}

#[test]
fn a_namespace_that_is_deleted_takes_its_roles_along_but_not_the_right_to_let_it_go() {
    let objects = render(json!({"watchNamespaces": ["a"]}));
    let patch = json!([{"apiGroups": ["routr.io"], "resources": ["registries"], "verbs": ["patch"]}]);
    assert_eq!(objects.only("ClusterRole")["rules"], patch);
    assert_eq!(objects.only("ClusterRole")["metadata"]["name"], "voice:routr-registry");
    assert_bound(&objects, objects.only("ClusterRoleBinding"), "routr-registry");
}

#[test]
fn one_lease_in_the_namespace_of_the_release() {
    for values in [json!({}), json!({"watchNamespaces": ["a"]}), json!({"fullnameOverride": "keeper"})] {
        let name = values["fullnameOverride"].as_str().unwrap_or("routr-registry");
        let objects = render(values.clone());
        let role = objects.named("Role", NAMESPACE, &format!("{name}-lease"));
        let expected = json!([
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [name], "verbs": ["get", "update"]},
        ]);
        assert_eq!(role["rules"], expected, "{values}");
        assert_bound(&objects, objects.named("RoleBinding", NAMESPACE, &format!("{name}-lease")), name);
    }
}

#[test]
fn secrets_by_name_or_not_at_all() {
    let objects = render(json!({"rbac": {"secrets": {"enabled": false}}}));
    assert_eq!(objects.only("ClusterRole")["rules"], json!(served()));
    let objects =
        render(json!({"watchNamespaces": ["a"], "rbac": {"secrets": {"names": ["redis", "other"]}}}));
    let mut rules = served();
    let mut named = secrets();
    named["resourceNames"] = json!(["redis", "other"]);
    rules.push(named);
    assert_eq!(objects.named("Role", "a", "routr-registry")["rules"], json!(rules));
}

#[test]
fn made_by_somebody_else() {
    let objects = render(json!({"rbac": {"create": false}, "watchNamespaces": ["a"]}));
    for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
        assert!(objects.of_kind(kind).is_empty(), "{kind}");
    }
    assert_eq!(objects.of_kind("ServiceAccount").len(), 1);
}

#[test]
fn the_service_account() {
    let account = |objects: &Objects| objects.pod()["spec"]["serviceAccountName"].clone();

    let objects = render(json!({"serviceAccount": {"name": "keeper", "annotations": {"a": "b"}}}));
    assert_eq!(objects.only("ServiceAccount")["metadata"]["name"], "keeper");
    assert_eq!(objects.only("ServiceAccount")["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(account(&objects), "keeper");
    assert_bound(&objects, objects.only("ClusterRoleBinding"), "keeper");

    let objects = render(json!({"serviceAccount": {"create": false, "name": "mine"}}));
    assert!(objects.of_kind("ServiceAccount").is_empty());
    assert_eq!(account(&objects), "mine");
    assert_bound(&objects, objects.only("ClusterRoleBinding"), "mine");

    assert_eq!(account(&render(json!({"serviceAccount": {"create": false}}))), "default");
}
