//! The Requester's door: who may call, how much of it, what for, and where to.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use prost::bytes::Bytes;
use routr_net::descriptors::raise_limit;
use routr_registry::grpc::codec::RawCodec;
use routr_registry::proto::common::Transport;
use routr_registry::proto::processor::Method;
use routr_registry::proto::requester::requester_client::RequesterClient;
use routr_registry::proto::requester::{SendMessageRequest, SendMessageResponse};
use routr_registry::proto::requester_info::GetRequest;
use routr_registry::proto::requester_info::requester_info_client::RequesterInfoClient;
use routr_registry::proto::sipmessage::{
    Address, CallId, Expires, Extension, From, ResponseType, Route, SipMessage, SipUri, To,
    sip_message::MessageType,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::standalone::test_registry::TestRegistry;
use crate::support::ports;
use crate::support::process::{self, Process, tail};
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_for, wait_until};

const SOON: Duration = PATIENCE;
const TOKEN: &str = "0f5a-first-token-of-the-door";
const NEXT_TOKEN: &str = "91c2-second-token-of-the-door";

/// The program as a Requester on loopback.
pub(super) struct AccessOptions {
    pub port: u16,
    pub service: Service,
}

impl AccessOptions {
    pub async fn open(flags: &[&str], env: &[(&str, &str)]) -> Self {
        let port = ports::free();
        let listen = format!("127.0.0.1:{port}");
        let args = ["requester", "--listen", &listen, "--sip-bind", "127.0.0.1"];
        let service = Service::start(args.into_iter().chain(flags.iter().copied()), env);
        let probe = async || match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}; {}", tail(&service.output()))),
        };
        wait_for(probe, SOON, "the Requester to listen").await;
        Self { port, service }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> RequesterClient<Channel> {
        RequesterClient::new(self.channel().await)
    }
}

fn uri(user: &str, host: &str) -> SipUri {
    SipUri { user: user.into(), host: host.into(), port: -1, ..SipUri::default() }
}

fn address(user: &str, host: &str) -> Option<Address> {
    Some(Address { uri: Some(uri(user, host)), ..Address::default() })
}

fn extension(name: &str, value: &str) -> Extension {
    Extension { name: name.into(), value: value.into() }
}

fn message(method: &str) -> SipMessage {
    SipMessage {
        message_type: Some(MessageType::RequestUri(uri("", "registrar.test"))),
        from: Some(From { address: address("alice", "registrar.test"), tag: "f".into(), ..From::default() }),
        to: Some(To { address: address("alice", "registrar.test"), ..To::default() }),
        call_id: Some(CallId { call_id: "c@test".into() }),
        expires: Some(Expires { expires: 600 }),
        extensions: vec![extension("CSeq", &format!("7 {method}"))],
        ..SipMessage::default()
    }
}

pub(super) fn register(target: &str, transport: Transport) -> SendMessageRequest {
    SendMessageRequest {
        target: target.into(),
        method: Method::Register.into(),
        transport: transport.into(),
        message: Some(message("REGISTER")),
    }
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// The response type and the phrase.
pub(super) fn outcome(response: SendMessageResponse) -> (ResponseType, String) {
    let message = response.message.unwrap();
    match message.message_type {
        Some(MessageType::ResponseType(number)) => {
            (ResponseType::try_from(number).unwrap(), message.reason_phrase)
        }
        other => panic!("{other:?}"),
    }
}

/// A 200 for a request in these bytes; `None` while it is not complete.
fn granted(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let head = text.split_once("\r\n\r\n")?.0;
    let kept = ["Via", "From", "To", "Call-ID", "CSeq", "Contact"];
    let lines = head.lines().filter(|line| kept.iter().any(|name| line.starts_with(&format!("{name}:"))));
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    Some(format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n"))
}

/// A registrar over UDP that grants everything; and how many requests came.
pub(super) async fn registrar() -> (u16, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (port, seen) = (socket.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = seen.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            counted.fetch_add(1, Ordering::Relaxed);
            if let Some(response) = granted(&buffer[..length]) {
                socket.send_to(response.as_bytes(), from).await.unwrap();
            }
        }
    });
    (port, seen)
}

/// A registrar over TCP that grants everything and closes nothing.
async fn serve_tcp(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                all.extend_from_slice(&buffer[..length]);
                if let Some(response) = granted(&all) {
                    all.clear();
                    stream.write_all(response.as_bytes()).await.unwrap();
                }
            }
        });
    }
}

async fn send_raw(channel: Channel, message: Bytes) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = "/fonoster.routr.requester.v2beta1.Requester/SendMessage".parse().unwrap();
    grpc.unary(Request::new(message), path, RawCodec::default()).await.unwrap_err()
}

/// A request whose message is `bytes` bytes of that field, which is empty each time.
fn empty_fields(field: u8, bytes: usize) -> Bytes {
    let inner: Vec<u8> = [field << 3 | 2, 0].into_iter().cycle().take(bytes & !1).collect();
    let mut all = vec![4 << 3 | 2];
    prost::encoding::encode_varint(inner.len() as u64, &mut all);
    all.extend(inner);
    all.into()
}

fn status_kb(pid: i32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn requests_full_of_empty_fields_are_refused_before_they_are_decoded() {
    let door = AccessOptions::open(&[], &[]).await;
    let before = status_kb(door.service.pid(), "VmHWM");
    let channel = door.channel().await;
    // Via, Route, RecordRoute, Extension; 4 MB is what gRPC takes by default, the others are within any bound
    // on bytes.
    for field in [13, 14, 15, 12] {
        for (size, calls) in [(4_000_000, 4), (130_000, 64)] {
            let message = empty_fields(field, size);
            let calls = (0..calls).map(|_| send_raw(channel.clone(), message.clone()));
            for status in join_all(calls).await {
                assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
            }
        }
    }
    let grown = status_kb(door.service.pid(), "VmHWM") - before;
    assert!(grown < 96 * 1024, "the attack cost {grown} KB");
    let (registrar, _) = registrar().await;
    let request = register(&format!("127.0.0.1:{registrar}"), Transport::Udp);
    let response = door.client().await.send_message(request).await.unwrap().into_inner();
    assert_eq!(outcome(response).0, ResponseType::Ok);
}

#[tokio::test]
async fn a_call_needs_the_token_and_nothing_shows_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let door = AccessOptions::open(&["--token-file", file.to_str().unwrap()], &[("RUST_LOG", "trace")]).await;
    let (registrar, seen) = registrar().await;
    let request = || register(&format!("127.0.0.1:{registrar}"), Transport::Udp);
    let mut client = door.client().await;

    let mut twice = with_token(request(), TOKEN);
    twice.metadata_mut().append("authorization", "Bearer x".parse().unwrap());
    let mut basic = Request::new(request());
    basic.metadata_mut().insert("authorization", format!("Basic {TOKEN}").parse().unwrap());
    let long = "x".repeat(3_000);
    for (refused, problem) in [
        (Request::new(request()), "no token"),
        (with_token(request(), ""), "wrong token"),
        (with_token(request(), "wrong"), "wrong token"),
        (with_token(request(), &TOKEN[1..]), "wrong token"),
        (with_token(request(), &long), "wrong token"),
        (twice, "comes twice"),
        (basic, "no Bearer token"),
    ] {
        let status = client.send_message(refused).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(status.message().contains(problem), "{problem}: {status:?}");
    }
    let mut info = RequesterInfoClient::new(door.channel().await);
    assert_eq!(info.get(GetRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(seen.load(Ordering::Relaxed), 0, "nothing was sent");

    assert!(info.get(with_token(GetRequest {}, TOKEN)).await.is_ok());
    assert!(client.send_message(with_token(request(), TOKEN)).await.is_ok());

    // Both while they are exchanged, then the new one alone.
    for (content, old) in [(format!("{NEXT_TOKEN}\n{TOKEN}\n"), true), (NEXT_TOKEN.to_owned(), false)] {
        fs::write(&file, content).unwrap();
        let changed = async || {
            let mut client = client.clone();
            let new = client.send_message(with_token(request(), NEXT_TOKEN)).await.is_ok();
            new && client.send_message(with_token(request(), TOKEN)).await.is_ok() == old
        };
        wait_until(changed, SOON, "the token to be replaced").await;
    }
    let output = door.service.output();
    assert!(output.contains("calls were refused (UNAUTHENTICATED)"), "{}", tail(&output));
    for secret in [TOKEN, NEXT_TOKEN, &TOKEN[1..]] {
        assert!(!output.contains(secret), "{secret} is shown");
    }
}

/// A certificate authority, and what it signs.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Writes NAME.crt, NAME.key for that host, and ca.crt.
    fn sign(&self, folder: &Path, name: &str, host: &str) {
        let params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(folder.join("ca.crt"), self.certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// The registry's only trunk: its state, and what is wrong with it.
async fn trunk(stage: &TestRegistry) -> Result<(String, String), String> {
    let views = stage.views().await?;
    let view = views.get("a").ok_or("no trunk")?;
    Ok((view["state"].as_str().unwrap().to_owned(), view.to_string()))
}

async fn says(stage: &TestRegistry, service: &Service, state: &str, words: &[&str]) {
    let look = async || {
        let (found, text) =
            trunk(stage).await.map_err(|error| format!("{error}; {}", tail(&service.output())))?;
        let said = words.iter().all(|word| text.contains(word));
        if found == state && said { Ok(()) } else { Err(text) }
    };
    wait_for(look, SOON, &format!("{state} {words:?}")).await;
}

#[tokio::test]
async fn a_registry_shows_its_certificate_and_its_token() {
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["a"]);
    stage.start_api().await;
    let folder = stage.dir.path().to_owned();
    let (ours, theirs) = (Authority::new(), Authority::new());
    theirs.sign(&folder, "stranger", "registry");
    ours.sign(&folder, "requester", "localhost");
    ours.sign(&folder, "registry", "registry");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(path("token"), TOKEN).unwrap();
    fs::write(path("wrong"), NEXT_TOKEN).unwrap();
    let (certificate, key, ca, token) =
        (path("requester.crt"), path("requester.key"), path("ca.crt"), path("token"));
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--client-ca", &ca, "--token-file", &token];
    let door = AccessOptions::open(&flags, &[]).await;
    let configure = |certificate: Option<&str>, token: Option<&str>| {
        let mut tls = "  tls:\n    caFile: ca.crt\n".to_owned();
        if let Some(name) = certificate {
            tls += &format!("    certFile: {name}.crt\n    keyFile: {name}.key\n");
        }
        if let Some(name) = token {
            tls += &format!("  requesterTokenFile: {name}\n");
        }
        let there = format!("requesterAddr: 127.0.0.1:{}", stage.requester_port);
        let text =
            stage.config(&tls).replace(&there, &format!("requesterAddr: https://localhost:{}", door.port));
        stage.write(&text);
    };
    configure(Some("registry"), Some("token"));
    let mut service = stage.run(&[]);
    says(&stage, &service, "registered", &[]).await;
    assert!(stage.granted()["a"] >= 1);
    service.terminate(SOON).await;

    for (certificate, token, words) in [
        (Some("registry"), None, &["Unauthenticated", "no token", "spec.requesterTokenSecretRef"][..]),
        (Some("registry"), Some("wrong"), &["Unauthenticated", "wrong token", "spec.requesterTokenFile"]),
        (None, Some("token"), &["client certificate demanded", "spec.tls.certFile"]),
        (Some("stranger"), Some("token"), &["does not accept the client certificate"]),
    ] {
        stage.registrar.clear_bindings();
        configure(certificate, token);
        let mut service = stage.run(&[]);
        let look = async || {
            let (state, text) = trunk(&stage).await?;
            let summary = stage.private("/summary").await?.to_string();
            let said = words.iter().all(|word| text.contains(word) || summary.contains(word));
            if state != "registered" && said { Ok(()) } else { Err(format!("{text} {summary}")) }
        };
        wait_for(look, SOON, &format!("{words:?}")).await;
        assert!(!service.output().contains(TOKEN) && !service.output().contains(NEXT_TOKEN));
        service.terminate(SOON).await;
    }
    // The next certificate of the Requester is used without a restart: one that this registry does not trust.
    let again = Authority::new();
    let other = TempDir::new().unwrap();
    again.sign(other.path(), "requester", "localhost");
    for name in ["requester.crt", "requester.key"] {
        fs::copy(other.path().join(name), folder.join(name)).unwrap();
    }
    configure(Some("registry"), Some("token"));
    let service = stage.run(&[]);
    let look = async || {
        let (_, text) = trunk(&stage).await?;
        let summary = stage.private("/summary").await?.to_string();
        let said = text.contains("unknown authority") || summary.contains("unknown authority");
        if said { Ok(()) } else { Err(format!("{text} {}", tail(&service.output()))) }
    };
    wait_for(look, SOON, "the new certificate to be shown").await;
}

#[tokio::test]
async fn denied_targets_are_not_sent_to_however_they_are_spelt() {
    let flags = [
        "--deny-target",
        "127.0.0.0/8,::1",
        "--deny-target",
        "192.0.2.0/24:22",
        "--allow-target",
        "127.0.0.9",
    ];
    let door = AccessOptions::open(&flags, &[]).await;
    let mut client = door.client().await;
    let (registrar, seen) = registrar().await;
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp_port = tcp.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let accepted = accepted.clone();
        async move {
            while tcp.accept().await.is_ok() {
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let mut targets = Vec::new();
    for (transport, port) in
        [(Transport::Udp, registrar), (Transport::Tcp, tcp_port), (Transport::Tls, tcp_port)]
    {
        for host in [
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::127.0.0.1]",
            "localhost",
        ] {
            targets.push((format!("{host}:{port}"), transport));
        }
    }
    for host in [
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "[fe80::1]:5060",
        "224.0.1.75:5060",
        "255.255.255.255:5060",
    ] {
        targets.push((host.to_owned(), Transport::Udp));
    }
    targets.push(("192.0.2.7:22".to_owned(), Transport::Tcp));
    for (target, transport) in targets {
        let response = client.send_message(register(&target, transport)).await.unwrap().into_inner();
        let (code, phrase) = outcome(response);
        assert_eq!(code, ResponseType::ServiceUnavailable, "{target}: {phrase}");
        // A machine without IPv6 has no route there in the first place.
        let refused = phrase.contains("is denied") && phrase.contains("--allow-target");
        assert!(refused || phrase.contains("no address of the family"), "{target}: {phrase}");
    }
    assert_eq!((seen.load(Ordering::Relaxed), accepted.load(Ordering::Relaxed)), (0, 0));

    // A name of another spelling is no address, and is not taken for one.
    for host in ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"] {
        let sent = client.send_message(register(&format!("{host}:{registrar}"), Transport::Udp)).await;
        if let Ok(response) = sent {
            assert_eq!(outcome(response.into_inner()).0, ResponseType::ServiceUnavailable, "{host}");
        }
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    let response = client.send_message(register(&format!("127.0.0.9:{registrar}"), Transport::Udp)).await;
    let phrase = outcome(response.unwrap().into_inner()).1;
    assert!(!phrase.contains("denied"), "the narrower rule allows it: {phrase}");
}

#[tokio::test]
async fn a_denied_edge_port_is_no_way_either() {
    let door = AccessOptions::open(&["--deny-target", "127.0.0.0/8", "--mode", "proxied"], &[]).await;
    let (edge, seen) = registrar().await;
    let mut request = register("192.0.2.1:5060", Transport::Udp);
    let mut route = Route { address: address("", "localhost"), ..Route::default() };
    let hop = route.address.as_mut().unwrap().uri.as_mut().unwrap();
    (hop.port, hop.lr_param) = (edge.into(), true);
    request.message.as_mut().unwrap().route = vec![route];
    let response = door.client().await.send_message(request).await.unwrap().into_inner();
    let (code, phrase) = outcome(response);
    assert_eq!(code, ResponseType::ServiceUnavailable);
    assert!(phrase.contains("is denied"), "{phrase}");
    assert_eq!(seen.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn identities_ways_and_methods_are_allowed_by_name_only() {
    let door = AccessOptions::open(&["--allow-method", "REGISTER", "--allow-header", "Privacy"], &[]).await;
    let mut client = door.client().await;
    let (registrar, seen) = registrar().await;
    let with = |name: &str, value: &str| {
        let mut request = register(&format!("127.0.0.1:{registrar}"), Transport::Udp);
        request.message.as_mut().unwrap().extensions.push(extension(name, value));
        request
    };
    for name in [
        "P-Asserted-Identity",
        "p-preferred-identity",
        "Remote-Party-ID",
        "Diversion",
        "Path",
        "P-Charging-Vector",
    ] {
        let status = client.send_message(with(name, "<sip:boss@example.com>")).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(status.message().contains(name) && status.message().contains("--allow-header"), "{status:?}");
    }
    for (name, value) in
        [("X-A", "a\r\nP-Asserted-Identity: b"), ("X-A\r\nVia", "b"), ("Privacy ", "id"), ("X-A", "a\n b")]
    {
        let status = client.send_message(with(name, value)).await.unwrap_err();
        assert!(
            matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied),
            "{name:?}: {status:?}"
        );
    }
    let mut other = with("X-A", "b");
    other.method = Method::Message.into();
    let status = client.send_message(other).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("--allow-method MESSAGE"), "{status:?}");
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    assert!(client.send_message(with("privacy", "id")).await.is_ok());
}

#[tokio::test]
async fn a_thousand_idle_targets_take_no_descriptors_from_the_next_one() {
    const OPEN_FILES: usize = 256;
    raise_limit();
    let folder = TempDir::new().unwrap();
    let port = ports::free();
    let mut command = process::command("sh");
    let program = env!("CARGO_BIN_EXE_routr-registry");
    let script = format!(
        "ulimit -n {OPEN_FILES}; exec {program} requester --listen 127.0.0.1:{port} --sip-bind 127.0.0.1"
    );
    command.args(["-c", &script]);
    let requester = Process::spawn("requester", command, &folder.path().join("output.log"));
    let connect = async || -> Result<Channel, tonic::transport::Error> {
        Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await
    };
    let channel = wait_for(connect, SOON, "the Requester to listen").await;
    let mut targets = Vec::new();
    for _ in 0..1_000 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        targets.push(listener.local_addr().unwrap().to_string());
        tokio::spawn(serve_tcp(listener));
    }
    // Some at a time, as a registry sends them.
    for some in targets.chunks(50) {
        let calls = some.iter().map(|target| {
            let mut client = RequesterClient::new(channel.clone());
            async move { client.send_message(register(target, Transport::Tcp)).await.unwrap().into_inner() }
        });
        for response in join_all(calls).await {
            assert_eq!(outcome(response), (ResponseType::Ok, "OK".to_owned()));
        }
    }
    let open = fs::read_dir(format!("/proc/{}/fd", requester.pid())).unwrap().count();
    assert!(open < OPEN_FILES * 3 / 4, "{open} descriptors are open");
    // Callers are heard, too, and names looked up.
    let channel = connect().await.unwrap();
    let (registrar, _) = registrar().await;
    for (target, transport) in
        [(format!("localhost:{registrar}"), Transport::Udp), (targets[0].clone(), Transport::Tcp)]
    {
        let sent = RequesterClient::new(channel.clone()).send_message(register(&target, transport)).await;
        assert_eq!(outcome(sent.unwrap().into_inner()).0, ResponseType::Ok, "{target}");
    }
}

#[tokio::test]
async fn idle_callers_lock_nobody_out() {
    const PLACES: usize = 16;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    let places = PLACES.to_string();
    let door =
        AccessOptions::open(&["--token-file", file.to_str().unwrap(), "--max-connections", &places], &[])
            .await;
    let (registrar, _) = registrar().await;
    let request = || with_token(register(&format!("127.0.0.1:{registrar}"), Transport::Udp), TOKEN);
    // One who has shown the token, and is idle for now.
    let mut known = door.client().await;
    known.send_message(request()).await.unwrap();

    let mut idle = Vec::new();
    for number in 0..10 * PLACES {
        let mut stream = TcpStream::connect(("127.0.0.1", door.port)).await.unwrap();
        // Nothing at all, the preface of HTTP/2, or the preface and SETTINGS.
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        };
        // It may have had to go for another one by now.
        let _ = stream.write_all(said).await;
        idle.push(stream);
    }
    // Those without a token who do call are no better.
    for _ in 0..PLACES {
        let refused = door.client().await.send_message(register("127.0.0.1:9", Transport::Udp)).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
    for _ in 0..3 {
        let mut client = door.client().await;
        client.send_message(request()).await.unwrap();
    }
    known.send_message(request()).await.unwrap();
    // No more than there are places for: the others were ended.
    let mut open = idle;
    let ended = async || {
        open.retain(|stream| {
            let mut buffer = [0; 256];
            loop {
                match stream.try_read(&mut buffer) {
                    Ok(0) => break false,
                    Ok(_) => {}
                    Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
                }
            }
        });
        if open.len() <= PLACES { Ok(()) } else { Err(format!("{} idle connections are open", open.len())) }
    };
    wait_for(ended, SOON, "the idle connections to be ended").await;
}

/// Takes connections and says nothing.
async fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, requests) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                while let Ok(1..) = stream.read(&mut [0; 4096]).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (address, requests)
}

#[tokio::test]
async fn connections_in_use_stay_and_idle_ones_are_closed() {
    let door = AccessOptions::open(&["--max-sip-connections", "1", "--sip-idle", "1"], &[]).await;
    let mut client = door.client().await;
    // It closes once the other side has, and says so.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap().to_string();
    let open = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let open = open.clone();
        async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                open.fetch_add(1, Ordering::Relaxed);
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let response = granted(&buffer[..length]).unwrap();
                    stream.write_all(response.as_bytes()).await.unwrap();
                }
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..2 {
        let response = client.send_message(register(&good, Transport::Tcp)).await.unwrap().into_inner();
        assert_eq!(outcome(response).0, ResponseType::Ok);
        let closed = async || open.load(Ordering::Relaxed) == 0;
        wait_until(closed, SOON, "the idle connection to be closed").await;
    }
    let (quiet, requests) = silent().await;
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move { client.send_message(register(&quiet, Transport::Tcp)).await }
    });
    wait_until(async || requests.load(Ordering::Relaxed) > 0, SOON, "the request to be sent").await;
    let response = client.send_message(register(&good, Transport::Tcp)).await.unwrap().into_inner();
    let (code, phrase) = outcome(response);
    assert_eq!(code, ResponseType::ServiceUnavailable);
    assert!(phrase.contains("--max-sip-connections"), "{phrase}");
    waiting.abort();
    let again = async || {
        let sent = client.send_message(register(&good, Transport::Tcp)).await.unwrap().into_inner();
        let (code, phrase) = outcome(sent);
        if code == ResponseType::Ok { Ok(()) } else { Err(phrase) }
    };
    wait_for(again, SOON, "the place to be free").await;
}
