//! Cases as a whole: every one that the program has, and each thing that a case can do, over real sockets.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    digest::{Verdict, answer},
    edge_port::EdgePortCounts,
    template::WORDS,
    wire::Wire,
    *,
};
use routr_types::secret::Secret;

const TIMEOUT: Duration = Duration::from_secs(120);

async fn play(case: &str) -> (Player, DropGuard) {
    let case = Case::parse(case).unwrap_or_else(|error| panic!("{error}\n{case}"));
    play_case(&case).await
}

async fn play_case(case: &Case) -> (Player, DropGuard) {
    let end = CancellationToken::new();
    let player = Player::start(case, PlayOptions::default(), end.clone()).await;
    (player.unwrap_or_else(|error| panic!("{}: {error}", case.name)), end.drop_guard())
}

fn embedded(name: &str) -> Case {
    Library::embedded().unwrap().find(name).unwrap().case.clone()
}

fn with(rules: &str) -> String {
    format!("name: X\nsummary: s\noutcome: o\n{rules}")
}

/// A REGISTER of a client at port 9.
fn register(cseq: u32, more: &str) -> String {
    format!(
        "REGISTER sip:field.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bK{cseq}\r\nFrom: <sip:u@field.test>;tag=f\r\n\
         To: <sip:u@field.test>\r\nCall-ID: c\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:u@127.0.0.1:9>\r\nExpires: 60\r\n{more}\
         Content-Length: 0\r\n\r\n"
    )
}

struct TestClient(UdpSocket);

impl TestClient {
    async fn to(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        Self(socket)
    }

    async fn send(&self, request: &str) {
        self.0.send(request.as_bytes()).await.unwrap();
    }

    async fn receive(&self) -> Wire {
        let mut buffer = vec![0; 65_536];
        let length = timeout(TIMEOUT, self.0.recv(&mut buffer)).await.unwrap().unwrap();
        Wire::datagram(&buffer[..length]).unwrap()
    }

    async fn ask(&self, request: &str) -> Wire {
        self.send(request).await;
        self.receive().await
    }
}

fn code(wire: &Wire) -> u16 {
    wire.response().unwrap().0
}

fn credentials(challenged: &Wire, name: &str, password: &str) -> String {
    let challenge = challenged.all(name).next().unwrap();
    let password = Secret::new(password);
    let value = answer(challenge, "u", &password, "REGISTER", "sip:field.test", "cnonce").unwrap();
    let header = if name == "WWW-Authenticate" { "Authorization" } else { "Proxy-Authorization" };
    format!("{header}: {}\r\n", String::from_utf8(value).unwrap())
}

#[tokio::test]
async fn every_case_of_the_program_starts() {
    let library = Library::embedded().unwrap();
    assert!(library.entries().len() > 60);
    for entry in library.entries() {
        let (player, _end) = play_case(&entry.case).await;
        assert!(player.address().ip().is_loopback());
        player.stop().await;
    }
    for row in ["R1", "R9", "D4", "D7", "N1", "N5", "N11", "F1", "F4", "W2", "W3", "W4"] {
        library.find(row).unwrap();
    }
    let error = library.find("r5").unwrap_err().to_string();
    assert!(error.contains("R5-no-colon"), "{error}");
    let error = library.find("R44").unwrap_err().to_string();
    assert!(error.contains("did you mean R4?"), "{error}");
}

#[test]
fn the_readme_names_every_placeholder() {
    let readme = include_str!("cases/README.md");
    for (word, meaning) in WORDS {
        assert!(readme.contains(&format!("| `{word}` | {meaning} |")), "{word}");
    }
}

#[test]
fn mistakes_in_a_case_are_named() {
    let mistakes = [
        ("rules: [{ respond: \"${vai}\" }]", "${via}"),
        ("rules: [{ when: { nod: a }, respond: x }]", "nod"),
        ("rules: [{ when: { node: a }, respond: x }]", "rules[0].when.node: \"a\" is none of registrar"),
        ("rules: [{ respond: \"${node.b}\" }]", "\"b\" is none of registrar"),
        ("rules: [{ when: { request: many }, respond: x }]", "many"),
        ("rules: [{ times: 1 }]", "rules[0]: does nothing"),
        ("rules: [{ then: [explode] }]", "explode"),
        ("rules: [{ then: [wait: 2] }]", "wait"),
        ("nodes: [{ name: a, count: 0 }]", "nodes[].count"),
        ("nodes: [{ name: a }, { name: a }]", "once"),
        (
            "rules: [{ when: { credentials: { r: right } }, respond: x }]",
            "realm \"r\" does not stand in `digest`",
        ),
        ("dns: { records: [{ name: a.test, type: XYZZY, data: [a] }] }", "dns.records[0].type"),
        ("dns: { records: [{ name: a.test, server: b, type: A }] }", "dns.records[0].server"),
    ];
    for (rules, named) in mistakes {
        let error = Case::parse(&with(rules)).map(drop).unwrap_err().to_string();
        assert!(error.contains(named), "{rules}: {error}");
    }
    assert!(
        Case::parse("name: a b\nsummary: s\noutcome: o").unwrap_err().to_string().contains("name: \"a b\"")
    );
    assert!(Case::parse("name: a\nsummary: s").unwrap_err().to_string().contains("outcome"));
}

#[tokio::test]
async fn cases_of_a_folder_are_read_and_bad_ones_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.yaml", &with(""));
    write("notes.txt", "not a case");
    assert_eq!(Library::folder(folder.path()).unwrap().find("x").unwrap().case.name, "X");
    write("b.yml", &with(""));
    let error = Library::folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("name of another case"), "{error}");
    write("b.yml", "name: [");
    let error = Library::folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("b.yml"), "{error}");
    let missing = Library::folder(&folder.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none"), "{missing}");
}

#[tokio::test]
async fn rules_count_requests_and_a_request_sent_again_gets_the_same_response() {
    let (player, _end) = play(&with(
        "rules:\n  - { when: { request: 1, sending: 1 }, then: [silence] }\n  - { when: { request: \"..2\" }, respond: \"SIP/2.0 503 No\" }\n",
    ))
    .await;
    let client = TestClient::to(player.address()).await;
    client.send(&register(1, "")).await;
    assert_eq!(code(&client.ask(&register(1, "")).await), 503, "after a silence the rules are asked again");
    let first = client.ask(&register(1, "")).await;
    assert_eq!(first, client.ask(&register(1, "")).await);
    assert_eq!(code(&client.ask(&register(2, "")).await), 503);
    let bound = client.ask(&register(3, "")).await;
    assert_eq!((code(&bound), bound.contacts()), (200, vec!["<sip:u@127.0.0.1:9>;expires=60".to_owned()]));
    let seen = player.seen();
    let counts: Vec<_> = seen.iter().map(|seen| (seen.cseq, seen.sendings, seen.codes.clone())).collect();
    assert_eq!(counts, [(1, 4, vec![503]), (2, 1, vec![503]), (3, 1, vec![200])]);
    assert_eq!(player.bindings()["u@field.test"].len(), 1);
    let removed = client.ask(&register(4, "").replace("Expires: 60", "Expires: 0")).await;
    assert_eq!((code(&removed), removed.contacts().len(), player.bindings().len()), (200, 0, 0));
}

#[tokio::test]
async fn each_node_has_nonces_of_its_own() {
    let (player, _end) = play_case(&embedded("D6")).await;
    let [a, b] = [player.node("a").unwrap(), player.node("b").unwrap()];
    assert_eq!((a.port(), a.ip() == b.ip()), (b.port(), false));
    let (a, b) = (TestClient::to(a).await, TestClient::to(b).await);
    let challenged = a.ask(&register(1, "")).await;
    let right = credentials(&challenged, "WWW-Authenticate", "field-password");
    assert_eq!(code(&b.ask(&register(2, &right)).await), 401);
    assert_eq!(code(&a.ask(&register(3, &right)).await), 200);
    assert_eq!(code(&a.ask(&register(4, &right)).await), 401, "nc does not rise");
    let challenged = a.ask(&register(5, "")).await;
    let wrong = credentials(&challenged, "WWW-Authenticate", "other");
    assert_eq!(code(&a.ask(&register(6, &wrong)).await), 401);
    let verdicts: Vec<_> = player.seen().iter().map(|seen| seen.verdict()).collect();
    use Verdict::{Foreign, None, Replayed, Right, Wrong};
    assert_eq!(verdicts, [None, Foreign, Right, Replayed, None, Wrong]);
    assert!(!player.dialogue().contains("field-password"));
}

#[tokio::test]
async fn answers_to_several_realms_are_told_apart() {
    // Without qop there is no nc that would have to rise.
    let text = Library::embedded().unwrap().find("D5").unwrap().text.replace(", qop=\"auth\"", "");
    let (player, _end) = play(&text).await;
    let client = TestClient::to(player.address()).await;
    let (mut all, mut codes) = (String::new(), Vec::new());
    for cseq in 1..=4 {
        let response = client.ask(&register(cseq, &all)).await;
        codes.push(code(&response));
        match code(&response) {
            407 => all.push_str(&credentials(&response, "Proxy-Authenticate", "field-password")),
            401 => all.push_str(&credentials(&response, "WWW-Authenticate", "field-password")),
            _ => {}
        }
    }
    assert_eq!(codes, [407, 407, 401, 200]);
    assert!(player.seen().iter().all(|seen| seen.credentials.len() == 3));
}

#[tokio::test]
async fn connections_are_closed_reset_muted_and_halved() {
    let (player, _end) = play(&with(
        "transports: [tcp]\nrules:\n  - { when: { connection: 1 }, then: [half: SIP/2.0 200 OK, rest, close] }\n  \
         - { when: { connection: 2 }, then: [half: SIP/2.0 200 OK, reset] }\n  \
         - { when: { connection: 3, onConnection: 1 }, then: [respond: SIP/2.0 200 OK, mute] }\n",
    ))
    .await;
    let ask = async |cseq| {
        let mut stream = TcpStream::connect(player.address()).await.unwrap();
        stream.write_all(register(cseq, "").as_bytes()).await.unwrap();
        stream
    };
    let mut all = Vec::new();
    timeout(TIMEOUT, ask(1).await.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(code(&Wire::take(&mut all).unwrap().unwrap()), 200);
    let mut half = Vec::new();
    assert!(timeout(TIMEOUT, ask(2).await.read_to_end(&mut half)).await.unwrap().is_err(), "reset");
    let mut mute = ask(3).await;
    let mut buffer = [0; 4096];
    assert!(timeout(TIMEOUT, mute.read(&mut buffer)).await.unwrap().unwrap() > 0);
    mute.write_all(register(4, "").as_bytes()).await.unwrap();
    let passed_over = async {
        while !player.dialogue().contains("passed over") {
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, passed_over).await.unwrap();
    assert_eq!(player.seen().iter().filter(|seen| seen.connection == Some(3)).count(), 1);
    player.stop().await;
    assert!(TcpStream::connect(player.address()).await.is_err());
}

#[tokio::test]
async fn a_client_is_asked_and_its_responses_are_kept() {
    let (player, _end) = play_case(&embedded("N10")).await;
    let client = TestClient::to(player.address()).await;
    assert_eq!(code(&client.ask(&register(1, "")).await), 200);
    let options = client.receive().await;
    assert_eq!(options.request().unwrap().0, "OPTIONS");
    let mut response = options;
    response.start = b"SIP/2.0 200 OK".to_vec();
    client.0.send(&response.bytes()).await.unwrap();
    assert_eq!(client.receive().await.request().unwrap().0, "INVITE");
    let kept = async {
        while player.received().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, kept).await.unwrap();
    assert_eq!((player.received()[0].code, player.received()[0].method.as_str()), (200, "OPTIONS"));
}

fn resolver(servers: &[SocketAddr]) -> TokioResolver {
    let config = |address: &SocketAddr| {
        let mut config = NameServerConfig::udp_and_tcp(address.ip());
        config.connections.iter_mut().for_each(|connection| connection.port = address.port());
        config
    };
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(config).collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().timeout = Duration::from_millis(500);
    builder.options_mut().attempts = 1;
    builder.build().unwrap()
}

#[tokio::test]
async fn name_servers_hand_out_records_of_all_kinds() {
    let (player, _end) = play_case(&embedded("N1")).await;
    let resolver = resolver(&[player.name_servers()[0].1]);
    let naptr = resolver.lookup("n1.field.test.", hickory_proto::rr::RecordType::NAPTR).await.unwrap();
    assert!(naptr.answers().iter().any(|record| record.to_string().contains("SIP+D2U")), "{naptr:?}");
    let srv = resolver.srv_lookup("_sip._udp.n1.field.test.").await.unwrap();
    let port = player.node("first").unwrap().port();
    assert!(srv.answers().iter().any(|record| record.to_string().contains(&port.to_string())), "{srv:?}");
    assert!(resolver.lookup_ip("second.n1.field.test.").await.is_ok());
    assert!(resolver.lookup_ip("n1.field.test.").await.is_err(), "no address records");
    let error = resolver.lookup_ip("other.test.").await.unwrap_err();
    assert!(error.is_nx_domain(), "{error}");
    assert!(player.queries().iter().any(|query| query.kind == "NAPTR" && query.response.is_some()));
}

#[tokio::test]
async fn name_servers_rotate_truncate_refuse_and_are_silent() {
    let (player, _end) = play_case(&embedded("D6")).await;
    let mut first = Vec::new();
    for _ in 0..4 {
        let found = resolver(&[player.name_servers()[0].1]).lookup_ip("d6.field.test.").await.unwrap();
        first.push(found.iter().next().unwrap());
    }
    assert!(first.iter().any(|ip| *ip != first[0]), "{first:?}");

    let (player, _end) = play_case(&embedded("N4-truncated")).await;
    assert!(resolver(&[player.name_servers()[0].1]).lookup_ip("n4.field.test.").await.is_ok());
    assert!(player.queries().iter().any(|query| query.over == Over::Tcp));

    for case in ["N4-refused", "N3"] {
        let (player, _end) = play_case(&embedded(case)).await;
        let name = if case == "N3" { "n3.field.test." } else { "n4.field.test." };
        let [broken, good] = [0, 1].map(|at| player.name_servers()[at].1);
        assert!(resolver(&[broken]).lookup_ip(name).await.is_err(), "{case}");
        assert!(resolver(&[good]).lookup_ip(name).await.is_ok(), "{case}");
    }
}

#[tokio::test]
async fn an_edge_port_answers_challenges_and_loops_on_a_wrong_password() {
    let (player, _end) = play(&with(
        "digest: [{ realm: r, algorithm: MD5, qop: auth }]\nedgePorts:\n  - { name: good, wrongPassword: passOn }\n  \
         - { name: routr, pace: 1ms, limit: 20 }\n",
    ))
    .await;
    let edges: Vec<SocketAddr> = player.edge_ports().iter().map(|(_, address, _)| *address).collect();
    let through = |cseq, password: &str| {
        use base64::Engine as _;
        let auth = base64::prelude::BASE64_STANDARD.encode(format!("u:{password}"));
        let request = register(cseq, &format!("X-Gateway-Auth: {auth}\r\nRoute: <sip:127.0.0.1;lr>\r\n"));
        request.replace("REGISTER sip:field.test", &format!("REGISTER sip:{}", player.address()))
    };
    let good = TestClient::to(edges[0]).await;
    let bound = good.ask(&through(1, "field-password")).await;
    assert_eq!((code(&bound), bound.cseq().unwrap().0, bound.all("Via").count()), (200, 1, 1));
    assert_eq!(code(&good.ask(&through(11, "wrong")).await), 401);
    let routr = TestClient::to(edges[1]).await;
    routr.send(&through(21, "wrong")).await;
    let counts = |at: usize| player.edge_ports()[at].2;
    let looped = async {
        while counts(1).offers < 20 || !player.dialogue().contains("limit") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(TIMEOUT, looped).await.unwrap();
    assert_eq!(counts(1), EdgePortCounts { requests: 1, offers: 20 });
    assert_eq!(counts(0), EdgePortCounts { requests: 2, offers: 2 });
    assert!(player.seen().iter().all(|seen| !seen.gateway_auth));
}

#[tokio::test]
async fn a_closed_node_refuses() {
    let (player, _end) = play_case(&embedded("W4")).await;
    assert!(TcpStream::connect(player.address()).await.is_err());
    let client = TestClient::to(player.address()).await;
    client.send("x").await;
    let mut buffer = [0; 10];
    assert!(timeout(TIMEOUT, client.0.recv(&mut buffer)).await.unwrap().is_err(), "ICMP");
}
