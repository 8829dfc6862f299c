//! Requests to a registrar keep to its rate.

use routr_registration::model::RegisterRequest;

use crate::{checks::Invariant, rules::SECOND, world::State};

impl State {
    /// At most half a second's worth at once, then the rate; each start of an engine may add as much as it
    /// may send at once.
    pub fn check_budget(&mut self, run: u32, name: &str, request: &RegisterRequest, at: u64) {
        let uncertain = at < self.model.changed_at + 2 * SECOND;
        let rate = self.model.settings.rate_per_registrar;
        let (Some(rate), Some(model)) = (rate.filter(|_| !uncertain), self.model.runs.get_mut(&run)) else {
            if let Some(model) = self.model.runs.get_mut(&run) {
                model.buckets.clear();
            }
            return;
        };
        let burst = (rate / 2.0).max(1.0);
        let (tokens, since) = *model.buckets.get(&request.target.host).unwrap_or(&(burst, at));
        let elapsed = (at - since) as f64 / 1_000.0;
        let tokens = (tokens + elapsed * rate).min(burst) - 1.0;
        model.buckets.insert(request.target.host.clone(), (tokens, at));
        let host = &request.target.host;
        self.check(Invariant::Budget, tokens > -0.02, |_| {
            format!("{name}: {host} is over its {rate}/s by {:.2}", -tokens)
        });
    }
}
