//! Consequences of each response for the next REGISTER.

use std::collections::BTreeMap;

use routr_registration::model::{RegisterResponse, SendError};
use routr_types::extension::Authentication;

use crate::{
    checks::mutants::Mutant,
    faults::calls::OWN_WAIT,
    model::{Grant, InFlight, Rejected, grants, refusals::timed_out},
    rules::{HOUR, MINUTE, SECOND},
    world::State,
};

impl State {
    /// An answer reaches its process. Returns what the engine is told of it.
    pub fn response_delivered(
        &mut self,
        id: u64,
        answer: Result<RegisterResponse, SendError>,
    ) -> Result<RegisterResponse, SendError> {
        let at = self.now();
        let Some(flight) = self.model.in_flight.get(&id) else { return answer };
        let (run, call_id, reference) = (flight.run, flight.call.clone(), flight.reference.clone());
        let (target, password, sent) = (flight.target.clone(), flight.password.clone(), flight.sent);
        let (asked, preferred, cseq) = (flight.asked, flight.preferred, flight.cseq);
        let flight = flight.clone();
        let name = self.model.call_name(&self.catalogue, &call_id);
        match &answer {
            Ok(reply) => self.say(format_args!("~{run} answer {name} {:?} {reply:?}", reply.code)),
            Err(error) => self.say(format_args!("~{run} answer {name} {error}")),
        }
        let code = answer.as_ref().ok().and_then(|reply| reply.code);
        let retry_after = answer.as_ref().ok().and_then(|reply| reply.retry_after).unwrap_or(0);
        let asks = at + u64::from(retry_after).min(3_600) * SECOND;
        let before = self.model.calls.get(&call_id);
        let certain = before.is_none_or(|call| !call.unsure);
        let held = before.and_then(|call| call.grant.as_ref());
        let longest = grants::longest(asked, self.model.settings.registration.expires_s);
        let read = answer
            .as_ref()
            .ok()
            .filter(|reply| reply.code == Some(200))
            .map(|reply| grants::granted(reply, (asked, longest), held, certain, (sent, at)));
        let (granted, unsure) = read.map_or((None, false), |read| (read.seconds, read.unsure));
        let (border, most) = read.map_or((false, 0), |read| (read.border, u64::from(read.most) * SECOND));
        let refused = self.refusal_told(&flight, &answer, at);
        self.outage_told(&flight, &answer, at);
        self.note_own(&flight, &answer, refused, granted.is_some());
        let trunk = self.model.trunk(&reference);
        let undisturbed = granted.is_some() && preferred && trunk.reason_at < sent;
        trunk.preferred = if undisturbed { trunk.preferred + 1 } else { 0 };
        let settled = trunk.preferred >= 1;
        if granted.is_some() && asked > 0 {
            trunk.last_call.clone_from(&call_id);
        }
        // A run which acts no more, and was frozen for hours: the one that acts hears nothing of what that is
        // told.
        let elsewhere = self.model.acting().is_some_and(|(acting, _)| acting != run);
        let before = self.refused_before(&call_id, password.as_deref().unwrap_or_default(), &reference);
        let proxied = !self.is_direct();
        let contact = self.contact(&flight.edge_port);
        let call = self.model.call(&call_id);
        if granted.is_some() {
            call.removed = (asked == 0).then(|| (target.host.clone(), at, contact));
        }
        let mut patience = at + 30 * MINUTE;
        if matches!(
            answer,
            Err(SendError::Refused(_) | SendError::Failed(_) | SendError::Disconnected { .. })
        ) {
            patience = at + OWN_WAIT;
        }
        if proxied && timed_out(&answer) {
            // It may be taken for a refused password.
            patience = at + HOUR * 11 / 10;
        }
        match (code, granted) {
            (_, Some(granted)) => {
                call.refused_from = call.refused_from.filter(|_| asked == 0);
                (call.rejected, call.leaves) = (None, if asked == 0 { call.leaves } else { 0 });
                (call.unsure, call.border, call.most_until) = (unsure, border, sent + most);
                // The registrar may hold for longer what is believed to last an hour.
                let held = if asked > longest { asked } else { granted };
                let until = sent + most.max(u64::from(held) * SECOND);
                call.bound_through.insert(flight.edge_port.clone(), until);
                call.grant = (asked > 0).then(|| Grant {
                    run,
                    cseq,
                    sent,
                    granted_ms: u64::from(granted) * SECOND,
                    preferred: settled && !unsure,
                    edge_port: flight.edge_port.clone(),
                });
                patience = 0;
            }
            _ if elsewhere && (refused || matches!(code, Some(404 | 410 | 604))) => {
                patience = (at + HOUR * 11 / 10).max(asks);
            }
            _ if refused || matches!(code, Some(404 | 410 | 604)) => {
                let before = before.filter(|rejected| Some(&rejected.password) == password.as_ref());
                call.refused_from.get_or_insert(at);
                let times = before.map_or(0, |rejected| rejected.times) + 1;
                let wait = (300 << (times - 1).min(8)).min(3_600) * SECOND;
                let password = password.unwrap_or_default();
                let until = at + wait;
                call.rejected = Some(Rejected { password, times, until, sent, told_at: at });
                // What is told that there is no such account has nothing to remove.
                if asked == 0 && matches!(code, Some(404 | 410 | 604)) {
                    call.leaves = 3;
                }
                patience = (at + HOUR * 11 / 10).max(asks);
            }
            (Some(503), _) if retry_after > 0 => {
                if let Some(run) = self.model.runs.get_mut(&run) {
                    let hold = run.holds.entry(target.host.clone()).or_default();
                    *hold = (*hold).max(asks);
                }
                patience = patience.max(asks);
            }
            (Some(500 | 413 | 480 | 486 | 600 | 603), _) if retry_after > 0 => {
                call.asked.insert(target, (run, asks, sent));
                patience = patience.max(asks);
            }
            _ => {}
        }
        if granted.is_some() && asked > 0 {
            self.excuse_offers(&reference);
            // What another registrar of the trunk refused begins again with five minutes.
            for (other, entry) in &mut self.model.calls {
                let same = self.catalogue.calls.get(other).is_some_and(|call| call.reference == reference);
                if same && let Some(rejected) = &mut entry.rejected {
                    rejected.times = 0;
                    rejected.until = rejected.until.min(sent);
                }
            }
        } else {
            self.model.trouble_at = at;
        }
        let trunk = self.model.trunk(&reference);
        if granted.is_none() {
            trunk.reason_at = at;
        }
        // That a former address has been removed does not end the wait that the new one met. Nor does a
        // success that is told elsewhere.
        let removed = granted.is_some() && (asked == 0 || elsewhere);
        let trunk = self.model.trunk(&reference);
        let (well, fair) = (trunk.well_since, trunk.fair_since);
        for (since, wait) in [(well, &mut trunk.patience), (fair, &mut trunk.fair_patience)] {
            if !removed && since.is_none_or(|since| sent < since) {
                *wait = if patience == 0 { 0 } else { patience.max(*wait) };
            }
        }
        // Forgotten while the answer was under way: no one can know before it would have expired.
        let forgot_at = self.forgot_at;
        if let Some(granted) = granted.filter(|_| asked > 0 && sent <= forgot_at) {
            let expires = sent + u64::from(granted) * SECOND;
            trunk.patience = trunk.patience.max(expires);
            trunk.fair_patience = trunk.fair_patience.max(expires);
        }
        self.close_call(id);
        if granted.is_some() {
            self.note_due(&flight);
            self.note_misled(&flight, at);
        }
        self.distorted(answer)
    }

    /// Returns what the engine receives: the same, unless a mutant distorts it.
    pub fn distorted(
        &self,
        answer: Result<RegisterResponse, SendError>,
    ) -> Result<RegisterResponse, SendError> {
        let Ok(reply) = answer else { return answer };
        let refused = matches!(reply.code, Some(401 | 403 | 407));
        Ok(match self.rules.broken {
            Mutant::Hammering if refused => crate::registrar::code(500),
            Mutant::Eager if matches!(reply.code, Some(408 | 500..=599)) => crate::registrar::code(486),
            Mutant::Impatient => RegisterResponse { retry_after: None, ..reply },
            Mutant::Slandered if refused => {
                RegisterResponse { authentication: Some(Authentication::Refused), ..reply }
            }
            Mutant::Doubled => {
                let mut reply = reply;
                reply
                    .bindings
                    .iter_mut()
                    .for_each(|one| one.expires = one.expires.map(|expires| expires * 2));
                reply.contact_expires = reply.contact_expires.map(|expires| expires.saturating_mul(2));
                reply
            }
            _ => reply,
        })
    }

    /// Notes what concerns the trunk alone: how long it may wait for that, and what it cannot know.
    pub fn note_own(
        &mut self,
        flight: &InFlight,
        answer: &Result<RegisterResponse, SendError>,
        refused: bool,
        succeeded: bool,
    ) {
        let at = self.now();
        let code = answer.as_ref().ok().and_then(|reply| reply.code);
        let timed_out = timed_out(answer);
        let proxied = !self.is_direct();
        let alone = self.may_be_alone(flight) && self.silent_before(flight) > 0;
        let call = self.model.call(&flight.call);
        call.looked_refused = !succeeded && (call.looked_refused || (alone && timed_out && !call.registered));
        let own = self.model.call(&flight.call).looked_refused
            || self.model.trunk(&flight.reference).suspected
            || self.looks_refused(flight, at)
            || self.can_tell(flight, at)
            || self.may_look_never_registered(flight, at)
            || self.is_loop(flight);
        let looks_refused = timed_out && proxied && own;
        let none = BTreeMap::new();
        let holds = self.model.runs.get(&flight.run).map_or(&none, |run| &run.holds);
        // A circle of redirections, or one to where nothing is registered.
        let astray = matches!(code, Some(300..=399)) && !self.serves(&flight.target.host, 0, holds, at);
        let before = self.silent_before(flight);
        let taken = self.model.call(&flight.call).looked_refused
            || self.looks_refused(flight, at)
            || self.may_look_refused(flight, 2 * MINUTE, at);
        let call = self.model.call(&flight.call);
        if before == 0 {
            (call.silent_from, call.row_ends) = (flight.sent, false);
        }
        call.row_ends |= taken;
        call.timeouts = (if timed_out && !refused { before + 1 } else { 0 }, flight.run);
        let unknown = timed_out
            || code.is_some_and(|code| code < 200)
            || matches!(
                answer,
                Err(SendError::Unavailable(_) | SendError::Disconnected { .. } | SendError::Failed(_))
            );
        call.unconfirmed |= unknown && flight.asked > 0;
        if succeeded && flight.asked > 0 {
            (call.registered, call.unconfirmed) = (true, false);
            // An engine forgets the silences of a trunk that is registered, wherever: the one that a probe of
            // its preferred target met an hour ago is the first of no row.
            for other in self.calls_of(&flight.reference) {
                self.model.call(&other).timeouts = (0, flight.run);
            }
        }
        let wait = match answer {
            _ if succeeded => 0,
            _ if refused || looks_refused || matches!(code, Some(404 | 410 | 604)) => HOUR * 11 / 10,
            Err(SendError::Refused(_) | SendError::Failed(_) | SendError::Disconnected { .. }) => OWN_WAIT,
            Ok(reply) if reply.retry_after.is_some() => HOUR,
            _ if astray => 31 * MINUTE,
            // These say how to ask instead.
            Ok(reply) if matches!(reply.code, Some(300..=399 | 400 | 420 | 423 | 408 | 500..=599)) => 0,
            Ok(_) => 31 * MINUTE,
            Err(_) => 0,
        };
        if succeeded
            && let Some(run) = self.model.runs.get_mut(&flight.run)
            && flight.asked > 0
        {
            let host = run.successes.entry(flight.target.host.clone()).or_default();
            host.insert(flight.reference.clone(), flight.sent);
        }
        let trunk = self.model.trunk(&flight.reference);
        trunk.tells_how = matches!(code, Some(300..=399 | 400 | 420 | 423)).then_some(at);
        if succeeded && flight.asked > 0 {
            trunk.registered.retain(|before| before + HOUR > at);
            trunk.registered.push(at);
        }
        trunk.refused = refused || looks_refused || matches!(code, Some(404 | 410 | 604));
        trunk.suspected = !succeeded && (trunk.suspected || refused || looks_refused);
        if wait > 0 {
            trunk.own_wait = trunk.own_wait.max(at + wait);
        }
    }

    /// Notes that the Requester may hand over another device's binding, which lasts longer than ours.
    pub fn note_misled(&mut self, flight: &InFlight, at: u64) {
        let Some(call) = self.model.calls.get(&flight.call) else { return };
        let Some(grant) = call.grant.as_ref() else { return };
        let until = (grant.sent + grant.granted_ms).max(call.most_until);
        let real = self.holders(&flight.call).map(|bound| bound.expires).max().unwrap_or(0);
        // Our Requester says which one is ours, but for a registrar that rewrites it.
        let ours = self.rules.field.is_some_and(|field| field.is_ours()) && !call.unsure;
        let misled = !ours && real > at && until > real + 2 * SECOND;
        self.model.call(&flight.call).misled_until = if misled { until } else { 0 };
        if misled {
            let trunk = self.model.trunk(&flight.reference);
            trunk.patience = trunk.patience.max(until);
            trunk.fair_patience = trunk.fair_patience.max(until);
        }
    }

    /// Notes that a granted binding that is refreshed in its usual window is due at the end of that.
    pub fn note_due(&mut self, flight: &InFlight) {
        let Some(grant) = self.model.calls.get(&flight.call).and_then(|call| call.grant.clone()) else {
            return;
        };
        let own =
            self.catalogue.calls.get(&flight.call).is_some_and(|call| call.domain == flight.target.host);
        if !own || !grant.preferred || flight.asked == 0 {
            return;
        }
        let interval =
            self.model.settings.registration.interval_ms.min(self.model.before.registration.interval_ms);
        let lead = interval.max(5 * SECOND).min(grant.granted_ms / 2);
        let until = grant.sent + grant.granted_ms - lead;
        self.due_by(flight.run, &flight.target.host, &flight.call, until);
    }
}
