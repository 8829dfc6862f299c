//! Scripted EdgePorts: a SIP proxy of the least kind on UDP that responds to digest challenges by
//! X-Gateway-Auth, as Routr's does, and misbehaves as Routr's does: it never stops offering a password that
//! was rejected.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::Engine as _;
use serde::Deserialize;
use tokio::{net::UdpSocket, time::sleep};

use super::{
    case::Over,
    context::random,
    dialogue::{Dialogue, Way},
    digest::answer,
    net::{Tasks, back},
    when::Pause,
    wire::{Wire, is_field, port, user_and_host},
};
use routr_types::secret::Secret;

/// Most client transactions that one EdgePort remembers, those of its loops included.
const MAX_TRANSACTIONS: usize = 4096;
/// The greatest CSeq number (RFC 3261 §8.1.1.5).
const MAX_CSEQ: u32 = (1 << 31) - 1;

/// One EdgePort of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EdgePortScript {
    /// Its name.
    pub name: String,
    /// Its port is held, and it does not run.
    #[serde(default)]
    pub closed: bool,
    /// Behaviour once the registrar has rejected a password.
    #[serde(default)]
    pub wrong_password: WrongPassword,
    /// The time between two offers of a loop.
    #[serde(default = "pace")]
    pub pace: Pause,
    /// Most offers of one loop: here each ends, those of Routr's do not.
    #[serde(default = "limit")]
    pub limit: u32,
}

fn pace() -> Pause {
    Pause(std::time::Duration::from_millis(50))
}

fn limit() -> u32 {
    2000
}

/// Behaviour of an EdgePort once the registrar has rejected a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WrongPassword {
    /// Routr's behaviour: it offers it again and again, and the client never hears of it.
    #[default]
    Loop,
    /// It passes the rejection on.
    PassOn,
}

/// Counters of an EdgePort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgePortCounts {
    /// Requests of clients, those sent again left out.
    pub requests: u64,
    /// Credentials that it sent in response to challenges.
    pub offers: u64,
}

/// A running EdgePort.
#[derive(Debug)]
pub(super) struct EdgePort {
    script: EdgePortScript,
    address: SocketAddr,
    dialogue: Dialogue,
    requests: AtomicU64,
    offers: AtomicU64,
    forwarded: Mutex<Forwarded>,
}

/// One request of a client, by the branch of what was sent on for it.
#[derive(Clone, Debug)]
struct Transaction {
    /// Request as it came.
    original: Wire,
    back: SocketAddr,
    /// Request to forward: without Route and X-Gateway-Auth, with our Via.
    onward: Wire,
    to: SocketAddr,
    credentials: Option<(String, Secret)>,
    offers: u32,
}

#[derive(Debug, Default)]
struct Forwarded {
    by_branch: HashMap<String, Transaction>,
    order: VecDeque<String>,
    /// Branch of a client's request, and what came of it so far.
    known: HashMap<String, Option<Vec<u8>>>,
    known_order: VecDeque<String>,
}

impl EdgePort {
    pub fn new(script: EdgePortScript, address: SocketAddr, dialogue: Dialogue) -> Arc<Self> {
        let (requests, offers, forwarded) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { script, address, dialogue, requests, offers, forwarded })
    }

    pub fn name(&self) -> &str {
        &self.script.name
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn counts(&self) -> EdgePortCounts {
        let [requests, offers] =
            [&self.requests, &self.offers].map(|counter| counter.load(Ordering::Relaxed));
        EdgePortCounts { requests, offers }
    }

    /// Passes messages on until the play ends.
    pub fn serve(self: &Arc<Self>, tasks: &Tasks, socket: UdpSocket) {
        let (edge, spawner, socket) = (Arc::clone(self), tasks.clone(), Arc::new(socket));
        tasks.spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                let Ok((length, source)) = socket.recv_from(&mut buffer).await else { continue };
                let Ok(wire) = Wire::datagram(&buffer[..length]) else { continue };
                edge.shown(Way::In, source, &wire.bytes());
                if wire.request().is_some() {
                    edge.request(&socket, wire, source).await;
                } else {
                    edge.response(&spawner, &socket, wire).await;
                }
            }
        });
    }

    fn forwarded(&self) -> MutexGuard<'_, Forwarded> {
        self.forwarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request(&self, socket: &UdpSocket, wire: Wire, source: SocketAddr) {
        let back = back(&wire, source);
        let branch = wire.branch().unwrap_or_default();
        let known = self.forwarded().known.get(&branch).cloned();
        match known {
            // Sent again: it hears what is known, if anything is.
            Some(Some(bytes)) => return self.send(socket, back, &bytes).await,
            Some(None) => return,
            None => {}
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some((_, uri)) = wire.request() else { return };
        let Some(to) = next_hop(&uri).await else {
            self.dialogue.note(&format!("{}: the host of {uri} has no address", self.script.name));
            return;
        };
        let mut onward = wire.clone();
        let gateway_auth = wire.text("X-Gateway-Auth");
        onward.fields.retain(|(name, _)| !is_field(name, b"X-Gateway-Auth"));
        // The first Route is this EdgePort's own; whatever follows it is not needed here.
        onward.fields.retain(|(name, _)| !is_field(name, b"Route"));
        let credentials = gateway_auth.and_then(|value| {
            let text = base64::prelude::BASE64_STANDARD.decode(value.trim()).ok()?;
            let text = String::from_utf8(text).ok()?;
            let (user, password) = text.split_once(':')?;
            Some((user.to_owned(), Secret::new(password)))
        });
        self.forwarded().remember(branch, None);
        let transaction = Transaction { original: wire, back, onward, to, credentials, offers: 0 };
        self.forward(socket, transaction).await;
    }

    /// Sends what goes on, with a Via of its own.
    async fn forward(&self, socket: &UdpSocket, transaction: Transaction) {
        let branch = format!("z9hG4bK{}", random());
        let via = format!("SIP/2.0/UDP {};branch={branch};rport", self.address);
        let mut onward = transaction.onward.clone();
        onward.fields.insert(0, (b"Via".to_vec(), via.into_bytes()));
        let to = transaction.to;
        self.forwarded().add(branch, transaction);
        self.send(socket, to, &onward.bytes()).await;
    }

    async fn response(self: &Arc<Self>, tasks: &Tasks, socket: &Arc<UdpSocket>, mut wire: Wire) {
        let (Some(branch), Some((code, _))) = (wire.branch(), wire.response()) else { return };
        let Some(mut transaction) = self.forwarded().take(&branch, code) else { return };
        if let Some(next) = self.next_offer(&transaction, &wire, code) {
            let again = transaction.offers > 0;
            if again && self.script.wrong_password == WrongPassword::PassOn {
                // Passed on below.
            } else if transaction.offers >= self.script.limit {
                self.dialogue.note(&format!("{}: a loop ended at its limit", self.script.name));
                return;
            } else {
                (transaction.onward, transaction.offers) = (next, transaction.offers + 1);
                self.offers.fetch_add(1, Ordering::Relaxed);
                let (edge, socket, pace) = (Arc::clone(self), Arc::clone(socket), self.script.pace.0);
                tasks.spawn(async move {
                    if again {
                        sleep(pace).await;
                    }
                    edge.forward(&socket, transaction).await;
                });
                return;
            }
        }
        if let Some(at) = wire.fields.iter().position(|(name, _)| is_field(name, b"Via")) {
            wire.fields.remove(at);
        }
        // The client's transaction has the client's number.
        let cseq = transaction.original.text("CSeq").unwrap_or_default();
        if let Some((_, value)) = wire.fields.iter_mut().find(|(name, _)| is_field(name, b"CSeq")) {
            *value = cseq.into_bytes();
        }
        let bytes = wire.bytes();
        let client = transaction.original.branch().unwrap_or_default();
        self.forwarded().remember(client, Some(bytes.clone()));
        self.send(socket, transaction.back, &bytes).await;
    }

    /// Returns the request with credentials for the challenge in it; `None` where there are none to offer.
    fn next_offer(&self, transaction: &Transaction, wire: &Wire, code: u16) -> Option<Wire> {
        let (asks, answers) = match code {
            401 => ("WWW-Authenticate", "Authorization"),
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => return None,
        };
        let (user, password) = transaction.credentials.as_ref()?;
        let (method, uri) = transaction.onward.request()?;
        let cnonce = random();
        let value =
            wire.all(asks).find_map(|challenge| answer(challenge, user, password, &method, &uri, &cnonce))?;
        let mut next = transaction.onward.clone();
        next.fields.retain(|(name, _)| !is_field(name, answers.as_bytes()));
        next.fields.push((answers.as_bytes().to_vec(), value));
        let (number, method) = next.cseq().filter(|(number, _)| *number < MAX_CSEQ)?;
        let cseq = next.fields.iter_mut().find(|(name, _)| is_field(name, b"CSeq"))?;
        cseq.1 = format!("{} {method}", number + 1).into_bytes();
        Some(next)
    }

    async fn send(&self, socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) {
        self.shown(Way::Out, to, bytes);
        // Anyone who is not there any more needs no message.
        let _ = socket.send_to(bytes, to).await;
    }

    fn shown(&self, way: Way, peer: SocketAddr, bytes: &[u8]) {
        self.dialogue.message(way, &self.script.name, Over::Udp, peer, "", bytes);
    }
}

impl Forwarded {
    fn add(&mut self, branch: String, transaction: Transaction) {
        self.by_branch.insert(branch.clone(), transaction);
        self.order.push_back(branch);
        if self.order.len() > MAX_TRANSACTIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_branch.remove(&oldest);
        }
    }

    /// The transaction of a response; a final one ends it.
    fn take(&mut self, branch: &str, code: u16) -> Option<Transaction> {
        if code < 200 { self.by_branch.get(branch).cloned() } else { self.by_branch.remove(branch) }
    }

    fn remember(&mut self, branch: String, response: Option<Vec<u8>>) {
        if self.known.insert(branch.clone(), response).is_some() {
            return;
        }
        self.known_order.push_back(branch);
        if self.known_order.len() > MAX_TRANSACTIONS
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

async fn next_hop(uri: &str) -> Option<SocketAddr> {
    let (_, host) = user_and_host(uri);
    let port = port(uri).unwrap_or(5060);
    let found = tokio::net::lookup_host(format!("{host}:{port}")).await;
    found.ok().and_then(|mut addresses| addresses.next())
}
