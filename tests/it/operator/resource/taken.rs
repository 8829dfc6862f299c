//! Resources that the API server takes, and that are good for the operator.

use serde_json::{Value, json};

use super::{interpret, judge, key};
use crate::support::control_plane::ControlPlane;

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
        json!({ "tls": { "caFile": "/etc/routr/ca/ca.pem" }, "requesterAddr": "HTTPS://r" }),
        json!({ "tls": { "certFile": "a/tls.crt", "keyFile": "a/tls.key" }, "apiAddr": "https://a" }),
        json!({ "registration": { "userAgent": "Ünser Agent/1.0 (x = y)", "maxInFlight": 100_000 } }),
        json!({ "registration": {
            "redirects": {
                "domains": ["*", "Provider.net", "*.example.org", "192.0.2.7", "192.0.2.0/24", "2001:db8::/32"],
                "credentials": true, "maxTime": "1s",
            },
            "digest": { "minAlgorithm": "SHA-256", "requireQop": true },
            "tlsUriScheme": "sip",
        } }),
        json!({ "registration": { "redirects": { "domains": [], "maxTime": "24h" }, "digest": {} } }),
        // null is as good as absent.
        json!({
            "registerInterval": null, "apiTimeout": null, "cache": null, "methods": null, "instanceId": null,
            "registration": null, "tls": null, "suspend": null,
        }),
        json!({
            "cache": { "provider": null, "parameters": null, "parametersSecretRef": null, "passwordSecretRef": null },
            "registration": {
                "expires": null, "maxInFlight": null, "ratePerRegistrar": null, "timeout": null, "userAgent": null,
                "require": null, "tlsUriScheme": null,
            },
            "tls": { "caFile": null, "certFile": null, "keyFile": null },
            "edgePorts": [{ "address": "e", "region": null }],
        }),
        json!({ "edgePorts": [{
            "address": "e", "publicAddress": "sip.example.com", "publicTcpAddress": "[2001:db8::5]:5060",
            "publicTlsAddress": "203.0.113.5:5061",
        }] }),
        json!({ "cache": {}, "registration": {}, "tls": {} }),
        json!({ "requesterTokenSecretRef": key("s") }),
        json!({ "requesterTokenSecretRef": null, "requesterTokenFile": null }),
        json!({ "cache": { "parameters": "" } }),
        redis(json!({})),
        redis(
            json!({ "parameters": "host=::1,port=1,username=passwordFile,password=a=b passwordFile=c,secure,caFile=x" }),
        ),
        redis(json!({ "parameters": " host = r , secure=false" })),
        redis(json!({ "parameters": "host=r,\n  db=1,\r\n  prefix=p\n" })),
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
        "dns:///api:50",
        "DNS:api.example.com",
        "dns:/[::1]:50",
        "unix:/run/routr/api.sock",
        "unix:///run/routr/a/api.sock",
        "ipv4:10.0.0.1:50",
        "ipv4:10.0.0.1,10.0.0.2:50",
        "ipv6:[::1]:50,[2001:db8::1]",
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

/// Values that the rules let through are good for the operator: many values, most of them odd, are accepted
/// by both or by neither.
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
