//! Trunks of a registrar or an EdgePort that is back are registered soon after.

use crate::{
    checks::Invariant,
    model::outages::{Failing, LONGEST_PAUSE},
    network::Mode,
    registrar::{Host, Policy},
    rules::{MINUTE, SECOND},
    travel::TRANSACTION,
    trunks::Entry,
    world::State,
};

/// Probes of one registrar at a time: a new one every 5 to 10 s, while the others last until their deadline.
pub const PROBES_EACH: u64 = 7;

/// With so many places for each there is a pause until the first of them ends.
pub const FEW_PROBES: u64 = 4;

/// Within so many milliseconds of its return all are registered, budgets and open calls apart.
pub const BACK_WITHIN: u64 = 15 * SECOND;

/// For the responses themselves, one that asks to be asked in another way among them.
pub const ROUND_TRIPS: u64 = 3 * SECOND;

/// A registration that is owed.
#[derive(Clone, Debug)]
pub struct Owed {
    reference: String,
    /// Since when all its ways are well.
    from: u64,
    until: u64,
}

impl State {
    /// Returns whether a run knows that all of these registrars, or all its EdgePorts, are down.
    pub fn knows_down(&self, hosts: &[Box<str>]) -> bool {
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
        if !ours || !told || self.requester.mode != Mode::Up || self.max_in_flight() <= 2 {
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
                .any(|call| self.model.calls.get(call).is_some_and(|call| call.open.is_some()));
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

    /// Returns how much longer the probes of all that is down take, in milliseconds, where there are not
    /// places enough for them: each may hold one until its deadline.
    pub fn probes_take(&self) -> u64 {
        let Some((_, run)) = self.model.acting() else { return 0 };
        let noticed = |failing: &&Failing| failing.noticed_at.is_some();
        let down =
            run.outages.hosts.values().chain(run.outages.edges.values()).filter(noticed).count() as u64;
        // One trunk in 5 to 10 s tries an EdgePort that looks down. It may be the registrars that are silent:
        // each of them has its turn.
        let looks_down = run.outages.edges.values().any(|edge| edge.noticed_at.is_some());
        let turns = if looks_down { run.outages.silences.len() as u64 * LONGEST_PAUSE } else { 0 };
        let places = u64::from(self.max_in_flight() / 2).max(1);
        turns + Self::probes_of(down, places, self.model.settings.registration.deadline_ms)
    }

    pub fn probes_of(down: u64, places: u64, deadline_ms: u64) -> u64 {
        if down * PROBES_EACH <= places {
            return 0;
        }
        if down * FEW_PROBES <= places {
            return TRANSACTION - FEW_PROBES * 5 * SECOND;
        }
        down.div_ceil(places) * deadline_ms
    }

    /// Returns how long the trunks of a registrar take, one after the other, within its budget, in
    /// milliseconds.
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
    pub fn owed_until(&self, owed: &Owed) -> u64 {
        let fail = self.model.requester_ill || self.model.requester_since >= owed.from;
        let others = if fail { self.catalogue.entries.len() as u64 } else { 0 };
        owed.until + others * LONGEST_PAUSE
    }

    pub fn check_return(&mut self, owed: &Owed) {
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
        self.check(Invariant::BackAfterAnOutage, in_time || !undisturbed || entry.is_none(), |_| {
            format!("{owed:?}: unregistered since {bare:?}, registered at {first:?} ms")
        });
    }
}

impl Host {
    /// Returns whether it accepts no REGISTER in the form that the engine sends first.
    pub fn asks_twice(&self) -> bool {
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
