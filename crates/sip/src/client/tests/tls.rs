//! Texts of TLS failures, the reason first and whole.

use rcgen::{DnType, date_time_ymd};
use rustls::server::WebPkiClientVerifier;

use super::*;

/// Sends one request to a server that shows that certificate, by that host name; the cause of the failure.
async fn cause_with(config: ServerConfig, tls: Arc<ClientConfig>, host: &str) -> String {
    let (listener, address) = listen().await;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
                }
            });
        }
    });
    let cause = cause(address, tls, host).await;
    serving.abort();
    cause
}

async fn cause(address: SocketAddr, tls: Arc<ClientConfig>, host: &str) -> String {
    let options = ClientOptions {
        tls: Some(Arc::new(SipTls::fixed(tls))),
        timers: quick(),
        ..ClientOptions::default()
    };
    let client = Client::start(options).unwrap();
    let to = Destination { host: host.into(), port: Some(address.port()), transport: Transport::Tls };
    match within(client.send(register(1), &to)).await.unwrap_err() {
        ClientError::Tls(text) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn over_tls_the_certificate_must_name_the_host() {
    let server = Server::start(Transport::Tls, Timers::default()).await;
    let client = server.client();
    let outcomes = async {
        for number in 0..2 {
            assert_eq!(within(client.send(register(number), &server.to)).await.unwrap().0.code, 200);
        }
    };
    tokio::select! {
        () = outcomes => (),
        () = server.serve() => panic!("closed"),
    }
}

#[tokio::test]
async fn n6_a_wrong_name() {
    let authority = authority();
    let expected = [
        (params(["sip.other.example"]), "certificate is for sip.other.example, not localhost"),
        (params(["127.0.0.9", "*.a.example"]), "certificate is for 127.0.0.9, *.a.example, not localhost"),
        (
            params(["a.example", "b.example", "c.example", "d.example", "e.example"]),
            "certificate is for a.example, b.example, c.example, 2 more, not localhost",
        ),
        (params([]), "certificate is for no name at all (it has no subjectAltName), not localhost"),
    ];
    for (params, expected) in expected {
        let cause = cause_with(serving(&authority, params), trusting(&authority), "localhost").await;
        assert!(cause.starts_with(&format!("{expected}, at 127.0.0.1:")), "{cause}");
    }
    let cause =
        cause_with(serving(&authority, params(["localhost"])), trusting(&authority), "127.0.0.1").await;
    assert_eq!(cause, "certificate is for localhost, not 127.0.0.1");
}

#[tokio::test]
async fn n6_an_unknown_issuer() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "another authority");
    let other = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    // One of its own name, and one that has only the name of a trusted one.
    for (issuer, expected) in [
        (other, "certificate is signed by an unknown authority, or by itself"),
        (authority(), "certificate is signed by an unknown authority, with the name of a trusted one"),
    ] {
        let config = serving(&issuer, self::params(["localhost"]));
        let cause = cause_with(config, trusting(&authority()), "localhost").await;
        assert!(cause.starts_with(expected), "{cause}");
    }
}

#[tokio::test]
async fn n6_a_certificate_out_of_its_time() {
    let authority = authority();
    let mut expired = params(["localhost"]);
    (expired.not_before, expired.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 3, 4));
    let cause = cause_with(serving(&authority, expired), trusting(&authority), "localhost").await;
    assert!(cause.starts_with("certificate expired on 2002-03-04 00:00:00 UTC; here it is 20"), "{cause}");

    let mut early = params(["localhost"]);
    (early.not_before, early.not_after) = (date_time_ymd(2200, 1, 2), date_time_ymd(2201, 1, 1));
    let cause = cause_with(serving(&authority, early), trusting(&authority), "localhost").await;
    let expected = "certificate is not valid before 2200-01-02 00:00:00 UTC; here it is 20";
    assert!(cause.starts_with(expected), "{cause}");
}

#[tokio::test]
async fn n6_a_self_signed_certificate() {
    for ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let key = KeyPair::generate().unwrap();
        let mut params = params(["localhost"]);
        params.distinguished_name.push(DnType::CommonName, "itself");
        params.is_ca = ca;
        let certificate = params.self_signed(&key).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let cause = cause_with(config, trusting(&authority()), "localhost").await;
        assert!(cause.starts_with("certificate is ") && cause.contains("self"), "{cause}");
    }
}

#[tokio::test]
async fn n6_a_client_certificate_is_demanded() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let authority = authority();
        let mut roots = RootCertStore::empty();
        roots.add(authority.as_ref().der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params(["localhost"]).signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let cause = cause_with(config, trusting(&authority), "localhost").await;
        assert!(cause.starts_with("client certificate demanded, and none is set up"), "{cause}");
    }
}

#[tokio::test]
async fn n6_no_version_or_cipher_in_common() {
    let authority = authority();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.version() == &rustls::version::TLS12);
    let config = serving(&authority, params(["localhost"]));
    let resolver = config.cert_resolver.clone();
    let only_old = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let mut tls = ClientConfig::builder_with_provider(self::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    tls.enable_early_data = false;
    let cause = cause_with(only_old, Arc::new(tls), "localhost").await;
    assert!(cause.starts_with("no TLS version in common"), "{cause}");
}

#[tokio::test]
async fn n6_a_peer_that_speaks_no_tls() {
    for banner in
        [&b"SIP/2.0 400 Bad Request\r\n\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail\r\n"]
    {
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(banner).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let cause = cause(address, trusting(&authority()), "localhost").await;
        assert!(cause.starts_with("the peer does not speak TLS on this port"), "{cause}");
    }
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 16]).await;
    });
    let cause = cause(address, trusting(&authority()), "localhost").await;
    assert!(cause.starts_with("TLS handshake ended: ") && cause.contains("speak TLS"), "{cause}");
}

#[tokio::test]
async fn n6_a_host_that_no_certificate_can_name() {
    let (_listener, address) = listen().await;
    let names = crate::client::resolve::Names::with_hosts("127.0.0.1 a-.example\n").unwrap();
    let options = ClientOptions {
        tls: Some(Arc::new(SipTls::fixed(trusting(&authority())))),
        ..ClientOptions::default()
    };
    let client = Client::start_with(options, names).unwrap();
    let to = Destination { host: "a-.example".into(), port: Some(address.port()), transport: Transport::Tls };
    let error = within(client.send(register(1), &to)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Tls(text) if text.contains("a-.example")), "{error:?}");
}
