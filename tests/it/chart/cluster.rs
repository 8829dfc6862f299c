//! Releases on a real API server: install, upgrade, rollback, uninstall. The CustomResourceDefinition belongs
//! to the whole cluster, so these tests have control planes of their own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CHART, RELEASE};
use crate::support::control_plane::ControlPlane;
use crate::support::wait::{PATIENCE, wait_at_pace};

const SOON: Duration = PATIENCE;
const PACE: Duration = Duration::from_millis(200);

/// Something that a Registry needs, for `--set-json`.
pub(super) const SPEC: &str =
    r#"{"requesterAddr":"r.example:1","apiAddr":"a.example:1","edgePorts":[{"address":"192.0.2.1:5060"}]}"#;

/// Makes a Registry by hand, as a person does.
async fn apply_registry(plane: &ControlPlane, namespace: &str, name: &str) {
    let spec: Value = serde_json::from_str(SPEC).unwrap();
    let registry = json!({
        "apiVersion": "routr.io/v2beta1",
        "kind": "Registry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    });
    plane.kubectl_stdin(["apply", "-f", "-"], &registry.to_string()).await.ok();
}

/// A namespace that takes only pods which satisfy the restricted Pod Security Standard.
async fn restricted(plane: &ControlPlane, name: &str) {
    plane.kubectl(["create", "namespace", name]).await.ok();
    plane.kubectl(["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"]).await.ok();
}

/// Waits until the API server serves Registries.
pub(super) async fn served(plane: &ControlPlane) {
    let wait = ["wait", "--for=condition=Established", "--timeout=120s", "crd/registries.routr.io"];
    plane.kubectl(wait).await.ok();
    let look = async || {
        let answer = plane.kubectl(["get", "--raw", "/apis/routr.io/v2beta1/registries"]).await;
        if answer.success() { Ok(()) } else { Err(answer.to_string()) }
    };
    wait_at_pace(PACE, look, SOON, "Registries to be served").await;
}

/// A copy of the chart whose CustomResourceDefinition has one more printer column.
fn newer_chart(folder: &Path) -> String {
    let copy = folder.join("routr-registry");
    assert!(Command::new("cp").arg("-r").args([Path::new(CHART), &copy]).status().unwrap().success());
    let path = copy.join("files/crds/registries.routr.io.yaml");
    let mut crd: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let version = &mut crd["spec"]["versions"][0];
    if version["additionalPrinterColumns"].is_null() {
        version["additionalPrinterColumns"] = json!([]);
    }
    let column = json!({"name": "Newer", "type": "string", "jsonPath": ".spec.apiAddr"});
    version["additionalPrinterColumns"].as_array_mut().unwrap().push(column);
    fs::write(path, crd.to_string()).unwrap();
    copy.to_str().unwrap().to_owned()
}

async fn has_newer_column(plane: &ControlPlane) -> bool {
    let crd = plane.kubectl(["get", "crd", "registries.routr.io", "--output=json"]).await.json();
    crd["spec"]["versions"][0]["additionalPrinterColumns"].to_string().contains("Newer")
}

#[tokio::test]
async fn a_release_from_its_install_to_its_uninstall_and_beyond() {
    let plane = ControlPlane::start().await;
    restricted(&plane, "voice").await;
    let folder = TempDir::new().unwrap();
    let newer = newer_chart(folder.path());

    let said = plane.helm(["install", RELEASE, CHART, "--namespace=voice"]).await.ok();
    for command in ["get registries --all-namespaces", "describe registry default", "wait registry default"] {
        assert!(said.contains(&format!("kubectl {command}")), "{said}");
    }
    assert!(said.contains("WARNING: there is no Registry yet"), "{said}");
    assert!(!said.contains("replicaCount"), "{said}");
    served(&plane).await;
    apply_registry(&plane, "voice", "one").await;
    let uid = ["get", "registry", "one", "--namespace=voice", "--output=jsonpath={.metadata.uid}"];
    let first = plane.kubectl(uid).await.ok();

    // The replica set controller makes the pods, and admission under the restricted standard takes them.
    let pods = async || {
        let pods = plane.kubectl(["get", "pods", "--namespace=voice", "--output=json"]).await.json();
        let events = plane.kubectl(["get", "events", "--namespace=voice", "--output=json"]).await.json();
        let refused: Vec<_> = events["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["reason"] == "FailedCreate")
            .collect();
        match pods["items"].as_array().unwrap().len() {
            2 => Ok(()),
            count => Err(format!("{count} pods, {refused:#?}")),
        }
    };
    wait_at_pace(PACE, pods, SOON, "two pods").await;

    // An upgrade upgrades the definition too, and a rollback takes it back.
    assert!(!has_newer_column(&plane).await);
    let upgrade = ["upgrade", RELEASE, &newer, "--namespace=voice", "--set=replicaCount=1"];
    let said = plane.helm(upgrade).await.ok();
    assert!(said.contains("describe registry one --namespace voice"), "{said}");
    assert!(!said.contains("there is no Registry"), "{said}");
    assert!(said.contains("WARNING: replicaCount is 1"), "{said}");
    assert!(has_newer_column(&plane).await);
    plane.helm(["rollback", RELEASE, "1", "--namespace=voice"]).await.ok();
    assert!(!has_newer_column(&plane).await);

    // The definition and the Registries outlive the release.
    plane.helm(["uninstall", RELEASE, "--namespace=voice", "--wait"]).await.ok();
    let left =
        plane.kubectl(["get", "deployment,serviceaccount", "--namespace=voice", "--output=name"]).await.ok();
    assert_eq!(left, "serviceaccount/default\n");
    let left = [
        "get",
        "clusterrole,clusterrolebinding",
        "--output=name",
        "--selector=app.kubernetes.io/part-of=routr",
    ];
    assert_eq!(plane.kubectl(left).await.ok(), "");
    assert_eq!(plane.kubectl(uid).await.ok(), first);

    // The next release of that name takes the definition over, and brings it up to date.
    plane.helm(["install", RELEASE, &newer, "--namespace=voice"]).await.ok();
    assert!(has_newer_column(&plane).await);
    assert_eq!(plane.kubectl(uid).await.ok(), first);

    // One of another name does not, and says so; beside it, it does without.
    restricted(&plane, "other").await;
    let second = ["install", "second", CHART, "--namespace=other", "--set=watchNamespaces={other}"];
    let said = plane.helm(second).await.refused();
    assert!(said.contains("registries.routr.io") && said.contains("invalid ownership metadata"), "{said}");
    plane.helm(second.into_iter().chain(["--set=crds.install=false"])).await.ok();
    plane.helm(["uninstall", "second", "--namespace=other"]).await.ok();
    assert_eq!(plane.kubectl(uid).await.ok(), first);

    // With crds.keep=false everything goes, as the notes and the comment in values.yaml warn.
    let upgrade = ["upgrade", RELEASE, CHART, "--namespace=voice", "--set=crds.keep=false"];
    let said = plane.helm(upgrade).await.ok();
    assert!(said.contains("WARNING: crds.keep is false"), "{said}");
    plane.helm(["uninstall", RELEASE, "--namespace=voice"]).await.ok();
    let gone = async || {
        let answer = plane.kubectl(["get", "crd", "registries.routr.io", "--output=name"]).await;
        if answer.stderr.contains("NotFound") { Ok(()) } else { Err(answer.to_string()) }
    };
    wait_at_pace(PACE, gone, SOON, "the definition to go").await;
}

/// Every object that the chart can make, as the API server reads it, and the rights as it sees them.
#[tokio::test]
async fn all_switches_on_in_two_namespaces() {
    let plane = ControlPlane::shared().await;
    let (release, served) = (plane.namespace("chart").await, plane.namespace("chart-served").await);
    let within = format!("--namespace={}", release.name());
    let namespaces = format!("--set=watchNamespaces={{{}}}", served.name());
    let install = [
        "install",
        RELEASE,
        CHART,
        &within,
        &namespaces,
        // The shared control plane has it from elsewhere, and other tests need it.
        "--set=crds.install=false",
        "--set=networkPolicy.enabled=true,networkPolicy.egress.enabled=true",
        "--set-json=networkPolicy.ingress.from=[{\"podSelector\":{}}]",
        "--set-json=networkPolicy.egress.apiServer.to=[{\"ipBlock\":{\"cidr\":\"192.0.2.7/32\"}}]",
        "--set-json=networkPolicy.egress.rules=[{\"ports\":[{\"port\":51909}],\"to\":[{\"podSelector\":{}}]}]",
        "--set-json=rbac.secrets.names=[\"redis\"]",
        "--set-json=extraVolumes=[{\"name\":\"ca\",\"configMap\":{\"name\":\"ca\"}}]",
        "--set-json=extraVolumeMounts=[{\"name\":\"ca\",\"mountPath\":\"/ca\"}]",
    ];
    let said = plane.helm(install).await.ok();
    assert!(said.contains(&format!("get registries --namespace {}", served.name())), "{said}");
    let list = ["get", "networkpolicy,poddisruptionbudget,service,deployment", &within, "--output=name"];
    let expected = [
        "deployment.apps/routr-registry",
        "networkpolicy.networking.k8s.io/routr-registry",
        "poddisruptionbudget.policy/routr-registry",
        "service/routr-registry-metrics",
    ];
    let found = plane.kubectl(list).await.ok();
    let mut found: Vec<_> = found.lines().collect();
    found.sort_unstable();
    assert_eq!(found, expected);

    let account = format!("--as=system:serviceaccount:{}:{RELEASE}", release.name());
    let may = async |verb: &str, what: &str, namespace: &str| {
        let namespace = format!("--namespace={namespace}");
        let answer = plane.kubectl(["auth", "can-i", verb, what, &namespace, &account]).await;
        match answer.stdout.trim() {
            "yes" => true,
            "no" => false,
            _ => panic!("{answer}"),
        }
    };
    let registries = "registries.routr.io";
    for (verb, what, here) in [
        ("list", registries, &served),
        ("watch", registries, &served),
        ("patch", registries, &served),
        ("patch", "registries.routr.io/one", &served),
        ("get", "secrets/redis", &served),
        ("create", "events.events.k8s.io", &served),
        ("create", "leases.coordination.k8s.io", &release),
        ("get", "leases.coordination.k8s.io/routr-registry", &release),
        ("update", "leases.coordination.k8s.io/routr-registry", &release),
    ] {
        let granted = async || if may(verb, what, here).await { Ok(()) } else { Err("not granted") };
        wait_at_pace(PACE, granted, SOON, &format!("the right to {verb} {what} in {}", here.name())).await;
    }
    for (verb, what, here) in [
        ("create", registries, &served),
        ("delete", registries, &served),
        ("update", registries, &served),
        ("list", "secrets", &served),
        ("watch", "secrets", &served),
        ("get", "secrets/other", &served),
        ("get", "pods", &served),
        ("list", "leases.coordination.k8s.io", &release),
        ("get", "leases.coordination.k8s.io/other", &release),
        ("delete", "leases.coordination.k8s.io/routr-registry", &release),
        ("create", "leases.coordination.k8s.io", &served),
        ("list", registries, &release),
        ("get", "secrets/redis", &release),
    ] {
        assert!(!may(verb, what, here).await, "it may {verb} {what} in {}", here.name());
    }
    plane.helm(["uninstall", RELEASE, &within]).await.ok();
}
