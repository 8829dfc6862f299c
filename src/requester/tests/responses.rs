//! Responses as they come back to the caller.

use super::{super::Mode, peer::Peer, setup::*};
use crate::proto::sipmessage::{ResponseType, SipMessage};

/// Returns the result of one REGISTER with this response.
async fn answered(status: &'static str, extra: &'static [&'static str]) -> SipMessage {
    let peer = Peer::udp(move |raw, _| vec![raw.reply(status, extra)]).await;
    let mut request = register(&peer.address.to_string());
    drop_extension(&mut request, "X-Gateway-Auth");
    let reply = start(Mode::Direct).await.send(request).await;
    assert_eq!(extensions(&reply, "X-Routr-Local"), [""; 0], "{reply:?}");
    reply
}

#[tokio::test]
async fn a_provisional_response_is_never_the_answer() {
    let peer = Peer::udp(|raw, _| vec![raw.reply("100 Trying", &[]), raw.ok()]).await;
    let reply = start(Mode::Direct).await.send(register(&peer.address.to_string())).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
}

#[tokio::test]
async fn every_field_of_a_200_with_path_and_service_route() {
    let reply = answered(
        "200 OK",
        &[
            "Contact: \"Edge\" <sip:alice@edge.test:5066;transport=udp;ttl=3>;q=0.5;expires=300",
            "Expires: 400",
            "Server: registrar/1.0",
            "Path: <sip:p1.test;lr>",
            "Service-Route: <sip:s1.test;lr>, <sip:s2.test;lr>",
            "Record-Route: <sip:rr.test;lr>;x=y",
            "x-Other: some, value",
        ],
    )
    .await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    assert_eq!(reply.reason_phrase, "OK");
    let contact = reply.contact.as_ref().unwrap();
    assert_eq!((contact.expires, contact.q_value), (300, 0.5));
    let address = contact.address.as_ref().unwrap();
    assert_eq!(address.display_name, "Edge");
    let uri = address.uri.as_ref().unwrap();
    assert_eq!(
        (uri.user.as_str(), uri.host.as_str(), uri.port, uri.ttl_param),
        ("alice", "edge.test", 5066, 3)
    );
    assert_eq!(uri.transport_param, "udp");
    assert_eq!(reply.expires.unwrap().expires, 400);
    assert_eq!(reply.call_id.as_ref().unwrap().call_id, "call-1@test");
    assert_eq!(reply.from.as_ref().unwrap().tag, "f1");
    let to = reply.to.as_ref().unwrap();
    assert_eq!(to.tag, "peer");
    let to = to.address.as_ref().unwrap().uri.as_ref().unwrap();
    assert_eq!((to.user.as_str(), to.port, to.ttl_param), ("alice", -1, -1));
    let via = &reply.via[0];
    assert_eq!((via.transport.as_str(), via.host.as_str(), via.ttl), ("UDP", "127.0.0.1", -1));
    assert!(
        via.branch.starts_with("z9hG4bK") && via.port > 0 && via.r_port_flag && via.r_port == -1,
        "{via:?}"
    );
    assert_eq!(reply.record_route[0].parameters["x"], "y");
    let names: Vec<&str> = reply.extensions.iter().map(|e| e.name.as_str()).collect();
    let ours = ["X-Routr-Status", "X-Routr-Bindings"];
    assert_eq!(names, [&["CSeq", "Server", "Path", "Service-Route", "x-Other"][..], &ours].concat());
    assert_eq!(ours.map(|name| extensions(&reply, name)), [["200 OK"], ["300;own"]]);
    assert_eq!(extensions(&reply, "CSeq"), ["7 REGISTER"]);
    assert_eq!(extensions(&reply, "x-Other"), ["some, value"]);
    assert!(reply.www_authenticate.is_none());
}

#[tokio::test]
async fn of_several_contacts_our_own_comes_back() {
    let reply = answered(
        "200 OK",
        &[
            "Contact: <sip:alice@other.test:5066;transport=udp>;expires=892, <sip:alice@EDGE.test:5066>;expires=300",
            "Contact: <sip:alice@third.test>;expires=5",
        ],
    )
    .await;
    assert_eq!(reply.contact.unwrap().expires, 300);
}

#[tokio::test]
async fn where_none_is_ours_the_first_comes_back() {
    let reply =
        answered("200 OK", &["Contact: <sip:bob@other.test>;expires=892, <sip:carol@third.test>;expires=5"])
            .await;
    let contact = reply.contact.unwrap();
    assert_eq!(contact.expires, 892);
    assert_eq!(contact.address.unwrap().uri.unwrap().user, "bob");
    let reply = answered("200 OK", &[]).await;
    assert_eq!((reply.contact, reply.expires), (None, None));
}

#[tokio::test]
async fn codes_and_what_comes_with_them() {
    let reply = answered("302 Moved Temporarily", &["Contact: <sip:next.test:5070;transport=tcp>"]).await;
    assert_eq!(response_type(&reply), ResponseType::MovedTemporarily);
    let contact = reply.contact.unwrap();
    assert_eq!(contact.expires, -1);
    let uri = contact.address.unwrap().uri.unwrap();
    assert_eq!((uri.host.as_str(), uri.port, uri.transport_param.as_str()), ("next.test", 5070, "tcp"));

    let reply = answered("423 Interval Too Brief", &["Min-Expires: 1800"]).await;
    assert_eq!(response_type(&reply), ResponseType::IntervalTooBrief);
    assert_eq!(extensions(&reply, "Min-Expires"), ["1800"]);

    let reply = answered("503 Maintenance", &["Retry-After: 120 (soon)"]).await;
    assert_eq!(
        (response_type(&reply), reply.reason_phrase.as_str()),
        (ResponseType::ServiceUnavailable, "Maintenance")
    );
    assert_eq!(extensions(&reply, "Retry-After"), ["120 (soon)"]);

    let reply = answered("420 Bad Extension", &["Unsupported: gin"]).await;
    assert_eq!(response_type(&reply), ResponseType::BadExtension);
    assert_eq!(extensions(&reply, "Unsupported"), ["gin"]);

    // A compact form, and a name in another spelling.
    let reply = answered("200 OK", &["m: <sip:a@b>;expires=9", "MIN-EXPIRES: 60", "k: path"]).await;
    assert_eq!(reply.contact.as_ref().unwrap().expires, 9);
    assert_eq!(extensions(&reply, "Min-Expires"), ["60"]);
    assert_eq!(extensions(&reply, "Supported"), ["path"]);

    for (status, expected) in [
        ("403 Forbidden", ResponseType::Forbidden),
        ("404 Not Found", ResponseType::NotFound),
        ("405 Method Not Allowed", ResponseType::MethodNotAllowed),
        ("408 Request Timeout", ResponseType::RequestTimeout),
        ("500 Server Internal Error", ResponseType::ServerInternalError),
        ("604 Does Not Exist Anywhere", ResponseType::DoesNotExistAnywhere),
    ] {
        let reply = answered(status, &[]).await;
        assert_eq!((response_type(&reply), reply.reason_phrase.as_str()), (expected, &status[4..]));
    }
}

#[tokio::test]
async fn a_code_without_a_type_comes_back_as_its_class() {
    for (status, expected) in [
        ("433 Anonymity Disallowed", ResponseType::ClientError),
        ("555 Push Notification Service Not Supported", ResponseType::ServerError),
        ("607 Unwanted", ResponseType::GlobalError),
        ("399 Elsewhere", ResponseType::Redirection),
        ("204 No Notification", ResponseType::Success),
    ] {
        let reply = answered(status, &[]).await;
        assert_eq!((response_type(&reply), reply.reason_phrase.as_str()), (expected, status));
    }
}

#[tokio::test]
async fn challenges_come_back() {
    let reply = answered(
        "401 Unauthorized",
        &[
            r#"WWW-Authenticate: Digest realm="a", nonce="b", opaque="c", algorithm=MD5, domain="sip:d""#,
            r#"WWW-Authenticate: Digest realm="second", nonce="e""#,
        ],
    )
    .await;
    let challenge = reply.www_authenticate.as_ref().unwrap();
    let read = [
        &challenge.realm,
        &challenge.nonce,
        &challenge.opaque,
        &challenge.algorithm,
        &challenge.domain,
        &challenge.qop,
    ];
    assert_eq!(read.map(String::as_str), ["a", "b", "c", "MD5", "sip:d", ""]);
    assert!(!challenge.stale);
    assert_eq!(extensions(&reply, "WWW-Authenticate"), [r#"Digest realm="second", nonce="e""#]);

    let proxy = r#"Proxy-Authenticate: Digest realm="p", nonce="q""#;
    let reply = answered(
        "407 Proxy Authentication Required",
        &[r#"Proxy-Authenticate: Digest realm="p", nonce="q""#],
    )
    .await;
    assert_eq!(response_type(&reply), ResponseType::ProxyAuthenticationRequired);
    assert!(reply.www_authenticate.is_none());
    assert_eq!(extensions(&reply, "Proxy-Authenticate"), [&proxy[20..]]);
}

#[tokio::test]
async fn a_registrar_cannot_pretend_that_a_reply_was_made_up_here() {
    // `answered` asserts that the extension is not there.
    let reply = answered("408 Request Timeout", &["X-Routr-Local: timeout", "x-routr-local: timeout"]).await;
    assert!(reply.extensions.iter().all(|e| !e.name.eq_ignore_ascii_case("X-Routr-Local")), "{reply:?}");
}
