//! A Call-ID has one REGISTER in flight at a time (RFC 3261 §10.2).

use routr_registration::model::RegisterRequest;

use crate::{checks::Invariant, world::State};

impl State {
    pub fn check_one_in_flight(&mut self, run: u32, name: &str, request: &RegisterRequest) {
        let open = self.model.call(&request.call_id).open.and_then(|id| self.model.in_flight.get(&id));
        // A leader that is frozen beyond its term cannot close its calls.
        let gone = |other: u32| {
            other != run && self.model.runs.get(&other).is_none_or(|other| other.life.is_frozen())
        };
        let free = open.is_none_or(|open| gone(open.run));
        let since = open.map_or(0, |open| open.sent);
        self.check(Invariant::OneInFlight, free, |_| format!("{name} has been in flight since {since} ms"));
    }
}
