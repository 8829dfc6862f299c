//! Gauges: what each engine says of itself at the moment of a scrape.

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    count, seconds,
    series::{Gauges, Owner},
};
use crate::{quota::sockets::Connections, registry::RegistryName};
use routr_registration::{
    engine::view::{Health, Summary},
    registration::state::TrunkState,
};

/// The reason of a trunk whose cause is unknown, as its view has it.
const UNKNOWN_REASON: &str = "Unknown";

/// Fills a gauge with what one registry contributes.
type Fill = fn(&mut Gauges, &Owner, &Summary);

/// Registers how many trunks are unhealthy, and why: a fixed set of reasons.
pub(super) fn register_failures(registry: &mut Registry, failures: &[(RegistryName, BTreeMap<String, u64>)]) {
    let mut gauges = Reasons::default();
    for (name, by_reason) in failures {
        let owner = Owner(Arc::new(name.clone()));
        for (reason, trunks) in by_reason {
            let reason = if reason.is_empty() { UNKNOWN_REASON } else { reason };
            gauges.0.push((owner.clone(), reason.to_owned(), count(*trunks)));
        }
    }
    registry.register("trunk_failures", "Trunks that are atRisk, failing or invalid, by reason", gauges);
}

/// Values of a gauge by reason.
#[derive(Debug, Default)]
struct Reasons(Vec<(Owner, String, f64)>);

impl EncodeMetric for Reasons {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (owner, reason, value) in &self.0 {
            let labels = (owner.clone(), [("reason", reason.as_str())]);
            encoder.encode_family(&labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Registers how many connections the Registries of each namespace have, and the bound.
pub(super) fn register_connections(registry: &mut Registry, connections: &Connections) {
    let open = Family::<[(&'static str, String); 1], Gauge>::default();
    for (namespace, count) in &connections.open {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        open.get_or_create(&[("namespace", namespace.clone())]).set(count);
    }
    registry.register(
        "connections",
        "Connections of the registries of a namespace to API servers, Requesters and Redis",
        open,
    );
    let limit = Gauge::<i64>::default();
    limit.set(i64::try_from(connections.limit).unwrap_or(i64::MAX));
    registry.register("connections_limit", "Limit on the connections of all registries together", limit);
}

/// Gauges that a resource without trunks has, too.
const OF_EMPTY: [&str; 2] = ["last_sync_timestamp", "dependency_up"];

/// Returns whether there is neither a trunk nor anything in flight or queued.
fn is_empty(summary: &Summary) -> bool {
    TrunkState::ALL.iter().all(|state| summary.counts.of(*state) == 0)
        && summary.waiting + summary.removals_pending_confirmation + summary.in_flight == 0
}

/// Registers the gauges of all registries. One that did not respond has none but a zero in `engine_up`, which
/// only those of an operator have: outside, a silent engine fails the scrape as a whole.
pub(super) fn register(registry: &mut Registry, all: &[(Owner, Option<Summary>)]) {
    let mut up = Gauges::default();
    for (owner, summary) in all.iter().filter(|(owner, _)| owner.0.namespace.is_some()) {
        up.add(owner, None, if summary.is_some() { 1.0 } else { 0.0 });
    }
    registry.register("engine_up", "1 while the engine of a registry responds, else 0", up);
    let mut of_all = |name: &str, help: &str, unit: Option<Unit>, fill: Fill| {
        let mut gauges = Gauges::default();
        for (owner, summary) in all {
            // Of thousands of resources most may have nothing to register: then zeros in a dozen series say
            // nothing.
            let about_trunks = !OF_EMPTY.contains(&name);
            if let Some(summary) = summary
                && !(about_trunks && owner.0.namespace.is_some() && is_empty(summary))
            {
                fill(&mut gauges, owner, summary);
            }
        }
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, gauges),
            None => registry.register(name, help, gauges),
        }
    };
    of_all("trunks", "Trunks by state", None, |gauges, owner, summary| {
        for state in TrunkState::ALL {
            gauges.add(owner, Some(("state", state.name())), count(summary.counts.of(state)));
        }
    });
    of_all(
        "next_expiry_timestamp",
        "When the next binding expires unless it is refreshed, since the Unix epoch",
        Some(Unit::Seconds),
        |gauges, owner, summary| {
            if let Some(expiry) = summary.next_expiry_ms {
                gauges.add(owner, None, seconds(expiry));
            }
        },
    );
    of_all(
        "registers_queued",
        "Trunks whose REGISTER is due and waits for its turn",
        None,
        |gauges, owner, summary| gauges.add(owner, None, count(summary.waiting)),
    );
    of_all(
        "removals_pending_confirmation",
        "Trunks that a sync did not list, and that are deregistered only when the next sync does not list them either",
        None,
        |gauges, owner, summary| gauges.add(owner, None, count(summary.removals_pending_confirmation)),
    );
    of_all(
        "registrars_over_budget",
        "Registrars with more trunks than ratePerRegistrar can refresh: bindings there will expire",
        None,
        |gauges, owner, summary| {
            let registrars = u64::try_from(summary.over_budget.len()).unwrap_or(u64::MAX);
            gauges.add(owner, None, count(registrars));
        },
    );
    of_all(
        "trunks_failed_over",
        "Trunks whose binding is not at their preferred URI and EdgePort",
        None,
        |gauges, owner, summary| gauges.add(owner, None, count(summary.failed_over)),
    );
    of_all("trunks_redirected", "Trunks that follow a redirection", None, |gauges, owner, summary| {
        gauges.add(owner, None, count(summary.redirected))
    });
    of_all(
        "registrars_down",
        "Registrars that are down: they failed for several trunks in a row, and one trunk at a time probes \
         them",
        None,
        |gauges, owner, summary| gauges.add(owner, None, count(summary.registrars_down)),
    );
    of_all(
        "edge_ports_down",
        "EdgePorts that are down: no registrar responds through them",
        None,
        |gauges, owner, summary| gauges.add(owner, None, count(summary.edge_ports_down)),
    );
    of_all("requests_in_flight", "REGISTER requests in flight", None, |gauges, owner, summary| {
        gauges.add(owner, None, count(summary.in_flight))
    });
    of_all(
        "requests_in_flight_limit",
        "Limit on REGISTER requests in flight",
        None,
        |gauges, owner, summary| gauges.add(owner, None, count(summary.in_flight_limit)),
    );
    of_all(
        "last_sync_timestamp",
        "When the trunks were last read completely, since the Unix epoch",
        Some(Unit::Seconds),
        |gauges, owner, summary| {
            if let Some(sync) = summary.last_sync_ms {
                gauges.add(owner, None, seconds(sync));
            }
        },
    );
    of_all("dependency_up", "1 while a dependency works, else 0", None, |gauges, owner, summary| {
        let dependencies: [(&str, &Health); 3] =
            [("api", &summary.api), ("requester", &summary.requester), ("cache", &summary.cache)];
        for (name, health) in dependencies {
            if let Some(ok) = health.ok {
                gauges.add(owner, Some(("dependency", name)), if ok { 1.0 } else { 0.0 });
            }
        }
    });
}
