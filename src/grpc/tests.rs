//! The gRPC ports over real sockets, against the devstack's API server and scripted Requesters.

mod reaching;
mod replicas;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

use super::{api::ApiServer as Client, requester::GrpcRequester};
use crate::{
    config::{self, Config, Endpoint, Format, SyncBounds},
    devstack::api::{ApiOptions, ApiServer, Fault, Rpc, SizeCode},
    proto::{
        requester::{
            SendMessageRequest, SendMessageResponse,
            requester_server::{self, RequesterServer},
        },
        sipmessage as sip, trunks as pb,
    },
    runtime::ports::{Requester, TrunkSource},
};
use routr_registration::{
    model::{Link, RegisterRequest, RegisterResponse, SendError, SourceError, TrunkItem},
    trunk::Credentials,
};
use routr_types::{
    digest_minimum::DigestMinimum,
    host::{HostPort, Transport},
    secret::Secret,
};

fn trunk(number: usize) -> pb::Trunk {
    pb::Trunk {
        r#ref: format!("trunk-{number:05}"),
        name: format!("Trunk {number}"),
        send_register: true,
        uris: vec![pb::TrunkUri {
            host: "sip.example.com".into(),
            port: 5060,
            transport: "UDP".into(),
            user: format!("user-{number}"),
            enabled: true,
            ..pb::TrunkUri::default()
        }],
        ..pb::Trunk::default()
    }
}

fn trunks(count: usize) -> Vec<pb::Trunk> {
    (0..count).map(trunk).collect()
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let address = HostPort::new(&address.ip().to_string(), address.port());
    Endpoint::plain(address, Duration::from_secs(10))
}

/// An API server that serves, and what lists its trunks.
struct Harness {
    server: ApiServer,
    client: Client,
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Harness {
    async fn start(server: ApiServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = Client::new(&endpoint(address), SyncBounds::default()).unwrap();
        let shutdown = CancellationToken::new();
        let serving = serve(&server, listener, &shutdown);
        Self { server, client, address, shutdown, serving }
    }

    async fn list(&self) -> Result<Vec<String>, SourceError> {
        list(&self.client).await
    }
}

fn serve(server: &ApiServer, listener: TcpListener, shutdown: &CancellationToken) -> JoinHandle<()> {
    let (server, shutdown) = (server.clone(), shutdown.clone());
    tokio::spawn(async move { server.serve(listener, shutdown).await.unwrap() })
}

/// All refs, in the order in which they came.
async fn list(client: &Client) -> Result<Vec<String>, SourceError> {
    let (sender, mut batches) = mpsc::channel::<Vec<super::api::RawTrunk>>(2);
    let collect = async {
        let mut references = Vec::new();
        while let Some(batch) = batches.recv().await {
            assert!(batch.len() <= 256, "a batch of {} would delay refreshes", batch.len());
            references.extend(batch.iter().map(|item| item.reference().unwrap().to_owned()));
        }
        references
    };
    let (result, references) = tokio::join!(client.list(sender), collect);
    result.map(|_| references)
}

#[tokio::test]
async fn find_by_lists_what_sends_register_and_nothing_else() {
    let mut all = trunks(3);
    all[1].send_register = false;
    let harness = Harness::start(ApiServer::from_trunks(all)).await;
    assert_eq!(harness.list().await.unwrap(), ["trunk-00000", "trunk-00002"]);
    assert_eq!((harness.server.calls(Rpc::FindBy), harness.server.calls(Rpc::List)), (1, 0));
}

#[tokio::test]
async fn a_listing_far_beyond_four_megabytes_arrives() {
    let mut all = trunks(9_000);
    for trunk in &mut all {
        trunk.name = "x".repeat(1_000);
    }
    let harness = Harness::start(ApiServer::from_trunks(all)).await;
    assert_eq!(harness.list().await.unwrap().len(), 9_000);
}

#[tokio::test]
async fn a_large_list_is_read_in_pages_where_there_are_any() {
    let options = ApiOptions { paged: true, ..ApiOptions::default() };
    let harness = Harness::start(ApiServer::from_trunks_with(trunks(10_500), options)).await;
    let first: BTreeSet<String> = harness.list().await.unwrap().into_iter().collect();
    assert_eq!(harness.server.calls(Rpc::List), 0);
    let second: BTreeSet<String> = harness.list().await.unwrap().into_iter().collect();
    assert_eq!(first, second);
    assert_eq!((harness.server.calls(Rpc::FindBy), harness.server.calls(Rpc::List)), (1, 12));
}

#[tokio::test]
async fn a_large_list_without_pages_stays_as_it_is() {
    let harness = Harness::start(ApiServer::from_trunks(trunks(10_001))).await;
    for _ in 0..3 {
        assert_eq!(harness.list().await.unwrap().len(), 10_001);
    }
    assert_eq!((harness.server.calls(Rpc::FindBy), harness.server.calls(Rpc::List)), (3, 1));
}

#[tokio::test]
async fn a_server_that_refuses_the_size_is_read_in_pages() {
    for code in [SizeCode::ResourceExhausted, SizeCode::OutOfRange] {
        let options = ApiOptions { paged: true, ..ApiOptions::default() };
        let harness = Harness::start(ApiServer::from_trunks_with(trunks(2_500), options)).await;
        harness.server.set_fault(Rpc::FindBy, Some(Fault::TooLarge { limit: 50_000, code }));
        assert_eq!(harness.list().await.unwrap().len(), 2_500);
        assert_eq!(harness.list().await.unwrap().len(), 2_500);
        assert_eq!(harness.server.calls(Rpc::FindBy), 1, "asked again for what it refused");
    }
}

#[tokio::test]
async fn a_trunk_deleted_between_two_pages_does_not_end_the_list() {
    let options = ApiOptions { paged: true, ..ApiOptions::default() };
    let harness = Harness::start(ApiServer::from_trunks_with(trunks(10_500), options)).await;
    harness.list().await.unwrap();
    // Newest first: the first page ends with this one.
    let (sender, mut batches) = mpsc::channel::<Vec<super::api::RawTrunk>>(1);
    let server = harness.server.clone();
    let drain = async move {
        batches.recv().await.unwrap();
        let rest = trunks(10_500).into_iter().filter(|trunk| trunk.r#ref != "trunk-09500").collect();
        server.set_trunks(rest);
        while batches.recv().await.is_some() {}
    };
    let (result, ()) = tokio::join!(harness.client.list(sender), drain);
    assert!(matches!(result, Err(SourceError::Malformed(_))), "{result:?}");
    assert_eq!(harness.list().await.unwrap().len(), 10_499);
}

#[tokio::test]
async fn a_refused_size_without_pages_is_reported() {
    let harness = Harness::start(ApiServer::from_trunks(trunks(2_500))).await;
    let fault = Fault::TooLarge { limit: 50_000, code: SizeCode::ResourceExhausted };
    harness.server.set_fault(Rpc::FindBy, Some(fault));
    assert!(matches!(harness.list().await, Err(SourceError::Refused(_))));
}

#[tokio::test]
async fn each_failure_has_its_name() {
    let harness = Harness::start(ApiServer::from_trunks(trunks(3))).await;
    harness.server.set_fault(Rpc::FindBy, Some(Fault::Unavailable));
    assert!(matches!(harness.list().await, Err(SourceError::Unavailable(_))));
    let refuse = Fault::Refuse(Code::PermissionDenied, "not you".into());
    harness.server.set_fault(Rpc::FindBy, Some(refuse));
    let error = harness.list().await.unwrap_err();
    assert_eq!(error.to_string(), "the API server refused: PermissionDenied: not you");
    harness.server.set_fault(Rpc::FindBy, Some(Fault::Hang));
    let timeout = Duration::from_millis(200);
    let impatient =
        Client::new(&Endpoint { timeout, ..endpoint(harness.address) }, SyncBounds::default()).unwrap();
    assert_eq!(list(&impatient).await, Err(SourceError::Deadline(timeout)));
    harness.server.set_fault(Rpc::FindBy, None);
    assert_eq!(harness.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_list_that_is_announced_with_4_gib_is_refused_before_it_comes() {
    use axum::{Router, body::Body, response::IntoResponse};
    use futures_util::{StreamExt, stream};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endless = || async {
        let head = stream::once(async { Ok::<_, std::convert::Infallible>(vec![0, 0xff, 0xff, 0xff, 0xff]) });
        ([("content-type", "application/grpc")], Body::from_stream(head.chain(stream::pending())))
            .into_response()
    };
    let routes = tonic::service::Routes::from(Router::new().fallback(endless));
    let serving = Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener));
    let serving = tokio::spawn(serving);
    let client = Client::new(&endpoint(address), SyncBounds::default()).unwrap();
    let refused = tokio::time::timeout(TIMEOUT, list(&client));
    let Ok(Err(SourceError::TooMuch(why))) = refused.await else { panic!("it was waited for") };
    assert!(why.contains("4294967295"), "{why}");
    serving.abort();
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_found_again() {
    let harness = Harness::start(ApiServer::from_trunks(trunks(3))).await;
    assert_eq!(harness.list().await.unwrap().len(), 3);
    harness.shutdown.cancel();
    harness.serving.await.unwrap();
    let error = list(&harness.client).await.unwrap_err();
    assert!(matches!(&error, SourceError::Unavailable(text) if text.contains("refused")), "{error}");
    let listener = TcpListener::bind(harness.address).await.unwrap();
    serve(&harness.server, listener, &CancellationToken::new());
    assert_eq!(list(&harness.client).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_not_protobuf_or_not_grpc_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
    });
    let client = Client::new(&endpoint(address), SyncBounds::default()).unwrap();
    assert!(matches!(list(&client).await, Err(SourceError::Unavailable(_))));
}

/// A Requester that responds by a rule, and keeps the requests that it received.
#[derive(Clone)]
struct Scripted {
    answer: Arc<dyn Fn() -> Result<SendMessageResponse, Status> + Send + Sync>,
    hang: Arc<AtomicBool>,
    seen: mpsc::UnboundedSender<SendMessageRequest>,
}

#[tonic::async_trait]
impl requester_server::Requester for Scripted {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let _ = self.seen.send(request.into_inner());
        if self.hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        (self.answer)().map(Response::new)
    }
}

type Seen = mpsc::UnboundedReceiver<SendMessageRequest>;

fn scripted(
    answer: impl Fn() -> Result<SendMessageResponse, Status> + Send + Sync + 'static,
) -> (Scripted, Seen) {
    let (seen, asked) = mpsc::unbounded_channel();
    (Scripted { answer: Arc::new(answer), hang: Arc::default(), seen }, asked)
}

fn ok() -> Result<SendMessageResponse, Status> {
    let response_type = sip::sip_message::MessageType::ResponseType(sip::ResponseType::Ok.into());
    let message = sip::SipMessage { message_type: Some(response_type), ..sip::SipMessage::default() };
    Ok(SendMessageResponse { message: Some(message) })
}

fn serve_requester(
    scripted: Scripted,
    listener: TcpListener,
    tls: Option<ServerTlsConfig>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let served = server.add_service(RequesterServer::new(scripted));
        served.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    })
}

fn settings(requester: &str, more: &str) -> Config {
    let text = format!(
        "kind: Registry\napiVersion: v2beta1\nspec:\n  apiAddr: localhost\n  requesterAddr: {requester}\n  edgePorts: [{{address: \
         10.0.0.1}}]\n{more}"
    );
    config::parse(&text, Format::Yaml).unwrap()
}

fn register() -> RegisterRequest {
    RegisterRequest {
        target: HostPort::new("sip.example.com", 5060),
        names_port: true,
        transport: Transport::Udp,
        request_host: "sip.example.com".into(),
        request_port: 5060,
        request_transport: Transport::Udp,
        user: "alice".into(),
        domain: "sip.example.com".into(),
        secure: false,
        from_tag: "tag".into(),
        call_id: "call".into(),
        cseq: 7,
        expires: 600,
        edge_port: HostPort::new("10.0.0.1", 5060),
        contact: None,
        without_tags: 0,
        credentials: Some(Credentials { username: "alice".into(), password: Secret::new("swordfish-77") }),
        digest: DigestMinimum::default(),
    }
}

const TIMEOUT: Duration = Duration::from_secs(120);

async fn harness(scripted: &Scripted) -> (GrpcRequester, SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = serve_requester(scripted.clone(), listener, None);
    (GrpcRequester::new(&settings(&address.to_string(), "")).unwrap(), address, serving)
}

#[tokio::test]
async fn a_register_goes_out_and_its_answer_comes_back() {
    let (scripted, mut seen) = scripted(ok);
    let (requester, _, _) = harness(&scripted).await;
    let reply = requester.register(register(), TIMEOUT).await.unwrap();
    assert_eq!(reply.code, Some(200));
    assert_eq!(seen.recv().await.unwrap().target, "sip.example.com:5060");
    assert_eq!(*requester.link().borrow(), Link::default());
}

#[tokio::test]
async fn an_answer_without_a_message_is_a_reply_that_makes_no_sense() {
    let (scripted, _seen) = scripted(|| Ok(SendMessageResponse { message: None }));
    let (requester, _, _) = harness(&scripted).await;
    assert_eq!(requester.register(register(), TIMEOUT).await, Ok(RegisterResponse::default()));
}

#[tokio::test]
async fn a_call_that_is_never_answered_ends_at_its_deadline() {
    let (scripted, _seen) = scripted(ok);
    scripted.hang.store(true, Ordering::Relaxed);
    let (requester, _, _) = harness(&scripted).await;
    let deadline = Duration::from_secs(1);
    assert_eq!(requester.register(register(), deadline).await, Err(SendError::Deadline(deadline)));
}

/// The registrar is not blamed for a request that never left.
#[tokio::test]
async fn where_no_connection_takes_the_request_a_deadline_is_no_silence() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let requester = GrpcRequester::new(&settings(&silent.local_addr().unwrap().to_string(), "")).unwrap();
    for _ in 0..2 {
        let error = requester.register(register(), Duration::from_millis(200)).await.unwrap_err();
        let said = "no connection took the request within 0.2 s";
        assert_eq!(error, SendError::Unavailable(said.into()));
    }
}

#[tokio::test]
async fn refusing_is_not_being_unavailable() {
    let (scripted, _seen) = scripted(|| Err(Status::unknown("no key store")));
    let (requester, _, _) = harness(&scripted).await;
    let error = requester.register(register(), TIMEOUT).await.unwrap_err();
    assert_eq!(error, SendError::Refused("Unknown: no key store".into()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let nobody = GrpcRequester::new(&settings(&address.to_string(), "")).unwrap();
    let error = nobody.register(register(), TIMEOUT).await.unwrap_err();
    assert!(matches!(&error, SendError::Unavailable(text) if text.contains("refused")), "{error}");
}

#[tokio::test]
async fn a_requester_that_dies_in_mid_call_was_unavailable_and_its_return_is_noticed() {
    let (scripted, mut seen) = scripted(ok);
    scripted.hang.store(true, Ordering::Relaxed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let std_listener = listener.into_std().unwrap();
    let serving = scripted.clone();
    runtime.spawn(async move {
        serve_requester(serving, TcpListener::from_std(std_listener).unwrap(), None).await.unwrap();
    });
    let requester = Arc::new(GrpcRequester::new(&settings(&address.to_string(), "")).unwrap());
    let call = tokio::spawn({
        let requester = requester.clone();
        async move { requester.register(register(), TIMEOUT).await }
    });
    seen.recv().await.unwrap();
    // The runtime takes all connections down with it, as the death of a process does.
    runtime.shutdown_background();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, SendError::Disconnected { .. }), "{error}");
    let mut link = requester.link();
    let lost = link.wait_for(|link| link.lost);
    tokio::time::timeout(TIMEOUT, lost).await.unwrap().unwrap();
    scripted.hang.store(false, Ordering::Relaxed);
    // The runtime lets go of the port when its threads have ended.
    let free = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let listener = tokio::time::timeout(TIMEOUT, free).await.unwrap();
    serve_requester(scripted, listener, None);
    // Nothing is sent, and yet it is noticed.
    let back = link.wait_for(|link| link.restarts == 1 && !link.lost);
    tokio::time::timeout(TIMEOUT, back).await.unwrap().unwrap();
    requester.register(register(), TIMEOUT).await.unwrap();
}

#[tokio::test]
async fn a_deadline_on_a_connection_that_works_is_a_deadline() {
    let (scripted, _seen) = scripted(ok);
    let (requester, _, _) = harness(&scripted).await;
    for _ in 0..2 {
        requester.register(register(), TIMEOUT).await.unwrap();
    }
    scripted.hang.store(true, Ordering::Relaxed);
    let deadline = Duration::from_millis(50);
    for _ in 0..20 {
        assert_eq!(requester.register(register(), deadline).await, Err(SendError::Deadline(deadline)));
    }
}

#[tokio::test]
async fn an_error_that_quotes_the_request_does_not_pass_it_on() {
    let (scripted, _seen) = scripted(|| {
        let auth = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "alice:swordfish-77");
        Err(Status::unknown(format!("cannot parse X-Gateway-Auth: {auth} (swordfish-77)")))
    });
    let (requester, _, _) = harness(&scripted).await;
    let error = requester.register(register(), TIMEOUT).await.unwrap_err();
    assert_eq!(error.to_string(), "the Requester refused: Unknown: cannot parse X-Gateway-Auth: *** (***)");
}

#[tokio::test]
async fn https_trusts_the_ca_file_and_nobody_else() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, made.cert.pem()).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (scripted, _seen) = scripted(ok);
    serve_requester(scripted, listener, Some(ServerTlsConfig::new().identity(identity)));
    let address = format!("https://localhost:{port}");
    let tls = format!("  tls: {{caFile: {}}}\n", ca_file.display());
    let trusting = GrpcRequester::new(&settings(&address, &tls)).unwrap();
    assert_eq!(trusting.register(register(), TIMEOUT).await.unwrap().code, Some(200));
    let stranger = GrpcRequester::new(&settings(&address, "")).unwrap();
    let error = stranger.register(register(), TIMEOUT).await.unwrap_err();
    assert!(matches!(&error, SendError::Unavailable(text) if text.contains("certificate")), "{error}");
}
