//! Registrars and EdgePorts that fail, as the runs were told of it.

use std::collections::{BTreeMap, BTreeSet};

use routr_registration::model::{RegisterResponse, SendError};
use routr_types::extension::{Hop, LocalKind};

use crate::{
    field::Path,
    model::InFlight,
    registrar::{Host, Policy},
    rules::{MINUTE, SECOND},
    world::State,
};

/// Failures of so many trunks in a row, and it is down.
pub const TRUNKS: usize = 3;

/// Between two probes, in milliseconds, at the most.
pub const LONGEST_PAUSE: u64 = 10 * SECOND;

/// Failures in a row, as a run was told of them.
#[derive(Clone, Debug, Default)]
pub struct Failing {
    pub trunks: BTreeSet<String>,
    pub hosts: BTreeSet<Box<str>>,
    /// Failures in a row, anyone who met with them.
    pub failures: u32,
    /// Something else may be the reason: the Requester, or an EdgePort.
    pub unclear: bool,
    /// The failure is surely an EdgePort's own.
    pub broken: bool,
    /// Time at which it was clear that it is down.
    pub noticed_at: Option<u64>,
    /// The last REGISTER since then.
    pub last_sent: Option<u64>,
}

/// Failures that a run has seen.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    /// By host and port.
    pub hosts: BTreeMap<Box<str>, Failing>,
    pub edges: BTreeMap<Box<str>, Failing>,
    /// Times at which registrars that were known to be down were heard from, by host and port.
    pub back: BTreeMap<Box<str>, u64>,
    /// The trunks that met with silence or failures of a registrar in a row, by host and port, whatever was
    /// the reason.
    pub silences: BTreeMap<Box<str>, BTreeSet<String>>,
    /// Time at which an EdgePort that looked down was last heard from.
    pub edge_back_at: u64,
    /// Calls in a row that ended at their deadline.
    pub deadlines: u32,
    /// Time at which the Requester, when it looked down, was last heard from.
    pub requester_back_at: u64,
}

impl Failing {
    /// Returns whether an engine may take this EdgePort for down.
    pub fn looks_down(&self) -> bool {
        self.noticed_at.is_some()
            || (self.failures as usize >= TRUNKS && (self.hosts.len() >= 2 || self.broken))
    }
}

impl Outages {
    /// Returns whether an engine may take a registrar of this host for down.
    pub fn may_look_down(&self, host: &str) -> bool {
        let here = |name: &str| name.rsplit_once(':').is_some_and(|(name, _)| name == host);
        self.silences.iter().any(|(name, trunks)| here(name) && trunks.len() >= 2)
    }

    /// Returns whether a run may take the Requester for down, and only probe it: what an EdgePort keeps to
    /// itself looks like that, too.
    pub fn the_requester_looks_down(&self) -> bool {
        self.deadlines as usize >= TRUNKS
    }

    /// Counts what the Requester leaves without a response.
    fn heard(&mut self, answer: &Result<RegisterResponse, SendError>, at: u64) {
        match answer {
            Err(SendError::Deadline(_)) => self.deadlines += 1,
            Err(_) => {}
            Ok(_) => {
                if self.the_requester_looks_down() {
                    self.requester_back_at = at;
                }
                self.deadlines = 0;
            }
        }
    }

    /// Returns whether a run may pass over an EdgePort.
    pub fn an_edge_looks_down(&self) -> bool {
        self.edges.values().any(Failing::looks_down)
    }
}

/// Returns what the response says of the registrar: `Some(false)`: it is silent, unreachable or responds with
/// a 5xx; `None`: nothing.
pub fn works(answer: &Result<RegisterResponse, SendError>) -> Option<bool> {
    match answer {
        Err(SendError::Deadline(_)) => Some(false),
        Err(_) => None,
        Ok(reply) => Some(!(reply.local.is_some() || matches!(reply.code, Some(408 | 500..=599)))),
    }
}

impl State {
    /// A run hears of a response, or of none.
    pub fn outage_told(&mut self, flight: &InFlight, answer: &Result<RegisterResponse, SendError>, at: u64) {
        if let Some(run) = self.model.runs.get_mut(&flight.run) {
            run.outages.heard(answer, at);
        }
        let Some(works) = works(answer) else { return };
        let silent =
            !works && answer.as_ref().map_or(true, |reply| reply.code == Some(408) || reply.local.is_some());
        let name = flight.edge_port.host.clone();
        let suspected = self.model.trunk(&flight.reference).suspected;
        let looks_refused =
            silent && !self.is_direct() && (suspected || self.may_look_refused(flight, 6 * MINUTE, at));
        // A call that ends at the deadline says nothing of who was silent.
        let mut unclear = !self.is_path_proven(at) || looks_refused || answer.is_err();
        let direct = self.is_direct();
        let loops = self.is_loop(flight);
        let Some(run) = self.model.runs.get_mut(&flight.run) else { return };
        if silent {
            let edge = run.outages.edges.entry(name).or_default();
            edge.failures += 1;
            if !loops {
                edge.trunks.insert(flight.reference.clone());
            }
            let local = answer.as_ref().ok().and_then(|reply| reply.local.as_ref());
            edge.broken |= local
                .is_some_and(|local| local.at == Some(Hop::EdgePort) && local.kind != LocalKind::Timeout);
            edge.hosts.insert(flight.target.host.clone());
            // It may as well be the EdgePort.
            unclear |= !direct && edge.hosts.len() >= 2;
            // Nor is it the EdgePort's while the Requester itself is silent.
            if edge.trunks.len() >= TRUNKS && edge.hosts.len() >= 2 && answer.is_ok() {
                edge.noticed_at.get_or_insert(at);
            }
        } else {
            // What was sent before a moment, though it was answered after it, does not show that all of the
            // way worked then.
            let responded = run.responded.entry(name.clone()).or_default();
            *responded = flight.sent.max(*responded);
            if run.outages.edges.remove(&name).is_some_and(|edge| edge.looks_down()) {
                run.outages.edge_back_at = at;
            }
        }
        let registrar = flight.target.to_string().into_boxed_str();
        if works {
            run.outages.silences.remove(&registrar);
        } else {
            let trunks = run.outages.silences.entry(registrar.clone()).or_default();
            trunks.insert(flight.reference.clone());
        }
        if works {
            let failing = run.outages.hosts.remove(&registrar).unwrap_or_default();
            if failing.noticed_at.is_some() {
                run.outages.back.insert(registrar, at);
            } else {
                // What they met was theirs alone.
                let others = failing.trunks.into_iter().filter(|other| *other != flight.reference);
                others.for_each(|other| self.model.trunk(&other).own_wait = at + 31 * MINUTE);
            }
            return;
        }
        // What was sent before a return says nothing after it.
        if run.outages.back.get(&registrar).is_some_and(|back| flight.sent <= *back) {
            return;
        }
        // Nor does what an EdgePort keeps to itself: the registrar has responded.
        if loops {
            return;
        }
        // What an EdgePort swallows says nothing of the registrar, though it may look so.
        let host = run.outages.hosts.entry(registrar).or_default();
        let again = !host.trunks.insert(flight.reference.clone()) && host.noticed_at.is_none();
        host.unclear |= unclear;
        if host.trunks.len() >= TRUNKS {
            host.noticed_at.get_or_insert(at);
        }
        if again {
            self.model.trunk(&flight.reference).own_wait = at + 31 * MINUTE;
        }
    }

    /// Returns whether the EdgePorts repeat a refused password without end.
    pub fn edge_ports_loop(&self) -> bool {
        self.rules.field.is_some_and(|field| field.path == Path::LoopingEdgePorts)
    }

    /// Returns whether EdgePorts are only named in Contacts.
    pub fn is_direct(&self) -> bool {
        self.rules.field.is_some_and(|field| field.path == Path::Direct)
    }

    /// Returns whether the Requester and the EdgePorts have been well for a minute, so that a failure is the
    /// registrar's.
    pub fn is_path_proven(&self, at: u64) -> bool {
        let proven = |since: u64, ill: bool| !ill && (since == 0 || since + MINUTE < at);
        proven(self.model.edges_since, self.model.edges_ill)
            && proven(self.model.requester_since, self.model.requester_ill)
    }
}

impl Host {
    /// Returns whether it keeps requests waiting, or wants to. Where EdgePorts repeat a refused password
    /// without end (`loops`), nothing comes back from one that refuses all.
    pub fn is_hindered(&self, loops: bool) -> bool {
        let silent = matches!(
            self.policy,
            Policy::Silent
                | Policy::Refuses
                | Policy::Later(..)
                | Policy::Code(408 | 500..=599)
                | Policy::Provisional
        );
        let refuses = matches!(self.policy, Policy::StaleForever | Policy::Code(401 | 407));
        silent || loops && refuses || !self.is_reached()
    }
}
