//! The Registry resource on a real API server: what its rules refuse and with which words, defaults, what
//! kubectl shows. No operator runs here: the tests write the status themselves.

mod refused;
mod taken;

use std::collections::BTreeMap;

use routr_registry::config::{Config, Secrets};
use routr_registry::spec::RegistrySpec;
use routr_types::secret::Secret;
use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Namespace};

/// The least that is good, with the keys of `patch` instead of its own.
fn spec(patch: &Value) -> Value {
    let mut spec = json!({ "requesterAddr": "r", "apiAddr": "a", "edgePorts": [{ "address": "e" }] });
    for (key, value) in patch.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn registry(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "routr.io/v2beta1",
        "kind": "Registry",
        "metadata": { "name": name, "namespace": namespace },
        "spec": spec,
    })
}

/// Asks the API server about each of `patches`, all at once: `None` for one that it takes, else what it says.
async fn judge(plane: &ControlPlane, namespace: &str, patches: &[Value]) -> Vec<Option<String>> {
    let name = |index: usize| format!("case{index}");
    let documents: Vec<String> = patches
        .iter()
        .enumerate()
        .map(|(index, patch)| ascii(&registry(namespace, &name(index), &spec(patch))))
        .collect();
    let args = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
    let answer = plane.kubectl_stdin(args, &documents.join("\n---\n")).await;
    // A message takes several lines at times.
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    for message in answer.stderr.split("Error from server (Invalid): Registry.routr.io \"").skip(1) {
        let (name, text) = message.split_once('"').unwrap();
        refused.insert(name.to_owned(), text.to_owned());
    }
    let verdicts: Vec<Option<String>> = (0..patches.len()).map(|at| refused.remove(&name(at))).collect();
    for (index, verdict) in verdicts.iter().enumerate() {
        let line = format!("registry.routr.io/{} serverside-applied (server dry run)", name(index));
        let taken = answer.stdout.lines().any(|said| said == line);
        assert_eq!(taken, verdict.is_none(), "{}: {answer}", patches[index]);
    }
    assert!(refused.is_empty());
    verdicts
}

/// The document with nothing but visible ASCII in it: kubectl reads it as YAML, which knows no control
/// characters.
fn ascii(document: &Value) -> String {
    let mut text = String::new();
    for c in document.to_string().chars() {
        match c {
            ' '..='~' => text.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    text
}

/// Returns the configuration that the operator would make of it, if the API server let it through.
fn interpret(patch: &Value) -> Result<Config, String> {
    let spec: RegistrySpec = serde_json::from_value(spec(patch)).map_err(|error| error.to_string())?;
    let cache = spec.cache.clone().unwrap_or_default();
    let secrets = Secrets {
        parameters: cache.parameters_secret_ref.map(|_| Secret::new("host=r")),
        password: cache.password_secret_ref.map(|_| Secret::new("p")),
        requester_token: spec.requester_token_secret_ref.as_ref().map(|_| Secret::new("t")),
    };
    Config::from_resource("name", &spec, &secrets).map_err(|mistakes| mistakes.to_string())
}

fn key(name: &str) -> Value {
    json!({ "name": name, "key": "key" })
}

#[tokio::test]
async fn unknown_keys_are_refused_and_defaults_filled_in() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("defaults").await;
    let slip = registry(&namespace, "slip", &spec(&json!({ "registerIntervall": "5s" }))).to_string();
    // kubectl asks for strict validation; a client that does not has the key dropped.
    for args in [&["create", "-f", "-"][..], &["apply", "-f", "-"], &["apply", "--server-side", "-f", "-"]] {
        let said = plane.kubectl_stdin(args, &slip).await.refused();
        assert!(said.contains("spec.registerIntervall"), "{said}");
    }

    let given = spec(&json!({}));
    let text = registry(&namespace, "main", &given).to_string();
    let applied = plane.kubectl_stdin(["apply", "--server-side", "-f", "-"], &text).await;
    assert_eq!(applied.stderr, "", "nothing is warned of");
    let stored = plane.kubectl(["get", "reg", "main", "-n", &namespace, "-o", "json"]).await.json();
    let expected = json!({
        "requesterAddr": "r",
        "apiAddr": "a",
        "edgePorts": [{ "address": "e" }],
        "registerInterval": "60s",
        "apiTimeout": "30s",
        "sync": {
            "maxPages": 10_000,
            "maxTrunks": 1_000_000,
            "maxBytes": 536_870_912,
            "maxTrunkBytes": 262_144,
        },
        "methods": [],
        "suspend": false,
        "cache": { "provider": "memory" },
        "registration": {
            "expires": "600s",
            "maxInFlight": 1000,
            "ratePerRegistrar": 20,
            "timeout": "40s",
            "userAgent": "Routr Connect v2",
            "require": ["gin"],
            "tlsUriScheme": "sips",
        },
    });
    assert_eq!(stored["spec"], expected);
    let config = |spec: &Value| {
        let spec: RegistrySpec = serde_json::from_value(spec.clone()).unwrap();
        Config::from_resource("main", &spec, &Secrets::default()).unwrap()
    };
    assert_eq!(config(&stored["spec"]), config(&given), "the defaults of the schema are those of the code");
}

#[tokio::test]
async fn kubectl_explains_every_key() {
    let plane = ControlPlane::shared().await;
    for (path, expected) in [
        ("registries", "Keeps the SIP registrations of Routr's trunks alive"),
        ("registry.spec.apiAddr", "Address of the API server that lists the trunks"),
        ("registries.spec.registerInterval", "1s to 24h. Default: `60s`."),
        ("registries.spec.suspend", "sends nothing, and lets the bindings expire"),
        ("registries.spec.cache.provider", "ENUM: memory redis DESCRIPTION:"),
        ("registries.spec.cache.provider", "Default: `memory`."),
        ("registries.spec.cache.passwordSecretRef", "holds only the password of Redis"),
        ("registries.spec.cache.passwordSecretRef.key", "Key in its data"),
        ("reg.spec.edgePorts.address", "a leading `sip:` is allowed"),
        ("reg.spec.registration.require", "`[]` for none"),
        ("registries.status.trunks.atRisk", "the last attempt to refresh it failed"),
        ("registries.status.failures.nextAttemptTime", "Time when the next REGISTER is due"),
    ] {
        let said = plane.kubectl(["explain", path]).await.ok();
        let one_line = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(one_line.contains(expected), "{path}: {said}");
    }
    let all = plane.kubectl(["explain", "registries.spec", "--recursive"]).await.ok();
    assert!(all.contains("requesterAddr\t<string> -required-"), "{all}");
}

/// Creates a Registry of which the test says how it stands.
async fn with_status(plane: &ControlPlane, namespace: &Namespace, ready: &str) {
    let text = registry(namespace, "main", &spec(&json!({}))).to_string();
    plane.kubectl_stdin(["apply", "-f", "-"], &text).await.ok();
    set_ready(plane, namespace, ready, 1).await;
}

async fn set_ready(plane: &ControlPlane, namespace: &Namespace, ready: &str, generation: u32) {
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "in plain words",
            "lastTransitionTime": "2026-11-23T01:00:00Z", "observedGeneration": generation,
        })
    };
    let reason = if ready == "True" { "TrunksAtRisk" } else { "TrunksFailing" };
    let status = json!({ "status": {
        "observedGeneration": generation,
        "observedTime": "2026-11-23T01:00:00Z",
        "conditions": [
            condition("Ready", ready, reason),
            condition("APIReachable", "True", "TrunksRead"),
            condition("RequesterReachable", "False", "Refused"),
            condition("CacheReachable", "Unknown", "NeverAsked"),
        ],
        "trunks": { "total": 12, "registered": 7, "atRisk": 2, "failing": 3, "invalid": 0, "pending": 0, "deregistering": 1 },
        "lastSyncTime": "2026-11-23T01:00:00Z",
        "nextExpiryTime": "2126-11-23T04:05:06Z",
    } });
    let patch = format!("--patch={status}");
    plane
        .kubectl([
            "patch",
            "registry",
            "main",
            "-n",
            namespace,
            "--subresource=status",
            "--type=merge",
            &patch,
        ])
        .await
        .ok();
}

/// Rows of a table as cells; columns are two blanks or more apart.
fn rows(table: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    table.lines().map(cells).collect()
}

#[tokio::test]
async fn kubectl_get_says_in_one_line_how_they_are() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("columns").await;
    with_status(plane, &namespace, "False").await;
    let within = format!("--namespace={}", namespace.name());

    for what in ["registries", "registry", "reg", "routr", "registries.v2beta1.routr.io"] {
        let table = rows(&plane.kubectl(["get", what, &within]).await.ok());
        let columns = ["NAME", "READY", "TRUNKS", "REGISTERED", "FAILING", "REASON", "OBSERVED", "AGE"];
        assert_eq!(table[0], columns, "{what}");
        assert_eq!(table[1][..6], ["main", "False", "12", "7", "3", "TrunksFailing"], "{what}");
        assert_eq!(table.len(), 2);
    }
    let wide = rows(&plane.kubectl(["get", "reg", &within, "--output=wide"]).await.ok());
    assert_eq!(
        wide[0],
        [
            "NAME",
            "READY",
            "TRUNKS",
            "REGISTERED",
            "FAILING",
            "REASON",
            "OBSERVED",
            "API",
            "REQUESTER",
            "CACHE",
            "NEXT EXPIRY",
            "LAST SYNC",
            "AGE"
        ]
    );
    assert_eq!(wide[1][5], "TrunksFailing");
    assert_eq!(wide[1][7..11], ["True", "False", "Unknown", "2126-11-23T04:05:06Z"]);
    assert!(!wide[1].iter().any(|cell| cell.contains("invalid")), "{wide:?}");
}

#[tokio::test]
async fn the_status_is_a_subresource_and_can_be_waited_for() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("status").await;
    with_status(plane, &namespace, "False").await;
    let within = format!("--namespace={}", namespace.name());
    let get = async || plane.kubectl(["get", "reg", "main", &within, "--output=json"]).await.json();
    let before = get().await;
    assert_eq!(before["metadata"]["generation"], 1, "a status is no new generation");

    // Who may write the resource does not write its status by that.
    let patch = r#"--patch={"status":{"observedGeneration":7},"spec":{"suspend":true}}"#;
    plane.kubectl(["patch", "reg", "main", &within, "--type=merge", patch]).await.ok();
    let after = get().await;
    assert_eq!((&after["metadata"]["generation"], &after["spec"]["suspend"]), (&json!(2), &json!(true)));
    assert_eq!(after["status"], before["status"]);

    let wait = ["wait", "--for=condition=Ready", "reg/main", &within];
    let said = plane.kubectl(wait.into_iter().chain(["--timeout=1s"])).await.refused();
    assert!(said.contains("timed out waiting"), "{said}");
    // kubectl takes no condition that is about an older generation of the spec.
    set_ready(plane, &namespace, "True", 1).await;
    plane.kubectl(wait.into_iter().chain(["--timeout=1s"])).await.refused();
    let waiting = plane.kubectl(wait.into_iter().chain(["--timeout=150s"]));
    let (waited, ()) = tokio::join!(waiting, set_ready(plane, &namespace, "True", 2));
    assert_eq!(waited.ok(), "registry.routr.io/main condition met\n");

    // Server-side apply merges conditions by their type: one field manager's does not remove another's.
    let conditions = json!({
        "apiVersion": "routr.io/v2beta1", "kind": "Registry",
        "metadata": { "name": "main", "namespace": namespace.name() },
        "status": { "conditions": [{
            "type": "Stalled", "status": "False", "reason": "SpecFollowed", "message": "",
            "lastTransitionTime": "2026-11-23T01:00:00Z",
        }] },
    });
    let args = ["apply", "--server-side", "--subresource=status", "--field-manager=another", "-f", "-"];
    plane.kubectl_stdin(args, &conditions.to_string()).await.ok();
    let conditions = get().await["status"]["conditions"].as_array().unwrap().len();
    assert_eq!(conditions, 5);
}
