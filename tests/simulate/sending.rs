//! The checks of each REGISTER as it leaves the registry, and what each answer means for the next.

use routr_registry::{
    ports::{Record, Register, Reply, SendError},
    registration::target,
};

use crate::{
    book::{Flight, Grant, Rejected},
    broken::Broken,
    neighbours::Shelf,
    rules::{HOUR, MINUTE, SECOND},
    trunks::{Catalogue, Item, calls_of},
    world::State,
};

/// The longest pause of an engine before it asks a store again that failed, with some time to write everything.
const STORE_PAUSE: u64 = 6 * MINUTE;

impl State {
    /// A REGISTER leaves a process. Returns the number of its call.
    pub fn sending(&mut self, run: u32, request: &mut Register) -> u64 {
        match self.rules.broken {
            Broken::FrozenNumbers => request.cseq = 500_000_000,
            Broken::ForeignIdentity => request.call_id = "foreign".into(),
            Broken::SameTag => request.from_tag = "same".into(),
            Broken::Twice => drop(self.open(run, request)),
            Broken::Leak => {
                let password = request.credentials.as_ref().map_or("", |c| c.password.expose()).to_owned();
                self.say(format_args!("a careless line: {password}"));
            }
            _ => {}
        }
        self.open(run, request)
    }

    fn open(&mut self, run: u32, request: &Register) -> u64 {
        let at = self.now();
        let name = self.book.call_name(&self.catalogue, &request.call_id);
        self.say(format_args!("~{run} REGISTER {name} {request:?}"));
        self.count("REGISTERs");
        self.book.sends += 1;
        self.check_identity(&name, request);
        self.check_in_flight(run, &name, request);
        self.check_budgets(run, &name, request, at);
        let reference = self.reference(&request.call_id);
        if request.expires == 0 {
            self.check_removal(run, &name, request, &reference, at);
        } else {
            self.check_patience(run, &name, request, &reference, at);
            self.check_window(run, &name, request, &reference, at);
        }
        let preferred = self.is_preferred(run, &reference, request);
        self.book.next += 1;
        let id = self.book.next;
        let call = self.book.call(&request.call_id);
        call.used = call.used.max(request.cseq);
        call.flight = Some(id);
        if request.expires == 0 {
            call.leaves += 1;
        }
        if let Some(run) = self.book.runs.get_mut(&run) {
            run.in_flight += 1;
            if run.in_flight >= self.book.settings.max_in_flight {
                run.full_since.get_or_insert(at);
            }
            run.sends += 1;
            run.numbers.insert(request.call_id.clone(), (request.cseq, None));
        }
        let password = request.credentials.as_ref().map(|c| c.password.expose().to_owned());
        let flight = Flight {
            run,
            call: request.call_id.clone(),
            reference,
            target: request.target.clone(),
            password,
            cseq: request.cseq,
            sent: at,
            asked: request.expires,
            preferred,
        };
        self.book.flights.insert(id, flight);
        id
    }

    fn reference(&self, call_id: &str) -> String {
        self.catalogue.calls.get(call_id).map(|call| call.reference.clone()).unwrap_or_default()
    }

    fn check_identity(&mut self, name: &str, request: &Register) {
        let call = self.catalogue.calls.get(&request.call_id);
        let known = call.is_some_and(|call| {
            call.user == request.user && call.domain.eq_ignore_ascii_case(&request.domain)
        });
        self.check("identity", known, |_| {
            format!("{name} is no Call-ID of {}@{}", request.user, request.domain)
        });
        let used = self.book.call(&request.call_id).used;
        let rises = request.cseq > used && request.cseq < 1 << 31;
        self.check("CSeq rises", rises, |_| format!("{name} goes on with {} after {used}", request.cseq));
        let new = self.book.from_tags.insert(request.from_tag.clone());
        self.check("new From tag", new, |_| format!("{name} has the tag {} again", request.from_tag));
    }

    fn check_in_flight(&mut self, run: u32, name: &str, request: &Register) {
        let open = self.book.call(&request.call_id).flight.and_then(|id| self.book.flights.get(&id));
        // A leader that is frozen beyond its term cannot close its calls.
        let gone = |other: u32| {
            other != run && self.book.runs.get(&other).is_none_or(|other| other.life.is_frozen())
        };
        let free = open.is_none_or(|open| gone(open.run));
        let since = open.map_or(0, |open| open.sent);
        self.check("one in flight", free, |_| format!("{name} has been in flight since {since} ms"));
        let others = self.lease.who_holds(self.book.runs.get(&run).map_or(0, |run| run.life.id));
        self.check("one leader", others.is_none(), |_| {
            format!("{name} is sent by run {run} while {others:?} leads")
        });
        let most = self.book.settings.max_in_flight.max(self.recent(|book| book.before.max_in_flight));
        let have = self.book.runs.get(&run).map_or(0, |run| run.in_flight);
        self.check("places in flight", have < most, |_| format!("{name} is number {} of {most}", have + 1));
    }

    /// What held before, for as long as either may hold.
    fn recent(&self, get: impl Fn(&crate::book::Book) -> u32) -> u32 {
        if self.now() < self.book.changed_at + 2 * SECOND { get(&self.book) } else { 0 }
    }

    /// At most half a second's worth at once, then the rate; each start of an engine may add as much as it may send at once.
    fn check_budgets(&mut self, run: u32, name: &str, request: &Register, at: u64) {
        let uncertain = at < self.book.changed_at + 2 * SECOND;
        let rate = self.book.settings.rate_per_registrar;
        let (Some(rate), Some(book)) = (rate.filter(|_| !uncertain), self.book.runs.get_mut(&run)) else {
            if let Some(book) = self.book.runs.get_mut(&run) {
                book.buckets.clear();
            }
            return;
        };
        let burst = (rate / 2.0).max(1.0);
        let (tokens, since) = *book.buckets.get(&request.target.host).unwrap_or(&(burst, at));
        let elapsed = (at - since) as f64 / 1_000.0;
        let tokens = (tokens + elapsed * rate).min(burst) - 1.0;
        book.buckets.insert(request.target.host.clone(), (tokens, at));
        let host = &request.target.host;
        self.check("budget", tokens > -0.02, |_| {
            format!("{name}: {host} is over its {rate}/s by {:.2}", -tokens)
        });
    }

    /// A rejected password waits its 5 minutes, doubling to an hour, unless the trunk changed, a person asks or the process
    /// is another one. What a registrar asked for holds for all its trunks (503) or for this one, up to an hour.
    fn check_patience(&mut self, run: u32, name: &str, request: &Register, reference: &str, at: u64) {
        let hold = self.book.runs.get(&run).and_then(|run| run.holds.get(&request.target.host)).copied();
        let hold = hold.unwrap_or(0);
        self.check("Retry-After", at >= hold, |_| {
            format!("{name}: {} asked all to wait until {hold} ms", request.target)
        });
        let wish = self.book.trunk(reference).wish_at;
        let call = self.book.call(&request.call_id);
        // An edit, a return or a person's wish since then: everything learnt before is void.
        let asked = call.asked.get(&request.target).filter(|(by, _, sent)| *by == run && wish < *sent);
        let asked = asked.map_or(0, |(_, until, _)| *until);
        let offered = request.credentials.as_ref().map_or("", |c| c.password.expose());
        let rejected = call
            .rejected
            .clone()
            .filter(|rejected| rejected.run == run && rejected.password == offered && wish < rejected.sent);
        self.check("Retry-After", at >= asked, |_| {
            format!("{name}: {} asked to wait until {asked} ms", request.target)
        });
        if let Some(rejected) = rejected {
            self.check("rejected password", at >= rejected.until, |_| {
                format!("{name}: refused {} times, not before {} ms", rejected.times, rejected.until)
            });
        }
    }

    /// A trunk that nothing has happened to is refreshed in [E - lead - E/10, E - lead], and not before.
    fn check_window(&mut self, run: u32, name: &str, request: &Register, reference: &str, at: u64) {
        let interval = |settings: &routr_registry::engine::EngineSettings| settings.registration.interval_ms;
        let lead = interval(&self.book.settings).max(5 * SECOND);
        let reason = self.book.trunk(reference).reason_at;
        let Some(grant) =
            self.book.call(&request.call_id).grant.clone().filter(|g| g.run == run && g.preferred)
        else {
            return;
        };
        if reason >= grant.sent || self.book.changed_at >= grant.sent {
            return;
        }
        let lead = lead.min(grant.granted_ms / 2);
        let latest = grant.sent + grant.granted_ms - lead;
        let earliest = latest.saturating_sub(grant.granted_ms / 10).max(grant.sent);
        self.check("refresh window", at + 1 >= earliest, |_| {
            format!("{name}: granted {} ms at {}, not before {earliest} ms", grant.granted_ms, grant.sent)
        });
        let calm = self.book.trouble_at + 5 * MINUTE < grant.sent;
        // A second of margin for the answer, and what the budgets may take.
        let slack = SECOND + self.queue_ms();
        if calm && grant.granted_ms >= 120 * SECOND {
            self.check("refresh window", at <= latest + slack, |_| {
                format!("{name}: granted {} ms at {}, due until {latest} ms", grant.granted_ms, grant.sent)
            });
        }
    }

    /// How long all trunks take, one after the other, at the narrowest place.
    pub fn queue_ms(&self) -> u64 {
        let trunks = u64::try_from(self.book.trunks.len()).unwrap_or(0) + 1;
        let each = self.book.settings.rate_per_registrar.map_or(0.0, |rate| 1_000.0 / rate);
        let slots = if matches!(self.way.home, crate::network::Mode::Slots(_)) { 250 } else { 0 };
        let places = if self.book.settings.max_in_flight < 8 { 300 } else { 100 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let each = (each as u64).max(slots).max(places);
        trunks * each * 2
    }

    /// Nothing is removed without a reason that the administrator knows.
    fn check_removal(&mut self, run: u32, name: &str, request: &Register, reference: &str, at: u64) {
        let wanted = self.catalogue.wants(&request.call_id);
        let current = self.catalogue.entries.get(reference).map(|entry| entry.revision);
        let (farewell, told) = self
            .book
            .runs
            .get(&run)
            .map_or((false, None), |run| (run.farewell, run.known.get(reference).copied()));
        // What came back a moment ago, or is not known to have come back, may be on its way out still.
        // So may the removal of an address that the trunk has come back with, but does not begin with.
        let first = self.catalogue.entries.get(reference).and_then(|entry| {
            let first = Catalogue::order(&entry.trunk).first().copied()?;
            entry.calls.get(usize::from(first)).cloned()
        });
        let was = self.book.call(&request.call_id).unwanted_at;
        let backup =
            first.is_none_or(|first| first != request.call_id) && was.is_some_and(|was| was + 2 * HOUR > at);
        let unaware = backup || told != current || self.book.trunk(reference).wish_at + 2 * SECOND > at;
        self.check("removal with a reason", farewell || !wanted || unaware, |_| {
            format!("{name}: {reference} is there, and is known to be")
        });
    }

    /// As the run knows it: what an edit has made the preferred way is not yet, for one that has not read it.
    fn is_preferred(&self, run: u32, reference: &str, request: &Register) -> bool {
        let Some(entry) = self.catalogue.entries.get(reference) else { return false };
        let told = self.book.runs.get(&run).and_then(|run| run.known.get(reference));
        if told != Some(&entry.revision) {
            return false;
        }
        let first = Catalogue::order(&entry.trunk)
            .first()
            .and_then(|first| entry.trunk.uris.get(usize::from(*first)));
        let edges = &self.book.settings.edge_ports;
        let addresses: Vec<String> = edges.iter().map(|edge| edge.address.to_string()).collect();
        let all = edges
            .iter()
            .zip(&addresses)
            .map(|(edge, address)| (address.as_str(), edge.region.as_deref(), true));
        let best = target::edge_port(reference, entry.trunk.region.as_deref(), all, 0);
        first.is_some_and(|uri| uri.registrar == request.target)
            && edges.get(best).is_some_and(|edge| edge.address == request.edge_port)
    }

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

    /// A page of trunks reaches a run.
    pub fn listed(&mut self, run: u32, page: &[Item]) {
        let at = self.now();
        for item in page {
            let (Some(reference), Some(book)) = (&item.reference, self.book.runs.get_mut(&run)) else {
                continue;
            };
            if let Ok(trunk) = &item.trunk {
                book.good.insert(reference.clone(), calls_of(trunk));
            }
            if book.known.insert(reference.clone(), item.revision) != Some(item.revision) {
                let trunk = self.book.trunk(reference);
                (trunk.reason_at, trunk.wish_at) = (at, at);
            }
        }
    }

    /// A listing reaches its end.
    pub fn list_complete(&mut self, run: u32, items: &[Item], shrunk: bool) {
        let Some(book) = self.book.runs.get_mut(&run) else { return };
        if !shrunk {
            // What is there and was left out without a word is no removal that the engine should have known of.
            let gone = |known: &String| !items.iter().any(|item| item.reference.as_ref() == Some(known));
            book.known.retain(|known, _| self.catalogue.entries.contains_key(known) || !gone(known));
        }
        self.count("syncs");
    }

    /// The Call-IDs that a trunk has had.
    fn calls_of(&self, reference: &str) -> Vec<Box<str>> {
        let calls = self.catalogue.calls.iter().filter(|(_, call)| call.reference == reference);
        calls.map(|(id, _)| id.clone()).collect()
    }

    /// Of how many trunks that a run knows how many are not in this listing: it cannot miss one that it was never told of.
    /// A run that was told of none may know of all by the store.
    pub fn missed_by(&self, run: u32, listed: &[Item], world: (usize, usize)) -> (usize, usize) {
        let Some(run) = self.book.runs.get(&run).filter(|run| !run.known.is_empty()) else { return world };
        let there = |known: &&String| listed.iter().any(|item| item.reference.as_ref() == Some(*known));
        (run.known.keys().filter(|known| !there(known)).count(), run.known.len())
    }

    /// A listing lacks a trunk that is there. Few that are missing are believed to be gone; most of many are not.
    pub fn listed_without(&mut self, reference: &str, lost: usize, whole: usize) {
        let at = self.now();
        if lost > 10 && lost * 2 > whole + 2 {
            return;
        }
        for call in self.calls_of(reference) {
            self.book.call(&call).unwanted_at = Some(at);
        }
        let trunk = self.book.trunk(reference);
        (trunk.reason_at, trunk.wish_at) = (at, at);
        // From now on, not from the next look: it is removed where it is registered.
        (trunk.well_since, trunk.fair_since) = (None, None);
        for run in self.book.runs.values_mut() {
            run.known.remove(reference);
        }
    }

    /// Runs have died, or are no longer the ones that act. By a clock that was wrong the numbers of what they had in flight may be
    /// far ahead of the next clock, and they are in no store yet: nobody can know of them. So they are lost on their way, or the
    /// registrar forgets them. So may those be that were answered a moment ago, and not written any more. The number that
    /// comes next to the one that is kept is no such one: whoever starts has to leave room for it. Where all clocks are
    /// right this excuses nothing.
    pub fn lose_numbers(&mut self, runs: &[u32]) {
        if !self.rules.clock_jumps {
            return;
        }
        let at = self.now();
        let mut unkept = Vec::new();
        for run in runs.iter().filter_map(|run| self.book.runs.get(run)) {
            for (call, (cseq, over)) in &run.numbers {
                if over.is_none_or(|over| over + SECOND > at) {
                    unkept.push((call.clone(), *cseq));
                }
            }
        }
        for (call, cseq) in unkept {
            let reference = self.reference(&call);
            let kept = self.records.all.get(&*reference).map_or(0, |record| record.cseq);
            if cseq <= kept.saturating_add(1) {
                continue;
            }
            let used = &mut self.book.call(&call).used;
            *used = kept.min(*used);
            for host in self.hosts.values_mut() {
                host.numbers.remove(&call);
            }
            self.book.lost.insert((call, cseq));
        }
    }

    /// A process is dead.
    pub fn bury(&mut self, life: u32) {
        let runs = self.book.runs.iter().filter(|(_, run)| run.life.id == life);
        let runs: Vec<u32> = runs.map(|(id, _)| *id).collect();
        self.lose_numbers(&runs);
        self.book.bury(life);
    }

    /// A trunk that is gone is forgotten. By a clock that was wrong its numbers may be ahead of those of the next clock: nothing
    /// can tell, should it come back. A registrar compares with the bindings that it holds (RFC 3261 §10.3), so it forgets too.
    pub fn forgotten(&mut self, reference: &str) {
        if !self.rules.clock_jumps {
            return;
        }
        for id in self.calls_of(reference) {
            self.book.call(&id).used = 0;
            for host in self.hosts.values_mut() {
                host.numbers.remove(&id);
            }
        }
    }

    /// What the store could not take, or lost, of a run that has gone, nobody knows: a binding that was replaced by a shorter one is
    /// believed to last for as long as the store has it, and is not sent again before its time. Where the store was well
    /// this excuses nothing.
    fn outdated(&mut self, run: u32, records: &[Record]) {
        let at = self.now();
        let missed_until = if self.shelf == Shelf::Up { self.records.bad_at + STORE_PAUSE } else { at };
        let Some(wall) = self.book.runs.get(&run).map(|run| run.life.machine.wall_ms()) else { return };
        for record in records {
            let outdated = self.calls_of(&record.reference).iter().any(|id| {
                let grant = self.book.calls.get(id).and_then(|call| call.grant.as_ref());
                grant.is_some_and(|grant| {
                    grant.run != run && grant.cseq > record.cseq && grant.sent <= missed_until
                })
            });
            if outdated {
                let until = at + record.expires_at_ms.saturating_sub(wall);
                let trunk = self.book.trunk(&record.reference);
                trunk.patience = trunk.patience.max(until);
                trunk.fair_patience = trunk.fair_patience.max(until);
            }
        }
    }

    /// A run was told what the store kept.
    pub fn loaded(&mut self, run: u32, records: &[Record]) {
        self.say(format_args!("~{run} loaded {} records", records.len()));
        self.outdated(run, records);
        if !self.rules.clock_jumps {
            return;
        }
        let others: Vec<u32> = self.book.runs.keys().filter(|other| **other != run).copied().collect();
        self.lose_numbers(&others);
        // By a clock that is wrong, a binding may be believed to last for the whole of what was granted.
        let at = self.now();
        for record in records {
            let until = at + u64::from(record.granted_s) * SECOND;
            let trunk = self.book.trunk(&record.reference);
            trunk.patience = trunk.patience.max(until);
            trunk.fair_patience = trunk.fair_patience.max(until);
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
