//! An engine has at most as many REGISTERs in flight as it is configured to.

use crate::{checks::Invariant, rules::SECOND, world::State};

impl State {
    pub fn check_places(&mut self, run: u32, name: &str) {
        let most = self.model.settings.max_in_flight.max(self.recent(|model| model.before.max_in_flight));
        let have = self.model.runs.get(&run).map_or(0, |run| run.in_flight);
        self.check(Invariant::PlacesInFlight, have < most, |_| {
            format!("{name} is number {} of {most}", have + 1)
        });
    }

    /// Returns what held before the last change of settings, for as long as either may hold; then 0.
    pub fn recent(&self, get: impl Fn(&crate::model::Model) -> u32) -> u32 {
        if self.now() < self.model.changed_at + 2 * SECOND { get(&self.model) } else { 0 }
    }
}
