//! Changes of state, for the log and the counts.

use super::{
    Engine,
    notice::{MAX_NOTICES, Notice},
};
use crate::registration::{state::TrunkState, time::Now};

/// Transitions that are kept for anyone who logs them.
const MAX_TRANSITIONS: usize = 10_000;

impl Engine {
    /// Counts a slot by its state as it is now, and notes the change, if there is one.
    pub(super) fn update_state(&mut self, slot: u32, now: Now) {
        let change = self.slots.update_state(slot, now.at);
        let failed_over = self.slots.get(slot).is_some_and(|entry| self.is_failed_over(entry, now));
        let moved = self.slots.set_failed_over(slot, failed_over);
        let redirected =
            self.slots.get(slot).is_some_and(|entry| entry.registration.redirected(now.at).is_some());
        self.slots.set_redirected(slot, redirected);
        self.record_change(slot, change, moved, now);
        let Some(entry) = self.slots.get(slot).filter(|_| self.transitions.len() < MAX_TRANSITIONS) else {
            return;
        };
        // Another target is worth a line of its own while the trunk is well.
        let moved = moved.then(|| entry.state()).filter(|state| *state == TrunkState::Registered);
        if let Some((from, to)) = change.or(moved.map(|state| (state, state))) {
            self.transitions.push(self.transition(entry, from, to, now));
        }
    }

    /// Notes a change of what many trunks share.
    pub(super) fn notice(&mut self, notice: Notice) {
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(notice);
        }
    }

    /// The Requester's health changed: the log says so.
    pub(super) fn log_requester_health(&mut self, since_ms: Option<u64>, now: Now) {
        let Some(since_ms) = since_ms else { return };
        let health = self.concurrency.health();
        let message = health.message.clone().unwrap_or_default();
        match (health.ok, since_ms) {
            // The first response of all.
            (Some(true), 0) => {}
            (Some(true), since_ms) => {
                self.notice(Notice::RequesterBack { after_ms: now.unix_ms.saturating_sub(since_ms) });
            }
            _ => self.notice(Notice::RequesterDown { message }),
        }
    }
}
