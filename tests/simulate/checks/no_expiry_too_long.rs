//! No binding is believed to last longer than the registrar holds it, or than the rule of the specification
//! yields.

use routr_registration::{engine::view::TrunkView, registration::state::TrunkState};

use crate::{
    checks::{Invariant, after_responses::Recheck},
    rules::SECOND,
    world::State,
};

impl State {
    pub fn check_no_expiry_too_long(&mut self, recheck: &Recheck, view: &TrunkView, wall: u64) {
        let at = self.now();
        if !recheck.grants || !matches!(view.state, TrunkState::Registered | TrunkState::AtRisk) {
            return;
        }
        let believed = view.expires_at_ms.unwrap_or(0).saturating_sub(wall);
        let real =
            self.holders(&recheck.call).map(|bound| bound.expires.saturating_sub(at)).max().unwrap_or(0);
        let Some(call) = self.model.calls.get(&recheck.call) else { return };
        if call.grant.as_ref().is_none_or(|grant| grant.cseq != recheck.cseq || grant.sent <= self.forgot_at)
        {
            return;
        }
        let read = call
            .grant
            .as_ref()
            .filter(|_| !call.border)
            .map(|grant| (grant.sent + grant.granted_ms).saturating_sub(at));
        let most = if recheck.own { Some(real) } else { read.map(|read| read.max(real)) };
        let Some(most) = most else { return };
        let name = self.model.call_name(&self.catalogue, &recheck.call);
        self.check(Invariant::NoExpiryTooLong, believed <= most + 2 * SECOND, |_| {
            format!("{name}: believed to last {believed} ms, and lasts {real} ms; read as {read:?} ms")
        });
    }
}
