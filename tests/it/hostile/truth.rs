//! "Truth cannot be frozen": no text from outside keeps a status from being written.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use kube::Api;
use kube::api::{Patch, PatchParams};
use routr_registration::model::{Change, Record};
use routr_registry::config::RedisSettings;
use routr_registry::runtime::ports::Store;
use routr_registry::spec::Registry;
use routr_registry::store::RedisStore;
use routr_types::host::HostPort;
use routr_types::text;
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::operator::harness::{Installation, Operator, PACE, TestRegistry, condition, manifest};
use crate::standalone::test_registry::{log, trunk};
use crate::support::control_plane::ControlPlane;
use crate::support::http;
use crate::support::redis::{Options, Redis};
use crate::support::wait::{PATIENCE, wait_at_pace};

/// A start of each kind that some sink refuses or acts on.
const HOSTILE: &str = "\u{ffff}\u{fffe}\u{fdd0}\u{1ffff}\u{10ffff}\u{202e}\u{2066}\u{200f}\u{200b}\u{2028}\u{85}\u{1b}[2J\u{7f}\u{feff}\u{e0041}\u{e000}";
/// Longest wait of a test.
const SOON: std::time::Duration = PATIENCE;

/// A registrar on UDP that responds to each request with 403 and this phrase.
struct Registrar {
    address: SocketAddr,
    phrase: Arc<Mutex<String>>,
}

impl Registrar {
    async fn start(phrase: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let phrase = Arc::new(Mutex::new(phrase.to_owned()));
        let says = phrase.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let same = ["via:", "from:", "to:", "call-id:", "cseq:"];
                let lines = request
                    .lines()
                    .filter(|line| same.iter().any(|name| line.to_lowercase().starts_with(name)));
                let phrase = says.lock().unwrap().clone();
                let head: String = lines.map(|line| format!("{line}\r\n")).collect();
                let response = format!("SIP/2.0 403 {phrase}\r\n{head}Content-Length: 0\r\n\r\n");
                let _ = socket.send_to(response.as_bytes(), from).await;
            }
        });
        Self { address, phrase }
    }
}

/// Three trunks at that registrar, with hostile names or plain ones.
async fn stage_at(registrar: &Registrar, hostile: bool) -> TestRegistry {
    let stage = TestRegistry::with(&[]).await;
    let mut trunks: Vec<_> =
        ["a", "b", "c"].iter().map(|name| trunk(name, "127.0.0.1", registrar.address.port())).collect();
    if hostile {
        trunks[0].name = format!("First {HOSTILE}");
        trunks[1].r#ref = format!("b{HOSTILE}");
    }
    stage.api.set_trunks(trunks);
    stage
}

/// Fails where any text within has a character that is not plain.
fn is_plain(value: &Value) {
    match value {
        Value::String(text) => assert!(text.chars().all(text::is_plain), "{text:?}"),
        Value::Array(all) => all.iter().for_each(is_plain),
        Value::Object(map) => map.values().for_each(is_plain),
        _ => {}
    }
}

async fn writes(operator: &Operator, outcome: &str) -> u64 {
    let (_, metrics) = operator.public("/metrics").await.unwrap();
    let name = format!("routr_registry_status_writes_total{{result=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_phrase_and_names_that_no_sink_takes_do_not_freeze_the_status() {
    let registrar = Registrar::start(&format!("Forbidden{}", HOSTILE.replace('\u{85}', ""))).await;
    let stage = stage_at(&registrar, true).await;
    let cluster = Installation::shared("truth").await;
    let operator = cluster.start("pod-a");
    cluster.apply("main", &stage, "").await;
    let status = cluster.condition("main", "Ready", "False", "TrunksFailing").await;
    is_plain(&status);
    let failures = cluster
        .status("main", "three failures", |status| {
            status["failures"].as_array().is_some_and(|all| all.len() == 3)
        })
        .await;
    is_plain(&failures);
    let all = failures["failures"].to_string();
    assert!(all.contains("403 Forbidden\\\\u{ffff}\\\\u{fffe}"), "{all}");
    let first = failures["failures"].as_array().unwrap().iter().find(|one| one["ref"] == "a").unwrap();
    assert!(first["name"].as_str().unwrap().starts_with("First \\u{ffff}"), "{first:#}");
    assert_eq!((writes(&operator, "error").await, writes(&operator, "reduced").await), (0, 0));
    // An event has the same words.
    let look = async || {
        let events = cluster.events("main").await;
        let found = events.iter().any(|(_, note)| note.contains("403 Forbidden\\u{ffff}"));
        if found { Ok(()) } else { Err(format!("{events:?}")) }
    };
    wait_at_pace(PACE, look, SOON, "an event with the phrase").await;
    log(&operator.service).iter().for_each(|line| {
        let text = line.to_string();
        assert!(text.chars().all(|c| text::is_plain(c) || c.is_whitespace()), "{text:?}");
    });
}

/// The API server refuses a status that says this, whatever for.
fn policy(namespace: &str) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": namespace },
          "spec": {
            "matchConstraints": { "resourceRules": [{ "apiGroups": ["routr.io"], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": ["registries/status"] }] },
            "validations": [{ "expression": "!has(object.status.failures) || !object.status.failures.exists(f, has(f.message) && f.message.contains('Frozen'))",
                "message": "no such word" }] } },
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": namespace },
          "spec": { "policyName": namespace, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } } } } },
    ] })
    .to_string()
}

#[tokio::test]
async fn a_status_that_is_refused_all_the_same_follows_in_our_own_words() {
    let registrar = Registrar::start("Not now").await;
    let stage = stage_at(&registrar, false).await;
    let cluster = Installation::shared("refused").await;
    let namespace = cluster.namespace.name().to_owned();
    cluster.plane.kubectl_stdin(["apply", "--server-side", "-f", "-"], &policy(&namespace)).await.ok();
    cluster.apply("main", &stage, "  suspend: true\n").await;
    // The policy takes a moment to be in force.
    let probe = json!({ "status": { "failures": [{ "ref": "x", "state": "failing", "reason": "Refused", "message": "Frozen" }] } })
        .to_string();
    let look = async || {
        let args = [
            "patch",
            "registry",
            "main",
            "--subresource=status",
            "--type=merge",
            "--dry-run=server",
            "--patch",
            &probe,
        ];
        let answer = cluster.kubectl(&args).await;
        if answer.stderr.contains("no such word") { Ok(()) } else { Err(answer.to_string()) }
    };
    wait_at_pace(PACE, look, SOON, "the policy to be in force").await;

    *registrar.phrase.lock().unwrap() = "Frozen".to_owned();
    let operator = cluster.start("pod-a");
    cluster.apply("main", &stage, "").await;
    let status = cluster.condition("main", "Ready", "False", "TrunksFailing").await;
    let plain = |status: &Value| {
        let failures = status["failures"].as_array().cloned().unwrap_or_default();
        failures.len() == 3
            && failures
                .iter()
                .all(|one| one["ref"].as_str().is_some_and(|text| text.starts_with("withheld-")))
    };
    let status =
        if plain(&status) { status } else { cluster.status("main", "failures without words", plain).await };
    assert_eq!(status["failures"][0]["code"], 403, "{status:#}");
    assert_eq!(status["trunks"]["failing"], 3, "{status:#}");
    let ready = condition(&status, "Ready");
    assert!(ready["message"].as_str().unwrap().starts_with("Ready is False (TrunksFailing); "), "{ready:#}");
    assert!(writes(&operator, "reduced").await > 0);
    let warned = || {
        log(&operator.service)
            .iter()
            .filter(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with("the API server refuses the status"))
            })
            .count()
    };
    assert_eq!(warned(), 1);

    // What it says changes: the whole is tried again, and taken.
    *registrar.phrase.lock().unwrap() = "Another word".to_owned();
    for reference in ["a", "b", "c"] {
        let url = format!("http://127.0.0.1:{}/registrations/{reference}/refresh", operator.private);
        let (code, _) = http::post(&url, String::new()).await.unwrap();
        assert!(code.is_success(), "{code}");
    }
    let whole = |status: &Value| status["failures"].to_string().contains("403 Another word");
    let status = cluster.status("main", "the whole status", whole).await;
    assert!(status["failures"].to_string().contains("127.0.0.1"), "{status:#}");
    assert_eq!(warned(), 1);
    cluster
        .plane
        .kubectl(["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", &namespace])
        .await
        .ok();
}

/// A status whose failures say these.
fn status_of(messages: &[String]) -> Value {
    let failures: Vec<Value> = messages
        .iter()
        .enumerate()
        .map(|(n, text)| json!({ "ref": format!("r{n}"), "name": text, "state": "failing", "reason": "Refused", "message": text }))
        .collect();
    let failures = Value::Array(failures);
    json!({ "apiVersion": "routr.io/v2beta1", "kind": "Registry", "status": { "failures": failures } })
}

#[tokio::test]
async fn the_api_server_takes_all_of_unicode_as_it_is_sanitised() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("unicode").await;
    let stage = TestRegistry::bare().await;
    let args = ["apply", "--server-side", "--namespace", namespace.name(), "-f", "-"];
    plane.kubectl_stdin(args, &manifest("main", &stage, "  suspend: true\n")).await.ok();
    let api: Api<Registry> = Api::namespaced(plane.client().await, namespace.name());
    let parameters = PatchParams::apply("routr-registry").force();
    let send = async |status: &Value| api.patch_status("main", &parameters, &Patch::Apply(status)).await;
    for refused in ["\u{ffff}", "\u{fffe}"] {
        // What is not sanitised is refused: the test can fail.
        let error = send(&status_of(&[refused.to_owned()])).await.expect_err("an untouched character");
        let kube::Error::Api(refusal) = error else { panic!("{error}") };
        assert!(matches!(refusal.code, 400 | 422 | 500), "{refused:?}: {refusal:?}");
    }
    let characters: Vec<char> = ('\0'..=char::MAX).collect();
    assert_eq!(characters.len(), 1_112_064);
    for some in characters.chunks(40_000) {
        let messages: Vec<String> =
            some.chunks(1_000).map(|some| text::one_line(&String::from_iter(some))).collect();
        let stored =
            send(&status_of(&messages)).await.unwrap_or_else(|error| panic!("{:?}..: {error}", some[0]));
        let failures = stored.status.unwrap().failures;
        let stored: Vec<(String, String)> = failures.into_iter().map(|one| (one.name, one.message)).collect();
        let sent: Vec<(String, String)> = messages.into_iter().map(|text| (text.clone(), text)).collect();
        assert!(stored == sent, "{:?}.. came back as something else", some[0]);
    }
}

#[tokio::test]
async fn redis_keeps_all_of_unicode_as_it_came() {
    let redis = Redis::start(Options::default()).await;
    let settings = RedisSettings::new(HostPort::new("127.0.0.1", redis.port()));
    let store = RedisStore::new(&settings, "unicode").unwrap();
    let characters: Vec<char> = ('\0'..=char::MAX).collect();
    let record = |some: &[char]| Record {
        reference: String::from_iter(some).into(),
        cseq: 1,
        // Not all of it: a load of more than 8 MiB is no registry's.
        aor: String::from_iter(&some[some.len() / 2..]).into(),
        expires_at_ms: 0,
        granted_s: 60,
        edge_port: "".into(),
        more: None,
    };
    let records: Vec<Record> = characters.chunks(512).map(record).collect();
    store.apply(records.iter().cloned().map(Change::Put).collect()).await.unwrap();
    let mut loaded = store.load().await.unwrap();
    loaded.sort_by(|a, b| a.reference.cmp(&b.reference));
    let mut sent = records;
    sent.sort_by(|a, b| a.reference.cmp(&b.reference));
    assert!(loaded == sent, "something else came back");
}
