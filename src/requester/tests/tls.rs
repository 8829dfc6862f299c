//! TLS to the registrar, and the server as the subcommand runs it.

use std::{sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    super::{Mode, serve, sip_tls},
    peer::Peer,
    setup::*,
};
use crate::proto::{
    common::Transport,
    requester::{SendMessageRequest, requester_client::RequesterClient},
    sipmessage::{ResponseType, SipMessage},
};
use routr_net::tls::{SipTls, TlsFiles, followed::ClientCertificate, sip::DomainAuthorities};

/// Time for what must happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// A certificate for 127.0.0.1 that vouches for itself: the PEM, and a server that shows it.
fn certificate() -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// A server's side for 127.0.0.1, and a client's side that trusts it.
pub fn trusted() -> (TlsAcceptor, Arc<SipTls>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let (pem, acceptor) = certificate();
    std::fs::write(&file, pem).unwrap();
    (acceptor, sip_tls(trusting(&file), &[]).unwrap())
}

fn trusting(file: &std::path::Path) -> TlsFiles {
    TlsFiles { authorities: Some(file.to_owned()), certificate: None }
}

fn over_tls(peer: &Peer) -> SendMessageRequest {
    let mut request = register(&peer.address.to_string());
    request.transport = Transport::Tls.into();
    request
}

#[tokio::test]
async fn the_authorities_of_the_file_are_trusted_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let (pem, acceptor) = certificate();
    std::fs::write(&file, pem).unwrap();
    let peer = Peer::stream(Some(acceptor), |raw, _| vec![raw.ok()]).await;
    let mut options = options(Mode::Direct);
    options.tls = Some(sip_tls(trusting(&file), &[]).unwrap());
    let reply = start_with(options.clone(), Default::default()).await.send(over_tls(&peer)).await;
    assert_eq!(response_type(&reply), ResponseType::Ok, "{reply:?}");
    assert!(peer.requests()[0].header("Via").starts_with("SIP/2.0/TLS "));

    let (_, other) = certificate();
    let stranger = Peer::stream(Some(other), |raw, _| vec![raw.ok()]).await;
    let reply = start_with(options, Default::default()).await.send(over_tls(&stranger)).await;
    assert_eq!(response_type(&reply), ResponseType::ServiceUnavailable);
    assert_eq!(extensions(&reply, "X-Routr-Local"), ["tls-error;at=registrar"]);
    let phrase = &reply.reason_phrase;
    assert!(phrase.starts_with("certificate is signed by an unknown authority"), "{phrase}");
    assert!(phrase.ends_with(&format!("(registrar {}, TLS)", stranger.address)), "{phrase}");
    assert_eq!(stranger.received(), 0);
}

/// An authority, the names of a server, and the authority of clients, where it asks for their certificates.
fn serving(authority: &Authority, names: Vec<SanType>, clients: Option<&Authority>) -> TlsAcceptor {
    let (certificate, key) = signed(authority, names);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(clients.as_ref().der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = config.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(authority: &Authority, names: Vec<SanType>) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// Sends to a host of the hosts file, over TLS.
async fn to(service: &Service, host: &str, peer: &Peer) -> SipMessage {
    let mut request = over_tls(peer);
    request.target = format!("{host}:{}", peer.address.port());
    service.send(request).await
}

/// Sends until the response says 200.
async fn until_ok(service: &Service, host: &str, peer: &Peer) {
    let sent = async || {
        let reply = to(service, host, peer).await;
        let ok = response_type(&reply) == ResponseType::Ok;
        if ok { Ok(()) } else { Err(reply.reason_phrase) }
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(phrase) = sent().await {
        assert!(tokio::time::Instant::now() < deadline, "{phrase}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn n8_a_client_certificate_is_shown_and_replaced_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = ["ca.pem", "tls.crt", "tls.key"].map(|name| directory.path().join(name));
    let (servers, clients, others) = (authority("servers"), authority("clients"), authority("others"));
    let acceptor = serving(&servers, vec![dns("registrar.example")], Some(&clients));
    let peer = Peer::stream(Some(acceptor), |raw, _| vec![raw.ok()]).await;
    std::fs::write(&ca, servers.as_ref().pem()).unwrap();
    let put = |issuer: &Authority| {
        let (made, its_key) = signed(issuer, vec![dns("client.example")]);
        std::fs::write(&certificate, made.pem()).unwrap();
        std::fs::write(&key, its_key.serialize_pem()).unwrap();
    };
    let hosts = "127.0.0.1 registrar.example\n";

    let mut without = options(Mode::Direct);
    without.tls = Some(sip_tls(trusting(&ca), &[]).unwrap());
    let phrase = to(&start_with_hosts(without, hosts).await, "registrar.example", &peer).await.reason_phrase;
    assert!(phrase.starts_with("client certificate demanded, and none is set up"), "{phrase}");
    assert!(phrase.contains("--sip-tls-cert and --sip-tls-key"), "{phrase}");

    put(&others);
    let pair = ClientCertificate { certificate: certificate.clone(), key: key.clone() };
    let mut options = options(Mode::Direct);
    let files = TlsFiles { certificate: Some(pair), ..trusting(&ca) };
    options.tls = Some(sip_tls(files, &[]).unwrap());
    let service = start_with_hosts(options, hosts).await;
    let phrase = to(&service, "registrar.example", &peer).await.reason_phrase;
    assert!(phrase.contains("client certificate"), "{phrase}");
    assert_eq!(peer.received(), 0);
    put(&clients);
    until_ok(&service, "registrar.example", &peer).await;
}

#[tokio::test]
async fn n8_the_authorities_are_replaced_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    let (old, new) = (authority("old"), authority("new"));
    let acceptor = serving(&new, vec![dns("registrar.example")], None);
    let peer = Peer::stream(Some(acceptor), |raw, _| vec![raw.ok()]).await;
    std::fs::write(&ca, old.as_ref().pem()).unwrap();
    let mut options = options(Mode::Direct);
    options.tls = Some(sip_tls(trusting(&ca), &[]).unwrap());
    let service = start_with_hosts(options, "127.0.0.1 registrar.example\n").await;
    let phrase = to(&service, "registrar.example", &peer).await.reason_phrase;
    assert!(phrase.starts_with("certificate is signed by an unknown authority"), "{phrase}");
    assert!(phrase.contains("--ca-file, or by --sip-tls-ca"), "{phrase}");
    std::fs::write(&ca, new.as_ref().pem()).unwrap();
    until_ok(&service, "registrar.example", &peer).await;
}

#[tokio::test]
async fn n8_the_authority_of_one_domain_is_trusted_for_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let [common, own] = ["common.pem", "own.pem"].map(|name| directory.path().join(name));
    let (public, private) = (authority("public"), authority("private"));
    std::fs::write(&common, public.as_ref().pem()).unwrap();
    std::fs::write(&own, private.as_ref().pem()).unwrap();
    let names = || vec![dns("one.example"), dns("two.example")];
    let by = |issuer: &Authority| serving(issuer, names(), None);
    let peer = async |acceptor| Peer::stream(Some(acceptor), |raw, _| vec![raw.ok()]).await;
    let (publicly, privately) = (peer(by(&public)).await, peer(by(&private)).await);
    let mut options = options(Mode::Direct);
    let domains = [DomainAuthorities { domain: "one.example".to_owned(), file: own }];
    options.tls = Some(sip_tls(trusting(&common), &domains).unwrap());
    let service = start_with_hosts(options, "127.0.0.1 one.example two.example\n").await;
    for (host, peer, trusted) in [
        ("one.example", &privately, true),
        ("two.example", &privately, false),
        ("two.example", &publicly, true),
        ("one.example", &publicly, false),
    ] {
        let reply = to(&service, host, peer).await;
        let expected = if trusted { ResponseType::Ok } else { ResponseType::ServiceUnavailable };
        assert_eq!(response_type(&reply), expected, "{host}: {reply:?}");
        let unknown = reply.reason_phrase.starts_with("certificate is signed by an unknown authority");
        assert_eq!(unknown, !trusted, "{host}: {}", reply.reason_phrase);
    }
}

#[tokio::test]
async fn n6_a_sip_uri_in_the_certificate_names_a_domain_as_rfc_5922_says() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    let issuer = authority("issuer");
    std::fs::write(&ca, issuer.as_ref().pem()).unwrap();
    let mut options = options(Mode::Direct);
    options.tls = Some(sip_tls(trusting(&ca), &[]).unwrap());
    let hosts = "127.0.0.1 example.com sip.example.com\n";
    let service = start_with_hosts(options, hosts).await;
    let cases: [(Vec<SanType>, &str, Option<&str>); 9] = [
        (vec![uri("sip:example.com")], "example.com", None),
        (vec![uri("SIP:EXAMPLE.com;transport=tls")], "example.com", None),
        (vec![uri("sip:other.test"), uri("sip:example.com")], "example.com", None),
        // No SIP domain among them: the DNS names count as ever.
        (vec![uri("sips:other.test"), uri("sip:a@other.test"), dns("example.com")], "example.com", None),
        (vec![uri("https://other.test/"), dns("*.example.com")], "sip.example.com", None),
        (
            vec![uri("sip:example.com")],
            "sip.example.com",
            Some("certificate is for sip:example.com, not sip.example.com"),
        ),
        (
            vec![uri("sip:alice@example.com")],
            "example.com",
            Some("certificate is for sip:alice@example.com, not example.com"),
        ),
        (
            vec![uri("sip:other.test"), dns("example.com")],
            "example.com",
            Some(
                "certificate is for sip:other.test, not example.com; its DNS names do not count beside a sip: URI",
            ),
        ),
        (
            vec![uri("sip:*.example.com"), dns("a.test")],
            "sip.example.com",
            Some("certificate is for sip:*.example.com, a.test, not sip.example.com"),
        ),
    ];
    for (names, host, refused) in cases {
        let peer = Peer::stream(Some(serving(&issuer, names, None)), |raw, _| vec![raw.ok()]).await;
        let reply = to(&service, host, &peer).await;
        match refused {
            None => assert_eq!(response_type(&reply), ResponseType::Ok, "{reply:?}"),
            Some(cause) => assert!(reply.reason_phrase.starts_with(cause), "{}", reply.reason_phrase),
        }
    }
}

#[tokio::test]
async fn the_server_stops_when_told_also_with_a_call_under_way() {
    let silent = Peer::udp(|_, _| Vec::<String>::new()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let mut options = options(Mode::Direct);
    options.grace = Duration::from_millis(100);
    let server = tokio::spawn(serve(listener, options, shutdown.clone()));
    let mut client = RequesterClient::connect(format!("http://{address}")).await.unwrap();
    let target = silent.address.to_string();
    let call = tokio::spawn(async move { client.send_message(register(&target)).await });
    silent.wait_for(1).await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap().unwrap();
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
}
