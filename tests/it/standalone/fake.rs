//! A Requester that responds as a test wants, and remembers its requests.

use std::sync::{Arc, Mutex};

use routr_registry::proto::requester::requester_server::{Requester, RequesterServer};
use routr_registry::proto::requester::{SendMessageRequest, SendMessageResponse};
use routr_registry::proto::sipmessage::sip_message::MessageType;
use routr_registry::proto::sipmessage::{Address, Contact, Extension, ResponseType, SipMessage};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::test_registry::listen;

type Answer = dyn Fn(&SendMessageRequest) -> Option<SipMessage> + Send + Sync;

/// A running fake. It ends when it is dropped.
pub struct FakeRequester {
    seen: Arc<Mutex<Vec<SendMessageRequest>>>,
    _end: DropGuard,
}

struct Service {
    seen: Arc<Mutex<Vec<SendMessageRequest>>>,
    answer: Box<Answer>,
}

impl FakeRequester {
    /// Listens on that port and responds by `answer`; where that is `None`, never.
    pub async fn start(
        port: u16,
        answer: impl Fn(&SendMessageRequest) -> Option<SipMessage> + Send + Sync + 'static,
    ) -> Self {
        let (seen, end) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        let service = Service { seen: Arc::clone(&seen), answer: Box::new(answer) };
        let (ended, (ready, listening)) = (end.clone(), oneshot::channel());
        // A runtime of its own: with it, connections end too, and calls that never get a response.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = tonic::transport::Server::builder().add_service(RequesterServer::new(service));
                let incoming = TcpIncoming::from(listen(port).await);
                ready.send(()).unwrap();
                tokio::select! {
                    _ = server.serve_with_incoming(incoming) => {}
                    () = ended.cancelled() => {}
                }
            });
        });
        listening.await.unwrap();
        Self { seen, _end: end.drop_guard() }
    }

    /// Grants every REGISTER this number of seconds.
    pub async fn granting(port: u16, seconds: i32) -> Self {
        Self::start(port, move |_| Some(ok(seconds))).await
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<SendMessageRequest> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests of one user, by the To header field.
    pub fn of(&self, user: &str) -> Vec<SendMessageRequest> {
        self.seen().into_iter().filter(|request| to(request) == user).collect()
    }
}

#[tonic::async_trait]
impl Requester for Service {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let request = request.into_inner();
        let answer = (self.answer)(&request);
        self.seen.lock().unwrap().push(request);
        match answer {
            Some(message) => Ok(Response::new(SendMessageResponse { message: Some(message) })),
            None => std::future::pending().await,
        }
    }
}

/// The user part of To.
pub fn to(request: &SendMessageRequest) -> String {
    let message = request.message.clone().unwrap_or_default();
    message.to.and_then(|to| to.address?.uri).map(|uri| uri.user).unwrap_or_default()
}

/// The values of an extension.
pub fn header(request: &SendMessageRequest, name: &str) -> Vec<String> {
    let extensions = request.message.clone().unwrap_or_default().extensions;
    extensions.into_iter().filter(|e| e.name == name).map(|e| e.value).collect()
}

/// A final response of this type.
pub fn reply(response_type: i32, phrase: &str, extensions: &[(&str, &str)]) -> SipMessage {
    SipMessage {
        message_type: Some(MessageType::ResponseType(response_type)),
        reason_phrase: phrase.to_owned(),
        extensions: extensions
            .iter()
            .map(|(name, value)| Extension { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect(),
        ..SipMessage::default()
    }
}

/// 200, granting this number of seconds.
pub fn ok(seconds: i32) -> SipMessage {
    let contact = Contact { address: Some(Address::default()), expires: seconds, ..Contact::default() };
    SipMessage { contact: Some(contact), ..reply(ResponseType::Ok.into(), "OK", &[]) }
}
