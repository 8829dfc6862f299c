//! Counters and gauges of many registries under one name.
//!
//! The crate's own `Family` writes HELP and TYPE once for each family, and OpenMetrics allows them once for
//! each name. So each registry counts in maps of its own, which are dropped with it, and [`Joined`] writes
//! those of all as one metric.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    encoding::{EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder},
    metrics::{MetricType, TypedMetric, histogram::Histogram},
};

use crate::registry::RegistryName;

/// Labels that name the registry of a series: none outside Kubernetes.
#[derive(Clone, Debug)]
pub(super) struct Owner(pub Arc<RegistryName>);

impl Owner {
    fn has_labels(&self) -> bool {
        self.0.namespace.is_some()
    }
}

impl EncodeLabelSet for Owner {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        if let Some(namespace) = &self.0.namespace {
            for label in [("namespace", namespace.as_str()), ("registry", self.0.name.as_str())] {
                label.encode(encoder.encode_label())?;
            }
        }
        Ok(())
    }
}

/// One metric of one registry, with a value for each of the label sets that came up.
#[derive(Debug)]
pub(super) struct Series<L, M> {
    values: RwLock<BTreeMap<L, M>>,
    make: fn() -> M,
}

impl<L: Ord + Clone, M: Clone> Series<L, M> {
    pub(super) fn new(make: fn() -> M) -> Self {
        Self { values: RwLock::default(), make }
    }

    /// The value of these labels, made where it is not there yet. It shares what it counts.
    pub(super) fn of(&self, labels: &L) -> M {
        if let Some(value) = self.values.read().unwrap_or_else(PoisonError::into_inner).get(labels) {
            return value.clone();
        }
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        values.entry(labels.clone()).or_insert_with(self.make).clone()
    }
}

/// One metric of all registries.
#[derive(Debug)]
pub(super) struct Joined<L, M>(pub Vec<(Owner, Arc<Series<L, M>>)>);

impl<L, M> EncodeMetric for Joined<L, M>
where
    L: EncodeLabelSet + Clone,
    M: EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (owner, series) in &self.0 {
            for (labels, value) in &*series.values.read().unwrap_or_else(PoisonError::into_inner) {
                let labels = (owner.clone(), labels.clone());
                value.encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0
            .iter()
            .all(|(_, series)| series.values.read().unwrap_or_else(PoisonError::into_inner).is_empty())
    }
}

/// A histogram of all registries that has no labels of its own.
#[derive(Debug)]
pub(super) struct Plain(pub Vec<(Owner, Histogram)>);

impl EncodeMetric for Plain {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (owner, value) in &self.0 {
            if !owner.has_labels() {
                // The only one, then: a family without labels would be written with empty braces.
                return value.encode(encoder);
            }
            value.encode(encoder.encode_family(owner)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A label beside those of the owner.
pub(super) type Label = (&'static str, &'static str);

/// Values of a gauge as of now, each with an owner and at most one label of its own.
#[derive(Debug, Default)]
pub(super) struct Gauges(Vec<(Owner, Option<Label>, f64)>);

impl Gauges {
    pub(super) fn add(&mut self, owner: &Owner, label: Option<Label>, value: f64) {
        self.0.push((owner.clone(), label, value));
    }
}

impl EncodeMetric for Gauges {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (owner, label, value) in &self.0 {
            match label {
                Some(label) => encoder.encode_family(&(owner.clone(), [*label]))?.encode_gauge(value)?,
                None if owner.has_labels() => encoder.encode_family(owner)?.encode_gauge(value)?,
                // A family without labels would be written with empty braces.
                None => encoder.encode_gauge(value)?,
            }
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
