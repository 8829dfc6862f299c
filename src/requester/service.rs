//! The gRPC side.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    Health, Mode, Options,
    authenticated_transaction::{AuthenticatedTransaction, Authenticates, Finished, Memory},
    check::RequestError,
    outgoing_request::{ContactPlan, OutgoingRequest},
    response, synthetic_response,
};
use crate::proto::requester::{SendMessageRequest, SendMessageResponse, requester_server::Requester};
use routr_sip::{
    client::{Client, ClientError, Destination},
    uri::{NameAddr, SipUri},
};
use routr_types::extension::Hop;

/// Most hosts that are remembered as warned about.
const MAX_WARNED: usize = 1024;

/// Implements the `Requester` service over a SIP client.
#[derive(Clone, Debug)]
pub struct RequesterService {
    client: Client,
    options: Options,
    abandon: CancellationToken,
    memory: Arc<Memory>,
    health: Health,
    /// Hosts whose Authentication-Info was wrong: one warning for each.
    unproven: Arc<Mutex<HashSet<String>>>,
}

impl RequesterService {
    /// Serves over this client. Of the options `mode`, `contact` and `answer_within` count here; the others
    /// have gone into the client.
    pub fn new(client: Client, options: Options) -> Self {
        Self {
            client,
            options,
            abandon: CancellationToken::new(),
            health: Health::default(),
            memory: Arc::default(),
            unproven: Arc::default(),
        }
    }

    /// Calls under way end with `UNAVAILABLE` once the token is cancelled.
    pub fn abandoned_by(self, abandon: CancellationToken) -> Self {
        Self { abandon, ..self }
    }

    /// Counts its calls there.
    pub fn counted_by(self, health: Health) -> Self {
        Self { health, ..self }
    }

    /// Completes the request and sends it: how it ended, and the Contact that the request had.
    async fn send(
        &self,
        exchange: &mut AuthenticatedTransaction,
        contact: ContactPlan,
    ) -> Result<(Finished, Option<SipUri>), ClientError> {
        let contact = match contact {
            ContactPlan::None => None,
            ContactPlan::Given(uri) => Some(uri),
            ContactPlan::Own(template) => Some(self.own_contact(template, &exchange.destination).await?),
        };
        if let Some(uri) = &contact {
            let value = NameAddr::new(uri.clone()).to_string();
            exchange.request.headers.push("Contact", value).map_err(ClientError::Invalid)?;
        }
        let finished = exchange.run(&self.client, &self.memory).await?;
        // It has the scheme of the request that was sent last.
        let secure = exchange.request.uri.secure;
        Ok((finished, contact.map(|uri| SipUri { secure: uri.secure && secure, ..uri })))
    }

    async fn own_contact(&self, template: SipUri, destination: &Destination) -> Result<SipUri, ClientError> {
        let (host, port) = match &self.options.contact {
            Some(advertised) => (advertised.host.clone(), advertised.port),
            None => {
                let address = self.client.local_address(destination).await?;
                (address.ip().to_string(), Some(address.port()))
            }
        };
        Ok(SipUri { host, port, ..template })
    }

    /// Warns once for each host.
    fn warn_unproven(&self, host: &str) {
        let mut warned = self.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MAX_WARNED && warned.insert(host.to_owned()) {
            tracing::warn!(
                registrar = host,
                "rspauth in its Authentication-Info is wrong: it does not know the password, or something on \
                 the path changes messages; its responses still count"
            );
        }
    }

    async fn answer(&self, draft: OutgoingRequest) -> Result<SendMessageResponse, Status> {
        let (_in_flight, transport) = (self.health.begin(), draft.destination.transport);
        let started = Instant::now();
        let at = match self.options.mode {
            Mode::Direct => Hop::Registrar,
            Mode::Proxied => Hop::EdgePort,
        };
        let OutgoingRequest { request, destination, credentials, contact, cseq, minimum } = draft;
        let authenticates = match self.options.mode {
            Mode::Direct => Authenticates::Requester(credentials),
            Mode::Proxied => Authenticates::EdgePort,
        };
        let trace = self.options.trace.clone();
        let mut exchange =
            AuthenticatedTransaction { request, cseq, destination, authenticates, minimum, trace };
        let sent = timeout(self.options.answer_within, self.send(&mut exchange, contact)).await;
        let host = &exchange.destination.host;
        let message = match sent.unwrap_or(Err(ClientError::Timeout)) {
            Ok((Finished { response, authentication, proven }, contact)) => {
                tracing::debug!(host, code = response.code, "answered");
                self.health.ended(transport, &response.code.to_string());
                if proven == Some(false) {
                    self.warn_unproven(host);
                }
                let register = exchange.request.method == "REGISTER";
                let sent = response::Sent { register, contact: contact.as_ref(), authentication };
                response::write_final(&response, &sent)
            }
            Err(error) => {
                let failure = synthetic_response::from_client(error).map_err(refused)?;
                tracing::debug!(host, what = failure.what(), "no answer");
                self.health.ended(transport, failure.what());
                synthetic_response::write(
                    &failure,
                    at,
                    &exchange.request,
                    &exchange.destination,
                    started.elapsed(),
                )
            }
        };
        Ok(SendMessageResponse { message: Some(message) })
    }
}

#[tonic::async_trait]
impl Requester for RequesterService {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        self.options.rules.check(request.get_ref())?;
        let draft = OutgoingRequest::read(request.get_ref(), self.options.mode, self.options.contacts())?;
        // It may be many times as large as what was made of it, and the response may take long.
        drop(request);
        tokio::select! {
            answer = self.answer(draft) => answer.map(Response::new),
            () = self.abandon.cancelled() => Err(Status::unavailable("the Requester is stopping")),
        }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Invalid { .. } => Self::invalid_argument(error.to_string()),
            RequestError::Unsupported(_) => Self::unimplemented(error.to_string()),
            RequestError::Denied(_) => Self::permission_denied(error.to_string()),
        }
    }
}

/// Returns what remains of the client's errors is the request's fault.
fn refused(error: ClientError) -> Status {
    match error {
        ClientError::UnsupportedTransport { .. } => Status::unimplemented(error.to_string()),
        _ => Status::invalid_argument(format!("message: {error}")),
    }
}
