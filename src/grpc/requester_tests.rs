use super::{super::register::tests::register, *};

#[tokio::test]
async fn a_call_is_small() {
    let yaml = "kind: Registry\napiVersion: v2beta1\nspec: {requesterAddr: a, apiAddr: b, edgePorts: [{address: c}]}";
    let config = crate::config::parse(yaml, crate::config::Format::Yaml).unwrap();
    let requester = GrpcRequester::new(&config).unwrap();
    let call = requester.register(register(), Duration::from_secs(1));
    // A thousand of them are in flight, and each is made, moved and dropped once.
    let size = size_of_val(&call);
    assert!(size < 3_000, "{size} bytes");
}

fn response(response_type: sip::ResponseType) -> sip::SipMessage {
    sip::SipMessage {
        message_type: Some(sip::sip_message::MessageType::ResponseType(response_type.into())),
        ..sip::SipMessage::default()
    }
}

fn extension(name: &str, value: &str) -> sip::Extension {
    sip::Extension { name: name.into(), value: value.into() }
}

fn contact(expires: i32, host: &str, port: i32, transport: &str) -> sip::Contact {
    let uri =
        sip::SipUri { host: host.into(), port, transport_param: transport.into(), ..sip::SipUri::default() };
    let address = Some(sip::Address { uri: Some(uri), ..sip::Address::default() });
    sip::Contact { address, expires, ..sip::Contact::default() }
}

#[test]
fn a_reply_is_read() {
    let mut message = response(sip::ResponseType::Ok);
    message.contact = Some(contact(300, "10.0.0.1", 5060, ""));
    message.extensions =
        vec![extension("CSeq", "43 REGISTER"), extension("retry-after", " 120 (busy);duration=9")];
    let reply = decode(message);
    assert_eq!((reply.code, reply.contact_expires, reply.expires), (Some(200), Some(300), None));
    assert_eq!((reply.cseq, reply.retry_after), (Some(43), Some(120)));
    assert_eq!(reply.local, None);
}

#[test]
fn a_reply_that_the_requester_made_up_is_told_apart() {
    let mut message = response(sip::ResponseType::RequestTimeout);
    message.extensions = vec![extension("x-routr-local", "timeout")];
    assert_eq!(decode(message).local.map(|local| local.to_string()).as_deref(), Some("timeout"));
}

#[test]
fn minus_one_is_not_present() {
    let mut message = response(sip::ResponseType::MovedTemporarily);
    message.contact = Some(contact(-1, "Other.example.com", -1, "TCP"));
    message.expires = Some(sip::Expires { expires: -1 });
    let reply = decode(message);
    assert_eq!((reply.contact_expires, reply.expires), (None, None));
    let target =
        RedirectTarget { address: HostPort::new("other.example.com", 5060), transport: Some(Transport::Tcp) };
    assert_eq!(reply.targets, [RedirectContact { to: target, expires: None }]);
}

#[test]
fn a_contact_that_is_no_host_is_no_target() {
    let mut message = response(sip::ResponseType::MovedTemporarily);
    for host in ["", "a b", "a\r\nX: y", "a/b", "[1::2::3]", "sip:a", &"x".repeat(254)] {
        message.contact = Some(contact(60, host, 5060, ""));
        assert_eq!(decode(message.clone()).targets, [], "{host:?}");
    }
    for (host, bare) in
        [("[2001:db8::1]", "2001:db8::1"), ("2001:db8::1", "2001:db8::1"), ("b_1.Example", "b_1.example")]
    {
        message.contact = Some(contact(60, host, 5060, ""));
        assert_eq!(&*decode(message.clone()).targets[0].to.address.host, bare);
    }
}

#[test]
fn unsupported_tags_and_min_expires_are_read() {
    let mut message = response(sip::ResponseType::BadExtension);
    message.extensions = vec![
        extension("Unsupported", "gin, 100rel"),
        extension("Unsupported", "path"),
        extension("Min-Expires", "99999999999"),
    ];
    let reply = decode(message);
    assert_eq!(reply.unsupported, [Box::from("gin"), Box::from("100rel"), Box::from("path")]);
    assert_eq!(reply.min_expires, Some(u32::MAX));
}

#[test]
fn the_response_types_are_those_of_the_contract() {
    let pinned = [
        (7, 200),
        (17, 401),
        (19, 403),
        (23, 407),
        (24, 408),
        (32, 423),
        (33, 480),
        (49, 503),
        (57, 606),
        (10, 300),
        (15, 400),
        (30, 420),
        (40, 487),
        (45, 500),
        (50, 504),
        (53, 600),
    ];
    for (number, code) in pinned {
        let response_type = sip::ResponseType::try_from(number).unwrap();
        assert_eq!(status_code(response_type), Some(code), "{number}");
    }
    assert_eq!((0..58).filter(|number| sip::ResponseType::try_from(*number).is_ok()).count(), 58);
    assert!(sip::ResponseType::try_from(58).is_err());
    assert_eq!(decode(sip::SipMessage::default()).code, None);
    let absurd = sip::sip_message::MessageType::ResponseType(4_711);
    assert_eq!(
        decode(sip::SipMessage { message_type: Some(absurd), ..sip::SipMessage::default() }).code,
        None
    );
}

#[test]
fn garbage_numbers_are_absent() {
    assert_eq!(leading_number("soon"), None);
    assert_eq!(leading_number(""), None);
    assert_eq!(leading_number("-5"), None);
    assert_eq!(leading_number("7;x"), Some(7));
}

#[test]
fn credentials_that_are_cut_off_are_not_shown_either() {
    let credentials = register().credentials.unwrap();
    let auth = gateway_auth(&credentials);
    for at in 330..=400 {
        let status = Status::internal(format!("{}{auth}{}", "x".repeat(at), credentials.password.expose()));
        let shown = shortened(&redact(&said(&status), Some(&credentials)));
        assert!(!shown.contains(&auth[..4]) && !shown.contains("pass:"), "{shown}");
        assert!(shown.len() <= 400);
    }
}
