//! Rows D: challenges that get credentials, and messages about those that do not.

use std::net::SocketAddr;

use routr_registry::devstack::field::{CredentialsVerdict, PlayOptions};

use super::SOON;
use super::harness::{Chain, Play, Setup, case};

/// Asserts that each case gets credentials: two requests, the second with the right ones.
async fn answered(names: &[&str]) {
    let (mut plays, mut trunks) = (Vec::new(), Vec::new());
    for name in names {
        let play = Play::start(name).await;
        trunks.push(play.trunk(name, "UDP"));
        plays.push(play);
    }
    let chain = Chain::start(trunks).await;
    chain.all_registered(names.len(), SOON).await;
    for (play, name) in plays.iter().zip(names) {
        let verdicts: Vec<_> = play.player.seen().iter().map(|seen| seen.verdict()).collect();
        assert_eq!(verdicts, [CredentialsVerdict::None, CredentialsVerdict::Right], "{name}");
    }
}

#[tokio::test]
async fn d1_every_algorithm_is_answered() {
    answered(&["D1-MD5-sess", "D1-SHA-256-sess", "D1-SHA-512-256", "D1-SHA-512-256-sess"]).await;
}

#[tokio::test]
async fn d1_the_strongest_of_several_challenges_is_answered_wherever_it_stands() {
    answered(&["D1-strongest", "D1-one-line"]).await;
}

#[tokio::test]
async fn d1_the_realm_is_used_byte_for_byte() {
    answered(&["D1-latin1-realm"]).await;
}

#[tokio::test]
async fn d2_auth_int_is_answered() {
    answered(&["D2", "D2-both"]).await;
}

#[tokio::test]
async fn d3_a_challenge_that_cannot_be_answered_has_a_reason_of_its_own() {
    let cases =
        [("scheme", "NTLM"), ("algorithm", "AKAv1-MD5"), ("parameter", ""), ("proxy-only", ""), ("none", "")];
    let (mut plays, mut trunks) = (Vec::new(), Vec::new());
    for (name, _) in cases {
        let play = Play::start(&format!("D3-{name}")).await;
        trunks.push(play.trunk(name, "UDP"));
        plays.push(play);
    }
    let chain = Chain::start(trunks).await;
    for ((name, asked), play) in cases.iter().zip(&plays) {
        let view = chain.failing(name, SOON).await;
        assert_eq!(view.reason(), "ChallengeNotSupported", "{name}: {view:?}");
        assert!(view.message().contains(asked), "{name}: {view:?}");
        assert!(!view.message().contains("check username and password"), "{name}: {view:?}");
        assert!(view.next_in() <= 60, "ordinary back-off: {name}: {view:?}");
        assert_eq!(play.offers(), 0, "{name}");
    }
}

#[tokio::test]
async fn d3_a_403_before_any_credentials_is_no_matter_of_credentials() {
    let play = Play::start("D3-forbidden").await;
    let chain = Chain::start(vec![play.trunk("alice", "UDP")]).await;
    let view = chain.failing("alice", SOON).await;
    assert_ne!(view.reason(), "CredentialsRejected", "{view:?}");
    assert!(!view.message().contains("check username and password"), "{view:?}");
    assert_eq!(view.code(), 403, "{view:?}");
    assert!(view.next_in() <= 60, "ordinary back-off: {view:?}");
}

#[tokio::test]
async fn d4_a_stale_nonce_for_ever_is_bounded_and_says_that_the_password_is_right() {
    let play = Play::start("D4").await;
    let chain = Chain::start(vec![play.trunk("alice", "UDP")]).await;
    let view = chain.failing("alice", SOON).await;
    assert!(view.reason().contains("Stale"), "a reason of its own: {view:?}");
    assert!(!view.message().contains("check username and password"), "{view:?}");
    let says = ["accepts the password", "password is right"];
    assert!(says.iter().any(|words| view.message().contains(words)), "{view:?}");
    assert!((1..=5).contains(&play.offers()), "{} offers", play.offers());
}

#[tokio::test]
async fn d5_two_proxies_and_the_registrar_are_answered_by_realm() {
    let play = Play::start("D5").await;
    let chain = Chain::start(vec![play.trunk("alice", "UDP"), play.trunk("bob", "TCP")]).await;
    chain.all_registered(2, SOON).await;
    assert_eq!(play.of_user("alice").len(), 4, "{}", play.player.dialogue());
}

#[tokio::test]
async fn d6_the_answer_goes_to_the_node_that_challenged() {
    let name_server: SocketAddr = "127.0.53.6:53".parse().unwrap();
    let play = Play::of(case("D6"), PlayOptions { dns: Some(name_server), ..PlayOptions::default() }).await;
    let users: Vec<String> = (1..=6).map(|n| format!("user{n}")).collect();
    let trunks = users.iter().zip(["UDP", "TCP"].into_iter().cycle()).map(|(user, transport)| {
        let mut trunk = play.trunk(user, transport);
        trunk.uris[0].host = "d6.field.test".to_owned();
        trunk
    });
    let setup = Setup { name_server: Some(name_server), ..Setup::default() };
    let chain = Chain::with(trunks.collect(), setup).await;
    chain.all_registered(users.len(), SOON).await;
    for user in &users {
        let seen = play.of_user(user);
        let verdicts: Vec<_> = seen.iter().map(|seen| seen.verdict()).collect();
        assert_eq!(verdicts, [CredentialsVerdict::None, CredentialsVerdict::Right], "{user}");
        assert_eq!(seen[0].node, seen[1].node, "{user}");
    }
}
