//! Checks before anything runs: finding the configuration, `check`, `--help`, wrong flags, taken ports.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use tempfile::TempDir;

use super::SOON;
use super::test_registry::{TestRegistry, log};
use crate::support::service::Service;

const GOOD: &str = "\
kind: Registry
apiVersion: v2beta1
spec:
  requesterAddr: localhost:51909
  apiAddr: localhost:51907
  cache:
    provider: redis
    parameters: host=localhost,password=hunter2=x
  edgePorts:
    - address: 10.100.42.127:5060
";

const BAD: &str = "\
kind: Registri
apiVersion: v2beta1
spec:
  requesterAddr: localhost:x
  apiAdr: localhost:51907
  cache:
    provider: redis
    parameters: host=localhost,port=99999,password=hunter2=x
  edgePorts: []
";

/// Exit code and output.
async fn ended(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut service = Service::start(args.iter().copied(), env);
    let status = service.exit(SOON).await;
    (status.code(), service.output())
}

fn file(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_configuration_is_found_by_the_flag_then_the_variable_then_the_usual_places() {
    let dir = TempDir::new().unwrap();
    let (good, other) = (file(&dir, "good.yaml", GOOD), file(&dir, "other.yaml", BAD));
    let (code, output) = ended(&["check", "--config", &good], &[("CONFIG_PATH", &other)]).await;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = ended(&["check"], &[("CONFIG_PATH", &good)]).await;
    assert!(code == Some(0) && output.starts_with(&format!("{good} is good\n")), "{output}");
    let (code, output) = ended(&["check"], &[("CONFIG_PATH", "/no/such/file.yaml")]).await;
    assert!(code == Some(1) && output.contains("looked for /no/such/file.yaml;"), "{output}");
    let usual = ["/etc/routr/registry.yaml", "/etc/routr/registry.yml", "/etc/routr/registry.json"];
    let (code, output) = ended(&["check"], &[]).await;
    match usual.iter().find(|path| Path::new(path).exists()) {
        Some(there) => assert!(output.contains(there), "{output}"),
        None => assert!(
            code == Some(1) && output.contains(&usual.join(", ")) && output.contains("CONFIG_PATH"),
            "{output}"
        ),
    }
    let (code, output) = ended(&["run", "--config", "/no/such/file.yaml"], &[("LOGS_FORMAT", "text")]).await;
    assert!(code == Some(1) && output.starts_with("error: no configuration found: "), "{output}");
}

#[tokio::test]
async fn all_mistakes_are_told_at_once_and_no_secret() {
    let dir = TempDir::new().unwrap();
    let bad = file(&dir, "registry.yaml", BAD);
    let mistakes = [
        "kind (line 1)",
        "spec.apiAddr (line 4): missing",
        "spec.requesterAddr (line 4)",
        "spec.apiAdr (line 5): unknown key; did you mean apiAddr?",
        "spec.cache.parameters (line 8)",
        "spec.edgePorts (line 9)",
    ];
    for (args, format) in [
        (["run", "--config", &bad], "json"),
        (["run", "--config", &bad], "text"),
        (["check", "--config", &bad], "text"),
    ] {
        let mut service = Service::start(args, &[("LOGS_FORMAT", format)]);
        assert_eq!(service.exit(SOON).await.code(), Some(1));
        let said = match format {
            "json" => {
                let lines = log(&service);
                assert_eq!((lines.len(), lines[0]["level"].as_str()), (1, Some("ERROR")), "{lines:?}");
                lines[0]["message"].as_str().unwrap().to_owned()
            }
            _ => service.output(),
        };
        for mistake in mistakes {
            assert!(said.contains(mistake), "{mistake} is not in:\n{said}");
        }
        assert!(said.contains("has 6 mistakes:"), "{said}");
        service.assert_never_said("hunter2");
    }
    let good = file(&dir, "good.yaml", GOOD);
    let (code, output) = ended(&["check", "--config", &good], &[]).await;
    assert!(
        code == Some(0) && output.contains("redis at localhost:6379, with a password, no TLS"),
        "{output}"
    );
    assert!(!output.contains("hunter2"));
}

#[tokio::test]
async fn every_subcommand_explains_itself() {
    let flags: [(&str, &[&str]); 7] = [
        ("--log-format", &["run", "check", "trunks", "refresh", "demo", "requester"]),
        ("run", &["--config", "--listen", "--admin-listen", "--grace", "[default: 127.0.0.1:8081]"]),
        ("check", &["--config", "CONFIG_PATH"]),
        ("trunks", &["--state", "--registrar", "--search", "--limit", "--json", "--watch", "--url"]),
        ("refresh", &["<REF>", "--url"]),
        ("demo", &["--once", "--resources"]),
        (
            "requester",
            &[
                "--listen",
                "--mode",
                "--sip-bind",
                "--contact",
                "--ca-file",
                "--token-file",
                "--deny-target",
                "BIND_ADDR",
            ],
        ),
    ];
    for (subcommand, expected) in flags {
        let args = if subcommand == "--log-format" { vec!["--help"] } else { vec![subcommand, "--help"] };
        let (code, output) = ended(&args, &[]).await;
        assert_eq!(code, Some(0), "{output}");
        for word in expected {
            assert!(output.contains(word), "{word} is not in:\n{output}");
        }
        let wide: Vec<&str> = output.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{wide:?}");
        // A flag without a word of explanation helps no one.
        for flag in output.lines().filter(|line| line.trim_start().starts_with("--")) {
            let rest = output.split_once(flag).unwrap().1.trim_start_matches('\n');
            assert!(rest.starts_with("          ") || flag.contains("  "), "{flag} has no explanation");
        }
    }
}

#[tokio::test]
async fn wrong_flags_are_refused_with_what_would_be_right() {
    let cases: [(&[&str], &str); 8] = [
        (&["run", "--confg", "x"], "a similar argument exists: '--config'"),
        (&["rnu"], "unrecognized subcommand"),
        (&["run", "--listen", "8080"], "invalid socket address"),
        (&["run", "--grace", "1h"], "invalid digit"),
        (&["trunks", "--state", "broken"], "registered, atRisk, failing, invalid, pending, deregistering"),
        (&["trunks", "--url", "https://x"], "use http://HOST:PORT"),
        (&["trunks", "--json", "--watch"], "cannot be used with"),
        (&["refresh"], "<REF>"),
    ];
    for (args, right) in cases {
        let (code, output) = ended(args, &[]).await;
        assert!(code == Some(2) && output.contains(right), "{args:?}: {code:?}\n{output}");
    }
    let (code, output) = ended(&["requester", "--listen", "127.0.0.1:0"], &[("LOGS_LEVEL", "loud")]).await;
    assert!(code == Some(1) && output.contains("use silly, verbose, debug, info, warn or error"), "{output}");
}

#[tokio::test]
async fn a_taken_port_names_the_flag_that_changes_it() {
    let stage = TestRegistry::bare().await;
    for (flag, port) in [("--listen", stage.public), ("--admin-listen", stage.private)] {
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let mut service = stage.run(&[("LOGS_FORMAT", "text")]);
        assert_eq!(service.exit(SOON).await.code(), Some(1));
        let expected = format!("cannot listen on 127.0.0.1:{port}: Address already in use");
        let output = service.output();
        assert_eq!(output.matches("Address already in use").count(), 1, "{output}");
        assert!(output.contains(&expected) && output.contains(&format!("with {flag}\n")), "{output}");
    }
}
