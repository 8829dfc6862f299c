//! Rows W: words that mislead.

use std::net::SocketAddr;
use std::time::Duration;

use routr_registry::devstack::field::PlayOptions;
use routr_registry::proto::sipmessage::ResponseType;

use super::harness::{Chain, Play, Setup, case, trunk};
use super::{AFTER_TIMER_F, SOON};
use crate::standalone::fake::{self, FakeRequester};
use crate::support::ports;

#[tokio::test]
async fn w2_an_edge_port_whose_name_does_not_exist_is_named() {
    let name_server: SocketAddr = "127.0.53.2:53".parse().unwrap();
    let play = Play::of(case("W2"), PlayOptions { dns: Some(name_server), ..PlayOptions::default() }).await;
    let mut setup = Setup::proxied(&["release-routr-edgeport.field.test:5060".to_owned()]);
    setup.name_server = Some(name_server);
    let chain = Chain::with(vec![play.trunk("alice", "UDP")], setup).await;
    let view = chain.failing("alice", SOON).await;
    assert!(view.message().contains("release-routr-edgeport.field.test"), "{view:?}");
    assert!(!view.message().contains("no response from the Requester"), "{view:?}");
    assert!(view.message().contains("EdgePort"), "{view:?}");
    assert!(play.player.queries().iter().any(|query| query.name.starts_with("release-routr-edgeport")));
    let readiness = chain.readiness().await.unwrap();
    assert!(!readiness.contains("not used yet"), "{readiness}");
}

#[tokio::test]
async fn w3_an_edge_port_that_is_down_is_named() {
    let play = Play::start("W3").await;
    let down = play.player.edge_ports()[0].1.to_string();
    let chain =
        Chain::with(vec![play.trunk("alice", "UDP")], Setup::proxied(std::slice::from_ref(&down))).await;
    let view = chain.failing("alice", AFTER_TIMER_F).await;
    assert!(view.message().contains(&down) && view.message().contains("EdgePort"), "{view:?}");
    assert_eq!(view.edge_port(), down);
}

#[tokio::test]
async fn w3_another_edge_port_takes_over_and_the_one_that_is_down_is_named() {
    let play = Play::start("W3").await;
    let edge_ports: Vec<String> =
        play.player.edge_ports().iter().map(|(_, address, _)| address.to_string()).collect();
    let users: Vec<String> = (1..=6).map(|n| format!("user{n}")).collect();
    let chain =
        Chain::with(users.iter().map(|user| play.trunk(user, "UDP")).collect(), Setup::proxied(&edge_ports))
            .await;
    // Timer F, the jittered 5 to 10 s before another target, and who waits for them.
    chain.all_registered(users.len(), AFTER_TIMER_F + Duration::from_secs(15)).await;
    for view in chain.views().await.unwrap().values() {
        assert_eq!(view.edge_port(), edge_ports[1], "{view:?}");
    }
    chain.logs(&edge_ports[0], SOON).await;
}

#[tokio::test]
async fn w4_a_503_of_the_requester_is_told_as_its_own() {
    let play = Play::start("W4").await;
    let chain = Chain::start(vec![play.trunk("alice", "TCP")]).await;
    let view = chain.failing("alice", SOON).await;
    assert!(!view.message().contains("registrar responded"), "{view:?}");
    assert!(view.message().contains(&play.player.address().to_string()), "{view:?}");
    assert!(view.message().to_lowercase().contains("refused"), "{view:?}");
}

#[tokio::test]
async fn w4_a_503_of_routrs_requester_is_told_as_its_own() {
    let port = ports::free();
    let unavailable = ResponseType::ServiceUnavailable.into();
    let own = fake::reply(unavailable, "Transport error sending request.", &[]);
    let _fake = FakeRequester::start(port, move |_| Some(own.clone())).await;
    let setup = Setup { other_requester: Some(port), ..Setup::default() };
    let chain =
        Chain::with(vec![trunk("alice", "alice", "127.0.0.1:9".parse().unwrap(), "TCP")], setup).await;
    let view = chain.failing("alice", SOON).await;
    assert!(view.message().contains("Transport error sending request"), "{view:?}");
    assert!(!view.message().contains("registrar responded"), "{view:?}");
}

#[tokio::test]
async fn w4_a_408_of_the_requester_is_told_as_its_own() {
    let play = Play::start("W4-silent").await;
    let chain = Chain::start(vec![play.trunk("alice", "UDP")]).await;
    let view = chain.failing("alice", AFTER_TIMER_F).await;
    assert!(!view.message().contains("registrar responded"), "{view:?}");
    assert!(!view.message().contains("password"), "no EdgePort stands between: {view:?}");
}
