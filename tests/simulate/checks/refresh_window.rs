//! A binding is refreshed in its window: not earlier, and not later.

use routr_registration::model::RegisterRequest;

use crate::{
    checks::Invariant,
    rules::{MINUTE, SECOND},
    world::State,
};

impl State {
    /// A trunk that nothing has happened to is refreshed in [E - lead - E/10, E - lead], and not before.
    pub fn check_refresh_window(
        &mut self,
        run: u32,
        name: &str,
        request: &RegisterRequest,
        reference: &str,
        at: u64,
    ) {
        let interval =
            |settings: &routr_registration::engine::EngineSettings| settings.registration.interval_ms;
        let lead = interval(&self.model.settings).max(5 * SECOND);
        let reason = self.model.trunk(reference).reason_at;
        let Some(grant) =
            self.model.call(&request.call_id).grant.clone().filter(|g| g.run == run && g.preferred)
        else {
            return;
        };
        if reason >= grant.sent || self.model.changed_at >= grant.sent {
            return;
        }
        let lead = lead.min(grant.granted_ms / 2);
        let latest = grant.sent + grant.granted_ms - lead;
        let earliest = latest.saturating_sub(grant.granted_ms / 10).max(grant.sent);
        self.check(Invariant::RefreshWindow, at + 1 >= earliest, |_| {
            format!("{name}: granted {} ms at {}, not before {earliest} ms", grant.granted_ms, grant.sent)
        });
        let calm = self.model.trouble_at + 5 * MINUTE < grant.sent;
        // A second of margin for the answer, and what the budgets may take.
        let slack = SECOND + self.queue_ms();
        if calm && grant.granted_ms >= 120 * SECOND {
            self.check(Invariant::RefreshWindow, at <= latest + slack, |_| {
                format!("{name}: granted {} ms at {}, due until {latest} ms", grant.granted_ms, grant.sent)
            });
        }
    }
}
