//! A look at the operator: at what both replicas say, at the Registry and the Lease as the API server of
//! Kubernetes has them, and at who sends anything to the Requester.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use routr_registry::spec::Registry;
use tokio::sync::watch::Sender;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::sample::{Cluster, NAME, Said, Sample};
use super::truth::{Facts, Judge};
use crate::http;
use crate::link::Flow;
use crate::support::installation::RELEASE;
use crate::support::kamailio::LocationTable;
use crate::table::TableFacts;
use crate::vitals::{Alive, ports_of, vitals};
use crate::watch::{self, Findings, Look, PACE, Watched, brief, figures, json};

/// An API server of Kubernetes that takes longer does not answer.
const ANSWER: Duration = Duration::from_millis(1_500);

/// Moment when the API server of Kubernetes was last asked, and its response.
pub type Asked = (Instant, Result<Arc<Cluster>, String>);

/// Places to look at.
pub struct Places {
    pub public: [u16; 2],
    pub private: [u16; 2],
    pub table: LocationTable,
    pub client: Client,
    pub namespace: String,
    /// Connections to the Requester.
    pub flows: Arc<Mutex<Vec<Arc<Flow>>>>,
    /// Last response of the API server of Kubernetes: it is asked beside the looks, for it may take its time.
    pub cluster: Sender<Asked>,
}

impl watch::Sample for Sample {
    fn at(&self) -> Instant {
        self.at
    }

    fn ended(&self) -> Instant {
        self.at + PACE
    }

    fn line(&self) -> String {
        let cluster = self.cluster.1.as_ref().map(|cluster| {
            let conditions: Vec<String> = cluster
                .status
                .conditions
                .iter()
                .map(|found| format!("{}={}/{}", found.type_, found.status, found.reason))
                .collect();
            format!("{:?} {:?} {}", cluster.holder, cluster.status.trunks, conditions.join(" "))
        });
        format!(
            "{:?} sent {:?} bound {:?} {:?} | {cluster:?} | {:?}",
            self.leases(),
            self.sent,
            self.bound,
            self.led().and_then(Said::summary).map(brief),
            self.vitals.map(|vitals| vitals.map(|vitals| (vitals.rss, vitals.descriptors))),
        )
    }
}

impl Places {
    async fn ask(&self, index: usize, facts: &Facts) -> Option<Said> {
        if facts.replicas[index].is_none() || facts.frozen[index] {
            return None;
        }
        let (public, private) = (self.public[index], self.private[index]);
        Some(Said {
            live: http::get(public, "/livez").await.map(|(code, _)| code),
            ready: http::get(public, "/readyz").await.and_then(|(code, body)| Ok((code, json(&body)?))),
            metrics: http::get(public, "/metrics").await.map(|(_, body)| figures(&body)),
            registries: http::get(private, "/registries").await.and_then(|(_, body)| json(&body)),
        })
    }

    /// Bytes by replica, and those of unknown origin.
    fn sent(&self, facts: &Facts) -> [usize; 3] {
        let flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
}

impl Watched for Places {
    type Sample = Sample;
    type Facts = Facts;
    type Judge = Judge;

    async fn sample(&self, facts: &Facts, _: &Mutex<Facts>, looked: Option<Arc<Look>>) -> Sample {
        let cluster = self.cluster.borrow().clone();
        let at = Instant::now();
        // Before they are asked who leads: anyone who did not lead then must not have sent this.
        let sent = self.sent(facts);
        let [first, second] = [0, 1].map(|index: usize| self.ask(index, facts));
        let (first, second) = tokio::join!(first, second);
        let of = |alive: Option<Alive>| alive.and_then(|alive| vitals(alive.pid));
        let bindings = looked.and_then(|look| Some(look.bindings.as_ref()?.len()));
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

    fn judge(
        &self,
        judge: &mut Judge,
        sample: &Sample,
        before: &Facts,
        now: &Facts,
        findings: &mut Findings,
    ) {
        judge.sample(sample, before, now, findings);
    }

    fn lister(&self, facts: &Facts, last: Option<&Sample>) -> Option<usize> {
        let leader = last.and_then(Sample::leader);
        leader.filter(|leader| !facts.frozen[*leader] && facts.replicas[*leader].is_some())
    }

    fn private(&self, index: usize) -> u16 {
        self.private[index]
    }

    fn table(&self) -> LocationTable {
        self.table
    }

    fn about_table<'a>(&self, facts: &'a Facts, leader: Option<usize>) -> TableFacts<'a> {
        facts.about_table(leader)
    }

    /// Asks the API server of Kubernetes.
    async fn run(&self) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let registries: Api<Registry> = Api::namespaced(self.client.clone(), &self.namespace);
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
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
            drop(self.cluster.send_replace((at, answer)));
        }
    }
}
