//! Every call gets a response, also where no peer sends one.

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

/// The phrase ends with the time, which a busy machine makes longer.
fn assert_waited(reply: &SipMessage, expected: &str) {
    let time = reply.reason_phrase.strip_prefix(&format!("{expected} within "));
    let seconds = time.and_then(|time| time.strip_suffix(" s")?.parse::<f32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 0.3), "{}", reply.reason_phrase);
}

#[tokio::test]
async fn w4_silence_at_a_registrar_is_a_response_of_the_requester() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let reply = start_with(options(Mode::Direct), short()).await.send(register(&target)).await;
    assert_local(&reply, ResponseType::RequestTimeout, "timeout;at=registrar");
    assert_waited(&reply, &format!("no response from registrar {target} (UDP)"));
    assert_eq!(extensions(&reply, "CSeq"), ["7 REGISTER"]);
}

#[tokio::test]
async fn nothing_after_a_provisional_response() {
    let peer = Peer::udp(|raw, _| vec![raw.reply("100 Trying", &[])]).await;
    let service = start_with(options(Mode::Direct), short()).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_local(&reply, ResponseType::RequestTimeout, "timeout;at=registrar");
    assert_waited(&reply, &format!("no final response, only 100, from registrar {} (UDP)", peer.address));
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
    assert_local(&reply, ResponseType::RequestTimeout, "timeout;at=registrar");
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
    assert_local(&reply, ResponseType::RequestTimeout, "timeout;at=registrar");
}

#[tokio::test]
async fn a_closed_tcp_port() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut request = register(&address.to_string());
    request.transport = Transport::Tcp.into();
    let reply = start(Mode::Direct).await.send(request).await;
    assert_local(&reply, ResponseType::ServiceUnavailable, "transport-error;at=registrar");
    assert_eq!(reply.reason_phrase, format!("connection refused (registrar {address}, TCP)"));
}

#[tokio::test]
async fn a_tcp_peer_that_always_closes_gets_the_register_twice() {
    let peer = Peer::tcp(|_, _| vec![String::new()]).await;
    let mut request = register(&peer.address.to_string());
    request.transport = Transport::Tcp.into();
    let sent = start(Mode::Direct).await;
    let reply = tokio::time::timeout(Duration::from_secs(20), sent.send(request)).await.unwrap();
    let cseqs: Vec<_> = peer.requests().iter().map(|raw| raw.header("CSeq").to_owned()).collect();
    assert_eq!(cseqs, ["7 REGISTER", "8 REGISTER"]);
    assert_eq!(extensions(&reply, "CSeq"), ["8 REGISTER"]);
    let expected =
        format!("connection lost before the response: the peer closed it (registrar {}, TCP)", peer.address);
    assert_eq!(reply.reason_phrase, expected);
    assert_local(&reply, ResponseType::ServiceUnavailable, "transport-error;at=registrar");
}

#[tokio::test]
async fn an_unknown_host() {
    // RFC 6761 §6.4: names under .invalid do not exist.
    let mut options = options(Mode::Direct);
    options.answer_within = Duration::from_secs(20);
    let reply = start_with(options, Default::default()).await.send(register("nowhere.invalid:5060")).await;
    assert_local(&reply, ResponseType::ServiceUnavailable, "unknown-host;at=registrar");
    assert_eq!(reply.reason_phrase, "unknown to the DNS: the registrar's name nowhere.invalid");
}

#[tokio::test]
async fn w2_an_edge_port_whose_host_is_unknown_is_the_one_named() {
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("edge.invalid", 5060)];
    let reply = start(Mode::Proxied).await.send(request).await;
    assert_local(&reply, ResponseType::ServiceUnavailable, "unknown-host;at=edge-port");
    assert_eq!(reply.reason_phrase, "unknown to the DNS: the EdgePort's name edge.invalid");
}

#[tokio::test]
async fn w3_a_silent_edge_port_is_the_one_named() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("127.0.0.1", address.port().into())];
    let reply = start_with(options(Mode::Proxied), short()).await.send(request).await;
    assert_local(&reply, ResponseType::RequestTimeout, "timeout;at=edge-port");
    assert_waited(&reply, &format!("no response from EdgePort {address} (UDP)"));
}

#[tokio::test]
async fn a_response_that_cannot_be_read_is_no_silence() {
    let peer = Peer::udp(|raw, _| vec![raw.ok().replacen("SIP/2.0 200", "SIP/2.0 2x0", 1)]).await;
    let service = start_with(options(Mode::Direct), short()).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_local(&reply, ResponseType::ServiceUnavailable, "transport-error;at=registrar");
    assert!(reply.reason_phrase.starts_with("the response cannot be read: "), "{}", reply.reason_phrase);
    assert!(reply.reason_phrase.contains(&peer.address.to_string()), "{}", reply.reason_phrase);
}
