//! The watcher: looks the whole time at what both replicas say, at the Registry and the Lease as the API server of Kubernetes
//! has them, at Kamailio's table, and at who sends anything to the Requester.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use routr_registry::admin::{CheckState, Readiness, RegistriesAnswer};
use routr_registry::engine::view::{Summary, TrunkState};
use routr_registry::environment::unix_ms;
use routr_registry::spec::Registry;
use routr_registry::spec::status::RegistryStatus;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::truth::{self, Facts};
use crate::http;
use crate::link::Flow;
use crate::support::installation::RELEASE;
use crate::support::kamailio::LocationTable;
use crate::truth::TableJudge;
use crate::vitals::{Vitals, ports_of, vitals};
use crate::watch::{Look, NEIGHBOURS, PACE, Seen as TableSeen, brief, figures, json, list, lock, until};

/// Between two looks at all trunks and at all bindings.
const TABLE_PACE: Duration = Duration::from_secs(1);
/// An API server of Kubernetes that takes longer does not answer.
const ANSWER: Duration = Duration::from_millis(1_500);
/// The Registry.
pub const NAME: &str = "main";
/// What the replicas are called.
pub const PODS: [&str; 2] = ["pod-a", "pod-b"];

/// What a replica says of itself.
#[derive(Clone, Debug)]
pub struct Said {
    pub live: Result<u16, String>,
    pub ready: Result<(u16, Readiness), String>,
    pub metrics: Result<BTreeMap<String, f64>, String>,
    pub registries: Result<RegistriesAnswer, String>,
}

impl Said {
    /// What `/readyz` says about the Lease.
    pub fn lease(&self) -> Option<(CheckState, &str)> {
        let (_, readiness) = self.ready.as_ref().ok()?;
        let check = readiness.checks.iter().find(|check| check.name == "lease")?;
        Some((check.state, &check.message))
    }

    /// Whether it says that it leads.
    pub fn leads(&self) -> bool {
        self.lease() == Some((CheckState::Ok, "leads"))
    }

    /// Whether it says that it could not take over.
    pub fn blind(&self) -> bool {
        self.ready.as_ref().is_ok_and(|(code, readiness)| *code == 503 && !readiness.ready)
            && self.lease().is_some_and(|(state, _)| state == CheckState::Failed)
            && self.gauge("leader") == Some(0.0)
    }

    /// What the engine of its one Registry says.
    pub fn summary(&self) -> Option<&Summary> {
        self.registries.as_ref().ok()?.registries.first()?.summary.as_ref()
    }

    /// What the summary says of a neighbour.
    pub fn health(&self, neighbour: &str) -> Option<bool> {
        let summary = self.summary()?;
        match neighbour {
            "api" => summary.api.ok,
            "requester" => summary.requester.ok,
            _ => summary.cache.ok,
        }
    }

    /// Whether `/readyz` tells that a neighbour does not work.
    pub fn tells_of(&self, neighbour: &str) -> bool {
        let Ok((_, readiness)) = &self.ready else { return false };
        let told = format!("{neighbour}: not working");
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

    /// What the status says of a neighbour; `None` for Unknown.
    pub fn health(&self, neighbour: &str) -> Option<bool> {
        let kind = match neighbour {
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
    /// When the API server of Kubernetes was last asked, and what it said.
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

    /// What the leader says.
    pub fn led(&self) -> Option<&Said> {
        self.replicas[self.leader()?].as_ref()
    }

    /// Whether all pages of the leader say that this neighbour does not work.
    pub fn says_down(&self, neighbour: &str) -> bool {
        self.led().is_some_and(|said| {
            said.health(neighbour) == Some(false)
                && said.gauge_of("neighbour_up", "neighbour", neighbour) == Some(0.0)
                && said.tells_of(neighbour)
        })
    }

    /// Whether so many trunks are registered and nothing else, and everything is said to be well, in all places.
    pub fn well(&self, count: u64) -> Result<(), String> {
        let leader = self.leader().ok_or_else(|| format!("not one leads: {:?}", self.leases()))?;
        let (Some(said), Some(other)) = (&self.replicas[leader], &self.replicas[1 - leader]) else {
            return Err("a replica does not run".to_owned());
        };
        let follows = format!("follows {}, ready to take over", PODS[leader]);
        if other.lease() != Some((CheckState::Ok, &follows)) || other.gauge("leader") != Some(0.0) {
            return Err(format!("the other replica says {:?}", other.ready));
        }
        let summary = said.summary().ok_or_else(|| format!("{:?}", said.registries))?;
        let counts = TrunkState::ALL.map(|state| summary.counts.of(state));
        let expected = TrunkState::ALL.map(|state| if state == TrunkState::Registered { count } else { 0 });
        let up = |name: &&str| {
            said.health(name) == Some(true) && said.gauge_of("neighbour_up", "neighbour", name) == Some(1.0)
        };
        if counts != expected || !NEIGHBOURS.iter().all(|name| up(&name)) {
            return Err(brief(summary));
        }
        match &said.ready {
            Ok((200, readiness)) if readiness.checks.iter().all(|check| check.state == CheckState::Ok) => {}
            other => return Err(format!("/readyz of the leader says {other:?}")),
        }
        if said.gauge("leader") != Some(1.0) {
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
        let counted = status.trunks.is_some_and(|t| (t.total, t.registered, t.leaving) == (count, count, 0));
        if !counted || !status.failures.is_empty() || status.observed_generation != Some(cluster.generation) {
            return Err(format!("the status has {:?}, {} failures", status.trunks, status.failures.len()));
        }
        if cluster.holder.as_deref() != Some(leader) {
            return Err(format!("{leader} leads, and the Lease has {:?}", cluster.holder));
        }
        Ok(())
    }

    /// What each says of the Lease.
    pub fn leases(&self) -> [Option<String>; 2] {
        [0, 1].map(|index: usize| {
            let said = self.replicas[index].as_ref()?;
            Some(said.lease().map_or_else(|| format!("{:?}", said.ready), |(_, words)| words.to_owned()))
        })
    }
}

/// Everything seen since the last [`Watch::begin`].
#[derive(Default)]
pub struct Seen {
    pub samples: Vec<Sample>,
    /// What was not true, each with how often; and the fewest bindings.
    pub table: TableSeen,
}

/// Where to look.
pub struct Places {
    pub public: [u16; 2],
    pub private: [u16; 2],
    pub table: LocationTable,
    pub client: Client,
    pub namespace: String,
    /// What goes to the Requester.
    pub flows: Arc<Mutex<Vec<Arc<Flow>>>>,
}

/// The watcher. Ends when it is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    facts: Arc<Mutex<Facts>>,
    samples: watch::Receiver<Option<Arc<Sample>>>,
    looks: watch::Receiver<Option<Arc<Look>>>,
    _end: DropGuard,
}

impl Watch {
    pub fn start(places: Places, facts: Facts) -> Self {
        let (seen, facts) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Mutex::new(facts)));
        let (say_sample, samples) = watch::channel(None);
        let (say_look, looks) = watch::channel(None);
        let nothing = (Instant::now(), Err("not asked so far".to_owned()));
        let (say_cluster, clusters) = watch::channel(nothing);
        let end = CancellationToken::new();
        let places = Arc::new(places);
        let eyes = Eyes {
            places: places.clone(),
            seen: seen.clone(),
            facts: facts.clone(),
            samples: samples.clone(),
            looks: looks.clone(),
        };
        let asking = ask_on(places, say_cluster);
        tokio::spawn(end.clone().run_until_cancelled_owned(asking));
        tokio::spawn(end.clone().run_until_cancelled_owned(eyes.clone().sample_on(clusters, say_sample)));
        tokio::spawn(end.clone().run_until_cancelled_owned(eyes.look_on(say_look)));
        Self { seen, facts, samples, looks, _end: end.drop_guard() }
    }

    /// Forgets what was seen so far.
    pub fn begin(&self) {
        *self.seen() = Seen::default();
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// What is known beside what is seen.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.facts)
    }

    /// The last look.
    pub fn last(&self) -> Option<Arc<Sample>> {
        self.samples.borrow().clone()
    }

    /// Waits for a look that begins from now on and satisfies this.
    pub async fn until_sample(
        &mut self,
        deadline: Duration,
        mut good: impl FnMut(&Sample) -> Result<(), String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        let good = |sample: &Sample| if sample.at < began { Err("old".into()) } else { good(sample) };
        until(&mut self.samples, deadline, good).await
    }

    /// The same for looks at all trunks.
    pub async fn until_look(
        &mut self,
        deadline: Duration,
        mut good: impl FnMut(&Look) -> Result<(), String>,
    ) -> Result<(), String> {
        let began_ms = unix_ms();
        let good = |look: &Look| if look.at_ms < began_ms { Err("old".into()) } else { good(look) };
        until(&mut self.looks, deadline, good).await
    }

    /// What was seen, one line for each look.
    pub fn protocol(&self) -> String {
        let seen = self.seen();
        let Some(first) = seen.samples.first() else { return String::new() };
        let line = |sample: &Sample| {
            let cluster = sample.cluster.1.as_ref().map(|cluster| {
                let conditions: Vec<String> = cluster
                    .status
                    .conditions
                    .iter()
                    .map(|found| format!("{}={}/{}", found.type_, found.status, found.reason))
                    .collect();
                format!("{:?} {:?} {}", cluster.holder, cluster.status.trunks, conditions.join(" "))
            });
            format!(
                "{:8.2} {:?} sent {:?} bound {:?} {:?} | {cluster:?} | {:?}\n",
                (sample.at - first.at).as_secs_f64(),
                sample.leases(),
                sample.sent,
                sample.bound,
                sample.led().and_then(Said::summary).map(brief),
                sample.vitals.map(|vitals| vitals.map(|vitals| (vitals.rss, vitals.descriptors))),
            )
        };
        seen.samples.iter().map(line).collect()
    }
}

/// Asks the API server of Kubernetes, on a way of its own.
async fn ask_on(places: Arc<Places>, say: watch::Sender<(Instant, Result<Arc<Cluster>, String>)>) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let registries: Api<Registry> = Api::namespaced(places.client.clone(), &places.namespace);
    let leases: Api<Lease> = Api::namespaced(places.client.clone(), &places.namespace);
    loop {
        ticks.tick().await;
        let at = Instant::now();
        let both = async { tokio::try_join!(registries.get(NAME), leases.get_opt(RELEASE)) };
        let answer = match timeout(ANSWER, both).await {
            Ok(Ok((registry, lease))) => {
                let holder = lease.and_then(|lease| lease.spec?.holder_identity);
                let pod = |holder: String| holder.rsplit_once('_').map(|(pod, _)| pod.to_owned());
                Ok(Arc::new(Cluster {
                    generation: registry.metadata.generation.unwrap_or_default(),
                    status: registry.status.unwrap_or_default(),
                    holder: holder.and_then(pod),
                }))
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer in {ANSWER:?}")),
        };
        drop(say.send_replace((at, answer)));
    }
}

#[derive(Clone)]
struct Eyes {
    places: Arc<Places>,
    seen: Arc<Mutex<Seen>>,
    facts: Arc<Mutex<Facts>>,
    samples: watch::Receiver<Option<Arc<Sample>>>,
    looks: watch::Receiver<Option<Arc<Look>>>,
}

impl Eyes {
    async fn sample_on(
        self,
        clusters: watch::Receiver<(Instant, Result<Arc<Cluster>, String>)>,
        say: watch::Sender<Option<Arc<Sample>>>,
    ) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut judge = truth::Judge::default();
        loop {
            ticks.tick().await;
            let before = lock(&self.facts).clone();
            let cluster = clusters.borrow().clone();
            let sample = self.sample(&before, cluster).await;
            let now = lock(&self.facts).clone();
            judge.sample(&sample, &before, &now, &mut lock(&self.seen).table);
            lock(&self.seen).samples.push(sample.clone());
            say.send_replace(Some(Arc::new(sample)));
        }
    }

    async fn sample(&self, facts: &Facts, cluster: (Instant, Result<Arc<Cluster>, String>)) -> Sample {
        let at = Instant::now();
        // Before they are asked who leads: whoever did not lead then must not have sent this.
        let sent = self.sent(facts);
        let [first, second] = [0, 1].map(|index: usize| self.ask(index, facts));
        let (first, second) = tokio::join!(first, second);
        let of = |alive: Option<crate::truth::Alive>| alive.and_then(|alive| vitals(alive.pid));
        let bindings = self.looks.borrow().as_ref().and_then(|look| Some(look.bindings.as_ref()?.len()));
        Sample {
            at,
            replicas: [first, second],
            vitals: facts.replicas.map(of),
            requester: of(facts.requester),
            sent,
            cluster,
            bound: bindings,
        }
    }

    async fn ask(&self, index: usize, facts: &Facts) -> Option<Said> {
        if facts.replicas[index].is_none() || facts.frozen[index] {
            return None;
        }
        let (public, private) = (self.places.public[index], self.places.private[index]);
        Some(Said {
            live: http::get(public, "/livez").await.map(|(code, _)| code),
            ready: http::get(public, "/readyz").await.and_then(|(code, body)| Ok((code, json(&body)?))),
            metrics: http::get(public, "/metrics").await.map(|(_, body)| figures(&body)),
            registries: http::get(private, "/registries").await.and_then(|(_, body)| json(&body)),
        })
    }

    /// Bytes by replica, and those of unknown origin.
    fn sent(&self, facts: &Facts) -> [usize; 3] {
        let flows = self.places.flows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if flows.iter().any(|flow| flow.owner.get().is_none()) {
            for (index, alive) in facts.replicas.iter().enumerate() {
                let ports = alive.map(|alive| ports_of(alive.pid)).unwrap_or_default();
                for flow in flows.iter().filter(|flow| ports.contains(&flow.from)) {
                    let _ = flow.owner.set(index);
                }
            }
        }
        let mut sent = [0; 3];
        for flow in flows {
            sent[flow.owner.get().copied().unwrap_or(2)] += flow.sent();
        }
        sent
    }

    async fn look_on(self, say: watch::Sender<Option<Arc<Look>>>) {
        let mut ticks = interval(TABLE_PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut judge = TableJudge::default();
        loop {
            ticks.tick().await;
            let before = lock(&self.facts).clone();
            let leader = self.samples.borrow().as_ref().and_then(|sample| sample.leader());
            let leader =
                leader.filter(|leader| !before.frozen[*leader] && before.replicas[*leader].is_some());
            let look = self.look(leader).await;
            let now = lock(&self.facts).clone();
            if before == now {
                judge.look(&look, &now.about_table(leader), &mut lock(&self.seen).table);
            }
            say.send_replace(Some(Arc::new(look)));
        }
    }

    async fn look(&self, leader: Option<usize>) -> Look {
        let at_ms = unix_ms();
        let trunks = match leader {
            Some(leader) => list(self.places.private[leader]).await.ok().map(|pages| {
                let all = pages.into_iter().flat_map(|page| page.items);
                all.map(|trunk| (trunk.reference.clone(), trunk)).collect()
            }),
            None => None,
        };
        let patience = timeout(Duration::from_secs(2), self.places.table.bindings());
        Look { at_ms, trunks, bindings: patience.await.ok().and_then(Result::ok) }
    }
}
