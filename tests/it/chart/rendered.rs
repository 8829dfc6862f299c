//! Objects that each switch renders, rights aside.

use std::net::SocketAddr;

use clap::Parser;
use routr_registry::cli::{Cli, Command};
use routr_registry::operator::OperatorArgs;
use serde_json::{Value, json};

use super::{refusal, render, render_with};

const NAME: &str = "routr-registry";

fn environment(container: &Value, name: &str) -> Value {
    let variables = container["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).cloned().unwrap_or_default()
}

fn spec() -> Value {
    json!({"requesterAddr": "r", "apiAddr": "a", "edgePorts": [{"address": "e"}]})
}

#[test]
fn by_default() {
    let objects = render(json!({}));
    let expected = [
        "ClusterRole /voice:routr-registry",
        "ClusterRoleBinding /voice:routr-registry",
        "CustomResourceDefinition /registries.routr.io",
        "Deployment voice/routr-registry",
        "PodDisruptionBudget voice/routr-registry",
        "Role voice/routr-registry-lease",
        "RoleBinding voice/routr-registry-lease",
        "Service voice/routr-registry-metrics",
        "ServiceAccount voice/routr-registry",
    ];
    assert_eq!(objects.names(), expected);
    for object in &objects.0 {
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], NAME, "{object}");
    }
    let deployment = &objects.only("Deployment")["spec"];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(deployment["strategy"]["rollingUpdate"], json!({"maxUnavailable": 0, "maxSurge": 1}));
    // What a selector asks for has to be on the pods.
    let labels = objects.pod()["metadata"]["labels"].as_object().unwrap();
    let selectors = [
        &deployment["selector"]["matchLabels"],
        &objects.only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &objects.only("Service")["spec"]["selector"],
    ];
    for selector in selectors {
        let selector = selector.as_object().unwrap();
        assert_eq!(selector.len(), 2);
        assert!(
            selector.iter().all(|(key, value)| labels.get(key) == Some(value)),
            "{selector:?}, {labels:?}"
        );
    }
}

#[test]
fn the_program_is_told_what_it_is_to_do() {
    let objects = render(json!({}));
    let container = objects.container();
    let flags =
        ["operator", "--listen=0.0.0.0:8080", "--lease-duration=10", "--grace=1", "--deregister-deadline=30"];
    let limits = [
        "--max-registries=4000",
        "--max-trunks=1000000",
        "--max-trunk-memory=256",
        "--max-response-memory=64",
        "--max-connections=8192",
        "--max-in-flight=1000",
    ];
    assert_eq!(container["args"], json!([&flags[..], &limits].concat()));
    assert_eq!(container.get("command"), None, "the image's own entry point");
    let field = |name: &str| environment(container, name)["valueFrom"]["fieldRef"]["fieldPath"].clone();
    assert_eq!(field("POD_NAME"), "metadata.name");
    assert_eq!(field("POD_NAMESPACE"), "metadata.namespace");
    for (name, value) in
        [("LEASE_NAME", NAME), ("WATCH_NAMESPACES", ""), ("LOGS_LEVEL", "info"), ("LOGS_FORMAT", "json")]
    {
        assert_eq!(environment(container, name)["value"], value, "{name}");
    }

    let objects = render(json!({
        "operator": {
            "leaseDurationSeconds": 15, "graceSeconds": 20, "deregisterDeadlineSeconds": 60,
            "allowAddresses": ["127.0.0.0/8", "10.0.0.0/8:6379"], "denyAddresses": ["any"],
            "limits": {"trunks": 20_000_000, "inFlight": 50},
        },
        "terminationGracePeriodSeconds": 40,
        "http": {"address": "[::]", "port": 9000},
        "log": {"level": "debug", "format": "text"},
        "watchNamespaces": ["a", "b", "a"],
        "fullnameOverride": "keeper",
        "extraArgs": ["--admin-listen=0.0.0.0:8081"],
        "extraEnv": [{"name": "RUST_LOG", "value": "trace"}],
    }));
    let container = objects.container();
    let flags =
        ["operator", "--listen=[::]:9000", "--lease-duration=15", "--grace=20", "--deregister-deadline=60"];
    let addresses = ["--allow-address=127.0.0.0/8,10.0.0.0/8:6379", "--deny-address=any"];
    let limits = [
        "--max-registries=4000",
        "--max-trunks=20000000",
        "--max-trunk-memory=256",
        "--max-response-memory=64",
        "--max-connections=8192",
        "--max-in-flight=50",
    ];
    let more = ["--admin-listen=0.0.0.0:8081"];
    assert_eq!(container["args"], json!([&flags[..], &addresses, &limits, &more].concat()));
    assert_eq!(container["ports"], json!([{"name": "http", "containerPort": 9000, "protocol": "TCP"}]));
    for (name, value) in [
        ("LEASE_NAME", "keeper"),
        ("WATCH_NAMESPACES", "a,b"),
        ("LOGS_LEVEL", "debug"),
        ("LOGS_FORMAT", "text"),
        ("RUST_LOG", "trace"),
    ] {
        assert_eq!(environment(container, name)["value"], value, "{name}");
    }
    assert_eq!(objects.pod()["spec"]["terminationGracePeriodSeconds"], 40);
    assert_eq!(objects.only("Service")["spec"]["ports"][0]["port"], 9000);
}

/// The arguments as the program reads them.
fn parsed(values: Value) -> OperatorArgs {
    let objects = render(values);
    let args = objects.container()["args"].as_array().unwrap();
    let args = args.iter().map(|argument| argument.as_str().unwrap());
    match Cli::try_parse_from(["routr-registry"].into_iter().chain(args)) {
        Ok(Cli { command: Command::Operator(args), .. }) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_program_takes_the_arguments_and_the_schema_has_the_programs_bounds() {
    let args = parsed(json!({"http": {"address": "[::]", "port": 9000}}));
    assert_eq!(args.listen, "[::]:9000".parse::<SocketAddr>().unwrap());
    assert_eq!((args.lease_duration, args.grace, args.deregister_deadline), (10, 1, 30));
    let program = Cli::try_parse_from(["routr-registry", "operator"]).unwrap();
    let Command::Operator(program) = program.command else { panic!("another command") };
    assert_eq!(args.limits, program.limits, "the chart's limits are the program's");
    let settings = |lease: u64, grace: u64, deregister: u64| {
        json!({
            "operator": {"leaseDurationSeconds": lease, "graceSeconds": grace, "deregisterDeadlineSeconds": deregister},
            "terminationGracePeriodSeconds": 100,
        })
    };
    for (lease, grace, deregister) in [(3, 0, 1), (60, 60, 600)] {
        let args = parsed(settings(lease, grace, deregister));
        assert_eq!((args.lease_duration, args.grace, args.deregister_deadline), (lease, grace, deregister));
    }
    for (lease, grace, deregister) in [(2, 0, 1), (61, 0, 1), (3, 61, 1), (3, 0, 0), (3, 0, 601)] {
        let said = refusal(settings(lease, grace, deregister));
        assert!(said.contains("operator"), "{said}");
        let flags = [
            format!("--lease-duration={lease}"),
            format!("--grace={grace}"),
            format!("--deregister-deadline={deregister}"),
        ];
        let args = ["routr-registry", "operator"].into_iter().chain(flags.iter().map(String::as_str));
        assert!(Cli::try_parse_from(args).is_err(), "{flags:?}");
    }
}

#[test]
fn the_pods_are_restricted() {
    let objects = render(json!({}));
    let (pod, container) = (&objects.pod()["spec"], objects.container());
    let context = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(pod["securityContext"], context);
    let context = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], context);
    assert_eq!(pod["automountServiceAccountToken"], true);
    assert_eq!(objects.only("ServiceAccount")["automountServiceAccountToken"], false);
    assert_eq!(pod.get("volumes"), None);
}

#[test]
fn the_probes() {
    let objects = render(json!({"probes": {"readiness": {"periodSeconds": 7}}}));
    let container = objects.container();
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "http"}), "{probe}");
    }
    assert_eq!(container["readinessProbe"]["periodSeconds"], 7);
    assert_eq!(container["readinessProbe"]["failureThreshold"], 2);
}

#[test]
fn the_image() {
    let image = |image: Value| render(json!({ "image": image })).container()["image"].clone();
    assert_eq!(image(json!({})), concat!("routr-registry:", env!("CARGO_PKG_VERSION")));
    assert_eq!(image(json!({"repository": "a.example/b", "tag": "c"})), "a.example/b:c");
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(image(json!({"tag": "c", "digest": digest})), format!("routr-registry@{digest}"));
    let objects = render(json!({"imagePullSecrets": [{"name": "key"}], "image": {"pullPolicy": "Always"}}));
    assert_eq!(objects.pod()["spec"]["imagePullSecrets"], json!([{"name": "key"}]));
    assert_eq!(objects.container()["imagePullPolicy"], "Always");
}

#[test]
fn where_and_how_the_pods_run() {
    let volume = json!({"name": "ca", "configMap": {"name": "ca"}});
    let mount = json!({"name": "ca", "mountPath": "/etc/routr/ca", "readOnly": true});
    let toleration = json!({"key": "voice", "operator": "Exists"});
    let spread = json!({
        "topologyKey": "rack",
        "maxSkew": 2,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"own": "yes"}},
    });
    let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}});
    let objects = render(json!({
        "extraVolumes": [volume],
        "extraVolumeMounts": [mount],
        "priorityClassName": "important",
        "nodeSelector": {"voice": "yes"},
        "tolerations": [toleration],
        "affinity": affinity,
        "topologySpreadConstraints": [spread],
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "resources": {"limits": {"memory": "1Gi"}},
        "strategy": {"type": "Recreate", "rollingUpdate": null},
    }));
    let (pod, container) = (objects.pod(), objects.container());
    assert_eq!(pod["spec"]["volumes"], json!([volume]));
    assert_eq!(container["volumeMounts"], json!([mount]));
    assert_eq!(pod["spec"]["priorityClassName"], "important");
    assert_eq!(pod["spec"]["nodeSelector"], json!({"voice": "yes"}));
    assert_eq!(pod["spec"]["tolerations"], json!([toleration]));
    assert_eq!(pod["spec"]["affinity"], affinity);
    assert_eq!(pod["spec"]["topologySpreadConstraints"], json!([spread]), "its own selector stays");
    assert_eq!(pod["metadata"]["annotations"]["a"], "b");
    assert_eq!(pod["metadata"]["labels"]["c"], "d");
    assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
    assert_eq!(objects.only("Deployment")["spec"]["strategy"], json!({"type": "Recreate"}));

    let objects = render(json!({}));
    let spread = objects.pod()["spec"]["topologySpreadConstraints"].as_array().unwrap();
    let selector = &objects.only("Deployment")["spec"]["selector"];
    let keys: Vec<_> = spread.iter().map(|constraint| constraint["topologyKey"].as_str().unwrap()).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    assert!(spread.iter().all(|constraint| &constraint["labelSelector"] == selector), "{spread:#?}");
    for key in ["affinity", "tolerations", "nodeSelector", "priorityClassName", "imagePullSecrets"] {
        assert_eq!(objects.pod()["spec"].get(key), None, "{key}");
    }
}

#[test]
fn the_disruption_budget() {
    assert_eq!(render(json!({})).only("PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    // With one replica it would stop every drain, or allow every one.
    assert!(render(json!({"replicaCount": 1})).of_kind("PodDisruptionBudget").is_empty());
    assert!(
        render(json!({"podDisruptionBudget": {"enabled": false}})).of_kind("PodDisruptionBudget").is_empty()
    );
}

#[test]
fn there_is_no_autoscaler() {
    let objects = render(json!({"replicaCount": 16}));
    assert!(objects.of_kind("HorizontalPodAutoscaler").is_empty());
}

#[test]
fn metrics() {
    let objects = render(json!({
        "metrics": {
            "service": {"annotations": {"a": "b"}},
            "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "interval": "15s", "scrapeTimeout": "5s"},
        },
    }));
    let (service, monitor) = (objects.only("Service"), objects.only("ServiceMonitor"));
    assert_eq!(service["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let endpoint = json!({"port": "http", "path": "/metrics", "honorLabels": true, "interval": "15s", "scrapeTimeout": "5s"});
    assert_eq!(monitor["spec"]["endpoints"], json!([endpoint]));
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(wanted.iter().all(|(key, value)| &service["metadata"]["labels"][key] == value), "{wanted:?}");
    assert_eq!(service["spec"]["ports"][0]["name"], "http");

    assert!(render(json!({})).of_kind("ServiceMonitor").is_empty());
    assert!(render(json!({"metrics": {"service": {"enabled": false}}})).of_kind("Service").is_empty());
}

#[test]
fn the_network_policy() {
    assert!(render(json!({})).of_kind("NetworkPolicy").is_empty());

    let from = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
    let objects = render(json!({"networkPolicy": {"enabled": true, "ingress": {"from": from}}}));
    let policy = &objects.only("NetworkPolicy")["spec"];
    assert_eq!(policy["podSelector"], objects.only("Deployment")["spec"]["selector"]);
    assert_eq!(policy["policyTypes"], json!(["Ingress"]), "what goes out is free");
    assert_eq!(policy["ingress"], json!([{"ports": [{"port": "http", "protocol": "TCP"}], "from": from}]));
    assert_eq!(policy.get("egress"), None);

    let api_server_peers = json!([{"ipBlock": {"cidr": "192.0.2.7/32"}}]);
    let rule =
        json!({"ports": [{"port": 51909}], "to": [{"podSelector": {"matchLabels": {"app": "requester"}}}]});
    let egress =
        json!({"enabled": true, "apiServer": {"to": api_server_peers, "ports": [6443]}, "rules": [rule]});
    let objects = render(json!({"networkPolicy": {"enabled": true, "egress": egress}}));
    let policy = &objects.only("NetworkPolicy")["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    let dns = json!({
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
        "to": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }],
    });
    let api_server = json!({"ports": [{"port": 6443, "protocol": "TCP"}], "to": api_server_peers});
    assert_eq!(policy["egress"], json!([dns, api_server, rule]));
    assert_eq!(policy["ingress"][0].get("from"), None);

    // Its own DNS, the default ports, and no DNS at all.
    let dns_peers = json!([{"ipBlock": {"cidr": "169.254.20.10/32"}}]);
    let egress =
        |dns: &Value| json!({"enabled": true, "dns": {"to": dns}, "apiServer": {"to": api_server_peers}});
    let objects = render(json!({"networkPolicy": {"enabled": true, "egress": egress(&dns_peers)}}));
    let rules = &objects.only("NetworkPolicy")["spec"]["egress"];
    assert_eq!(rules[0]["to"], dns_peers);
    assert_eq!(
        rules[1]["ports"],
        json!([{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}])
    );
    let objects = render(json!({"networkPolicy": {"enabled": true, "egress": egress(&json!([]))}}));
    let rules = objects.only("NetworkPolicy")["spec"]["egress"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "{rules:?}");
    assert_eq!(rules[0]["to"], api_server_peers);
}

#[test]
fn no_egress_rule_opens_a_port_to_any_address() {
    let said = |egress: Value| refusal(json!({"networkPolicy": {"enabled": true, "egress": egress}}));
    let text = said(json!({"enabled": true}));
    assert!(text.contains("networkPolicy.egress.apiServer.to is empty"), "{text}");

    let api_server = json!({"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}]});
    let good = json!({"to": [{"podSelector": {}}]});
    for open in [json!({"ports": [{"port": 51909}]}), json!({"to": []}), json!({"to": null}), json!({})] {
        let text = said(json!({"enabled": true, "apiServer": api_server, "rules": [good, open]}));
        assert!(text.contains("networkPolicy.egress.rules[1] has no `to`"), "{open}: {text}");
    }
    // Nothing is asked for where egress is free.
    render(json!({"networkPolicy": {"enabled": true, "egress": {"rules": [{}]}}}));
}

#[test]
fn the_crd() {
    assert!(render(json!({"crds": {"install": false}})).of_kind("CustomResourceDefinition").is_empty());
    let objects = render(json!({"crds": {"keep": false}}));
    let crd = objects.only("CustomResourceDefinition");
    assert_eq!(crd["metadata"].get("annotations"), None);
    assert_eq!(crd["spec"]["names"]["plural"], "registries");
}

#[test]
fn the_default_registry() {
    let values = json!({"registry": {"enabled": true, "name": "europe", "spec": spec()}});
    let known = ["--api-versions", "routr.io/v2beta1/Registry"];
    let objects = render_with(&values, &known);
    let registry = objects.named("Registry", "voice", "europe");
    assert_eq!(registry["apiVersion"], "routr.io/v2beta1");
    assert_eq!(registry["spec"], spec());
    assert_eq!(registry["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
    assert!(
        render_with(&values, &[]).of_kind("Registry").is_empty(),
        "the API server would refuse the whole release"
    );
    assert!(render_with(&json!({"registry": {"spec": spec()}}), &known).of_kind("Registry").is_empty());
}

#[test]
fn names() {
    let name = |values: Value| render(values).only("Deployment")["metadata"]["name"].clone();
    assert_eq!(name(json!({})), NAME);
    assert_eq!(name(json!({"nameOverride": "other"})), "routr-registry-other");
    assert_eq!(name(json!({"fullnameOverride": "keeper"})), "keeper");
    let longest = "k".repeat(52);
    for name in render(json!({ "fullnameOverride": longest })).names() {
        let name = name.rsplit('/').next().unwrap().to_owned();
        assert!(name.len() <= 63 || name.contains(':'), "{name}");
    }
}
