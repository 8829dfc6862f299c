//! Direct mode: what goes over the wire, and the digest.

use super::{
    super::{AdvertisedContact, Mode},
    peer::{Peer, Raw},
    setup::*,
};
use crate::proto::{
    common::Transport,
    processor::Method,
    sipmessage::{ResponseType, sip_message::MessageType},
};
use routr_types::extension::CONTACT;

/// Neither the password nor its header field is in any of the requests.
fn assert_no_secret(requests: &[Raw]) {
    for raw in requests {
        let text = raw.0.to_ascii_lowercase();
        assert!(!text.contains("x-gateway-auth"), "{raw:?}");
        assert!(!raw.0.contains(PASSWORD) && !raw.0.contains(&gateway_auth(PASSWORD)), "{raw:?}");
        assert!(!text.contains("\r\nroute:"), "{raw:?}");
    }
}

/// Checks the credentials for a challenge of realm «r» by our own arithmetic.
fn assert_digest(raw: &Raw, name: &str, nonce: &str, hash: fn(&str) -> String, qop: bool) {
    let get = |parameter| raw.auth(name, parameter);
    let uri = raw.start_line().split(' ').nth(1).unwrap();
    assert_eq!(get("uri").as_deref(), Some(uri));
    assert_eq!(get("username").as_deref(), Some("alice-auth"));
    assert_eq!(get("realm").as_deref(), Some("r"));
    assert_eq!(get("nonce").as_deref(), Some(nonce));
    let ha1 = hash(&format!("alice-auth:r:{PASSWORD}"));
    let ha2 = hash(&format!("REGISTER:{uri}"));
    let expected = if qop {
        assert_eq!(get("qop").as_deref(), Some("auth"));
        let (nc, cnonce) = (get("nc").unwrap(), get("cnonce").unwrap());
        assert!(cnonce.len() >= 16, "{cnonce}");
        hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}"))
    } else {
        assert_eq!((get("qop"), get("nc"), get("cnonce")), (None, None, None));
        hash(&format!("{ha1}:{nonce}:{ha2}"))
    };
    assert_eq!(get("response"), Some(expected), "{raw:?}");
}

#[tokio::test]
async fn the_request_on_the_wire() {
    let peer = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let service = start(Mode::Direct).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);

    let requests = peer.requests();
    assert_eq!(requests.len(), 1);
    assert_no_secret(&requests);
    let raw = &requests[0];
    assert_eq!(raw.start_line(), "REGISTER sip:registrar.test:5060;transport=udp SIP/2.0");
    assert_eq!(raw.header("From"), "<sip:alice@registrar.test>;tag=f1");
    assert_eq!(raw.header("To"), "<sip:alice@registrar.test>");
    assert_eq!(raw.header("Call-ID"), "call-1@test");
    assert_eq!(raw.header("CSeq"), "7 REGISTER");
    assert_eq!(raw.header("Max-Forwards"), "70");
    assert_eq!(raw.header("Expires"), "600");
    assert_eq!(raw.header("Contact"), "<sip:alice@edge.test:5066;transport=udp>");
    assert_eq!(raw.header("Content-Length"), "0");
    assert_eq!(raw.headers("Allow"), ["INVITE", "ACK"]);
    assert_eq!(raw.headers("Via").len(), 1);
    let order: Vec<&str> = raw.0.lines().filter_map(|l| l.split_once(':')).map(|(name, _)| name).collect();
    let at = |name| order.iter().position(|n| *n == name).unwrap();
    assert!(
        at("Allow") < at("CSeq") && at("CSeq") < at("User-Agent") && at("User-Agent") < at("Supported"),
        "{order:?}"
    );
}

#[tokio::test]
async fn a_user_part_of_the_request_uri_and_sips_are_kept() {
    let peer = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let service = start(Mode::Direct).await;
    let mut request = register(&peer.address.to_string());
    let message = edit(&mut request);
    for uri in [
        message.from.as_mut().unwrap().address.as_mut().unwrap().uri.as_mut().unwrap(),
        message.to.as_mut().unwrap().address.as_mut().unwrap().uri.as_mut().unwrap(),
    ] {
        uri.secure = true;
    }
    let Some(MessageType::RequestUri(uri)) = &mut message.message_type else { panic!() };
    (uri.secure, uri.user, uri.port) = (true, "a b".into(), -1);
    service.send(request).await;
    let raw = &peer.requests()[0];
    assert_eq!(raw.start_line(), "REGISTER sips:a%20b@registrar.test;transport=udp SIP/2.0");
    assert_eq!(raw.header("To"), "<sips:alice@registrar.test>");
    assert!(raw.header("Contact").starts_with("<sips:alice@edge.test:5066"), "{raw:?}");
}

#[tokio::test]
async fn a_challenge_is_answered_whatever_it_is() {
    type Hash = fn(&str) -> String;
    let cases: [(&str, &str, &str, Hash, bool); 5] = [
        ("401", "WWW-Authenticate", r#"Digest realm="r", nonce="n""#, md5, false),
        ("401", "WWW-Authenticate", r#"Digest realm="r", nonce="n", algorithm=MD5, qop="auth""#, md5, true),
        (
            "401",
            "WWW-Authenticate",
            r#"Digest realm="r",nonce="n",algorithm=SHA-256,qop="auth,auth-int""#,
            sha256,
            true,
        ),
        ("401", "WWW-Authenticate", r#"Digest realm="r", nonce="n", algorithm=SHA-256"#, sha256, false),
        ("407", "Proxy-Authenticate", r#"Digest realm="r", nonce="n", qop="auth", opaque="x""#, md5, true),
    ];
    let service = start(Mode::Direct).await;
    for (code, name, challenge, hash, qop) in cases {
        let (status, line) = (format!("{code} Who are you"), format!("{name}: {challenge}"));
        let peer = Peer::udp(move |raw, number| match number {
            0 => vec![raw.reply(&status, &[&line])],
            _ => vec![raw.ok()],
        })
        .await;
        let reply = service.send(register(&peer.address.to_string())).await;
        assert_eq!(response_type(&reply), ResponseType::Ok, "{challenge}");
        assert_eq!(extensions(&reply, "CSeq"), ["8 REGISTER"]);
        let requests = peer.requests();
        assert_eq!(requests.len(), 2);
        assert_no_secret(&requests);
        let answer = if name == "WWW-Authenticate" { "Authorization" } else { "Proxy-Authorization" };
        assert!(requests[0].headers(answer).is_empty());
        assert_digest(&requests[1], answer, "n", hash, qop);
        if challenge.contains("opaque") {
            assert_eq!(requests[1].auth(answer, "opaque").as_deref(), Some("x"));
        }
        assert_eq!(requests[1].header("CSeq"), "8 REGISTER");
        assert_ne!(requests[0].branch(), requests[1].branch());
        for same in ["Call-ID", "From", "To", "Contact", "Expires"] {
            assert_eq!(requests[0].header(same), requests[1].header(same));
        }
    }
}

#[tokio::test]
async fn of_two_challenges_the_stronger_is_answered() {
    let peer = Peer::udp(|raw, number| match number {
        0 => {
            let weak = r#"WWW-Authenticate: Digest realm="r", nonce="weak", algorithm=MD5, qop="auth""#;
            let strong =
                r#"WWW-Authenticate: Digest realm="r", nonce="strong", algorithm=SHA-256, qop="auth""#;
            vec![raw.reply("401 Unauthorized", &[weak, strong])]
        }
        _ => vec![raw.ok()],
    })
    .await;
    let service = start(Mode::Direct).await;
    service.send(register(&peer.address.to_string())).await;
    assert_digest(&peer.requests()[1], "Authorization", "strong", sha256, true);
}

#[tokio::test]
async fn a_wrong_password_comes_back_at_once() {
    let peer = Peer::udp(|raw, number| {
        let challenge = format!(r#"WWW-Authenticate: Digest realm="r", nonce="n{number}", qop="auth""#);
        vec![raw.reply("401 Wrong password", &[&challenge])]
    })
    .await;
    let service = start(Mode::Direct).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_eq!(response_type(&reply), ResponseType::Unauthorized);
    assert_eq!(reply.reason_phrase, "Wrong password");
    let challenge = reply.www_authenticate.as_ref().unwrap();
    let read = [&challenge.realm, &challenge.scheme, &challenge.nonce, &challenge.qop].map(String::as_str);
    assert_eq!(read, ["r", "Digest", "n1", "auth"]);
    assert!(extensions(&reply, "X-Routr-Local").is_empty());
    assert_eq!(peer.requests().len(), 2);
    assert_no_secret(&peer.requests());
}

#[tokio::test]
async fn a_stale_nonce_is_answered_once_more() {
    let peer = Peer::udp(|raw, number| {
        let stale = if number == 1 { ", stale=true" } else { "" };
        let challenge =
            format!(r#"WWW-Authenticate: Digest realm="r", nonce="n{number}", qop="auth"{stale}"#);
        match number {
            0 | 1 => vec![raw.reply("401 Unauthorized", &[&challenge])],
            _ => vec![raw.ok()],
        }
    })
    .await;
    let service = start(Mode::Direct).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    assert_eq!(extensions(&reply, "CSeq"), ["9 REGISTER"]);
    let requests = peer.requests();
    assert_eq!(requests.len(), 3);
    assert_digest(&requests[2], "Authorization", "n1", md5, true);
}

#[tokio::test]
async fn a_proxy_and_the_registrar_behind_it_are_both_answered() {
    let peer = Peer::udp(|raw, number| match number {
        0 => {
            vec![raw.reply("407 Proxy", &[r#"Proxy-Authenticate: Digest realm="r", nonce="p", qop="auth""#])]
        }
        1 => vec![
            raw.reply("401 Registrar", &[r#"WWW-Authenticate: Digest realm="r", nonce="w", qop="auth""#]),
        ],
        _ => vec![raw.ok()],
    })
    .await;
    let service = start(Mode::Direct).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    let last = &peer.requests()[2];
    assert_digest(last, "Authorization", "w", md5, true);
    assert_digest(last, "Proxy-Authorization", "p", md5, true);
    assert_eq!(last.auth("Authorization", "nc").as_deref(), Some("00000001"));
    assert_eq!(last.auth("Proxy-Authorization", "nc").as_deref(), Some("00000002"));
}

#[tokio::test]
async fn without_credentials_or_with_an_unknown_scheme_the_challenge_comes_back() {
    let service = start(Mode::Direct).await;
    for (challenge, with_credentials) in [
        (r#"WWW-Authenticate: Digest realm="r", nonce="n""#, false),
        (r#"WWW-Authenticate: Basic realm="r""#, true),
        (r#"WWW-Authenticate: Digest realm="r", nonce="n", algorithm=AKAv1-MD5"#, true),
        ("Server: no challenge at all", true),
    ] {
        let peer = Peer::udp(move |raw, _| vec![raw.reply("401 Unauthorized", &[challenge])]).await;
        let mut request = register(&peer.address.to_string());
        if !with_credentials {
            drop_extension(&mut request, "X-Gateway-Auth");
        }
        let reply = service.send(request).await;
        assert_eq!(response_type(&reply), ResponseType::Unauthorized);
        assert_eq!(peer.requests().len(), 1, "{challenge}");
    }
}

#[tokio::test]
async fn without_a_route_contact_is_where_we_can_be_reached() {
    let peer = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let mut request = register(&peer.address.to_string());
    edit(&mut request).route.clear();

    let service = start(Mode::Direct).await;
    service.send(request.clone()).await;
    let raw = &peer.requests()[0];
    let sent_by = raw.headers("Via")[0].split([' ', ';']).nth(1).unwrap().to_owned();
    assert!(sent_by.starts_with("127.0.0.1:"), "{sent_by}");
    assert_eq!(raw.header("Contact"), format!("<sip:alice@{sent_by};transport=udp>"));

    let mut options = options(Mode::Direct);
    options.contact = Some(AdvertisedContact { host: "2001:db8::1".into(), port: Some(5080) });
    let service = start_with(options, Default::default()).await;
    service.send(request).await;
    assert_eq!(peer.requests()[1].header("Contact"), "<sip:alice@[2001:db8::1]:5080;transport=udp>");
}

#[tokio::test]
async fn over_tcp_with_digest() {
    let peer = Peer::tcp(|raw, number| match number {
        0 => vec![
            raw.reply("401 Unauthorized", &[r#"WWW-Authenticate: Digest realm="r", nonce="n", qop="auth""#]),
        ],
        _ => vec![raw.ok()],
    })
    .await;
    let service = start(Mode::Direct).await;
    let mut request = register(&peer.address.to_string());
    request.transport = Transport::Tcp.into();
    let reply = service.send(request).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    let requests = peer.requests();
    assert_no_secret(&requests);
    assert!(requests[1].header("Via").starts_with("SIP/2.0/TCP "));
    assert_digest(&requests[1], "Authorization", "n", md5, true);
}

#[tokio::test]
async fn an_ipv6_target_stands_in_brackets() {
    let peer = Peer::udp_at("[::1]:0", |raw, _| vec![raw.ok()]).await;
    let mut options = options(Mode::Direct);
    options.sip_bind = "::1".parse().unwrap();
    let service = start_with(options, Default::default()).await;
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    assert!(peer.requests()[0].header("Via").contains("[::1]"));
}

#[tokio::test]
async fn another_method_with_a_body_and_without_a_contact() {
    let peer = Peer::udp(|raw, _| vec![raw.reply("202 Accepted", &[])]).await;
    let service = start(Mode::Direct).await;
    let mut request = register(&peer.address.to_string());
    request.method = Method::Message.into();
    drop_extension(&mut request, "CSeq");
    let message = edit(&mut request);
    message.extensions.push(extension("CSeq", "1 MESSAGE"));
    message.extensions.push(extension("Content-Type", "text/plain"));
    message.body = "caf\u{e9}\r\n\r\nX: y".into();
    let reply = service.send(request).await;
    assert_eq!(response_type(&reply), ResponseType::Accepted);
    let raw = &peer.requests()[0];
    assert!(raw.start_line().starts_with("MESSAGE sip:registrar.test"), "{raw:?}");
    assert!(raw.headers("Contact").is_empty(), "RFC 3428 §4");
    assert_eq!(raw.header("Content-Length"), "13");
    assert!(raw.0.ends_with("\r\n\r\ncaf\u{e9}\r\n\r\nX: y"));
}

#[tokio::test]
async fn contact_names_where_the_edge_port_hears_calls() {
    let cases: [(&str, i32, &str, Option<&str>, &str); 8] = [
        ("edge.test", 5066, "udp", None, "edge.test:5066;transport=udp"),
        ("edge.test", 5060, "tcp", None, "edge.test:5060;transport=tcp"),
        // TLS has a port of its own.
        ("edge.test", 5060, "tls", None, "edge.test:5061;transport=tls"),
        ("edge.test", 5091, "tls", None, "edge.test:5091;transport=tls"),
        ("edge.test", -1, "tls", None, "edge.test;transport=tls"),
        ("edge.test", 5066, "udp", Some("sip.example.com:5070"), "sip.example.com:5070;transport=udp"),
        ("edge.test", 5060, "tls", Some("sip.example.com:5071"), "sip.example.com:5071;transport=tls"),
        ("edge.test", 5060, "tcp", Some("[2001:db8::5]:5060"), "[2001:db8::5]:5060;transport=tcp"),
    ];
    let peer = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let service = start(Mode::Direct).await;
    for (at, (host, port, transport, public, expected)) in cases.into_iter().enumerate() {
        let mut request = register(&peer.address.to_string());
        let mut route = route(host, port);
        route.address.as_mut().unwrap().uri.as_mut().unwrap().transport_param = transport.into();
        edit(&mut request).route = vec![route];
        edit(&mut request).extensions.extend(public.map(|public| extension(CONTACT, public)));
        service.send(request).await;
        let raw = &peer.requests()[at];
        assert_eq!(raw.header("Contact"), format!("<sip:alice@{expected}>"));
        assert!(raw.headers(CONTACT).is_empty(), "it is not sent on");
    }
    for bad in ["", "sip.example.com", ":5060", "a:0", "a b:5060", "2001:db8::5:5060", "a;x=y:5060"] {
        let mut request = register(&peer.address.to_string());
        edit(&mut request).extensions.push(extension(CONTACT, bad));
        let refused = service.refused(request).await;
        assert!(
            refused.message().contains("X-Routr-Contact") && refused.message().contains("host:port"),
            "{bad}"
        );
    }
    let mut request = register(&peer.address.to_string());
    edit(&mut request).extensions.extend(["a:1", "b:1"].map(|public| extension(CONTACT, public)));
    assert!(service.refused(request).await.message().contains("twice"));
}
