//! Views of the engine.

use std::collections::{BTreeMap, BinaryHeap};

use super::{
    Engine, Transition, packed_trunk,
    slots::Slot,
    view::{Down, FailureSummary, RedirectedTrunk, Redirection, Summary, TrunkFailure, TrunkView},
};
use crate::registration::state::TrunkState;
use crate::{
    model::RedirectTarget,
    registration::{
        EdgePortId, EdgePortRank, Priority, UriChoice, UriIndex, backoff,
        outcome::Reason,
        target::UriOrder,
        time::{Moment, Now},
    },
};
use routr_types::host::{Transport, UriHost};

/// Most registrars that are named as over budget.
const MAX_OVER_BUDGET: usize = 20;
/// Most registrars and EdgePorts that are named as down.
const MAX_DOWN: usize = 20;
/// Most redirected trunks that are named.
const MAX_REDIRECTIONS: usize = 10;
/// Trunks that may be looked through for each second, which takes a millisecond or two.
const MAX_SCANNED_PER_S: u64 = 50_000;

impl Engine {
    /// The engine at a glance.
    pub fn summary(&mut self, now: Now) -> Summary {
        let next = self.next_expiry(now.at);
        let (down, registrars_down, edge_ports_down) = self.down(now);
        let (redirected, redirections) = self.redirections(now);
        Summary {
            counts: *self.slots.counts(),
            api: self.api.clone(),
            requester: self.concurrency.health().clone(),
            cache: self.cache.clone(),
            last_sync_ms: self.sync.last_complete_ms(),
            removals_pending_confirmation: self.sync.held(),
            left_out: self.sync.left_out().0,
            over_limits: self.sync.left_out().1.iter().map(ToString::to_string).collect(),
            next_expiry_ms: next.map(|moment| now.unix_ms_of(moment)),
            paused: self.paused || self.stands_by,
            in_flight: u64::from(self.concurrency.in_flight()),
            in_flight_limit: u64::from(self.concurrency.limit()),
            waiting: self.slots.waiting() as u64,
            // Where the Requester is what is missing, no budget would help.
            over_budget: if self.concurrency.is_open() {
                Vec::new()
            } else {
                self.registrars.over_budget(now.at, MAX_OVER_BUDGET)
            },
            registrars_down,
            edge_ports_down,
            down,
            failed_over: self.slots.failed_over(),
            redirected,
            redirections,
        }
    }

    /// Returns how many trunks are redirected, and some of them.
    fn redirections(&self, now: Now) -> (u64, Vec<RedirectedTrunk>) {
        let (mut count, mut some) = (0, Vec::new());
        for entry in self.slots.redirected() {
            if entry.registration.redirected(now.at).is_none() {
                continue;
            }
            count += 1;
            if some.len() < MAX_REDIRECTIONS
                && let Some(redirection) = self.redirection(entry, now)
            {
                some.push(RedirectedTrunk { reference: entry.trunk.reference().to_owned(), redirection });
            }
        }
        (count, some)
    }

    /// From where to where a trunk is redirected, and until when.
    pub(super) fn redirection(&self, entry: &Slot, now: Now) -> Option<Redirection> {
        let redirected = entry.registration.redirected(now.at)?;
        let trunk = entry.trunk.view();
        let index = self.in_use(entry, &trunk, &trunk.order(), now).uri;
        let uri = trunk.uri(index)?;
        let shown =
            |host: &str, port: u16, transport: Transport| format!("{}:{port}/{transport}", UriHost(host));
        let RedirectTarget { address, transport } = redirected.to;
        Some(Redirection {
            from: shown(uri.host, uri.port, uri.transport),
            to: shown(&address.host, address.port, transport.unwrap_or(uri.transport)),
            until_ms: now.unix_ms_of(redirected.until),
        })
    }

    /// The EdgePorts and registrars that are down, those that have been so for longest first, as far as they
    /// are named; and how many registrars and EdgePorts there are of them in all.
    fn down(&self, now: Now) -> (Vec<Down>, u64, u64) {
        let since_ms = |since: Moment| now.unix_ms_of(since);
        let mut all: Vec<Down> = self
            .edge_ports
            .down()
            .map(|(name, since, message)| Down {
                what: "edgePort".to_owned(),
                name: name.to_owned(),
                since_ms: since_ms(since),
                message: message.to_owned(),
            })
            .chain(self.registrars.all_down().map(|(name, since, message)| Down {
                what: "registrar".to_owned(),
                name: name.to_owned(),
                since_ms: since_ms(since),
                message: message.to_owned(),
            }))
            .collect();
        let edge_ports = all.iter().filter(|down| down.is_edge_port()).count();
        let counts = ((all.len() - edge_ports) as u64, edge_ports as u64);
        all.sort_by(|a, b| (&a.what, a.since_ms, &a.name).cmp(&(&b.what, b.since_ms, &b.name)));
        all.truncate(MAX_DOWN);
        (all, counts.0, counts.1)
    }

    /// Returns when the next binding expires if nothing is done. Where there are many trunks that are asked
    /// about often, it may be what was found some seconds ago (one for each [`MAX_SCANNED_PER_S`] trunks): it
    /// then is the expiry of a binding that has been refreshed since, so never too late by more than what is
    /// new.
    fn next_expiry(&mut self, now: Moment) -> Option<Moment> {
        let fresh = self.slots.len() as u64 / MAX_SCANNED_PER_S * backoff::SECOND_MS;
        if let Some((expiry, found)) = self.first_expiry
            && expiry > now
            && now.since(found) < fresh
        {
            return Some(expiry);
        }
        let expiries = self.slots.iter().map(|(_, entry)| &entry.registration);
        let expiry = expiries
            .filter(|registration| !registration.is_deregistering())
            .filter_map(|registration| registration.binding().map(|binding| binding.expires_at))
            .filter(|expiry| *expiry > now)
            .min();
        self.first_expiry = expiry.map(|expiry| (expiry, now));
        expiry
    }

    /// The worst troubles, and how many there are of each kind.
    pub fn failures(&self, most: usize, now: Now) -> FailureSummary {
        let mut by_reason = BTreeMap::<&'static str, u64>::new();
        // The least bad on top.
        let mut worst: BinaryHeap<(u8, u64, u32)> = BinaryHeap::new();
        for (slot, entry) in self.slots.unhealthy() {
            let rank = match entry.state() {
                TrunkState::Failing => 0,
                TrunkState::Invalid => 1,
                TrunkState::AtRisk => 2,
                _ => continue,
            };
            let cause = entry.registration.cause();
            let blocked = || self.paths().outage(entry, now.at).map(|outage| outage.reason());
            let reason = if entry.invalid {
                Some(Reason::InvalidTrunk)
            } else {
                cause.map(|(cause, _)| cause.reason).or_else(blocked)
            };
            *by_reason.entry(reason.map_or("", Reason::name)).or_default() += 1;
            let since = match cause {
                Some((_, since)) => since,
                None if entry.blocked() => {
                    let outage = self.paths().outage(entry, now.at);
                    now.unix_ms_of(outage.map_or(now.at, |outage| outage.since()))
                }
                None => u64::MAX,
            };
            let badness = (rank, since, slot);
            if worst.len() < most {
                worst.push(badness);
            } else if let Some(mut least) = worst.peek_mut()
                && badness < *least
            {
                *least = badness;
            }
        }
        let worst = worst.into_sorted_vec();
        FailureSummary {
            worst: worst
                .iter()
                .filter_map(|(_, _, slot)| self.slots.get(*slot))
                .map(|entry| self.view(entry, now))
                .collect(),
            by_reason: by_reason.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
        }
    }

    /// One trunk.
    pub fn get(&self, reference: &str, now: Now) -> Option<TrunkView> {
        let slot = self.slots.find(reference)?;
        self.slots.get(slot).map(|entry| self.view(entry, now))
    }

    pub(super) fn view(&self, entry: &Slot, now: Now) -> TrunkView {
        let trunk = entry.trunk.view();
        let registration = &entry.registration;
        let order = trunk.order();
        let choice = registration.ranks().0;
        // A probe does not change where the trunk is registered.
        let bound = registration
            .remaining_ms(now.at)
            .and(registration.binding())
            .filter(|_| registration.probes_next());
        let uri = match (bound, choice) {
            (Some(binding), _) => trunk.uri(binding.index),
            (None, choice) => trunk.uri(order.resolve(choice)),
        };
        let InUse { edge: edge_in_use, failed_over, .. } = self.in_use(entry, &trunk, &order, now);
        let due = registration.due();
        let invalid = trunk.uris() == 0;
        let failure = match (trunk.problem(), registration.cause()) {
            (Some(problem), cause) if entry.invalid => {
                let message = if invalid {
                    problem.to_owned()
                } else {
                    format!("{problem} (the last good version stays registered)")
                };
                Some(TrunkFailure::new(Reason::InvalidTrunk, message, cause.map_or(0, |(_, since)| since)))
            }
            (Some(problem), None) => {
                let message = format!("{problem} (its other URIs are used)");
                Some(TrunkFailure::new(Reason::InvalidTrunk, message, 0))
            }
            (_, Some((cause, since_ms))) => {
                let failure = TrunkFailure::new(cause.reason, cause.message.to_string(), since_ms);
                Some(TrunkFailure { code: cause.code, ..failure })
            }
            _ if entry.blocked() => self.paths().outage(entry, now.at).map(|outage| {
                TrunkFailure::new(outage.reason(), outage.message(), now.unix_ms_of(outage.since()))
            }),
            _ => None,
        };
        TrunkView {
            reference: trunk.reference().to_owned(),
            name: trunk.name().to_owned(),
            state: entry.state(),
            aor: uri.map_or_else(String::new, |uri| format!("{}@{}", uri.user, uri.host)),
            registrar: uri.map_or_else(String::new, |uri| {
                format!("{}:{}/{}", routr_types::host::UriHost(uri.host), uri.port, uri.transport)
            }),
            edge_port: if invalid { String::new() } else { self.edge_ports.shown(edge_in_use).to_owned() },
            failed_over,
            redirected: self.redirection(entry, now),
            omitted_option_tags: self.tags(registration.without_tags()),
            expires_at_ms: registration
                .remaining_ms(now.at)
                .and(registration.binding())
                .map(|binding| now.unix_ms_of(binding.expires_at)),
            next_at_ms: (!invalid && !registration.in_flight())
                .then(|| now.unix_ms_of(if entry.queued() { now.at } else { due.max(now.at) })),
            in_flight: registration.in_flight(),
            next: self.next_step(entry, choice, now),
            failures: registration.failures(),
            failure,
            call_id: uri
                .map_or_else(String::new, |uri| self.registry.call_id(trunk.reference(), uri.host, uri.user)),
            cseq: registration.cseq(),
        }
    }

    fn next_step(&self, entry: &Slot, choice: UriChoice, now: Now) -> String {
        let registration = &entry.registration;
        let trunk = entry.trunk.view();
        if trunk.uris() == 0 {
            return "waits for the trunk to be corrected".to_owned();
        }
        if registration.in_flight() {
            return "waiting for the response".to_owned();
        }
        let due = registration.due() <= now.at || entry.queued();
        if due && self.concurrency.is_open() {
            return "waiting for the Requester".to_owned();
        }
        let held = trunk
            .uri(trunk.order().resolve(choice))
            .is_some_and(|uri| self.registrars.held_until(uri.next_hop().0) > now.at);
        if due && held {
            return "waiting as the registrar asked".to_owned();
        }
        let present = self.slots.find(trunk.reference()).filter(|_| due && entry.queued());
        if let Some(present) = present.and_then(|slot| self.slots.get(slot))
            && let Some(outage) = self.paths().outage(present, now.at)
        {
            return format!("waiting for {}", outage.waited_for());
        }
        let what = match (registration.is_deregistering(), registration.probes_next(), registration.class()) {
            (true, _, _) => "de-register",
            (_, true, _) => "probe the preferred registrar",
            (_, _, Priority::Refresh) if registration.remaining_ms(now.at).is_some() => "refresh",
            (_, _, Priority::First) => "register",
            _ => "retry",
        };
        if due { format!("{what}, queued") } else { what.to_owned() }
    }

    /// Returns where the binding is, else where the next attempt goes.
    fn in_use(
        &self,
        entry: &Slot,
        trunk: &packed_trunk::PackedTrunkRef<'_>,
        order: &UriOrder,
        now: Now,
    ) -> InUse {
        let registration = &entry.registration;
        let (choice, rank) = registration.ranks();
        let (uri, edge) = match registration.remaining_ms(now.at).and(registration.binding()) {
            Some(binding) => (binding.index, binding.edge),
            None => (order.resolve(choice), self.edge_ports.choose(trunk, rank, now.at)),
        };
        let preferred =
            (order.preferred().unwrap_or_default(), self.edge_ports.prefer(trunk, EdgePortRank::FIRST));
        let counts = trunk.uris() > 0 && !registration.is_deregistering();
        InUse { uri, edge, failed_over: counts && (uri, edge) != preferred }
    }

    /// Returns whether it holds a binding elsewhere than at its preferred URI and EdgePort.
    pub(super) fn is_failed_over(&self, entry: &Slot, now: Now) -> bool {
        let trunk = entry.trunk.view();
        let only_one = trunk.uris() <= 1 && self.edge_ports.len() <= 1;
        let bound = entry.registration.remaining_ms(now.at).is_some();
        // With one of each there may still be a binding by an EdgePort that is no longer configured: not for
        // long.
        bound && !only_one && self.in_use(entry, &trunk, &trunk.order(), now).failed_over
    }

    /// A change of state, for the log.
    pub(super) fn transition(&self, entry: &Slot, from: TrunkState, to: TrunkState, now: Now) -> Transition {
        let trunk = entry.trunk.view();
        let in_use = self.in_use(entry, &trunk, &trunk.order(), now);
        let blocked = entry.blocked().then(|| self.paths().outage(entry, now.at)).flatten();
        let cause = entry.registration.cause().map(|(cause, _)| (cause.reason, cause.message.to_string()));
        let cause = cause.or(blocked.map(|outage| (outage.reason(), outage.message())));
        let problem = trunk.problem().map(|problem| (Reason::InvalidTrunk, problem.to_owned()));
        let usable = trunk.uris() > 0;
        Transition {
            reference: trunk.reference().to_owned(),
            from,
            to,
            registrar: trunk.uri(in_use.uri).map_or_else(String::new, |uri| uri.host.to_owned()),
            edge_port: if usable { self.edge_ports.shown(in_use.edge).to_owned() } else { String::new() },
            failed_over: in_use.failed_over,
            redirected_to: self.redirection(entry, now).map(|redirection| redirection.to),
            reason: if entry.invalid { problem.or(cause) } else { cause.or(problem) },
        }
    }
}

/// The target that a trunk is bound at, or tries next.
struct InUse {
    /// Index of its URI in the trunk.
    uri: UriIndex,
    edge: EdgePortId,
    failed_over: bool,
}
