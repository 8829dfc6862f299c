//! No registrar delays another's: one that answers is asked within 3 s of one of its trunks being due,
//! however many others are silent, while the Requester takes more than two at a time.
//!
//! When a trunk is due is derived from what a run can know: the end of the sync that named it first, the end
//! of the window in which a binding is refreshed.

use std::collections::BTreeMap;

use crate::{field::Path, model::Run, network::Mode, registrar::Policy, rules::SECOND, world::State};

/// So long may it take, in milliseconds; and a little for the responses that others of the registrar wait
/// for.
const WITHIN: u64 = 3 * SECOND + 500;
/// After a registrar, an EdgePort or the Requester was in trouble: what is in flight ends, and a probe is
/// sent.
const RECOVERY: u64 = 60 * SECOND;
/// Between two requests to a registrar that leaves one unanswered: it may be silent, or what came back was
/// kept by an EdgePort.
const UNANSWERED: u64 = 8 * SECOND + 500;
/// The same where several trunks met with that: it looks down, and is probed every 5 to 10 s.
const PROBED: u64 = 10 * SECOND + 500;
/// So long a run waits for a store that does not say what it kept.
const UNREAD: u64 = 20 * SECOND;
/// The Requester proves what it can do within this.
const WARM_UP: u64 = 500;

/// The trunks of a registrar that will be due.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// By Call-ID: when, and whether that is the first REGISTER of a run.
    trunks: BTreeMap<Box<str>, u64>,
    /// The last REGISTER to this registrar.
    asked_at: u64,
}

/// What the check knows of a run.
pub type Dues = BTreeMap<Box<str>, Due>;

impl State {
    /// A run has read all trunks. Those that it was never told of before, and of which nothing is kept, are
    /// due now.
    pub fn due_at_sync(&mut self, run: u32, at: u64) {
        let entries = self.catalogue.entries.values();
        let mut new = Vec::new();
        let Some(model) = self.model.runs.get(&run) else { return };
        for entry in entries {
            let reference = &*entry.trunk.reference;
            let unknown = entry.problem.is_none()
                && !self.records.all.contains_key(reference)
                && !model.seen.contains(reference)
                && !entry.calls.iter().any(|call| model.numbers.contains_key(call))
                && model.known.get(reference) == Some(&entry.revision);
            let order = crate::trunks::Catalogue::order(&entry.trunk);
            let first = order.first().map(|first| usize::from(*first));
            if let Some((uri, call)) =
                first.and_then(|first| Some((entry.trunk.uris.get(first)?, entry.calls.get(first)?)))
                && unknown
                && self.model.calls.get(call).is_none_or(|call| call.flight.is_none())
            {
                new.push((uri.registrar.host.clone(), call.clone()));
            }
        }
        let known: Vec<String> = model.known.keys().cloned().collect();
        let Some(model) = self.model.runs.get_mut(&run) else { return };
        model.seen.extend(known);
        for (host, call) in new {
            model.dues.entry(host).or_default().trunks.insert(call, at);
        }
    }

    /// A binding was granted in the usual way: it is refreshed until then.
    pub fn due_by(&mut self, run: u32, host: &str, call: &str, until: u64) {
        let Some(model) = self.model.runs.get_mut(&run) else { return };
        model.dues.entry(host.into()).or_default().trunks.insert(call.into(), until);
    }

    /// A REGISTER leaves a run: what was due of its trunk is no longer, whatever registrar it goes to.
    pub fn fair_sent(&mut self, run: u32, host: &str, call: &str, at: u64) {
        self.check_fair(run, host, at);
        let reference = self.reference(call);
        let Some(model) = self.model.runs.get_mut(&run) else { return };
        let calls = &self.catalogue.calls;
        for due in model.dues.values_mut() {
            due.trunks.retain(|other, _| calls.get(other).is_some_and(|call| call.reference != reference));
        }
        model.dues.entry(host.into()).or_default().asked_at = at;
    }

    /// All registrars.
    pub fn check_all_fair(&mut self, at: u64) {
        let Some((run, model)) = self.model.acting() else { return };
        let hosts: Vec<Box<str>> = model.dues.keys().cloned().collect();
        for host in hosts {
            self.check_fair(run, &host, at);
        }
    }

    fn check_fair(&mut self, run: u32, host: &str, at: u64) {
        let Some(model) = self.model.runs.get(&run) else { return };
        let Some(due) = model.dues.get(host) else { return };
        let Some((call, since)) = due.trunks.iter().min_by_key(|(_, since)| **since) else { return };
        let (call, since) = (call.clone(), *since);
        let from = since.max(due.asked_at);
        let Some(free) = self.unhindered_since(model, host) else { return };
        let from = from.max(free);
        let unanswered =
            self.model.flights.values().any(|flight| {
                flight.run == run && *flight.target.host == *host && flight.sent + SECOND <= at
            });
        let gap = match unanswered {
            true if model.outages.may_look_down(host) => due.asked_at + PROBED,
            true => due.asked_at + UNANSWERED,
            false => 0,
        };
        let late = at > (from + WITHIN).max(gap) && self.is_still_due(run, &call, since);
        self.check("fair", !late, |state| {
            let name = state.model.call_name(&state.catalogue, &call);
            format!("{name} is due since {since} ms, {host} could be asked since {from} ms, and is not until {at} ms")
        });
        if late && let Some(due) = self.model.runs.get_mut(&run).and_then(|model| model.dues.get_mut(host)) {
            due.trunks.remove(&call);
        }
    }

    /// Nothing has happened to the trunk since it was said to be due.
    fn is_still_due(&self, run: u32, call: &str, since: u64) -> bool {
        let Some(known) = self.catalogue.calls.get(call) else { return false };
        let Some(entry) = self.catalogue.entries.get(&known.reference) else { return false };
        let Some(model) = self.model.runs.get(&run) else { return false };
        let Some(trunk) = self.model.trunks.get(&known.reference) else { return false };
        let Some(call) = self.model.calls.get(call) else { return since > 0 };
        let granted = call.grant.as_ref().filter(|grant| grant.run == run).map_or(since, |grant| grant.sent);
        entry.problem.is_none()
            && model.known.get(&known.reference) == Some(&entry.revision)
            && trunk.reason_at <= granted
            && trunk.wish_at <= granted
            && call.flight.is_none()
    }

    /// Since when nothing but the engine can keep a REGISTER from this registrar; `None` while something
    /// does.
    fn unhindered_since(&self, model: &Run, host: &str) -> Option<u64> {
        let field = self.rules.field.filter(|field| field.is_ours())?;
        let registrar = self.hosts.get(host)?;
        let hindered = self.way.mode != Mode::Up
            || self.call_faults.any()
            || model.paused
            || model.ending
            || model.farewell
            || model.life.is_frozen()
            || model.life.is_dead()
            || registrar.is_hindered(self.edge_ports_loop())
            // An EdgePort that looks down is passed over, or probed.
            || model.outages.an_edge_looks_down();
        if hindered || self.model.settings.max_in_flight <= 2 {
            return None;
        }
        if model.in_flight >= self.most_in_flight() {
            return None;
        }
        let recovered = |since: u64| if since > 0 { since + RECOVERY } else { 0 };
        let edges = match field.path {
            Path::Direct => 0,
            _ if !self.way.dead_edges.is_empty() => return None,
            _ => recovered(self.model.edges_since),
        };
        let held = model.holds.get(host).copied().unwrap_or(0);
        let budget = self.model.settings.rate_per_registrar.map_or(0.0, |rate| 1_000.0 / rate);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let budget = budget as u64;
        // Nothing is sent before the store has said what it kept, or that is given up.
        let unread = model.began + UNREAD;
        let all = [
            model.loaded_at.map_or(unread, |at| at.min(unread)),
            edges,
            recovered(registrar.well_since),
            recovered(self.model.way_since),
            held,
            model.full_until,
            model.outages.edge_back_at,
            model.began,
            model.resumed_at,
            self.model.changed_at + 2 * SECOND,
        ];
        Some(all.into_iter().max().unwrap_or(0) + budget + WARM_UP)
    }
}

impl crate::registrar::Host {
    /// Whether it keeps requests waiting, or wants to. Where EdgePorts go on with a refused password without
    /// end (`loops`), nothing comes back from one that refuses all.
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
