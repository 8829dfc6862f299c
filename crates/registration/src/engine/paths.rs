//! Paths that REGISTERs take: the registrar and the EdgePort of a trunk's next attempt, and whether one of
//! them is down.

use super::{
    edge_ports::EdgePorts,
    packed_trunk::PackedTrunkRef,
    registrars::{IGNORED_HOLD_MS, Registrars, Target},
    slots::Slot,
};
use crate::registration::{EdgePortId, Registration, outcome::Reason, target::UriOrder, time::Moment};

/// A trunk that goes elsewhere because its registrar is down looks again after so many milliseconds whether
/// it is back.
const DOWN_RECHECK_MS: u64 = 30_000;

/// Registrars and EdgePorts, as far as the next step of a trunk depends on them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paths<'a> {
    pub registrars: &'a Registrars,
    pub edge_ports: &'a EdgePorts,
}

/// Part of a path that is down: the EdgePort, else the registrar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathOutage<'a> {
    EdgePort { address: &'a str, since: Moment },
    Registrar { target: Target, message: &'a str, since: Moment },
}

impl PathOutage<'_> {
    /// The reason that status, metrics and tables show.
    pub fn reason(&self) -> Reason {
        match self {
            Self::EdgePort { .. } => Reason::EdgePortFailed,
            Self::Registrar { .. } => Reason::RegistrarDown,
        }
    }

    /// The reason in plain words.
    pub fn message(&self) -> String {
        match self {
            Self::EdgePort { address, .. } => format!("EdgePort {address} is down"),
            Self::Registrar { target, message, .. } => {
                format!("registrar {} is down: {message}", target.shown())
            }
        }
    }

    /// The object of "waiting for".
    pub fn waited_for(&self) -> String {
        match self {
            Self::EdgePort { address, .. } => format!("EdgePort {address}, which is down"),
            Self::Registrar { target, .. } => format!("registrar {}, which is down", target.shown()),
        }
    }

    /// Returns since when it has been down.
    pub fn since(&self) -> Moment {
        match self {
            Self::EdgePort { since, .. } | Self::Registrar { since, .. } => *since,
        }
    }
}

impl<'a> Paths<'a> {
    /// The EdgePort of the rank that a trunk uses, or tries next.
    pub fn ranked_edge(self, entry: &Slot, now: Moment) -> EdgePortId {
        self.edge_ports.choose(&entry.trunk.view(), entry.registration.ranks().1, now)
    }

    /// Returns what the next attempt of a trunk needs and is down.
    pub fn outage(self, entry: &Slot, now: Moment) -> Option<PathOutage<'a>> {
        let edge = self.ranked_edge(entry, now);
        if let Some(since) = self.edge_ports.down_since(edge) {
            return Some(PathOutage::EdgePort { address: self.edge_ports.shown(edge), since });
        }
        let target = next_target_of(entry, now);
        let (outage, message) = self.registrars.down(&target)?;
        Some(PathOutage::Registrar { since: outage.since()?, message, target })
    }

    /// Returns whether a trunk backs off only because its registrar, or its EdgePort, is down: then it waits
    /// for the return, not for a time of its own.
    pub fn waits_out_outage(self, entry: &Slot, now: Moment) -> bool {
        entry.registration.waits_for_recovery() && self.outage(entry, now).is_some()
    }

    /// Returns until when a trunk is to try another registrar than this one, which is down or asked to be
    /// left alone; `None` where it may be asked.
    pub fn shut_until(self, target: &Target, now: Moment) -> Option<Moment> {
        let held = self.registrars.held_until(&target.host);
        let held = Some(held).filter(|until| *until > now.plus(IGNORED_HOLD_MS));
        held.or_else(|| self.registrars.down(target).map(|_| now.plus(DOWN_RECHECK_MS)))
    }
}

/// The EdgePort that the next attempt of a slot goes through: for a removal that of the binding.
pub(super) fn next_edge_of(edges: &EdgePorts, entry: &Slot, now: Moment) -> EdgePortId {
    let ranked = || edges.choose(&entry.trunk.view(), entry.registration.ranks().1, now);
    entry.registration.next_bound_edge().unwrap_or_else(ranked)
}

/// As [`next_target`], of a slot.
pub(super) fn next_target_of(entry: &Slot, now: Moment) -> Target {
    let trunk = entry.trunk.view();
    next_target(&entry.registration, &trunk, &trunk.order(), now)
}

/// The target of the next attempt, which may be that of a redirection.
pub(super) fn next_target(
    registration: &Registration,
    trunk: &PackedTrunkRef<'_>,
    order: &UriOrder,
    now: Moment,
) -> Target {
    if let Some(to) = registration.redirect(now) {
        return Target { host: to.address.host.clone(), port: to.address.port };
    }
    let uri = trunk.uri(order.resolve(registration.ranks().0));
    uri.map_or_else(|| Target { host: "".into(), port: 0 }, Target::of)
}
