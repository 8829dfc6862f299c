//! Calls that arrive: an INVITE that a real Kamailio sends to the Contact of a REGISTER gets to a listener in
//! the
//! EdgePort's place.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{
    ServerConfig, crypto,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::field::harness::{Chain, PASSWORD, Setup, trunk};
use crate::support::kamailio::{Kamailio, Options, User};
use crate::support::ports;
use crate::support::wait::{PATIENCE, wait_for, wait_until};

/// A certificate for 127.0.0.1, which Kamailio and the listener show, and who trusts it.
struct Identity {
    certificate: String,
    key: CertifiedKey<rcgen::KeyPair>,
}

impl Identity {
    fn new() -> Self {
        let key = generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        Self { certificate: key.cert.pem(), key }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.signing_key.serialize_der()));
        let chain: Vec<CertificateDer<'static>> = vec![self.key.cert.der().clone()];
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A listener in the place of an EdgePort: over UDP and TCP at one port, over TLS at another. REGISTERs it
/// hands on to Kamailio, as an EdgePort does, without credentials; what else comes it keeps.
struct EdgePort {
    port: u16,
    tls_port: u16,
    calls: Arc<Mutex<Vec<(&'static str, String)>>>,
    _tasks: JoinSet<()>,
}

impl EdgePort {
    async fn start(identity: &Identity, registrar: SocketAddr) -> Self {
        let (port, tls_port) = (ports::free(), ports::free());
        let mut tasks = JoinSet::new();
        let calls = Arc::<Mutex<Vec<_>>>::default();
        let socket = Arc::new(UdpSocket::bind(("127.0.0.1", port)).await.unwrap());
        let kept = calls.clone();
        tasks.spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if let Some(response) = answer("udp", &text, registrar, &kept).await {
                    socket.send_to(response.as_bytes(), from).await.unwrap();
                }
            }
        });
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let kept = calls.clone();
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse("tcp", stream, registrar, kept.clone()));
            }
        });
        let listener = TcpListener::bind(("127.0.0.1", tls_port)).await.unwrap();
        let (acceptor, kept) = (identity.acceptor(), calls.clone());
        tasks.spawn(async move {
            loop {
                let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(converse("tls", stream, registrar, kept.clone()));
                }
            }
        });
        Self { port, tls_port, calls, _tasks: tasks }
    }

    /// Waits for the INVITE to a user, and returns the transport that it came by, and its text.
    async fn call_to(&self, user: &str) -> (&'static str, String) {
        let probe = async || {
            let calls = self.calls.lock().unwrap();
            let to = format!("INVITE sip:{user}@");
            let secure = format!("INVITE sips:{user}@");
            let found = calls.iter().find(|(_, text)| text.starts_with(&to) || text.starts_with(&secure));
            found.cloned().ok_or_else(|| format!("{calls:?}"))
        };
        wait_for(probe, PATIENCE, "the call to arrive").await
    }
}

async fn converse(
    over: &'static str,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    registrar: SocketAddr,
    calls: Arc<Mutex<Vec<(&'static str, String)>>>,
) {
    let (mut buffer, mut text) = (vec![0; 65_536], String::new());
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        // None of these has a body.
        while let Some(end) = text.find("\r\n\r\n") {
            let message: String = text.drain(..end + 4).collect();
            if let Some(response) = answer(over, &message, registrar, &calls).await
                && stream.write_all(response.as_bytes()).await.is_err()
            {
                return;
            }
        }
    }
}

/// Hands a REGISTER on, with a Via of its own, and the response back; keeps everything else.
async fn answer(
    over: &'static str,
    text: &str,
    registrar: SocketAddr,
    calls: &Mutex<Vec<(&'static str, String)>>,
) -> Option<String> {
    if !text.starts_with("REGISTER ") {
        calls.lock().unwrap().push((over, text.to_owned()));
        return None;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let via = format!(
        "Via: SIP/2.0/UDP {};rport;branch=z9hG4bKedge{}\r\n",
        socket.local_addr().unwrap(),
        socket.local_addr().unwrap().port()
    );
    let (first, rest) = text.split_once("\r\n").unwrap();
    let kept =
        rest.split_inclusive("\r\n").filter(|line| !line.starts_with("Route:") && !line.starts_with("X-"));
    let forwarded = format!("{first}\r\n{via}{}", kept.collect::<String>());
    socket.send_to(forwarded.as_bytes(), registrar).await.unwrap();
    let mut buffer = vec![0; 65_536];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.ok()?.unwrap();
    let response = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let (status, rest) = response.split_once("\r\n").unwrap();
    let own = rest.split_inclusive("\r\n").filter(|line| !line.contains("z9hG4bKedge"));
    Some(format!("{status}\r\n{}", own.collect::<String>()))
}

/// Calls a user at the registrar.
async fn invite(kamailio: &Kamailio, user: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let local = socket.local_addr().unwrap();
    let request = format!(
        "INVITE sip:{user}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{user}{}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@test>;tag=1\r\nTo: <sip:{user}@127.0.0.1>\r\n\
         Call-ID: call-to-{user}-{}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@{local}>\r\nContent-Length: 0\r\n\r\n",
        local.port(),
        local.port()
    );
    socket.send_to(request.as_bytes(), ("127.0.0.1", kamailio.udp_port())).await.unwrap();
}

async fn calls_arrive(mode: &str, nat: bool) {
    let identity = Identity::new();
    let users = ["udp", "tcp", "tls"].map(|user| User::new(user, PASSWORD));
    let tls = Some((identity.certificate.clone(), identity.key.signing_key.serialize_pem()));
    let open = mode == "proxied";
    let kamailio = Kamailio::start(Options { open, nat, tls, ..Options::with_users(users) }).await;
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let edge = EdgePort::start(&identity, local(kamailio.udp_port())).await;
    let dir = TempDir::new().unwrap();
    let authority = dir.path().join("ca.pem");
    fs::write(&authority, &identity.certificate).unwrap();
    let at = |user: &str| match (mode, user) {
        ("direct", "tls") => kamailio.tls_port(),
        _ => kamailio.udp_port(),
    };
    for (over, trunks) in [("udp and tcp", &["udp", "tcp"][..]), ("tls", &["tls"])] {
        // The EdgePort of TLS trunks is named by its port of TLS, as a Route has but one.
        let address = match (mode, over) {
            ("direct", _) => "10.0.0.1:5060".to_owned(),
            (_, "tls") => format!("127.0.0.1:{}", edge.tls_port),
            _ => format!("127.0.0.1:{}", edge.port),
        };
        let (public, tls) = (edge.port, edge.tls_port);
        let edge_ports = format!(
            "[{{ address: \"{address}\", publicAddress: \"127.0.0.1:{public}\", publicTlsAddress: \"127.0.0.1:{tls}\" }}]"
        );
        let requester = ["--mode", mode, "--ca-file", authority.to_str().unwrap()].map(str::to_owned).into();
        let list = trunks.iter().map(|user| trunk(user, user, local(at(user)), user)).collect();
        let chain = Chain::with(list, Setup { edge_ports, requester, ..Setup::default() }).await;
        chain.all_registered(trunks.len(), PATIENCE).await;
        for user in trunks {
            invite(&kamailio, user).await;
            let (by, text) = edge.call_to(user).await;
            assert_eq!(by, *user, "{mode}, nathelper {nat}: {text}");
            let port = if *user == "tls" { edge.tls_port } else { edge.port };
            assert!(text.lines().next().unwrap().contains(&format!("@127.0.0.1:{port}")), "{text}");
        }
    }
}

#[tokio::test]
async fn calls_arrive_over_udp_tcp_and_tls_in_direct_mode() {
    calls_arrive("direct", false).await;
}

#[tokio::test]
async fn calls_arrive_over_udp_tcp_and_tls_in_proxied_mode() {
    calls_arrive("proxied", false).await;
}

#[tokio::test]
async fn calls_arrive_through_a_registrar_with_rules_for_nat() {
    calls_arrive("direct", true).await;
}

/// The binding with the Contact of before is removed when the public address changes.
#[tokio::test]
async fn another_public_address_is_registered_soon() {
    let kamailio = Kamailio::start(Options::with_users([User::new("alice", PASSWORD)])).await;
    let at = SocketAddr::from(([127, 0, 0, 1], kamailio.udp_port()));
    let setup = |public: &str| Setup {
        edge_ports: format!("[{{ address: \"10.0.0.1:5060\", publicAddress: \"{public}\" }}]"),
        // Soon is a quarter of what is left.
        more: "  registration: { ratePerRegistrar: unlimited, expires: 40s }\n".to_owned(),
        ..Setup::default()
    };
    let mut chain = Chain::with(vec![trunk("alice", "alice", at, "UDP")], setup("sip.example.com")).await;
    chain.registered("alice").await;
    let contact = async |host: &str| {
        let bindings = kamailio.bindings().await;
        bindings.iter().any(|binding| binding.contact.contains(host))
    };
    assert!(contact("alice@sip.example.com:5060").await, "{:?}", kamailio.bindings().await);
    chain.reconfigure(setup("203.0.113.5:5070"));
    wait_until(async || contact("alice@203.0.113.5:5070").await, PATIENCE, "the new Contact").await;
}
