//! Events of the engine that go into histories, and the trunk that is shown with its own.

use super::{HistoryAttempt, HistoryEvent, TrunkDetail};
use crate::{
    engine::{Engine, in_flight::InFlightRequest},
    registration::{
        Purpose,
        outcome::Failure,
        state::TrunkState,
        time::{Moment, Now},
    },
};

impl Engine {
    /// One trunk with its history.
    pub fn detail(&self, reference: &str, now: Now) -> Option<TrunkDetail> {
        let slot = self.slots.find(reference)?;
        let entry = self.slots.get(slot)?;
        let (history, history_omitted) = self.slots.histories.get(slot);
        Some(TrunkDetail {
            trunk: self.view(entry, now),
            now_ms: now.unix_ms,
            suspended: self.paused,
            stands_by: self.stands_by,
            history,
            history_omitted,
        })
    }

    /// A response to the request of a trunk, or what took its place; `failure` unless it succeeded.
    pub(in crate::engine) fn record_attempt(
        &mut self,
        flight: &InFlightRequest,
        failure: Option<Failure>,
        failed_over: bool,
        now: Now,
    ) {
        let Some(entry) = self.slots.get(flight.slot) else { return };
        // One that was only asked to ask in another way has no trouble yet.
        let begins = failure.is_some() && entry.registration.cause().is_some();
        if entry.registration.is_deregistering() || !(begins || self.slots.histories.is_kept(flight.slot)) {
            return;
        }
        let (reason, code, message) = failure.map_or((None, None, "".into()), |failure| {
            (Some(failure.reason.name().into()), failure.code, failure.message)
        });
        let attempt = HistoryAttempt {
            registrar: format!("{}/{}", flight.sent_to, flight.transport).into(),
            edge_port: self.edge_ports.shown(flight.edge).into(),
            failed_over,
            probe: flight.attempt.purpose == Purpose::Probe,
            reason,
            code,
            message,
            next_at_ms: None,
        };
        self.slots.histories.add(flight.slot, HistoryEvent::Attempt(attempt), now.unix_ms);
    }

    /// Notes when the trunk that has just been asked for is due again, unless it waits for its turn.
    pub(in crate::engine) fn record_next(&mut self, slot: u32, now: Now) {
        if !self.slots.histories.is_kept(slot) {
            return;
        }
        let Some(entry) = self.slots.get(slot) else { return };
        let due = Some(entry.registration.due()).filter(|due| !entry.queued() && *due != Moment::NEVER);
        let next_at_ms = due.map(|due| now.unix_ms_of(due));
        self.slots.histories.set_next(slot, next_at_ms);
    }

    /// The state of a slot changed from and to these, or it is registered elsewhere than before (`moved`), or
    /// it waits for something now.
    pub(in crate::engine) fn record_change(
        &mut self,
        slot: u32,
        change: Option<(TrunkState, TrunkState)>,
        moved: bool,
        now: Now,
    ) {
        let Some(entry) = self.slots.get(slot) else { return };
        let (state, failed_over) = (entry.state(), entry.failed_over());
        let well = !state.is_unhealthy() && !failed_over;
        let kept = self.slots.histories.is_kept(slot);
        if entry.registration.is_deregistering() || (well && !kept) {
            return;
        }
        let change = change.or(moved.then_some((state, state)));
        if change.is_none() && !kept {
            return;
        }
        // Also before its own time, which does not count any more.
        let outage = entry.queued().then(|| self.paths().outage(entry, now.at)).flatten();
        let waited_for = outage.map(|outage| outage.waited_for().into());
        let histories = &mut self.slots.histories;
        if let Some((from, to)) = change {
            histories.add(slot, HistoryEvent::State { from, to, failed_over }, now.unix_ms);
        }
        if let Some(waited_for) = waited_for {
            histories.add(slot, HistoryEvent::Wait { waited_for }, now.unix_ms);
        }
        histories.set_well(slot, well);
    }
}
