use super::*;
use crate::proto::requester::SendMessageRequest;
use routr_types::{digest_minimum::DigestMinimum, host::HostPort};

pub fn register() -> RegisterRequest {
    RegisterRequest {
        target: HostPort::new("2001:db8::1", 5070),
        names_port: true,
        transport: Transport::Tcp,
        request_host: "2001:db8::1".into(),
        request_port: 5070,
        request_transport: Transport::Tcp,
        user: "alice".into(),
        domain: "sip.example.com".into(),
        secure: false,
        from_tag: "tag-1".into(),
        call_id: "call-1".into(),
        cseq: 42,
        expires: 600,
        edge_port: HostPort::new("10.0.0.9", 5060),
        contact: None,
        without_tags: 0,
        credentials: Some(Credentials { username: "bob".into(), password: Secret::new("pass:word") }),
        digest: DigestMinimum::default(),
    }
}

fn sent(register: &RegisterRequest) -> SendMessageRequest {
    let (methods, tags) = (["INVITE", "MESSAGE"].map(Into::into), ["gin", "outbound"].map(Into::into));
    let template = Template::new(&methods, "Routr Connect v2", &tags);
    SendMessageRequest::decode(template.encode(register, Features::ALL)).unwrap()
}

fn headers(register: &RegisterRequest) -> Vec<String> {
    let message = sent(register).message.unwrap();
    message.extensions.iter().map(|e| format!("{}: {}", e.name, e.value)).collect()
}

#[test]
fn n11_a_user_is_escaped_as_in_a_uri() {
    for (user, escaped) in
        [("a@b", "a%40b"), ("a b", "a%20b"), ("100%", "100%25"), ("%40", "%2540"), ("a;b?c/d", "a;b?c/d")]
    {
        let message = sent(&RegisterRequest { user: user.into(), ..register() }).message.unwrap();
        let (from, to) = (message.from.unwrap().address.unwrap(), message.to.unwrap().address.unwrap());
        for address in [from, to] {
            assert_eq!(address.uri.unwrap().user, escaped);
        }
    }
}

#[test]
fn a_register_as_the_contract_has_it() {
    let request = sent(&register());
    assert_eq!(request.target, "[2001:db8::1]:5070");
    assert_eq!(request.method, 1);
    assert_eq!(request.transport, 1);
    let message = request.message.unwrap();
    let Some(sip::sip_message::MessageType::RequestUri(uri)) = message.message_type else { panic!("no URI") };
    assert_eq!((uri.user.as_str(), uri.host.as_str(), uri.port), ("", "[2001:db8::1]", 5070));
    assert_eq!((uri.method_param.as_str(), uri.transport_param.as_str()), ("REGISTER", "tcp"));
    let from = message.from.unwrap();
    let from_uri = from.address.unwrap().uri.unwrap();
    assert_eq!(
        (from_uri.user.as_str(), from_uri.host.as_str(), from_uri.port),
        ("alice", "sip.example.com", -1)
    );
    assert_eq!(from.tag, "tag-1");
    assert_eq!(message.to.unwrap().tag, "");
    assert_eq!(message.call_id.unwrap().call_id, "call-1");
    assert_eq!(message.expires.unwrap().expires, 600);
    assert_eq!(message.max_forwards.unwrap().max_forwards, 70);
    assert_eq!(message.content_length.unwrap().content_length, 0);
    let route = message.route[0].address.clone().unwrap().uri.unwrap();
    assert_eq!((route.host.as_str(), route.port, route.lr_param), ("10.0.0.9", 5060, true));
    assert!(message.contact.is_none() && message.via.is_empty() && message.record_route.is_empty());
}

#[test]
fn n9_an_outbound_proxy_is_the_target_and_the_second_route() {
    let plain = sent(&register());
    let register = RegisterRequest {
        target: HostPort::new("proxy.example.net", 5061),
        transport: Transport::Tls,
        names_port: false,
        ..register()
    };
    let request = sent(&register);
    assert_eq!((request.target.as_str(), request.transport), ("proxy.example.net", 2));
    let (message, unproxied) = (request.message.unwrap(), plain.message.unwrap());
    assert_eq!(
        (&message.message_type, &message.from, &message.to),
        (&unproxied.message_type, &unproxied.from, &unproxied.to)
    );
    let uri = |route: &sip::Route| route.address.clone().unwrap().uri.unwrap();
    let routes: Vec<_> = message.route.iter().map(uri).collect();
    let hops: Vec<_> = routes.iter().map(|uri| (uri.host.as_str(), uri.port, uri.lr_param)).collect();
    assert_eq!(hops, [("10.0.0.9", 5060, true), ("proxy.example.net", -1, true)]);
    assert_eq!(unproxied.route.len(), 1);
}

#[test]
fn the_header_fields_come_in_the_order_of_the_contract() {
    let auth = format!("X-Gateway-Auth: {}", BASE64_STANDARD.encode("bob:pass:word"));
    let expected = [
        "Allow: INVITE",
        "Allow: MESSAGE",
        "CSeq: 42 REGISTER",
        "User-Agent: Routr Connect v2",
        "Allow-Events: presence",
        "Proxy-Require: gin",
        "Proxy-Require: outbound",
        "Require: gin",
        "Require: outbound",
        "Supported: path",
        auth.as_str(),
    ];
    assert_eq!(headers(&register()), expected);
}

#[test]
fn dropped_option_tags_and_absent_credentials_are_left_out() {
    let reduced = RegisterRequest { without_tags: 0b01, credentials: None, ..register() };
    let headers = headers(&reduced);
    assert!(headers.contains(&"Require: outbound".to_owned()));
    assert!(!headers.iter().any(|header| header.contains("gin") || header.contains("X-Gateway-Auth")));
}

#[test]
fn beyond_the_contract_only_what_the_requester_understands_is_sent() {
    let digest = DigestMinimum { sha256: true, ..DigestMinimum::default() };
    let contact = Some(HostPort::new("2001:db8::5", 5061));
    let register = RegisterRequest { contact, names_port: false, digest, ..register() };
    let template = Template::new(&[], "ua", &[]);
    let sent = |features| {
        let sent = SendMessageRequest::decode(template.encode(&register, features)).unwrap();
        let beyond =
            sent.message.unwrap().extensions.into_iter().filter(|one| one.name.starts_with("X-Routr"));
        (sent.target, beyond.map(|one| format!("{}: {}", one.name, one.value)).collect::<Vec<_>>())
    };
    let none = Features::default();
    assert_eq!(sent(none), ("[2001:db8::1]:5070".to_owned(), vec![]));
    let (target, beyond) = sent(Features::ALL);
    assert_eq!(target, "[2001:db8::1]");
    assert_eq!(beyond[0], "X-Routr-Contact: [2001:db8::5]:5061");
    assert_eq!(beyond.len(), 2);
    assert_eq!(sent(Features { srv: true, ..none }), ("[2001:db8::1]".to_owned(), vec![]));
}

#[test]
fn a_minimum_for_digest_is_sent_where_there_is_one() {
    let template = Template::new(&[], "ua", &[]);
    let values = |digest| -> Vec<String> {
        let encoded = template.encode(&RegisterRequest { digest, ..register() }, Features::ALL);
        let message = SendMessageRequest::decode(encoded).unwrap().message.unwrap();
        let named = message.extensions.into_iter().filter(|one| one.name == extension::DIGEST);
        named.map(|one| one.value).collect()
    };
    assert!(values(DigestMinimum::default()).is_empty());
    assert_eq!(values(DigestMinimum { sha256: true, qop: true }), ["sha-256, qop"]);
}
