//! Rows R: how responses are read.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Chain, Play, Setup, View, trunk};
use super::{AFTER_TIMER_F, SOON};
use crate::standalone::fake::{self, FakeRequester};
use crate::support::ports;
use crate::support::wait::wait_for;

/// One trunk at that case, registered: the seconds until its binding expires.
async fn expiry(name: &str) -> u64 {
    let play = Play::start(name).await;
    let chain = Chain::start(vec![play.trunk("alice", "UDP")]).await;
    chain.registered("alice").await.expires_in()
}

#[tokio::test]
async fn r1_where_no_binding_is_ours_the_least_positive_expiry_counts() {
    let seconds = expiry("R1").await;
    assert!((1..=60).contains(&seconds), "not the 3,600 of the other: {seconds}");
}

#[tokio::test]
async fn r2_an_expiry_of_zero_beside_a_positive_one_means_nothing() {
    let seconds = expiry("R2").await;
    assert!((1..=600).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn r3_a_contact_with_a_rewritten_port_is_not_outdone_by_another_binding() {
    let seconds = expiry("R3").await;
    assert!((1..=300).contains(&seconds), "not the 900 of the other: {seconds}");
}

#[tokio::test]
async fn r4_what_is_left_of_an_old_binding_is_not_taken_for_the_grant() {
    let play = Play::start("R4").await;
    let edge = play.player.edge_ports()[0].1.to_string();
    let mut setup = Setup::proxied(&[edge]);
    // With the Contact of Routr's own Requester, which is another one after each start.
    setup.requester.extend(["--proxied-contact", "requester"].map(str::to_owned));
    let mut chain = Chain::with(vec![play.trunk("alice", "UDP")], setup).await;
    chain.registered("alice").await;
    let old = play.of_user("alice")[0].contact.clone();
    // The old binding must have less left than a new one gets, by more than what may pass unnoticed.
    let before = chain.becomes("alice", "bound for a while", SOON, |view| view.expires_in() <= 54).await;
    chain.requester().replace().await;
    chain.refresh("alice").await;
    let bound = async || {
        let bindings = play.player.bindings().into_values().next().unwrap_or_default();
        if bindings.len() == 2 { Ok(()) } else { Err(format!("{bindings:?}")) }
    };
    wait_for(bound, SOON, "the new Contact to be bound beside the old one").await;
    let view = chain.becomes("alice", "refreshed", SOON, |view| view.0["inFlight"] == false).await;
    let new = play.of_user("alice").last().unwrap().clone();
    assert_ne!(new.contact, old);
    assert!(
        view.is_registered() && view.expires_at_ms() > before.expires_at_ms() + 4_000,
        "{before:?}, {view:?}"
    );
}

#[tokio::test]
async fn r4_nor_where_the_requester_hands_over_the_first_contact_only() {
    let (port, began) = (ports::free(), Instant::now());
    // Routr's Java Requester after its restart: the Contact that comes first is the old one.
    let left = move || 60 - i32::try_from(began.elapsed().as_secs()).unwrap();
    let _fake = FakeRequester::start(port, move |_| Some(fake::ok(left()))).await;
    let setup = Setup { other_requester: Some(port), ..Setup::default() };
    let chain =
        Chain::with(vec![trunk("alice", "alice", "127.0.0.1:9".parse().unwrap(), "UDP")], setup).await;
    let before = chain.registered("alice").await;
    let granted = before.expires_in();
    chain.becomes("alice", "bound for a while", SOON, |view| view.expires_in() + 6 <= granted).await;
    chain.refresh("alice").await;
    // As long as before, from now on: were what is left taken for the grant, it would end when the old one
    // does.
    let refreshed =
        |view: &View| view.0["inFlight"] == false && view.expires_at_ms() > before.expires_at_ms() + 4_000;
    chain.becomes("alice", "bound as long as before", SOON, refreshed).await;
}

#[tokio::test]
async fn r5_a_malformed_header_line_is_ignored() {
    const LINES: [&str; 8] = [
        "bad-name",
        "no-colon",
        "empty-name",
        "utf8-name",
        "latin1-name",
        "control-value",
        "bad-contact",
        "bad-warning",
    ];
    let (mut plays, mut trunks) = (Vec::new(), Vec::new());
    for line in LINES {
        let play = Play::start(&format!("R5-{line}")).await;
        for transport in ["UDP", "TCP"] {
            let user = format!("{line}-{}", transport.to_lowercase());
            trunks.push(play.trunk(&user, transport));
        }
        plays.push(play);
    }
    let chain = Chain::start(trunks).await;
    chain.all_registered(2 * LINES.len(), SOON).await;
    // Were the response not read, it would be as bad at each sending. How often it is sent over UDP is the
    // machine's affair.
    for seen in plays.iter().flat_map(|play| play.player.seen()) {
        assert_eq!(seen.connection.unwrap_or(1), 1, "{seen:?}");
    }
    for play in &plays {
        assert_eq!(play.player.seen().len(), 2, "{}", play.player.dialogue());
    }
}

#[tokio::test]
async fn r5_what_cannot_be_framed_ends_the_connection_and_the_request_goes_on_a_new_one() {
    let play = Play::start("R5-unframeable").await;
    let chain = Chain::start(vec![play.trunk("alice", "TCP")]).await;
    chain.registered("alice").await;
    assert_eq!(play.of_user("alice").last().unwrap().connection, Some(2));
}

#[tokio::test]
async fn r5_one_bad_message_never_touches_another_transaction() {
    let play = Play::start("R5-dependencies").await;
    let users = ["good1", "bad", "good2", "good3", "good4"];
    let chain = Chain::start(users.iter().map(|user| play.trunk(user, "TCP")).collect()).await;
    chain.all_registered(users.len(), SOON).await;
    for seen in play.player.seen() {
        assert_eq!((seen.sendings, seen.connection), (1, Some(1)), "{seen:?}");
    }
}

#[tokio::test]
async fn r6_439_and_494_are_shown_as_they_were_sent() {
    let (hop, security) = (Play::start("R6-439").await, Play::start("R6-494").await);
    let chain = Chain::start(vec![hop.trunk("hop", "UDP"), security.trunk("security", "UDP")]).await;
    let expected =
        [("hop", 439, "First Hop Lacks Outbound Support"), ("security", 494, "Security Agreement Required")];
    for (user, code, phrase) in expected {
        let view = chain.failing(user, SOON).await;
        assert_eq!(view.code(), code, "{view:?}");
        assert!(view.message().contains(phrase) && !view.message().contains("400"), "{view:?}");
    }
}

#[tokio::test]
async fn r7_redirect_contacts_are_followed_by_their_q() {
    let play = Play::start("R7").await;
    let chain = Chain::with(vec![play.trunk("alice", "UDP")], Setup::redirecting()).await;
    chain.registered("alice").await;
    assert_eq!(play.player.seen().last().unwrap().node, "alive");
}

#[tokio::test]
async fn r7_the_next_redirect_contact_is_tried_where_one_fails() {
    let play = Play::start("R7-next").await;
    let chain = Chain::with(vec![play.trunk("alice", "TCP")], Setup::redirecting()).await;
    chain.registered("alice").await;
}

#[tokio::test]
async fn r7_the_next_redirect_contact_is_tried_after_a_silence_too() {
    let play = Play::start("R7-next").await;
    let chain = Chain::with(vec![play.trunk("alice", "UDP")], Setup::redirecting()).await;
    // A silence over UDP is Timer F, then the jittered 5 to 10 s before another target.
    let within = AFTER_TIMER_F + Duration::from_secs(10);
    chain.becomes("alice", "registered", within, View::is_registered).await;
    assert_eq!(play.player.seen().last().unwrap().node, "alive");
}

#[tokio::test]
async fn r8_a_503_of_the_first_redirect_target_leads_to_the_second() {
    let play = Play::start("R8").await;
    let chain = Chain::with(vec![play.trunk("alice", "UDP")], Setup::redirecting()).await;
    chain.registered("alice").await;
    let nodes: Vec<String> = play.player.seen().into_iter().map(|seen| seen.node).collect();
    assert_eq!(nodes, ["registrar", "busy", "alive"]);
}

#[tokio::test]
async fn r9_a_400_to_option_tags_is_tried_without_them_and_remembered() {
    let play = Play::start("R9").await;
    let chain = Chain::start(vec![play.trunk("alice", "UDP")]).await;
    chain.registered("alice").await;
    chain.refresh("alice").await;
    let three = async || {
        let seen = play.of_user("alice");
        if seen.len() >= 3 { Ok(seen) } else { Err(format!("{} requests", seen.len())) }
    };
    let seen = wait_for(three, SOON, "the refresh").await;
    let tags: Vec<bool> = seen.iter().map(|seen| !seen.require.is_empty()).collect();
    assert_eq!(tags, [true, false, false]);
}
