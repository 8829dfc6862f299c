//! Lines of the log, their form, and their number.

use serde_json::Value;

use super::SOON;
use super::test_registry::{TestRegistry, log, tells};
use crate::support::wait::wait_until;
use routr_registry::devstack::registrar::Behaviour;

/// The lines about changes of a trunk's state, as `from-to`.
fn changes(lines: &[Value], trunk: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_trunk = lines.iter().filter(|line| line["trunk"] == trunk && line["to"].is_string());
    of_trunk.map(|line| format!("{}-{}", text(&line["from"]), text(&line["to"]))).collect()
}

#[tokio::test]
async fn a_change_of_state_is_one_line_and_a_refresh_none() {
    let stage = TestRegistry::with(&["a", "b"]).await;
    let service = stage.run(&[]);
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    for times in 2..6 {
        stage.refresh("a").await.unwrap();
        wait_until(async || stage.granted()["a"] == times, SOON, "the refresh").await;
        stage.rests("a").await;
    }
    let lines = log(&service);
    assert_eq!(changes(&lines, "a"), ["pending-registered"]);
    assert_eq!(changes(&lines, "b"), ["pending-registered"]);
    let all = lines.len();

    let down = Behaviour::Code { code: 403, phrase: "Account Locked".to_owned(), headers: Vec::new() };
    stage.registrar.behave("a", down);
    stage.refresh("a").await.unwrap();
    stage.settles(&[("a", "atRisk"), ("b", "registered")]).await;
    stage.registrar.behave_as_others("a");
    stage.refresh("a").await.unwrap();
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    let two = async || log(&service).len() == all + 2;
    wait_until(two, SOON, "two lines more, no more and no less").await;
    let lines = log(&service);
    assert_eq!(changes(&lines, "a"), ["pending-registered", "registered-atRisk", "atRisk-registered"]);
    let at_risk = lines.iter().find(|line| line["to"] == "atRisk").unwrap();
    // It did not ask for credentials first.
    assert_eq!((&at_risk["level"], &at_risk["reason"]), (&"WARN".into(), &"Forbidden".into()));
    assert!(at_risk["message"].as_str().unwrap().contains("403 Account Locked"), "{at_risk}");
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn the_levels_of_routr_are_understood() {
    let mut lowest = Vec::new();
    for level in ["silly", "verbose", "debug", "info", "warn", "error"] {
        let stage = TestRegistry::with(&["a"]).await;
        let mut service = stage.run(&[("LOGS_LEVEL", level)]);
        stage.settles(&[("a", "registered")]).await;
        assert!(service.terminate(SOON).await.success());
        let lines = log(&service);
        let has = |level: &str| lines.iter().any(|line| line["level"] == level);
        lowest.push((level, has("DEBUG"), has("INFO"), lines.is_empty()));
        stage.keeps_secrets(&service).await;
    }
    let expected = [
        ("silly", true, true, false),
        ("verbose", true, true, false),
        ("debug", true, true, false),
        ("info", false, true, false),
        // The private address of the EdgePort.
        ("warn", false, false, false),
        ("error", false, false, true),
    ];
    assert_eq!(lowest, expected);
}

#[tokio::test]
async fn lines_are_text_on_request_and_rust_log_goes_first() {
    let stage = TestRegistry::with(&["a"]).await;
    let mut service =
        stage.run_with(&["--log-format", "text"], &[("LOGS_LEVEL", "silly"), ("RUST_LOG", "info")]);
    stage.settles(&[("a", "registered")]).await;
    service.terminate(SOON).await;
    let output = service.output();
    let expected = |line: &str| line.contains(" INFO routr_registry::") || line.contains("publicAddress");
    assert!(output.lines().all(expected), "{output}");
    assert!(!output.contains('\u{1b}'), "colours only on a terminal:\n{output}");
    assert!(output.contains("trunk=\"a\" from=\"pending\" to=\"registered\""), "{output}");

    let mut requester =
        crate::support::service::Service::start(["requester", "--listen", "127.0.0.1:0"], &[]);
    tells(&requester, "the Requester is listening", 1).await;
    assert_eq!(requester.terminate(SOON).await.code(), Some(0));
}
