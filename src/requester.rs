//! A Requester: takes a SIP request over gRPC, sends it, and returns the final response. It speaks the
//! contract of Routr's Java Requester and can stand in for it.
//!
//! Two modes, see [`Mode`]:
//!
//! * **direct**: straight to `target`. A digest challenge is answered here, once, with the credentials of the
//!   `X-Gateway-Auth` extension; neither that nor Route is sent on. Contact names where the EdgePort of the
//!   Route hears calls: the address of the `X-Routr-Contact` extension, else that of the Route.
//! * **proxied**: through the EdgePort of the first Route, `X-Gateway-Auth` passed on to it. Contact names
//!   the EdgePort too; with [`ContactHost::Requester`] the Requester itself, as the Java Requester does.
//!
//! Differences from the Java one:
//!
//! * Every call gets a response. Where no registrar sent one, it is made up here: `REQUEST_TIMEOUT`
//!   after silence, `SERVICE_UNAVAILABLE` where the request could not be sent or the host name is unknown.
//!   Such a response has the extension `X-Routr-Local` (see [`routr_types::extension::Local`]) and a reason
//!   phrase that begins with the cause and names the registrar or EdgePort; a response without it is the
//!   registrar's own (a header field of that name in a registrar's response is dropped).
//! * A REGISTER whose connection breaks before the response is sent once more, with the next CSeq number.
//! * Who may call, what for and how much of it is bounded: see [`AccessOptions`] and [`Rules`].
//! * A second service, `RequesterInfo`, says how many requests are taken at a time; one beyond gets
//!   `RESOURCE_EXHAUSTED`.
//! * A request that comes to where REGISTER is sent from gets a response: OPTIONS 200, others an error, and a
//!   line in the log.
//! * A provisional response is never returned.
//! * A code without a `ResponseType` comes back as that of its class, with the code before the reason phrase:
//!   `CLIENT_ERROR`, `433 Anonymity Disallowed`.
//! * Of several Contacts in a response, the one comes back that the request had.
//! * A request that cannot be sent as it is gets gRPC `INVALID_ARGUMENT` with the field at fault, one for a
//!   transport or method that is not offered `UNIMPLEMENTED` (offered: UDP, TCP, TLS; no INVITE
//!   transactions).
//! * The `method` and routing parameters of a URI are left out where RFC 3261 §19.1.1 forbids them.
//!   `contact`, `via`, `record_route`, `content_length` and `www_authenticate` of a request are passed over:
//!   they are written here, or mean nothing in a request.
//!
//! No thread and no poll belongs to a request: one waits as a future, and a caller that goes away drops it.

mod access;
mod address;
mod args;
mod authenticated_transaction;
#[doc(hidden)] // for fuzz/
pub mod authorization;
mod capacity;
mod challenge;
#[doc(hidden)] // for fuzz/
pub mod check;
#[doc(hidden)] // for fuzz/
pub mod credentials;
mod health;
#[doc(hidden)] // for fuzz/
pub mod outgoing_request;
mod resend;
#[doc(hidden)] // for fuzz/
pub mod response;
mod response_type;
mod rules;
mod service;
mod synthetic_response;
mod tls;
mod trace;

use std::{net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

pub use self::{
    access::{AccessOptions, Token, TokenError},
    args::{AdvertisedContact, Mode, Prepared, RequesterAction, RequesterArgs, SipTlsArgs, prepare, run},
    capacity::DEFAULT_CAPACITY,
    health::{DEFAULT_HTTP, Health},
    outgoing_request::ContactHost,
    rules::{HeaderRule, MethodRule, Rules},
    service::RequesterService,
    synthetic_response::HEADER as LOCAL_REPLY,
    tls::sip_tls,
    trace::{Trace, TraceArgs, TraceError},
};
use self::{
    access::{AdmissionControl, SendMessage, accept, with_login},
    capacity::{Info, MAX_STREAMS},
};
use crate::proto::requester_info::requester_info_server::RequesterInfoServer;
use routr_net::tls::{SipTls, TlsFileError, sip::SipTlsError};
use routr_sip::client::{Client, ClientError, ClientOptions, ConnectionBounds, KeepAlive, ResponseOrigin};

/// Time that calls under way may continue by default once the server stops.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Time that the server then waits for its connections to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time that a call takes by default: Timer F of RFC 3261 §17.1.2.2, which is 32 s, and room for
/// looking up the name, connecting and what came before a challenge. So a silence ends with Timer F, not
/// here. The registry waits for 40 s by default.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(38);

/// Explanation in the log when a call comes to the address that REGISTER is sent from, in direct mode.
const CALL_IN_DIRECT_MODE: &str = "this provider routes calls by the source address of the REGISTER rather than by its \
     Contact, so they miss the EdgePort; run the Requester with --mode proxied, or ask the provider to route calls by \
     Contact";

/// As [`CALL_IN_DIRECT_MODE`], in proxied mode.
const CALL_IN_PROXIED_MODE: &str = "the Contact of the REGISTER names the Requester (--proxied-contact requester, or \
     --contact), or the provider routes calls past it; the EdgePort's public address belongs into Contact: \
     publicAddress in edgePorts of the registry";

/// Options of a Requester.
#[derive(Clone, Debug)]
pub struct Options {
    /// Path that requests take.
    pub mode: Mode,
    /// Local address that SIP is sent from.
    pub sip_bind: IpAddr,
    /// Local UDP port that SIP is sent from; 0 for any.
    pub sip_port: u16,
    /// Host and port of Contact instead of the local address, where it names the Requester itself.
    pub contact: Option<AdvertisedContact>,
    /// Host of Contact in proxied mode, unless `contact` is set.
    pub proxied_contact: ContactHost,
    /// Trust in registrars, and the certificate for them; see [`sip_tls`]. `None`: no TLS.
    pub tls: Option<Arc<SipTls>>,
    /// Time limit of a call, all responses to challenges included; then it gets `REQUEST_TIMEOUT`. A
    /// connection that stays silent is examined all the same.
    pub answer_within: Duration,
    /// Silence of a TCP or TLS connection after which a keep-alive is sent (RFC 5626 §3.5.1). `None`: none.
    pub keep_alive: Option<Duration>,
    /// Rules for what callers may ask for.
    pub rules: Rules,
    /// Callers that are let in, and their shares.
    pub access: AccessOptions,
    /// Bounds on connections to registrars.
    pub connections: ConnectionBounds,
    /// Addresses that a response over UDP may come from.
    pub responses_from: ResponseOrigin,
    /// Time that calls under way may continue once the server stops; then they get `UNAVAILABLE`.
    pub grace: Duration,
    /// Keeps the last messages, for `/trace` of the HTTP port. `None`: none are kept.
    pub trace: Option<Trace>,
}

impl Default for Options {
    /// Direct, from any IPv4 address and port, without TLS and keep-alives, [`CALL_TIMEOUT`],
    /// [`SHUTDOWN_GRACE`]; an open door.
    fn default() -> Self {
        Self {
            mode: Mode::Direct,
            sip_bind: IpAddr::from([0, 0, 0, 0]),
            sip_port: 0,
            contact: None,
            proxied_contact: ContactHost::default(),
            tls: None,
            answer_within: CALL_TIMEOUT,
            keep_alive: None,
            rules: Rules::default(),
            access: AccessOptions::default(),
            connections: ConnectionBounds::default(),
            responses_from: ResponseOrigin::default(),
            grace: SHUTDOWN_GRACE,
            trace: None,
        }
    }
}

/// Reason that a Requester cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gRPC port cannot be had.
    #[error("--listen {address}: {source}")]
    Listen {
        /// Address that it cannot listen on.
        address: SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The SIP side cannot start.
    #[error("SIP from {address}: {source}")]
    Sip {
        /// Address that SIP cannot be sent from.
        address: SocketAddr,
        /// Error of the SIP client.
        source: ClientError,
    },
    /// TLS to registrars cannot be set up.
    #[error(transparent)]
    SipTls(#[from] SipTlsError),
    /// The HTTP port cannot be had.
    #[error("--http-listen: {0}")]
    Http(std::io::Error),
    /// A file of the gRPC side's TLS cannot be used.
    #[error(transparent)]
    ServedTls(#[from] TlsFileError),
    /// The token cannot be used.
    #[error("token: {0}")]
    Token(#[from] TokenError),
    /// Flags that do not go together.
    #[error("{0}")]
    Flags(&'static str),
    /// The gRPC server broke.
    #[error("gRPC: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The trace of another process cannot be shown.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

impl Options {
    /// Returns where Contact leads in proxied mode.
    fn contacts(&self) -> ContactHost {
        match self.contact {
            Some(_) => ContactHost::Requester,
            None => self.proxied_contact,
        }
    }

    /// Returns how the SIP client is set up for them.
    fn client(&self) -> ClientOptions {
        ClientOptions {
            bind: self.sip_bind,
            udp_port: self.sip_port,
            tls: self.tls.clone(),
            keep_alive: self.keep_alive.map(KeepAlive::every),
            targets: self.rules.targets.clone(),
            connections: self.connections,
            responses_from: self.responses_from,
            incoming_note: match self.mode {
                Mode::Direct => CALL_IN_DIRECT_MODE,
                Mode::Proxied => CALL_IN_PROXIED_MODE,
            },
            ..ClientOptions::default()
        }
    }
}

/// Bytes of one request, and of all of a connection, that may come before they are read.
const WINDOW_BYTES: (u32, u32) = (64 << 10, 128 << 10);

/// Bytes of the header fields of one HTTP/2 request.
const MAX_HEADER_LIST_BYTES: u32 = 8 << 10;

/// Silence after which a caller is probed, and the time limit of the probe's response: it may be gone without
/// a word.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Bytes of a request to `RequesterInfo`, which has no fields.
const MAX_INFO_REQUEST: usize = 1 << 10;

/// The contract, and beside it what this Requester says of itself; the health service for anyone.
fn router(service: RequesterService, capacity: u32, access: &AccessOptions) -> Router {
    let admission = AdmissionControl::new(access, capacity);
    let (_, health) = tonic_health::server::health_reporter();
    let health = health.max_decoding_message_size(MAX_INFO_REQUEST);
    let info = RequesterInfoServer::new(Info::new(capacity)).max_decoding_message_size(MAX_INFO_REQUEST);
    tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES.0)
        .initial_connection_window_size(WINDOW_BYTES.1)
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(SendMessage::new(&admission, service))
        .add_service(with_login(&admission, info))
        .add_optional_service(Some(health))
}

/// The port of probes and metrics.
#[derive(Debug)]
pub struct HttpPort {
    /// Address to listen on.
    pub listener: TcpListener,
    /// True where Routr's own `/healthz` is there beside the others.
    pub healthz: bool,
}

/// Serves the contract on a listener until `shutdown` is cancelled; calls under way get [`Options::grace`] to
/// finish.
///
/// # Errors
/// When the SIP side cannot start, or the gRPC server breaks.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    serve_with(listener, options, None, shutdown).await
}

/// As [`serve`], with a port for probes and metrics.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    listener: TcpListener,
    options: Options,
    http: Option<HttpPort>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let address = SocketAddr::new(options.sip_bind, options.sip_port);
    let client = Client::start(options.client()).map_err(|source| Error::Sip { address, source })?;
    let (grace, abandon) = (options.grace, CancellationToken::new());
    let (access, trace) = (options.access.clone(), options.trace.clone());
    let health = Health::default();
    let service = RequesterService::new(client.clone(), options)
        .abandoned_by(abandon.clone())
        .counted_by(health.clone());
    // Probes are answered until the last call has ended.
    let probes_end = CancellationToken::new();
    let _probes_end = probes_end.clone().drop_guard();
    if let Some(HttpPort { listener, healthz }) = http {
        tokio::spawn(health::serve(listener, health.clone(), client, trace, healthz, probes_end));
    }
    let router = router(service, DEFAULT_CAPACITY, &access);
    let incoming = accept(listener, access, shutdown.clone());
    let server = router
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), shutdown.clone().cancelled_owned());
    let last = async {
        shutdown.cancelled().await;
        health.stop();
        tokio::time::sleep(grace).await;
        abandon.cancel();
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = last => Ok(()),
    }
}

#[cfg(test)]
mod tests;
