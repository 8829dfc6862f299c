//! The Contacts of a response: R1 to R4, R7 and R8 of the field cases.

use super::{super::Mode, peer::Peer, setup::*};
use crate::proto::sipmessage::SipMessage;

/// Returns the result of a REGISTER of `sip:alice@edge.test:5066;transport=udp` with this response.
async fn answered(status: &'static str, lines: Vec<String>) -> SipMessage {
    let peer = Peer::udp(move |raw, _| {
        vec![raw.reply(status, &lines.iter().map(String::as_str).collect::<Vec<_>>())]
    })
    .await;
    start(Mode::Direct).await.send(register(&peer.address.to_string())).await
}

#[tokio::test]
async fn r1_to_r4_every_binding_is_handed_over_and_ours_is_marked() {
    let cases: [(&[&str], &str); 30] = [
        // R1: ours is rewritten.
        (
            &["Contact: <sip:alice@198.51.100.9>;expires=3600, <sip:alice@203.0.113.5:40321>;expires=60"],
            "3600, 60",
        ),
        // R2: another one has ended.
        (
            &["Contact: <sip:alice@198.51.100.9>;expires=0, <sip:alice@edge.test:5066>;expires=600"],
            "0, 600;own",
        ),
        // R3: only the port is another.
        (
            &["Contact: <sip:alice@198.51.100.9>;expires=3600, <sip:alice@edge.test:40321>;expires=60"],
            "3600, 60",
        ),
        // R4: what an earlier Requester left.
        (
            &["Contact: <sip:alice@edge.test:31999>;expires=37, <sip:alice@edge.test:5066>;expires=600"],
            "37, 600;own",
        ),
        (
            &[
                "Contact: <sip:b@h>;expires=1",
                "m: <sip:alice@EDGE.test:5066;ob>;expires=2",
                "Contact: <sip:c@h>",
            ],
            "1, 2;own, -",
        ),
        (&["Expires: 400", "Contact: <sip:alice@edge.test.:5066>, <sip:b@h>;expires=5"], "400;own, 5"),
        (
            &[
                "Contact: \"Doe, \\\"J\\\" <x>\" <sip:b@h>;expires=1, \"A\" <sip:alice@edge.test:5066>;expires=2",
            ],
            "1, 2;own",
        ),
        (&["Contact: Doe, John <sip:b@h>;expires=1,<sip:alice@edge.test:5066>;expires=2"], "-, 1, 2;own"),
        (&["Contact: sip:alice@edge.test:5066;expires=60"], "60;own"),
        (&["Contact: sip:b@h;expires=1,sip:alice@edge.test:5066;q=0.5;expires=60"], "1, 60;own"),
        (&["Contact: <sip:%61lice@edge.test:5066;transport=UDP>;EXPIRES=\"60\""], "60;own"),
        (&["Contact: <sip:Alice@edge.test:5066>;expires=60"], "60"),
        (&["Contact: <sip:edge.test:5066>;expires=60"], "60"),
        (&["Contact: <sip:alice@edge.test>;expires=60"], "60"),
        (&["Contact: <sips:alice@edge.test:5066>;expires=60"], "60"),
        (&["Contact: <sip:alice@edge.test:5066;transport=tcp>;expires=60"], "60"),
        (
            &[
                "Contact: <sip:alice@edge.test:5066;transport=tcp>;expires=1, <sip:alice@edge.test:5066>;expires=2",
            ],
            "1, 2;own",
        ),
        // The one that names the transport is nearer than one that names none.
        (
            &[
                "Contact: <sip:alice@edge.test:5066>;expires=1, <sip:alice@edge.test:5066;transport=udp>;expires=2",
            ],
            "1, 2;own",
        ),
        (&["Contact: <sip:alice@edge.test:5066>;expires=99999999999999"], "4294967295;own"),
        (&["Contact: <sip:alice@edge.test:5066>;expires=-5"], "-;own"),
        (&["Contact: <sip:alice@edge.test:5066>;expires=3600.5"], "3600;own"),
        (&["Contact: <sip:alice@edge.test:5066>;expires="], "-;own"),
        (&["Contact: <sip:alice@edge.test:5066>;expires", "Expires: 50"], "50;own"),
        (&["Contact: <sip:alice@edge.test:5066>;q=abc;x y=z;;expires=\"60"], "60;own"),
        (&["Contact: <sip:alice@edge.test:5066> ; expires = 60 ; q = 1.0"], "60;own"),
        // What is no SIP binding is left out; one that is malformed may be any.
        (&["Contact: <tel:+4930>;expires=5, <sip:alice@edge.test:5066>;expires=60"], "60;own"),
        (&["Contact: <sip:alice@[edge>;expires=5, <sip:alice@edge.test:5066>;expires=60"], "5, 60;own"),
        (&["Contact: <sip:alice@edge.test:5066;expires=60"], "60"),
        (&["Contact: *"], ""),
        (&["Contact:", "Expires: 60"], ""),
    ];
    for (lines, expected) in cases {
        let reply = answered("200 OK", lines.iter().copied().map(str::to_owned).collect()).await;
        assert_eq!(extensions(&reply, "X-Routr-Bindings").concat(), expected, "{lines:?}");
        // The message's one Contact is ours, where one is.
        if expected.contains("own") {
            let uri = reply.contact.unwrap().address.unwrap().uri.unwrap();
            assert_eq!((uri.user.as_str(), uri.port), ("alice", 5066), "{lines:?}");
        }
    }
}

/// Addresses are compared as values, whatever they look like.
#[tokio::test]
async fn r3_addresses_are_compared_as_values() {
    for (sent, listed, own) in [
        ("2001:db8::1", "[2001:0DB8:0:0:0:0:0:1]", true),
        ("2001:db8::1", "2001:db8::1", false),
        ("192.0.2.7", "[::ffff:192.0.2.7]", true),
        ("192.0.2.7", "[::ffff:c000:207]", true),
        ("192.0.2.7", "192.0.2.70", false),
        ("edge.test", "Edge.TEST.", true),
        ("edge.test", "edge.test.other", false),
    ] {
        let peer = Peer::udp(move |raw, _| {
            let port = if listed.contains(':') && !listed.starts_with('[') { "" } else { ":5066" };
            vec![raw.reply("200 OK", &[&format!("Contact: <sip:alice@{listed}{port}>;expires=60")])]
        })
        .await;
        let mut request = register(&peer.address.to_string());
        edit(&mut request).route = vec![route(sent, 5066)];
        let reply = start(Mode::Direct).await.send(request).await;
        let expected = if own { "60;own" } else { "60" };
        assert_eq!(extensions(&reply, "X-Routr-Bindings"), [expected], "{sent} {listed}");
    }
}

#[tokio::test]
async fn r1_in_proxied_mode_ours_is_marked_too() {
    let edge = Peer::udp(|raw, _| {
        let ours = format!("Contact: {};expires=60", raw.header("Contact").replace(";bnc", ""));
        vec![raw.reply("200 OK", &["Contact: <sip:192.0.2.1:5060;bnc>;expires=3600", &ours])]
    })
    .await;
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into())];
    let reply = start(Mode::Proxied).await.send(request).await;
    assert_eq!(extensions(&reply, "X-Routr-Bindings"), ["3600, 60;own"]);
    assert_eq!(reply.contact.unwrap().expires, 60);
}

#[tokio::test]
async fn r7_r8_every_target_is_handed_over_in_the_order_to_try() {
    let cases: [(&[&str], &[&str]); 13] = [
        (&["Contact: <sip:dead.test>;q=0.1, <sip:alive.test:5070>;q=0.9"], &["alive.test:5070", "dead.test"]),
        (&["Contact: <sip:a.test>, <sip:b.test>", "m: <sip:c.test>;q=1.0"], &["a.test", "b.test", "c.test"]),
        (
            &["Contact: <sip:a.test>;q=0.5, <sip:b.test>;q=x, <sip:c.test>;q=\"0.7\""],
            &["b.test", "c.test", "a.test"],
        ),
        (
            &["Contact: <sip:a.test>;q=0, <sip:b.test>;q=.5, <sip:c.test>;q=nan, <sip:d.test>;q=7"],
            &["c.test", "d.test", "b.test", "a.test"],
        ),
        (&["Contact: <tel:+4930>, <http://x.test>, <sip:a.test>"], &["a.test"]),
        (
            &["Contact: <sip:a.test;maddr=192.0.2.9>, <sip:b.test;maddr=[2001:db8::1]>"],
            &["192.0.2.9", "[2001:db8::1]"],
        ),
        (&["Contact: <sip:a.test;maddr=%3Bx>"], &["a.test"]),
        (
            &["Contact: <sip:a.test;transport=TCP>, <sip:b.test;transport=x%3Bexpires%3D5>"],
            &["a.test;transport=tcp", "b.test"],
        ),
        (
            &["Contact: <sips:a.test>, <sips:b.test:5071;transport=tcp>"],
            &["a.test;transport=tls", "b.test:5071;transport=tls"],
        ),
        (
            &["Expires: 90", "Contact: <sip:a.test>;expires=30, <sip:b.test>"],
            &["a.test;expires=30", "b.test;expires=90"],
        ),
        (&["Contact: <sip:a.test>, <sip:a.test>;q=0.3, <sip:a.test:5060>"], &["a.test", "a.test:5060"]),
        (&["Contact: *"], &[]),
        (&[], &[]),
    ];
    for (lines, expected) in cases {
        for status in ["302 Moved Temporarily", "300 Multiple Choices", "399 Elsewhere"] {
            let reply = answered(status, lines.iter().copied().map(str::to_owned).collect()).await;
            assert_eq!(extensions(&reply, "X-Routr-Target"), expected, "{lines:?}");
            let uri = reply.contact.clone().and_then(|contact| contact.address?.uri);
            if let (Some(uri), Some(first)) = (uri, expected.first())
                && uri.m_addr_param.is_empty()
            {
                assert!(first.starts_with(&uri.host), "{lines:?}");
            }
            assert_eq!(extensions(&reply, "X-Routr-Bindings"), [""; 0]);
        }
    }
    let many: Vec<String> = (0..300).map(|n| format!("Contact: <sip:h{n}.test>")).collect();
    assert_eq!(extensions(&answered("302 Moved", many).await, "X-Routr-Target").len(), 16);
}
