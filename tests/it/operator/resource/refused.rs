//! Every rule, and what it says.

use serde_json::{Value, json};

use super::{interpret, judge, key};
use crate::support::control_plane::ControlPlane;

const INTERVAL: &str = "write a duration from 1s to 24h, such as 1m, or a number of seconds";
const API: &str = "write the host and port of the API server, such as localhost:51907, [::1]:51907";
const REQUESTER: &str = "write the host and port of the Requester, such as localhost:51909";
const PUBLIC: &str = "write the host and port at which providers reach this EdgePort, such as sip.example.com or 203.0.113.5:5060";
const EDGE: &str = "write the host and port of an EdgePort, such as 10.0.0.5:5060 or [2001:db8::5]:5060";
const ONE_LINE: &str = "write each value on one line, without tabs and other control characters";
const COMMA: &str = "put a password that contains a comma into a Secret and name it by passwordSecretRef";

/// Each rule: a patch that breaks it, the field and what is said.
fn refused() -> Vec<(Value, &'static str, &'static str)> {
    let redis = |more: Value| {
        let mut cache = json!({ "provider": "redis" });
        cache.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        json!({ "cache": cache })
    };
    let registration = |key: &str, value: Value| json!({ "registration": { key: value } });
    let no_use = "has no effect with the provider memory; write provider: redis in spec.cache, or remove it";
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
        (
            json!({ "sync": { "maxTrunks": 0 } }),
            "spec.sync.maxTrunks",
            "should be greater than or equal to 1",
        ),
        (json!({ "sync": { "timeout": "3h" } }), "spec.sync.timeout", "write a duration from 1s to 2h"),
        (registration("userAgent", json!("a\r\nb")), "spec.registration.userAgent", "without line breaks"),
        (
            registration("userAgent", json!(" ")),
            "spec.registration.userAgent",
            "write a text of 1 to 256 characters",
        ),
        (
            registration("redirects", json!({ "domains": ["sip:a"] })),
            "spec.registration.redirects.domains",
            "write a domain such as provider.net, an IP address",
        ),
        (
            registration("redirects", json!({ "domains": ["192.0.2.300"] })),
            "spec.registration.redirects.domains",
            "write a domain such as provider.net, an IP address",
        ),
        (
            registration("redirects", json!({ "maxTime": "25h" })),
            "spec.registration.redirects.maxTime",
            "write a duration from 1s to 24h",
        ),
        (
            registration("digest", json!({ "minAlgorithm": "SHA-1" })),
            "spec.registration.digest.minAlgorithm",
            "supported values: \"MD5\", \"SHA-256\"",
        ),
        (
            registration("tlsUriScheme", json!("https")),
            "spec.registration.tlsUriScheme",
            "supported values: \"sips\", \"sip\"",
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
        (json!({ "apiAddr": "dns://10.0.0.53/api:50" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "dns:///api:50/" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "unix:/var/run/secrets/api.sock" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "unix:///run/routr/../api.sock" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "unix:api.sock" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "ipv4:api:50" }), "spec.apiAddr", API),
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
            json!({ "edgePorts": [{ "address": "e", "publicAddress": "sips:e" }] }),
            "spec.edgePorts[0].publicAddress",
            PUBLIC,
        ),
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
            json!({ "tls": { "caFile": "ca.pem" } }),
            "spec.tls.caFile",
            "has no effect, because neither address uses https://",
        ),
        (
            json!({ "apiAddr": "https://a", "tls": { "certFile": "tls.crt" } }),
            "spec.tls",
            "certFile and keyFile go together; write both, or neither",
        ),
        (
            json!({ "apiAddr": "https://a", "tls": { "certFile": "tls.crt", "keyFile": "/etc/tls.key" } }),
            "spec.tls.keyFile",
            "write the path of a PEM file below /etc/routr/ca",
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
        (
            json!({ "requesterTokenFile": "token" }),
            "spec.requesterTokenFile",
            "names a file of the operator's own pod; put the token into a Secret",
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
        (json!({ "apiAddr": "unix:///run/routr/a\nb.sock" }), "spec.apiAddr", API),
        (json!({ "apiAddr": "a:50\r\nQUIT" }), "spec.apiAddr", API),
        (json!({ "requesterAddr": "r\u{85}" }), "spec.requesterAddr", REQUESTER),
        (json!({ "edgePorts": [{ "address": "e\n" }] }), "spec.edgePorts[0].address", EDGE),
        (
            json!({ "instanceId": "a\tb" }),
            "spec.instanceId",
            "write 1 to 128 visible ASCII characters without blanks",
        ),
        (json!({ "methods": ["INVITE\r\n"] }), "spec.methods", "write a SIP method, such as INVITE"),
        (redis(json!({ "parameters": "host=r\r\nFLUSHALL" })), "spec.cache.parameters", ONE_LINE),
        (redis(json!({ "parameters": "host=r,prefix=a\tb" })), "spec.cache.parameters", ONE_LINE),
        (redis(json!({ "parameters": "username=a\u{0}b,host=r" })), "spec.cache.parameters", ONE_LINE),
        (redis(json!({ "parameters": "password=Zq7xKw\nQUIT" })), "spec.cache.parameters", ONE_LINE),
        (redis(json!({ "parameters": "redis://h\n/1" })), "spec.cache.parameters", ONE_LINE),
        (redis(json!({ "parameters": "password=Zq7xKw9vJtB,Zq7xKw" })), "spec.cache.parameters", COMMA),
        (redis(json!({ "parameters": "password=Zq7xKw9vJtB,hots=r" })), "spec.cache.parameters", COMMA),
    ]
}

/// Rules that CEL does not judge as `src/config` does, since they are the shape of a Secret reference, which
/// is not looked at there, or a bound of the API server alone.
fn refused_by_the_schema_alone() -> Vec<(Value, &'static str, &'static str)> {
    let many: Vec<Value> = (0..65).map(|n| json!({ "address": format!("e{n}") })).collect();
    let reference = |name: &str, key: &str| json!({ "cache": { "provider": "redis", "passwordSecretRef": { "name": name, "key": key } } });
    vec![
        (json!({ "edgePorts": many }), "spec.edgePorts", "must have at most 64 items"),
        (
            json!({ "apiAddr": "https://a", "tls": { "caFile": "a\tb.pem" } }),
            "spec.tls.caFile",
            "write the path of a PEM file",
        ),
        // A file may have white space around it.
        (
            json!({ "registration": { "redirects": { "domains": ["a.net\n"] } } }),
            "spec.registration.redirects.domains",
            "write a domain such as provider.net",
        ),
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
