//! Every validation error by its exact words.

use super::super::rules::hint;
use super::*;

/// Asserts the errors of [`LEAST`] with these lines in its spec, which begin at line 8.
#[track_caller]
fn expect(lines: &str, expected: &[&str]) {
    expect_all(&format!("{LEAST}{lines}\n"), expected);
}

#[track_caller]
fn expect_all(text: &str, expected: &[&str]) {
    let found = match yaml(text) {
        Ok(config) => panic!("loads: {text}\n{config:?}"),
        Err(errors) => errors.to_string(),
    };
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{text}");
}

/// [`LEAST`] with another address of the API server, in line 5.
#[track_caller]
fn expect_address(given: &str, problem: &str) {
    let hint = hint::API_ADDR;
    expect_all(
        &LEAST.replace("apiAddr: localhost:51907", &format!("apiAddr: {given}")),
        &[&format!("spec.apiAddr (line 5): {problem}; {hint}")],
    );
}

#[test]
fn addresses() {
    expect_address("a:b", "the port is not a number from 1 to 65535: \"a:b\"");
    expect_address("localhost:0", "the port is not a number from 1 to 65535: \"localhost:0\"");
    expect_address("localhost:65536", "the port is not a number from 1 to 65535: \"localhost:65536\"");
    expect_address("'localhost:'", "the port is not a number from 1 to 65535: \"localhost:\"");
    expect_address("localhost:+1", "the port is not a number from 1 to 65535: \"localhost:+1\"");
    expect_address("''", "empty");
    expect_address("ftp://localhost", "starts with a scheme that is not supported here: \"ftp://localhost\"");
    expect_address("xds:///api", "starts with a scheme that is not supported here: \"xds:///api\"");
    let server = "names a DNS server, and only the system's are used; write dns:///host:port";
    expect_address("dns://10.0.0.53/api:50", &format!("{server}: \"dns://10.0.0.53/api:50\""));
    expect_address("dns://api:50", &format!("{server}: \"dns://api:50\""));
    let socket = "not the path of a unix socket (1 to 107 bytes, without a host before it)";
    expect_address("unix://run/api.sock", &format!("{socket}: \"unix://run/api.sock\""));
    expect_address("'unix:'", &format!("{socket}: \"unix:\""));
    let of_the_family = "not a list of IP addresses of that family";
    expect_address("ipv4:api:50", &format!("{of_the_family}: \"ipv4:api:50\""));
    expect_address("'ipv4:[::1]:50'", &format!("{of_the_family}: \"ipv4:[::1]:50\""));
    expect_address("'ipv6:10.0.0.1:50'", &format!("{of_the_family}: \"ipv6:10.0.0.1:50\""));
    expect_address("http://localhost/x", "has more than a host and a port: \"http://localhost/x\"");
    expect_address("::1:5060", "an IPv6 address without brackets, or more than one port: \"::1:5060\"");
    expect_address("'[::1'", "an IPv6 address without brackets, or more than one port: \"[::1\"");
    expect_address("'[::g]:1'", "not an IPv6 address in the brackets: \"[::g]:1\"");
    expect_address("'[::1]1'", "has more than a host and a port: \"[::1]1\"");
    expect_address("10.0.0.256:1", "not an IPv4 address: \"10.0.0.256:1\"");
    expect_address("-x:1", "not a host name: \"-x:1\"");
    expect_address("a..b", "not a host name: \"a..b\"");
    expect_address("a b", "not a host name: \"a b\"");
    expect_address("':5060'", "not a host name: \":5060\"");
    expect_address("http://me:word@api", "has a user before the host: \"***@api\"");
    expect_address("51907", "a number where a text belongs: 51907");
}

#[test]
fn edge_ports() {
    let hint = "write the host and port of an EdgePort, such as 10.0.0.5:5060 or [2001:db8::5]:5060";
    let at = |index: usize, line: u32, problem: &str| {
        format!("spec.edgePorts[{index}].address (line {line}): {problem}; {hint}")
    };
    let lines =
        "    - address: sips:edge\n    - address: sip:edge;transport=tcp\n    - region: 5\n    - edge";
    expect(
        lines,
        &[
            &at(1, 8, "starts with a scheme that is not supported here: \"sips:edge\""),
            &at(2, 9, "has more than a host and a port: \"sip:edge;transport=***\""),
            &at(3, 10, "missing"),
            "spec.edgePorts[3].region (line 10): a number where a text belongs: 5; write the name of a region, such \
             as us-east1, in quotes",
            "spec.edgePorts[4] (line 11): a text where a mapping belongs; write `key: value` lines, indented under it",
        ],
    );
    expect(
        "    - address: 10.0.0.1\n    - address: sip:10.100.42.127:5060\n      region: ''",
        &[
            "spec.edgePorts[2].address (line 9): the same as spec.edgePorts[0].address: \
             \"sip:10.100.42.127:5060\"; remove one of them",
            "spec.edgePorts[2].region (line 10): not the name of a region: \"\"; write the name of a region, such as \
             us-east1",
        ],
    );
    let list = "write a list with at least one EdgePort, such as [{address: 10.0.0.5:5060}]";
    let head = LEAST.split_once("  edgePorts").unwrap().0;
    expect_all(head, &[&format!("spec.edgePorts (line 4): missing; {list}")]);
    expect_all(
        &format!("{head}  edgePorts: []\n"),
        &[&format!("spec.edgePorts (line 6): an empty list; {list}")],
    );
    expect_all(
        &format!("{head}  edgePorts: 10.0.0.1:5060\n"),
        &[&format!("spec.edgePorts (line 6): a text where a list belongs: \"10.0.0.1:5060\"; {list}")],
    );
    expect_all(
        &format!("{head}  edgePorts: {{address: 10.0.0.1:5060}}\n"),
        &[&format!("spec.edgePorts (line 6): a mapping where a list belongs; {list}")],
    );
}

#[test]
fn durations() {
    let interval = "write a duration from 1s to 24h, such as 1m, or a number of seconds";
    for (given, problem) in [
        ("0", "out of bounds: 0"),
        ("-5", "out of bounds: -5"),
        ("86401", "out of bounds: 86401"),
        ("0.5", "out of bounds: 0.5"),
        ("999ms", "out of bounds: \"999ms\""),
        ("-1s", "out of bounds: \"-1s\""),
        ("25h", "out of bounds: \"25h\""),
        ("1e300", "out of bounds: 1e300"),
        (".inf", "not a duration: \".inf\""),
        ("soon", "not a duration: \"soon\""),
        ("60x", "not a duration: \"60x\""),
        ("''", "not a duration: \"\""),
        ("true", "true or false where a number or a text belongs: true"),
        ("[1]", "a list where a number or a text belongs"),
    ] {
        let lines = format!("  registerInterval: {given}");
        let Err(errors) = with(&lines) else { panic!("{given} loads") };
        let text = errors.to_string();
        let start = format!("spec.registerInterval (line 8): {problem}");
        assert!(text.starts_with(&start) && text.ends_with(&format!("; {interval}")), "{given}: {text}");
    }
    expect(
        "  apiTimeout: 11m\n  registration:\n    expires: 9\n    timeout: 121s",
        &[
            "spec.apiTimeout (line 8): out of bounds: \"11m\"; write a duration from 1s to 10m, such as 30s, or a \
             number of seconds",
            "spec.registration.expires (line 10): out of bounds: 9; write a duration from 10s to 24h, such as 10m, or \
             a number of seconds",
            "spec.registration.timeout (line 11): out of bounds: \"121s\"; write a duration from 1s to 2m, such as \
             40s, or a number of seconds",
        ],
    );
    expect(
        "  sync: {timeout: 3h, maxPages: 0, maxTrunks: 10000001, maxBytes: 1, maxTrunkBytes: 1MiB, maxBites: 1}",
        &[
            "spec.sync.maxTrunkBytes (line 8): a text where a whole number belongs: \"1MiB\"; write a whole number \
             from 1024 to 16777216",
            "spec.sync.maxBites (line 8): unknown key; did you mean maxBytes?",
            "spec.sync.timeout (line 8): out of bounds: \"3h\"; write a duration from 1s to 2h, such as 5m, or a \
             number of seconds",
            "spec.sync.maxPages (line 8): out of bounds: 0; write a whole number from 1 to 1000000",
            "spec.sync.maxTrunks (line 8): out of bounds: 10000001; write a whole number from 1 to 10000000",
            "spec.sync.maxBytes (line 8): out of bounds: 1; write a whole number from 65536 to 17179869184",
        ],
    );
    expect(
        "  registration: {expires: 10.5s}",
        &[
            "spec.registration.expires (line 8): not a whole number of seconds: 10s500ms; write a duration from 10s to \
           24h, such as 10m, or a number of seconds",
        ],
    );
}

#[test]
fn registration() {
    expect(
        "  registration:
    maxInFlight: 0
    ratePerRegistrar: 0
    userAgent: \"a\\r\\nX-Evil: b\"
    require: [gin, 'a b', GIN, 5]",
        &[
            "spec.registration.maxInFlight (line 9): out of bounds: 0; write a whole number from 1 to 100000",
            "spec.registration.ratePerRegistrar (line 10): out of bounds: 0; write a number of REGISTERs per second \
             from 0.001 to 1000000, or the word unlimited",
            "spec.registration.userAgent (line 11): not a User-Agent: \"a\\r\\nX-Evil: b\"; write a text of 1 to 256 \
             characters without line breaks or other control characters",
            "spec.registration.require[3] (line 12): a number where a text belongs: 5; write a SIP option tag, such as \
             gin, in quotes",
            "spec.registration.require[1] (line 12): not a SIP option tag: \"a b\"; write a SIP option tag, such as \
             gin",
            "spec.registration.require[2] (line 12): the same as spec.registration.require[0]: \"GIN\"; remove one of \
             them",
        ],
    );
    expect(
        "  registration: {maxInFlight: '100', ratePerRegistrar: fast, userAgent: ''}",
        &[
            "spec.registration.maxInFlight (line 8): a text where a whole number belongs: \"100\"; write a whole \
             number from 1 to 100000",
            "spec.registration.userAgent (line 8): not a User-Agent: \"\"; write a text of 1 to 256 characters \
             without line breaks or other control characters",
            "spec.registration.ratePerRegistrar (line 8): not a rate: \"fast\"; write a number of REGISTERs per \
             second from 0.001 to 1000000, or the word unlimited",
        ],
    );
    expect(
        "  registration: {maxInFlight: 100001, ratePerRegistrar: 'NaN'}",
        &[
            "spec.registration.maxInFlight (line 8): out of bounds: 100001; write a whole number from 1 to 100000",
            "spec.registration.ratePerRegistrar (line 8): out of bounds: \"NaN\"; write a number of REGISTERs per \
             second from 0.001 to 1000000, or the word unlimited",
        ],
    );
    let many: Vec<String> = (0..33).map(|n| format!("tag{n}")).collect();
    expect(
        &format!("  registration: {{require: [{}]}}", many.join(", ")),
        &[
            "spec.registration.require (line 8): too many: 33; write a list of at most 32 SIP option tags, such as \
           [gin], or []",
        ],
    );
}

#[test]
fn methods_and_identity() {
    expect(
        "  methods: [INVITE, 'MES SAGE', invite]\n  instanceId: a b",
        &[
            "spec.methods[1] (line 8): not a SIP method: \"MES SAGE\"; write a SIP method, such as INVITE",
            "spec.methods[2] (line 8): the same as spec.methods[0]: \"invite\"; remove one of them",
            "spec.instanceId (line 9): not an instance id: \"a b\"; write 1 to 128 visible ASCII characters without \
             blanks",
        ],
    );
    let long = "x".repeat(129);
    expect(
        &format!("  methods: INVITE\n  instanceId: {long}"),
        &[
            "spec.methods (line 8): a text where a list belongs: \"INVITE\"; write a list of at most 64 SIP methods, \
             such as [INVITE, MESSAGE]",
            &format!(
                "spec.instanceId (line 9): not an instance id: \"{}...\"; write 1 to 128 visible ASCII characters \
                 without blanks",
                "x".repeat(80)
            ),
        ],
    );
}

#[test]
fn head_of_the_document() {
    expect_all(
        "kind: Registries\napiVersion: 2\nmetadata:\n  name: 5\n",
        &[
            "spec (line 1): missing; write spec: with requesterAddr, apiAddr and edgePorts indented under it",
            "apiVersion (line 2): a number where a text belongs: 2; write apiVersion: v2beta1",
            "metadata.name (line 4): a number where a text belongs: 5; write a name of 1 to 253 characters without \
             control characters, in quotes",
        ],
    );
    expect_all(
        &LEAST.replace("v2beta1", "v2draft1").replace("Registry", "Peer"),
        &[
            "kind (line 1): another kind of document: \"Peer\"; write kind: Registry",
            "apiVersion (line 2): another version: \"v2draft1\"; write apiVersion: v2beta1",
        ],
    );
    for empty in ["", "# nothing\n", "---\n", "null"] {
        let hint = "write `key: value` lines, indented under it";
        let text = yaml(empty).unwrap_err().to_string();
        assert!(text.starts_with("the document"), "{text}");
        assert!(text.ends_with(&format!(": nothing where a mapping belongs; {hint}")), "{text}");
    }
    expect_all(
        "kind: Registry\napiVersion: v2beta1\nspec: {}\n",
        &[
            "spec.requesterAddr (line 3): missing; write the host and port of the Requester, such as \
             localhost:51909, [::1]:51909, https://requester:51909, dns:///requester:51909 or unix:/run/routr/requester.sock",
            "spec.apiAddr (line 3): missing; write the host and port of the API server, such as localhost:51907, \
             [::1]:51907, https://api:51907, dns:///api:51907 or unix:/run/routr/api.sock",
            "spec.edgePorts (line 3): missing; write a list with at least one EdgePort, such as [{address: \
             10.0.0.5:5060}]",
        ],
    );
}

#[test]
fn unknown_and_repeated_keys() {
    expect(
        "  registerIntervall: 5
  edgeports: []
  frobnicate: 1
  cache: {provder: redis}
  apiTimeout: 5
  apiTimeout: 6
edgePorts: []",
        &[
            "spec.registerIntervall (line 8): unknown key; did you mean registerInterval?",
            "spec.edgeports (line 9): unknown key; did you mean edgePorts?",
            "spec.frobnicate (line 10): unknown key; known here: requesterAddr, apiAddr, requesterTokenFile, registerInterval, cache, \
             methods, edgePorts, instanceId, registration, tls, apiTimeout, sync",
            "spec.cache.provder (line 11): unknown key; did you mean provider?",
            "spec.apiTimeout (line 13): given twice, before in line 12; keep one of them",
            "edgePorts (line 14): unknown key; known here: kind, apiVersion, metadata, spec",
        ],
    );
}

#[test]
fn cache() {
    let useless = "spec.cache.parameters (line 9): has no effect with the provider memory; write provider: \
                   redis in spec.cache, or remove the parameters";
    expect("  cache:\n    parameters: host=localhost", &[useless]);
    expect("  cache:\n    parameters: host=localhost\n    provider: memory", &[useless]);
    expect(
        "  cache:\n    parameters: host=localhost\n    provider: Redis",
        &["spec.cache.provider (line 10): unknown: \"Redis\"; write memory or redis"],
    );
    expect(
        "  cache: redis",
        &["spec.cache (line 8): a text where a mapping belongs; write `key: value` lines, indented under it"],
    );
    expect(
        "  cache: {provider: redis, parameters: 6379, port: 6379}",
        &[
            "spec.cache.parameters (line 8): a number where a text belongs; write key=value pairs, such as \
             host=localhost,port=6379, in quotes",
            "spec.cache.port (line 8): unknown key; write it inside the text of parameters, which takes quotes where \
             it stands in braces: parameters: 'port=...'",
        ],
    );
}

#[test]
fn cache_parameters() {
    let table: [(&str, &[&str]); 14] = [
        ("port=0", &["port is wrong: \"0\"; write a number from 1 to 65535"]),
        (
            "port=x,port=7",
            &[
                "port is wrong: \"x\"; write a number from 1 to 65535",
                "port is given twice; keep one of them",
            ],
        ),
        ("hots=r", &["part 1 has an unknown key: \"hots\"; did you mean host?"]),
        ("host=", &["host is empty; write host=... or leave it out"]),
        ("host", &["host is empty; write host=... or leave it out"]),
        (
            "host=r,",
            &["part 2 is not a key=value pair; write key=value pairs separated by commas, such as \
               host=localhost,port=6379"],
        ),
        ("secure=maybe", &["secure is neither true nor false: \"maybe\"; write secure=true or secure=false"]),
        ("password=", &["password is empty; write password=... or leave it out"]),
        (
            "password=a,b",
            &["part 2 is not a key=value pair; write key=value pairs separated by commas; put a password \
                 that contains a comma into a file: passwordFile=/path"],
        ),
        (
            "password=a,b=c",
            &["part 2 has an unknown key; known here: host, port, username, password, passwordFile, \
                 secure, caFile, certFile, keyFile, db, prefix, url, socket, sentinels, sentinelMaster, \
                 sentinelUsername, sentinelPassword, cluster, nodes; put a password that contains a comma \
                 into a file: passwordFile=/path"],
        ),
        ("password=a,port=b", &["port is wrong; write a number from 1 to 65535"]),
        ("password=a,passwordFile=b", &["both password and passwordFile are given; keep one of them"]),
        ("caFile=x", &["caFile is given without secure; add secure=true, or remove caFile"]),
        (
            "host=a:b",
            &["host is wrong: has more than a host and a port; write host=NAME and port=NUMBER, such as \
             host=localhost,port=6379 or host=[::1]"],
        ),
    ];
    for (parameters, expected) in table {
        let expected: Vec<String> =
            expected.iter().map(|rest| format!("spec.cache.parameters (line 8): {rest}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        expect(&format!("  cache: {{provider: redis, parameters: '{parameters}'}}"), &expected);
    }
}

#[test]
fn a_client_certificate_and_its_key_go_together() {
    let text = LEAST.replace("apiAddr: ", "apiAddr: https://");
    expect_all(
        &format!("{text}  tls: {{certFile: tls.crt}}\n"),
        &[&format!("spec.tls.keyFile (line 8): required together with certFile; {}", hint::KEY_FILE)],
    );
    expect_all(
        &format!("{text}  tls: {{keyFile: tls.key}}\n"),
        &[&format!("spec.tls.certFile (line 8): required together with keyFile; {}", hint::CERT_FILE)],
    );
}

#[test]
fn tls_without_https() {
    expect(
        "  tls:\n    caFile: ca.pem",
        &["spec.tls.caFile (line 9): has no effect, because neither address uses https://: \"ca.pem\"; \
             write https:// before requesterAddr or apiAddr, or remove it"],
    );
    let text = LEAST.replace("apiAddr: ", "apiAddr: https://");
    expect_all(
        &format!("{text}  tls: {{caFile: ''}}\n"),
        &[
            "spec.tls.caFile (line 8): empty; write the path of a PEM file that can be read and holds the authorities \
           to trust",
        ],
    );
}

#[test]
fn syntax() {
    let hint = "fix the YAML syntax at or just before this line; put single quotes around a value that \
                 contains any of : # * & ! % @ ` { [ or a quote";
    let table = [
        ("kind: 'a\n", "the document (line 1): not valid YAML (unclosed quote)"),
        (
            "kind: a\nspec: b: c\n",
            "the document (line 2): not valid YAML (mapping values are not allowed in this context)",
        ),
        ("a: *b\n", "the document (line 1): not valid YAML (an alias (*name) without its anchor (&name))"),
        (
            "a: 1\n---\nb: 2\n",
            "the document (line 3): not valid YAML (more than one document, separated by ---)",
        ),
    ];
    for (text, expected) in table {
        expect_all(text, &[&format!("{expected}; {hint}")]);
    }
    let deep = "[".repeat(100_000);
    let shown = yaml(&deep).unwrap_err().to_string();
    assert!(shown.contains("too large or too deeply nested"), "{shown}");
}

#[test]
fn json_has_its_own_words() {
    let shown = parse("{\"kind\": \"Registry\",}", Format::Json).unwrap_err().to_string();
    assert_eq!(
        shown,
        "the document (line 1): not valid JSON (trailing comma at line 1 column 21); fix the JSON syntax at \
         or just before this place"
    );
    let shown = parse("{\"kind\": 1, \"kind\": 2}", Format::Json).unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "kind: a number where a text belongs: 1; write kind: Registry");
    assert_eq!(lines[3], "kind: given twice; keep one of them");
    assert!(parse(&"[".repeat(100_000), Format::Json).is_err());
}

/// Each of these took a step for each pair of them: a file of some megabytes would not have been read in an
/// hour.
#[test]
fn tens_of_thousands_of_slips_take_no_minute() {
    let many = |line: fn(usize) -> String| (0..30_000).map(line).collect::<String>();
    let json = |list: &str, key: &str| {
        let other = if key == "methods" { r#""edgePorts":[{"address":"e"}],"# } else { "" };
        let list = list.trim_end_matches(',');
        format!(
            r#"{{"kind":"Registry","apiVersion":"v2beta1","spec":{{"requesterAddr":"r","apiAddr":"a",{other}"{key}":[{list}]}}}}"#
        )
    };
    let keys = json("", "methods").replacen('{', &format!("{{{}", many(|n| format!("\"key{n}\":1,"))), 1);
    assert_eq!(parse(&keys, Format::Json).unwrap_err().len(), 30_000);
    let errors = parse(&json(&many(|_| "7,".to_owned()), "edgePorts"), Format::Json).unwrap_err();
    assert_eq!(errors.len(), 30_000);
    let distinct = many(|n| format!("{{\"address\":\"h{n}\"}},"));
    assert_eq!(parse(&json(&distinct, "edgePorts"), Format::Json).unwrap().edge_ports.len(), 30_000);
    let methods = many(|n| format!("\"M{n}\","));
    assert_eq!(parse(&json(&methods, "methods"), Format::Json).unwrap_err().len(), 1);
}

#[test]
fn redirects_and_digest() {
    let domain = hint::REDIRECT_DOMAIN;
    expect(
        "  registration:\n    redirects: {domains: ['sip:a', 192.0.2.300], credentials: 1, maxTime: 2d}\n    digest: {minAlgorithm: SHA1, requireQop: maybe}",
        &[
            "spec.registration.redirects.credentials (line 9): a number where true or false belongs: 1; write true or false",
            &format!("spec.registration.redirects.domains[0] (line 9): not a domain: \"sip:a\"; {domain}"),
            &format!(
                "spec.registration.redirects.domains[1] (line 9): not a domain: \"192.0.2.300\"; {domain}"
            ),
            "spec.registration.redirects.maxTime (line 9): not a duration: \"2d\"; write a duration from 1s to 24h, such as 1h, or a \
             number of seconds",
            "spec.registration.digest.minAlgorithm (line 10): unknown: \"SHA1\"; write MD5 or SHA-256",
            "spec.registration.digest.requireQop (line 10): a text where true or false belongs: \"maybe\"; write true or false",
        ],
    );
}
