//! TLS to the registrar, and the server as the subcommand runs it.

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    super::{Mode, client_config, serve},
    peer::Peer,
    setup::*,
};
use crate::proto::{
    common::Transport,
    requester::{SendMessageRequest, requester_client::RequesterClient},
    sipmessage::ResponseType,
};

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
pub fn trusted() -> (TlsAcceptor, Arc<rustls::ClientConfig>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let (pem, acceptor) = certificate();
    std::fs::write(&file, pem).unwrap();
    (acceptor, client_config(Some(&file)).unwrap())
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
    options.tls = Some(client_config(Some(&file)).unwrap());
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
