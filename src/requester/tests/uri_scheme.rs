//! Registrars that want `sip:` over TLS: row N7.

use tokio_rustls::TlsAcceptor;

use super::{
    super::{Mode, Options},
    digest::{ALICE, Credentials},
    peer::{Peer, Raw},
    setup::*,
    tls::trusted,
};
use crate::proto::{common::Transport, requester::SendMessageRequest, sipmessage::ResponseType};

/// A REGISTER by `sips:`, as the registry sends it over TLS.
fn by_sips(peer: &Peer) -> SendMessageRequest {
    let mut request = register(&peer.address.to_string());
    request.transport = Transport::Tls.into();
    let message = edit(&mut request);
    let from = message.from.as_mut().unwrap().address.as_mut().unwrap();
    let to = message.to.as_mut().unwrap().address.as_mut().unwrap();
    for uri in [&mut from.uri, &mut to.uri] {
        uri.as_mut().unwrap().secure = true;
    }
    if let Some(crate::proto::sipmessage::sip_message::MessageType::RequestUri(uri)) =
        &mut message.message_type
    {
        uri.secure = true;
        uri.transport_param = String::new();
    }
    for route in &mut message.route {
        route.address.as_mut().unwrap().uri.as_mut().unwrap().transport_param = "TLS".into();
    }
    request
}

fn secured(mode: Mode) -> (TlsAcceptor, Options) {
    let (acceptor, tls) = trusted();
    let mut options = options(mode);
    options.tls = Some(tls);
    (acceptor, options)
}

fn schemes(peer: &Peer) -> Vec<bool> {
    peer.requests().iter().map(|raw| raw.start_line().starts_with("REGISTER sips:")).collect()
}

const UNSUPPORTED: &str = "416 Unsupported URI Scheme";

fn wants_sip(raw: &Raw) -> bool {
    ["From", "To", "Contact"].iter().any(|name| raw.header(name).contains("sips:"))
        || raw.start_line().contains("sips:")
}

#[tokio::test]
async fn n7_a_416_is_answered_once_by_sip_over_tls_and_remembered() {
    let (acceptor, options) = secured(Mode::Direct);
    let peer = Peer::stream(Some(acceptor), |raw, _| match wants_sip(raw) {
        true => vec![raw.reply(UNSUPPORTED, &[])],
        false => vec![raw.ok()],
    })
    .await;
    let service = start_with(options, Default::default()).await;
    let reply = service.send(by_sips(&peer)).await;
    assert_eq!(response_type(&reply), ResponseType::Ok, "{reply:?}");
    assert_eq!(reply.contact.unwrap().expires, 300, "the binding is recognised");
    let requests = peer.requests();
    assert_eq!(schemes(&peer), [true, false]);
    assert_eq!(requests[1].start_line(), "REGISTER sip:registrar.test:5060;transport=tls SIP/2.0");
    assert!(requests[1].header("Via").starts_with("SIP/2.0/TLS "), "{:?}", requests[1]);
    assert!(requests[1].header("Contact").contains(";transport=tls"), "{:?}", requests[1]);
    for name in ["From", "To", "Contact"] {
        assert_eq!(requests[0].header(name).replace("sips:", "sip:"), requests[1].header(name));
    }
    assert_eq!((requests[0].header("CSeq"), requests[1].header("CSeq")), ("7 REGISTER", "8 REGISTER"));
    service.send(by_sips(&peer)).await;
    assert_eq!(schemes(&peer), [true, false, false]);
    assert_eq!(peer.requests()[2].header("CSeq"), "7 REGISTER");
}

#[tokio::test]
async fn n7_a_416_before_or_after_a_challenge_leaves_the_digest_right() {
    for challenged_first in [false, true] {
        let (acceptor, options) = secured(Mode::Direct);
        let peer = Peer::stream(Some(acceptor), move |raw, _| {
            let credentials = Credentials::all(raw, "Authorization");
            if let Some(given) = credentials.first() {
                ALICE.check(given, raw);
            }
            let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
            vec![match (wants_sip(raw), credentials.is_empty()) {
                (true, true) if challenged_first => raw.reply("401 Unauthorized", &[challenge]),
                (true, _) => raw.reply(UNSUPPORTED, &[]),
                (false, true) => raw.reply("401 Unauthorized", &[challenge]),
                (false, false) => raw.ok(),
            }]
        })
        .await;
        let service = start_with(options, Default::default()).await;
        let reply = service.send(by_sips(&peer)).await;
        assert_eq!(response_type(&reply), ResponseType::Ok, "{reply:?}");
        // A nonce that was taken before the 416 is used again.
        let expected: &[bool] = if challenged_first { &[true, true, false] } else { &[true, false, false] };
        assert_eq!(schemes(&peer), expected);
        let numbers: Vec<String> = peer.requests().iter().map(|raw| raw.header("CSeq").to_owned()).collect();
        let rising: Vec<String> = (7..).take(expected.len()).map(|n| format!("{n} REGISTER")).collect();
        assert_eq!(numbers, rising);
    }
}

#[tokio::test]
async fn n7_where_sip_is_refused_too_the_416_comes_back_and_nothing_is_remembered() {
    let (acceptor, options) = secured(Mode::Direct);
    let peer = Peer::stream(Some(acceptor), |raw, _| vec![raw.reply(UNSUPPORTED, &[])]).await;
    let service = start_with(options, Default::default()).await;
    for _ in 0..2 {
        let reply = service.send(by_sips(&peer)).await;
        assert_eq!(response_type(&reply), ResponseType::UnsupportedUriScheme, "{reply:?}");
    }
    assert_eq!(schemes(&peer), [true, false, true, false]);
}

#[tokio::test]
async fn n7_a_registrar_that_takes_sips_again_is_asked_so() {
    let (acceptor, options) = secured(Mode::Direct);
    // It changes its mind after the second request.
    let peer = Peer::stream(Some(acceptor), |raw, number| match wants_sip(raw) == (number < 2) {
        true => vec![raw.reply(UNSUPPORTED, &[])],
        false => vec![raw.ok()],
    })
    .await;
    let service = start_with(options, Default::default()).await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(response_type(&service.send(by_sips(&peer)).await));
    }
    assert_eq!(codes, [ResponseType::Ok, ResponseType::UnsupportedUriScheme, ResponseType::Ok]);
    assert_eq!(schemes(&peer), [true, false, false, true]);
}

#[tokio::test]
async fn n7_through_an_edge_port_the_scheme_stays_as_asked() {
    let (acceptor, options) = secured(Mode::Proxied);
    let peer = Peer::stream(Some(acceptor), |raw, _| vec![raw.reply(UNSUPPORTED, &[])]).await;
    let mut request = by_sips(&peer);
    let uri = edit(&mut request).route[0].address.as_mut().unwrap().uri.as_mut().unwrap();
    (uri.host, uri.port) = ("127.0.0.1".into(), peer.address.port().into());
    let reply = start_with(options, Default::default()).await.send(request).await;
    assert_eq!(response_type(&reply), ResponseType::UnsupportedUriScheme, "{reply:?}");
    assert_eq!(schemes(&peer), [true]);
}
