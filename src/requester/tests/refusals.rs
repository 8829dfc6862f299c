//! Requests that are refused before anything is sent.

use tonic::Code;

use super::{super::Mode, peer::Peer, setup::*};
use crate::proto::{
    common::Transport,
    processor::Method,
    requester::SendMessageRequest,
    sipmessage::{Address, Expires, MaxForwards, ResponseType, SipUri, sip_message::MessageType},
};

type Edit = fn(&mut SendMessageRequest);

fn request_uri(request: &mut SendMessageRequest) -> &mut SipUri {
    match &mut edit(request).message_type {
        Some(MessageType::RequestUri(uri)) => uri,
        _ => panic!("no request URI"),
    }
}

fn from(request: &mut SendMessageRequest) -> &mut Address {
    edit(request).from.as_mut().unwrap().address.as_mut().unwrap()
}

fn to(request: &mut SendMessageRequest) -> &mut Address {
    edit(request).to.as_mut().unwrap().address.as_mut().unwrap()
}

fn route_uri(request: &mut SendMessageRequest) -> &mut SipUri {
    edit(request).route[0].address.as_mut().unwrap().uri.as_mut().unwrap()
}

fn set(request: &mut SendMessageRequest, name: &str, value: &str) {
    drop_extension(request, name);
    edit(request).extensions.push(extension(name, value));
}

/// Each in both modes: refused with `INVALID_ARGUMENT`, the field named first, the injected text not in it as
/// it is, and nothing sent.
async fn refused(cases: &[(&str, Edit)]) {
    for mode in [Mode::Direct, Mode::Proxied] {
        let peer = Peer::udp(|raw, _| vec![raw.ok()]).await;
        let service = start(mode).await;
        for (field, change) in cases {
            let mut request = register(&peer.address.to_string());
            edit(&mut request).route = vec![route("127.0.0.1", peer.address.port().into())];
            change(&mut request);
            let status = service.refused(request).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
            assert!(status.message().starts_with(field), "{field}: {}", status.message());
            assert!(!status.message().contains(['\r', '\n']), "{field}: {status:?}");
            assert!(!status.message().contains("hunter2"), "{field}: {status:?}");
        }
        // A good one still goes through, and is the only one that was sent.
        let mut request = register(&peer.address.to_string());
        edit(&mut request).route = vec![route("127.0.0.1", peer.address.port().into())];
        assert_eq!(response_type(&service.send(request).await), ResponseType::Ok);
        assert_eq!(peer.requests().len(), 1);
    }
}

#[tokio::test]
async fn what_would_inject_a_header_field() {
    refused(&[
        ("message.request_uri.user: ", |r| request_uri(r).user = "a\r\nX: y".into()),
        ("message.request_uri.host: ", |r| request_uri(r).host = "a SIP/2.0\r\nX: y".into()),
        ("message.request_uri.host: ", |r| request_uri(r).host = "a;x=y".into()),
        ("message.request_uri.transport_param: ", |r| request_uri(r).transport_param = "udp\r\nX: y".into()),
        ("message.request_uri.m_addr_param: ", |r| request_uri(r).m_addr_param = "a\nb".into()),
        ("message.request_uri.user_param: ", |r| request_uri(r).user_param = "phone\r\n".into()),
        ("message.from.address.display_name: ", |r| from(r).display_name = "A\r\nX: y".into()),
        ("message.from.address.uri.user: ", |r| from(r).uri.as_mut().unwrap().user = "a\nb".into()),
        ("message.from.address.uri.user_password: ", |r| {
            from(r).uri.as_mut().unwrap().user_password = "hunter2".into()
        }),
        ("message.from.tag: ", |r| edit(r).from.as_mut().unwrap().tag = "a\r\nX: y".into()),
        ("message.from.parameters: ", |r| {
            edit(r).from.as_mut().unwrap().parameters.insert("x".into(), "a\r\nb".into());
        }),
        ("message.from.parameters: ", |r| {
            edit(r).from.as_mut().unwrap().parameters.insert("x\r\ny".into(), "a".into());
        }),
        ("message.to.address.uri.host: ", |r| to(r).uri.as_mut().unwrap().host = "a\0b".into()),
        ("message.to.tag: ", |r| edit(r).to.as_mut().unwrap().tag = "a;b".into()),
        ("message.call_id.call_id: ", |r| edit(r).call_id.as_mut().unwrap().call_id = "a\r\nX: y".into()),
        ("message.route[0].address.uri.host: ", |r| route_uri(r).host = "a>,\r\n<b".into()),
        ("message.extensions[6].name: ", |r| set(r, "X\r\nY", "z")),
        ("message.extensions[6].name: ", |r| set(r, "X-A: b", "z")),
        ("message.extensions[6].value (X-A): ", |r| set(r, "X-A", "hunter2\r\nVia: z")),
        ("message.extensions[5].value (X-Gateway-Auth): ", |r| set(r, "X-Gateway-Auth", "hunter2\r\nX: y")),
        ("message.extensions[5].value (CSeq): ", |r| set(r, "CSeq", "7 REGISTER\r\nX: y")),
        ("target: ", |r| {
            r.target = "127.0.0.1\r\n:5060".into();
            // In proxied mode the target is where nothing is sent to, unless there is no Route.
            edit(r).route.clear();
            drop_extension(r, "X-Gateway-Auth");
        }),
    ])
    .await;
}

#[tokio::test]
async fn what_is_missing_or_makes_no_sense() {
    refused(&[
        ("method: ", |r| r.method = Method::Unknown.into()),
        ("method: ", |r| r.method = 99),
        ("transport: ", |r| r.transport = 6),
        ("message: ", |r| r.message = None),
        ("message.request_uri: ", |r| edit(r).message_type = None),
        ("message.response_type: ", |r| edit(r).message_type = Some(MessageType::ResponseType(7))),
        ("message.request_uri.port: ", |r| request_uri(r).port = 65536),
        ("message.request_uri.ttl_param: ", |r| request_uri(r).ttl_param = 256),
        ("message.from: ", |r| edit(r).from = None),
        ("message.from.address.uri: ", |r| from(r).uri = None),
        ("message.from.tag: ", |r| edit(r).from.as_mut().unwrap().tag.clear()),
        ("message.to: ", |r| edit(r).to = None),
        ("message.to.address.wildcard: ", |r| to(r).wildcard = true),
        ("message.to.address.uri.host: ", |r| to(r).uri.as_mut().unwrap().host.clear()),
        ("message.call_id.call_id: ", |r| edit(r).call_id = None),
        ("message.expires.expires: ", |r| edit(r).expires = Some(Expires { expires: -1 })),
        ("message.max_forwards.max_forwards: ", |r| {
            edit(r).max_forwards = Some(MaxForwards { max_forwards: 256 })
        }),
        ("message.extensions: ", |r| drop_extension(r, "CSeq")),
        ("message.extensions[5].value (CSeq): ", |r| set(r, "CSeq", "7 INVITE")),
        ("message.extensions[5].value (CSeq): ", |r| set(r, "CSeq", "2147483648 REGISTER")),
        ("message.extensions[5].value (CSeq): ", |r| set(r, "CSeq", "-1 REGISTER")),
        ("message.extensions[6].name: ", |r| edit(r).extensions.push(extension("CSeq", "8 REGISTER"))),
        ("message.extensions[6].name: ", |r| edit(r).extensions.push(extension("content-length", "5"))),
        ("message.extensions[6].name: ", |r| edit(r).extensions.push(extension("Via", "SIP/2.0/UDP a"))),
        ("message.extensions[6].name: ", |r| edit(r).extensions.push(extension("l", "5"))),
        ("message.extensions[6].name: ", |r| {
            edit(r).extensions.push(extension("x-gateway-auth", &gateway_auth("hunter2")));
        }),
    ])
    .await;
}

#[tokio::test]
async fn targets() {
    let service = start(Mode::Direct).await;
    for bad in [
        "", ":5060", "a:0", "a:70000", "a:+5", "a:b", "::1", "::1:5060", "[::1", "[a]:5060", "a b:5060",
        "a:5060:1", "[::1]x:5",
    ] {
        let status = service.refused(register(bad)).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}");
        assert!(status.message().starts_with("target: "), "{bad:?}: {status:?}");
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_not_shown() {
    let service = start(Mode::Direct).await;
    for bad in ["hunter2", "aHVudGVyMg==", "!!!"] {
        let mut request = register("127.0.0.1:5060");
        set(&mut request, "X-Gateway-Auth", bad);
        let status = service.refused(request).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("(X-Gateway-Auth): "), "{status:?}");
        assert!(!format!("{status:?}").contains(bad), "{status:?}");
    }
}

#[tokio::test]
async fn what_is_not_offered_is_named() {
    for mode in [Mode::Direct, Mode::Proxied] {
        let service = start(mode).await;
        for (transport, name) in [(Transport::Sctp, "SCTP"), (Transport::Ws, "WS"), (Transport::Wss, "WSS")] {
            let mut request = register("127.0.0.1:5060");
            request.transport = transport.into();
            route_uri(&mut request).transport_param = name.into();
            let status = service.refused(request).await;
            assert_eq!(status.code(), Code::Unimplemented);
            assert!(status.message().contains(&format!("transport {name}:")), "{status:?}");
        }
        let mut request = register("127.0.0.1:5060");
        request.method = Method::Invite.into();
        let status = service.refused(request).await;
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("INVITE"), "{status:?}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let service = start(Mode::Direct).await;
    let mut request = register("127.0.0.1:5060");
    set(&mut request, "X-Large", &"x".repeat(70_000));
    let status = service.refused(request).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with("message: "), "{status:?}");

    let mut request = register("127.0.0.1:5060");
    edit(&mut request).extensions.extend((0..300).map(|_| extension("X-Many", "x")));
    let status = service.refused(request).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with("message.extensions["), "{status:?}");
}
