//! Registrars and EdgePorts that are down: seldom asked while they are, and their trunks registered soon
//! after they are back.

use std::collections::{BTreeMap, BTreeSet};

use routr_registration::model::{RegisterRequest, RegisterResponse, SendError};
use routr_types::extension::{Hop, LocalKind};

use crate::{
    field::Path,
    model::Flight,
    network::Mode,
    registrar::{Host, Policy},
    rules::{MINUTE, SECOND},
    travel::TRANSACTION,
    trunks::Entry,
    world::State,
};

/// Failures of so many trunks in a row, and it is down.
const TRUNKS: usize = 3;
/// Between two probes, in milliseconds; a little less where a timer fires early.
const PROBE_PAUSE: u64 = 5 * SECOND - 10;
/// Probes of one registrar at a time: a new one every 5 to 10 s, while the others last until their deadline.
const PROBES_EACH: u64 = 7;
/// With so many places for each there is a pause until the first of them ends.
const FEW_PROBES: u64 = 4;
/// Within so many milliseconds of its return all are registered, budgets and open calls apart.
const BACK_WITHIN: u64 = 15 * SECOND;
/// Between two probes, in milliseconds, at the most.
pub const LONGEST_PAUSE: u64 = 10 * SECOND;
/// For the responses themselves, one that asks to be asked in another way among them.
const ROUND_TRIPS: u64 = 3 * SECOND;

/// Failures in a row, as a run was told of them.
#[derive(Clone, Debug, Default)]
pub struct Failing {
    trunks: BTreeSet<String>,
    hosts: BTreeSet<Box<str>>,
    /// Failures in a row, anyone who met with them.
    failures: u32,
    /// Something else may be the reason: the Requester, or an EdgePort.
    unclear: bool,
    /// The failure is surely an EdgePort's own.
    broken: bool,
    /// When it was clear that it is down.
    pub noticed_at: Option<u64>,
    /// The last REGISTER since then.
    last_sent: Option<u64>,
}

/// What a run has seen fail.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    /// By host and port.
    pub hosts: BTreeMap<Box<str>, Failing>,
    pub edges: BTreeMap<Box<str>, Failing>,
    /// When a registrar was heard from that was known to be down, by host and port.
    back: BTreeMap<Box<str>, u64>,
    /// The trunks that met with silence or failures of a registrar in a row, by host and port, whatever was
    /// the reason.
    silences: BTreeMap<Box<str>, BTreeSet<String>>,
    /// When an EdgePort was heard from last that looked down.
    pub edge_back_at: u64,
}

impl Failing {
    /// Whether an engine may take this EdgePort for down.
    pub fn looks_down(&self) -> bool {
        self.noticed_at.is_some()
            || (self.failures as usize >= TRUNKS && (self.hosts.len() >= 2 || self.broken))
    }
}

impl Outages {
    /// Whether an engine may take a registrar of this host for down.
    pub fn may_look_down(&self, host: &str) -> bool {
        let here = |name: &str| name.rsplit_once(':').is_some_and(|(name, _)| name == host);
        self.silences.iter().any(|(name, trunks)| here(name) && trunks.len() >= 2)
    }

    /// Whether a run may pass over an EdgePort.
    pub fn an_edge_looks_down(&self) -> bool {
        self.edges.values().any(Failing::looks_down)
    }
}

/// What the response says of the registrar: `Some(false)`: it is silent, unreachable or answers 5xx; `None`:
/// nothing.
fn works(answer: &Result<RegisterResponse, SendError>) -> Option<bool> {
    match answer {
        Err(SendError::Deadline(_)) => Some(false),
        Err(_) => None,
        Ok(reply) => Some(!(reply.local.is_some() || matches!(reply.code, Some(408 | 500..=599)))),
    }
}

impl State {
    /// A run hears of a response, or of none.
    pub fn outage_told(&mut self, flight: &Flight, answer: &Result<RegisterResponse, SendError>, at: u64) {
        let Some(works) = works(answer) else { return };
        let silent =
            !works && answer.as_ref().map_or(true, |reply| reply.code == Some(408) || reply.local.is_some());
        let name = flight.edge_port.host.clone();
        let looks_refused = silent && !self.is_direct() && self.may_look_refused(flight, 6 * MINUTE, at);
        // A call that ends at the deadline says nothing of who was silent.
        let mut unclear = !self.is_way_proven(at) || looks_refused || answer.is_err();
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

    /// Whether the EdgePorts go on with a refused password without end.
    pub fn edge_ports_loop(&self) -> bool {
        self.rules.field.is_some_and(|field| field.path == Path::LoopingEdgePorts)
    }

    /// Whether EdgePorts are only named in Contacts.
    pub fn is_direct(&self) -> bool {
        self.rules.field.is_some_and(|field| field.path == Path::Direct)
    }

    /// Whether the Requester and the EdgePorts have been well for so long that a failure is the registrar's.
    fn is_way_proven(&self, at: u64) -> bool {
        let proven = |since: u64, ill: bool| !ill && (since == 0 || since + MINUTE < at);
        proven(self.model.edges_since, self.model.edges_ill)
            && proven(self.model.way_since, self.model.way_ill)
    }

    /// A registrar that is down sees one REGISTER in 5 s at most.
    pub fn check_outage(
        &mut self,
        run: u32,
        name: &str,
        request: &RegisterRequest,
        reference: &str,
        at: u64,
    ) {
        let wish = self.model.trunk(reference).wish_at;
        let proven = self.is_way_proven(at);
        let direct = self.is_direct();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let turn = self.model.settings.rate_per_registrar.map_or(0.0, |rate| 1_000.0 / rate) as u64;
        let Some(run) = self.model.runs.get_mut(&run) else { return };
        // What is silent may be the EdgePort as well.
        let edge = run.outages.edges.get(&request.edge_port.host);
        let proven = proven && (direct || edge.is_none_or(|edge| edge.noticed_at.is_none()));
        // What an EdgePort that is back leads to is probed at once, as the budget allows.
        let back = run.outages.edge_back_at;
        let freed = back > 0 && at < back + SECOND + turn;
        let Some(host) = run.outages.hosts.get_mut(&*request.target.to_string()) else { return };
        let Some(noticed) = host.noticed_at else { return };
        let last = host.last_sent.replace(at);
        let asked_for = wish + 2 * SECOND > at;
        let (target, ok) = (request.target.clone(), last.is_none_or(|last| at >= last + PROBE_PAUSE));
        // An engine may notice it a little later.
        let clear = proven && !host.unclear && at >= noticed + MINUTE;
        self.check("few probes in an outage", ok || asked_for || freed || !clear, |_| {
            format!("{name}: {target} is known to be down since {noticed} ms, and was asked at {last:?} ms")
        });
    }

    /// Which registrars a run knows to be down, and whether all its EdgePorts are.
    fn knows_down(&self, hosts: &[Box<str>]) -> bool {
        let Some((_, run)) = self.model.acting() else { return false };
        let down = |host: &str| {
            let mut all = run.outages.hosts.iter();
            all.any(|(name, failing)| {
                let named = name.rsplit_once(':').is_some_and(|(name, _)| name == host);
                named && failing.noticed_at.is_some() && !failing.unclear
            })
        };
        let edges = &self.model.settings.edge_ports;
        let edge_down = |edge: &routr_registration::model::EdgePort| {
            run.outages.edges.get(&edge.address.host).is_some_and(|edge| edge.noticed_at.is_some())
        };
        hosts.iter().all(|host| down(host)) || edges.iter().all(edge_down)
    }

    /// Something may be well again that was not: registrations that are owed from now on.
    pub fn note_returns(&mut self, at: u64) {
        let ours = self.rules.field.is_some_and(|field| field.is_ours());
        // A call that ends at the deadline says nothing of who was silent.
        let told = self.model.settings.registration.deadline_ms > TRANSACTION;
        if !ours || !told || self.way.mode != Mode::Up || self.most_in_flight() <= 2 {
            return;
        }
        let direct = self.is_direct();
        let probes = self.probes_take();
        let mut owed = Vec::new();
        for (reference, entry) in &self.catalogue.entries {
            let Some(trunk) = self.model.trunks.get(reference) else { continue };
            let own = trunk.own_wait > at || trunk.tells_how.is_some_and(|since| since + 31 * MINUTE > at);
            if trunk.well_since != Some(at) || trunk.bare_since.is_none() || own {
                continue;
            }
            let hosts: Vec<Box<str>> =
                entry.trunk.uris.iter().map(|uri| uri.registrar.host.clone()).collect();
            if !self.knows_down(&hosts) {
                continue;
            }
            // What a registrar has forgotten no one knows before the next refresh.
            let believed = entry.calls.iter().any(|call| {
                let grant = self.model.calls.get(call).and_then(|call| call.grant.as_ref());
                grant.is_some_and(|grant| grant.sent + grant.granted_ms > at)
            });
            if believed {
                continue;
            }
            // A call that was open has to end first. What an EdgePort says of it may look like a refused
            // password.
            let open = entry
                .calls
                .iter()
                .any(|call| self.model.calls.get(call).is_some_and(|call| call.flight.is_some()));
            if open && !direct {
                continue;
            }
            let queue = hosts.iter().map(|host| self.budget_ms(host)).max().unwrap_or(0);
            let transaction = if open { self.model.settings.registration.deadline_ms } else { 0 };
            let until = at + transaction + BACK_WITHIN + ROUND_TRIPS + queue + probes;
            owed.push(Owed { reference: reference.clone(), from: at, until });
        }
        self.model.owed.extend(owed);
    }

    /// How much longer the probes of all that is down take, where there are not places enough for them: each
    /// may hold one until its deadline.
    fn probes_take(&self) -> u64 {
        let Some((_, run)) = self.model.acting() else { return 0 };
        let noticed = |failing: &&Failing| failing.noticed_at.is_some();
        let down =
            run.outages.hosts.values().chain(run.outages.edges.values()).filter(noticed).count() as u64;
        // One trunk in 5 to 10 s tries an EdgePort that looks down. It may be the registrars that are silent:
        // each of them has its turn.
        let looks_down = run.outages.edges.values().any(|edge| edge.noticed_at.is_some());
        let turns = if looks_down { run.outages.silences.len() as u64 * LONGEST_PAUSE } else { 0 };
        let places = u64::from(self.most_in_flight() / 2).max(1);
        turns + Self::probes_of(down, places, self.model.settings.registration.deadline_ms)
    }

    fn probes_of(down: u64, places: u64, deadline_ms: u64) -> u64 {
        if down * PROBES_EACH <= places {
            return 0;
        }
        if down * FEW_PROBES <= places {
            return TRANSACTION - FEW_PROBES * 5 * SECOND;
        }
        down.div_ceil(places) * deadline_ms
    }

    /// How long the trunks of a registrar take, one after the other, within its budget, in milliseconds.
    pub fn budget_ms(&self, host: &str) -> u64 {
        let Some(rate) = self.model.settings.rate_per_registrar else { return 0 };
        let at = |entry: &&Entry| entry.trunk.uris.iter().any(|uri| *uri.registrar.host == *host);
        let trunks = self.catalogue.entries.values().filter(at).count() + 1;
        // What wants to be asked in another way costs one more of each.
        let each = if self.hosts.get(host).is_some_and(Host::asks_twice) { 2.0 } else { 1.0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ms = (trunks as f64 * each * 1_000.0 / rate) as u64;
        ms
    }
}

impl Host {
    /// Whether it accepts no REGISTER as the engine begins.
    fn asks_twice(&self) -> bool {
        matches!(
            self.policy,
            Policy::AtLeast(_)
                | Policy::AtLeastUntold(_)
                | Policy::RefusesRequire
                | Policy::RefusesTags(_)
                | Policy::Code(420 | 423)
        )
    }
}

/// A registration that is owed.
#[derive(Clone, Debug)]
pub struct Owed {
    reference: String,
    /// Since when all its ways are well.
    from: u64,
    until: u64,
}

impl State {
    /// Looks whether the registrations that were owed until now are there.
    pub fn check_returns(&mut self, at: u64) {
        let all = std::mem::take(&mut self.model.owed);
        let (due, later): (Vec<Owed>, _) = all.into_iter().partition(|owed| self.owed_until(owed) <= at);
        self.model.owed = later;
        for owed in due {
            self.check_return(&owed);
        }
    }

    /// While calls of other trunks fail, the Requester is probed by one trunk at a time, and a call that
    /// fails says nothing of the registrar: each of the others may have its turn before.
    fn owed_until(&self, owed: &Owed) -> u64 {
        let fail = self.model.way_ill || self.model.way_since >= owed.from;
        let others = if fail { self.catalogue.entries.len() as u64 } else { 0 };
        owed.until + others * LONGEST_PAUSE
    }

    fn check_return(&mut self, owed: &Owed) {
        let until = self.owed_until(owed);
        let changed = self.model.changed_at >= owed.from;
        let trunk = self.model.trunk(&owed.reference);
        let undisturbed = trunk.well_since.is_some_and(|since| since <= owed.from)
            && trunk.wish_at < owed.from
            && trunk.own_wait < owed.from
            && !changed;
        let bare = trunk.bare_since;
        let entry = self.catalogue.entries.get(&owed.reference);
        let registered =
            self.model.trunks.get(&owed.reference).into_iter().flat_map(|trunk| &trunk.registered);
        let first = registered.copied().find(|at| *at > owed.from);
        let in_time = bare.is_none_or(|since| since > owed.from) && first.is_none_or(|made| made <= until);
        self.check("back after an outage", in_time || !undisturbed || entry.is_none(), |_| {
            format!("{owed:?}: unregistered since {bare:?}, registered at {first:?} ms")
        });
    }
}
