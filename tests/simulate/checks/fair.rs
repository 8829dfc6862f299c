//! No registrar delays another's trunks: one that responds is asked within 3 s of one of its trunks being
//! due, however many others are silent, while the Requester takes more than two at a time.
//! [`crate::model::due`] has when a trunk is due.

use crate::{checks::Invariant, field::Path, model::Run, network::Mode, rules::SECOND, world::State};

/// So long may it take, in milliseconds; and a little for the responses that others of the registrar wait
/// for.
pub const WITHIN: u64 = 3 * SECOND + 500;

/// After a registrar, an EdgePort or the Requester was in trouble: what is in flight ends, and a probe is
/// sent.
pub const RECOVERY: u64 = 60 * SECOND;

/// Between two requests to a registrar that leaves one unanswered: it may be silent, or what came back was
/// kept by an EdgePort.
pub const UNANSWERED: u64 = 8 * SECOND + 500;

/// The same where several trunks met with that: it looks down, and is probed every 5 to 10 s.
pub const PROBED: u64 = 10 * SECOND + 500;

/// So long a run waits for a store that does not say what it kept.
pub const UNREAD: u64 = 20 * SECOND;

/// The Requester proves what it can do within this.
pub const WARM_UP: u64 = 500;

impl State {
    /// All registrars.
    pub fn check_all_fair(&mut self, at: u64) {
        let Some((run, model)) = self.model.acting() else { return };
        let hosts: Vec<Box<str>> = model.dues.keys().cloned().collect();
        for host in hosts {
            self.check_fair(run, &host, at);
        }
    }

    pub fn check_fair(&mut self, run: u32, host: &str, at: u64) {
        let Some(model) = self.model.runs.get(&run) else { return };
        let Some(due) = model.dues.get(host) else { return };
        let Some((call, since)) = due.trunks.iter().min_by_key(|(_, since)| **since) else { return };
        let (call, since) = (call.clone(), *since);
        let from = since.max(due.asked_at);
        let Some(free) = self.unhindered_since(model, host) else { return };
        let from = from.max(free);
        let unanswered =
            self.model.in_flight.values().any(|flight| {
                flight.run == run && *flight.target.host == *host && flight.sent + SECOND <= at
            });
        let gap = match unanswered {
            true if model.outages.may_look_down(host) => due.asked_at + PROBED,
            true => due.asked_at + UNANSWERED,
            false => 0,
        };
        let late = at > (from + WITHIN).max(gap) && self.is_still_due(run, &call, since);
        self.check(Invariant::Fair, !late, |state| {
            let name = state.model.call_name(&state.catalogue, &call);
            format!("{name} is due since {since} ms, {host} could be asked since {from} ms, and is not until {at} ms")
        });
        if late && let Some(due) = self.model.runs.get_mut(&run).and_then(|model| model.dues.get_mut(host)) {
            due.trunks.remove(&call);
        }
    }

    /// Nothing has happened to the trunk since it was said to be due.
    pub fn is_still_due(&self, run: u32, call: &str, since: u64) -> bool {
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
            && call.open.is_none()
    }

    /// Since when nothing but the engine can keep a REGISTER from this registrar; `None` while something
    /// does.
    pub fn unhindered_since(&self, model: &Run, host: &str) -> Option<u64> {
        let field = self.rules.field.filter(|field| field.is_ours())?;
        let registrar = self.hosts.get(host)?;
        let hindered = self.requester.mode != Mode::Up
            || self.call_faults.any()
            || model.paused
            || model.ending
            || model.farewell
            || model.life.is_frozen()
            || model.life.is_dead()
            || registrar.is_hindered(self.edge_ports_loop())
            // An EdgePort that looks down is passed over, or probed.
            || model.outages.an_edge_looks_down()
            || model.outages.the_requester_looks_down();
        if hindered || self.model.settings.max_in_flight <= 2 {
            return None;
        }
        if model.in_flight >= self.max_in_flight() {
            return None;
        }
        let recovered = |since: u64| if since > 0 { since + RECOVERY } else { 0 };
        let edges = match field.path {
            Path::Direct => 0,
            _ if !self.requester.dead_edges.is_empty() => return None,
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
            recovered(self.model.requester_since),
            held,
            model.full_until,
            model.outages.edge_back_at,
            model.outages.requester_back_at,
            model.began,
            model.resumed_at,
            self.model.changed_at + 2 * SECOND,
        ];
        Some(all.into_iter().max().unwrap_or(0) + budget + WARM_UP)
    }
}
