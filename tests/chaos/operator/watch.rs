//! The watcher: looks the whole time at what both replicas say, at the Registry and the Lease as the API
//! server of Kubernetes has them, at Kamailio's table, and at who sends anything to the Requester.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use routr_environment::unix_ms;
use routr_registry::spec::Registry;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::look::{Cluster, NAME, Said, Sample};
use super::truth::{self, Facts};
use crate::http;
use crate::link::Flow;
use crate::support::installation::RELEASE;
use crate::support::kamailio::LocationTable;
use crate::truth::TableJudge;
use crate::vitals::{ports_of, vitals};
use crate::watch::{Look, PACE, Seen as TableSeen, brief, figures, json, list, lock, until};

/// Between two looks at all trunks and at all bindings.
const TABLE_PACE: Duration = Duration::from_secs(1);
/// An API server of Kubernetes that takes longer does not answer.
const ANSWER: Duration = Duration::from_millis(1_500);
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
        let eyes = KubeClient {
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
struct KubeClient {
    places: Arc<Places>,
    seen: Arc<Mutex<Seen>>,
    facts: Arc<Mutex<Facts>>,
    samples: watch::Receiver<Option<Arc<Sample>>>,
    looks: watch::Receiver<Option<Arc<Look>>>,
}

impl KubeClient {
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
        // Before they are asked who leads: anyone who did not lead then must not have sent this.
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
