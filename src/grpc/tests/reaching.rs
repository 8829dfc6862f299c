//! Connections to a gRPC dependency: at all addresses of a name, through proxies, over TLS.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Mutex,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{
    client::Grpc, codec::CompressionEncoding, codegen::http::uri::PathAndQuery, transport::Certificate,
};
use tonic_prost::ProstCodec;

use routr_net::testing::Silent;

use super::*;
use crate::{
    connect::Resolver,
    grpc::channel::{Channel, open_with},
    proto::requester_info::{
        GetRequest, GetResponse,
        requester_info_server::{RequesterInfo, RequesterInfoServer},
    },
    quota::sockets::Payers,
};
use routr_net::tls::{TlsFiles, followed::ClientCertificate};

/// Addresses of a name, which a test changes.
#[derive(Clone, Default)]
struct Dns(Arc<Mutex<Vec<SocketAddr>>>);

impl Dns {
    fn of(addresses: &[SocketAddr]) -> Self {
        Self(Arc::new(Mutex::new(addresses.to_vec())))
    }

    fn set(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap() = addresses.to_vec();
    }

    /// A channel to `pods.test`.
    fn channel(&self) -> Channel {
        let addresses = self.0.clone();
        let resolver = Resolver::scripted(move |_| Ok(addresses.lock().unwrap().clone()));
        let endpoint = Endpoint::plain(HostPort::new("pods.test", 1), TIMEOUT);
        open_with(&endpoint, None, &resolver, &Payers::default()).unwrap()
    }
}

/// A Requester, and how many calls reached it.
pub(super) struct Pod {
    pub(super) address: SocketAddr,
    pub(super) seen: Seen,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Pod {
    pub(super) async fn start(last: u8) -> Self {
        Self::at(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).await
    }

    pub(super) async fn at(address: SocketAddr) -> Self {
        Self::named(address, None).await
    }

    /// One that says who it is, and how much it takes at a time.
    pub(super) async fn named(address: SocketAddr, name: Option<(&'static str, u32)>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (scripted, seen) = scripted(ok);
        let shutdown = CancellationToken::new();
        let (service, ended) = (RequesterServer::new(scripted), shutdown.clone().cancelled_owned());
        let incoming = TcpListenerStream::new(listener);
        let info = name.map(|(instance, capacity)| RequesterInfoServer::new(Named { instance, capacity }));
        let task = tokio::spawn(async move {
            let served = Server::builder().add_service(service).add_optional_service(info);
            served.serve_with_incoming_shutdown(incoming, ended).await.unwrap();
        });
        Self { address, seen, shutdown, task }
    }

    /// Ends it in order, with its connections.
    pub(super) async fn stop(self) -> SocketAddr {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.address
    }

    fn calls(&mut self) -> usize {
        std::iter::from_fn(|| self.seen.try_recv().ok()).count()
    }
}

struct Named {
    instance: &'static str,
    capacity: u32,
}

#[tonic::async_trait]
impl RequesterInfo for Named {
    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let instance = self.instance.to_owned();
        Ok(Response::new(GetResponse { capacity: self.capacity, instance, ..GetResponse::default() }))
    }
}

async fn call(channel: &Channel) -> Result<SendMessageResponse, Status> {
    const METHOD: &str = "/fonoster.routr.requester.v2beta1.Requester/SendMessage";
    let mut client = Grpc::new(channel.clone()).accept_compressed(CompressionEncoding::Gzip);
    let codec = ProstCodec::<SendMessageRequest, SendMessageResponse>::default();
    let request = Request::new(SendMessageRequest::default());
    let call = client.unary(request, PathAndQuery::from_static(METHOD), codec);
    tokio::time::timeout(TIMEOUT, call).await.expect("a call that ends").map(Response::into_inner)
}

async fn calls(channel: &Channel, count: usize) {
    let all = (0..count).map(|_| call(channel));
    for done in futures_util::future::join_all(all).await {
        done.unwrap();
    }
}

/// Calls until `enough`, for half a minute; none may fail.
async fn calls_until(channel: &Channel, what: &str, mut enough: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    while !enough() {
        assert!(tokio::time::Instant::now() < end, "{what}");
        call(channel).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn g8_the_first_calls_go_to_all_addresses_alike() {
    let mut pods = [Pod::start(1).await, Pod::start(2).await, Pod::start(3).await];
    let channel = Dns::of(&pods.each_ref().map(|pod| pod.address)).channel();
    calls(&channel, 60).await;
    assert_eq!(pods.each_mut().map(Pod::calls), [20, 20, 20]);
    calls(&channel, 30).await;
    assert_eq!(pods.each_mut().map(Pod::calls), [10, 10, 10]);
}

#[tokio::test]
async fn g8_new_addresses_are_found_and_those_that_are_gone_are_left() {
    let [mut first, mut second, mut third] = [Pod::start(1).await, Pod::start(2).await, Pod::start(3).await];
    let dns = Dns::of(&[first.address, second.address]);
    let channel = dns.channel();
    calls(&channel, 10).await;
    assert_eq!((first.calls(), second.calls()), (5, 5));
    // It is gone from the DNS, and would still respond.
    dns.set(&[second.address, third.address]);
    calls_until(&channel, "the new address is used", || third.calls() > 0).await;
    first.calls();
    second.calls();
    calls(&channel, 10).await;
    assert_eq!((first.calls(), second.calls(), third.calls()), (0, 5, 5));
}

#[tokio::test]
async fn g8_an_address_that_dies_costs_no_call_and_is_used_again_when_it_is_back() {
    let [first, mut second] = [Pod::start(1).await, Pod::start(2).await];
    let channel = Dns::of(&[first.address, second.address]).channel();
    calls(&channel, 10).await;
    let address = first.stop().await;
    second.calls();
    calls(&channel, 20).await;
    assert_eq!(second.calls(), 20);
    let mut back = Pod::at(address).await;
    calls_until(&channel, "it is used again", || back.calls() > 0).await;
}

#[tokio::test]
async fn g8_an_address_that_hangs_is_left_for_the_others() {
    let mut good = Pod::start(1).await;
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let hung = listener.local_addr().unwrap();
    let (scripted, _seen) = scripted(ok);
    scripted.hang.store(true, Ordering::Relaxed);
    serve_requester(scripted, listener, None);
    let channel = Dns::of(&[hung, good.address]).channel();
    let brief = Duration::from_millis(200);
    let mut late = 0;
    for _ in 0..30 {
        late += usize::from(tokio::time::timeout(brief, call(&channel)).await.is_err());
    }
    // Every so often the one that hangs is tried again; were it chosen in its turn, it would be each second
    // call. On a busy machine a good response may be late, too.
    assert!((1..15).contains(&late), "{late} calls without a response");
    assert!(good.calls() > 15);
}

#[tokio::test]
async fn g5_an_address_that_answers_no_syn_or_refuses_holds_nothing_up() {
    let mut good = Pod::start(1).await;
    let silent = Silent::at("127.0.0.2", good.address.port()).await;
    let refusing = SocketAddr::new("127.0.0.3".parse().unwrap(), good.address.port());
    let channel = Dns::of(&[silent.address, refusing, good.address]).channel();
    for count in [1, 20, 20] {
        calls(&channel, count).await;
        assert_eq!(good.calls(), count);
    }
}

#[tokio::test]
async fn g5_a_peer_that_takes_the_connection_and_says_nothing_holds_nothing_up() {
    let mut good = Pod::start(1).await;
    let hung = TcpListener::bind(("127.0.0.2", good.address.port())).await.unwrap();
    let channel = Dns::of(&[hung.local_addr().unwrap(), good.address]).channel();
    calls(&channel, 20).await;
    assert_eq!(good.calls(), 20);
}

#[tokio::test]
async fn g5_where_no_address_answers_the_cause_at_each_is_named() {
    let gone = Pod::start(1).await.stop().await;
    let other = SocketAddr::new("127.0.0.2".parse().unwrap(), gone.port());
    let channel = Dns::of(&[gone, other]).channel();
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let expected = format!("connection refused, at {gone}; connection refused, at {other}");
    assert_eq!(status.message(), expected);
    let nameless = Resolver::scripted(|_| Err(std::io::Error::other("Name or service not known")));
    let endpoint = Endpoint::plain(HostPort::new("pods.test", 1), TIMEOUT);
    let status = call(&open_with(&endpoint, None, &nameless, &Payers::default()).unwrap()).await.unwrap_err();
    assert_eq!(status.message(), "pods.test cannot be looked up: Name or service not known");
}

#[tokio::test]
async fn g8_targets_as_grpc_writes_them_lead_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requester.sock");
    let (scripted, mut seen) = scripted(ok);
    let incoming =
        tokio_stream::wrappers::UnixListenerStream::new(tokio::net::UnixListener::bind(&path).unwrap());
    let served = Server::builder().add_service(RequesterServer::new(scripted));
    tokio::spawn(served.serve_with_incoming(incoming));
    let requester = GrpcRequester::new(&settings(&format!("unix://{}", path.display()), "")).unwrap();
    assert_eq!(requester.register(register(), TIMEOUT).await.unwrap().code, Some(200));
    assert!(seen.recv().await.is_some());

    let mut pods = [Pod::start(1).await, Pod::start(2).await];
    let [first, second] = pods.each_ref().map(|pod| pod.address);
    let requester = GrpcRequester::new(&settings(&format!("'ipv4:{first},{second}'"), "")).unwrap();
    for number in 0..40 {
        let call_id = format!("call-{number}").into();
        requester.register(RegisterRequest { call_id, ..register() }, TIMEOUT).await.unwrap();
    }
    assert!(pods.iter_mut().all(|pod| pod.calls() > 0));
    let local = format!("dns:///localhost:{}", first.port());
    let requester = GrpcRequester::new(&settings(&local, "")).unwrap();
    requester.register(register(), TIMEOUT).await.unwrap();
    assert_eq!(pods[0].calls(), 1);
}

/// An authority, and PEM of a certificate for `localhost` by it.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["localhost".into()]).unwrap();
        (parameters.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A Requester over TLS; its port.
async fn secure(by: &Authority, clients: Option<&Authority>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (certificate, key) = by.issue();
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    if let Some(clients) = clients {
        tls = tls.client_ca_root(Certificate::from_pem(clients.pem()));
    }
    serve_requester(scripted(ok).0, listener, Some(tls));
    port
}

fn over_tls(port: u16, files: TlsFiles) -> Channel {
    let address = HostPort::new("localhost", port).into();
    let endpoint = Endpoint { tls: true, files, ..Endpoint::plain(HostPort::new("", 1), TIMEOUT) };
    open_with(&Endpoint { address, ..endpoint }, None, &Resolver::system(), &Payers::default()).unwrap()
}

#[tokio::test]
async fn g7_a_client_certificate_that_is_demanded_is_said_and_can_be_given() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let port = secure(&servers, Some(&clients)).await;
    let folder = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = ["ca.pem", "tls.crt", "tls.key"].map(|name| folder.path().join(name));
    std::fs::write(&ca, servers.pem()).unwrap();
    let without = TlsFiles { authorities: Some(ca.clone()), certificate: None };
    let status = call(&over_tls(port, without.clone())).await.unwrap_err();
    let said = status.message();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(said.contains("client certificate demanded, and none is set up"), "{said}");
    assert!(said.contains("spec.tls.certFile and spec.tls.keyFile"), "{said}");

    let give = |(pem, secret): (String, String)| {
        std::fs::write(&certificate, pem).unwrap();
        std::fs::write(&key, secret).unwrap();
    };
    let pair = ClientCertificate { certificate: certificate.clone(), key: key.clone() };
    give(servers.issue());
    let channel = over_tls(port, TlsFiles { certificate: Some(pair), ..without });
    let status = call(&channel).await.unwrap_err();
    assert!(status.message().contains("client certificate"), "{}", status.message());
    assert!(!status.message().contains("none is set up"), "{}", status.message());
    // The same channel, once the files have been replaced.
    give(clients.issue());
    call(&channel).await.unwrap();
}

#[tokio::test]
async fn g7_an_authority_that_is_replaced_counts_from_the_next_connection_on() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let port = secure(&new, None).await;
    let folder = tempfile::tempdir().unwrap();
    // As kubelet and cert-manager do it: a link is swapped.
    let [ca, first, second] = ["ca.pem", "1.pem", "2.pem"].map(|name| folder.path().join(name));
    std::fs::write(&first, old.pem()).unwrap();
    std::fs::write(&second, new.pem()).unwrap();
    std::os::unix::fs::symlink(&first, &ca).unwrap();
    let channel = over_tls(port, TlsFiles { authorities: Some(ca.clone()), certificate: None });
    let said = call(&channel).await.unwrap_err();
    assert!(said.message().contains("unknown authority"), "{}", said.message());
    assert!(said.message().contains("spec.tls.caFile"), "{}", said.message());
    std::os::unix::fs::symlink(&second, folder.path().join("next")).unwrap();
    std::fs::rename(folder.path().join("next"), &ca).unwrap();
    call(&channel).await.unwrap();
}

#[tokio::test]
async fn g7_a_demand_for_tls_and_a_peer_without_it_are_said() {
    let port = secure(&Authority::new("servers"), None).await;
    let plain = Endpoint::plain(HostPort::new("127.0.0.1", port), TIMEOUT);
    let said =
        call(&open_with(&plain, None, &Resolver::system(), &Payers::default()).unwrap()).await.unwrap_err();
    assert!(said.message().contains("demands TLS: write https://"), "{}", said.message());
    let pod = Pod::start(1).await;
    let said = call(&over_tls(pod.address.port(), TlsFiles::default())).await.unwrap_err();
    assert!(said.message().contains("does not speak TLS"), "{}", said.message());
}

#[tokio::test]
async fn g6_a_peer_of_http_1_is_said_to_be_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut came = [0; 24];
            let _ = stream.read_exact(&mut came).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n").await;
        }
    });
    let requester = GrpcRequester::new(&settings(&address.to_string(), "")).unwrap();
    let error = requester.register(register(), TIMEOUT).await.unwrap_err();
    let said = "the peer speaks HTTP/1, and gRPC needs HTTP/2";
    assert!(matches!(&error, SendError::Unavailable(text) if text.contains(said)), "{error:?}");
}

#[tokio::test]
async fn g6_gzip_is_decoded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (scripted, _seen) = scripted(ok);
    let service = RequesterServer::new(scripted).send_compressed(CompressionEncoding::Gzip);
    let served = Server::builder().add_service(service);
    tokio::spawn(served.serve_with_incoming(TcpListenerStream::new(listener)));
    let requester = GrpcRequester::new(&settings(&address.to_string(), "")).unwrap();
    assert_eq!(requester.register(register(), TIMEOUT).await.unwrap().code, Some(200));
}
