//! At the end, the store holds what the engine shows, and nothing else.

use routr_registration::{engine::view::TrunkView, registration::state::TrunkState};

use crate::{checks::Invariant, rules::SECOND, world::State};

impl State {
    pub fn check_store(&mut self, views: &[TrunkView]) {
        for view in views.iter().filter(|view| view.state == TrunkState::Registered) {
            let record = self.records.all.get(&*view.reference).cloned();
            let same = record.as_ref().is_some_and(|record| {
                let until = view.expires_at_ms.unwrap_or(0);
                record.cseq == view.cseq
                    && record.expires_at_ms.abs_diff(until) < 2 * SECOND
                    && *record.aor == *view.aor
            });
            self.check(Invariant::StoreEqualsEngine, same, |_| format!("{view:?} is kept as {record:?}"));
        }
        let stray = self
            .records
            .all
            .keys()
            .find(|kept| !views.iter().any(|view| *view.reference == ***kept))
            .cloned();
        let stray = stray.filter(|_| !self.records.restored);
        self.check(Invariant::StoreEqualsEngine, stray.is_none(), |_| {
            format!("{stray:?} is kept and not there")
        });
    }
}
