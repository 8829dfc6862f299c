//! Values that the schema refuses, and the places that it names.

use serde_json::{Value, json};

use super::{refusal, render};

/// Helm writes a place with dots or with slashes, by its version.
#[track_caller]
fn refused(values: Value, place: &str) {
    let said = refusal(values.clone());
    let found = said.contains(place) || said.contains(&place.replace('.', "/"));
    assert!(found, "{values}: {place} is not named in: {said}");
}

#[test]
fn a_mistyped_key_is_refused_at_each_level() {
    refused(json!({"replicas": 3}), "replicas");
    refused(json!({"crds": {"instal": false}}), "instal");
    refused(json!({"rbac": {"secrets": {"name": ["a"]}}}), "rbac.secrets");
    refused(json!({"metrics": {"serviceMonitor": {"enable": true}}}), "enable");
    refused(json!({"networkPolicy": {"egress": {"rule": []}}}), "networkPolicy.egress");
    refused(
        json!({"networkPolicy": {"egress": {"apiServer": {"from": []}}}}),
        "networkPolicy.egress.apiServer",
    );
    refused(json!({"probes": {"readiness": {"path": "/healthz"}}}), "probes.readiness");
    refused(json!({"affinity": {"podAffinty": {}}}), "affinity");
}

#[test]
fn a_wrong_type_is_refused() {
    refused(json!({"replicaCount": "2"}), "replicaCount");
    refused(json!({"watchNamespaces": "voice"}), "watchNamespaces");
    refused(json!({"crds": {"install": "yes"}}), "crds.install");
    refused(json!({"extraArgs": {"a": "b"}}), "extraArgs");
    refused(json!({"podAnnotations": {"a": 1}}), "podAnnotations");
    refused(json!({"imagePullSecrets": ["secret"]}), "imagePullSecrets");
}

#[test]
fn a_value_out_of_its_bounds_is_refused() {
    refused(json!({"replicaCount": 0}), "replicaCount");
    refused(json!({"operator": {"leaseDurationSeconds": 2}}), "operator.leaseDurationSeconds");
    refused(json!({"operator": {"leaseDurationSeconds": 61}}), "operator.leaseDurationSeconds");
    refused(json!({"operator": {"deregisterDeadlineSeconds": 0}}), "operator.deregisterDeadlineSeconds");
    refused(json!({"log": {"level": "loud"}}), "log.level");
    refused(json!({"image": {"pullPolicy": "always"}}), "image.pullPolicy");
    refused(json!({"image": {"digest": "sha256:123"}}), "image.digest");
    refused(json!({"watchNamespaces": ["Voice"]}), "watchNamespaces");
    refused(json!({"http": {"port": 80}}), "http.port");
    refused(json!({"http": {"address": "::"}}), "http.address");
    refused(json!({"podDisruptionBudget": {"maxUnavailable": 0}}), "podDisruptionBudget.maxUnavailable");
    refused(json!({"metrics": {"serviceMonitor": {"interval": "30"}}}), "metrics.serviceMonitor.interval");
    refused(
        json!({"networkPolicy": {"egress": {"apiServer": {"ports": []}}}}),
        "networkPolicy.egress.apiServer.ports",
    );
    refused(json!({"networkPolicy": {"egress": {"dns": {"to": [{}]}}}}), "networkPolicy.egress.dns.to");
}

#[test]
fn a_default_registry_needs_its_three_fields() {
    let spec = json!({"requesterAddr": "r", "apiAddr": "a", "edgePorts": [{"address": "e"}]});
    for field in ["requesterAddr", "apiAddr", "edgePorts"] {
        let mut lacking = spec.clone();
        lacking.as_object_mut().unwrap().remove(field);
        refused(json!({"registry": {"enabled": true, "spec": lacking}}), field);
    }
    render(json!({"registry": {"enabled": true, "spec": spec}}));
    // No one asks when it is not made.
    render(json!({"registry": {"enabled": false, "spec": {}}}));
}

#[test]
fn values_that_do_not_go_together_are_refused_in_plain_words() {
    let said = refusal(json!({"terminationGracePeriodSeconds": 10, "operator": {"graceSeconds": 6}}));
    assert!(
        said.contains("terminationGracePeriodSeconds is 10: too short for operator.graceSeconds 6"),
        "{said}"
    );
    let said =
        refusal(json!({"metrics": {"service": {"enabled": false}, "serviceMonitor": {"enabled": true}}}));
    assert!(said.contains("needs metrics.service.enabled"), "{said}");
    let spec = json!({"requesterAddr": "r", "apiAddr": "a", "edgePorts": [{"address": "e"}]});
    let said = refusal(json!({"watchNamespaces": ["a"], "registry": {"enabled": true, "spec": spec}}));
    assert!(said.contains("namespace voice, which watchNamespaces does not list"), "{said}");
}

#[test]
fn what_helm_itself_adds_is_taken() {
    render(json!({"global": {"imageRegistry": "of another chart"}}));
    render(json!({"podDisruptionBudget": {"maxUnavailable": "50%"}, "http": {"address": "[::]"}}));
}
