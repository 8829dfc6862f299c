//! The status of each Registry resource as metrics, with or without an engine, in the manner of
//! kube-state-metrics: a condition has a series for each status, of which one is 1.
//!
//! That is some thirty series for each Registry, too many where there are thousands. In a process with more
//! than [`MAX_DETAILED`], each Registry has, beside `ready` with its state and reason, only the statuses that
//! are 1 and not as they should be, and generations that differ: an alert finds the same either way.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::MetricType,
    registry::Registry,
};

use super::series::Owner;
use crate::registry::{ConditionState, RegistryName, RegistryPhase, RegistryState};

/// Most Registries that have every series of their conditions.
pub const MAX_DETAILED: usize = 100;

/// Reasons of a condition that is Unknown or False though nothing is wrong: the Registry is suspended, there
/// is nothing to register, or no one has responded yet.
const QUIET_REASONS: [&str; 5] = ["Suspended", "NotRunning", "NotProbed", "NoTrunks", "AwaitingResponse"];

/// Status of one Registry resource.
#[derive(Clone, Debug)]
pub struct ResourceState {
    /// Name of the resource.
    pub name: RegistryName,
    /// State of the resource, as its status has it.
    pub state: RegistryState,
    /// `metadata.generation` that the operator has seen last; `None` before the first look at it.
    pub generation: Option<i64>,
}

type Labels = Vec<(&'static str, Box<str>)>;

/// Values of one gauge, with labels beside those of the owner.
#[derive(Debug, Default)]
struct Values(Vec<(Owner, Labels, i64)>);

impl EncodeMetric for Values {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (owner, labels, value) in &self.0 {
            encoder.encode_family(&(owner.clone(), labels.clone()))?.encode_gauge(value)?;
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

/// Registers the metrics of all resources.
pub(super) fn register(registry: &mut Registry, resources: &[ResourceState]) {
    let in_full = resources.len() <= MAX_DETAILED;
    let [mut ready, mut suspended, mut conditions, mut reasons, mut seen, mut observed] =
        std::array::from_fn(|_| Values::default());
    for ResourceState { name, state, generation } in resources {
        let owner = Owner(Arc::new(name.clone()));
        let add = |values: &mut Values, labels: Labels, value: i64| {
            values.0.push((owner.clone(), labels, value));
        };
        let phase_and_reason =
            vec![("state", state.state.name().into()), ("reason", state.reason.as_str().into())];
        add(&mut ready, phase_and_reason, state.ready.into());
        let is_suspended = state.state == RegistryPhase::Suspended;
        if in_full {
            add(&mut suspended, Vec::new(), is_suspended.into());
        }
        for condition in state.conditions.iter().filter(|condition| in_full || condition.is_amiss()) {
            for (status, name) in [(Some(true), "true"), (Some(false), "false"), (None, "unknown")] {
                let holds = condition.status == status;
                if in_full || holds {
                    let labels = vec![("type", condition.kind.clone()), ("status", name.into())];
                    add(&mut conditions, labels, holds.into());
                }
            }
            if in_full {
                let labels = vec![("type", condition.kind.clone()), ("reason", condition.reason.clone())];
                add(&mut reasons, labels, 1);
            }
        }
        if in_full || *generation != state.observed_generation {
            for (values, generation) in [(&mut seen, *generation), (&mut observed, state.observed_generation)]
            {
                if let Some(generation) = generation {
                    add(values, Vec::new(), generation);
                }
            }
        }
    }
    let all = [
        (
            "ready",
            "1 while the condition Ready of a Registry is True, else 0, with its state and reason",
            ready,
        ),
        ("suspended", "1 while a Registry is suspended, else 0", suspended),
        ("condition", "1 for the status that a condition of a Registry has, 0 for the others", conditions),
        ("condition_reason", "The reason of each condition of a Registry, always 1", reasons),
        ("generation", "Generation of the spec of a Registry that the operator has seen last", seen),
        ("observed_generation", "Generation of the spec that the status of a Registry describes", observed),
    ];
    // In an operator without any Registry there are no such metrics.
    for (name, help, values) in all {
        if !values.0.is_empty() {
            registry.register(name, help, values);
        }
    }
}

impl ConditionState {
    /// Returns whether the condition is not as that of a Registry that works, or is suspended.
    fn is_amiss(&self) -> bool {
        let expected = !matches!(&*self.kind, "Reconciling" | "Stalled");
        self.status != Some(expected) && !QUIET_REASONS.contains(&&*self.reason)
    }
}
