//! Data that the engine exchanges with the program around it: REGISTERs and responses, trunks as they are
//! listed, records as they are kept, and why any of it failed. No type of gRPC, Redis or
//! Kubernetes is among them.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use routr_types::{
    digest_minimum::DigestMinimum,
    extension::{Authentication, Local, ReportedBinding},
    host::{HostPort, Transport},
};

use crate::trunk::{Credentials, Trunk, TrunkProblem};

/// One REGISTER, complete but for what is the same for all of them (Allow, User-Agent, ...), which the port
/// knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterRequest {
    /// Target of the request: the registrar, or where it redirected to.
    pub target: HostPort,
    /// The trunk, or the redirection, names the port of `target`; otherwise it is the transport's default,
    /// and
    /// the DNS may name others (RFC 3263 §4.2).
    pub names_port: bool,
    /// Transport to the target.
    pub transport: Transport,
    /// Host of the Request-URI; it has no user part (RFC 3261 §10.2).
    pub request_host: Box<str>,
    /// Port of the Request-URI: host and port are those of `target`, unless that is an outbound proxy.
    pub request_port: u16,
    /// Transport that the Request-URI names: `transport`, unless the outbound proxy has another one.
    pub request_transport: Transport,
    /// User part of To and From.
    pub user: Box<str>,
    /// Host part of To and From: the registrar domain.
    pub domain: Box<str>,
    /// `sips:` instead of `sip:` in To, From and Request-URI.
    pub secure: bool,
    /// From tag, new for each request.
    pub from_tag: Box<str>,
    /// Call-ID, the same for the life of the registration (RFC 3261 §10.2.4).
    pub call_id: Box<str>,
    /// CSeq number, below 2^31 (RFC 3261 §8.1.1.5).
    pub cseq: u32,
    /// Requested expiry in seconds; 0 removes the binding (RFC 3261 §10.2.2).
    pub expires: u32,
    /// The EdgePort that the request goes through.
    pub edge_port: HostPort,
    /// The public address of the EdgePort for `transport`, which Contact is to name; `None`: that of
    /// `edge_port`.
    pub contact: Option<HostPort>,
    /// Configured option tags to leave out, one bit for each in configuration order.
    pub without_tags: u32,
    /// For the digest challenge.
    pub credentials: Option<Credentials>,
    /// Minimum that a digest challenge has to offer to be answered with them.
    pub digest: DigestMinimum,
}

/// A final answer to a REGISTER, as far as a registration cares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegisterResponse {
    /// SIP status code; `None` where the answer carried no response type that makes sense.
    pub code: Option<u16>,
    /// The registrar's own words.
    pub phrase: Box<str>,
    /// Expires of the Contact that came back: `None` where there was no Contact, or it had none.
    pub contact_expires: Option<i32>,
    /// All Contacts of a 2xx, from a Requester that lists them; Routr's Java one hands over the first alone.
    pub bindings: Vec<ReportedBinding>,
    /// Targets of a redirection, in the order to try them.
    pub targets: Vec<RedirectContact>,
    /// The Expires header field.
    pub expires: Option<i32>,
    /// Min-Expires in seconds, of a 423.
    pub min_expires: Option<u32>,
    /// Retry-After in seconds.
    pub retry_after: Option<u32>,
    /// The option tags of Unsupported, of a 420.
    pub unsupported: Vec<Box<str>>,
    /// CSeq number of the answer: where the Requester authenticated, higher than the one asked for.
    pub cseq: Option<u32>,
    /// The Requester's own Contact, as a hash, where the response lists one that is recognised as such.
    pub requester_contact: Option<u64>,
    /// Set where the Requester made this up itself, because no registrar answered (408) or none could be
    /// reached (503). The Java Requester makes up the same responses without saying so.
    pub local: Option<Local>,
    /// Result of a challenge, on a 401, 403 or 407; `None` where the Requester does not say, as Routr's
    /// own pair.
    pub authentication: Option<Authentication>,
}

/// One target of a redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectContact {
    /// Target.
    pub to: RedirectTarget,
    /// Time that it holds, in seconds, where the Contact says so.
    pub expires: Option<u32>,
}

/// Target that a 3xx points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTarget {
    /// Host and port.
    pub address: HostPort,
    /// Transport, where the URI names one.
    pub transport: Option<Transport>,
}

/// Reason for the lack of a response. A connection concerns all trunks, a call its own trunk alone; what
/// calls of many trunks say together is the engine's to judge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No answer within the deadline of the call.
    #[error("no response from the Requester within {} s", .0.as_secs_f32())]
    Deadline(Duration),
    /// The connection: none can be made. Nothing was sent.
    #[error("the Requester cannot be reached: {0}")]
    Unavailable(Box<str>),
    /// The connection: it broke while the call was under way. The request may have been sent on.
    #[error("the connection to the Requester broke: {cause}")]
    Disconnected {
        /// Details, for a person.
        cause: Box<str>,
        /// It had brought a response to another call: some Requesters and proxies end a connection after
        /// each.
        after_response: bool,
    },
    /// The call: the Requester, or a proxy in front of it, says that it cannot serve this one now. The
    /// request may have been sent on.
    #[error("the call to the Requester failed: {0}")]
    Failed(Box<str>),
    /// The call: the Requester responded with an error instead of a SIP response.
    #[error("the Requester refused: {0}")]
    Refused(Box<str>),
}

/// The connections to the Requester. One that ends in order and is made again is no event, and changes
/// nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// None can be made.
    pub lost: bool,
    /// Restarts of the Requester that were noticed: it has another identity, or another Contact. Where it
    /// says neither, it counts as restarted when it could not be reached for a while.
    pub restarts: u64,
    /// Requests that the Requester says it takes at a time; `None` where it does not say, as Routr's own.
    pub capacity: Option<u32>,
}

/// One trunk as it comes from the source, not yet decoded.
pub trait TrunkItem: Send {
    /// The API server's identifier; `None` where it is missing or empty.
    fn reference(&self) -> Option<&str>;
    /// A hash of the item's bytes, stable within this process: equal means unchanged, unequal means «look
    /// closer».
    fn fingerprint(&self) -> u64;
    /// The trunk's name, for one that [`TrunkItem::decode`] refuses; empty where it cannot be read.
    fn name(&self) -> String {
        String::new()
    }
    /// The trunk itself.
    ///
    /// # Errors
    /// The problem that makes the trunk unusable.
    fn decode(&self) -> Result<Trunk, TrunkProblem>;
}

/// Failure to read the trunks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The API server cannot be reached, or is not able to answer now.
    #[error("the API server cannot be reached: {0}")]
    Unavailable(Box<str>),
    /// It did not answer in time.
    #[error("the API server did not respond within {} s", .0.as_secs_f32())]
    Deadline(Duration),
    /// It answered with an error.
    #[error("the API server refused: {0}")]
    Refused(Box<str>),
    /// Its response cannot be understood.
    #[error("malformed response from the API server: {0}")]
    Malformed(Box<str>),
    /// The list exceeds a bound of the configuration, which the text names.
    #[error("the API server's list exceeds a bound: {0}")]
    TooMuch(Box<str>),
    /// The operator's limits leave no room for a connection.
    #[error("no connection to the API server: {0}")]
    NoRoom(Box<str>),
    /// The receiving side went away.
    #[error("the sync was abandoned")]
    Abandoned,
}

/// Certainty that a trunk that a complete list does not have is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The list shows one moment, or the API server was asked for the trunk by its ref.
    Certain,
    /// The list was read in pages, between which trunks may have moved, or it was empty: a second list has to
    /// say the same.
    Unconfirmed,
}

/// Record of one trunk's registration, as it is kept. Wall-clock times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The trunk.
    pub reference: Box<str>,
    /// Last CSeq number that may have been used with any Call-ID of this trunk.
    pub cseq: u32,
    /// The address of record of the binding, `user@host`.
    pub aor: Box<str>,
    /// Time at which the binding expires; 0 where there is none.
    pub expires_at_ms: u64,
    /// Expiry that the registrar granted, in seconds.
    pub granted_s: u32,
    /// The EdgePort that the binding was made through, `host:port`: its removal goes the same way. Empty
    /// where it is not known.
    pub edge_port: Arc<str>,
    /// Fields that few trunks have.
    pub more: Option<Box<RecordExtras>>,
}

/// Record of a trunk that is, or was, not simply registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RecordExtras {
    /// The waits after refused credentials, or an unknown account, one for each URI: first the one that the
    /// trunk waits for.
    pub refusals: Vec<RefusalRecord>,
    /// Bindings made before the current one, elsewhere, that may still be valid.
    pub earlier: Vec<EarlierBinding>,
}

/// A wait after a refusal. Nothing of the password is in it, nor anything that it could be guessed from.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RefusalRecord {
    /// The account does not exist, rather than that its password is wrong.
    pub unknown_account: bool,
    /// The address of record that was refused, `user@host`.
    pub aor: Box<str>,
    /// The username that was refused; empty where there was none.
    pub username: Box<str>,
    /// Not before this time is it offered again.
    pub until_ms: u64,
    /// Since when it has been refused.
    pub since_ms: u64,
    /// Refusals in a row.
    pub times: u8,
}

/// A binding at another address of record, or by another EdgePort.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EarlierBinding {
    /// `user@host`.
    pub aor: Box<str>,
    /// `host:port`.
    pub edge_port: Box<str>,
    /// Time at which it expires.
    pub expires_at_ms: u64,
}

/// A change to what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Insert or replace.
    Put(Record),
    /// Forget the trunk of this reference.
    Forget(Box<str>),
}

/// Failure of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or does not answer: try again later.
    #[error("the cache cannot be reached: {0}")]
    Unavailable(Box<str>),
    /// It refuses the credentials: trying again soon does not help.
    #[error("the cache rejects the credentials: {0}")]
    Denied(Box<str>),
    /// It answers with an error.
    #[error("the cache refused: {0}")]
    Refused(Box<str>),
    /// Another process acts for this registry.
    #[error("another process acts for this registry: {0}")]
    Taken(Box<str>),
    /// Another process writes the same keys: both act for this registry.
    #[error("another process writes the same keys of the cache: {0}")]
    Shared(Box<str>),
}

/// Another process that acts for the same registry by the same store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its process and host, in words.
    pub who: Box<str>,
    /// Since when it acts, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// Budget of what an engine may keep in memory, beside its configuration's own bound on trunks.
pub trait MemoryBudget: fmt::Debug + Send + Sync + 'static {
    /// Returns whether there is room for more trunks, of so many bytes together.
    ///
    /// # Errors
    /// The limit that leaves no room.
    fn fits(&self, trunks: u64, bytes: u64) -> Result<(), Excess>;
    /// Takes note of how many trunks there are now, and their bytes.
    fn uses(&self, trunks: u64, bytes: u64);
}

impl fmt::Display for RedirectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Some(transport) => write!(f, "{} ({transport})", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who)?;
        let since = i64::try_from(self.since_ms).ok().filter(|since| *since > 0);
        match since.and_then(|since| jiff::Timestamp::from_millisecond(since).ok()) {
            Some(since) => write!(f, ", since {}", since.strftime("%Y-%m-%dT%H:%M:%SZ")),
            None => Ok(()),
        }
    }
}

/// Limit that a Registry exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The number of trunks.
    Trunks,
    /// The memory of trunks.
    TrunkMemory,
    /// The memory of responses that are being read.
    ResponseMemory,
    /// The number of open connections.
    Connections,
    /// The processor time.
    Processor,
    /// The lines of the log.
    Log,
}

impl Excess {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Trunks,
        Self::TrunkMemory,
        Self::ResponseMemory,
        Self::Connections,
        Self::Processor,
        Self::Log,
    ];
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trunks => {
                "the operator's --max-trunks leaves no room for more trunks of this namespace"
            }
            Self::TrunkMemory => {
                "the operator's --max-trunk-memory leaves no room for more trunks of this namespace"
            }
            Self::ResponseMemory => {
                "responses are larger than the operator's --max-response-memory allows this namespace at the moment"
            }
            Self::Connections => {
                "the operator's --max-connections leaves no room for more connections of this namespace"
            }
            Self::Processor => {
                "its lists take more than a Registry's share of processor time: they are read more slowly"
            }
            Self::Log => {
                "it, or its namespace, logs more than a Registry's or a namespace's share of lines: the rest is counted, not written"
            },
        })
    }
}

/// A SIP server at the edge that REGISTERs go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgePort {
    /// SIP address, port 5060 by default.
    pub address: HostPort,
    /// Preferred by trunks of the same region.
    pub region: Option<String>,
    /// Addresses at which it hears calls from outside, for Contact.
    pub public: PublicAddresses,
}

/// Addresses at which an EdgePort hears calls from outside, by transport; `None`: its own address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicAddresses {
    /// Over UDP.
    pub udp: Option<HostPort>,
    /// Over TCP.
    pub tcp: Option<HostPort>,
    /// Over TLS.
    pub tls: Option<HostPort>,
}

impl PublicAddresses {
    /// The one for a transport.
    pub fn of(&self, transport: Transport) -> Option<&HostPort> {
        match transport {
            Transport::Udp => self.udp.as_ref(),
            Transport::Tcp => self.tcp.as_ref(),
            Transport::Tls => self.tls.as_ref(),
            Transport::Sctp | Transport::Ws | Transport::Wss => None,
        }
    }
}

/// `udp=HOST:PORT tcp=HOST:PORT tls=HOST:PORT`, without those that are not given.
impl fmt::Display for PublicAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (name, address) in [("udp", &self.udp), ("tcp", &self.tcp), ("tls", &self.tls)] {
            if let Some(address) = address {
                write!(f, "{}{name}={address}", if first { "" } else { " " })?;
                first = false;
            }
        }
        Ok(())
    }
}

impl FromStr for PublicAddresses {
    type Err = ();

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut read = Self::default();
        for part in text.split_ascii_whitespace() {
            let (name, address) = part.split_once('=').ok_or(())?;
            let (host, port) = address.rsplit_once(':').ok_or(())?;
            let address = HostPort::new(host, port.parse().map_err(|_| ())?);
            match name {
                "udp" => read.udp = Some(address),
                "tcp" => read.tcp = Some(address),
                "tls" => read.tls = Some(address),
                _ => return Err(()),
            }
        }
        Ok(read)
    }
}
