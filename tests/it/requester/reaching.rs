//! Rows N1 to N4: the way to the registrar by the DNS.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use routr_registry::devstack::field::PlayOptions;
use routr_registry::proto::trunks::Trunk;

use crate::field::harness::{Chain, Play, Setup, case, trunk};
use crate::support::wait::{PATIENCE, wait_until};

/// Name servers of a play listen on port 53: a resolv.conf names no other.
fn next_name_server() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    SocketAddr::from(([127, 253, NEXT.fetch_add(1, Ordering::Relaxed), 1], 53))
}

async fn play(name: &str) -> Play {
    Play::of(case(name), PlayOptions { dns: Some(next_name_server()), ..PlayOptions::default() }).await
}

fn servers(play: &Play) -> Vec<SocketAddr> {
    play.player.name_servers().iter().map(|(_, address)| *address).collect()
}

fn named(user: &str, host: &str, port: i32, transport: &str) -> Trunk {
    let mut trunk = trunk(user, user, SocketAddr::from(([127, 0, 0, 1], 9)), transport);
    (trunk.uris[0].host, trunk.uris[0].port) = (host.to_owned(), port);
    trunk
}

fn asking(play: &Play) -> Setup {
    Setup { name_server: Some(servers(play)[0]), ..Setup::default() }
}

#[tokio::test]
async fn n1_a_registrar_with_naptr_and_srv_records_only_is_reached_and_the_next_one_used() {
    let play = play("N1").await;
    let trunks = vec![named("alice", "n1.field.test", 0, "UDP"), named("bob", "n1.field.test", 0, "TCP")];
    let chain = Chain::with(trunks, asking(&play)).await;
    chain.all_registered(2, PATIENCE).await;
    assert_eq!(
        (play.of_user("alice").len(), play.of_user("bob").len()),
        (1, 1),
        "{}",
        play.player.dialogue()
    );
}

#[tokio::test]
async fn n1_a_trunk_that_names_a_port_gets_that_port() {
    let play = play("N1").await;
    let chain = Chain::with(vec![named("alice", "n1.field.test", 5060, "UDP")], asking(&play)).await;
    let view = chain.failing("alice", PATIENCE).await;
    assert!(view.message().contains("no address in the DNS"), "{view:?}");
}

async fn second_address(name: &str) {
    let play = play(name).await;
    let port = play.player.address().port();
    let trunks = vec![named("alice", "n2.field.test", port.into(), "UDP")];
    let mut chain = Chain::with(trunks, asking(&play)).await;
    chain.all_registered(1, PATIENCE).await;
    let dead = |play: &Play| play.player.seen().iter().filter(|seen| seen.node == "dead").count();
    let first = dead(&play);
    chain.refresh("alice").await;
    let refreshed =
        async || play.of_user("alice").iter().filter(|seen| seen.codes.contains(&200)).count() >= 2;
    wait_until(refreshed, PATIENCE, "a refresh").await;
    assert_eq!(dead(&play), first, "the dead one is passed over: {}", play.player.dialogue());
    let log = chain.requester().output();
    assert_eq!(log.matches("is passed over").count(), 1, "{log}");
}

#[tokio::test]
async fn n2_a_silent_address_is_left_for_the_next_and_passed_over() {
    second_address("N2").await;
}

#[tokio::test]
async fn n2_an_address_without_a_listener_is_left_for_the_next_and_passed_over() {
    second_address("N2-refused").await;
}

#[tokio::test]
async fn n3_name_servers_that_change_are_followed() {
    let play = play("N3").await;
    let servers = servers(&play);
    let setup = Setup { name_server: Some(servers[0]), ..Setup::default() };
    let port = play.player.address().port();
    let mut chain = Chain::with(vec![named("alice", "n3.field.test", port.into(), "UDP")], setup).await;
    let view = chain.failing("alice", PATIENCE).await;
    assert!(view.message().contains("cannot be looked up"), "{view:?}");
    let text = format!("nameserver {}\noptions timeout:1 attempts:1\n", servers[1].ip());
    fs::write(chain.requester().resolv_conf(), text).unwrap();
    chain.refresh("alice").await;
    chain.registered("alice").await;
}

#[tokio::test]
async fn n4_where_one_name_server_fails_the_other_is_asked() {
    for name in ["N4-refused", "N4-servfail"] {
        let play = play(name).await;
        let servers = servers(&play);
        let port = play.player.address().port();
        let users: Vec<String> = (0..8).map(|number| format!("user{number}")).collect();
        let trunks = users.iter().map(|user| named(user, "n4.field.test", port.into(), "UDP")).collect();
        let setup = Setup {
            name_server: Some(servers[0]),
            further_name_servers: servers[1..].to_vec(),
            ..Setup::default()
        };
        let chain = Chain::with(trunks, setup).await;
        chain.all_registered(users.len(), PATIENCE).await;
        for user in &users {
            let first = play.of_user(user).len();
            assert_eq!(first, 1, "{name}, {user}: {}", play.player.dialogue());
        }
    }
}
