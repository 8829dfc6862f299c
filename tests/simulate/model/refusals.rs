//! Refused passwords: which were offered where, what an engine can know of it, and what excuses another
//! offer.

use routr_registration::{
    model::{Record, RegisterResponse, SendError},
    trunk::Trunk,
};
use routr_types::extension::Authentication;

use crate::{
    dependencies::StoreMode,
    model::{InFlight, Rejected, knowledge::STORE_PAUSE, outages::Failing},
    process_state::EPOCH_MS,
    rules::{HOUR, MINUTE, SECOND},
    trunks::Entry,
    world::State,
};

/// Time before a call that times out was sent, in milliseconds: another trunk that registers since then does
/// so in the same minutes.
pub const SAME_MINUTES: u64 = MINUTE;

/// A store takes a refusal within this, in milliseconds.
pub const KEPT_WITHIN: u64 = 2 * SECOND;

/// A refused password on its way into a registrar.
#[derive(Clone, Debug)]
pub struct Offer {
    pub at: u64,
    pub sent: u64,
    /// An engine that acts was told, so that it could tell a refusal from a silence.
    pub told: bool,
    /// The EdgePort keeps offering it.
    pub loops: bool,
}

/// Returns whether nothing came back in time.
pub fn timed_out(answer: &Result<RegisterResponse, SendError>) -> bool {
    match answer {
        Err(error) => matches!(error, SendError::Deadline(_)),
        Ok(reply) => reply.code == Some(408),
    }
}

/// Returns what makes a registration another one, as far as a refusal goes: users, registrars, credentials;
/// on a second line the order to try them in.
pub fn signature(trunk: &Trunk) -> String {
    let mut uris: Vec<String> =
        trunk.uris.iter().map(|uri| format!("{}@{}", uri.user, uri.registrar)).collect();
    uris.sort_unstable();
    let own = trunk.credentials.as_ref().map(|own| format!("{}:{}", own.username, own.password.expose()));
    format!("{uris:?} {own:?}\n{:?}", trunk.uris)
}

impl State {
    /// A listing names a trunk in this version.
    pub fn offers_listed(&mut self, reference: &str, signature: Option<String>) {
        let at = self.now();
        let trunk = self.model.trunk(reference);
        let account = |signature: &Option<String>| {
            signature.as_ref().and_then(|all| all.lines().next()).map(str::to_owned)
        };
        if signature.is_none() || account(&trunk.signature) != account(&signature) {
            trunk.excuses.push(at);
        } else if trunk.signature != signature {
            trunk.reordered_at = at;
        }
        trunk.signature = signature;
    }

    /// A run sees a good version of a trunk for the first time. What was edited since it was refused may have
    /// another password: the store knows none.
    pub fn offers_seen(&mut self, reference: &str) {
        let calls = self.calls_of(reference);
        let refused_from = calls.iter().filter_map(|call| {
            let call = self.model.calls.get(call)?;
            call.rejected.as_ref()?;
            call.refused_from
        });
        let Some(refused_from) = refused_from.min() else { return };
        if self.edited_since(reference, refused_from) {
            self.excuse_offers(reference);
        }
    }

    /// Returns whether a trunk was edited after that, by what the API server says.
    pub fn edited_since(&self, reference: &str, at: u64) -> bool {
        self.catalogue
            .entries
            .get(reference)
            .is_none_or(|entry| u64::from(entry.trunk.updated_at_s) * SECOND + SECOND >= EPOCH_MS + at)
    }

    /// A password may be offered again, whatever was said to it before.
    pub fn excuse_offers(&mut self, reference: &str) {
        let at = self.now();
        self.model.trunk(reference).excuses.push(at);
    }

    /// A run begins with what the store gave it, if it gave anything. What the store cannot know of refusals
    /// is excused.
    pub fn offers_resumed(&mut self, records: Option<&[Record]>) {
        let at = self.now();
        let well = self.rules.durable
            && !self.rules.clock_jumps
            && self.store_mode == StoreMode::Up
            && records.is_some();
        let kept_from = self.records.bad_at + if self.records.bad_at > 0 { STORE_PAUSE } else { 0 };
        for (call, model) in &self.model.calls {
            let Some(rejected) = &model.rejected else { continue };
            let kept = well && rejected.told_at >= kept_from && rejected.told_at + KEPT_WITHIN <= at;
            let Some(known) = self.catalogue.calls.get(call) else { continue };
            // What was edited since then may have another password: the store knows none.
            let edited = self.edited_since(&known.reference, model.refused_from.unwrap_or(rejected.told_at));
            if (!kept || edited)
                && let Some(trunk) = self.model.trunks.get_mut(&known.reference)
            {
                trunk.excuses.push(at);
            }
        }
        let trunks = self.model.trunks.values_mut();
        trunks.for_each(|trunk| trunk.excuses.retain(|excuse| excuse + 2 * HOUR > at));
        if self.rules.clock_jumps {
            self.expect_whole_waits(records.unwrap_or_default(), at);
        }
    }

    /// By a clock that was set back, what is left of a wait looks longer than it is: an account that is not
    /// known may wait as long again as any such wait lasts.
    fn expect_whole_waits(&mut self, records: &[Record], at: u64) {
        for record in records {
            let refusals = record.more.as_deref().map_or(&[][..], |more| &more.refusals);
            if refusals.iter().any(|refusal| refusal.unknown_account) {
                let trunk = self.model.trunk(&record.reference);
                let until = at + HOUR * 11 / 10;
                trunk.patience = trunk.patience.max(until);
                trunk.fair_patience = trunk.fair_patience.max(until);
            }
        }
    }

    /// Returns whether an engine can know that a timeout is a refused password: registrar and EdgePort have
    /// both worked for others since the trunk met with silence first; or, for one that never registered, in
    /// the same minutes, or there are no others and it is the second time.
    pub fn can_tell(&self, flight: &InFlight, at: u64) -> bool {
        let Some(call) = self.model.calls.get(&flight.call) else { return false };
        let Some(run) = self.model.runs.get(&flight.run) else { return false };
        let responded = run.responded.get(&flight.edge_port.host).copied().unwrap_or(0);
        let silent_before = self.silent_before(flight) > 0 && !call.row_ends;
        // Silence elsewhere first, where it may have been registered, then here: an outage may have begun a
        // moment ago.
        let begun = self.is_silent_elsewhere(flight) && self.was_registered(flight) && !silent_before;
        let never = !call.registered && !begun;
        let since = if silent_before { call.silent_from } else { flight.sent };
        let since = if never { since.min(flight.sent.saturating_sub(SAME_MINUTES)) } else { since };
        let works = responded >= since && self.must_look_refused(flight, flight.sent - since, at);
        let hosts = self.hosts_of(flight);
        let elsewhere = |entry: &&Entry| {
            *entry.trunk.reference != *flight.reference
                && entry.trunk.uris.iter().any(|uri| hosts.contains(&&*uri.registrar.host))
        };
        // Nor is one being removed there, nor was one a moment ago.
        let removed = self.model.calls.iter().any(|(id, call)| {
            let there = self.catalogue.calls.get(id).is_some_and(|call| hosts.contains(&&*call.domain));
            there && **id != *flight.call && call.unwanted_since.is_some_and(|since| since + HOUR > at)
        });
        let alone = self.catalogue.entries.values().find(elsewhere).is_none() && !removed;
        // Where the EdgePort looks down, and the trunk was registered elsewhere, it is no password's.
        let edge = run.outages.edges.get(&flight.edge_port.host);
        let alone = alone && !(self.is_silent_elsewhere(flight) && edge.is_some_and(Failing::looks_down));
        works || never && silent_before && alone && at >= flight.sent + 30 * SECOND
    }

    /// Returns whether the trunk of a request was ever registered.
    pub fn was_registered(&self, flight: &InFlight) -> bool {
        let calls = self.calls_of(&flight.reference);
        calls.iter().any(|call| self.model.calls.get(call).is_some_and(|call| call.registered))
    }

    /// The registrar of a request, and that which redirected there.
    pub fn hosts_of<'a>(&'a self, flight: &'a InFlight) -> [&'a str; 2] {
        let domain = self.catalogue.calls.get(&flight.call).map_or("", |call| &*call.domain);
        [&*flight.target.host, domain]
    }

    /// Returns whether a trunk may have its registrar to itself, as far as the run knows: no other one that
    /// it has read, as it is now, uses that.
    pub fn may_be_alone(&self, flight: &InFlight) -> bool {
        let Some(run) = self.model.runs.get(&flight.run) else { return true };
        let hosts = self.hosts_of(flight);
        let known = |entry: &&Entry| {
            let reference = &*entry.trunk.reference;
            *reference != *flight.reference
                && entry.problem.is_none()
                && run.known.get(reference) == Some(&entry.revision)
        };
        let mut others = self.catalogue.entries.values().filter(known);
        !others.any(|entry| entry.trunk.uris.iter().any(|uri| hosts.contains(&&*uri.registrar.host)))
    }

    /// Returns whether another URI of the trunk has met with silence last.
    pub fn is_silent_elsewhere(&self, flight: &InFlight) -> bool {
        let Some(entry) = self.catalogue.entries.get(&flight.reference) else { return false };
        let mut others = entry.calls.iter().filter(|other| **other != flight.call);
        others.any(|other| {
            let call = self.model.calls.get(other);
            call.is_some_and(|call| call.timeouts.0 > 0 && call.timeouts.1 == flight.run)
        })
    }

    /// Returns whether an EdgePort kept this request: the registrar responded, and no one got the response.
    pub fn is_loop(&self, flight: &InFlight) -> bool {
        self.model.calls.get(&flight.call).is_some_and(|call| call.looped == flight.sent && call.looped > 0)
    }

    /// Returns whether it may look refused where the trunk was registered elsewhere last: other trunks
    /// registered in the same minutes.
    pub fn may_look_never_registered(&self, flight: &InFlight, at: u64) -> bool {
        let trunk = self.model.trunks.get(&flight.reference);
        trunk.is_some_and(|trunk| *trunk.last_call != *flight.call)
            && self.silent_before(flight) > 0
            && self.may_look_refused(flight, 2 * MINUTE, at)
    }

    /// Returns how often in a row this run met with silence before, for this trunk as it is.
    pub fn silent_before(&self, flight: &InFlight) -> u32 {
        let Some(call) = self.model.calls.get(&flight.call) else { return 0 };
        let trunk = self.model.trunks.get(&flight.reference);
        let changed = trunk.and_then(|trunk| trunk.excuses.last().copied()).unwrap_or(0);
        if call.timeouts.1 == flight.run && changed <= call.silent_from { call.timeouts.0 } else { 0 }
    }

    /// Returns whether another trunk registered at that registrar, with a request sent at most `minutes` (in
    /// milliseconds) before that one, or later.
    pub fn may_look_refused(&self, flight: &InFlight, minutes: u64, at: u64) -> bool {
        let Some(run) = self.model.runs.get(&flight.run) else { return false };
        let successes = run.successes.get(&flight.target.host).into_iter().flatten();
        let others = |(reference, sent): (&String, &u64)| {
            *reference != flight.reference && *sent + minutes >= flight.sent
        };
        at >= flight.sent + 30 * SECOND && successes.into_iter().any(others)
    }

    /// As [`State::may_look_refused`], as far as an engine remembers: the last two that registered, unless
    /// they are gone.
    pub fn must_look_refused(&self, flight: &InFlight, minutes: u64, at: u64) -> bool {
        let Some(run) = self.model.runs.get(&flight.run) else { return false };
        let Some(successes) = run.successes.get(&flight.target.host) else { return false };
        let mut latest: Vec<_> = successes.iter().collect();
        latest.sort_unstable_by_key(|(_, sent)| std::cmp::Reverse(**sent));
        let here = |(reference, _): &&(&String, &u64)| {
            run.known.contains_key(*reference) && **reference != flight.reference
        };
        let latest = latest.iter().take(2).filter(here);
        at >= flight.sent + 30 * SECOND && latest.into_iter().any(|(_, sent)| **sent + minutes >= flight.sent)
    }

    /// Returns whether it must look so: another trunk registered after this one met with silence first.
    pub fn looks_refused(&self, flight: &InFlight, at: u64) -> bool {
        let first = self.model.calls.get(&flight.call).filter(|_| self.silent_before(flight) > 0);
        let since = first.map_or(flight.sent, |call| call.silent_from);
        self.may_look_refused(flight, flight.sent - since, at)
    }

    /// Marks the offers of a call whose response says that the password is refused. Returns whether it does.
    pub fn refusal_told(
        &mut self,
        flight: &InFlight,
        answer: &Result<RegisterResponse, SendError>,
        at: u64,
    ) -> bool {
        let password = flight.password.clone().unwrap_or_default();
        let code = answer.as_ref().ok().and_then(|reply| reply.code);
        let authentication = answer.as_ref().ok().and_then(|reply| reply.authentication.as_ref());
        if matches!(authentication, Some(Authentication::NotSent(_) | Authentication::Stale)) {
            return false;
        }
        // Past the deadline it is silence, whatever the reason is.
        let timed_out = code == Some(408);
        let loops = |state: &Self| {
            let offers = state.model.offers.get(&(flight.call.clone(), password.clone()));
            offers.is_some_and(|offers| offers.iter().any(|offer| offer.loops && offer.sent == flight.sent))
        };
        let told = match code {
            Some(401 | 403 | 407) => true,
            _ => timed_out && loops(self) && self.can_tell(flight, at),
        };
        let acting = self.model.acting().is_some_and(|(run, _)| run == flight.run);
        if told
            && acting
            && let Some(offers) = self.model.offers.get_mut(&(flight.call.clone(), password))
        {
            for offer in offers.iter_mut().filter(|offer| offer.sent == flight.sent) {
                offer.told = true;
            }
        }
        told
    }

    /// The same password was refused before, and nothing has happened since that lets it be offered again.
    pub fn refused_before(&self, call: &str, password: &str, reference: &str) -> Option<Rejected> {
        let rejected = self.model.calls.get(call)?.rejected.clone()?;
        let trunk = self.model.trunks.get(reference);
        let excused = trunk.and_then(|trunk| trunk.excuses.last().copied());
        // Another order begins again; how often it may be offered in an hour is the other check's.
        let reordered = trunk.is_some_and(|trunk| trunk.reordered_at > rejected.sent);
        (!reordered && rejected.password == password && excused.is_none_or(|excuse| excuse < rejected.sent))
            .then_some(rejected)
    }
}
