//! Rows N: the path to the registrar. N1 to N4 have cases and no tests here.

use std::fs;

use super::harness::{Chain, Play, Setup};
use super::{AFTER_TIMER_F, SOON};
use crate::support::wait::{wait_for, wait_until};

/// A connection that goes silent makes one request fail; the next one makes a new connection.
async fn heals(name: &str, users: &[&str], silent_from: &str) {
    let play = Play::start(name).await;
    let chain = Chain::start(users.iter().map(|user| play.trunk(user, "TCP")).collect()).await;
    if silent_from == "refresh" {
        chain.all_registered(users.len(), SOON).await;
        chain.refresh(users[0]).await;
    }
    let failed = |view: &super::harness::View| !view.message().is_empty() && view.0["inFlight"] == false;
    let recovered = async || {
        let seen = play.player.seen();
        let second = seen.iter().any(|seen| seen.connection == Some(2) && seen.codes.contains(&200));
        let view = chain.views().await?.remove(users[0]).ok_or("it is not there")?;
        if second || failed(&view) { Ok(()) } else { Err(view.0.to_string()) }
    };
    wait_for(recovered, AFTER_TIMER_F, "the silence to be noticed").await;
    if !chain.views().await.unwrap()[users[0]].is_registered() {
        chain.refresh(users[0]).await;
    }
    chain.registered(users[0]).await;
    let last = play.of_user(users[0]).pop().unwrap();
    assert_eq!((last.connection, last.codes), (Some(2), vec![200]), "{}", play.player.dialogue());
}

#[tokio::test]
async fn n5_after_a_silence_the_next_request_makes_a_new_connection() {
    heals("N5", &["alice", "bob"], "refresh").await;
}

#[tokio::test]
async fn n5_after_a_silence_behind_a_challenge_the_next_request_makes_a_new_connection() {
    heals("N5-after-challenge", &["alice"], "start").await;
}

#[tokio::test]
async fn n5_broken_halved_and_slow_connections_heal_at_once() {
    let (mut plays, mut trunks) = (Vec::new(), Vec::new());
    let names = ["reset", "close-after-response", "half", "slow"];
    for name in names {
        let play = Play::start(&format!("N5-{name}")).await;
        trunks.push(play.trunk(name, "TCP"));
        plays.push(play);
    }
    let chain = Chain::start(trunks).await;
    chain.all_registered(names.len(), SOON).await;
    for name in names {
        chain.refresh(name).await;
    }
    let refreshed = async || {
        let granted =
            |play: &Play| play.player.seen().iter().filter(|seen| seen.codes.contains(&200)).count() >= 2;
        plays.iter().all(granted)
    };
    wait_until(refreshed, SOON, "each to be refreshed").await;
    chain.all_registered(names.len(), SOON).await;
}

#[tokio::test]
async fn n6_the_reason_of_a_refused_certificate_comes_first_and_whole() {
    let cases = [
        ("wrong-name", &["other.field.test"][..]),
        ("unknown-issuer", &["issuer", "authority"]),
        ("not-valid-yet", &["not valid yet", "not yet valid", "not valid before"]),
        ("expired", &["expired"]),
    ];
    let (mut plays, mut trunks, mut authorities) = (Vec::new(), Vec::new(), String::new());
    for (name, _) in cases {
        let play = Play::start(&format!("N6-{name}")).await;
        trunks.push(play.trunk(name, "TLS"));
        authorities.push_str(&play.player.identities().unwrap().authority);
        plays.push(play);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    fs::write(&file, authorities).unwrap();
    let requester = vec!["--ca-file".to_owned(), file.to_str().unwrap().to_owned()];
    let chain = Chain::with(trunks, Setup { requester, ..Setup::default() }).await;
    for (name, words) in cases {
        let view = chain.failing(name, SOON).await;
        let message = view.message().to_lowercase();
        assert!(words.iter().any(|word| message.contains(word)), "{name}: {view:?}");
        assert!(!message.ends_with("..") && !message.ends_with('…'), "{name} is cut off: {view:?}");
    }
    let messages = chain.views().await.unwrap().into_values().map(|view| view.message().to_owned());
    let different: std::collections::BTreeSet<String> = messages.collect();
    assert_eq!(different.len(), cases.len(), "{different:?}");
}

/// `extended` with one text.
fn extended(key: &str, value: &str) -> Option<prost_types::Struct> {
    let kind = Some(prost_types::value::Kind::StringValue(value.to_owned()));
    Some(prost_types::Struct { fields: [(key.to_owned(), prost_types::Value { kind })].into() })
}

#[tokio::test]
async fn n7_sip_over_tls_is_settable_and_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let of_trunk = "  registration: { ratePerRegistrar: unlimited }\n";
    let of_registry = "  registration: { ratePerRegistrar: unlimited, tlsUriScheme: sip }\n";
    for (scheme, more, refused) in
        [(None, of_trunk, true), (Some("sip"), of_trunk, false), (None, of_registry, false)]
    {
        let play = Play::start("N7").await;
        let mut trunk = play.trunk("alice", "TLS");
        trunk.extended = scheme.and_then(|scheme| extended("tlsUriScheme", scheme));
        let requester = tls_flags(&play, dir.path(), false);
        let setup = Setup { requester, more: more.to_owned(), ..Setup::default() };
        let chain = Chain::with(vec![trunk], setup).await;
        chain.registered("alice").await;
        let codes: Vec<_> = play.of_user("alice").into_iter().flat_map(|seen| seen.codes).collect();
        assert_eq!(codes.contains(&416), refused, "{}", play.player.dialogue());
        chain.refresh("alice").await;
        let refreshed = async || play.of_user("alice").len() > codes.len();
        wait_until(refreshed, SOON, "a refresh").await;
        chain.registered("alice").await;
        let seen = play.of_user("alice");
        let refusals = seen.iter().filter(|seen| seen.codes.contains(&416)).count();
        assert_eq!(refusals, usize::from(refused), "{}", play.player.dialogue());
        let last = seen.last().unwrap();
        assert!(last.request_uri.starts_with("sip:") && last.contact.contains("sip:"), "{last:?}");
    }
}

#[tokio::test]
async fn n9_an_outbound_proxy_gets_the_requests_of_the_domain() {
    let mut case = super::harness::case("N9");
    // The realm is that of the domain.
    case.digest = super::harness::case("D7").digest;
    let play = Play::of(case, Default::default()).await;
    let (proxy, domain) = (play.player.address(), play.player.node("domain").unwrap());
    let mut trunk = super::harness::trunk("alice", "alice", domain, "UDP");
    trunk.extended = extended("outboundProxy", &format!("sip:{proxy};lr"));
    let mut wrong = super::harness::trunk("wrong", "wrong", domain, "UDP");
    wrong.extended = extended("outboundProxy", "proxy.example.com:seventy");
    let chain = Chain::start(vec![trunk, wrong]).await;
    chain.registered("alice").await;
    let seen = play.of_user("alice");
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.node == "proxy"), "{}", play.player.dialogue());
    assert!(seen.last().unwrap().offers_credentials(), "{}", play.player.dialogue());
    for seen in &seen {
        assert!(seen.request_uri.starts_with(&format!("sip:{domain}")), "{seen:?}");
    }
    let view = chain.becomes("wrong", "invalid", SOON, |view| !view.message().is_empty()).await;
    assert!(view.message().starts_with("extended.outboundProxy: "), "{view:?}");
    assert!(view.message().contains("proxy.example.com:seventy"), "{view:?}");
    assert!(play.of_user("wrong").is_empty(), "{}", play.player.dialogue());
}

#[tokio::test]
async fn n9_a_proxy_that_is_down_is_named_and_no_request_goes_past_it() {
    let play = Play::start("N9").await;
    let (open, closed) = (play.player.address(), play.player.node("domain").unwrap());
    let mut trunk = super::harness::trunk("alice", "alice", open, "TCP");
    trunk.extended = extended("outboundProxy", &closed.to_string());
    let chain = Chain::start(vec![trunk]).await;
    let view = chain.failing("alice", SOON).await;
    assert!(view.message().contains(&closed.to_string()), "{view:?}");
    assert!(play.of_user("alice").is_empty(), "{}", play.player.dialogue());
}

/// Writes what a client needs to trust a play over TLS, and to be trusted: the flags that name the files.
fn tls_flags(play: &Play, dir: &std::path::Path, client: bool) -> Vec<String> {
    let identities = play.player.identities().unwrap();
    let mut flags = Vec::new();
    let mut put = |flag: &str, name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).unwrap();
        flags.extend([flag.to_owned(), file.to_str().unwrap().to_owned()]);
    };
    put("--ca-file", "ca.pem", &identities.authority);
    if client {
        put("--sip-tls-cert", "client.pem", &identities.client.0);
        put("--sip-tls-key", "client-key.pem", &identities.client.1);
    }
    flags
}

#[tokio::test]
async fn n8_a_registrar_that_asks_for_a_client_certificate_gets_it() {
    let play = Play::start("N8").await;
    let dir = tempfile::tempdir().unwrap();
    let requester = tls_flags(&play, dir.path(), true);
    let chain = Chain::with(vec![play.trunk("alice", "TLS")], Setup { requester, ..Setup::default() }).await;
    chain.registered("alice").await;
}

#[tokio::test]
async fn n8_without_a_client_certificate_the_message_says_what_to_set() {
    let play = Play::start("N8").await;
    let dir = tempfile::tempdir().unwrap();
    let requester = tls_flags(&play, dir.path(), false);
    let chain = Chain::with(vec![play.trunk("alice", "TLS")], Setup { requester, ..Setup::default() }).await;
    let view = chain.failing("alice", SOON).await;
    let message = view.message();
    assert!(message.starts_with("client certificate demanded"), "{view:?}");
    assert!(message.contains("--sip-tls-cert and --sip-tls-key"), "{view:?}");
}

#[tokio::test]
async fn n10_requests_to_where_the_register_came_from_are_answered() {
    let play = Play::start("N10").await;
    let mut chain = Chain::start(vec![play.trunk("alice", "UDP"), play.trunk("bob", "TCP")]).await;
    chain.all_registered(2, SOON).await;
    let answered = async || {
        let received = play.player.received();
        let of =
            |method: &str| received.iter().filter(|r| r.method == method).map(|r| r.code).collect::<Vec<_>>();
        let (options, invites) = (of("OPTIONS"), of("INVITE"));
        let right =
            options == [200, 200] && invites.len() == 2 && invites.iter().all(|c| [480, 501].contains(c));
        if right { Ok(()) } else { Err(format!("{options:?}, {invites:?}\n{}", play.player.dialogue())) }
    };
    wait_for(answered, SOON, "OPTIONS and INVITE to be answered").await;
    let log = chain.requester().output();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("INVITE")).count();
    assert!((1..=2).contains(&warnings), "one for each registrar and transport at most:\n{log}");
}

#[tokio::test]
async fn n11_users_are_escaped_in_uris_and_plain_in_the_digest() {
    let play = Play::start("N11").await;
    let users = [("at", "alice@acme", "alice%40acme"), ("blank", "al ice", "al%20ice")];
    let trunks = users
        .map(|(reference, user, _)| super::harness::trunk(reference, user, play.player.address(), "UDP"));
    let chain = Chain::start(trunks.into()).await;
    chain.all_registered(users.len(), SOON).await;
    for (_, _, escaped) in users {
        assert_eq!(play.of_user(escaped).len(), 2, "{escaped}: {}", play.player.dialogue());
    }
}

#[tokio::test]
async fn n11_a_user_that_is_escaped_already_is_not_escaped_twice() {
    let play = Play::start("N11").await;
    let mut trunk = play.trunk("alice", "UDP");
    trunk.uris[0].user = "alice%40acme".to_owned();
    let chain = Chain::start(vec![trunk]).await;
    chain.registered("alice").await;
    assert_eq!(play.of_user("alice%40acme").len(), 2, "{}", play.player.dialogue());
}
