//! Connections that break or die: a REGISTER gets through all the same.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_rustls::TlsAcceptor;

use super::{
    super::{Mode, Options},
    peer::{Peer, Raw},
    setup::*,
};
use crate::proto::{
    common::Transport,
    requester::SendMessageRequest,
    sipmessage::{ResponseType, SipMessage},
};

/// A peer over TCP or TLS, and options that trust it.
async fn peer(
    transport: Transport,
    script: impl Fn(&Raw, usize) -> Vec<String> + Send + Sync + 'static,
) -> (Peer, Options) {
    let mut options = options(Mode::Direct);
    if transport == Transport::Tcp {
        return (Peer::tcp(script).await, options);
    }
    let (acceptor, tls): (TlsAcceptor, _) = super::tls::trusted();
    options.tls = Some(tls);
    (Peer::stream(Some(acceptor), script).await, options)
}

fn over(transport: Transport, peer: &Peer) -> SendMessageRequest {
    let mut request = register(&peer.address.to_string());
    request.transport = transport.into();
    request
}

/// The local port of the connection that a request came over.
fn connection(raw: &Raw) -> String {
    raw.header("Via").split(';').next().unwrap().to_owned()
}

async fn send(service: &Service, request: SendMessageRequest) -> SipMessage {
    tokio::time::timeout(Duration::from_secs(20), service.send(request)).await.unwrap()
}

const CHALLENGE: &str = r#"WWW-Authenticate: Digest realm="r", nonce="n", qop="auth""#;

#[tokio::test]
async fn n5_a_connection_that_goes_silent_after_the_challenge_is_found_out() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let first = Mutex::new(None);
        let script = move |raw: &Raw, number: usize| {
            let mut first = first.lock().unwrap();
            let dead = first.get_or_insert_with(|| connection(raw));
            match number {
                0 => vec![raw.reply("401 Unauthorized", &[CHALLENGE])],
                _ if *dead == connection(raw) => vec![],
                _ => vec![raw.ok()],
            }
        };
        let (peer, mut options) = peer(transport, script).await;
        // The deadline of the whole ends before Timer F of the second request, which is 320 ms after it.
        options.answer_within = Duration::from_millis(250);
        let service = start_with(options, short()).await;
        let reply = send(&service, over(transport, &peer)).await;
        assert_eq!(response_type(&reply), ResponseType::RequestTimeout);
        let healed =
            async { while response_type(&service.send(over(transport, &peer)).await) != ResponseType::Ok {} };
        tokio::time::timeout(Duration::from_secs(20), healed).await.unwrap();
    }
}

#[tokio::test]
async fn n5_a_peer_that_closes_after_each_response_is_no_failure() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let (peer, options) = peer(transport, |raw, _| vec![raw.ok(), String::new()]).await;
        let service = start_with(options, Default::default()).await;
        for _ in 0..20 {
            assert_eq!(response_type(&send(&service, over(transport, &peer)).await), ResponseType::Ok);
        }
    }
}

#[tokio::test]
async fn n5_a_register_whose_connection_closes_is_sent_again_with_the_next_cseq() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let script = |raw: &Raw, number: usize| match number {
            0 => vec![String::new()],
            _ => vec![raw.ok()],
        };
        let (peer, options) = peer(transport, script).await;
        let reply = send(&start_with(options, Default::default()).await, over(transport, &peer)).await;
        assert_eq!(response_type(&reply), ResponseType::Ok);
        assert_eq!(extensions(&reply, "CSeq"), ["8 REGISTER"]);
        let [first, second] = &peer.requests()[..] else { panic!("{:?}", peer.requests()) };
        assert_ne!(connection(first), connection(second));
        assert_eq!(first.header("Call-ID"), second.header("Call-ID"));
    }
}

#[tokio::test]
async fn a_request_that_could_have_its_effect_twice_is_not_sent_again() {
    let (peer, options) = peer(Transport::Tcp, |_, _| vec![String::new()]).await;
    let mut request = over(Transport::Tcp, &peer);
    request.method = crate::proto::processor::Method::Message.into();
    drop_extension(&mut request, "CSeq");
    edit(&mut request).extensions.push(extension("CSeq", "7 MESSAGE"));
    let reply = send(&start_with(options, Default::default()).await, request).await;
    assert_eq!(response_type(&reply), ResponseType::ServiceUnavailable);
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn r5_what_cannot_be_framed_ends_the_connection_and_others_are_sent_again() {
    for transport in [Transport::Tcp, Transport::Tls] {
        // The first two requests are in flight when the response to the first of them comes.
        let held: Arc<Mutex<Option<Raw>>> = Arc::default();
        let bad = held.clone();
        let script = move |raw: &Raw, number: usize| match number {
            0 => {
                *held.lock().unwrap() = Some(raw.clone());
                vec![]
            }
            1 => {
                let first = held.lock().unwrap().clone().unwrap();
                vec![first.reply("200 OK", &["Content-Length: 17"]) + "and no end of it"]
            }
            _ => vec![raw.ok()],
        };
        let (peer, options) = peer(transport, script).await;
        let service = start_with(options, Default::default()).await;
        let [a, b] = [1, 2].map(|number| {
            let mut request = over(transport, &peer);
            edit(&mut request).call_id.as_mut().unwrap().call_id = format!("call-{number}");
            request
        });
        let (a, b) = tokio::join!(send(&service, a), send(&service, b));
        let bad = bad.lock().unwrap().clone().unwrap();
        for reply in [a, b] {
            assert_eq!(response_type(&reply), ResponseType::Ok, "{reply:?}");
            // What could be read of the one that cannot be framed counts: it is not sent again.
            let at_fault = reply.call_id.as_ref().unwrap().call_id == bad.header("Call-ID");
            assert_eq!(extensions(&reply, "CSeq"), [if at_fault { "7 REGISTER" } else { "8 REGISTER" }]);
        }
        assert_eq!(peer.requests().len(), 3);
    }
}
