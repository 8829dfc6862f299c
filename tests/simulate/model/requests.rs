//! A REGISTER on its way: what the model keeps of it.

use routr_registration::{
    model::RegisterRequest,
    registration::{EdgePortRank, target},
};
use routr_types::host::HostPort;

use crate::{checks::mutants::Mutant, model::InFlight, rules::SECOND, trunks::Catalogue, world::State};

impl State {
    /// A REGISTER leaves a process. Returns the number of its call.
    pub fn register_sent(&mut self, run: u32, request: &mut RegisterRequest) -> u64 {
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

    pub fn open(&mut self, run: u32, request: &RegisterRequest) -> u64 {
        let at = self.now();
        let name = self.model.call_name(&self.catalogue, &request.call_id);
        self.say(format_args!("~{run} REGISTER {name} {request:?}"));
        self.count("REGISTERs");
        self.model.sends += 1;
        self.check_register(run, &name, request, at);
        let reference = self.reference(&request.call_id);
        let preferred = self.is_preferred(run, &reference, request);
        self.model.trunk(&reference).tells_how = None;
        self.model.next += 1;
        let id = self.model.next;
        let call = self.model.call(&request.call_id);
        call.used = call.used.max(request.cseq);
        call.open = Some(id);
        call.last_sent = request.cseq;
        if request.expires == 0 {
            call.leaves += 1;
        }
        let max_in_flight = self.max_in_flight();
        if let Some(run) = self.model.runs.get_mut(&run) {
            run.in_flight += 1;
            if run.in_flight >= max_in_flight {
                run.full_until = at;
            }
            if run.in_flight >= self.model.settings.max_in_flight {
                run.full_since.get_or_insert(at);
            }
            run.sends += 1;
            run.numbers.insert(request.call_id.clone(), (request.cseq, None));
        }
        let password = request.credentials.as_ref().map(|c| c.password.expose().to_owned());
        let flight = InFlight {
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
        self.model.in_flight.insert(id, flight);
        id
    }

    /// Requests that the configuration and the Requester allow at a time.
    pub fn max_in_flight(&self) -> u32 {
        let capacity = self.rules.field.and_then(|field| field.capacity());
        self.model.settings.max_in_flight.min(capacity.unwrap_or(u32::MAX))
    }

    /// The trunk that a Call-ID belongs to; empty where it is no one's.
    pub fn reference(&self, call_id: &str) -> String {
        self.catalogue.calls.get(call_id).map(|call| call.reference.clone()).unwrap_or_default()
    }

    /// Returns how long all trunks take, one after the other, at the narrowest place, in milliseconds.
    pub fn queue_ms(&self) -> u64 {
        let trunks = u64::try_from(self.model.trunks.len()).unwrap_or(0) + 1;
        let each = self.model.settings.rate_per_registrar.map_or(0.0, |rate| 1_000.0 / rate);
        let slots = if matches!(self.requester.home, crate::network::Mode::Slots(_)) { 250 } else { 0 };
        let places = if self.model.settings.max_in_flight < 8 { 300 } else { 100 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let each = (each as u64).max(slots).max(places);
        trunks * each * 2
    }

    /// As the run knows it: what an edit has made the preferred way is not yet, for one that has not read it.
    pub fn is_preferred(&self, run: u32, reference: &str, request: &RegisterRequest) -> bool {
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

    /// A call is over.
    pub fn close_call(&mut self, id: u64) {
        let at = self.now();
        let Some(flight) = self.model.in_flight.remove(&id) else { return };
        let most = self.max_in_flight();
        if let Some(run) = self.model.runs.get_mut(&flight.run) {
            run.in_flight = run.in_flight.saturating_sub(1);
            if run.in_flight + 1 >= most {
                run.full_until = at;
            }
            if run.in_flight < self.model.settings.max_in_flight
                && let Some(since) = run.full_since.take()
            {
                match run.taken.last_mut().filter(|(_, to)| *to == since) {
                    Some((_, to)) => *to = at,
                    None => run.taken.push((since, at)),
                }
                if at >= since + 5 * SECOND {
                    run.full = (since, at);
                }
            }
            if let Some((number, over)) = run.numbers.get_mut(&flight.call)
                && *number == flight.cseq
            {
                *over = Some(at);
            }
        }
        let call = self.model.call(&flight.call);
        if call.open == Some(id) {
            call.open = None;
        }
    }
}
