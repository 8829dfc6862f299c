//! The client against plain responders over real sockets on loopback.

mod failover;
mod incoming;
mod keep_alive;
mod names;
mod peers;
mod silent;
mod streams;
mod tls;
mod udp;

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    message::{Message, StreamParser},
    transaction::Timers,
    uri::SipUri,
};
use routr_net::tls::SipTls;

/// Fails the test instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(120), future).await.expect("within two minutes")
}

fn client(timers: Timers) -> Client {
    let bind = Ipv4Addr::LOCALHOST.into();
    Client::start(ClientOptions { bind, timers, ..ClientOptions::default() }).unwrap()
}

/// Quick ones: F is 1.28 s.
fn quick() -> Timers {
    Timers { t1: Duration::from_millis(20), t2: Duration::from_millis(80), t4: Duration::from_millis(100) }
}

fn destination(address: SocketAddr, transport: Transport) -> Destination {
    Destination { host: address.ip().to_string(), port: Some(address.port()), transport }
}

fn register(number: u32) -> Request {
    let mut request = Request::new("REGISTER", SipUri::new("registrar.example"));
    let fields = [
        ("From", "<sip:alice@registrar.example>;tag=1".to_owned()),
        ("To", "<sip:alice@registrar.example>".to_owned()),
        ("Call-ID", format!("call-{number}")),
        ("CSeq", format!("{number} REGISTER")),
    ];
    for (name, value) in fields {
        request.headers.push(name, value).unwrap();
    }
    request
}

fn request(bytes: &[u8]) -> Request {
    match Message::parse_datagram(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn answer(request: &Request, code: u16) -> Vec<u8> {
    Response::to_request(request, code, "Answer").to_bytes().unwrap()
}

/// Reads requests from a connection, one after the other.
struct Requests<R> {
    reader: R,
    parser: StreamParser,
}

impl<R: AsyncRead + Unpin> Requests<R> {
    fn new(reader: R) -> Self {
        Self { reader, parser: StreamParser::new() }
    }

    async fn next(&mut self) -> Option<Request> {
        let mut buffer = [0; 4096];
        loop {
            match self.parser.next().unwrap() {
                Some(Message::Request(request)) => return Some(request),
                Some(other) => panic!("{other:?}"),
                None => match self.reader.read(&mut buffer).await.unwrap() {
                    0 => return None,
                    length => self.parser.push(&buffer[..length]),
                },
            }
        }
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

type Reader = Requests<tokio::io::ReadHalf<Box<dyn Io>>>;
type Writer = tokio::io::WriteHalf<Box<dyn Io>>;

/// A server over TCP or TLS, and a client for it.
struct Server {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    to: Destination,
    options: ClientOptions,
}

impl Server {
    async fn start(transport: Transport, timers: Timers) -> Self {
        let (listener, address) = listen().await;
        let bind = Ipv4Addr::LOCALHOST.into();
        let mut options = ClientOptions { bind, timers, ..ClientOptions::default() };
        let mut acceptor = None;
        if transport == Transport::Tls {
            let authority = authority();
            acceptor = Some(TlsAcceptor::from(Arc::new(serving(&authority, params(["127.0.0.1"])))));
            options.tls = Some(Arc::new(SipTls::fixed(trusting(&authority))));
        }
        Self { listener, acceptor, to: destination(address, transport), options }
    }

    fn client(&self) -> Client {
        Client::start(self.options.clone()).unwrap()
    }

    async fn accept(&self) -> (Reader, Writer) {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        let stream: Box<dyn Io> = match &self.acceptor {
            Some(acceptor) => Box::new(within(acceptor.accept(stream)).await.unwrap()),
            None => Box::new(stream),
        };
        let (reader, writer) = tokio::io::split(stream);
        (Requests::new(reader), writer)
    }

    /// Accepts one connection and responds to everything on it.
    async fn serve(&self) {
        let (mut requests, mut writer) = self.accept().await;
        while let Some(asked) = requests.next().await {
            write(&mut writer, &answer(&asked, 200)).await;
        }
    }
}

async fn write(writer: &mut Writer, bytes: &[u8]) {
    writer.write_all(bytes).await.unwrap();
    writer.flush().await.unwrap();
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn trusting(authority: &CertifiedIssuer<'static, KeyPair>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.as_ref().der().clone()).unwrap();
    let config =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

fn params<const N: usize>(names: [&str; N]) -> CertificateParams {
    CertificateParams::new(names.map(str::to_owned)).unwrap()
}

/// A server that shows a certificate with these parameters, signed by the authority.
fn serving(authority: &CertifiedIssuer<'static, KeyPair>, params: CertificateParams) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap()
}

/// Waits until a condition holds.
async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
