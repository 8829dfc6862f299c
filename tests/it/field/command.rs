//! The subcommand `devstack`, as a person uses it.

use std::fs;

use tempfile::TempDir;

use super::SOON;
use super::harness::{Chain, PASSWORD, trunk};
use crate::support::ports;
use crate::support::process::tail;
use crate::support::service::Service;
use crate::support::wait::wait_for;

async fn says(args: &[&str]) -> (bool, String) {
    let mut service = Service::start(args.iter().copied(), &[]);
    let status = service.exit(SOON).await;
    (status.success(), service.output())
}

#[tokio::test]
async fn cases_are_listed_shown_and_missing_ones_named() {
    let (ok, list) = says(&["devstack", "list"]).await;
    assert!(ok, "{list}");
    for word in ["CASE", "R5-no-colon", "N5-after-challenge", "never stop offering a password"] {
        assert!(list.contains(word), "{word} in {list}");
    }
    let (ok, shown) = says(&["devstack", "show", "r5-no-colon"]).await;
    assert!(ok && shown.contains("this line has no colon"), "{shown}");
    let (ok, missing) = says(&["devstack", "play", "R5"]).await;
    assert!(!ok && missing.contains("no case is named \"R5\"; there are R5-"), "{missing}");
    let (ok, missing) = says(&["devstack", "list", "--cases", "/nowhere"]).await;
    assert!(!ok && missing.contains("/nowhere"), "{missing}");
}

#[tokio::test]
async fn a_case_of_ones_own_is_played_and_the_dialogue_keeps_secrets() {
    let dir = TempDir::new().unwrap();
    let text = "name: Mine\nsummary: odd\noutcome: registered\ndigest: [{ realm: mine, algorithm: SHA-256, qop: auth }]\nrules:\n  \
                - when: { credentials: right }\n    respond: |\n      SIP/2.0 200 Fine By Me\n      Contact: ${bindings}\n";
    fs::write(dir.path().join("mine.yaml"), text).unwrap();
    fs::write(dir.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    let address = format!("127.0.0.1:{}", ports::free());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cases, password) = (path(""), path("password"));
    let mut play = Service::start(
        ["devstack", "play", "mine", "--cases", &cases, "--listen", &address, "--password-file", &password],
        &[],
    );
    let output = || play.output();
    let listening = async || if output().contains("node registrar") { Ok(()) } else { Err(output()) };
    wait_for(listening, SOON, "the play to listen").await;
    assert!(output().contains(&address), "{}", output());
    let chain = Chain::start(vec![trunk("alice", "alice", address.parse().unwrap(), "UDP")]).await;
    chain.registered("alice").await;
    let granted = async || if output().contains("Fine By Me") { Ok(()) } else { Err(tail(&output())) };
    wait_for(granted, SOON, "the dialogue to show the 200").await;
    let shown = output();
    assert!(shown.contains("username=\"alice\"") && shown.contains("response=***"), "{shown}");
    play.assert_never_said(PASSWORD);
    assert!(play.terminate(SOON).await.success());
}
