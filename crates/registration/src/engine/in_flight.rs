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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{EdgePortRank, Purpose, UriChoice, UriRank, request::UriView};

    fn sent(at: u64) -> InFlightRequest {
        let uri = UriView {
            user: "u",
            host: "h",
            port: 5060,
            names_port: true,
            transport: Transport::Udp,
            proxy: None,
        };
        InFlightRequest {
            slot: 7,
            attempt: Attempt {
                purpose: Purpose::Register,
                uri: UriChoice::Rank(UriRank::FIRST),
                edge: EdgePortRank::FIRST,
                bound_edge: None,
                redirect: None,
                without_credentials: false,
                expires: 600,
                cseq: 1,
                without_tags: 0,
            },
            sent_to: HostPort::new("h", 5060),
            transport: Transport::Udp,
            uri: UriKey::of(uri),
            registrar: 0,
            edge: EdgePortId(0),
            sent_at: Moment(at),
            probes_registrar: false,
            probes_edge: false,
            stalled: false,
            number: 0,
        }
    }

    #[test]
    fn each_is_checked_when_its_time_has_come_until_it_leaves_its_place_or_is_over() {
        let mut all = InFlightRequests::default();
        let (first, second) = (all.insert(sent(0), Moment(300)), all.insert(sent(100), Moment(400)));
        let checked = |all: &mut InFlightRequests, now, leaves: bool| {
            let mut at = Vec::new();
            all.check(Moment(now), 1_000, |sent_at| {
                at.push(sent_at.0);
                leaves
            });
            at
        };
        assert_eq!((checked(&mut all, 299, true), all.next_check()), (vec![], Some(Moment(300))));
        assert_eq!(checked(&mut all, 300, false), [0]);
        assert_eq!(checked(&mut all, 400, true), [100]);
        assert_eq!((all.get(second).unwrap().stalled, all.next_check()), (true, Some(Moment(1_300))));
        all.remove(first);
        assert_eq!((checked(&mut all, 9_000, true), all.next_check()), (vec![], None));
    }

    #[test]
    fn a_ticket_that_is_used_again_is_another_request() {
        let mut all = InFlightRequests::default();
        let ticket = all.insert(sent(0), Moment(300));
        all.insert(sent(0), Moment(9_000));
        all.remove(ticket);
        assert_eq!(all.insert(sent(200), Moment(500)), ticket);
        all.check(Moment(300), 1_000, |_| panic!("the request before is over"));
    }

    #[test]
    fn one_was_among_others_where_another_one_was_under_way_at_the_same_time() {
        let mut all = InFlightRequests::default();
        let ticket = all.insert(sent(0), Moment(300));
        let alone = all.remove(ticket).unwrap();
        assert!(!all.was_among_others(&alone));
        let ticket = all.insert(sent(1_000), Moment(1_300));
        all.insert(sent(1_500), Moment(1_800));
        let joined = all.remove(ticket).unwrap();
        assert!(all.was_among_others(&joined));
    }
}
