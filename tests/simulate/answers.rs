//! What each answer means for the next REGISTER.

use routr_registry::ports::{Reply, SendError};

use crate::{
    book::{Grant, Rejected},
    broken::Broken,
    rules::{HOUR, MINUTE, SECOND},
    world::State,
};

impl State {
    /// An answer reaches its process. Returns what the engine is told of it.
    pub fn delivered(&mut self, id: u64, answer: Result<Reply, SendError>) -> Result<Reply, SendError> {
        let at = self.now();
        let Some(flight) = self.book.flights.get(&id) else { return answer };
        let (run, call_id, reference) = (flight.run, flight.call.clone(), flight.reference.clone());
        let (target, password, sent) = (flight.target.clone(), flight.password.clone(), flight.sent);
        let (asked, preferred, cseq) = (flight.asked, flight.preferred, flight.cseq);
        let name = self.book.call_name(&self.catalogue, &call_id);
        match &answer {
            Ok(reply) => self.say(format_args!("~{run} answer {name} {:?} {reply:?}", reply.code)),
            Err(error) => self.say(format_args!("~{run} answer {name} {error}")),
        }
        let code = answer.as_ref().ok().and_then(|reply| reply.code);
        let retry_after = answer.as_ref().ok().and_then(|reply| reply.retry_after).unwrap_or(0);
        let asks = at + u64::from(retry_after).min(3_600) * SECOND;
        let granted = answer
            .as_ref()
            .ok()
            .filter(|reply| reply.code == Some(200))
            .and_then(|reply| granted(reply, asked));
        let trunk = self.book.trunk(&reference);
        let undisturbed = granted.is_some() && preferred && trunk.reason_at < sent;
        trunk.preferred = if undisturbed { trunk.preferred + 1 } else { 0 };
        let (settled, wish) = (trunk.preferred >= 1, trunk.wish_at);
        if granted.is_some() && asked > 0 {
            trunk.last_call.clone_from(&call_id);
        }
        let call = self.book.call(&call_id);
        if granted.is_some() {
            call.removed = (asked == 0).then(|| (target.host.clone(), at));
        }
        let mut patience = at + 30 * MINUTE;
        match (code, granted) {
            (_, Some(granted)) => {
                (call.rejected, call.leaves) = (None, if asked == 0 { call.leaves } else { 0 });
                call.grant = (asked > 0).then(|| Grant {
                    run,
                    cseq,
                    sent,
                    granted_ms: u64::from(granted) * SECOND,
                    preferred: settled,
                });
                patience = 0;
            }
            (Some(401 | 403 | 404 | 407 | 410 | 604), _) => {
                let before = call
                    .rejected
                    .take()
                    .filter(|rejected| rejected.run == run && Some(&rejected.password) == password.as_ref())
                    .filter(|rejected| wish < rejected.sent);
                let times = before.map_or(0, |rejected| rejected.times) + 1;
                let wait = (300 << (times - 1).min(8)).min(3_600) * SECOND;
                let password = password.unwrap_or_default();
                call.rejected = Some(Rejected { run, password, times, until: at + wait, sent });
                // What is told that there is no such account has nothing to remove.
                if asked == 0 && matches!(code, Some(404 | 410 | 604)) {
                    call.leaves = 3;
                }
                patience = (at + HOUR * 11 / 10).max(asks);
            }
            (Some(503), _) if retry_after > 0 => {
                if let Some(run) = self.book.runs.get_mut(&run) {
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
            // What another registrar of the trunk refused begins anew with five minutes.
            for (other, entry) in &mut self.book.calls {
                let same = self.catalogue.calls.get(other).is_some_and(|call| call.reference == reference);
                if same && let Some(rejected) = &mut entry.rejected {
                    rejected.times = 0;
                    rejected.until = rejected.until.min(sent);
                }
            }
        } else {
            self.book.trouble_at = at;
        }
        let trunk = self.book.trunk(&reference);
        if granted.is_none() {
            trunk.reason_at = at;
        }
        // That a former address has been removed does not end the wait that the new one met. Nor does a success that is told to a
        // run which acts no more, and was frozen for hours: the one that acts does not hear of it.
        let elsewhere = self.book.acting().is_some_and(|(acting, _)| acting != run);
        let removed = granted.is_some() && (asked == 0 || elsewhere);
        let trunk = self.book.trunk(&reference);
        let (well, fair) = (trunk.well_since, trunk.fair_since);
        for (since, wait) in [(well, &mut trunk.patience), (fair, &mut trunk.fair_patience)] {
            if !removed && since.is_none_or(|since| sent < since) {
                *wait = if patience == 0 { 0 } else { patience.max(*wait) };
            }
        }
        // Forgotten while the answer was under way: nobody can know before it would have lapsed.
        let forgot_at = self.forgot_at;
        if let Some(granted) = granted.filter(|_| asked > 0 && sent <= forgot_at) {
            let lapses = sent + u64::from(granted) * SECOND;
            trunk.patience = trunk.patience.max(lapses);
            trunk.fair_patience = trunk.fair_patience.max(lapses);
        }
        self.flight_gone(id);
        match (self.rules.broken, answer) {
            (Broken::Hammering, Ok(reply)) if matches!(reply.code, Some(401 | 403 | 407)) => {
                Ok(crate::registrar::code(500))
            }
            (Broken::Impatient, Ok(reply)) => Ok(Reply { retry_after: None, ..reply }),
            (_, answer) => answer,
        }
    }

    /// A call is over.
    pub fn flight_gone(&mut self, id: u64) {
        let at = self.now();
        let Some(flight) = self.book.flights.remove(&id) else { return };
        if let Some(run) = self.book.runs.get_mut(&flight.run) {
            run.in_flight = run.in_flight.saturating_sub(1);
            if run.in_flight < self.book.settings.max_in_flight
                && let Some(since) = run.full_since.take()
                && at >= since + 5 * SECOND
            {
                run.full = (since, at);
            }
            if let Some((number, over)) = run.numbers.get_mut(&flight.call)
                && *number == flight.cseq
            {
                *over = Some(at);
            }
        }
        let call = self.book.call(&flight.call);
        if call.flight == Some(id) {
            call.flight = None;
        }
    }
}

/// Seconds that a reply grants, as a reader of RFC 3261 has it: never more than what was asked.
fn granted(reply: &Reply, asked: u32) -> Option<u32> {
    if asked == 0 {
        return Some(0);
    }
    let said =
        reply.contact_expires.filter(|seconds| *seconds > 0).or(reply.expires).or(reply.contact_expires);
    let seconds = said.map_or(Some(asked), |seconds| u32::try_from(seconds).ok())?;
    (seconds > 0).then(|| seconds.min(asked))
}
