//! Choice of the steps that the case has for a request.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    bindings::{Binding, Bindings, address_of_record, asked, granted},
    case::{Case, Over, Step, spent},
    context::{Context, Node, random},
    dialogue::Dialogue,
    digest::{Demand, Params, Verdict, credentials, verify},
    journal::{Journal, Received, Seen},
    template::Template,
    when::Facts,
    wire::{Wire, uri, user_and_host},
};
use routr_types::secret::Secret;

/// Most transactions, Call-IDs and nonces that are remembered, each.
const MAX_REMEMBERED: usize = 20_000;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub node: usize,
    pub over: Over,
    pub source: SocketAddr,
    /// The number of its connection, and its own number there.
    pub connection: Option<(u64, u64)>,
    pub wire: Wire,
}

/// Decision about a request.
#[derive(Debug)]
pub(super) enum Decision {
    /// Responses that were sent for the same request before are sent again.
    Replay(Vec<Vec<u8>>),
    /// These steps.
    Perform(Box<Performance>),
}

/// Steps, and all that they need.
#[derive(Debug)]
pub(super) struct Performance {
    pub steps: Vec<Step>,
    pub context: Context,
    key: Key,
    id: u64,
}

/// A client transaction: node, method, Call-ID, CSeq and branch.
type Key = (usize, String, String, u32, String);

/// State kept of a transaction.
#[derive(Clone, Debug, Default)]
struct Transaction {
    arrived: u64,
    request: u64,
    total: u64,
    id: u64,
    verdicts: Vec<(String, Verdict)>,
    sent: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    total: u64,
    calls: Remembered<String, u64>,
    transactions: Remembered<Key, Transaction>,
    /// Highest nc so far, by node and nonce.
    nonces: Remembered<(usize, String), u32>,
    uses: HashMap<usize, u64>,
    bindings: Bindings,
    journal: Journal,
}

/// A case being played.
#[derive(Debug)]
pub(super) struct Script {
    case: Case,
    pub nodes: Arc<[Node]>,
    /// Demands, each with the realm as `digest` writes it, and its bytes.
    demands: Vec<(String, Vec<u8>, Demand)>,
    password: Secret,
    pub dialogue: Dialogue,
    state: Mutex<State>,
}

impl Script {
    pub fn new(case: Case, nodes: Arc<[Node]>, password: Secret, dialogue: Dialogue) -> Self {
        let realm = |demand: &Demand| match Template::parse(&demand.realm) {
            Ok(template) => template.bytes(|_| Vec::new()),
            Err(_) => demand.realm.clone().into_bytes(),
        };
        let demands = case.digest.iter().map(|d| (d.realm.clone(), realm(d), d.clone())).collect();
        Self { case, nodes, demands, password, dialogue, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests seen so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().journal.seen()
    }

    /// The client's responses so far.
    pub fn received(&self) -> Vec<Received> {
        self.state().journal.received()
    }

    /// The bindings that have not expired, by address of record.
    pub fn bindings(&self) -> BTreeMap<String, Vec<Binding>> {
        let now = self.dialogue.elapsed();
        self.state().bindings.all(now)
    }

    /// A response of the client to a request of ours.
    pub fn response(&self, node: usize, source: SocketAddr, wire: &Wire) {
        let Some((code, reason)) = wire.response() else { return };
        let method = wire.cseq().map_or_else(String::new, |(_, method)| method);
        let node = self.nodes.get(node).map_or_else(String::new, |node| node.name.clone());
        self.state().journal.respond(Received { node, source, code, reason, method });
    }

    /// Deals with a request; `None` where the message is none.
    pub fn decide(&self, arrival: Arrival) -> Option<Decision> {
        let Arrival { node, over, source, connection, wire } = arrival;
        let (method, request_uri) = wire.request()?;
        let place = self.nodes.get(node)?;
        let now = self.dialogue.elapsed();
        let call_id = wire.text("Call-ID").unwrap_or_default();
        let cseq = wire.cseq().map_or(0, |(number, _)| number);
        let key = (node, method.clone(), call_id.clone(), cseq, wire.branch().unwrap_or_default());
        let offered = credentials(&wire);
        let asked = asked(&wire, self.case.expires);
        let to = wire.text("To").unwrap_or_default();
        let user = user_and_host(uri(&to)).0;

        let mut state = self.state();
        let mut transaction = match state.transactions.get(&key) {
            Some(known) if over == Over::Udp && !known.sent.is_empty() => {
                let (id, sent) = (known.id, known.sent.clone());
                state.journal.change(id, |seen| seen.sendings += 1);
                return Some(Decision::Replay(sent));
            }
            Some(known) => known.clone(),
            None => {
                state.total += 1;
                let total = state.total;
                let request = state.calls.get(&call_id).copied().unwrap_or_default() + 1;
                state.calls.insert(call_id.clone(), request);
                let verdicts = self.verdicts(&mut state, node, &wire, &offered);
                Transaction { request, total, verdicts, ..Transaction::default() }
            }
        };
        transaction.arrived += 1;
        if transaction.arrived == 1 {
            transaction.id = state.journal.add(Seen {
                at: now,
                node: place.name.clone(),
                over,
                source,
                connection: connection.map(|(number, _)| number),
                method: method.clone(),
                request_uri,
                user: user.clone(),
                call_id,
                cseq,
                contact: String::from_utf8_lossy(&wire.joined("Contact")).into_owned(),
                asked,
                require: String::from_utf8_lossy(&wire.joined("Require")).into_owned(),
                gateway_auth: wire.all("X-Gateway-Auth").next().is_some(),
                credentials: transaction.verdicts.clone(),
                sendings: 1,
                codes: Vec::new(),
                id: 0,
            });
        } else {
            state.journal.change(transaction.id, |seen| {
                seen.sendings += 1;
                seen.connection = connection.map(|(number, _)| number);
            });
        }
        let facts = Facts {
            message: &wire,
            method: &method,
            node: [&place.name, &place.group],
            transport: over,
            user: &user,
            request: transaction.request,
            total: transaction.total,
            sending: transaction.arrived,
            connection: connection.map(|(number, _)| number),
            on_connection: connection.map(|(_, number)| number),
            credentials: &transaction.verdicts,
            deregister: asked == 0,
            asked,
        };
        let uses = |at: usize| state.uses.get(&at).copied().unwrap_or_default();
        let found = self
            .case
            .rules
            .iter()
            .enumerate()
            .find(|(at, rule)| !spent(rule, uses(*at)) && rule.when.holds(&facts));
        let steps = match found {
            Some((at, rule)) => {
                *state.uses.entry(at).or_default() += 1;
                rule.then.clone()
            }
            None => self.usual(&method, &transaction.verdicts),
        };
        let grants = |step: &Step| match step {
            Step::Respond(template) | Step::Half(template) => template.begins_with(b"SIP/2.0 2"),
            _ => false,
        };
        if method == "REGISTER" && transaction.arrived == 1 && steps.iter().any(grants) {
            state.bindings.update(&wire, self.case.expires, now);
        }
        let id = transaction.id;
        state.transactions.insert(key.clone(), transaction);
        let nonce = random();
        state.nonces.insert((node, nonce.clone()), 0);
        let bindings = state.bindings.of(&address_of_record(&wire), now);
        drop(state);
        let context = Context {
            nodes: Arc::clone(&self.nodes),
            node,
            over,
            source,
            nonce,
            asked,
            granted: granted(asked, self.case.expires),
            bindings,
            now,
            credentials: offered.into_iter().next(),
            password: self.password.clone(),
            request: wire,
        };
        Some(Decision::Perform(Box::new(Performance { steps, context, key, id })))
    }

    /// Remembers what was sent for a request.
    pub fn sent(&self, performance: &Performance, bytes: &[u8], replay: bool) {
        let mut state = self.state();
        if let Some(transaction) = state.transactions.get_mut(&performance.key).filter(|_| replay) {
            transaction.sent.push(bytes.to_vec());
        }
        let code = Wire::datagram(bytes).ok().and_then(|wire| wire.response());
        if let Some((code, _)) = code {
            state.journal.change(performance.id, |seen| seen.codes.push(code));
        }
    }

    /// Returns what the credentials of a request are worth, by realm.
    fn verdicts(
        &self,
        state: &mut State,
        node: usize,
        wire: &Wire,
        offered: &[Params],
    ) -> Vec<(String, Verdict)> {
        let mut worth = |params: &Params, demand: &Demand| {
            if !verify(params, demand, &self.password, wire) {
                return Verdict::Wrong;
            }
            let nonce = params.text("nonce").unwrap_or_default();
            let Some(highest) = state.nonces.get_mut(&(node, nonce)) else { return Verdict::Foreign };
            let count = params.text("nc").and_then(|nc| u32::from_str_radix(&nc, 16).ok());
            match count {
                Some(count) if count <= *highest => Verdict::Replayed,
                Some(count) => {
                    *highest = count;
                    Verdict::Right
                }
                None => Verdict::Right,
            }
        };
        if self.demands.is_empty() {
            let verdict = offered.first().map_or(Verdict::None, |params| worth(params, &Demand::default()));
            return vec![(String::new(), verdict)];
        }
        let one = |(name, realm, demand): &(String, Vec<u8>, Demand)| {
            let mut own = offered.iter().filter(|params| params.get("realm") == Some(realm)).peekable();
            let verdict = match own.peek() {
                None => Verdict::None,
                // A client may respond to several challenges of one realm; the one that counts is demanded.
                Some(_) => own
                    .map(|params| worth(params, demand))
                    .fold(Verdict::None, |best, next| if best == Verdict::Right { best } else { next }),
            };
            (name.clone(), verdict)
        };
        let mut verdicts: Vec<(String, Verdict)> = self.demands.iter().map(one).collect();
        // Credentials for a realm that no one asked for are wrong for all of them.
        if verdicts.iter().all(|(_, verdict)| *verdict == Verdict::None) && !offered.is_empty() {
            verdicts.iter_mut().for_each(|(_, verdict)| *verdict = Verdict::Wrong);
        }
        verdicts
    }

    /// Returns what is done with requests that no rule is for.
    fn usual(&self, method: &str, verdicts: &[(String, Verdict)]) -> Vec<Step> {
        let right = verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Right);
        let text = match method {
            "ACK" => return vec![Step::Silence],
            "REGISTER" if self.demands.is_empty() || right => "SIP/2.0 200 OK\nContact: ${bindings}".to_owned(),
            "REGISTER" => self.demands.iter().fold("SIP/2.0 401 Unauthorized".to_owned(), |text, (.., demand)| {
                let Demand { realm, algorithm, qop, opaque } = demand;
                let algorithm = algorithm.as_deref().unwrap_or("MD5");
                let qop = match qop.as_deref() {
                    Some("none") => String::new(),
                    other => format!(", qop=\"{}\"", other.unwrap_or("auth")),
                };
                let opaque = opaque.iter().map(|opaque| format!(", opaque=\"{opaque}\"")).collect::<String>();
                format!(
                    "{text}\nWWW-Authenticate: Digest realm=\"{realm}\", nonce=\"${{nonce}}\", algorithm={algorithm}{qop}{opaque}"
                )
            }),
            "OPTIONS" => "SIP/2.0 200 OK\nAllow: REGISTER, OPTIONS".to_owned(),
            _ => "SIP/2.0 501 Not Implemented".to_owned(),
        };
        // A realm that is no template was refused when the case was read.
        Template::parse(&text).map_or_else(|_| vec![Step::Silence], |template| vec![Step::Respond(template)])
    }
}

/// A map that forgets what it has had longest.
#[derive(Debug)]
struct Remembered<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Hash + Eq + Clone, V> Remembered<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
    }
}
