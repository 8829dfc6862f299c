//! A REGISTER has a Call-ID of its trunk, with the user and the domain that this Call-ID stands for.

use routr_registration::model::RegisterRequest;

use crate::{checks::Invariant, world::State};

impl State {
    pub fn check_identity(&mut self, name: &str, request: &RegisterRequest) {
        let call = self.catalogue.calls.get(&request.call_id);
        let known = call.is_some_and(|call| {
            call.user == request.user && call.domain.eq_ignore_ascii_case(&request.domain)
        });
        self.check(Invariant::Identity, known, |_| {
            format!("{name} is no Call-ID of {}@{}", request.user, request.domain)
        });
    }
}
