//! One transaction for each refresh, counted at a real Kamailio.

use crate::field::harness::{Chain, PASSWORD, trunk};
use crate::support::kamailio::{Algorithm, Challenge, Kamailio, Options, User};
use crate::support::wait::{PATIENCE, wait_until};

const REFRESHES: u64 = 20;

#[tokio::test]
async fn a_refresh_is_one_register_at_kamailio() {
    for (algorithm, challenge, qop) in [
        (Algorithm::Md5, Challenge::Unauthorized401, true),
        (Algorithm::Md5, Challenge::Unauthorized401, false),
        (Algorithm::Sha256, Challenge::Proxy407, true),
    ] {
        let users = [User::new("alice", PASSWORD)];
        let kamailio =
            Kamailio::start(Options { algorithm, challenge, qop, ..Options::with_users(users) }).await;
        let at = ([127, 0, 0, 1], kamailio.udp_port()).into();
        let chain = Chain::start(vec![trunk("alice", "alice", at, "UDP")]).await;
        chain.registered("alice").await;
        let first = kamailio.register_counts().await["alice"];
        assert_eq!((first.received, first.saved), (2, 1), "{challenge:?}");
        for number in 1..=REFRESHES {
            chain.refresh("alice").await;
            let saved = async || kamailio.register_counts().await["alice"].saved > number;
            wait_until(saved, PATIENCE, "a refresh").await;
        }
        let last = kamailio.register_counts().await["alice"];
        assert_eq!(last.received - first.received, REFRESHES, "{algorithm:?} {challenge:?} {qop}");
        assert_eq!(last.saved - first.saved, REFRESHES);
        let log = chain.registry.output();
        assert!(!log.contains("nonce"), "{log}");
    }
}

#[tokio::test]
async fn a_nonce_that_is_too_old_costs_one_register_more() {
    let users = [User::new("alice", PASSWORD)];
    let kamailio = Kamailio::start(Options { nonce_lifetime: 1, ..Options::with_users(users) }).await;
    let at = ([127, 0, 0, 1], kamailio.udp_port()).into();
    let chain = Chain::start(vec![trunk("alice", "alice", at, "UDP")]).await;
    chain.registered("alice").await;
    let mut refreshes = 0;
    // Until one was refused for its age.
    let refused = async || {
        let before = kamailio.register_counts().await["alice"];
        chain.refresh("alice").await;
        let saved = async || kamailio.register_counts().await["alice"].saved > before.saved;
        wait_until(saved, PATIENCE, "a refresh").await;
        let after = kamailio.register_counts().await["alice"];
        let sent = after.received - before.received;
        assert!(sent <= 2, "{before:?} {after:?}");
        refreshes += 1;
        sent == 2
    };
    let mut refused = refused;
    let mut seen = false;
    for _ in 0..200 {
        seen = refused().await;
        if seen {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(seen, "{refreshes} refreshes");
}
