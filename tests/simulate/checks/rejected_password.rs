//! A rejected password waits 5 minutes, doubling to an hour, unless the trunk is edited, a person asks, or
//! the process is another one and cannot know ([`crate::checks::offers_of_a_refused_password`]).

use routr_registration::model::RegisterRequest;

use crate::{
    checks::{Invariant, mutants::Mutant},
    world::State,
};

impl State {
    pub fn check_rejected_password(
        &mut self,
        name: &str,
        request: &RegisterRequest,
        reference: &str,
        at: u64,
    ) {
        let offered = request.credentials.as_ref().map_or("", |c| c.password.expose());
        let rejected = self.refused_before(&request.call_id, offered, reference);
        // The mutant that the other check has to find would end here.
        let other = self.rules.broken == Mutant::Insisting;
        if let Some(rejected) = rejected.filter(|_| !other) {
            self.check(Invariant::RejectedPassword, at >= rejected.until, |_| {
                format!("{name}: refused {} times, not before {} ms", rejected.times, rejected.until)
            });
        }
    }
}
