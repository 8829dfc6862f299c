//! The checks that time brings: who is registered, who should be.

use std::sync::atomic::Ordering::Relaxed;

use routr_registration::{model::EdgePort, trunk::TrunkUri};

use crate::{
    network::Mode,
    outage_checks::LONGEST_PAUSE,
    registrar::{Bound, Policy},
    rules::{HOUR, MINUTE, SECOND},
    trunks::Entry,
    world::State,
};

impl State {
    /// To be called at each change of the world, and each minute.
    pub fn look(&mut self) {
        let at = self.now();
        self.look_at_expirys(at);
        self.look_at_dependencies(at);
        self.look_at_registrars(at);
        let entries = self.catalogue.entries.iter();
        let ways: Vec<_> = entries
            .map(|(reference, entry)| {
                let (well, fair) = self.ways_of(reference, entry, at);
                (reference.clone(), well, fair, !self.is_bound(entry, at) && entry.is_wanted())
            })
            .collect();
        for (reference, well, fair, bare) in ways {
            let trunk = self.model.trunk(&reference);
            let set = |since: &mut Option<u64>, holds: bool| {
                if holds {
                    since.get_or_insert(at);
                } else {
                    *since = None;
                }
            };
            set(&mut trunk.well_since, well);
            set(&mut trunk.fair_since, fair);
            set(&mut trunk.bare_since, bare);
        }
        for id in self.catalogue.calls.keys() {
            let wanted = self.catalogue.wants(id);
            let stays = wanted || self.model.stays(&self.catalogue, id);
            let call = self.model.call(id);
            if stays {
                call.unwanted_since = None;
            } else {
                call.unwanted_since.get_or_insert(at);
            }
            if !wanted {
                call.unwanted_at = Some(at);
            }
        }
        self.note_returns(at);
    }

    /// Since when a registrar, the EdgePorts and the Requester have been well.
    fn look_at_registrars(&mut self, at: u64) {
        let loops = self.edge_ports_loop();
        for host in self.hosts.values_mut() {
            let hindered = host.is_hindered(loops);
            if std::mem::replace(&mut host.hindered, hindered) && !hindered {
                host.well_since = at;
            }
        }
        let (edges, way) = (!self.way.dead_edges.is_empty(), !self.way_is_well() || self.call_faults.any());
        if std::mem::replace(&mut self.model.edges_ill, edges) && !edges {
            self.model.edges_since = at;
        }
        if std::mem::replace(&mut self.model.way_ill, way) && !way {
            self.model.way_since = at;
        }
    }

    /// The checks of each minute.
    pub fn minute(&mut self) {
        self.tick += 1;
        self.look();
        let at = self.now();
        self.check_registered(at);
        self.check_removed(at);
        self.check_returns(at);
        self.check_all_fair(at);
        self.check_wakeups();
        let leak = self.history.leaks.pop();
        self.check("no secret", leak.is_none(), |_| {
            "a line of the history holds a password, see above".to_owned()
        });
    }

    fn is_bound(&self, entry: &Entry, at: u64) -> bool {
        entry.calls.iter().any(|id| self.holders(id).any(|bound| bound.expires > at))
    }

    /// The bindings of a Call-ID: at its registrar, and where that may have redirected to.
    pub fn holders(&self, call: &str) -> impl Iterator<Item = &Bound> {
        let own = self.catalogue.calls.get(call).and_then(|known| self.hosts.get(&*known.domain));
        let others = self.hosts.range("r".to_owned()..).map(|(_, host)| host);
        own.into_iter().chain(others).filter_map(move |host| host.bindings.get(call))
    }

    fn look_at_dependencies(&mut self, at: u64) {
        let way = self.way_is_well() && self.way.dead_edges.is_empty() && !self.call_faults.any();
        let acting = self.model.acting().is_some_and(|(_, run)| !run.life.is_frozen() && !run.paused);
        let well = way && acting && self.api == crate::dependencies::Api::Up;
        if well {
            self.model.dependencies_since.get_or_insert(at);
        } else {
            self.model.dependencies_since = None;
            self.model.trouble_at = at;
        }
        if self.hosts.values().any(|host| host.policy != host.home || !host.is_reached()) {
            self.model.trouble_at = at;
        }
    }

    fn way_is_well(&self) -> bool {
        matches!(self.way.mode, Mode::Up | Mode::Slots(_))
    }

    /// Whether all ways of a trunk are well, and whether one is.
    fn ways_of(&self, reference: &str, entry: &Entry, at: u64) -> (bool, bool) {
        let Some((_, run)) = self.model.acting() else { return (false, false) };
        let ready = entry.problem.is_none()
            && !run.life.is_frozen()
            && !run.paused
            && run.known.get(reference) == Some(&entry.revision)
            && !self.call_faults.failing.contains(reference)
            && self.way_is_well();
        if !ready {
            return (false, false);
        }
        let serves = |uri: &&TrunkUri| {
            self.knows_password(entry, uri) && self.serves(&uri.registrar.host, 0, &run.holds, at)
        };
        let good = entry.trunk.uris.iter().filter(serves).count();
        let refuses = entry.trunk.uris.iter().any(|uri| self.refuses(entry, uri));
        let faulty = |edge: &&EdgePort| self.way.edge_fault(&edge.address.host).is_some();
        let direct = self.is_direct();
        let edges = self.model.settings.edge_ports.iter().filter(faulty).count();
        let edges = if direct { 0 } else { edges };
        let all = good == entry.trunk.uris.len() && edges == 0;
        (
            all,
            good > 0
                && !refuses
                && !self.may_wait_for_ever(entry)
                && edges < self.model.settings.edge_ports.len(),
        )
    }

    /// Whether a registrar registers those that it knows.
    pub fn serves(
        &self,
        host: &str,
        hops: u32,
        holds: &std::collections::BTreeMap<Box<str>, u64>,
        at: u64,
    ) -> bool {
        let Some(registrar) = self.hosts.get(host) else { return false };
        let answers = match &registrar.policy {
            Policy::Grants(most) => *most >= 20 && self.affords(host, *most),
            Policy::AtLeast(_)
            | Policy::AtLeastUntold(_)
            | Policy::RefusesTags(_)
            | Policy::RefusesRequire => self.affords(host, u32::MAX),
            Policy::Moved(_, to, _) => hops < 4 && self.serves(&to.to_lowercase(), hops + 1, holds, at),
            Policy::GrantsAges => self.affords(host, u32::MAX),
            _ => false,
        };
        answers && registrar.is_reached() && holds.get(host).is_none_or(|until| *until <= at)
    }

    /// Whether a registrar that grants so many seconds at most leaves half of its budget to others when all
    /// its trunks are refreshed as soon as they may be. A waiting refresh goes before a retry, always: beyond
    /// the whole of it, no one who is not registered has a turn, and at last bindings expire. The
    /// administrator's rate wants it so.
    fn affords(&self, host: &str, most: u32) -> bool {
        let Some(rate) = self.model.settings.rate_per_registrar else { return true };
        let settings = &self.model.settings.registration;
        let least = u64::from(most.min(settings.expires_s)) * SECOND;
        // What another device's Contact is read as counts as granted.
        let granted = |call: &str| {
            let grant = self.model.calls.get(call).and_then(|call| call.grant.as_ref());
            grant.map_or(least, |grant| grant.granted_ms.min(least))
        };
        let between = |granted: u64| {
            let lead = settings.interval_ms.max(5 * SECOND).min(granted / 2);
            granted - lead - granted / 10
        };
        let calls =
            self.catalogue.entries.values().flat_map(|entry| entry.trunk.uris.iter().zip(&entry.calls));
        let here = calls.filter(|(uri, _)| *uri.registrar.host == *host);
        let a_second: f64 = here.map(|(_, call)| 1_000.0 / between(granted(call)).max(1) as f64).sum();
        2.0 * a_second <= rate
    }

    /// Whether a registrar of a trunk has its budget filled by refreshes. A refresh goes before a retry,
    /// always, so a trunk that is not registered may wait there without end; as nothing fails, it does not go
    /// elsewhere either.
    pub fn may_wait_for_ever(&self, entry: &Entry) -> bool {
        entry.trunk.uris.iter().any(|uri| self.is_overbooked(&uri.registrar.host))
    }

    fn is_overbooked(&self, host: &str) -> bool {
        match self.hosts.get(host).map(|registrar| &registrar.policy) {
            Some(Policy::Grants(most)) => !self.affords(host, *most),
            Some(
                Policy::AtLeast(_)
                | Policy::AtLeastUntold(_)
                | Policy::RefusesTags(_)
                | Policy::RefusesRequire
                | Policy::GrantsAges,
            ) => !self.affords(host, u32::MAX),
            _ => false,
        }
    }

    fn knows_password(&self, entry: &Entry, uri: &TrunkUri) -> bool {
        let asked = self.hosts.get(&*uri.registrar.host).is_none_or(|host| host.challenges);
        if self.rules.field.is_some() && !asked {
            return true;
        }
        let key = (uri.user.clone(), uri.registrar.host.clone());
        let own = entry.trunk.credentials.as_ref().map(|credentials| credentials.password.expose());
        self.catalogue.accounts.get(&key).is_none_or(|password| own == Some(password.as_str()))
    }

    /// Whether a registrar refuses the account: then no other is tried.
    fn refuses(&self, entry: &Entry, uri: &TrunkUri) -> bool {
        let policy = self.hosts.get(&*uri.registrar.host).map(|host| &host.policy);
        let code =
            matches!(policy, Some(Policy::Code(401 | 403 | 404 | 407 | 410 | 604) | Policy::Later(404, _)));
        // A Requester that does not say what became of the challenge: credentials count as sent.
        let told = self.rules.field.is_none_or(|field| field.is_ours());
        let unseen =
            matches!(policy, Some(Policy::UnknownChallenge | Policy::StaleForever | Policy::ForbidsUnseen));
        code || (unseen && !told) || !self.knows_password(entry, uri)
    }

    /// How long after a way has become well a trunk may still be unregistered, beyond the waits it met
    /// before: what was in flight and what goes in its place (each until its deadline), a probe of the
    /// breaker (5 s), the queue at the narrowest place, and the minute between two looks.
    fn slack(&self) -> u64 {
        let deadline = self.model.settings.registration.deadline_ms;
        3 * deadline + 5 * SECOND + self.queue_ms() + MINUTE + 10 * SECOND
    }

    /// Where most registrars are silent, and the Requester does not say who was, all of its calls fail: then
    /// one at a time probes it, until its deadline, and each silent registrar may have its turn.
    fn silent_probes(&self) -> u64 {
        let says = self.rules.field.is_some_and(|field| field.is_ours());
        let silent = self.hosts.values().filter(|host| matches!(host.policy, Policy::Silent)).count() as u64;
        if says || silent * 2 < self.hosts.len() as u64 {
            return 0;
        }
        silent * self.model.settings.registration.deadline_ms
    }

    /// No trunk is unregistered for longer than the bound:
    ///
    /// * where all its ways are well: the later of «well since» and «unregistered since», or the end of the
    ///   wait that an answer from before has caused (a back-off 30 min at most, a refused password 66 min, a
    ///   Retry-After an hour), and [`State::slack`];
    /// * the same while calls of other trunks fail, under a name of its own;
    /// * where one of them is, and none refuses the account: in addition one back-off, a round of two silent
    ///   targets and a pause between them for each URI and each EdgePort.
    fn check_registered(&mut self, at: u64) {
        // The Requester is probed by one trunk at a time while calls fail: each of the others may have its
        // turn before.
        let turns = if self.call_faults.failing.is_empty() { 0 } else { self.catalogue.entries.len() as u64 };
        let slack = self.slack() + turns * LONGEST_PAUSE + self.silent_probes();
        let name = if self.call_faults.failing.is_empty() {
            "registered in time"
        } else {
            "registered beside calls that fail"
        };
        let deadline = self.model.settings.registration.deadline_ms;
        let edges = u64::try_from(self.model.settings.edge_ports.len()).unwrap_or(1);
        let entries: Vec<(String, u64)> = self
            .catalogue
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_wanted())
            .map(|(reference, entry)| (reference.clone(), u64::try_from(entry.trunk.uris.len()).unwrap_or(1)))
            .collect();
        for (reference, uris) in entries {
            let trunk = self.model.trunk(&reference);
            let Some(bare) = trunk.bare_since else {
                self.check(name, true, |_| String::new());
                continue;
            };
            if let Some(well) = trunk.well_since {
                let until = well.max(bare).max(trunk.patience) + slack;
                let patience = trunk.patience;
                self.check(name, at <= until, |_| {
                    format!("{reference}: all well since {well}, unregistered since {bare}, wait until {patience}, slack {slack} ms")
                });
            }
            let trunk = self.model.trunk(&reference);
            if let Some(fair) = trunk.fair_since {
                let rounds = (uris + edges) * (30 * MINUTE + 2 * deadline + 10 * SECOND);
                let until = fair.max(bare).max(trunk.fair_patience) + rounds + slack;
                self.check("registered in time", at <= until, |_| {
                    format!("{reference}: one way well since {fair}, unregistered since {bare}, bound {rounds} + {slack} ms")
                });
            }
        }
    }

    /// A binding does not expire where its way was well all the time from before its refresh was due.
    fn look_at_expirys(&mut self, at: u64) {
        let mut expired = Vec::new();
        for (name, host) in &mut self.hosts {
            for (call, bound) in &host.bindings {
                if bound.expires <= at {
                    expired.push((name.clone(), call.clone(), bound.clone()));
                }
            }
            host.bindings.retain(|_, bound| bound.expires > at);
        }
        let margin = self.slack() + MINUTE;
        for (host, call, bound) in expired {
            let name = self.model.call_name(&self.catalogue, &call);
            self.say(format_args!("{host}: {name} expired at {} ms", bound.expires));
            let Some(known) = self.catalogue.calls.get(&call) else { continue };
            let Some(entry) =
                self.catalogue.entries.get(&known.reference).filter(|_| self.catalogue.wants(&call))
            else {
                continue;
            };
            let elsewhere = self.is_bound(entry, bound.expires);
            let reference = known.reference.clone();
            let lasted = bound.expires.saturating_sub(bound.made);
            let trunk = self.model.trunk(&reference);
            let in_time = trunk.well_since.is_some_and(|well| {
                well + margin <= bound.expires || (well + margin <= bound.made && lasted >= 2 * MINUTE)
            });
            let misled = self.model.calls.get(&call).is_some_and(|call| call.misled_until > bound.expires);
            let trunk = self.model.trunk(&reference);
            let waits = misled || trunk.patience > bound.expires.saturating_sub(margin);
            let well = trunk.well_since;
            let crowded = self.model.was_full(bound.expires, at, self.queue_ms());
            let holds = elsewhere || !in_time || waits || crowded;
            self.check("no expire", holds, |_| {
                format!(
                    "{name}: made at {}, expired at {}, all well since {well:?}",
                    bound.made, bound.expires
                )
            });
        }
        self.check("no expire", true, |_| String::new());
    }

    /// A trunk that is gone is de-registered, or three tries were made.
    fn check_removed(&mut self, at: u64) {
        let interval =
            self.model.settings.registration.interval_ms.max(self.model.before.registration.interval_ms);
        let bound = 2 * interval + 4 * self.slack();
        let Some(since) = self.model.dependencies_since else { return };
        let Some((run, model)) = self.model.acting() else { return };
        let began = model.began;
        let mut left = Vec::new();
        for (host, registrar) in &self.hosts {
            for (id, binding) in &registrar.bindings {
                let Some(call) = self.model.calls.get(id) else { continue };
                let Some(gone) = call.unwanted_since else { continue };
                let ours = call
                    .grant
                    .as_ref()
                    .is_some_and(|grant| grant.run == run && binding.made + 2 * MINUTE >= grant.sent);
                let latest = self.is_latest_of_its_trunk(id);
                // Its registrar asked to wait: all trunks, or this removal.
                let held = model.holds.get(host.as_str()).is_some_and(|until| *until + bound > at);
                let asked = call.asked.iter().any(|(target, (by, until, sent))| {
                    *target.host == **host && *by == run && *sent >= gone && *until + bound > at
                });
                // One that is down is probed by one trunk at a time, and refreshes go first: the others wait
                // for its return.
                let back = if registrar.hindered { u64::MAX - bound } else { registrar.well_since };
                let due = since.max(gone).max(began).max(back) + bound;
                // Another EdgePort may have made a binding that no one confirmed; a Requester that was
                // started again cannot name the Contact of before.
                let undone = !call.unconfirmed
                    && !self.is_former_contact(&binding.contact)
                    && call.removed.as_ref().is_some_and(|(at, when, contact)| {
                        **at == **host && binding.made < *when && *contact == binding.contact
                    });
                if undone {
                    left.push((host.clone(), id.clone(), gone, call.leaves));
                }
                let waits = held || asked;
                if ours && latest && !waits && at > due && call.leaves < 3 && registrar.is_reached() {
                    left.push((host.clone(), id.clone(), gone, call.leaves));
                }
            }
        }
        self.check("removed is removed", left.is_empty(), |state| {
            let (host, id, gone, leaves) = &left[0];
            let name = state.model.call_name(&state.catalogue, id);
            format!("{name} is gone since {gone} ms, and {host} holds it still after {leaves} tries")
        });
    }

    /// Whether a run can know of this binding: it made it, or its trunk is there to presume it. Of a trunk
    /// that went while no engine was running no one knows; the store has neither its registrar nor its
    /// password.
    pub fn can_be_removed_by(&self, run: u32, id: &str) -> bool {
        let grant = self.model.calls.get(id).and_then(|call| call.grant.as_ref());
        grant.is_some_and(|grant| grant.run == run || self.catalogue.wants(id))
            && self.is_latest_of_its_trunk(id)
    }

    fn is_latest_of_its_trunk(&self, id: &str) -> bool {
        let Some(call) = self.catalogue.calls.get(id) else { return false };
        self.model.trunks.get(&call.reference).is_some_and(|trunk| *trunk.last_call == *id)
    }

    /// A loop that does nothing does not turn: so many polls in a minute, and some for each REGISTER.
    fn check_wakeups(&mut self) {
        let polls: u64 = self.model.runs.values().map(|run| run.life.polls.swap(0, Relaxed)).sum();
        let sends = std::mem::take(&mut self.model.sends);
        let most = 400 + 30 * sends;
        self.check("wake-ups", polls <= most, |_| format!("{polls} turns in a minute for {sends} REGISTERs"));
    }

    /// At the very end, an hour and more after the last fault.
    pub fn check_once(&mut self, at: u64) {
        let calm = self.calm_since.unwrap_or(at);
        let entries: Vec<(String, Entry)> = self
            .catalogue
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_wanted() && entry.problem.is_none())
            .map(|(reference, entry)| (reference.clone(), entry.clone()))
            .collect();
        for (reference, entry) in entries {
            let fresh: Vec<String> = self
                .hosts
                .iter()
                .flat_map(|(host, registrar)| {
                    registrar.bindings.iter().map(move |(id, bound)| (host, id, bound))
                })
                .filter(|(_, id, bound)| bound.made > calm + 2 * HOUR && entry.calls.contains(id))
                .map(|(host, _, _)| host.clone())
                .collect();
            let misled = |call: &str| self.model.calls.get(call).is_some_and(|call| call.misled_until > at);
            let bound = self.is_bound(&entry, at) || entry.calls.iter().any(|call| misled(call));
            let excused = self.may_wait_for_ever(&entry);
            self.check("registered once", (bound || excused) && fresh.len() <= 1, |_| {
                format!("{reference}: bound {bound}, fresh bindings at {fresh:?}")
            });
        }
        let foreign = self.hosts.iter().find_map(|(host, registrar)| {
            let stray = registrar.bindings.iter().find(|(id, bound)| {
                let wanted = self.catalogue.wants(id) || self.model.stays(&self.catalogue, id);
                bound.made > calm + HOUR && !wanted
            })?;
            Some(format!("{host} holds {}", self.model.call_name(&self.catalogue, stray.0)))
        });
        self.check("registered once", foreign.is_none(), |_| foreign.clone().unwrap_or_default());
    }
}
