//! Each REGISTER has a From tag that none had before.

use routr_registration::model::RegisterRequest;

use crate::{checks::Invariant, world::State};

impl State {
    pub fn check_from_tag(&mut self, name: &str, request: &RegisterRequest) {
        let new = self.model.from_tags.insert(request.from_tag.clone());
        self.check(Invariant::NewFromTag, new, |_| format!("{name} has the tag {} again", request.from_tag));
    }
}
