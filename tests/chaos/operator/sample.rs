//! One look: what both replicas say, and what the API server of Kubernetes has.

use std::collections::BTreeMap;
use std::sync::Arc;

use routr_registration::{engine::view::Summary, registration::state::TrunkState};
use routr_registry::admin::{CheckState, Readiness};
use routr_registry::admin_api::RegistriesResponse;
use routr_registry::spec::status::RegistryStatus;
use tokio::time::Instant;

use crate::vitals::Vitals;
use crate::watch::{DEPENDENCIES, brief};

/// The Registry.
pub const NAME: &str = "main";
/// Names of the replicas.
pub const PODS: [&str; 2] = ["pod-a", "pod-b"];

/// Everything that a replica says of itself.
#[derive(Clone, Debug)]
pub struct Said {
    pub live: Result<u16, String>,
    pub ready: Result<(u16, Readiness), String>,
    pub metrics: Result<BTreeMap<String, f64>, String>,
    pub registries: Result<RegistriesResponse, String>,
}

impl Said {
    /// Returns the state and the message of `/readyz` about the Lease.
    pub fn lease(&self) -> Option<(CheckState, &str)> {
        let (_, readiness) = self.ready.as_ref().ok()?;
        let check = readiness.checks.iter().find(|check| check.name == "lease")?;
        Some((check.state, &check.message))
    }

    /// Returns whether it says that it leads.
    pub fn leads(&self) -> bool {
        self.lease() == Some((CheckState::Ok, "leads"))
    }

    /// Returns whether it says that it could not take over.
    pub fn blind(&self) -> bool {
        self.ready.as_ref().is_ok_and(|(code, readiness)| *code == 503 && !readiness.ready)
            && self.lease().is_some_and(|(state, _)| state == CheckState::Failed)
            && self.gauge("leader_election_is_leader") == Some(0.0)
    }

    /// Returns the summary by the engine of its one Registry.
    pub fn summary(&self) -> Option<&Summary> {
        self.registries.as_ref().ok()?.registries.first()?.summary.as_ref()
    }

    /// Returns whether a dependency works, by the summary.
    pub fn health(&self, dependency: &str) -> Option<bool> {
        let summary = self.summary()?;
        match dependency {
            "api" => summary.api.ok,
            "requester" => summary.requester.ok,
            _ => summary.cache.ok,
        }
    }

    /// Returns whether `/readyz` reports that a dependency does not work.
    pub fn tells_of(&self, dependency: &str) -> bool {
        let Ok((_, readiness)) = &self.ready else { return false };
        let told = format!("{dependency}: not working");
        let all = |name: &str| readiness.checks.iter().find(|check| check.name == name);
        all("registries").is_some_and(|check| check.state == CheckState::Degraded)
            && readiness.checks.iter().any(|check| {
                check.name.ends_with(NAME)
                    && check.state == CheckState::Degraded
                    && check.message.contains(&told)
            })
    }

    /// A gauge without labels.
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.metrics.as_ref().ok()?.get(&format!("routr_registry_{name}")).copied()
    }

    /// A gauge of the one Registry, by its last label.
    pub fn gauge_of(&self, name: &str, label: &str, value: &str) -> Option<f64> {
        let (head, tail) = (format!("routr_registry_{name}{{"), format!("{label}=\"{value}\"}}"));
        let metrics = self.metrics.as_ref().ok()?;
        metrics
            .iter()
            .find(|(key, _)| key.starts_with(&head) && key.ends_with(&tail))
            .map(|(_, value)| *value)
    }
}

/// The Registry and the Lease.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub generation: i64,
    pub status: RegistryStatus,
    /// The pod that holds the Lease, if any does.
    pub holder: Option<String>,
}

impl Cluster {
    /// Status and reason of a condition.
    pub fn condition(&self, kind: &str) -> (&str, &str) {
        let found = self.status.conditions.iter().find(|condition| condition.type_ == kind);
        found.map_or(("absent", ""), |found| (&found.status, &found.reason))
    }

    /// Returns whether a dependency works, by the status; `None` for Unknown.
    pub fn health(&self, dependency: &str) -> Option<bool> {
        let kind = match dependency {
            "api" => "APIReachable",
            "requester" => "RequesterReachable",
            _ => "CacheReachable",
        };
        match self.condition(kind).0 {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        }
    }

    /// Trunks that have a binding, by the status.
    pub fn bound(&self) -> u64 {
        let bound = self.status.trunks.map_or(0, |trunks| trunks.registered + trunks.at_risk);
        u64::try_from(bound).unwrap_or_default()
    }
}

/// One look.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    /// By replica; `None` for one that does not run or is stopped.
    pub replicas: [Option<Said>; 2],
    pub vitals: [Option<Vitals>; 2],
    pub requester: Option<Vitals>,
    /// Bytes that each replica has sent to the Requester so far, and those of unknown origin.
    pub sent: [usize; 3],
    /// Moment when the API server of Kubernetes was last asked, and its response.
    pub cluster: (Instant, Result<Arc<Cluster>, String>),
    /// Addresses of record with a binding, by the last look at Kamailio's table.
    pub bound: Option<usize>,
}

impl Sample {
    /// The one replica that says that it leads.
    pub fn leader(&self) -> Option<usize> {
        let leads = |index: &usize| self.replicas[*index].as_ref().is_some_and(Said::leads);
        match &(0..2).filter(leads).collect::<Vec<usize>>()[..] {
            [one] => Some(*one),
            _ => None,
        }
    }

    /// Returns what the leader says.
    pub fn led(&self) -> Option<&Said> {
        self.replicas[self.leader()?].as_ref()
    }

    /// Returns whether all pages of the leader say that this dependency does not work.
    pub fn says_down(&self, dependency: &str) -> bool {
        self.led().is_some_and(|said| {
            said.health(dependency) == Some(false)
                && said.gauge_of("dependency_up", "dependency", dependency) == Some(0.0)
                && said.tells_of(dependency)
        })
    }

    /// Checks that `count` trunks are registered and nothing else, and that everything is reported healthy,
    /// in all places.
    pub fn well(&self, count: u64) -> Result<(), String> {
        let leader = self.leader().ok_or_else(|| format!("not one leads: {:?}", self.leases()))?;
        let (Some(said), Some(other)) = (&self.replicas[leader], &self.replicas[1 - leader]) else {
            return Err("a replica does not run".to_owned());
        };
        let follows = format!("follows {}, ready to take over", PODS[leader]);
        if other.lease() != Some((CheckState::Ok, &follows))
            || other.gauge("leader_election_is_leader") != Some(0.0)
        {
            return Err(format!("the other replica says {:?}", other.ready));
        }
        let summary = said.summary().ok_or_else(|| format!("{:?}", said.registries))?;
        let counts = TrunkState::ALL.map(|state| summary.counts.of(state));
        let expected = TrunkState::ALL.map(|state| if state == TrunkState::Registered { count } else { 0 });
        let up = |name: &&str| {
            said.health(name) == Some(true) && said.gauge_of("dependency_up", "dependency", name) == Some(1.0)
        };
        if counts != expected || !DEPENDENCIES.iter().all(up) {
            return Err(brief(summary));
        }
        match &said.ready {
            Ok((200, readiness)) if readiness.checks.iter().all(|check| check.state == CheckState::Ok) => {}
            other => return Err(format!("/readyz of the leader says {other:?}")),
        }
        if said.gauge("leader_election_is_leader") != Some(1.0) {
            return Err("the metrics of the leader do not say that it leads".to_owned());
        }
        self.cluster_well(PODS[leader], count)
    }

    fn cluster_well(&self, leader: &str, count: u64) -> Result<(), String> {
        let cluster = self.cluster.1.as_ref().map_err(|error| format!("Kubernetes: {error}"))?;
        let expected = [
            ("Ready", ("True", "AllRegistered")),
            ("Reconciling", ("False", "Settled")),
            ("Stalled", ("False", "NotStalled")),
            ("APIReachable", ("True", "Reachable")),
            ("RequesterReachable", ("True", "Reachable")),
            ("CacheReachable", ("True", "Reachable")),
            ("CredentialsAccepted", ("True", "Accepted")),
        ];
        if let Some((kind, _)) = expected.iter().find(|(kind, found)| cluster.condition(kind) != *found) {
            return Err(format!("{kind} is {:?}", cluster.condition(kind)));
        }
        let status = &cluster.status;
        let count = i64::try_from(count).unwrap_or_default();
        let counted =
            status.trunks.is_some_and(|t| (t.total, t.registered, t.deregistering) == (count, count, 0));
        if !counted || !status.failures.is_empty() || status.observed_generation != Some(cluster.generation) {
            return Err(format!("the status has {:?}, {} failures", status.trunks, status.failures.len()));
        }
        if cluster.holder.as_deref() != Some(leader) {
            return Err(format!("{leader} leads, and the Lease has {:?}", cluster.holder));
        }
        Ok(())
    }

    /// Returns what each replica says of the Lease.
    pub fn leases(&self) -> [Option<String>; 2] {
        [0, 1].map(|index: usize| {
            let said = self.replicas[index].as_ref()?;
            Some(said.lease().map_or_else(|| format!("{:?}", said.ready), |(_, words)| words.to_owned()))
        })
    }
}
