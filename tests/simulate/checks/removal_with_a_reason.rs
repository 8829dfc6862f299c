//! Nothing is removed without a reason that the administrator knows.

use routr_registration::model::RegisterRequest;

use crate::{
    checks::Invariant,
    rules::{HOUR, SECOND},
    trunks::{Catalogue, Entry},
    world::State,
};

impl State {
    /// Nothing is removed without a reason that the administrator knows.
    pub fn check_removal(
        &mut self,
        run: u32,
        name: &str,
        request: &RegisterRequest,
        reference: &str,
        at: u64,
    ) {
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
        self.check(Invariant::RemovalWithAReason, farewell || !wanted || unaware, |_| {
            format!("{name}: {reference} is there, and is known to be")
        });
    }
}
