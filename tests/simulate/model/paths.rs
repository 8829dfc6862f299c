//! Paths of a trunk that work: the engine, the Requester, the EdgePorts, the registrars, the password.

use routr_registration::{model::EdgePort, trunk::TrunkUri};

use crate::{
    network::Mode,
    registrar::{Bound, Policy},
    rules::{MINUTE, SECOND},
    trunks::Entry,
    world::State,
};

impl State {
    /// Brings the model up to date. To be called at each change of the world, and each minute.
    pub fn update_model(&mut self) {
        let at = self.now();
        self.drop_expired(at);
        self.note_dependencies(at);
        self.note_registrars(at);
        let entries = self.catalogue.entries.iter();
        let paths: Vec<_> = entries
            .map(|(reference, entry)| {
                let (well, fair) = self.paths_of(reference, entry, at);
                (reference.clone(), well, fair, !self.is_bound(entry, at) && entry.is_wanted())
            })
            .collect();
        for (reference, well, fair, bare) in paths {
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
    pub fn note_registrars(&mut self, at: u64) {
        let loops = self.edge_ports_loop();
        for host in self.hosts.values_mut() {
            let hindered = host.is_hindered(loops);
            if std::mem::replace(&mut host.hindered, hindered) && !hindered {
                host.well_since = at;
            }
        }
        let (edges, way) =
            (!self.requester.dead_edges.is_empty(), !self.requester_is_well() || self.call_faults.any());
        if std::mem::replace(&mut self.model.edges_ill, edges) && !edges {
            self.model.edges_since = at;
        }
        if std::mem::replace(&mut self.model.requester_ill, way) && !way {
            self.model.requester_since = at;
        }
    }

    pub fn is_bound(&self, entry: &Entry, at: u64) -> bool {
        entry.calls.iter().any(|id| self.holders(id).any(|bound| bound.expires > at))
    }

    /// The bindings of a Call-ID: at its registrar, and where that may have redirected to.
    pub fn holders(&self, call: &str) -> impl Iterator<Item = &Bound> {
        let own = self.catalogue.calls.get(call).and_then(|known| self.hosts.get(&*known.domain));
        let others = self.hosts.range("r".to_owned()..).map(|(_, host)| host);
        own.into_iter().chain(others).filter_map(move |host| host.bindings.get(call))
    }

    pub fn note_dependencies(&mut self, at: u64) {
        let way = self.requester_is_well() && self.requester.dead_edges.is_empty() && !self.call_faults.any();
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

    pub fn requester_is_well(&self) -> bool {
        matches!(self.requester.mode, Mode::Up | Mode::Slots(_))
    }

    /// Returns whether all ways of a trunk are well, and whether one is.
    pub fn paths_of(&self, reference: &str, entry: &Entry, at: u64) -> (bool, bool) {
        let Some((_, run)) = self.model.acting() else { return (false, false) };
        let ready = entry.problem.is_none()
            && !run.life.is_frozen()
            && !run.paused
            && run.known.get(reference) == Some(&entry.revision)
            && !self.call_faults.failing.contains(reference)
            && self.requester_is_well();
        if !ready {
            return (false, false);
        }
        let serves = |uri: &&TrunkUri| {
            self.knows_password(entry, uri) && self.serves(&uri.registrar.host, 0, &run.holds, at)
        };
        let good = entry.trunk.uris.iter().filter(serves).count();
        let refuses = entry.trunk.uris.iter().any(|uri| self.refuses(entry, uri));
        let faulty = |edge: &&EdgePort| self.requester.edge_fault(&edge.address.host).is_some();
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

    /// Returns whether a registrar registers those that it knows.
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

    /// Returns whether a registrar that grants at most `most` seconds leaves half of its budget to others
    /// when all its trunks are refreshed as soon as they may be. A waiting refresh goes before a retry,
    /// always: beyond the whole of it, no one who is not registered has a turn, and at last bindings expire.
    /// The administrator's rate wants it so.
    pub fn affords(&self, host: &str, most: u32) -> bool {
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
        let here = calls.filter(|(uri, _)| *uri.registrar.host == *host).map(|(_, call)| &**call);
        // What is gone a moment ago is refreshed until the lists have said so.
        let (at, known) = (self.now(), &self.catalogue.calls);
        let gone = self.model.calls.iter().filter(|(id, call)| {
            let lately = |since: u64| since + 3 * settings.interval_ms > at;
            call.unwanted_since.is_some_and(lately)
                && known.get(*id).is_some_and(|call| *call.domain == *host)
        });
        let calls = here.chain(gone.map(|(id, _)| &**id));
        let a_second: f64 = calls.map(|call| 1_000.0 / between(granted(call)).max(1) as f64).sum();
        2.0 * a_second <= rate
    }

    /// Returns whether a registrar of a trunk has its budget filled by refreshes. A refresh goes before a
    /// retry, always, so a trunk that is not registered may wait there without end; as nothing fails, it does
    /// not go elsewhere either.
    pub fn may_wait_for_ever(&self, entry: &Entry) -> bool {
        entry.trunk.uris.iter().any(|uri| self.is_overbooked(&uri.registrar.host))
    }

    pub fn is_overbooked(&self, host: &str) -> bool {
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

    pub fn knows_password(&self, entry: &Entry, uri: &TrunkUri) -> bool {
        let asked = self.hosts.get(&*uri.registrar.host).is_none_or(|host| host.challenges);
        if self.rules.field.is_some() && !asked {
            return true;
        }
        let key = (uri.user.clone(), uri.registrar.host.clone());
        let own = entry.trunk.credentials.as_ref().map(|credentials| credentials.password.expose());
        self.catalogue.accounts.get(&key).is_none_or(|password| own == Some(password.as_str()))
    }

    /// Returns whether a registrar refuses the account: then no other is tried.
    pub fn refuses(&self, entry: &Entry, uri: &TrunkUri) -> bool {
        let policy = self.hosts.get(&*uri.registrar.host).map(|host| &host.policy);
        let code =
            matches!(policy, Some(Policy::Code(401 | 403 | 404 | 407 | 410 | 604) | Policy::Later(404, _)));
        // A Requester that does not say what became of the challenge: credentials count as sent.
        let told = self.rules.field.is_none_or(|field| field.is_ours());
        let unseen =
            matches!(policy, Some(Policy::UnknownChallenge | Policy::StaleForever | Policy::ForbidsUnseen));
        code || (unseen && !told) || !self.knows_password(entry, uri)
    }

    /// Returns how long after a way has become well a trunk may still be unregistered, in milliseconds,
    /// beyond the waits it met before: what was in flight and what goes in its place (each until its
    /// deadline), a probe of the breaker (5 s), the queue at the narrowest place, and the minute between two
    /// looks.
    pub fn slack(&self) -> u64 {
        let deadline = self.model.settings.registration.deadline_ms;
        3 * deadline + 5 * SECOND + self.queue_ms() + MINUTE + 10 * SECOND
    }
}
