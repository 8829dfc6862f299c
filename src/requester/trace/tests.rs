use std::net::IpAddr;

use axum::{body::Body, http};
use tower::ServiceExt as _;

use super::*;
use crate::admin::listen::Caller;
use routr_sip::message::Message;
use routr_types::host::Transport;

fn destination(host: &str) -> Destination {
    Destination { host: host.to_owned(), port: Some(5060), transport: Transport::Udp }
}

fn request(text: &str) -> Request {
    let text = format!("REGISTER sip:registrar.test SIP/2.0\r\n{text}\r\n\r\n").replace('\n', "\r\n");
    match Message::parse_datagram(text.replace("\r\r", "\r").as_bytes()).unwrap() {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a response"),
    }
}

fn response(text: &str) -> Response {
    let text = format!("SIP/2.0 401 Unauthorized\n{text}\n\n").replace('\n', "\r\n");
    match Message::parse_datagram(text.as_bytes()).unwrap() {
        Message::Response(response) => response,
        Message::Request(_) => panic!("a request"),
    }
}

fn alice(more: &str) -> Request {
    request(&format!(
        "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\nFrom: <sip:alice@registrar.test>;tag=f\nTo: \
         <sip:alice@registrar.test>\nCall-ID: c\nCSeq: 1 REGISTER\n{more}"
    ))
}

#[test]
fn no_secret_gets_into_the_trace_and_what_a_person_needs_does() {
    let secrets = [
        "secret-nonce",
        "secret-cnonce",
        "re5ponse",
        "0paque",
        "swordfish",
        "Z2F0ZXdheQ==",
        "hunter22",
        "t0ken",
        "secret-next",
        "rsp4uth",
    ];
    let sent = alice(
        "Authorization: Digest username=\"alice-auth\", realm=\"r\", nonce=\"secret-nonce\", uri=\"sip:registrar.test\", \
         response=\"re5ponse\", algorithm=MD5, cnonce=\"secret-cnonce\", nc=00000001, qop=auth, opaque=\"0paque\", \
         unknown=\"swordfish\"\nProxy-Authorization: Basic Z2F0ZXdheQ==\nX-Gateway-Auth: Z2F0ZXdheQ==\nContact: \
         <sip:alice:hunter22@edge.test>\nP-Media-Authorization: t0ken\nX-Api-Key: t0ken\nUser-Agent: it uses t0ken",
    );
    let received = response(
        "WWW-Authenticate: Digest realm=\"r\", nonce=\"secret-nonce\", opaque=\"0paque\", stale=true\nWWW-Authenticate: Bearer \
         t0ken\nAuthentication-Info: nextnonce=\"secret-next\", rspauth=\"rsp4uth\", qop=auth\nWarning: 399 x \"swordfish \
         re5ponse Z2F0ZXdheQ==\"\nServer: Kamailio",
    );
    let trace = Trace::default();
    let mut recorder = Recorder::new(Some(&trace), || vec!["swordfish"]);
    recorder.sent(&sent, &destination("registrar.test"));
    recorder.ended::<&str>(&sent, &destination("registrar.test"), Ok(&received));
    recorder.ended(&sent, &destination("registrar.test"), Err("broke after swordfish and secret-nonce"));
    let (messages, newest) = trace.after(0, &Condition::default());
    assert_eq!((messages.len(), newest), (3, 3));
    for message in &messages {
        for secret in secrets {
            assert!(!message.text.contains(secret), "{secret} in {}", message.text);
        }
    }
    for part in [
        "REGISTER sip:registrar.test SIP/2.0\n",
        "\nTo: <sip:alice@registrar.test>\n",
        "\nAuthorization: Digest realm=\"r\", algorithm=\"MD5\", qop=\"auth\", nc=\"00000001\", username=***, nonce=***",
        "\nContact: <sip:alice:***@edge.test>",
        "\nX-Gateway-Auth: ***",
        "\nUser-Agent: it uses ***",
    ] {
        assert!(messages[0].text.contains(part), "{part} in {}", messages[0].text);
    }
    for part in [
        "SIP/2.0 401 Unauthorized\n",
        "Digest realm=\"r\", stale=\"true\", nonce=***, opaque=***",
        "\nServer: Kamailio",
    ] {
        assert!(messages[1].text.contains(part), "{part} in {}", messages[1].text);
    }
    assert_eq!(messages[2].text, "broke after *** and ***");
    assert_eq!((&*messages[0].user, &*messages[0].next_hop), ("alice", "registrar.test:5060/UDP"));
}

#[test]
fn without_a_trace_nothing_is_made() {
    let mut recorder = Recorder::new(None, || panic!("not asked for"));
    recorder.sent(&alice("Subject: x"), &destination("a"));
    recorder.ended(&alice("Subject: x"), &destination("a"), Err("no"));
}

#[test]
fn the_trace_is_bounded_and_keeps_the_newest() {
    let trace = Trace::default();
    for _ in 0..500 {
        trace.record(Kind::Sent, &alice("Subject: x"), &destination("a"), "short".to_owned());
    }
    let (messages, newest) = trace.after(0, &Condition::default());
    assert_eq!((messages.len(), newest), (MAX_MESSAGES, 500));
    assert_eq!(messages.last().unwrap().number, 500);
    for _ in 0..150 {
        let text = "x".repeat(MAX_MESSAGE_BYTES);
        trace.record(Kind::Sent, &alice("Subject: x"), &destination("a"), text);
    }
    let bytes: usize = trace.after(0, &Condition::default()).0.iter().map(TracedMessage::bytes).sum();
    assert!(bytes <= MAX_TOTAL_BYTES && bytes > MAX_TOTAL_BYTES / 2, "{bytes}");
    assert_eq!(trace.ring().bytes, bytes);
    // A message with many long fields is cut.
    let long: Vec<_> = (0..60).map(|n| format!("X-Long-{n}: {}", "y".repeat(900))).collect();
    let mut recorder = Recorder::new(Some(&trace), Vec::new);
    recorder.sent(&alice(&long.join("\n")), &destination("a"));
    let text = trace.after(newest, &Condition::default()).0.pop().unwrap().text;
    assert!(text.len() < MAX_MESSAGE_BYTES + 20 && text.ends_with("... (cut)"), "{}", text.len());
}

#[test]
fn messages_are_those_of_a_user_or_a_host() {
    let trace = Trace::default();
    for host in ["sip.example.com", "2001:db8::1"] {
        trace.record(Kind::Sent, &alice("Subject: x"), &destination(host), host.to_owned());
    }
    let found = |user: Option<&str>, registrar: Option<&str>| {
        let condition = Condition { user: user.map(Into::into), registrar: registrar.map(Into::into) };
        trace.after(0, &condition).0.into_iter().map(|message| message.number).collect::<Vec<_>>()
    };
    assert_eq!(found(Some("alice"), None), [1, 2]);
    assert!(found(Some("bob"), None).is_empty());
    for host in ["SIP.example.com", "sip.example.com:5060"] {
        assert_eq!(found(None, Some(host)), [1], "{host}");
    }
    assert_eq!(found(Some("alice"), Some("2001:db8::1")), [2]);
    assert_eq!(found(None, Some("registrar.test")), [1, 2], "the domain of To");
    assert!(found(None, Some("example.com")).is_empty());
}

#[tokio::test]
async fn the_trace_is_for_callers_on_the_same_machine() {
    let trace = Trace::default();
    trace.record(Kind::Sent, &alice("Subject: x"), &destination("a"), "text".to_owned());
    let asked = async |trace: Option<Trace>, from: Option<&str>, host: &str| {
        let mut request = http::Request::get("/trace").header("host", host).body(Body::empty()).unwrap();
        let caller = from.map(|from| Caller(from.parse::<IpAddr>().unwrap()));
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        route(trace).oneshot(request).await.unwrap().status().as_u16()
    };
    let on = || Some(trace.clone());
    for from in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(asked(on(), Some(from), "localhost:8080").await, 200, "{from}");
    }
    for from in [Some("10.0.0.7"), Some("2001:db8::1"), None] {
        assert_eq!(asked(on(), from, "localhost:8080").await, 403, "{from:?}");
    }
    assert_eq!(asked(on(), Some("127.0.0.1"), "evil.example").await, 403, "a page in a browser");
    assert_eq!(asked(None, Some("127.0.0.1"), "127.0.0.1").await, 404);
}
