//! The checks of each REGISTER as it leaves the registry.

use routr_registration::{
    model::RegisterRequest,
    registration::{EdgePortRank, target},
};
use routr_types::host::HostPort;

use crate::{
    model::Flight,
    mutants::Mutant,
    rules::{HOUR, MINUTE, SECOND},
    trunks::{Catalogue, Entry},
    world::State,
};

impl State {
    /// A REGISTER leaves a process. Returns the number of its call.
    pub fn sending(&mut self, run: u32, request: &mut RegisterRequest) -> u64 {
        match self.rules.broken {
            Mutant::FrozenNumbers => request.cseq = 500_000_000,
            Mutant::ForeignIdentity => request.call_id = "foreign".into(),
            Mutant::SameTag => request.from_tag = "same".into(),
            Mutant::WrongContact if request.expires == 0 => {
                request.edge_port = HostPort::new("elsewhere", 5060);
            }
            Mutant::Twice => drop(self.open(run, request)),
            Mutant::Leak => {
                let password = request.credentials.as_ref().map_or("", |c| c.password.expose()).to_owned();
                self.say(format_args!("a careless line: {password}"));
            }
            _ => {}
        }
        self.open(run, request)
    }

    fn open(&mut self, run: u32, request: &RegisterRequest) -> u64 {
        let at = self.now();
        let name = self.model.call_name(&self.catalogue, &request.call_id);
        self.say(format_args!("~{run} REGISTER {name} {request:?}"));
        self.count("REGISTERs");
        self.model.sends += 1;
        self.check_identity(&name, request);
        self.check_in_flight(run, &name, request);
        self.check_budgets(run, &name, request, at);
        let reference = self.reference(&request.call_id);
        self.check_outage(run, &name, request, &reference, at);
        self.fair_sent(run, &request.target.host, &request.call_id, at);
        if request.expires == 0 {
            self.check_removal(run, &name, request, &reference, at);
            self.check_contact(run, &name, request);
        } else {
            self.check_patience(run, &name, request, &reference, at);
            self.check_window(run, &name, request, &reference, at);
        }
        let preferred = self.is_preferred(run, &reference, request);
        self.model.trunk(&reference).tells_how = None;
        self.model.next += 1;
        let id = self.model.next;
        let call = self.model.call(&request.call_id);
        call.used = call.used.max(request.cseq);
        call.flight = Some(id);
        call.last_sent = request.cseq;
        if request.expires == 0 {
            call.leaves += 1;
        }
        let most_in_flight = self.most_in_flight();
        if let Some(run) = self.model.runs.get_mut(&run) {
            run.in_flight += 1;
            if run.in_flight >= most_in_flight {
                run.full_until = at;
            }
            if run.in_flight >= self.model.settings.max_in_flight {
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
            edge_port: request.edge_port.clone(),
        };
        self.model.flights.insert(id, flight);
        id
    }

    /// Requests that the configuration and the Requester allow at a time.
    pub fn most_in_flight(&self) -> u32 {
        let capacity = self.rules.field.and_then(|field| field.capacity());
        self.model.settings.max_in_flight.min(capacity.unwrap_or(u32::MAX))
    }

    /// The trunk that a Call-ID belongs to; empty where it is no one's.
    pub fn reference(&self, call_id: &str) -> String {
        self.catalogue.calls.get(call_id).map(|call| call.reference.clone()).unwrap_or_default()
    }

    fn check_identity(&mut self, name: &str, request: &RegisterRequest) {
        let call = self.catalogue.calls.get(&request.call_id);
        let known = call.is_some_and(|call| {
            call.user == request.user && call.domain.eq_ignore_ascii_case(&request.domain)
        });
        self.check("identity", known, |_| {
            format!("{name} is no Call-ID of {}@{}", request.user, request.domain)
        });
        let used = self.model.call(&request.call_id).used;
        let rises = request.cseq > used && request.cseq < 1 << 31;
        self.check("CSeq rises", rises, |_| format!("{name} goes on with {} after {used}", request.cseq));
        let new = self.model.from_tags.insert(request.from_tag.clone());
        self.check("new From tag", new, |_| format!("{name} has the tag {} again", request.from_tag));
    }

    fn check_in_flight(&mut self, run: u32, name: &str, request: &RegisterRequest) {
        let open = self.model.call(&request.call_id).flight.and_then(|id| self.model.flights.get(&id));
        // A leader that is frozen beyond its term cannot close its calls.
        let gone = |other: u32| {
            other != run && self.model.runs.get(&other).is_none_or(|other| other.life.is_frozen())
        };
        let free = open.is_none_or(|open| gone(open.run));
        let since = open.map_or(0, |open| open.sent);
        self.check("one in flight", free, |_| format!("{name} has been in flight since {since} ms"));
        let others = self.lease.who_holds(self.model.runs.get(&run).map_or(0, |run| run.life.id));
        self.check("one leader", others.is_none(), |_| {
            format!("{name} is sent by run {run} while {others:?} leads")
        });
        let most = self.model.settings.max_in_flight.max(self.recent(|model| model.before.max_in_flight));
        let have = self.model.runs.get(&run).map_or(0, |run| run.in_flight);
        self.check("places in flight", have < most, |_| format!("{name} is number {} of {most}", have + 1));
    }

    /// What held before, for as long as either may hold.
    fn recent(&self, get: impl Fn(&crate::model::Model) -> u32) -> u32 {
        if self.now() < self.model.changed_at + 2 * SECOND { get(&self.model) } else { 0 }
    }

    /// At most half a second's worth at once, then the rate; each start of an engine may add as much as it
    /// may send at once.
    fn check_budgets(&mut self, run: u32, name: &str, request: &RegisterRequest, at: u64) {
        let uncertain = at < self.model.changed_at + 2 * SECOND;
        let rate = self.model.settings.rate_per_registrar;
        let (Some(rate), Some(model)) = (rate.filter(|_| !uncertain), self.model.runs.get_mut(&run)) else {
            if let Some(model) = self.model.runs.get_mut(&run) {
                model.buckets.clear();
            }
            return;
        };
        let burst = (rate / 2.0).max(1.0);
        let (tokens, since) = *model.buckets.get(&request.target.host).unwrap_or(&(burst, at));
        let elapsed = (at - since) as f64 / 1_000.0;
        let tokens = (tokens + elapsed * rate).min(burst) - 1.0;
        model.buckets.insert(request.target.host.clone(), (tokens, at));
        let host = &request.target.host;
        self.check("budget", tokens > -0.02, |_| {
            format!("{name}: {host} is over its {rate}/s by {:.2}", -tokens)
        });
    }

    /// A rejected password waits its 5 minutes, doubling to an hour, unless the trunk is edited, a person
    /// asks, or the process is another one and cannot know ([`crate::offers`]). What a registrar asked for
    /// holds for all its trunks (503) or for this one, up to an hour.
    fn check_patience(&mut self, run: u32, name: &str, request: &RegisterRequest, reference: &str, at: u64) {
        let hold = self.model.runs.get(&run).and_then(|run| run.holds.get(&request.target.host)).copied();
        let hold = hold.unwrap_or(0);
        self.check("Retry-After", at >= hold, |_| {
            format!("{name}: {} asked all to wait until {hold} ms", request.target)
        });
        let wish = self.model.trunk(reference).wish_at;
        let call = self.model.call(&request.call_id);
        // An edit, a return or a person's wish since then: everything learnt before is void.
        let asked = call.asked.get(&request.target).filter(|(by, _, sent)| *by == run && wish < *sent);
        let asked = asked.map_or(0, |(_, until, _)| *until);
        let offered = request.credentials.as_ref().map_or("", |c| c.password.expose());
        self.check("Retry-After", at >= asked, |_| {
            format!("{name}: {} asked to wait until {asked} ms", request.target)
        });
        let rejected = self.refused_before(&request.call_id, offered, reference);
        // The broken variant that the other check has to find would end here.
        let other = self.rules.broken == Mutant::Insisting;
        if let Some(rejected) = rejected.filter(|_| !other) {
            self.check("rejected password", at >= rejected.until, |_| {
                format!("{name}: refused {} times, not before {} ms", rejected.times, rejected.until)
            });
        }
    }

    /// A trunk that nothing has happened to is refreshed in [E - lead - E/10, E - lead], and not before.
    fn check_window(&mut self, run: u32, name: &str, request: &RegisterRequest, reference: &str, at: u64) {
        let interval =
            |settings: &routr_registration::engine::EngineSettings| settings.registration.interval_ms;
        let lead = interval(&self.model.settings).max(5 * SECOND);
        let reason = self.model.trunk(reference).reason_at;
        let Some(grant) =
            self.model.call(&request.call_id).grant.clone().filter(|g| g.run == run && g.preferred)
        else {
            return;
        };
        if reason >= grant.sent || self.model.changed_at >= grant.sent {
            return;
        }
        let lead = lead.min(grant.granted_ms / 2);
        let latest = grant.sent + grant.granted_ms - lead;
        let earliest = latest.saturating_sub(grant.granted_ms / 10).max(grant.sent);
        self.check("refresh window", at + 1 >= earliest, |_| {
            format!("{name}: granted {} ms at {}, not before {earliest} ms", grant.granted_ms, grant.sent)
        });
        let calm = self.model.trouble_at + 5 * MINUTE < grant.sent;
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
        let trunks = u64::try_from(self.model.trunks.len()).unwrap_or(0) + 1;
        let each = self.model.settings.rate_per_registrar.map_or(0.0, |rate| 1_000.0 / rate);
        let slots = if matches!(self.way.home, crate::network::Mode::Slots(_)) { 250 } else { 0 };
        let places = if self.model.settings.max_in_flight < 8 { 300 } else { 100 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let each = (each as u64).max(slots).max(places);
        trunks * each * 2
    }

    /// Nothing is removed without a reason that the administrator knows.
    fn check_removal(&mut self, run: u32, name: &str, request: &RegisterRequest, reference: &str, at: u64) {
        let wanted = self.catalogue.wants(&request.call_id);
        let current = self.catalogue.entries.get(reference).map(|entry| entry.revision);
        let run = self.model.runs.get(&run);
        let (farewell, told) =
            run.map_or((false, None), |run| (run.farewell, run.known.get(reference).copied()));
        // What was gone, and came back malformed, has no good version to go on by.
        let spoilt = self.catalogue.entries.get(reference).is_some_and(Entry::is_spoilt);
        let forgotten = spoilt && run.is_some_and(|run| !run.good.contains_key(reference));
        // What came back a moment ago, or is not known to have come back, may be on its way out still.
        // So may the removal of an address that the trunk has come back with, but does not begin with, or has
        // failed over from.
        let first = self.catalogue.entries.get(reference).and_then(|entry| {
            let first = Catalogue::order(&entry.trunk).first().copied()?;
            entry.calls.get(usize::from(first)).cloned()
        });
        let call = self.model.call(&request.call_id);
        let (was, granted) = (call.unwanted_at, call.grant.as_ref().map_or(0, |grant| grant.sent));
        let elsewhere = self
            .model
            .trunks
            .get(reference)
            .is_some_and(|trunk| !trunk.last_call.is_empty() && *trunk.last_call != *request.call_id);
        // An EdgePort that is down may have kept it waiting for long.
        let backup = (elsewhere || first.is_none_or(|first| first != request.call_id))
            && was.is_some_and(|was| was + 2 * HOUR > at || granted < was);
        let unaware =
            backup || forgotten || told != current || self.model.trunk(reference).wish_at + 2 * SECOND > at;
        self.check("removal with a reason", farewell || !wanted || unaware, |_| {
            format!("{name}: {reference} is there, and is known to be")
        });
    }

    /// What is removed is what was bound: the EdgePort is that of the last binding.
    fn check_contact(&mut self, run: u32, name: &str, request: &RegisterRequest) {
        let at = self.now();
        let call = self.model.call(&request.call_id);
        let Some(grant) = call.grant.clone().filter(|grant| grant.run == run && !call.unconfirmed) else {
            return;
        };
        // What was bound before through another EdgePort, and may last, is removed as well.
        let before = call.bound_through.get(&request.edge_port).is_some_and(|until| *until > at);
        let right = before || grant.edge_port == request.edge_port;
        self.check("what was bound is removed", right, |_| {
            format!("{name}: bound through {}, removed through {}", grant.edge_port, request.edge_port)
        });
    }

    /// As the run knows it: what an edit has made the preferred way is not yet, for one that has not read it.
    fn is_preferred(&self, run: u32, reference: &str, request: &RegisterRequest) -> bool {
        let Some(entry) = self.catalogue.entries.get(reference) else { return false };
        let told = self.model.runs.get(&run).and_then(|run| run.known.get(reference));
        if told != Some(&entry.revision) {
            return false;
        }
        let first = Catalogue::order(&entry.trunk)
            .first()
            .and_then(|first| entry.trunk.uris.get(usize::from(*first)));
        let edges = &self.model.settings.edge_ports;
        let addresses: Vec<String> = edges.iter().map(|edge| edge.address.to_string()).collect();
        let all = edges
            .iter()
            .zip(&addresses)
            .map(|(edge, address)| (address.as_str(), edge.region.as_deref(), true));
        let best = target::edge_port(reference, entry.trunk.region.as_deref(), all, EdgePortRank::FIRST);
        first.is_some_and(|uri| uri.registrar == request.target)
            && edges.get(best).is_some_and(|edge| edge.address == request.edge_port)
    }
}
