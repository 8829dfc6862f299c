//! A challenge that could not be answered, or a stale nonce, never shows as `CredentialsRejected`.

use routr_registration::engine::view::TrunkView;

use crate::{checks::Invariant, world::State};

impl State {
    pub fn check_no_false_refusal(&mut self, call: &str, view: &TrunkView) {
        let reason = view.failure.as_ref().map_or("", |trouble| trouble.reason.as_str());
        let right = reason != "CredentialsRejected" && reason != "UnknownAccount";
        let name = self.model.call_name(&self.catalogue, call);
        self.check(Invariant::NoFalseRefusal, right, |_| {
            format!("{name}: no credentials were refused, and the reason is {:?}", view.failure)
        });
    }
}
