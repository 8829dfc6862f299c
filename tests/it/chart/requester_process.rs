//! The chart's Requester on a real API server, and its container's arguments as a process.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CHART, RELEASE};
use crate::field::harness::{Chain, PASSWORD, Setup, trunk};
use crate::support::control_plane::ControlPlane;
use crate::support::kamailio::{Kamailio, Options, User};
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_at_pace, wait_for, wait_until};
use crate::support::{http, ports};

const TOKEN: &str = "0f5a-token-of-the-charts-requester";
const PACE: Duration = Duration::from_millis(200);

/// Every switch of the Requester: what the API server makes of each object, and what the notes warn about.
#[tokio::test]
async fn all_switches_of_the_requester_on_and_what_the_notes_say() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("requester-all").await;
    let within = format!("--namespace={}", namespace.name());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("values.json");
    let helm = async |verb: &[&str], own: Value| {
        let values =
            json!({"crds": {"install": false}, "watchNamespaces": [namespace.name()], "requester": own});
        fs::write(&file, values.to_string()).unwrap();
        let more = [CHART, within.as_str(), "--values", file.to_str().unwrap()];
        plane.helm(verb.iter().chain(&more)).await.ok()
    };
    let secrets = json!({
        "enabled": true,
        "token": {"secretName": "door"},
        "tls": {"secretName": "served", "clientCA": {"secretName": "callers"}},
        "sip": {"port": 5080, "contact": "$(HOST_IP):5080", "ca": {"secretName": "registrars"}},
    });
    let mut on_node = secrets.clone();
    on_node["hostNetwork"] = json!(true);
    let said = helm(&["install", RELEASE], on_node).await;
    assert!(said.contains("WARNING: requester.hostNetwork: ports 51909 and 8080 are open"), "{said}");
    assert!(
        said.contains("requesterAddr: https://routr-registry-requester."),
        "the minimal Registry: {said}"
    );
    assert!(
        said.contains("\n    requesterTokenSecretRef: {name: door, key: token}\n    edgePorts:"),
        "{said}"
    );
    assert!(said.contains("tls.caFile"), "{said}");
    assert!(!said.contains("SIP out to") && !said.contains("for no login"), "{said}");

    let mut more = secrets;
    more["networkPolicy"] = json!({
        "ingress": {
            "from": [{"namespaceSelector": {}}],
            "rules": [{"ports": [{"port": 5080, "protocol": "UDP"}], "from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}],
        },
        "egress": {"ports": [5060], "rules": [{"to": [{"podSelector": {}}], "ports": [{"port": 5062}]}]},
    });
    more["nodeSelector"] = json!({"voice": "yes"});
    more["tolerations"] = json!([{"key": "voice", "operator": "Exists"}]);
    more["extraVolumes"] = json!([{"name": "own", "secret": {"secretName": "own"}}]);
    more["extraVolumeMounts"] = json!([{"name": "own", "mountPath": "/own"}]);
    let said = helm(&["upgrade", RELEASE], more).await;
    assert!(said.contains("SIP out to port 5060 only"), "{said}");
    let list = ["get", "deployment,service,networkpolicy,poddisruptionbudget", &within, "--output=name"];
    let made = plane
        .kubectl(list.into_iter().chain(["--selector=app.kubernetes.io/component=requester"]))
        .await
        .ok();
    let mut made: Vec<_> = made.lines().collect();
    made.sort_unstable();
    let expected =
        ["deployment.apps", "networkpolicy.networking.k8s.io", "poddisruptionbudget.policy", "service"];
    assert_eq!(made, expected.map(|kind| format!("{kind}/routr-registry-requester")));

    // The policy comes and goes with what it is for.
    let open =
        json!({"enabled": true, "mode": "proxied", "replicas": 1, "networkPolicy": {"enabled": false}});
    let said = helm(&["upgrade", RELEASE], open).await;
    for warning in ["asks callers for no login", "requester.mode is proxied", "requester.replicas is 1"] {
        assert!(said.contains(warning), "{warning}: {said}");
    }
    let policy = ["get", "networkpolicy,poddisruptionbudget", &within, "--output=name"];
    let left =
        plane.kubectl(policy.into_iter().chain(["--selector=app.kubernetes.io/component=requester"])).await;
    assert_eq!(left.ok(), "");
    let said = helm(&["upgrade", RELEASE], json!({"enabled": false})).await;
    assert!(!said.contains("The Requester:"), "{said}");
    plane.helm(["uninstall", RELEASE, &within]).await.ok();
}

/// Pods with the component of a Requester, once there are so many.
async fn pods(plane: &ControlPlane, namespace: &str, count: usize) -> Vec<Value> {
    let within = format!("--namespace={namespace}");
    let look = async || {
        let pods =
            ["get", "pods", &within, "--selector=app.kubernetes.io/component=requester", "--output=json"];
        let pods = plane.kubectl(pods).await.json()["items"].as_array().unwrap().clone();
        let events = plane.kubectl(["get", "events", &within, "--field-selector=reason=FailedCreate"]).await;
        if pods.len() == count { Ok(pods) } else { Err(format!("{} pods; {events}", pods.len())) }
    };
    wait_at_pace(PACE, look, PATIENCE, "the pods of the Requester").await
}

#[tokio::test]
async fn the_rendered_container_is_admitted_and_its_arguments_register_a_trunk() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("requester").await;
    let name = namespace.name();
    plane.kubectl(["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"]).await.ok();
    let kamailio = Kamailio::start(Options::with_users([User::new("alice", PASSWORD)])).await;
    let [grpc, probes] = [(); 2].map(|()| ports::free());
    let values = json!({
        "crds": {"install": false},
        "watchNamespaces": [name],
        "requester": {
            "enabled": true,
            "address": "127.0.0.1",
            "port": grpc,
            "httpPort": probes,
            "token": {"secretName": "door"},
            "allowTargets": [format!("127.0.0.1:{}", kamailio.udp_port())],
            "extraArgs": ["--sip-bind=127.0.0.1"],
        },
    });
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("values.json");
    fs::write(&file, values.to_string()).unwrap();
    let within = format!("--namespace={name}");
    let install = ["install", RELEASE, CHART, &within, "--values", file.to_str().unwrap()];
    let said = plane.helm(install).await.ok();
    let address = format!("requesterAddr routr-registry-requester.{name}.svc:{grpc}");
    assert!(said.contains(&address), "{said}");
    assert!(
        said.contains(&format!("requesterTokenSecretRef {{name: door, key: token}} in namespace {name}")),
        "{said}"
    );
    assert!(said.contains("SIP out to ports 5060, 5061 only"), "{said}");
    assert!(!said.contains("asks callers for no login"), "{said}");

    // Admission under the restricted standard takes the pods, and not one on the network of the node.
    let pod = pods(plane, name, 2).await.remove(0);
    let mut on_node = pod.clone();
    on_node["metadata"] = json!({"name": "on-node", "namespace": name});
    on_node["spec"]["hostNetwork"] = json!(true);
    for part in on_node["spec"]["containers"][0]["ports"].as_array_mut().unwrap() {
        part["hostPort"] = part["containerPort"].clone();
    }
    let refused = plane.kubectl_stdin(["create", "--dry-run=server", "-f", "-"], &on_node.to_string()).await;
    assert!(refused.refused().contains("hostNetwork=true"));

    // The files of its volumes, as the kubelet would put them.
    let container = &pod["spec"]["containers"][0];
    let mount = "/etc/routr/requester/token";
    assert_eq!(container["volumeMounts"][0]["mountPath"], mount);
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    let args = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_str().unwrap().replace(mount, folder.path().to_str().unwrap()));
    let requester = Service::start(args, &[("LOGS_FORMAT", "json")]);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        let port = container[probe]["httpGet"]["port"].as_str().unwrap();
        let port = container["ports"].as_array().unwrap().iter().find(|known| known["name"] == port).unwrap();
        let url = format!("http://127.0.0.1:{}{path}", port["containerPort"]);
        let look = async || match http::get(&url).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            other => Err(format!("{other:?}; {}", requester.output())),
        };
        wait_for(look, PATIENCE, path).await;
    }

    // A registry with the token registers through it; an address that the values deny gets nothing.
    let at = SocketAddr::from(([127, 0, 0, 1], kamailio.udp_port()));
    let denied = SocketAddr::from(([127, 0, 0, 2], kamailio.udp_port()));
    let setup = Setup {
        other_requester: Some(grpc),
        more: format!(
            "  requesterTokenFile: {}\n  registration: {{ ratePerRegistrar: unlimited }}\n",
            token.to_str().unwrap()
        ),
        ..Setup::default()
    };
    let chain =
        Chain::with(vec![trunk("alice", "alice", at, "UDP"), trunk("bob", "bob", denied, "UDP")], setup)
            .await;
    chain.registered("alice").await;
    wait_until(async || kamailio.bindings().await.len() == 1, PATIENCE, "the binding").await;
    let view = chain.failing("bob", PATIENCE).await;
    assert!(view.message().contains("127.0.0.0/8"), "{}", view.message());
    drop(chain);
    plane.helm(["uninstall", RELEASE, &within]).await.ok();
}
