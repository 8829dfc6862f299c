//! Those that ask for REGISTERs: through gRPC as the product does, or in the process of the SIP client
//! itself.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use routr_registration::{model::RegisterRequest, trunk::Credentials};
use routr_registry::{
    config::Config,
    grpc::requester::GrpcRequester,
    proto::{
        requester::{
            SendMessageRequest, SendMessageResponse,
            requester_server::{Requester, RequesterServer},
        },
        sipmessage::{Contact, Extension, ResponseType, SipMessage, sip_message::MessageType},
    },
    requester::{Mode, Options, RequesterService},
    runtime::ports::Requester as _,
};
use routr_sip::client::{Client, ClientOptions};
use routr_types::{
    host::{HostPort, Transport},
    secret::Secret,
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use super::{Counted, Order, PASSWORD, WARM_UP};

/// Time limit of a call; none takes that long here.
const DEADLINE: Duration = Duration::from_secs(35);

/// Keeps the ordered number of calls under way for the ordered time. `call` makes one of this slot, and
/// returns whether it succeeded.
async fn keep<C, F>(order: Order, call: C) -> anyhow::Result<Counted>
where
    C: Fn(usize) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = bool> + Send,
{
    let Order { in_flight, seconds, .. } = order;
    let stop = Arc::new(AtomicBool::new(false));
    let counters = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for slot in 0..in_flight {
        let (stop, counters, call) = (stop.clone(), counters.clone(), call.clone());
        tasks.spawn(async move {
            while !stop.load(Relaxed) {
                let count = if call(slot).await { &counters.0 } else { &counters.1 };
                count.fetch_add(1, Relaxed);
            }
        });
    }
    let now = || (counters.0.load(Relaxed), counters.1.load(Relaxed), tokio::time::Instant::now());
    tokio::time::sleep(WARM_UP).await;
    let before = now();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let after = now();
    stop.store(true, Relaxed);
    tasks.shutdown().await;
    let seconds = (after.2 - before.2).as_secs_f64();
    Ok(Counted { done: after.0 - before.0, failed: after.1 - before.1, seconds })
}

/// The role that asks a Requester as the product does, by the product's own port.
pub async fn through_grpc(order: Order) -> anyhow::Result<Counted> {
    let (port, registrar) = (Arc::new(product_port(order.port)?), order.registrar);
    keep(order, move |slot| {
        let port = port.clone();
        async move {
            let reply = port.register(register(slot, registrar), DEADLINE).await;
            reply.is_ok_and(|reply| reply.code == Some(200) && reply.local.is_none())
        }
    })
    .await
}

/// The role that has the Requester in its own process: all of it but gRPC.
pub async fn in_process(order: Order) -> anyhow::Result<Counted> {
    let options = Options { mode: Mode::Direct, sip_bind: Ipv4Addr::LOCALHOST.into(), ..Options::default() };
    let client =
        Client::start(ClientOptions { bind: IpAddr::from(Ipv4Addr::LOCALHOST), ..ClientOptions::default() })?;
    let service = RequesterService::new(client, options);
    let mut requests = Vec::with_capacity(order.in_flight);
    for slot in 0..order.in_flight {
        requests.push(as_sent(register(slot, order.registrar)).await?);
    }
    let requests: Arc<[SendMessageRequest]> = requests.into();
    keep(order, move |slot| {
        let (service, request) = (service.clone(), requests[slot].clone());
        async move {
            let reply = service.send_message(Request::new(request)).await;
            let message = reply.ok().and_then(|reply| reply.into_inner().message);
            let ok = i32::from(ResponseType::Ok);
            message.is_some_and(|message| message.message_type == Some(MessageType::ResponseType(ok)))
        }
    })
    .await
}

/// The role that responds by gRPC and sends nothing: the cost of gRPC alone.
pub async fn grpc_pong() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    super::serve(listener.local_addr()?.port(), || 0);
    serve(listener, Pong::default()).await
}

async fn serve(listener: TcpListener, pong: Pong) -> anyhow::Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder().add_service(RequesterServer::new(pong));
    Ok(server.serve_with_incoming(incoming).await?)
}

fn product_port(port: u16) -> anyhow::Result<GrpcRequester> {
    let spec = json!({
        "requesterAddr": format!("127.0.0.1:{port}"),
        "apiAddr": "127.0.0.1:1",
        "edgePorts": [{ "address": "198.51.100.7:5060" }],
        "methods": ["REGISTER", "INVITE", "ACK", "BYE", "CANCEL"],
    });
    let config = Config::from_spec("bench", &serde_json::from_value(spec)?)?;
    Ok(GrpcRequester::new(&config)?)
}

fn register(slot: usize, registrar: u16) -> RegisterRequest {
    let user: Box<str> = format!("user-{slot:06}").into();
    RegisterRequest {
        target: HostPort::new("127.0.0.1", registrar),
        names_port: true,
        transport: Transport::Udp,
        request_host: "127.0.0.1".into(),
        request_port: registrar,
        request_transport: Transport::Udp,
        user: user.clone(),
        domain: "127.0.0.1".into(),
        secure: false,
        from_tag: format!("{slot:016x}").into(),
        call_id: format!("{slot:040x}").into(),
        cseq: 25_000_000,
        expires: 600,
        edge_port: HostPort::new("198.51.100.7", 5060),
        contact: None,
        without_tags: 0,
        credentials: Some(Credentials { username: user, password: Secret::new(PASSWORD) }),
        digest: routr_types::digest_minimum::DigestMinimum::default(),
    }
}

/// The message that the product makes of a REGISTER.
async fn as_sent(register: RegisterRequest) -> anyhow::Result<SendMessageRequest> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = product_port(listener.local_addr()?.port())?;
    let pong = Pong::default();
    let server = tokio::spawn(serve(listener, pong.clone()));
    let sent = port.register(register, DEADLINE).await;
    server.abort();
    sent?;
    pong.first.get().cloned().ok_or_else(|| anyhow::anyhow!("nothing was sent"))
}

/// Responds to each REGISTER as the Requester does after a 200, and keeps the first.
#[derive(Clone, Default)]
struct Pong {
    first: Arc<OnceLock<SendMessageRequest>>,
}

#[tonic::async_trait]
impl Requester for Pong {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let request = request.into_inner();
        if self.first.get().is_none() {
            let _ = self.first.set(request.clone());
        }
        let sent = request.message.unwrap_or_default();
        let contact =
            sent.to.as_ref().map(|to| Contact { address: to.address.clone(), expires: 600, q_value: -1.0 });
        let field = |name: &str, value: &str| Extension { name: name.into(), value: value.into() };
        let message = SipMessage {
            message_type: Some(MessageType::ResponseType(ResponseType::Ok.into())),
            extensions: vec![field("CSeq", "25000000 REGISTER"), field("Server", "bench")],
            reason_phrase: "OK".into(),
            from: sent.from,
            to: sent.to,
            call_id: sent.call_id,
            content_length: sent.content_length,
            contact,
            ..SipMessage::default()
        };
        Ok(Response::new(SendMessageResponse { message: Some(message) }))
    }
}
