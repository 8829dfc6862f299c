//! Waits that a registrar asked for are kept: Retry-After holds for all its trunks (503) or for this one, up
//! to an hour.

use routr_registration::model::RegisterRequest;

use crate::{checks::Invariant, world::State};

impl State {
    pub fn check_retry_after(
        &mut self,
        run: u32,
        name: &str,
        request: &RegisterRequest,
        reference: &str,
        at: u64,
    ) {
        let hold = self.model.runs.get(&run).and_then(|run| run.holds.get(&request.target.host)).copied();
        let hold = hold.unwrap_or(0);
        self.check(Invariant::RetryAfter, at >= hold, |_| {
            format!("{name}: {} asked all to wait until {hold} ms", request.target)
        });
        let wish = self.model.trunk(reference).wish_at;
        let call = self.model.call(&request.call_id);
        // An edit, a return or a person's wish since then: everything learnt before is void.
        let asked = call.asked.get(&request.target).filter(|(by, _, sent)| *by == run && wish < *sent);
        let asked = asked.map_or(0, |(_, until, _)| *until);
        self.check(Invariant::RetryAfter, at >= asked, |_| {
            format!("{name}: {} asked to wait until {asked} ms", request.target)
        });
    }
}
