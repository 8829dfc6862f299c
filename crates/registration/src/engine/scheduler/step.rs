//! The next step of a slot, decided in one place: where it waits, and what its registration turns to before.

use crate::{
    engine::{
        paths::{Paths, next_target},
        registrars::Target,
        slots::Slot,
    },
    registration::{Failover, Settings, time::Moment},
};

/// Next step of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Step {
    /// It waits in the queue of the registrar that its next attempt goes to.
    Queue,
    /// It waits for its own time; [`Moment::NEVER`] while a REGISTER is in flight.
    WaitUntil(Moment),
    /// It leaves out the probe that is next: its binding is refreshed without one.
    SkipProbe,
    /// It tries another URI, because the registrar of this one is down or asked to be left alone.
    FailOver(Failover),
}

/// Decides the next step of a slot. `released`: its time does not count, because it has waited in a queue
/// that it is taken out of.
///
/// After [`Step::SkipProbe`] and [`Step::FailOver`] the registration is another, and there is one more step
/// to decide, without `released`. That ends: no probe is next any more then, and the URI that is failed over
/// to has a registrar that may be asked.
pub(in crate::engine) fn next_step(
    entry: &Slot,
    paths: Paths<'_>,
    settings: &Settings,
    released: bool,
    now: Moment,
) -> Step {
    let registration = &entry.registration;
    let due = registration.due();
    let wait = || if paths.waits_out_outage(entry, now) { Step::Queue } else { Step::WaitUntil(due) };
    if due > now && !released {
        return wait();
    }
    let trunk = entry.trunk.view();
    if registration.in_flight() || trunk.uris() == 0 {
        return Step::WaitUntil(due);
    }
    if registration.is_probe_too_late(settings, now) {
        return Step::SkipProbe;
    }
    let order = trunk.order();
    let target = next_target(registration, &trunk, &order, now);
    // A removal goes where the binding is, and nowhere else.
    let shut = paths.shut_until(&target, now).filter(|_| !registration.is_deregistering());
    let Some(until) = shut else { return Step::Queue };
    if registration.probes_next() {
        // One trunk has to find out that it is back.
        let probe = paths.registrars.needs_probe(&target, now);
        return if probe { Step::Queue } else { Step::SkipProbe };
    }
    let closed = |rank| {
        let uri = order.index_of(rank).and_then(|index| trunk.uri(index));
        uri.is_none_or(|uri| paths.shut_until(&Target::of(uri), now).is_some())
    };
    match registration.failover(until, closed, trunk.uris(), now) {
        Some(failover) => Step::FailOver(failover),
        None if due > now => wait(),
        None => Step::Queue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{edge_ports::EdgePorts, packed_trunk::PackedTrunk, registrars::Registrars, slots::Slots},
        registration::{Registration, Targets, UriRank, time::Now},
        testing::{self, SECOND_MS},
    };

    const NOW: Moment = Moment(1_000_000);

    struct Harness {
        slots: Slots,
        slot: u32,
        registrars: Registrars,
        edge_ports: EdgePorts,
        settings: Settings,
    }

    impl Harness {
        /// A trunk with URIs at these hosts, which nothing was sent for.
        fn new(hosts: &[&str]) -> Self {
            let uris: Vec<String> = hosts.iter().map(|host| format!("u@{host}")).collect();
            let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
            let trunk = PackedTrunk::new(&testing::trunk("t", &uris));
            let settings = testing::settings(1, None);
            let mut slots = Slots::default();
            let slot = slots.insert(trunk, Registration::new(NOW), 0, 1, false);
            Self {
                slots,
                slot,
                registrars: Registrars::new(None),
                edge_ports: EdgePorts::new(&settings.edge_ports),
                settings: settings.registration,
            }
        }

        fn registration(&mut self) -> &mut Registration {
            &mut self.slots.get_mut(self.slot).unwrap().registration
        }

        /// The registrar at a host wants to be left alone for a minute.
        fn hold(&mut self, host: &str) {
            let id = self.registrars.id_of(&Target { host: host.into(), port: 5060 }, NOW);
            self.registrars.hold(id, NOW.plus(60 * SECOND_MS), NOW);
        }

        fn step(&self, released: bool) -> Step {
            let paths = Paths { registrars: &self.registrars, edge_ports: &self.edge_ports };
            next_step(self.slots.get(self.slot).unwrap(), paths, &self.settings, released, NOW)
        }
    }

    #[test]
    fn what_is_due_waits_at_its_registrar_and_the_rest_for_its_time() {
        let mut harness = Harness::new(&["a"]);
        assert_eq!(harness.step(false), Step::Queue);
        let later = NOW.plus(5 * SECOND_MS);
        harness.registration().defer(later);
        assert_eq!((harness.step(false), harness.step(true)), (Step::WaitUntil(later), Step::Queue));
    }

    #[test]
    fn what_is_in_flight_waits_for_its_response() {
        let mut harness = Harness::new(&["a"]);
        let settings = harness.settings.clone();
        let plan = Targets { uris: 1, edges: 1, settings: &settings };
        harness.registration().attempt(0, &plan, Now { at: NOW, unix_ms: 0 });
        assert_eq!([false, true].map(|released| harness.step(released)), [Step::WaitUntil(Moment::NEVER); 2]);
    }

    #[test]
    fn where_a_registrar_is_to_be_left_alone_another_uri_is_tried_once() {
        let mut harness = Harness::new(&["a", "b", "c"]);
        harness.hold("a");
        harness.hold("b");
        let Step::FailOver(failover) = harness.step(false) else { panic!("{:?}", harness.step(false)) };
        assert_eq!((failover.rank, failover.not_before), (UriRank(2), NOW));
        harness.registration().fail_over(failover);
        assert_eq!(harness.step(false), Step::Queue, "there is a registrar that may be asked");
    }

    #[test]
    fn where_no_registrar_may_be_asked_the_trunk_waits_at_its_own() {
        let mut harness = Harness::new(&["a", "b"]);
        harness.hold("a");
        harness.hold("b");
        assert_eq!(harness.step(false), Step::Queue);
    }

    #[test]
    fn a_removal_goes_where_the_binding_is() {
        let mut harness = Harness::new(&["a", "b"]);
        harness.hold("a");
        let first = crate::registration::UriIndex::FIRST;
        harness.registration().assume_predecessor_bound(first);
        assert!(!harness.registration().deregister(Now { at: NOW, unix_ms: 0 }));
        assert_eq!(harness.step(false), Step::Queue);
    }
}
