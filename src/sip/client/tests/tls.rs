use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use super::*;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn trusting(authority: &CertifiedIssuer<'static, KeyPair>) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(authority.as_ref().der().clone()).unwrap();
    let config =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let tls = Some(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let bind = Ipv4Addr::LOCALHOST.into();
    Client::start(ClientOptions { bind, tls, ..ClientOptions::default() }).unwrap()
}

#[tokio::test]
async fn over_tls_the_certificate_must_name_the_host() {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Clients that do not trust the certificate end the handshake.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let (reader, mut writer) = tokio::io::split(stream);
            let mut requests = Requests::new(reader);
            let asked = requests.next().await.unwrap();
            assert_eq!(asked.headers.via().unwrap().transport, "TLS");
            writer.write_all(&answer(&asked, 200)).await.unwrap();
            writer.flush().await.unwrap();
            // Kept open: the next request comes over it, or the client ends it.
            if let Some(asked) = requests.next().await {
                writer.write_all(&answer(&asked, 202)).await.unwrap();
                writer.flush().await.unwrap();
            }
        }
    });
    let to = Destination { host: "localhost".into(), port: address.port(), transport: Transport::Tls };
    let by_address = Destination { host: "127.0.0.1".into(), ..to.clone() };
    let stranger = trusting(&self::authority());
    let error = within(stranger.send(register(1), &to)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Transport(text) if text.contains("certificate")), "{error}");
    let client = trusting(&authority);
    let error = within(client.send(register(1), &by_address)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Transport(text) if text.contains("certificate")), "{error}");
    for code in [200, 202] {
        assert_eq!(within(client.send(register(2), &to)).await.unwrap().0.code, code);
    }
}
