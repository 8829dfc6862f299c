//! Responses in: what each means for its registration, and for what all of them share.

use super::{
    Engine, Finished, Ticket,
    in_flight::Flight,
    notice::Notice,
    way::{CallResult, FailedCall},
};
use crate::{
    ports::{Hop, LocalKind, Reply, SendError},
    registration::{
        Plan, Purpose, Sent,
        classify::{self, Around},
        reply::Verdict,
        time::{Moment, Now},
    },
};

/// Where a response comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A registrar, through whatever was between.
    Registrar,
    /// The Requester, or an EdgePort: nothing came back in time. The registrar may be silent, or the EdgePort.
    Silence,
    /// The same of a registrar that was asked without an EdgePort.
    SilentRegistrar,
    /// The EdgePort cannot be reached, or its name is unknown.
    BrokenEdgePort,
    /// The registrar cannot be reached.
    BrokenRegistrar,
    /// There is none: the Requester is not there, or refused.
    Requester,
}

impl Origin {
    fn of(answer: &Result<Reply, SendError>, took_ms: u64) -> Self {
        let reply = match answer {
            Ok(reply) => reply,
            Err(SendError::Deadline(_)) => return Self::Silence,
            Err(_) => return Self::Requester,
        };
        match classify::made_up(reply).map(|local| (local.kind, local.at)) {
            Some((LocalKind::Timeout, Some(Hop::Registrar))) => Self::SilentRegistrar,
            Some((LocalKind::Timeout, _)) => Self::Silence,
            Some((_, Some(Hop::EdgePort))) => Self::BrokenEdgePort,
            Some(_) => Self::BrokenRegistrar,
            None if reply.code == Some(408) && took_ms >= classify::MADE_UP_FROM => Self::Silence,
            None => Self::Registrar,
        }
    }

    fn is_silence(self) -> bool {
        matches!(self, Self::Silence | Self::SilentRegistrar)
    }
}

impl Engine {
    /// Takes the response to a request, or what became of it.
    pub fn answered(
        &mut self,
        ticket: Ticket,
        answer: &Result<Reply, SendError>,
        now: Now,
    ) -> Option<Finished> {
        let flight = self.flights.remove(ticket)?;
        let took_ms = now.at.since(flight.sent_at);
        let origin = Origin::of(answer, took_ms);
        let silent_registrar = self.registrars.is_unproven(flight.registrar, now.at);
        self.edges.ended(flight.edge, flight.probes_edge);
        self.registrars.ended(flight.registrar, flight.probes_registrar, now.at);
        // First of all: an EdgePort that has responded is passed over no longer, and may be the preferred one again.
        if origin == Origin::Registrar {
            self.registrars.heard(flight.registrar, took_ms, now.at);
            self.edge_responded(&flight, now);
        } else if origin != Origin::Requester {
            self.registrars.silent(flight.registrar, now.at);
        } else if flight.probes_edge {
            self.registrars.wasted(flight.registrar);
        }
        let failed = FailedCall {
            slot: flight.slot,
            first: self.fleet.get(flight.slot).is_none_or(|entry| entry.registration.failed_calls() == 0),
            trunks: self.fleet.present(),
            responded: !matches!(answer, Err(SendError::Disconnected(_))),
            among_others: self.flights.was_among_others(&flight),
        };
        let (verdict, message) = self.apply_answer(&flight, answer, now);
        self.note_way(&flight, origin, verdict.as_ref(), &message, now);
        let result = match answer {
            Ok(_) => CallResult::Answered { brisk: !origin.is_silence() },
            Err(SendError::Deadline(_)) => CallResult::Deadline { silent: silent_registrar },
            Err(SendError::Unavailable(_)) => CallResult::Unavailable,
            Err(SendError::Disconnected(_) | SendError::Failed(_) | SendError::Refused(_)) => {
                CallResult::Failed(failed)
            }
        };
        let error = answer.as_ref().err().map(ToString::to_string);
        let change = self.way.finished(result, flight.stalled, took_ms, error.as_deref(), now, &mut self.rng);
        self.note_requester(change, now);
        for slot in self.way.take_row() {
            self.shared_failure(slot, now);
        }
        let outcome = verdict.map_or("late", |verdict| verdict.outcome());
        Some(Finished { registrar: flight.uri.host, outcome, took_ms })
    }

    /// The call of a trunk failed, and it turns out that the calls of others fail as well: it waits no longer than they.
    fn shared_failure(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.fleet.get_mut(slot) else { return };
        let shortened = entry.registration.shared_failure(now, &mut self.rng);
        if shortened && !entry.queued() {
            self.settle(slot, now);
        }
    }

    /// What a response says of the registrar and the EdgePort.
    fn note_way(
        &mut self,
        flight: &Flight,
        origin: Origin,
        verdict: Option<&Verdict>,
        message: &str,
        now: Now,
    ) {
        let outage = verdict.is_some_and(Verdict::is_outage);
        match origin {
            // What was sent later and came back through it shows that it works: the registrar is silent.
            Origin::Silence if outage && self.edges.last_response(flight.edge) < Some(flight.sent_at) => {
                self.edge_failed(flight, Some(flight.registrar), message, now);
            }
            Origin::BrokenEdgePort => self.edge_failed(flight, None, message, now),
            _ => {}
        }
        let edges_fault = origin == Origin::BrokenEdgePort
            || (origin == Origin::Silence && self.edges.is_down(flight.edge));
        // Of a registrar that has come back meanwhile, what was sent before says nothing.
        let stale = self.registrars.is_back_since(flight.registrar, flight.sent_at);
        if outage && !edges_fault && !stale {
            self.registrar_failed(flight, message, now);
        } else if verdict.is_some_and(Verdict::shows_life) {
            self.registrar_responded(flight.registrar, now);
        }
        if outage {
            self.wait_no_longer(flight.slot, flight.sent_at, now);
        }
        if matches!(verdict, Some(Verdict::Registered { .. })) && flight.attempt.purpose != Purpose::Leave {
            self.registrars.registered(flight.registrar, flight.slot, flight.sent_at);
        }
    }

    fn registrar_failed(&mut self, flight: &Flight, message: &str, now: Now) {
        let row = self.registrars.failed(flight.registrar, flight.slot, message, now.at, &mut self.rng);
        let Some(row) = row else { return };
        let registrar = self.registrars.shown(flight.registrar).to_owned();
        self.notice(Notice::RegistrarDown { registrar, message: message.to_owned() });
        self.settle_waiting(row, now);
        self.join_outage(now);
        self.note_all_blocked(flight.registrar, now);
    }

    fn registrar_responded(&mut self, registrar: u32, now: Now) {
        if let Some(since) = self.registrars.revived(registrar, now.at) {
            let after_ms = now.at.since(since);
            let name = self.registrars.shown(registrar).to_owned();
            self.notice(Notice::RegistrarBack { registrar: name.clone(), after_ms });
            self.note_all_blocked(registrar, now);
            self.turn_to(&name, now);
        }
    }

    /// Those that wait for a registrar that is down now, or no longer.
    fn note_all_blocked(&mut self, registrar: u32, now: Now) {
        for (slot, stamp) in self.registrars.waiting(registrar) {
            if self.fleet.get(slot).is_some_and(|entry| entry.stamp == stamp) {
                self.note_blocked(slot, now);
            }
        }
    }

    fn edge_failed(&mut self, flight: &Flight, registrar: Option<u32>, message: &str, now: Now) {
        let row = {
            // One that has never responded may be silent itself, where the EdgePort has worked for others.
            let unknown = self.edges.last_response(flight.edge).is_some()
                && !self.registrars.has_responded(flight.registrar);
            let expected = registrar.is_some() && (flight.probes_registrar || unknown);
            self.edges.failed(flight.edge, flight.slot, registrar, expected, now.at, &mut self.rng)
        };
        let Some(row) = row else { return };
        let edge_port = self.edges.shown(flight.edge).to_owned();
        self.edges.note_down(flight.edge, message);
        self.notice(Notice::EdgePortDown { edge_port, message: message.to_owned() });
        self.settle_waiting(row, now);
        self.join_outage(now);
    }

    fn edge_responded(&mut self, flight: &Flight, now: Now) {
        let Some((since, waiting)) = self.edges.responded(flight.edge, flight.sent_at, now.at) else {
            return;
        };
        let edge_port = self.edges.shown(flight.edge).to_owned();
        self.notice(Notice::EdgePortBack { edge_port, after_ms: now.at.since(since) });
        for (slot, stamp) in waiting {
            if self.fleet.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp) {
                self.queue(slot, now);
            }
        }
        // What was behind it may have been well all the time.
        self.registrars.probe_all_now(now.at);
    }

    /// Those that failed before an outage was noticed wait for its end like all others.
    fn settle_waiting(&mut self, slots: Vec<u32>, now: Now) {
        for slot in slots {
            if self.fleet.get(slot).is_some_and(|entry| !entry.queued() && !entry.registration.in_flight()) {
                self.settle(slot, now);
            }
        }
    }

    fn apply_answer(
        &mut self,
        flight: &Flight,
        answer: &Result<Reply, SendError>,
        now: Now,
    ) -> (Option<Verdict>, String) {
        let others_registered = self.registrars.others_registered(flight.registrar, flight.slot);
        let alone = others_registered.is_none() && self.is_alone(flight);
        let Some(entry) = self.fleet.get_mut(flight.slot) else { return (None, String::new()) };
        let trunk = entry.trunk.open();
        let plan =
            Plan { uris: trunk.uris(), edges: self.edges.len(), settings: &self.settings.registration };
        let position = flight.uri.locate(&trunk).unwrap_or(0);
        let registrar = flight.sent_to.to_string();
        let around = Around {
            registrar: &registrar,
            edge_port: self.edges.shown(flight.edge),
            edge: self.edges.standing(flight.edge, flight.sent_at),
            others_registered,
            edge_responded: self.edges.last_response(flight.edge),
            alone,
            has_credentials: trunk.has_credentials(),
            requester_down: self.way.is_open(),
            among_others: self.flights.was_among_others(flight),
        };
        let sent = Sent {
            address: &flight.sent_to,
            registrar: &flight.uri.host,
            transport: flight.transport,
            position,
            same: trunk.same_as(position),
            preferred_edge: flight.attempt.edge == 0 || flight.edge == self.edges.choose(&trunk, 0, now.at),
            edge: flight.edge,
            around,
            at: flight.sent_at,
        };
        let (verdict, effect) =
            entry.registration.answered(&flight.attempt, sent, answer, &plan, now, &mut self.rng);
        let gave_up = entry.registration.gave_up();
        // A removal and a probe leave no cause with their trunk.
        let said = effect.outage.as_deref();
        let said = said.or(entry.registration.cause().map(|(cause, _)| &*cause.message));
        let message = said.unwrap_or_default().to_owned();
        let reference = (effect.dropped_tags != 0).then(|| trunk.reference().to_owned());
        if let Some(reference) = reference {
            let tags = self.tags(effect.dropped_tags);
            let registrar = flight.uri.host.to_string();
            self.notice(Notice::OptionTagsDropped { reference, registrar, tags });
        }
        if effect.redirection_changed {
            self.note_redirection(flight.slot, now);
        }
        if let Some(seconds) = effect.min_expires {
            self.registrars.learn_min_expires(flight.registrar, seconds, now.at);
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
        (Some(verdict), message)
    }

    /// Whether no other trunk uses the registrar of a request, nor that which redirected there: others may be redirected as well.
    fn is_alone(&self, flight: &Flight) -> bool {
        let registrars = [(&*flight.sent_to.host, flight.sent_to.port), (&*flight.uri.host, flight.uri.port)];
        let entry = self.fleet.get(flight.slot);
        entry.is_some_and(|entry| {
            let trunk = entry.trunk.open();
            registrars.into_iter().all(|registrar| self.fleet.is_alone(&trunk, registrar))
        })
    }

    /// A binding was made by another redirection than before, or by none again: a line in the log, however many there are.
    fn note_redirection(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.fleet.get(slot) else { return };
        let reference = entry.trunk.reference().to_owned();
        let notice = match self.redirection(entry, now) {
            Some(redirection) => Notice::Redirected { reference, redirection },
            None => Notice::NotRedirected { reference },
        };
        self.notice(notice);
    }

    /// The configured option tags of these bits.
    pub(super) fn tags(&self, bits: u32) -> Vec<String> {
        let tags = self.settings.registration.tags.iter().enumerate();
        let chosen = tags.filter(|(at, _)| *at < 32 && bits & (1 << at) != 0);
        chosen.map(|(_, tag)| tag.clone()).collect()
    }

    /// A registrar wants to be left alone: those who wait for it go elsewhere, if they can.
    fn hold(&mut self, registrar: u32, until: Moment, now: Now) {
        for (slot, stamp) in self.registrars.hold(registrar, until, now.at) {
            if self.fleet.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp) {
                self.enqueue(slot, now);
            }
        }
    }
}
