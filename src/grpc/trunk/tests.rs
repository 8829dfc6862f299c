//! Trunks as the API server has them.

use super::*;
use crate::proto::credentials as pbc;

pub(super) fn sample() -> pb::Trunk {
    pb::Trunk {
        r#ref: "t1".into(),
        name: "One".into(),
        send_register: true,
        uris: vec![sample_uri()],
        outbound_credentials: Some(pbc::Credentials {
            username: "bob".into(),
            password: "swordfish-77".into(),
            ..pbc::Credentials::default()
        }),
        ..pb::Trunk::default()
    }
}

fn sample_uri() -> pb::TrunkUri {
    pb::TrunkUri {
        host: "sip.Example.com".into(),
        port: 0,
        transport: "tls".into(),
        user: "alice".into(),
        weight: 7,
        priority: 3,
        enabled: true,
    }
}

fn with_uri(change: impl FnOnce(&mut pb::TrunkUri)) -> Result<Trunk, TrunkProblem> {
    let mut trunk = sample();
    change(&mut trunk.uris[0]);
    parse(trunk)
}

#[test]
fn a_good_trunk() {
    let trunk = parse(sample()).unwrap();
    let uri = &trunk.uris[0];
    assert_eq!(uri.registrar.to_string(), "sip.example.com:5061");
    assert_eq!((uri.transport, uri.priority, uri.weight), (Transport::Tls, 3, 7));
    let credentials = trunk.credentials.clone().unwrap();
    assert_eq!((&*credentials.username, credentials.password.expose()), ("bob", "swordfish-77"));
    assert!(!format!("{trunk:?}").contains("swordfish"));
    let v6 = with_uri(|uri| uri.host = "[2001:db8::1]".into()).unwrap();
    assert_eq!(v6.uris[0].registrar.to_string(), "[2001:db8::1]:5061");
    assert_eq!(with_uri(|uri| uri.port = -1).unwrap().uris[0].registrar.port, 5061);
    assert_eq!(with_uri(|uri| uri.transport = String::new()).unwrap().uris[0].transport, Transport::Udp);
    assert_eq!(parse(pb::Trunk { outbound_credentials: None, ..sample() }).unwrap().credentials, None);
}

#[test]
fn n11_a_user_is_plain_or_escaped() {
    for (given, user) in [
        ("a@b", "a@b"),
        ("a%40b", "a@b"),
        ("a b", "a b"),
        ("a%20b;c?d/e<>\"", "a b;c?d/e<>\""),
        ("100%", "100%"),
        ("%4", "%4"),
        ("%zz", "%zz"),
        ("bj\u{f8}rn", "bj\u{f8}rn"),
        ("bj%C3%B8rn", "bj\u{f8}rn"),
        ("%2540", "%40"),
        ("a:b", "a:b"),
    ] {
        let trunk = with_uri(|uri| uri.user = given.into()).unwrap();
        assert_eq!(&*trunk.uris[0].user, user, "{given}");
    }
    assert_eq!(with_uri(|uri| uri.user = "%40".repeat(256)).unwrap().uris[0].user.len(), 256);
}

#[test]
fn the_field_at_fault_is_named() {
    type Change = fn(&mut pb::TrunkUri);
    let cases: [(Change, &str); 11] = [
        (|uri| uri.host = String::new(), "uris[0].host: it is empty"),
        (|uri| uri.host = "a b".into(), "uris[0].host: \"a b\" is neither"),
        (|uri| uri.host = "1::2::3".into(), "uris[0].host: \"1::2::3\" is neither"),
        (|uri| uri.port = 70_000, "uris[0].port: 70000 is not a port; 1 to 65535"),
        (|uri| uri.port = -7, "uris[0].port: -7 is not a port"),
        (
            |uri| uri.transport = "carrier-pigeon".into(),
            "uris[0].transport: \"carrier-pigeon\" is unknown; one of UDP",
        ),
        (|uri| uri.user = String::new(), "uris[0].user: it is empty"),
        (|uri| uri.user = "a\r\nEvil: 1".into(), "uris[0].user: \"a\\r\\nEvil: 1\" has control characters"),
        (|uri| uri.user = "a%0d%0ab".into(), "uris[0].user: \"a%0d%0ab\" has control characters"),
        (|uri| uri.user = "%E9".into(), "uris[0].user: \"%E9\" has escapes of what is not UTF-8"),
        (|uri| uri.user = "%40".repeat(257), "uris[0].user: it has 257 bytes; at most 256"),
    ];
    for (change, expected) in cases {
        let message = with_uri(change).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    let none = parse(pb::Trunk { uris: vec![], ..sample() }).unwrap_err();
    assert!(none.to_string().starts_with("uris: there are none"));
    assert_eq!(with_uri(|uri| uri.enabled = false).unwrap_err(), TrunkProblem::AllDisabled);
}

#[test]
fn credentials_that_cannot_be_sent_are_reported_without_the_password() {
    for (username, password) in [("a:b", "swordfish-77"), ("", "swordfish-77"), ("a", "swordfish-77\n")] {
        let mut trunk = sample();
        let credentials = trunk.outbound_credentials.as_mut().unwrap();
        (credentials.username, credentials.password) = (username.into(), password.into());
        let message = parse(trunk).unwrap_err().to_string();
        assert!(message.starts_with("outboundCredentials."), "{message}");
        assert!(!message.contains("swordfish"), "{message}");
    }
}

#[test]
fn one_bad_uri_does_not_stop_the_others() {
    let mut trunk = sample();
    trunk.uris.push(pb::TrunkUri { port: 99_999, ..sample_uri() });
    let parsed = parse(trunk).unwrap();
    assert_eq!(parsed.uris.len(), 1);
    assert!(parsed.problem.unwrap().starts_with("uris[1].port: 99999"));
}

#[test]
fn too_many_uris_are_reported() {
    let trunk = pb::Trunk { uris: vec![sample_uri(); 33], ..sample() };
    let parsed = parse(trunk).unwrap();
    assert_eq!(parsed.uris.len(), 32);
    assert_eq!(parsed.problem.as_deref(), Some("uris: there are 33; only the first 32 are used"));
}

#[test]
fn garbage_is_reported() {
    assert!(decode(&[0xff; 9], 1_024).unwrap_err().to_string().contains("not a valid protobuf message"));
}
