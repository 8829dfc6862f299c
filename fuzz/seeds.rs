//! The inputs that are no text: protobuf messages and values of the cache. Each becomes a file of the corpus.

use std::{fs, path::Path};

use prost::Message as _;
use routr_registration::{
    engine::view::{Health, Page, Summary, TrunkFailure, TrunkView},
    model::{Record, RegisterRequest},
    registration::state::TrunkState,
    trunk::{self},
};
use routr_registry::{
    grpc::register::Template,
    proto::{credentials::Credentials, requester::SendMessageRequest, sipmessage as sip, trunks as pb},
    requester::response,
    store::codec,
};
use routr_sip::message::{Message, Response};
use routr_types::{
    extension::Features,
    host::{HostPort, Transport},
};

/// Writes them all.
pub fn write() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let put = |target: &str, name: &str, bytes: Vec<u8>| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    for (name, trunk) in trunks() {
        put("trunk", name, trunk.encode_to_vec());
    }
    let items: Vec<pb::Trunk> = trunks().into_iter().map(|(_, trunk)| trunk).collect();
    put("listing", "find-by", pb::FindByResponse { items: items.clone() }.encode_to_vec());
    let page = pb::ListTrunksResponse { items: items[..2].to_vec(), next_page_token: "trunk-2".into() };
    put("listing", "page", page.encode_to_vec());
    put(
        "listing",
        "empty-page",
        pb::ListTrunksResponse { items: Vec::new(), next_page_token: "x".into() }.encode_to_vec(),
    );
    for transport in [Transport::Udp, Transport::Tls] {
        put(
            "send_message",
            &format!("register-{}", transport.parameter()),
            request(transport).encode_to_vec(),
        );
    }
    put("send_message", "options", options().encode_to_vec());
    put("credentials", "authorization", authorization().encode_to_vec());
    put("store", "registered", stored("trunk-1", 600));
    put("store", "never-registered", stored("trunk-2", 0));
    for (name, width) in [("narrow", "80"), ("wide", "140"), ("piped", "-")] {
        put("table", name, format!("{width}\n{}\n{}\n", shown_page(), shown_summary()).into_bytes());
    }
    for (name, steps) in histories() {
        put("registration", name, steps);
    }
}

fn trunks() -> Vec<(&'static str, pb::Trunk)> {
    let uri = |host: &str, transport: &str, priority: i32| pb::TrunkUri {
        host: host.into(),
        port: 5060,
        transport: transport.into(),
        user: "alice".into(),
        weight: 10,
        priority,
        enabled: true,
    };
    let plain = pb::Trunk {
        r#ref: "trunk-1".into(),
        api_version: "v2beta1".into(),
        name: "One".into(),
        send_register: true,
        inbound_uri: "in.example.com".into(),
        uris: vec![uri("sip.example.com", "udp", 1)],
        outbound_credentials: Some(Credentials {
            r#ref: "credentials-1".into(),
            name: "One".into(),
            username: "alice".into(),
            password: "swordfish-77".into(),
            ..Credentials::default()
        }),
        ..pb::Trunk::default()
    };
    let text =
        |value: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(value.into())) };
    let extended = [
        ("region", text("eu")),
        ("tlsUriScheme", text("sip")),
        ("outboundProxy", text("<sip:proxy.example.com:5061;transport=tls>")),
    ];
    let fields = extended.map(|(key, value)| (key.to_owned(), value)).into();
    let several = pb::Trunk {
        r#ref: "trunk-2".into(),
        uris: vec![
            uri("[2001:db8::1]", "TLS", 1),
            uri("192.0.2.7", "tcp", 2),
            uri("c.example.com", "SCTP", 2),
        ],
        extended: Some(prost_types::Struct { fields }),
        outbound_credentials: None,
        ..plain.clone()
    };
    let poor = pb::Trunk {
        r#ref: "trunk-3".into(),
        uris: vec![pb::TrunkUri { port: -1, transport: String::new(), enabled: false, ..uri("a b", "", 1) }],
        send_register: false,
        ..plain.clone()
    };
    vec![("plain", plain), ("several-uris", several), ("unusable", poor)]
}

fn request(transport: Transport) -> SendMessageRequest {
    let register = RegisterRequest {
        target: HostPort::new("sip.example.com", 5060),
        names_port: true,
        transport,
        request_host: "sip.example.com".into(),
        request_port: 5060,
        request_transport: transport,
        user: "alice".into(),
        domain: "sip.example.com".into(),
        secure: transport.is_secure(),
        from_tag: "0123".into(),
        call_id: "4567".into(),
        cseq: 7,
        expires: 600,
        edge_port: HostPort::new("10.0.0.1", 5060),
        contact: None,
        without_tags: 0,
        credentials: Some(trunk::Credentials {
            username: "alice".into(),
            password: routr_types::secret::Secret::new("swordfish-77"),
        }),
        digest: routr_types::digest_minimum::DigestMinimum::default(),
    };
    let template = Template::new(&["INVITE".into()], "Routr Connect v2", &["gin".into()]);
    SendMessageRequest::decode(template.encode(&register, Features::ALL)).unwrap()
}

fn options() -> SendMessageRequest {
    let mut request = request(Transport::Tcp);
    request.method = routr_registry::proto::processor::Method::Options.into();
    request.target = "[2001:db8::1]:5070".into();
    let message = request.message.as_mut().unwrap();
    message.route.clear();
    message.authorization = Some(authorization());
    message.body = "v=0".into();
    message.from.as_mut().unwrap().parameters = [("x".to_owned(), "a \"b\"".to_owned())].into();
    message.from.as_mut().unwrap().address.as_mut().unwrap().display_name = "Al \"Ice\" \\".into();
    message.extensions = vec![
        sip::Extension { name: "CSeq".into(), value: "7 OPTIONS".into() },
        sip::Extension { name: "Subject".into(), value: "a".into() },
    ];
    request
}

fn authorization() -> sip::Authorization {
    sip::Authorization {
        username: "alice".into(),
        realm: "example.com".into(),
        nonce: "abc".into(),
        uri: "sip:example.com".into(),
        response: "0123456789abcdef0123456789abcdef".into(),
        c_nonce: "0a".into(),
        opaque: "o".into(),
        qop: "auth".into(),
        nonce_count: 1,
        algorithm: "MD5".into(),
        ..sip::Authorization::default()
    }
}

/// The length of the ref, the ref, the value.
fn stored(reference: &str, granted_s: u32) -> Vec<u8> {
    let record = Record {
        reference: reference.into(),
        cseq: 45_000_000,
        aor: if granted_s > 0 { "alice@sip.example.com".into() } else { "".into() },
        expires_at_ms: u64::from(granted_s) * 3_000_000_000,
        granted_s,
        edge_port: "10.0.0.1:5060".into(),
        more: None,
    };
    let mut bytes = vec![u8::try_from(reference.len()).unwrap()];
    bytes.extend_from_slice(reference.as_bytes());
    codec::encode(&record, bytes).unwrap()
}

/// Returns a page of two trunks as the private port has it.
fn shown_page() -> String {
    let good = TrunkView {
        reference: "t-1".into(),
        name: "Größe 漢字".into(),
        state: TrunkState::Registered,
        aor: "alice@sip.example.com".into(),
        registrar: "sip.example.com:5060/UDP".into(),
        edge_port: "10.0.0.1:5060".into(),
        failed_over: false,
        redirected: None,
        omitted_option_tags: Vec::new(),
        expires_at_ms: Some(1_790_000_095_000),
        next_at_ms: Some(1_790_000_042_000),
        in_flight: false,
        next: "refresh".into(),
        failures: 0,
        failure: None,
        call_id: "1".into(),
        cseq: 7,
    };
    let trouble = TrunkFailure {
        reason: "Timeout".into(),
        code: Some(408),
        message: "no answer \u{202e} in time".into(),
        since_ms: 1_789_999_990_000,
    };
    let bad =
        TrunkView { state: TrunkState::Failing, failure: Some(trouble), name: String::new(), ..good.clone() };
    serde_json::to_string(&Page { items: vec![good, bad], ..Page::default() }).unwrap()
}

fn shown_summary() -> String {
    let health =
        Health { ok: Some(false), message: Some("it cannot be reached".into()), ..Health::default() };
    let summary = Summary { api: health, over_budget: vec!["sip.example.com".into()], ..Summary::default() };
    serde_json::to_string(&summary).unwrap()
}

/// Responses of registrars, as the embedded Requester passes them on.
fn histories() -> Vec<(&'static str, Vec<u8>)> {
    let ok = "SIP/2.0 200 OK\r\nCSeq: 9 REGISTER\r\nContact: <sip:alice@10.0.0.1:5060>;expires=600\r\nExpires: 600\r\n\r\n";
    let reply = |head: &str| format!("SIP/2.0 {head}\r\nCSeq: 8 REGISTER\r\n\r\n");
    let redirect = |to: &str| format!("SIP/2.0 302 Moved\r\nContact: <{to}>;expires=60\r\n\r\n");
    vec![
        ("registered", history(0x00, &[ok, ok, ok])),
        ("too-brief", history(0x11, &[&reply("423 Brief\r\nMin-Expires: 3600"), ok])),
        ("bad-extension", history(0xc0, &[&reply("420 Bad\r\nUnsupported: gin"), ok])),
        (
            "redirected",
            history(
                0x05,
                &[&redirect("sip:b.example.com:5070;transport=tcp"), &redirect("sips:c.example.com"), ok],
            ),
        ),
        (
            "rejected",
            history(0x07, &[&reply("403 Forbidden"), &reply("404 Not Found\r\nRetry-After: 7000"), ok]),
        ),
        (
            "asked-to-wait",
            history(
                0x0f,
                &[&reply("503 Busy\r\nRetry-After: 120"), &reply("500 Oops"), &reply("480 Away"), ok],
            ),
        ),
        ("silent", history(0x0a, &[&reply("408 Timeout"), &reply("100 Trying"), ok])),
    ]
}

/// Returns a history of these responses, with other events among them: a change, a wish, in the end a
/// removal.
fn history(shape: u8, answers: &[&str]) -> Vec<u8> {
    let mut bytes = vec![shape];
    for (at, answer) in (0_u8..).zip(answers) {
        let Ok(Message::Response(response)) = Message::parse_datagram(answer.as_bytes()) else {
            panic!("{answer}")
        };
        step(&mut bytes, at << 4 & 0x30, &message(&response));
        step(&mut bytes, 9 + (at & 1), &[]);
        step(&mut bytes, 12 | (at << 4 & 0x70), &[]);
    }
    let Ok(Message::Response(last)) = Message::parse_datagram(b"SIP/2.0 200 OK\r\n\r\n") else { panic!() };
    step(&mut bytes, 12 | 0x10, &[]);
    step(&mut bytes, 0, &message(&last));
    bytes
}

fn message(response: &Response) -> Vec<u8> {
    response::write(response, None).encode_to_vec()
}

fn step(bytes: &mut Vec<u8>, what: u8, answer: &[u8]) {
    bytes.push(what);
    bytes.extend_from_slice(&u16::try_from(answer.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(answer);
}
