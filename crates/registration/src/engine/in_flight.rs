//! REGISTERs under way, and which of them have lasted so long that their place goes to another.

use std::collections::VecDeque;

use slab::Slab;

use super::{Ticket, packed_trunk::UriKey};
use crate::registration::{Attempt, EdgePortId, time::Moment};
use routr_types::host::{HostPort, Transport};

/// One REGISTER under way.
#[derive(Debug)]
pub(super) struct InFlightRequest {
    pub slot: u32,
    pub attempt: Attempt,
    pub sent_to: HostPort,
    pub transport: Transport,
    pub uri: UriKey,
    pub registrar: u32,
    pub edge: EdgePortId,
    pub sent_at: Moment,
    /// It probes a registrar, or an EdgePort, that is down.
    pub probes_registrar: bool,
    pub probes_edge: bool,
    /// It holds no place any more ([`super::concurrency::ConcurrencyLimit::stall`]).
    pub stalled: bool,
    /// Tells it from an earlier one of the same ticket.
    pub number: u64,
}

/// Check whether a call has stalled.
#[derive(Clone, Copy, Debug)]
struct Check {
    at: Moment,
    ticket: Ticket,
    number: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct InFlightRequests {
    all: Slab<InFlightRequest>,
    checks: VecDeque<Check>,
    last: u64,
    /// Time at which the latest one was sent while another one was under way.
    joined_at: Option<Moment>,
}

impl InFlightRequests {
    /// Takes one that has just been sent, to be checked at `check_at`.
    pub fn insert(&mut self, flight: InFlightRequest, check_at: Moment) -> Ticket {
        self.last += 1;
        let number = self.last;
        if !self.all.is_empty() {
            self.joined_at = Some(flight.sent_at);
        }
        let ticket = self.all.insert(InFlightRequest { number, ..flight });
        self.checks.push_back(Check { at: check_at, ticket, number });
        ticket
    }

    /// Takes one out that is over.
    pub fn remove(&mut self, ticket: Ticket) -> Option<InFlightRequest> {
        let flight = self.all.try_remove(ticket);
        while self.checks.front().is_some_and(|check| self.current(*check).is_none()) {
            self.checks.pop_front();
        }
        flight
    }

    /// Returns whether one that is over was at some time not the only one.
    pub fn was_among_others(&self, flight: &InFlightRequest) -> bool {
        self.joined_at.is_some_and(|at| at >= flight.sent_at)
    }

    fn current(&self, check: Check) -> Option<&InFlightRequest> {
        self.all.get(check.ticket).filter(|flight| flight.number == check.number)
    }

    /// Returns when the next check is due.
    pub fn next_check(&self) -> Option<Moment> {
        self.checks.front().map(|check| check.at)
    }

    /// Checks those whose time has come: `stall` is told when each was sent, and says whether it leaves its
    /// place. One that does not is checked again after `again_ms`.
    pub fn check(&mut self, now: Moment, again_ms: u64, mut stall: impl FnMut(Moment) -> bool) {
        // Each once: those that are to be checked again go to the end.
        for _ in 0..self.checks.len() {
            let Some(check) = self.checks.front().copied().filter(|check| check.at <= now) else { return };
            self.checks.pop_front();
            let flight = self.all.get_mut(check.ticket).filter(|flight| flight.number == check.number);
            let Some(flight) = flight.filter(|flight| !flight.stalled) else { continue };
            flight.stalled = stall(flight.sent_at);
            if !flight.stalled {
                self.checks.push_back(Check { at: now.plus(again_ms.max(1)), ..check });
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &InFlightRequest> {
        self.all.iter().map(|(_, flight)| flight)
    }

    /// One that is under way.
    #[cfg(test)]
    pub fn get(&self, ticket: Ticket) -> Option<&InFlightRequest> {
        self.all.get(ticket)
    }
}
