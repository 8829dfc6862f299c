//! Starting the service, and the requests that Routr's registry sends to it.

use std::{net::IpAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::Digest as _;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::super::{DEFAULT_CAPACITY, Mode, Options, RequesterService, accept, router};
use crate::proto::{
    common::Transport,
    processor::Method,
    requester::{SendMessageRequest, requester_client::RequesterClient},
    sipmessage::{
        Address, CallId, ContentLength, Expires, Extension, From, MaxForwards, ResponseType, Route,
        SipMessage, SipUri, To, sip_message::MessageType,
    },
};
use routr_sip::{
    client::{Client, ClientOptions},
    transaction::Timers,
};

pub const PASSWORD: &str = "correct:horse/battery";

/// The service, reachable by `client`; it stops when this is dropped.
pub struct Service {
    pub client: RequesterClient<Channel>,
    pub channel: Channel,
    pub address: std::net::SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn options(mode: Mode) -> Options {
    Options { mode, sip_bind: IpAddr::from([127, 0, 0, 1]), ..Options::default() }
}

pub async fn start(mode: Mode) -> Service {
    start_with(options(mode), Timers::default()).await
}

/// Timers so short that silence is noticed in well under a second.
pub fn short() -> Timers {
    let t1 = Duration::from_millis(5);
    Timers { t1, t2: t1 * 8, t4: t1 * 10 }
}

pub async fn start_with(options: Options, timers: Timers) -> Service {
    let client_options = ClientOptions { timers, ..options.client() };
    start_client(options, client_options, DEFAULT_CAPACITY).await
}

pub async fn start_client(options: Options, client_options: ClientOptions, capacity: u32) -> Service {
    start_sip(options, Client::start(client_options).unwrap(), capacity).await
}

/// Starts with a hosts file of this text.
pub async fn start_with_hosts(options: Options, hosts: &str) -> Service {
    let sip = Client::start_with_hosts(options.client(), hosts).unwrap();
    start_sip(options, sip, DEFAULT_CAPACITY).await
}

async fn start_sip(options: Options, sip: Client, capacity: u32) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let access = options.access.clone();
    let router = router(RequesterService::new(sip, options), capacity, &access);
    let incoming = accept(listener, access, CancellationToken::new());
    let server = router.serve_with_incoming(ReceiverStream::new(incoming));
    let task = tokio::spawn(async move { server.await.unwrap() });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Service { client: RequesterClient::new(channel.clone()), channel, address, task }
}

impl Service {
    /// Sends and expects a response.
    pub async fn send(&self, request: SendMessageRequest) -> SipMessage {
        self.client.clone().send_message(request).await.unwrap().into_inner().message.unwrap()
    }

    /// Sends and expects an error status.
    pub async fn refused(&self, request: SendMessageRequest) -> tonic::Status {
        self.client.clone().send_message(request).await.unwrap_err()
    }
}

pub fn extension(name: &str, value: &str) -> Extension {
    Extension { name: name.into(), value: value.into() }
}

fn address(user: &str, host: &str, port: i32) -> Option<Address> {
    let uri = SipUri {
        user: user.into(),
        host: host.into(),
        port,
        transport_param: "UDP".into(),
        ..SipUri::default()
    };
    Some(Address { uri: Some(uri), ..Address::default() })
}

/// A REGISTER as Routr's own registry sends it, but for the user part of the Request-URI.
pub fn register(target: &str) -> SendMessageRequest {
    let request_uri = SipUri {
        host: "registrar.test".into(),
        port: 5060,
        transport_param: "UDP".into(),
        method_param: "REGISTER".into(),
        ..SipUri::default()
    };
    let message = SipMessage {
        message_type: Some(MessageType::RequestUri(request_uri)),
        from: Some(From {
            address: address("alice", "registrar.test", -1),
            tag: "f1".into(),
            ..From::default()
        }),
        to: Some(To { address: address("alice", "registrar.test", -1), ..To::default() }),
        route: vec![route("edge.test", 5066)],
        call_id: Some(CallId { call_id: "call-1@test".into() }),
        expires: Some(Expires { expires: 600 }),
        max_forwards: Some(MaxForwards { max_forwards: 70 }),
        content_length: Some(ContentLength { content_length: 0 }),
        extensions: vec![
            extension("Allow", "INVITE"),
            extension("Allow", "ACK"),
            extension("CSeq", "7 REGISTER"),
            extension("User-Agent", "Routr Connect v2"),
            extension("Supported", "path"),
            extension("X-Gateway-Auth", &gateway_auth(PASSWORD)),
        ],
        ..SipMessage::default()
    };
    SendMessageRequest {
        target: target.into(),
        method: Method::Register.into(),
        transport: Transport::Udp.into(),
        message: Some(message),
    }
}

pub fn route(host: &str, port: i32) -> Route {
    let mut route = Route { address: address("", host, port), ..Route::default() };
    if let Some(uri) = route.address.as_mut().and_then(|a| a.uri.as_mut()) {
        uri.lr_param = true;
    }
    route
}

pub fn gateway_auth(password: &str) -> String {
    STANDARD.encode(format!("alice-auth:{password}"))
}

/// The message of a request, to change it.
pub fn edit(request: &mut SendMessageRequest) -> &mut SipMessage {
    request.message.as_mut().unwrap()
}

/// Drops that extension from the message of a request.
pub fn drop_extension(request: &mut SendMessageRequest, name: &str) {
    edit(request).extensions.retain(|e| e.name != name);
}

pub fn response_type(message: &SipMessage) -> ResponseType {
    match message.message_type {
        Some(MessageType::ResponseType(number)) => ResponseType::try_from(number).unwrap(),
        _ => panic!("no response type in {message:?}"),
    }
}

/// The values of the extensions of that name.
pub fn extensions<'a>(message: &'a SipMessage, name: &str) -> Vec<&'a str> {
    message.extensions.iter().filter(|e| e.name == name).map(|e| e.value.as_str()).collect()
}

pub fn md5(text: &str) -> String {
    hex(&md5::Md5::digest(text))
}

pub fn sha256(text: &str) -> String {
    hex(&sha2::Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
