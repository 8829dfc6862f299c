//! Replacement of Routr's own registry.

use super::SOON;
use super::test_registry::{TestRegistry, log};
use crate::support::wait::wait_until;

/// The configuration of Routr's own registry, but for the ports.
const ROUTRS_OWN: &str = "\
kind: Registry
apiVersion: v2beta1
metadata:
  region: default
spec:
  requesterAddr: localhost:51909
  apiAddr: localhost:51907
  registerInterval: 60s
  cache:
    provider: memory
  methods:
    - INVITE
    - MESSAGE
  edgePorts:
    - address: 10.100.42.127:5060
      region: default
";

#[tokio::test]
async fn routrs_own_configuration_works_unchanged() {
    let stage = TestRegistry::with(&["a", "b"]).await;
    let own = ROUTRS_OWN
        .replace("localhost:51909", &format!("127.0.0.1:{}", stage.requester_port))
        .replace("localhost:51907", &format!("127.0.0.1:{}", stage.api_port));
    stage.write(&own);
    let service = stage.run(&[]);
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    assert_eq!(stage.public("/healthz").await, Ok((200, "OK".to_owned())));
    assert_eq!(stage.public("/livez").await, Ok((200, "OK".to_owned())));
    let ready = async || stage.public("/readyz").await.is_ok_and(|(status, _)| status == 200);
    wait_until(ready, SOON, "/readyz to be ready").await;
    // Calls are to arrive at the EdgePort.
    for seen in stage.registrar.log() {
        let contact = seen.contact.unwrap();
        assert!(contact.contains("10.100.42.127:5060"), "{contact}");
    }
    let warnings: Vec<_> = log(&service).into_iter().filter(|line| line["level"] != "INFO").collect();
    // The EdgePort's address is a private one: that is said once.
    let (private, others): (Vec<_>, Vec<_>) = warnings
        .iter()
        .partition(|line| line["message"].as_str().is_some_and(|m| m.contains("publicAddress")));
    assert!(others.is_empty() && private.len() == 1, "{warnings:?}");
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn healthchecks_can_be_turned_off_as_with_routr() {
    let stage = TestRegistry::with(&[]).await;
    for (value, expected) in [("false", 404), ("true", 200)] {
        let service = stage.run(&[("ENABLE_HEALTHCHECKS", value)]);
        let healthz = async || stage.public("/healthz").await.is_ok_and(|(status, _)| status == expected);
        wait_until(healthz, SOON, "/healthz to be as ENABLE_HEALTHCHECKS says").await;
        // What an orchestrator needs stays.
        assert_eq!(stage.public("/livez").await.unwrap().0, 200, "{}", service.output());
        assert_eq!(stage.public("/metrics").await.unwrap().0, 200);
    }
}
