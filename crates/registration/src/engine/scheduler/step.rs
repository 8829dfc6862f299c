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
