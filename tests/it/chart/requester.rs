//! The chart's Requester: what each switch renders, and what it does as a process with the same arguments.

use std::net::SocketAddr;

use clap::Parser;
use routr_net::addresses::{AddressPolicy, NEVER};
use routr_registry::cli::{Cli, Command};
use routr_registry::requester::RequesterArgs;
use serde_json::{Value, json};

use super::{Objects, refusal, render, render_with};

const NAME: &str = "routr-registry-requester";
/// Flags with which helm renders a Registry.
const KNOWN: [&str; 2] = ["--api-versions", "routr.io/v2beta1/Registry"];

/// Values with a Requester that has these of its own.
fn values(requester: Value) -> Value {
    let mut requester = requester;
    requester["enabled"] = json!(true);
    json!({ "requester": requester })
}

fn requester(own: Value) -> Objects {
    render(values(own))
}

/// The template of its pods.
#[track_caller]
fn pod(objects: &Objects) -> &Value {
    &objects.named("Deployment", "voice", NAME)["spec"]["template"]["spec"]
}

#[track_caller]
fn container(objects: &Objects) -> &Value {
    let containers = pod(objects)["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{containers:#?}");
    &containers[0]
}

/// Arguments as the program reads them.
#[track_caller]
fn parsed(objects: &Objects) -> RequesterArgs {
    let args = container(objects)["args"].as_array().unwrap();
    let args = args.iter().map(|argument| argument.as_str().unwrap());
    match Cli::try_parse_from(["routr-registry"].into_iter().chain(args)) {
        Ok(Cli { command: Command::Requester(args), .. }) => *args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_requester_is_rendered_beside_the_operator_and_no_selector_of_one_finds_the_other() {
    let objects = requester(json!({}));
    let without = render(json!({}));
    let added: Vec<String> =
        objects.names().into_iter().filter(|name| !without.names().contains(name)).collect();
    let expected = ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"];
    assert_eq!(added, expected.map(|kind| format!("{kind} voice/{NAME}")));

    let pods = |name: &str| {
        let labels = &objects.named("Deployment", "voice", name)["spec"]["template"]["metadata"]["labels"];
        labels.as_object().unwrap().clone()
    };
    let pods = [pods("routr-registry"), pods(NAME)];
    let selectors: Vec<(String, Value)> = objects
        .0
        .iter()
        .filter_map(|object| {
            let selector = match object["kind"].as_str()? {
                "Service" => &object["spec"]["selector"],
                "NetworkPolicy" => &object["spec"]["podSelector"]["matchLabels"],
                "Deployment" | "PodDisruptionBudget" => &object["spec"]["selector"]["matchLabels"],
                _ => return None,
            };
            Some((object["metadata"]["name"].as_str()?.to_owned(), selector.clone()))
        })
        .collect();
    assert_eq!(selectors.len(), 7);
    for (name, selector) in selectors {
        let selector = selector.as_object().unwrap();
        let selects =
            pods.each_ref().map(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
        assert_eq!(selects, [name != NAME, name == NAME], "{name}: {selector:?}");
    }
}

#[test]
fn the_service_is_headless_so_that_the_registry_reaches_every_pod() {
    let objects = requester(json!({"port": 5000, "httpPort": 5001, "service": {"annotations": {"a": "b"}}}));
    let service = objects.named("Service", "voice", NAME);
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"].get("publishNotReadyAddresses"), None, "only those that are ready");
    assert_eq!(service["metadata"]["annotations"], json!({"a": "b"}));
    let port =
        |name: &str, port: u16| json!({"name": name, "port": port, "targetPort": name, "protocol": "TCP"});
    assert_eq!(service["spec"]["ports"], json!([port("grpc", 5000), port("http", 5001)]));
    let ports = container(&objects)["ports"].as_array().unwrap().clone();
    let ports: Vec<_> =
        ports.iter().map(|port| (port["name"].clone(), port["containerPort"].clone())).collect();
    assert_eq!(ports, [(json!("grpc"), json!(5000)), (json!("http"), json!(5001))]);
}

#[test]
fn the_pods_of_the_requester_are_restricted_and_have_probes_and_no_token_of_kubernetes() {
    let objects = requester(json!({}));
    let (pod, container) = (pod(&objects), container(&objects));
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "http"}), "{probe}");
    }
    assert_eq!(pod.get("hostNetwork"), None);
    assert_eq!(pod.get("volumes"), None);
}

#[test]
fn by_default_the_program_sends_registers_to_public_addresses_only() {
    let objects = requester(json!({}));
    let args = parsed(&objects);
    assert_eq!(args.listen, "0.0.0.0:51909".parse::<SocketAddr>().unwrap());
    assert_eq!(args.http_listen, Some("0.0.0.0:8080".parse().unwrap()));
    assert_eq!(args.allow_method.len(), 1);
    let policy = AddressPolicy::new(NEVER, args.allow_target, args.deny_target);
    for inside in ["127.0.0.1", "[::1]", "10.96.0.1", "172.20.0.1", "192.168.1.1", "100.64.0.9", "[fd00::1]"]
    {
        assert!(!policy.permits(format!("{inside}:5060").parse().unwrap()), "{inside}");
    }
    for inside in ["169.254.169.254", "224.0.0.1", "[::ffff:10.0.0.1]", "0.0.0.0"] {
        assert!(!policy.permits(format!("{inside}:5060").parse().unwrap()), "{inside}");
    }
    for outside in ["198.51.100.7", "[2606:4700::1]"] {
        assert!(policy.permits(format!("{outside}:5060").parse().unwrap()), "{outside}");
    }
    let args = parsed(&requester(json!({"allowTargets": ["10.0.0.9:5060"], "denyTargets": ["10.0.0.0/8"]})));
    let policy = AddressPolicy::new(NEVER, args.allow_target, args.deny_target);
    let permitted = ["10.0.0.9:5060", "10.0.0.9:5061", "10.0.0.8:5060", "127.0.0.1:5060"];
    assert_eq!(permitted.map(|at| policy.permits(at.parse().unwrap())), [true, false, false, true]);
}

#[test]
fn each_secret_becomes_a_file_that_a_flag_names() {
    let objects = requester(json!({
        "token": {"secretName": "door", "key": "now"},
        "tls": {"secretName": "served", "clientCA": {"secretName": "callers", "key": "all.pem"}},
        "sip": {"ca": {"secretName": "registrars"}, "tls": {"secretName": "shown"}, "contact": "$(HOST_IP):5080", "port": 5080},
        "mode": "proxied",
        "extraArgs": ["--sip-bind=127.0.0.1"],
        "extraVolumes": [{"name": "own", "secret": {"secretName": "own"}}],
        "extraVolumeMounts": [{"name": "own", "mountPath": "/own"}],
    }));
    let args = container(&objects)["args"].as_array().unwrap();
    let has = |flag: &str| assert!(args.contains(&json!(flag)), "{flag}: {args:#?}");
    has("--contact=$(HOST_IP):5080");
    // The kubelet expands it; the program reads the address.
    let environment = container(&objects)["env"].as_array().unwrap();
    assert_eq!(
        environment[0],
        json!({"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}})
    );
    let mut expanded = Objects(objects.0.clone());
    for object in expanded.0.iter_mut().filter(|object| object["kind"] == "Deployment") {
        let args = object["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap();
        for argument in args {
            *argument = json!(argument.as_str().unwrap().replace("$(HOST_IP)", "192.0.2.7"));
        }
    }
    let parsed = parsed(&expanded);
    assert_eq!(parsed.contact.unwrap().to_string(), "192.0.2.7:5080");
    assert_eq!(parsed.sip_port, 5080);
    let sip = parsed.sip_tls;
    let files = [parsed.token_file, parsed.tls_cert, parsed.tls_key, parsed.client_ca];
    let files = files.into_iter().chain([sip.ca_file, sip.sip_tls_cert, sip.sip_tls_key]);
    let files: Vec<_> = files.map(|file| file.unwrap().to_str().unwrap().to_owned()).collect();
    let expected = ["token/now", "tls/tls.crt", "tls/tls.key", "client-ca/all.pem", "sip-ca/ca.crt"];
    let expected = expected.into_iter().chain(["sip-tls/tls.crt", "sip-tls/tls.key"]);
    let expected: Vec<_> = expected.map(|file| format!("/etc/routr/requester/{file}")).collect();
    assert_eq!(files, expected);

    // Each file is in a volume, from the Secret that was named.
    let (volumes, mounts) = (&pod(&objects)["volumes"], &container(&objects)["volumeMounts"]);
    let file_of = |file: &String| {
        let mount = mounts.as_array().unwrap().iter().find(|mount| {
            let path = mount["mountPath"].as_str().unwrap();
            file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        });
        let mount = mount.unwrap_or_else(|| panic!("{file} is in none of {mounts:#}"));
        assert_eq!(mount["readOnly"], true);
        assert_eq!(mount.get("subPath"), None, "a part of a volume is not updated");
        let volume =
            volumes.as_array().unwrap().iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let key = file.rsplit('/').next().unwrap();
        let items = volume["secret"]["items"].as_array().unwrap();
        assert!(items.contains(&json!({"key": key, "path": key})), "{volume:#}");
        volume["secret"]["secretName"].as_str().unwrap().to_owned()
    };
    let secrets: Vec<_> = files.iter().map(file_of).collect();
    assert_eq!(secrets, ["door", "served", "served", "callers", "registrars", "shown", "shown"]);
    assert_eq!(volumes.as_array().unwrap().len(), 6, "and the one of the values: {volumes:#}");

    let said = refusal(values(json!({"tls": {"clientCA": {"secretName": "callers"}}})));
    assert!(said.contains("requester.tls.clientCA.secretName needs requester.tls.secretName"), "{said}");
}

#[test]
fn the_network_of_the_node_needs_a_login_and_has_no_policy() {
    let said = refusal(values(json!({"hostNetwork": true})));
    assert!(
        said.contains("requester.hostNetwork opens port 51909") && said.contains("token.secretName"),
        "{said}"
    );
    let objects = requester(json!({"hostNetwork": true, "token": {"secretName": "door"}}));
    let pod = pod(&objects);
    assert_eq!((&pod["hostNetwork"], &pod["dnsPolicy"]), (&json!(true), &json!("ClusterFirstWithHostNet")));
    assert!(objects.of_kind("NetworkPolicy").is_empty(), "it would only look as if");
    let strategy = |objects: &Objects| {
        objects.named("Deployment", "voice", NAME)["spec"]["strategy"]["rollingUpdate"].clone()
    };
    assert_eq!(strategy(&objects), json!({"maxUnavailable": 1, "maxSurge": 0}), "the ports are taken");
    assert_eq!(strategy(&requester(json!({}))), json!({"maxUnavailable": 0, "maxSurge": 1}));
}

#[test]
fn the_policy_lets_the_operator_in_and_sip_out() {
    let objects = requester(json!({}));
    let policy = &objects.named("NetworkPolicy", "voice", NAME)["spec"];
    let operator = objects.named("Deployment", "voice", "routr-registry")["spec"]["selector"].clone();
    let calls = json!({"ports": [{"port": "grpc", "protocol": "TCP"}], "from": [{"podSelector": operator}]});
    let probes = json!({"ports": [{"port": "http", "protocol": "TCP"}]});
    assert_eq!(policy["ingress"], json!([calls, probes]));
    let egress = policy["egress"].as_array().unwrap();
    assert_eq!(egress.len(), 2);
    assert_eq!(egress[0]["ports"][0], json!({"port": 53, "protocol": "UDP"}));
    let ports: Vec<_> = egress[1]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap()))
        .collect();
    assert_eq!(ports, ["5060/UDP", "5060/TCP", "5061/UDP", "5061/TCP"]);
    assert!(egress[1]["to"][0]["ipBlock"]["except"].to_string().contains("10.0.0.0/8"));

    let (peer, rule) =
        (json!({"podSelector": {"matchLabels": {"app": "registry"}}}), json!({"to": [{"podSelector": {}}]}));
    let mut all = values(json!({"networkPolicy": {
        "ingress": {"from": [peer], "rules": [{"ports": [{"port": 5060, "protocol": "UDP"}]}]},
        "egress": {"ports": [5080], "to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "rules": [rule]},
    }}));
    all["networkPolicy"] = json!({"enabled": true, "ingress": {"from": [{"namespaceSelector": {}}]}, "egress": {
        "enabled": true, "apiServer": {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}]}}});
    let objects = render(all);
    let policy = &objects.named("NetworkPolicy", "voice", NAME)["spec"];
    assert_eq!(policy["ingress"][0]["from"][1], peer);
    assert_eq!(policy["ingress"][1]["from"], json!([{"namespaceSelector": {}}]));
    assert_eq!(policy["ingress"][2]["ports"][0]["port"], 5060);
    assert_eq!(policy["egress"][1]["to"], json!([{"ipBlock": {"cidr": "198.51.100.0/24"}}]));
    assert_eq!(policy["egress"][2], rule);
    // What the operator may reach then includes the Requester.
    let operator = &objects.named("NetworkPolicy", "voice", "routr-registry")["spec"]["egress"];
    let to_it = operator.as_array().unwrap().iter().find(|rule| rule["ports"][0]["port"] == 51909).unwrap();
    let selector = &objects.named("Deployment", "voice", NAME)["spec"]["selector"];
    assert_eq!(to_it["to"], json!([{"podSelector": selector}]));

    let open = |rules: Value| refusal(values(json!({"networkPolicy": {"egress": rules}})));
    assert!(open(json!({"to": []})).contains("requester.networkPolicy.egress.to is empty"));
    assert!(open(json!({"rules": [{"ports": [{"port": 1}]}]})).contains("egress.rules[0] has no `to`"));
    let objects = requester(json!({"networkPolicy": {"egress": {"enabled": false}}}));
    let policy = &objects.named("NetworkPolicy", "voice", NAME)["spec"];
    assert_eq!((&policy["policyTypes"], policy.get("egress")), (&json!(["Ingress"]), None));
    assert!(requester(json!({"networkPolicy": {"enabled": false}})).of_kind("NetworkPolicy").is_empty());
}

#[test]
fn a_budget_a_monitor_and_where_the_pods_run() {
    assert_eq!(requester(json!({"replicas": 1})).of_kind("PodDisruptionBudget").len(), 1, "the operator's");
    let mut all = values(json!({
        "replicas": 3,
        "nodeSelector": {"voice": "yes"},
        "tolerations": [{"key": "voice", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        "priorityClassName": "important",
        "podLabels": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "resources": {"limits": {"memory": "1Gi"}},
        "extraEnv": [{"name": "RUST_LOG", "value": "trace"}],
    }));
    all["metrics"] =
        json!({"serviceMonitor": {"enabled": true, "labels": {"release": "p"}, "interval": "15s"}});
    let objects = render(all);
    let deployment = &objects.named("Deployment", "voice", NAME)["spec"];
    assert_eq!(deployment["replicas"], 3);
    assert_eq!(objects.named("PodDisruptionBudget", "voice", NAME)["spec"]["maxUnavailable"], 1);
    let pod = pod(&objects);
    assert_eq!(pod["nodeSelector"], json!({"voice": "yes"}));
    assert_eq!(pod["tolerations"][0]["key"], "voice");
    assert!(pod["affinity"].get("nodeAffinity").is_some());
    assert_eq!(pod["priorityClassName"], "important");
    assert_eq!(pod["topologySpreadConstraints"][0]["labelSelector"], deployment["selector"]);
    assert_eq!(deployment["template"]["metadata"]["labels"]["a"], "b");
    assert_eq!(deployment["template"]["metadata"]["annotations"], json!({"c": "d"}));
    assert_eq!(container(&objects)["resources"]["limits"]["memory"], "1Gi");
    assert!(container(&objects)["env"].to_string().contains("RUST_LOG"));
    let monitor = objects.named("ServiceMonitor", "voice", NAME);
    assert_eq!(
        monitor["spec"]["endpoints"],
        json!([{"port": "http", "path": "/metrics", "interval": "15s"}])
    );
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let service = &objects.named("Service", "voice", NAME)["metadata"]["labels"];
    let operators = &objects.named("Service", "voice", "routr-registry-metrics")["metadata"]["labels"];
    assert!(wanted.iter().all(|(key, value)| &service[key] == value));
    assert!(!wanted.iter().all(|(key, value)| &operators[key] == value));
}

#[test]
fn the_registry_of_the_values_is_given_the_requester_of_the_chart() {
    let spec = json!({"apiAddr": "a", "edgePorts": [{"address": "e"}]});
    let of = |own: Value, spec: &Value, secrets: Value| {
        let mut all = values(own);
        all["registry"] = json!({"enabled": true, "spec": spec});
        all["rbac"] = json!({ "secrets": secrets });
        all
    };
    let rendered = |own: Value, spec: &Value, secrets: Value| {
        render_with(&of(own, spec, secrets), &KNOWN).named("Registry", "voice", "default")["spec"].clone()
    };
    let all = json!({});
    let made = rendered(json!({}), &spec, all.clone());
    assert_eq!(made["requesterAddr"], format!("{NAME}.voice.svc:51909"));
    assert_eq!(made.get("requesterTokenSecretRef"), None);
    let closed = json!({"port": 5000, "token": {"secretName": "door"}, "tls": {"secretName": "served"}});
    let made = rendered(closed.clone(), &spec, json!({"names": ["door"]}));
    assert_eq!(made["requesterAddr"], format!("https://{NAME}.voice.svc:5000"));
    assert_eq!(made["requesterTokenSecretRef"], json!({"name": "door", "key": "token"}));
    // What is given stays.
    let own = json!({"apiAddr": "a", "requesterAddr": "r", "edgePorts": [{"address": "e"}]});
    assert_eq!(rendered(closed.clone(), &own, all.clone()), own);
    for secrets in [json!({"names": ["redis"]}), json!({"enabled": false})] {
        let said = refusal(of(closed.clone(), &spec, secrets));
        assert!(said.contains("add it to rbac.secrets.names"), "{said}");
    }
    let mut without = of(json!({}), &spec, all);
    without["requester"]["enabled"] = json!(false);
    let said = refusal(without);
    assert!(
        said.contains("registry.spec.requesterAddr is missing") && said.contains("requester.enabled"),
        "{said}"
    );
}

#[test]
fn the_names_of_the_requester_fit_every_kind() {
    for name in ["9".repeat(52), "k".repeat(52), format!("{}-x", "k".repeat(50))] {
        let mut all = values(json!({}));
        all["fullnameOverride"] = json!(name);
        let objects = render(all);
        let of_requester: Vec<_> = objects
            .0
            .iter()
            .filter(|object| object["metadata"]["labels"]["app.kubernetes.io/component"] == "requester")
            .collect();
        assert_eq!(of_requester.len(), 4);
        for object in of_requester {
            let name = object["metadata"]["name"].as_str().unwrap();
            let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(name.bytes().all(good) && name.len() <= 63 && !name.contains("--"), "{name}");
            assert!(
                object["kind"] != "Service" || name.starts_with(|first: char| first.is_ascii_lowercase()),
                "{name}"
            );
        }
    }
}
