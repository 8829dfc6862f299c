//! Messages about resource files that are wrong.

use super::*;

/// The problems of a folder that must not load.
fn problems(files: &[(&str, &str)]) -> Vec<Problem> {
    match ApiServer::load(folder(files)) {
        Err(LoadError::Invalid(problems)) => problems.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_mistake_is_named_with_its_place_and_what_would_be_right() {
    let trunks = r#"
- apiVersion: v3
  kind: Trunk
  ref: a
  spec:
    outbound:
      sendRegister: "true"
      uris:
        - uri: { host: sip.net, port: "5060", transport: 5 }
          priority: high
- kind: trunk
- just text
- apiVersion: v2
  kind: Credentials
  ref: c
  spec: { credentials: { username: 1001, password: 987654321 } }
- apiVersion: v2
  kind: Trunk
"#;
    let found = problems(&[("t.yaml", trunks), ("bad.json", "{"), ("bad.yaml", "a: [")]);
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "t.yaml: Trunk a: apiVersion: \"v3\": must be v2beta1 or v2",
        "t.yaml: Trunk a: spec.outbound.sendRegister: \"true\": must be true or false, without quotes",
        "t.yaml: Trunk a: spec.outbound.uris[0].priority: \"high\": must be a whole number, without quotes",
        "t.yaml: Trunk a: spec.outbound.uris[0].uri.port: \"5060\": must be a whole number, without quotes",
        "t.yaml: Trunk a: spec.outbound.uris[0].uri.transport: 5: must be text: put it in quotes",
        "t.yaml: resource 2: kind: \"trunk\": unknown, did you mean Trunk?",
        "t.yaml: resource 3: \"just text\": must be a resource with apiVersion, kind and ref",
        "t.yaml: Credentials c: spec.credentials.username: 1001: must be text: put it in quotes",
        "t.yaml: Credentials c: spec.credentials.password: must be text: put it in quotes",
        "t.yaml: resource 5: ref: missing: the resource's own identifier",
        "t.yaml: resource 5: spec: missing: the content of the resource",
    ];
    for line in expected {
        assert!(lines.iter().any(|l| l == line), "{line}\nnot in\n{}", lines.join("\n"));
    }
    for file in ["bad.json: is not JSON", "bad.yaml: is not YAML"] {
        assert!(lines.iter().any(|l| l.starts_with(file)), "{file}\nnot in\n{}", lines.join("\n"));
    }
    assert!(!lines.join("\n").contains("987654321"), "a password is shown");
}

#[test]
fn unknown_and_duplicate_refs_are_named() {
    let trunks = TRUNKS.replace("credentialsRef: credentials-04", "credentialsRef: credential-04");
    let found = problems(&[("a.yaml", &trunks), ("c.yaml", CREDENTIALS)]);
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "a.yaml: Trunk trunk-01: spec.outbound.credentialsRef: \"credential-04\": there are no Credentials of this \
          ref; did you mean credentials-04?"
        ]
    );
    let found = problems(&[("a.yaml", TRUNKS), ("b.yaml", TRUNKS), ("c.yaml", CREDENTIALS)]);
    assert_eq!(found.len(), 2);
    assert!(
        found[0].to_string().contains("b.yaml: Trunk trunk-01: ref: \"trunk-01\": is used twice: a.yaml")
    );
}

#[test]
fn no_problem_ever_shows_a_password() {
    const PASSWORD: &str = "hunter2-is-secret";
    let credentials = |line: &str| {
        format!(
            "- apiVersion: v2\n  kind: Credentials\n  ref: c\n  spec:\n    credentials:\n      username: u\n{line}\n"
        )
    };
    let broken = [
        credentials(&format!("      password: [{PASSWORD}")),
        credentials(&format!("      password: \"{PASSWORD}")),
        credentials(&format!("      password: *{PASSWORD}")),
        credentials(&format!("      password: !!int {PASSWORD}")),
        credentials(&format!("      password: {{ {PASSWORD}: 1 }}")),
        credentials(&format!("      password: [{PASSWORD}, 2]")),
        credentials(&format!("      password: {PASSWORD}: x")),
        credentials(&format!("      password: |\n {PASSWORD}")),
    ];
    for text in broken {
        if let Err(error) = ApiServer::load(folder(&[("c.yaml", &text)])) {
            assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error} {error:?}");
        }
    }
    let server = ApiServer::load(folder(&[("c.yaml", CREDENTIALS)])).unwrap();
    assert!(!format!("{server:?}").contains("s3cr3t"));
}
