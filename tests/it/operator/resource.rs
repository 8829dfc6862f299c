//! The Registry resource on a real API server: what its rules refuse and with which words, defaults, what kubectl shows. No
//! operator runs here: the tests write the status themselves.

use std::collections::BTreeMap;

use routr_registry::config::{Config, Secrets};
use routr_registry::secret::Secret;
use routr_registry::spec::RegistrySpec;
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

/// The document with nothing but visible ASCII in it: kubectl reads it as YAML, which knows no control characters.
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

/// What the operator would make of it, if the API server let it through.
fn interpret(patch: &Value) -> Result<Config, String> {
    let spec: RegistrySpec = serde_json::from_value(spec(patch)).map_err(|error| error.to_string())?;
    let cache = spec.cache.clone().unwrap_or_default();
    let secrets = Secrets {
        parameters: cache.parameters_secret_ref.map(|_| Secret::new("host=r")),
        password: cache.password_secret_ref.map(|_| Secret::new("p")),
    };
    Config::from_resource("name", &spec, &secrets).map_err(|mistakes| mistakes.to_string())
}

fn key(name: &str) -> Value {
    json!({ "name": name, "key": "key" })
}

const INTERVAL: &str = "write a duration from 1s to 24h, such as 1m, or a number of seconds";
const API: &str =
    "write the host and port of the API server, such as localhost:51907, [::1]:51907 or https://api:51907";
const REQUESTER: &str = "write the host and port of the Requester, such as localhost:51909";
const EDGE: &str = "write the host and port of an EdgePort, such as 10.0.0.5:5060 or [2001:db8::5]:5060";
const COMMA: &str = "a password that holds a comma goes into a Secret, named by passwordSecretRef";

/// Each rule: a patch that breaks it, the field and what is said.
fn refused() -> Vec<(Value, &'static str, &'static str)> {
    let redis = |more: Value| {
        let mut cache = json!({ "provider": "redis" });
        cache.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        json!({ "cache": cache })
    };
    let registration = |key: &str, value: Value| json!({ "registration": { key: value } });
    let no_use = "of no use to the provider memory; write provider: redis in spec.cache, or remove it";
    vec![
        (json!({ "registerInterval": "999ms" }), "spec.registerInterval", INTERVAL),
        (json!({ "registerInterval": 0 }), "spec.registerInterval", INTERVAL),
        (json!({ "registerInterval": "0.5s" }), "spec.registerInterval", INTERVAL),
        (json!({ "registerInterval": "24h1s" }), "spec.registerInterval", INTERVAL),
        (json!({ "registerInterval": 86401 }), "spec.registerInterval", INTERVAL),
        (json!({ "registerInterval": "often" }), "spec.registerInterval", INTERVAL),
        (json!({ "apiTimeout": "11m" }), "spec.apiTimeout", "write a duration from 1s to 10m, such as 30s"),
        (
            registration("timeout", json!(121)),
            "spec.registration.timeout",
            "write a duration from 1s to 2m, such as 40s",
        ),
        (
            registration("expires", json!("9s")),
            "spec.registration.expires",
            "write a duration from 10s to 24h, such as 10m",
        ),
        (registration("expires", json!("10.5s")), "spec.registration.expires", "without a fraction"),
        (
            registration("ratePerRegistrar", json!(0)),
            "spec.registration.ratePerRegistrar",
            "from 0.001 to 1000000, or the word unlimited",
        ),
        (
            registration("ratePerRegistrar", json!("fast")),
            "spec.registration.ratePerRegistrar",
            "REGISTERs per second",
        ),
        (
            registration("maxInFlight", json!(0)),
            "spec.registration.maxInFlight",
            "should be greater than or equal to 1",
        ),
        (
            registration("maxInFlight", json!(100_001)),
            "spec.registration.maxInFlight",
            "should be less than or equal to 100000",
        ),
        (registration("userAgent", json!("a\r\nb")), "spec.registration.userAgent", "without line breaks"),
        (
            registration("userAgent", json!(" ")),
            "spec.registration.userAgent",
            "write a text of 1 to 256 characters",
        ),
        (
            registration("require", json!(["gin", "a b"])),
            "spec.registration.require",
            "write a SIP option tag, such as gin",
        ),
        (
            registration("require", json!(["gin", "GIN"])),
            "spec.registration.require",
            "two option tags are the same",
        ),
        (json!({ "methods": ["INVITE", ""] }), "spec.methods[1]", "should be at least 1 chars long"),
        (json!({ "methods": ["IN VITE"] }), "spec.methods", "write a SIP method, such as INVITE"),
        (
            json!({ "methods": ["INVITE", "invite"] }),
            "spec.methods",
            "two methods are the same; remove one of them",
        ),
        (
            json!({ "instanceId": "a b" }),
            "spec.instanceId",
            "write 1 to 128 visible ASCII characters without blanks",
        ),
        (json!({ "apiAddr": "me@host:1" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "http://host:1/path" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "sip:host:1" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "grpc://host" }), "spec.apiAddr", API),
        (json!({ "requesterAddr": "2001:db8::1" }), "spec.requesterAddr", REQUESTER),
        (json!({ "requesterAddr": "[2001:db8::g]" }), "spec.requesterAddr", REQUESTER),
        (json!({ "requesterAddr": "10.0.0.256" }), "spec.requesterAddr", REQUESTER),
        (json!({ "requesterAddr": "host:65536" }), "spec.requesterAddr", REQUESTER),
        (json!({ "requesterAddr": "" }), "spec.requesterAddr", REQUESTER),
        (json!({ "edgePorts": [] }), "spec.edgePorts", "should have at least 1 items"),
        (
            json!({ "edgePorts": [{ "address": "e" }, { "address": "sips:e" }] }),
            "spec.edgePorts[1].address",
            EDGE,
        ),
        (json!({ "edgePorts": [{ "address": "e;transport=tcp" }] }), "spec.edgePorts[0].address", EDGE),
        (
            json!({ "edgePorts": [{ "address": "e", "region": "a\nb" }] }),
            "spec.edgePorts[0].region",
            "write the name of a region",
        ),
        (
            json!({ "edgePorts": [{ "address": "sip:E" }, { "address": "f" }, { "address": "e:5060" }] }),
            "spec.edgePorts",
            "two EdgePorts have the same address; remove one of them",
        ),
        (
            json!({ "tls": { "caFile": "/ca.pem" } }),
            "spec.tls.caFile",
            "of no use, since neither address is https://",
        ),
        (
            json!({ "apiAddr": "https://a", "tls": { "caFile": "" } }),
            "spec.tls.caFile",
            "write the path of a PEM file",
        ),
        (
            json!({ "cache": { "provider": "etcd" } }),
            "spec.cache.provider",
            r#"supported values: "memory", "redis""#,
        ),
        (json!({ "cache": { "parameters": "host=r" } }), "spec.cache.parameters", no_use),
        (json!({ "cache": { "parametersSecretRef": key("s") } }), "spec.cache.parametersSecretRef", no_use),
        (json!({ "cache": { "passwordSecretRef": key("s") } }), "spec.cache.passwordSecretRef", no_use),
        (
            redis(json!({ "parameters": "host=r", "parametersSecretRef": key("s") })),
            "spec.cache.parametersSecretRef",
            "both parameters and parametersSecretRef are given; keep one of them",
        ),
        (
            redis(json!({ "parameters": "password=x", "passwordSecretRef": key("s") })),
            "spec.cache.passwordSecretRef",
            "a password in the parameters and passwordSecretRef are given; keep one of them",
        ),
        (
            redis(json!({ "parameters": "host=r, passwordFile=/p" })),
            "spec.cache.parameters",
            "passwordFile names a file of the operator's own pod; put the password into a Secret",
        ),
        (redis(json!({ "parameters": "password=Zq7xKw9vJtB,Zq7xKw" })), "spec.cache.parameters", COMMA),
        (redis(json!({ "parameters": "password=Zq7xKw9vJtB,hots=r" })), "spec.cache.parameters", COMMA),
    ]
}

/// What CEL does not judge as `src/config` does, since it is the shape of a Secret reference, which is not looked at there,
/// or a bound of the API server alone.
fn refused_by_the_schema_alone() -> Vec<(Value, &'static str, &'static str)> {
    let many: Vec<Value> = (0..65).map(|n| json!({ "address": format!("e{n}") })).collect();
    let reference = |name: &str, key: &str| json!({ "cache": { "provider": "redis", "passwordSecretRef": { "name": name, "key": key } } });
    vec![
        (json!({ "edgePorts": many }), "spec.edgePorts", "must have at most 64 items"),
        (
            json!({ "apiAddr": "a".repeat(60) + &".b".repeat(100) }),
            "spec.apiAddr",
            "may not be more than 253",
        ),
        (
            reference("A b", "key"),
            "spec.cache.passwordSecretRef.name",
            "write the name of a Secret in the same namespace",
        ),
        (reference("a", "../b"), "spec.cache.passwordSecretRef.key", "write a key of the Secret's data"),
        (json!({ "registerInterval": "1 m 30 s" }), "spec.registerInterval", INTERVAL),
        (json!({ "registerInterval": 1.5 }), "spec.registerInterval", "must be of type integer,string"),
        (
            json!({ "registration": { "ratePerRegistrar": "1e3" } }),
            "spec.registration.ratePerRegistrar",
            "REGISTERs per second",
        ),
    ]
}

#[tokio::test]
async fn each_rule_refuses_with_words_that_a_person_understands() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("rules").await;
    let (ours, alone) = (refused(), refused_by_the_schema_alone());
    let patches: Vec<Value> = ours.iter().chain(&alone).map(|(patch, ..)| patch.clone()).collect();
    let verdicts = judge(plane, &namespace, &patches).await;
    for ((patch, field, expected), verdict) in ours.iter().chain(&alone).zip(verdicts) {
        let said = verdict.unwrap_or_else(|| panic!("{patch} is taken"));
        assert!(said.contains(&format!("{field}: ")) && said.contains(expected), "{patch}: {said}");
        assert!(!said.contains("Zq7x"), "a password is shown: {said}");
    }
    for (patch, ..) in &ours {
        assert!(interpret(patch).is_err(), "the rules refuse {patch}, the interpretation does not");
    }
}

#[tokio::test]
async fn what_is_good_is_taken_and_good_for_the_operator() {
    let edge_ports: Vec<Value> = (0..64)
        .map(|n| json!({ "address": format!("sip:[2001:db8::{n:x}]:5060"), "region": format!("region {n}") }))
        .collect();
    let redis = |more: Value| {
        let mut cache = json!({ "provider": "redis" });
        cache.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        json!({ "cache": cache })
    };
    let mut patches = vec![
        json!({}),
        json!({ "edgePorts": edge_ports }),
        json!({ "edgePorts": [{ "address": "mysip:5060" }, { "address": "my5060" }, { "address": "SIP:my:5060" }] }),
        json!({ "methods": [], "registration": { "require": [] } }),
        json!({ "methods": ["invite", "X-Own.!%*_+`'~"], "instanceId": "!~", "suspend": true }),
        json!({ "tls": { "caFile": "/ca.pem" }, "requesterAddr": "HTTPS://r" }),
        json!({ "registration": { "userAgent": "Ünser Agent/1.0 (x = y)", "maxInFlight": 100_000 } }),
        // null is as good as absent.
        json!({
            "registerInterval": null, "apiTimeout": null, "cache": null, "methods": null, "instanceId": null,
            "registration": null, "tls": null, "suspend": null,
        }),
        json!({
            "cache": { "provider": null, "parameters": null, "parametersSecretRef": null, "passwordSecretRef": null },
            "registration": {
                "expires": null, "maxInFlight": null, "ratePerRegistrar": null, "timeout": null, "userAgent": null,
                "require": null,
            },
            "tls": { "caFile": null },
            "edgePorts": [{ "address": "e", "region": null }],
        }),
        json!({ "cache": {}, "registration": {}, "tls": {} }),
        json!({ "cache": { "parameters": "" } }),
        redis(json!({})),
        redis(
            json!({ "parameters": "host=::1,port=1,username=passwordFile,password=a=b passwordFile=c,secure,caFile=/x" }),
        ),
        redis(json!({ "parameters": " host = r , secure=false" })),
        redis(json!({ "parametersSecretRef": key("s.t"), "passwordSecretRef": key("s") })),
        redis(json!({ "parameters": "host=r", "passwordSecretRef": { "name": "s", "key": "A.b_c-d" } })),
    ];
    for interval in [
        json!(1),
        json!(86400),
        json!("1"),
        json!("90"),
        json!("1.5"),
        json!("60s"),
        json!("1m30s"),
        json!("1h"),
        json!("1.5s"),
        json!("24h"),
        json!("1h30m"),
    ] {
        patches.push(json!({ "registerInterval": interval }));
    }
    for rate in [json!(1), json!(1_000_000), json!("0.001"), json!("2.5"), json!("unlimited"), json!("20")] {
        patches.push(json!({ "registration": { "ratePerRegistrar": rate } }));
    }
    for expires in [json!(10), json!("10s"), json!("15m"), json!("24h"), json!("600")] {
        patches.push(json!({ "registration": { "expires": expires } }));
    }
    for address in [
        "localhost",
        "LocalHost:1",
        "http://a",
        "http://a:80/",
        "https://a.example.com:443",
        "HTTPS://a",
        "[::1]:5000",
        "[2001:DB8:0::1]",
        "https://[::1]:5000/",
        "10.0.0.1:65535",
        "a_b.svc.cluster.local.:51907",
        "routr-api",
        "1a",
    ] {
        patches.push(json!({ "apiAddr": address, "requesterAddr": address }));
    }
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("good").await;
    let verdicts = judge(plane, &namespace, &patches).await;
    for (patch, verdict) in patches.iter().zip(verdicts) {
        assert_eq!(verdict, None, "{patch}");
        let config = interpret(patch).unwrap_or_else(|mistakes| panic!("{patch}: {mistakes}"));
        assert!(!config.edge_ports.is_empty());
    }
}

/// What the rules let through is good for the operator: many values, most of them odd, go both ways.
#[tokio::test]
async fn nothing_odd_gets_through_to_the_operator() {
    let durations = [
        "",
        "s",
        "1",
        "-1",
        "+1",
        "1.",
        ".5",
        "1..5",
        "01",
        "1h30",
        "1s1h",
        "1s1s",
        "1.5m30s",
        "1.5h",
        "1d",
        "PT1M",
        "1H",
        "1e3",
        "1_000",
        "９",
        "1m\n",
        " 1s",
        "1s ",
        "1m0.5s",
        "0h0m10s",
        "9999h",
        "99999999s",
        "99999999999999999999",
        "0x10",
        "1µs",
        "1.0000000001s",
        "60000ms",
        "86400.0",
        "86400.000000001s",
        "600.0",
        "1m-1s",
        "NaN",
        "inf",
    ];
    let addresses = [
        "",
        " ",
        "a b",
        "a:",
        ":1",
        "a:0",
        "a:00080",
        "a:+1",
        "a:65535",
        "a:65536",
        "a:99999",
        "a:1:2",
        "a::1",
        "[]",
        "[:]",
        "[::1",
        "::1]",
        "[::1]1",
        "[::1]:",
        "[::1]:0",
        "[1.2.3.4]",
        "[::ffff:1.2.3.4]",
        "[::1.2.3.4]",
        "[fe80::1%eth0]",
        "[[::1]]",
        "a[::1]",
        "[::1]a",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.4.",
        "01.2.3.4",
        "1234",
        "12.a",
        "-a",
        "a-",
        "a..b",
        ".a",
        "a.",
        "a..",
        "_a",
        "a_",
        "ä.example",
        "a/",
        "a/b",
        "a?b",
        "a#b",
        "a;b",
        "a@b",
        "a:b@c",
        "http://",
        "http:///",
        "http://a/",
        "http://a//",
        "http:a",
        "://a",
        "http://http://a",
        "https://a:1/",
        "ftp://a",
        "sip:a",
        "SIP:a:1",
        "sip:5070",
        "sip:99999",
        "sip:",
        "sip:sip:a",
        "sips:a",
        "sip:10.0.0.1",
        "sip:10.0.0.999",
        "sip:[::1]",
        "a\n",
        "\na",
        "a\tb",
        "a,b",
        "*.a",
        "http://10.0.0.999",
        "https://[::1]/",
        "1.2.3.4:5:6",
        "1.2.3.4/",
    ];
    let label = "a".repeat(63);
    let long = [
        label.clone(),
        format!("{label}a"),
        [label.as_str(); 4].join("."),
        format!("{label}.{}", "b".repeat(189)),
    ];
    let tokens = ["", "a", "a b", "a,b", "a\"b", "ä", "a\n", "\\", "a/b", "(", "a".repeat(64).leak(), "`'~"];
    let texts = ["", " ", "\t", "\u{a0}", "a\u{1}b", "a\tb", "ü", "a\u{2028}b", "\u{feff}"];
    let parameters = [
        ",",
        "host=r,",
        "secure=maybe",
        "secure",
        "secure,secure",
        "host",
        "host=",
        "password",
        "password=",
        " password = ",
        "HOST=r",
        "host=r;port=1",
        "passwordfile=/x",
        "passwordFile",
        "passwordFile =/x",
        "host=r,\npasswordFile=/x",
        "password=passwordFile=/x",
        "host=r\npassword=x",
    ];
    let mut patches = Vec::new();
    for text in durations {
        patches.push(json!({ "registerInterval": text }));
        patches.push(json!({ "registration": { "expires": text } }));
        patches.push(json!({ "registration": { "ratePerRegistrar": text } }));
    }
    for address in addresses.into_iter().chain(long.iter().map(String::as_str)) {
        patches.push(json!({ "apiAddr": address }));
        patches.push(json!({ "edgePorts": [{ "address": address }] }));
        patches.push(json!({ "edgePorts": [{ "address": address }, { "address": address.to_uppercase() }] }));
    }
    for token in tokens {
        patches.push(json!({ "methods": [token] }));
        patches.push(json!({ "registration": { "require": [token] } }));
        patches.push(json!({ "instanceId": token }));
    }
    for text in texts {
        patches.push(json!({ "registration": { "userAgent": text } }));
        patches.push(json!({ "edgePorts": [{ "address": "e", "region": text }] }));
        patches.push(json!({ "requesterAddr": "https://r", "tls": { "caFile": text } }));
    }
    for text in parameters {
        patches.push(json!({ "cache": { "provider": "redis", "parameters": text } }));
        patches.push(json!({
            "cache": { "provider": "redis", "parameters": text, "passwordSecretRef": key("s") }
        }));
    }
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("odd").await;
    let verdicts = judge(plane, &namespace, &patches).await;
    let mut slipped = Vec::new();
    let mut taken = 0;
    for (patch, verdict) in patches.iter().zip(verdicts) {
        taken += usize::from(verdict.is_none());
        if let (None, Err(mistakes)) = (&verdict, interpret(patch)) {
            slipped.push(format!("{patch}: {mistakes}"));
        }
    }
    // The parameters are a text with a grammar of its own: the operator has the last word there.
    slipped.retain(|slip| !slip.contains(": spec.cache.parameters: "));
    assert!(slipped.is_empty(), "taken by the rules, refused by the operator:\n{}", slipped.join("\n"));
    assert!((30..patches.len() / 2).contains(&taken), "{taken} of {} are good", patches.len());
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
        ("registry.spec.apiAddr", "The API server that lists the trunks"),
        ("registries.spec.registerInterval", "1 s to 24 h. Default: 60s."),
        ("registries.spec.suspend", "stops sending and keeps the bindings"),
        ("registries.spec.cache.provider", "ENUM: memory redis DESCRIPTION:"),
        ("registries.spec.cache.provider", "Default: memory."),
        ("registries.spec.cache.passwordSecretRef", "the password of Redis, and nothing else"),
        ("registries.spec.cache.passwordSecretRef.key", "Key in its data"),
        ("reg.spec.edgePorts.address", "with or without `sip:` before it"),
        ("reg.spec.registration.require", "`[]` for none"),
        ("registries.status.trunks.atRisk", "the last attempt to refresh it failed"),
        ("registries.status.failures.nextTry", "When the next REGISTER is due"),
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
        "conditions": [
            condition("Ready", ready, reason),
            condition("APIReachable", "True", "TrunksRead"),
            condition("RequesterReachable", "False", "Refused"),
            condition("CacheReachable", "Unknown", "NeverAsked"),
        ],
        "trunks": { "total": 12, "registered": 7, "atRisk": 2, "failing": 3, "invalid": 0, "pending": 0, "leaving": 1 },
        "lastSync": "2026-11-23T01:00:00Z",
        "nextLapse": "2126-11-23T04:05:06Z",
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
        assert_eq!(table[0], ["NAME", "READY", "TRUNKS", "REGISTERED", "FAILING", "REASON", "AGE"], "{what}");
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
            "API",
            "REQUESTER",
            "CACHE",
            "NEXT LAPSE",
            "LAST SYNC",
            "AGE"
        ]
    );
    assert_eq!(wide[1][5..10], ["TrunksFailing", "True", "False", "Unknown", "2126-11-23T04:05:06Z"]);
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
    let waiting = plane.kubectl(wait.into_iter().chain(["--timeout=60s"]));
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
