//! The CSeq of a Call-ID rises with each REGISTER, across restarts and takeovers (RFC 3261 §10.2).

use routr_registration::model::RegisterRequest;

use crate::{checks::Invariant, world::State};

impl State {
    pub fn check_cseq(&mut self, name: &str, request: &RegisterRequest) {
        let used = self.model.call(&request.call_id).used;
        let rises = request.cseq > used && request.cseq < 1 << 31;
        self.check(Invariant::CseqRises, rises, |_| {
            format!("{name} goes on with {} after {used}", request.cseq)
        });
    }
}
