//! Everything that runs: two replicas of the operator as the chart starts them, the dependencies of their one
//! Registry, and the watcher. The control plane is lent.

use std::collections::BTreeMap;
use std::time::Duration;

use routr_environment::unix_ms;
use serde_json::json;
use tokio::sync::watch::Sender;
use tokio::time::Instant;

use super::sample::{NAME, PODS, Sample};
use super::truth::Facts;
use super::watch::Places;
use crate::link::Link;
use crate::parts::{Api, EXPIRES, INSTANCE, Requester, START, password, trunk};
use crate::standalone::world::{
    CPU_SPAN, TO_REST, Usual, call_ids, discreet, one_each, redis_password, refreshed, secrets,
};
use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, Operator};
use crate::support::kamailio::{Kamailio, Options, User};
use crate::support::redis::{Options as RedisOptions, Redis};
use crate::vitals::{Vitals, alive};
use crate::watch::{Look, Watch};

/// Of the Lease: a leader that cannot renew it stops after 3.5 s, and another one leads 5 to 6.5 s after its
/// last renewal.
const LEASE: &str = "operator.leaseDurationSeconds=5";

/// The wires.
pub struct Wires {
    /// Between both replicas and the API server of Kubernetes.
    pub kubernetes: Link,
    pub requester: Link,
}

/// Two replicas of the operator, the dependencies of their Registry, and the watcher.
pub struct World<'a> {
    pub users: Vec<String>,
    pub kamailio: Kamailio,
    pub redis: Redis,
    pub api: Api,
    pub requester: Requester,
    pub replicas: [Operator; 2],
    pub wires: Wires,
    pub watch: Watch<Places>,
    /// A replica that leads, and the Requester.
    pub usual: (Usual, Usual),
    secrets: Vec<String>,
    cluster: Installation<'a>,
    pub plane: &'a ControlPlane,
}

impl<'a> World<'a> {
    /// Starts everything and waits until all trunks are registered and were refreshed.
    pub async fn start(plane: &'a ControlPlane, count: usize) -> Result<Self, String> {
        let users: Vec<String> = (0..count).map(|n| format!("user{n:04}")).collect();
        let accounts = users.iter().map(|user| User::new(user, password(user))).collect();
        let kamailio = Kamailio::start(Options { users: accounts, ..Options::default() }).await;
        let redis = Redis::start(RedisOptions { password: redis_password(), persistent: false }).await;
        let transports = ["UDP", "tcp"].into_iter().cycle();
        let trunks =
            users.iter().zip(transports).map(|(user, transport)| trunk(user, kamailio.udp_port(), transport));
        let api = Api::start(trunks.collect()).await;
        let requester = Requester::start().await;
        let wires = Wires { kubernetes: Link::new(plane.port()), requester: Link::new(requester.port()) };
        let cluster = Installation::on(plane, "chaos", &[LEASE]).await;
        let kubeconfig = cluster.kubeconfig_by(wires.kubernetes.port()).await;
        let replicas = PODS.map(|pod| cluster.start_as(&kubeconfig, pod, &[]));
        let places = Places {
            public: [replicas[0].public, replicas[1].public],
            private: [replicas[0].private, replicas[1].private],
            table: kamailio.table_of_bindings(),
            client: plane.client().await,
            namespace: cluster.namespace.name().to_owned(),
            flows: wires.requester.flows(),
            cluster: Sender::new((Instant::now(), Err("not asked so far".to_owned()))),
        };
        let facts = Facts {
            replicas: [None; 2],
            frozen: [false; 2],
            limits: [None; 2],
            requester: None,
            cluster_broken: false,
            suspects: vec!["kubernetes"],
            table_lost_ms: unix_ms(),
            call_ids: call_ids(&users),
        };
        let watch = Watch::start(places, facts);
        let mut world = Self {
            secrets: secrets(&users),
            users,
            kamailio,
            redis,
            api,
            requester,
            replicas,
            wires,
            watch,
            usual: Default::default(),
            cluster,
            plane,
        };
        world.note_lives();
        world.apply_registry().await;
        world.all_well(2 * START).await?;
        world.warm_up().await?;
        Ok(world)
    }

    /// The password of Redis in a Secret, as it should be.
    async fn apply_registry(&self) {
        let password = format!("--from-literal=password={}", redis_password());
        self.cluster.kubectl(&["create", "secret", "generic", "redis", &password]).await.ok();
        let manifest = json!({
            "apiVersion": "routr.io/v2beta1",
            "kind": "Registry",
            "metadata": { "name": NAME },
            "spec": {
                "instanceId": INSTANCE,
                "apiAddr": format!("127.0.0.1:{}", self.api.port()),
                "apiTimeout": "2s",
                "requesterAddr": format!("127.0.0.1:{}", self.wires.requester.port()),
                // Also how long before its expiry a binding is refreshed: longer than another replica needs
                // to take over.
                "registerInterval": "8s",
                "methods": ["INVITE", "MESSAGE"],
                "cache": {
                    "provider": "redis",
                    "parameters": format!("host=127.0.0.1,port={}", self.redis.port()),
                    "passwordSecretRef": { "name": "redis", "key": "password" },
                },
                "edgePorts": [{ "address": "198.51.100.7:5060" }],
                // Kamailio is never silent here: so a silent Requester is told sooner.
                "registration": { "expires": format!("{EXPIRES}s"), "ratePerRegistrar": "unlimited", "timeout": "6s" },
            },
        });
        self.cluster.apply_manifest(&manifest.to_string()).await;
    }

    /// From now on the processes that run must not end.
    pub fn note_lives(&self) {
        let mut facts = self.watch.facts();
        for (place, replica) in facts.replicas.iter_mut().zip(&self.replicas) {
            *place = alive(replica.service.pid());
        }
        facts.requester = alive(self.requester.pid());
    }

    async fn warm_up(&mut self) -> Result<(), String> {
        let mut before: Option<BTreeMap<String, u64>> = None;
        let refreshed = |look: &Look| refreshed(&mut before, look.bindings.as_deref().unwrap_or_default());
        self.watch.until_look(Duration::from_secs(60), refreshed).await?;
        let (mut first, mut usual): (Option<Sample>, _) = (None, Default::default());
        let measure = |sample: &Sample| {
            let first = first.get_or_insert_with(|| sample.clone());
            if sample.at - first.at < 2 * CPU_SPAN {
                return Err("the figures are being taken".to_owned());
            }
            // Either may lead in the end.
            let [one, other, requester] = needs(first, sample)?;
            usual = (one.or_more(other), requester);
            Ok(())
        };
        self.watch.until_sample(START, measure).await?;
        self.usual = usual;
        Ok(())
    }

    /// Waits until Kamailio has exactly one contact for each trunk, and all places say that all is well.
    pub async fn all_well(&mut self, deadline: Duration) -> Result<(), String> {
        let count = self.users.len() as u64;
        self.watch.until_sample(deadline, |sample| sample.well(count)).await?;
        let users = &self.users;
        let one_each =
            |look: &Look| one_each(look.bindings.as_deref().ok_or("Kamailio does not answer")?, users);
        self.watch.until_look(3 * CPU_SPAN, one_each).await.map(drop)
    }

    /// Waits until the processes need no more than after the warm-up.
    pub async fn at_rest(&mut self) -> Result<(), String> {
        let (replica, requester) = self.usual;
        let mut kept: Vec<Sample> = Vec::new();
        let rests = |sample: &Sample| {
            kept.push(sample.clone());
            let Some(first) = kept.iter().rev().find(|old| sample.at - old.at >= CPU_SPAN) else {
                return Err("the figures are being taken".to_owned());
            };
            let [one, other, sends] = needs(first, sample)?;
            replica.allows(PODS[0], one)?;
            replica.allows(PODS[1], other)?;
            requester.allows("the Requester", sends)
        };
        self.watch.until_sample(TO_REST, rests).await.map(drop)
    }

    /// Looks for passwords and for panics in all that was said.
    pub async fn assert_discreet(&self) -> Result<(), String> {
        let objects = ["get", "registries,events.events.k8s.io,leases", "--output=json"];
        let said = [
            ("the log of pod-a", self.replicas[0].service.output()),
            ("the log of pod-b", self.replicas[1].service.output()),
            ("the log of the Requester", self.requester.output()),
            ("what Kubernetes has", self.cluster.kubectl(&objects).await.ok()),
        ];
        discreet(&said, &self.secrets)
    }

    /// Returns what is worth keeping after a failure: file names with their contents.
    pub fn logs(&self) -> Vec<(&'static str, String)> {
        let of_plane =
            |name: &str| std::fs::read_to_string(self.plane.folder().join(name)).unwrap_or_default();
        vec![
            ("pod-a.log", self.replicas[0].service.output()),
            ("pod-b.log", self.replicas[1].service.output()),
            ("requester.log", self.requester.output()),
            ("kamailio.log", self.kamailio.log()),
            ("kube-apiserver.log", of_plane("kube-apiserver.log")),
            ("etcd.log", of_plane("etcd.log")),
            ("looks.txt", self.watch.protocol()),
        ]
    }
}

/// Returns what both replicas and the Requester needed between two looks.
fn needs(first: &Sample, last: &Sample) -> Result<[Usual; 3], String> {
    let between =
        |of: fn(&Sample) -> Option<Vitals>| Usual::between((first.at, of(first)), (last.at, of(last)));
    Ok([between(|s| s.vitals[0])?, between(|s| s.vitals[1])?, between(|s| s.requester)?])
}
