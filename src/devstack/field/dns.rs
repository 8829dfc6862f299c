//! Scripted name servers: records and failures from a case file, over UDP and TCP.

mod server;

use std::{
    collections::HashMap,
    str::FromStr as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{
    case::{Over, within},
    dialogue::Dialogue,
    template::{Slot, Template},
    when::{Pause, Span},
};

pub(super) use self::server::{bind, serve};

/// Most queries that wait for a delayed response at a time, and most TCP connections.
const MAX_WAITING: usize = 256;
/// Most CNAMEs that are followed.
const MAX_CHAIN: usize = 8;
/// Most queries that are remembered.
const MAX_QUERIES: usize = 10_000;

/// Behaviour of the name servers: the `dns` of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DnsScript {
    /// Their names; one server `dns` where it is absent.
    #[serde(default = "one_server")]
    pub servers: Vec<String>,
    /// Responses: the first entry that applies. A name with other entries has no records of that type, any
    /// other name does not exist.
    #[serde(default)]
    pub records: Vec<Entry>,
}

/// One entry: records, or a failure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Entry {
    /// The name asked for; `"*"` for any.
    pub name: String,
    /// The type asked for; any where it is absent. A CNAME applies to all types.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// The server that is asked; any where it is absent.
    #[serde(default)]
    pub server: Option<String>,
    /// The number of the query among those of this name and type at that server, from 1.
    #[serde(default)]
    pub query: Option<Span>,
    /// UDP or TCP; both where it is absent.
    #[serde(default)]
    pub over: Option<Over>,
    /// Time to live in seconds.
    #[serde(default)]
    pub ttl: u32,
    /// Each response begins with the next record (round robin).
    #[serde(default)]
    pub rotate: bool,
    /// The data of each record as a zone file writes it, `${node.NAME.ip}` and the like filled in.
    #[serde(default)]
    pub data: Vec<Template>,
    /// End of the query.
    #[serde(default)]
    pub response: Ending,
    /// Time that the response waits.
    #[serde(default)]
    pub wait: Option<Pause>,
}

/// End of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The records.
    #[default]
    Records,
    /// SERVFAIL.
    Servfail,
    /// REFUSED.
    Refused,
    /// NXDOMAIN.
    Nxdomain,
    /// FORMERR.
    Formerr,
    /// NOTIMP.
    Notimp,
    /// No response.
    Silence,
    /// The TC bit over UDP, the records over TCP.
    Truncated,
    /// Bytes that are no DNS message.
    Garbage,
}

/// One query that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The server.
    pub server: String,
    /// The name, in lower case, with the final dot.
    pub name: String,
    /// `A`, `SRV`, ...
    pub kind: String,
    /// Transport of the query.
    pub over: Over,
    /// The response code; `None` for silence.
    pub response: Option<String>,
}

fn one_server() -> Vec<String> {
    vec!["dns".to_owned()]
}

impl DnsScript {
    /// The nodes that records name.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.records.iter().flat_map(|entry| &entry.data).flat_map(Template::nodes)
    }

    /// Field and problem of the first contradiction.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        for (at, entry) in self.records.iter().enumerate() {
            let field = |name: &str| format!("dns.records[{at}].{name}");
            if entry.name != "*" && Name::from_ascii(&entry.name).is_err() {
                return Err((field("name"), format!("{:?}: expected a domain name", entry.name)));
            }
            if let Some(kind) = entry.kind.as_ref().filter(|kind| RecordType::from_str(kind).is_err()) {
                return Err((field("type"), format!("{kind:?}: expected A, AAAA, SRV, NAPTR, CNAME, ...")));
            }
            if let Some(server) = entry.server.as_ref().filter(|server| !self.servers.contains(server)) {
                return Err((field("server"), format!("{server:?} is none of {}", self.servers.join(", "))));
            }
            if entry.kind.is_none() && !entry.data.is_empty() {
                return Err((field("type"), "is missing; records need one".to_owned()));
            }
        }
        Ok(())
    }
}

/// An entry with its addresses filled in.
#[derive(Debug)]
struct Prepared {
    entry: Entry,
    name: Option<Name>,
    kind: Option<RecordType>,
    data: Vec<RData>,
}

#[derive(Debug, Default)]
struct Asked {
    /// Number of queries, by server, name and type.
    counts: HashMap<(String, String, RecordType), u64>,
    /// Turns of the rotation, by entry.
    turns: HashMap<usize, usize>,
    queries: Vec<Query>,
}

/// The name servers of a case.
#[derive(Debug)]
pub(super) struct Dns {
    entries: Vec<Prepared>,
    asked: Mutex<Asked>,
    places: Arc<Semaphore>,
}

/// Response to one query.
struct Outcome {
    wait: Duration,
    bytes: Option<Vec<u8>>,
}

impl Dns {
    /// Fills in the addresses.
    ///
    /// # Errors
    /// The number of the entry whose data is no record of its type, and why.
    pub fn new(script: &DnsScript, value: impl Fn(&Slot) -> Vec<u8>) -> Result<Self, (usize, String)> {
        let mut entries = Vec::with_capacity(script.records.len());
        for (at, entry) in script.records.iter().enumerate() {
            let kind = entry.kind.as_deref().and_then(|kind| RecordType::from_str(kind).ok());
            let data = entry.data.iter().map(|template| {
                let text = String::from_utf8_lossy(&template.bytes(&value)).into_owned();
                RData::try_from_str(kind.unwrap_or(RecordType::ZERO), &text)
                    .map_err(|error| (at, format!("{text:?}: {error}")))
            });
            let name = absolute(&entry.name);
            entries.push(Prepared {
                entry: entry.clone(),
                name,
                kind,
                data: data.collect::<Result<_, _>>()?,
            });
        }
        Ok(Self { entries, asked: Mutex::default(), places: Arc::new(Semaphore::new(MAX_WAITING)) })
    }

    /// The queries so far, oldest first.
    pub fn queries(&self) -> Vec<Query> {
        self.asked().queries.clone()
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deals with one query; `None` where it is none.
    fn respond(&self, server: &str, over: Over, bytes: &[u8], dialogue: &Dialogue) -> Option<Outcome> {
        let query =
            Message::from_vec(bytes).ok().filter(|m| m.metadata.message_type == MessageType::Query)?;
        let question = query.queries.first()?.clone();
        let (name, kind) = (question.name().to_lowercase(), question.query_type());
        let mut asked = self.asked();
        let count = asked.counts.entry((server.to_owned(), name.to_string(), kind)).or_default();
        *count += 1;
        let number = *count;
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.metadata.authoritative = true;
        response.queries = vec![question];
        let found = self.find(server, over, &name, kind, number);
        let ending = found.map_or(Ending::Records, |at| self.entries[at].entry.response);
        let (code, silent) = match ending {
            Ending::Records | Ending::Truncated | Ending::Garbage => {
                self.answer(&mut asked, &mut response, found, server, over, &name, kind, number);
                (response.metadata.response_code, false)
            }
            Ending::Servfail => (ResponseCode::ServFail, false),
            Ending::Refused => (ResponseCode::Refused, false),
            Ending::Nxdomain => (ResponseCode::NXDomain, false),
            Ending::Formerr => (ResponseCode::FormErr, false),
            Ending::Notimp => (ResponseCode::NotImp, false),
            Ending::Silence => (ResponseCode::NoError, true),
        };
        response.metadata.response_code = code;
        if ending == Ending::Truncated && over == Over::Udp {
            response.answers.clear();
            response.metadata.truncation = true;
        }
        let bytes = match ending {
            Ending::Silence => None,
            Ending::Garbage => Some(b"\xff\xffno DNS".to_vec()),
            _ => response.to_vec().ok(),
        };
        let shown = (!silent).then(|| code.to_string());
        let said = shown.clone().unwrap_or_else(|| "silence".to_owned());
        let answers: Vec<String> = response.answers.iter().map(|record| record.data.to_string()).collect();
        dialogue.note(&format!("{server}/{over} {name} {kind} -> {said} {}", answers.join(", ")));
        if asked.queries.len() < MAX_QUERIES {
            let (server, name, kind) = (server.to_owned(), name.to_string(), kind.to_string());
            asked.queries.push(Query { server, name, kind, over, response: shown });
        }
        let wait = found.and_then(|at| self.entries[at].entry.wait).map_or(Duration::ZERO, |wait| wait.0);
        Some(Outcome { wait, bytes })
    }

    /// The entry that applies.
    fn find(&self, server: &str, over: Over, name: &Name, kind: RecordType, number: u64) -> Option<usize> {
        self.entries.iter().position(|prepared| {
            let Entry { server: only, query, over: by, .. } = &prepared.entry;
            prepared.name.as_ref().is_none_or(|own| own == name)
                && prepared.kind.is_none_or(|own| own == kind || own == RecordType::CNAME)
                && only.as_ref().is_none_or(|only| only == server)
                && by.is_none_or(|by| by == over)
                && within(*query, number)
        })
    }

    /// Adds the records, those behind CNAMEs too.
    #[allow(clippy::too_many_arguments)]
    fn answer(
        &self,
        asked: &mut Asked,
        response: &mut Message,
        found: Option<usize>,
        server: &str,
        over: Over,
        name: &Name,
        kind: RecordType,
        number: u64,
    ) {
        let (mut found, mut name) = (found, name.clone());
        for _ in 0..MAX_CHAIN {
            let Some(at) = found else {
                let known = self.entries.iter().any(|prepared| prepared.name.as_ref() == Some(&name));
                if !known {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                return;
            };
            let Prepared { entry, data, .. } = &self.entries[at];
            let mut data = data.clone();
            if entry.rotate && !data.is_empty() {
                let turn = asked.turns.entry(at).or_default();
                let step = *turn % data.len();
                data.rotate_left(step);
                *turn += 1;
            }
            let alias = data.iter().find_map(|data| match data {
                RData::CNAME(alias) if kind != RecordType::CNAME => Some(alias.0.to_lowercase()),
                _ => None,
            });
            response
                .answers
                .extend(data.into_iter().map(|data| Record::from_rdata(name.clone(), entry.ttl, data)));
            let Some(alias) = alias else { return };
            name = alias;
            found = self.find(server, over, &name, kind, number);
        }
    }
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok().filter(|_| name != "*")?.to_lowercase();
    name.set_fqdn(true);
    Some(name)
}
