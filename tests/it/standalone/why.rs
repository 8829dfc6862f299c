//! `why` of trunks in different troubles, against a running service.

use routr_registry::proto::trunks::TrunkUri;
use routr_types::host::Transport;
use serde_json::Value;
use tokio::net::UdpSocket;

use super::SOON;
use super::test_registry::{PASSWORD, TestRegistry, trunk};
use crate::support::ports;
use crate::support::service::Service;
use crate::support::wait::wait_for;

async fn ended(mut client: Service) -> (Option<i32>, String) {
    let status = client.exit(SOON).await;
    (status.code(), client.output())
}

/// Returns the output with each run of white space as one space.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// «good» is registered, «locked» has another password than its account, «moves» has a preferred URI at which
/// nothing listens, «silent» a registrar that never responds, «broken» no host.
async fn stage() -> (TestRegistry, UdpSocket, Service) {
    let mut stage = TestRegistry::bare().await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let registrar = stage.registrar.address(Transport::Udp).unwrap().port();
    stage.registrar.set_password("locked", "another");
    let mut moves = stage.trunk("moves");
    moves.uris.insert(
        0,
        TrunkUri {
            port: ports::free().into(),
            transport: "TCP".to_owned(),
            priority: 0,
            ..moves.uris[0].clone()
        },
    );
    stage.api.set_trunks(vec![
        stage.trunk("good"),
        trunk("locked", "127.0.0.1", registrar),
        moves,
        trunk("silent", "127.0.0.1", silent.local_addr().unwrap().port()),
        trunk("broken", "", 5060),
    ]);
    stage.start_api().await;
    stage.start_requester().await;
    let service = stage.run(&[]);
    stage
        .settles(&[
            ("good", "registered"),
            ("locked", "failing"),
            ("moves", "registered"),
            ("silent", "failing"),
            ("broken", "invalid"),
        ])
        .await;
    (stage, silent, service)
}

#[tokio::test]
async fn why_prints_the_truth_about_each_trouble() {
    let (stage, silent, service) = stage().await;
    let (code, good) = ended(stage.client(&["why", "good"])).await;
    assert!(code == Some(0) && good.starts_with("Trunk good (good) is registered\n"), "{good}");

    let (code, locked) = ended(stage.client(&["why", "Trunk locked", "--utc"])).await;
    let shown = words(&locked);
    assert!(
        code == Some(1) && locked.starts_with("Trunk locked (locked) is failing: not registered, for "),
        "{locked}"
    );
    for part in [
        "Why CredentialsRejected (40",
        "check username and password",
        "Do correct the trunk's Credentials",
        "Next retry in ",
        "TIME (UTC) WHAT TARGET EDGEPORT OUTCOME",
        "tried preferred 127.0.0.1:",
        "/UDP 10.0.0.1:5060 CredentialsRejected (40",
        "state - - pending -> failing",
        "next due at ",
    ] {
        assert!(shown.contains(part), "{part} in:\n{locked}");
    }

    let (code, moves) = ended(stage.client(&["why", "moves"])).await;
    let shown = words(&moves);
    assert_eq!(code, Some(0), "its binding is elsewhere, but it has one: {moves}");
    for part in [
        "Trunk moves (moves) is registered, but failed over, for ",
        "Why the preferred target, 127.0.0.1:",
        "/TCP through EdgePort 10.0.0.1:5060, failed at ",
        "(failed over, not its preferred target); the binding expires in ",
        "state - - failing -> registered, failed over",
        "tried preferred 127.0.0.1:",
        "tried another 127.0.0.1:",
    ] {
        assert!(shown.contains(part), "{part} in:\n{moves}");
    }

    let (code, text) = ended(stage.client(&["why", "silent"])).await;
    let target = format!("127.0.0.1:{}/UDP", silent.local_addr().unwrap().port());
    let shown = words(&text);
    assert_eq!(code, Some(1));
    for part in
        ["is failing: not registered, for ", "Why Timeout", &format!("tried preferred {target} 10.0.0.1")]
    {
        assert!(shown.contains(part), "{part} in:\n{text}");
    }

    let (code, broken) = ended(stage.client(&["why", "broken"])).await;
    assert!(code == Some(1) && broken.contains("Why    InvalidTrunk"), "{broken}");
    assert!(
        broken.contains("uris[0].host") && broken.contains("\nNext   waits for the trunk to be corrected")
    );

    for said in [good, locked, moves, text, broken] {
        assert!(!said.contains(PASSWORD), "{said}");
    }
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn why_in_json_counts_what_repeats_itself_and_an_unknown_trunk_is_an_error() {
    let (stage, _silent, _service) = stage().await;
    let attempts = async || {
        let (code, json) = ended(stage.client(&["why", "locked", "--output", "json"])).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, json["state"].as_str()), (Some(1), Some("failing")));
        let entries = json["history"].as_array().unwrap().iter();
        let attempts = entries.filter(|entry| entry["what"] == "attempt" && entry["failedOver"] == false);
        attempts.map(|entry| entry["times"].as_u64().unwrap()).sum::<u64>()
    };
    let before = attempts().await;
    stage.rests("locked").await;
    stage.refresh("locked").await.unwrap();
    let more = async || match attempts().await {
        times if times > before => Ok(()),
        times => Err(format!("{times} times")),
    };
    wait_for(more, SOON, "the next attempt in the history").await;

    let (code, said) = ended(stage.client(&["why", "nobody"])).await;
    assert!(code == Some(1) && said.contains("there is no trunk with ref \"nobody\""), "{said}");
    let (code, said) = ended(stage.client(&["why"])).await;
    assert!(code == Some(2) && said.contains("<REF>"), "{said}");
    let (code, said) = ended(stage.client(&["why", "good", "--output", "xml"])).await;
    assert!(code == Some(2) && said.contains("xml"), "{said}");
}
