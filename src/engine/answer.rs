//! Answers in: what each means for its registration, and for what all of them share.

use super::{Engine, Finished, Flight, Ticket, way::CallResult};
use crate::{
    ports::{Reply, SendError},
    registration::{
        Plan, Purpose, Sent,
        time::{Moment, Now},
    },
};

impl Engine {
    /// Takes the answer to a request.
    pub fn answered(
        &mut self,
        ticket: Ticket,
        answer: &Result<Reply, SendError>,
        now: Now,
    ) -> Option<Finished> {
        let flight = self.flights.try_remove(ticket)?;
        let took_ms = now.at.since(flight.sent_at);
        let silent = match answer {
            Ok(reply) => Some(reply.code == Some(408)),
            Err(SendError::Deadline(_)) => Some(true),
            Err(_) => None,
        };
        // First of all: an EdgePort that has answered is passed over no longer, and may be the preferred one again.
        if let Some(silent) = silent {
            self.edges.finished(flight.edge, flight.registrar, silent, now.at);
        }
        let outcome = self.apply_answer(&flight, answer, now);
        self.registrars.finished(flight.registrar, silent, now.at);
        let result = match (answer, silent) {
            (Ok(_), silent) => CallResult::Answered { brisk: silent == Some(false) },
            (Err(SendError::Deadline(_)), _) => {
                CallResult::Deadline { silent: self.registrars.is_silent(flight.registrar) }
            }
            (Err(SendError::Unavailable(_)), _) => CallResult::Unavailable,
            (Err(SendError::Refused(_)), _) => CallResult::Refused,
        };
        let message = answer.as_ref().err().map(ToString::to_string);
        self.way.finished(result, took_ms, message.as_deref(), now, &mut self.rng);
        Some(Finished { registrar: flight.uri.host, outcome, took_ms })
    }

    fn apply_answer(&mut self, flight: &Flight, answer: &Result<Reply, SendError>, now: Now) -> &'static str {
        let Some(entry) = self.fleet.get_mut(flight.slot) else { return "late" };
        let trunk = entry.trunk.open();
        let plan =
            Plan { uris: trunk.uris(), edges: self.edges.len(), settings: &self.settings.registration };
        let position = flight.uri.locate(&trunk).unwrap_or(0);
        let sent = Sent {
            address: &flight.sent_to,
            transport: flight.transport,
            position,
            same: trunk.same_as(position),
            preferred_edge: flight.attempt.edge == 0 || flight.edge == self.edges.choose(&trunk, 0, now.at).0,
            at: flight.sent_at,
        };
        let (verdict, effect) =
            entry.registration.answered(&flight.attempt, sent, answer, &plan, now, &mut self.rng);
        let gave_up = entry.registration.gave_up();
        if let Some(seconds) = effect.min_expires {
            self.registrars.learn_min_expires(flight.registrar, seconds);
        }
        if let Some(until) = effect.hold_registrar_until {
            self.hold(flight.registrar, until, now);
        }
        // Also when the Requester could not be reached: the number may have been used, and the wall clock may jump back before
        // the next start. An outage costs few writes, for one request at a time probes it.
        if effect.persist {
            self.fleet.mark_dirty(flight.slot);
        }
        if effect.finished {
            // One that turned out not to be bound was neither.
            if flight.attempt.purpose == Purpose::Leave {
                *(if gave_up { &mut self.left.given_up } else { &mut self.left.removed }) += 1;
            }
            self.drop_removal(flight.slot);
        } else {
            self.settle(flight.slot, now);
        }
        verdict.outcome()
    }

    /// A registrar wants to be left alone: whoever waits for it goes elsewhere, if it can.
    fn hold(&mut self, registrar: u32, until: Moment, now: Now) {
        for (slot, stamp) in self.registrars.hold(registrar, until, now.at) {
            if self.fleet.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp) {
                self.enqueue(slot, now);
            }
        }
    }
}
