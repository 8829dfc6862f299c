//! Responses in: what each means for its registration, and for what all of them share.

use super::{
    Engine, Finished, Ticket,
    concurrency::{CallResult, FailedCall},
    in_flight::InFlightRequest,
    notice::Notice,
};
use crate::{
    model::{RegisterResponse, SendError},
    registration::{
        EdgePortRank, Purpose, SentTo, Targets,
        classify::{self, RouteHealth},
        outcome::{LATE, Outcome},
        time::{Moment, Now},
    },
};
use routr_types::extension::{Hop, LocalKind};

/// Origin of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A registrar, through whatever was between.
    Registrar,
    /// The Requester, or an EdgePort: nothing came back in time. The registrar may be silent, or the
    /// EdgePort.
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
    fn of(answer: &Result<RegisterResponse, SendError>, took_ms: u64) -> Self {
        let response = match answer {
            Ok(response) => response,
            Err(SendError::Deadline(_)) => return Self::Silence,
            Err(_) => return Self::Requester,
        };
        match classify::synthesized(response).map(|local| (local.kind, local.at)) {
            Some((LocalKind::Timeout, Some(Hop::Registrar))) => Self::SilentRegistrar,
            Some((LocalKind::Timeout, _)) => Self::Silence,
            Some((_, Some(Hop::EdgePort))) => Self::BrokenEdgePort,
            Some(_) => Self::BrokenRegistrar,
            None if response.code == Some(408) && took_ms >= classify::TRANSACTION_TIMEOUT_MS => {
                Self::Silence
            }
            None => Self::Registrar,
        }
    }

    fn is_silence(self) -> bool {
        matches!(self, Self::Silence | Self::SilentRegistrar)
    }
}

impl Engine {
    /// Takes the response to a request, or what became of it.
    pub fn handle_response(
        &mut self,
        ticket: Ticket,
        answer: &Result<RegisterResponse, SendError>,
        now: Now,
    ) -> Option<Finished> {
        let flight = self.in_flight.remove(ticket)?;
        let took_ms = now.at.since(flight.sent_at);
        let origin = Origin::of(answer, took_ms);
        let silent_registrar = self.registrars.is_unproven(flight.registrar, now.at);
        self.edge_ports.ended(flight.edge, flight.probes_edge);
        self.registrars.ended(flight.registrar, flight.probes_registrar, now.at);
        // First of all: an EdgePort that has responded is passed over no longer, and may be the preferred one
        // again.
        if origin == Origin::Registrar {
            self.registrars.responded(flight.registrar, took_ms, now.at);
            self.edge_responded(&flight, now);
        } else if origin != Origin::Requester {
            self.registrars.silent(flight.registrar, now.at);
        } else if flight.probes_edge {
            self.registrars.wasted(flight.registrar);
        }
        let failed = FailedCall {
            slot: flight.slot,
            first: self.slots.get(flight.slot).is_none_or(|entry| entry.registration.failed_calls() == 0),
            trunks: self.slots.present(),
            responded: !matches!(answer, Err(SendError::Disconnected { .. })),
            among_others: self.in_flight.was_among_others(&flight) || broke_after_response(answer),
        };
        let (outcome, message) = self.apply_response(&flight, answer, now);
        self.record_route_outcome(&flight, origin, outcome.as_ref(), &message, now);
        let result = match answer {
            Ok(_) => CallResult::Answered { brisk: !origin.is_silence() },
            Err(SendError::Deadline(_)) => CallResult::Deadline { silent: silent_registrar },
            Err(SendError::Unavailable(_)) => CallResult::Unavailable,
            Err(SendError::Disconnected { .. } | SendError::Failed(_) | SendError::Refused(_)) => {
                CallResult::Failed(failed)
            }
        };
        let error = answer.as_ref().err().map(ToString::to_string);
        let change =
            self.concurrency.finished(result, flight.stalled, took_ms, error.as_deref(), now, &mut self.rng);
        self.log_requester_health(change, now);
        for slot in self.concurrency.take_failed_trunks() {
            self.shared_failure(slot, now);
        }
        let outcome = outcome.map_or(LATE, |outcome| outcome.label());
        Some(Finished { registrar: flight.uri.host, outcome, took_ms })
    }

    /// The call of a trunk failed, and it turns out that the calls of others fail as well: it waits no longer
    /// than they.
    fn shared_failure(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let shortened = entry.registration.shared_failure(now, &mut self.rng);
        if shortened && !entry.queued() {
            self.reschedule(slot, now);
        }
    }

    /// Takes note of what a response says of the registrar and the EdgePort.
    fn record_route_outcome(
        &mut self,
        flight: &InFlightRequest,
        origin: Origin,
        outcome: Option<&Outcome>,
        message: &str,
        now: Now,
    ) {
        let outage = outcome.is_some_and(Outcome::is_outage);
        match origin {
            // What was sent later and came back through it shows that it works: the registrar is silent.
            Origin::Silence
                if outage && self.edge_ports.last_response(flight.edge) < Some(flight.sent_at) =>
            {
                self.edge_failed(flight, Some(flight.registrar), message, now);
            }
            Origin::BrokenEdgePort => self.edge_failed(flight, None, message, now),
            _ => {}
        }
        let edges_fault = origin == Origin::BrokenEdgePort
            || (origin == Origin::Silence && self.edge_ports.is_down(flight.edge));
        // Of a registrar that has come back meanwhile, what was sent before says nothing.
        let stale = self.registrars.is_back_since(flight.registrar, flight.sent_at);
        if outage && !edges_fault && !stale {
            self.registrar_failed(flight, message, now);
        } else if outcome.is_some_and(Outcome::proves_registrar_alive) {
            self.registrar_responded(flight.registrar, now);
        }
        if outage {
            self.resume_after_outage(flight.slot, flight.sent_at, now);
        }
        if matches!(outcome, Some(Outcome::Registered { .. }))
            && flight.attempt.purpose != Purpose::Deregister
        {
            self.registrars.registered(flight.registrar, flight.slot, flight.sent_at);
        }
    }

    fn registrar_failed(&mut self, flight: &InFlightRequest, message: &str, now: Now) {
        let row = self.registrars.failed(flight.registrar, flight.slot, message, now.at, &mut self.rng);
        let Some(row) = row else { return };
        let registrar = self.registrars.shown(flight.registrar).to_owned();
        self.notice(Notice::RegistrarDown { registrar, message: message.to_owned() });
        self.wait_out_outage(row, now);
        self.wait_for_outages(now);
        self.update_blocked_at(flight.registrar, now);
    }

    fn registrar_responded(&mut self, registrar: u32, now: Now) {
        if let Some(since) = self.registrars.recovered(registrar, now.at) {
            let after_ms = now.at.since(since);
            let name = self.registrars.shown(registrar).to_owned();
            self.notice(Notice::RegistrarBack { registrar: name.clone(), after_ms });
            self.restore_urgency(registrar, now);
            self.update_blocked_at(registrar, now);
            self.redirect_waiting_to(&name, now);
        }
    }

    /// Those that wait for a registrar that is down now, or no longer.
    fn update_blocked_at(&mut self, registrar: u32, now: Now) {
        for (slot, stamp) in self.registrars.waiting(registrar) {
            if self.slots.get(slot).is_some_and(|entry| entry.stamp == stamp) {
                self.update_blocked(slot, now);
            }
        }
    }

    fn edge_failed(&mut self, flight: &InFlightRequest, registrar: Option<u32>, message: &str, now: Now) {
        let row = {
            // One that has never responded may be silent itself, where the EdgePort has worked for others.
            let unknown = self.edge_ports.last_response(flight.edge).is_some()
                && !self.registrars.has_responded(flight.registrar);
            let expected = registrar.is_some() && (flight.probes_registrar || unknown);
            self.edge_ports.failed(flight.edge, flight.slot, registrar, expected, now.at, &mut self.rng)
        };
        let Some(row) = row else { return };
        let edge_port = self.edge_ports.shown(flight.edge).to_owned();
        self.edge_ports.note_down(flight.edge, message);
        self.notice(Notice::EdgePortDown { edge_port, message: message.to_owned() });
        self.wait_out_outage(row, now);
        self.wait_for_outages(now);
    }

    fn edge_responded(&mut self, flight: &InFlightRequest, now: Now) {
        let Some((since, waiting)) = self.edge_ports.responded(flight.edge, flight.sent_at, now.at) else {
            return;
        };
        let edge_port = self.edge_ports.shown(flight.edge).to_owned();
        self.notice(Notice::EdgePortBack { edge_port, after_ms: now.at.since(since) });
        for (slot, stamp) in waiting {
            if self.slots.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp) {
                self.queue(slot, now);
            }
        }
        // What was behind it may have been well all the time.
        self.registrars.probe_all_now(now.at);
    }

    /// Those that failed before an outage was noticed wait for its end like all others.
    fn wait_out_outage(&mut self, slots: Vec<u32>, now: Now) {
        for slot in slots {
            if self.slots.get(slot).is_some_and(|entry| !entry.queued() && !entry.registration.in_flight()) {
                self.reschedule(slot, now);
            }
        }
    }

    fn apply_response(
        &mut self,
        flight: &InFlightRequest,
        answer: &Result<RegisterResponse, SendError>,
        now: Now,
    ) -> (Option<Outcome>, String) {
        let others_registered = self.registrars.others_registered(flight.registrar, flight.slot);
        let alone = others_registered.is_none() && self.is_only_user(flight);
        let Some(entry) = self.slots.get_mut(flight.slot) else { return (None, String::new()) };
        let trunk = entry.trunk.view();
        let plan = Targets {
            uris: trunk.uris(),
            edges: self.edge_ports.len(),
            settings: &self.settings.registration,
        };
        let index = flight.uri.locate(&trunk).unwrap_or_default();
        let registrar = flight.sent_to.to_string();
        let route = RouteHealth {
            registrar: &registrar,
            edge_port: self.edge_ports.shown(flight.edge),
            edge: self.edge_ports.standing(flight.edge, flight.sent_at),
            others_registered,
            edge_responded: self.edge_ports.last_response(flight.edge),
            alone,
            has_credentials: trunk.has_credentials(),
            requester_down: self.concurrency.is_open(),
            among_others: self.in_flight.was_among_others(flight) || broke_after_response(answer),
        };
        let sent = SentTo {
            address: &flight.sent_to,
            registrar: &flight.uri.host,
            transport: flight.transport,
            index,
            same: trunk.same_as(index),
            preferred_edge: flight.attempt.edge == EdgePortRank::FIRST
                || flight.edge == self.edge_ports.choose(&trunk, EdgePortRank::FIRST, now.at),
            edge: flight.edge,
            route,
            at: flight.sent_at,
        };
        let failed_over = !sent.preferred_edge || trunk.order().preferred().unwrap_or_default() != index;
        let (outcome, mut effect) =
            entry.registration.on_response(&flight.attempt, sent, answer, &plan, now, &mut self.rng);
        let abandoned = entry.registration.abandoned();
        // A removal and a probe leave no cause with their trunk.
        let said = effect.outage.as_deref();
        let said = said.or(entry.registration.cause().map(|(cause, _)| &*cause.message));
        let message = said.unwrap_or_default().to_owned();
        // One that came too late changes nothing, and is no part of the history.
        let counts = effect.persist && flight.attempt.purpose != Purpose::Deregister;
        let reference = (effect.dropped_tags != 0).then(|| trunk.reference().to_owned());
        if counts {
            self.record_attempt(flight, effect.failure.take(), failed_over, now);
        }
        if let Some(reference) = reference {
            let tags = self.tags(effect.dropped_tags);
            let registrar = flight.uri.host.to_string();
            self.notice(Notice::OptionTagsDropped { reference, registrar, tags });
        }
        if effect.redirection_changed {
            self.record_redirection(flight.slot, now);
        }
        if let Some(seconds) = effect.min_expires {
            self.registrars.learn_min_expires(flight.registrar, seconds, now.at);
        }
        if let Some(until) = effect.hold_registrar_until {
            self.hold(flight.registrar, until, now);
        }
        // Also when the Requester could not be reached: the number may have been used, and the wall clock may
        // jump back before the next start. An outage costs few writes, for one request at a time probes it.
        if effect.persist {
            self.slots.mark_dirty(flight.slot);
        }
        if effect.finished {
            // One that turned out not to be bound was neither.
            if flight.attempt.purpose == Purpose::Deregister {
                *(if abandoned {
                    &mut self.deregistration.abandoned
                } else {
                    &mut self.deregistration.removed
                }) += 1;
            }
            self.drop_removal(flight.slot);
        } else {
            self.reschedule(flight.slot, now);
            self.record_next(flight.slot, now);
        }
        (Some(outcome), message)
    }

    /// Returns whether no other trunk uses the registrar of a request, nor that which redirected there:
    /// others may be redirected as well.
    fn is_only_user(&self, flight: &InFlightRequest) -> bool {
        let registrars = [(&*flight.sent_to.host, flight.sent_to.port), (&*flight.uri.host, flight.uri.port)];
        let entry = self.slots.get(flight.slot);
        entry.is_some_and(|entry| {
            let trunk = entry.trunk.view();
            registrars.into_iter().all(|registrar| self.slots.is_only_user(&trunk, registrar))
        })
    }

    /// A binding was made by another redirection than before, or by none again: a line in the log, however
    /// many there are.
    fn record_redirection(&mut self, slot: u32, now: Now) {
        let Some(entry) = self.slots.get(slot) else { return };
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
            if self.slots.get(slot).is_some_and(|entry| entry.queued() && entry.stamp == stamp) {
                self.take_next_step(slot, true, now);
            }
        }
    }
}

/// Returns whether a connection broke that had brought a response to another call.
fn broke_after_response(answer: &Result<RegisterResponse, SendError>) -> bool {
    matches!(answer, Err(SendError::Disconnected { after_response: true, .. }))
}
