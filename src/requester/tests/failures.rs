//! Every call is answered, also where nobody answers us.

use std::{net::TcpListener, time::Duration};

use tokio::net::UdpSocket;

use super::{super::Mode, peer::Peer, setup::*};
use crate::proto::{
    common::Transport,
    sipmessage::{ResponseType, SipMessage},
};

fn assert_local(reply: &SipMessage, expected: ResponseType, what: &str) {
    assert_eq!(response_type(reply), expected, "{reply:?}");
    assert_eq!(extensions(reply, "X-Routr-Local"), [what]);
    assert_eq!(reply.call_id.as_ref().unwrap().call_id, "call-1@test");
    assert_eq!(reply.from.as_ref().unwrap().tag, "f1");
}

#[tokio::test]
async fn silence() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let reply = start_with(options(Mode::Direct), short()).await.send(register(&target)).await;
    assert_local(&reply, ResponseType::RequestTimeout, "timeout");
    assert!(reply.reason_phrase.contains(&target), "{}", reply.reason_phrase);
    assert_eq!(extensions(&reply, "CSeq"), ["7 REGISTER"]);
}

#[tokio::test]
async fn nothing_after_a_provisional_response() {
    let peer = Peer::udp(|raw, _| vec![raw.reply("100 Trying", &[])]).await;
    let service = start_with(options(Mode::Direct), short()).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_local(&reply, ResponseType::RequestTimeout, "timeout");
    assert!(peer.received() > 1, "a non-INVITE request is sent again after a provisional response too");
}

#[tokio::test]
async fn silence_after_the_challenge() {
    let peer = Peer::udp(|raw, number| match number {
        0 => vec![raw.reply("401 Unauthorized", &[r#"WWW-Authenticate: Digest realm="r", nonce="n""#])],
        _ => vec![],
    })
    .await;
    let service = start_with(options(Mode::Direct), short()).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_local(&reply, ResponseType::RequestTimeout, "timeout");
    // So that the caller knows which numbers are used up.
    assert_eq!(extensions(&reply, "CSeq"), ["8 REGISTER"]);
}

#[tokio::test]
async fn the_whole_of_a_call_is_bounded() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut options = options(Mode::Direct);
    options.answer_within = Duration::from_millis(50);
    let service = start_with(options, Default::default()).await;
    let sent = service.send(register(&silent.local_addr().unwrap().to_string()));
    let reply = tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap();
    assert_local(&reply, ResponseType::RequestTimeout, "timeout");
}

#[tokio::test]
async fn a_closed_tcp_port() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut request = register(&address.to_string());
    request.transport = Transport::Tcp.into();
    let reply = start(Mode::Direct).await.send(request).await;
    assert_local(&reply, ResponseType::ServiceUnavailable, "transport-error");
    assert!(reply.reason_phrase.contains(&address.to_string()), "{}", reply.reason_phrase);
    assert!(!reply.reason_phrase.contains(PASSWORD));
}

#[tokio::test]
async fn a_tcp_peer_that_hangs_up() {
    let peer = Peer::tcp(|_, _| vec![String::new()]).await;
    let mut request = register(&peer.address.to_string());
    request.transport = Transport::Tcp.into();
    let sent = start(Mode::Direct).await;
    let reply = tokio::time::timeout(Duration::from_secs(20), sent.send(request)).await.unwrap();
    assert_local(&reply, ResponseType::ServiceUnavailable, "transport-error");
}

#[tokio::test]
async fn an_unknown_host() {
    // RFC 6761 §6.4: names under .invalid do not exist.
    let mut options = options(Mode::Direct);
    options.answer_within = Duration::from_secs(20);
    let reply = start_with(options, Default::default()).await.send(register("nowhere.invalid:5060")).await;
    assert_local(&reply, ResponseType::ServiceUnavailable, "unknown-host");
    assert!(reply.reason_phrase.contains("nowhere.invalid"), "{}", reply.reason_phrase);
}

#[tokio::test]
async fn an_edge_port_whose_host_is_unknown_is_the_one_named() {
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("edge.invalid", 5060)];
    let reply = start(Mode::Proxied).await.send(request).await;
    assert_local(&reply, ResponseType::ServiceUnavailable, "unknown-host");
    assert!(reply.reason_phrase.contains("edge.invalid"), "{}", reply.reason_phrase);
}
