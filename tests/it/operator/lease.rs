//! Electors of the library on a real API server, with no more rights than they ask for.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use routr_leader_election::{LeaderElector, Leadership, LeadershipStatus, LeaseSettings};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::replicas::History;
use crate::support::control_plane::{ControlPlane, Namespace};
use crate::support::wait::{PATIENCE, wait_for};

const SOON: Duration = PATIENCE;

struct Candidate {
    elector: LeaderElector,
    standing: watch::Sender<LeadershipStatus>,
}

/// One that waits for its term in a task of its own.
struct Waiting {
    standing: watch::Receiver<LeadershipStatus>,
    task: JoinHandle<Leadership>,
}

impl Waiting {
    async fn stands(
        &mut self,
        what: &str,
        passes: impl FnMut(&LeadershipStatus) -> bool,
    ) -> LeadershipStatus {
        let found = timeout(SOON, self.standing.wait_for(passes)).await;
        found.unwrap_or_else(|_| panic!("not in time: {what}")).expect("the candidate lives").clone()
    }

    async fn leads(self) -> Leadership {
        timeout(SOON, self.task).await.expect("leads in time").expect("leads")
    }
}

impl Candidate {
    async fn new(namespace: &Namespace, config: &std::path::Path, identity: &str) -> Self {
        let kubeconfig = Kubeconfig::read_from(config).expect("read the kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a configuration")).expect("a client");
        let settings = LeaseSettings {
            namespace: namespace.name().to_owned(),
            name: "routr-registry".to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(10),
        };
        Self { elector: LeaderElector::new(client, &settings), standing: watch::Sender::default() }
    }

    fn wait(mut self) -> Waiting {
        let standing = self.standing.subscribe();
        let task = tokio::spawn(async move {
            let shutdown = CancellationToken::new();
            self.elector.acquire(&shutdown, &self.standing).await.expect("no shutdown")
        });
        Waiting { standing, task }
    }
}

/// Holder, time of the last renewal, and since when it holds it.
type LeaseRecord = (String, Timestamp, Timestamp);

fn record(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let holder = holder.rsplit_once('_').map_or(&*holder, |(pod, _)| pod).to_owned();
    let time = |time: Option<MicroTime>| time.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    (holder, time(spec.renew_time), time(spec.acquire_time))
}

fn follows(leader: &'static str) -> impl FnMut(&LeadershipStatus) -> bool {
    move |standing| *standing == LeadershipStatus::Following { leader: Some(leader.to_owned()) }
}

#[tokio::test]
async fn a_lease_is_handed_over_at_once_and_left_to_run_out_after_a_kill() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("lease").await;
    let within = format!("--namespace={}", namespace.name());
    plane.kubectl(["create", "serviceaccount", "elector", &within]).await.ok();
    let config = plane.service_account_kubeconfig(&namespace, "elector").await;

    // Without any right: it says so, and which is missing.
    let mut a = Candidate::new(&namespace, &config, "registry-0").await.wait();
    let blind =
        a.stands("blind", |standing| matches!(standing, LeadershipStatus::LeaseUnavailable { .. })).await;
    let LeadershipStatus::LeaseUnavailable { problem } = blind else { unreachable!() };
    assert!(problem.contains("needs a Role") && problem.contains("verbs [get, update]"), "{problem}");

    let roles = [
        [
            "create",
            "role",
            "named",
            "--verb=get,update",
            "--resource=leases",
            "--resource-name=routr-registry",
        ]
        .as_slice(),
        ["create", "role", "new", "--verb=create", "--resource=leases"].as_slice(),
    ];
    let account = format!("--serviceaccount={}:elector", namespace.name());
    for role in roles {
        plane.kubectl(role.iter().copied().chain([within.as_str()])).await.ok();
        let bound = format!("--role={}", role[2]);
        plane.kubectl(["create", "rolebinding", role[2], &bound, &account, &within]).await.ok();
    }
    let records =
        History::within(plane, namespace.name(), "routr-registry", |lease: &Lease| record(lease)).await;
    let first = a.leads().await;

    let mut b = Candidate::new(&namespace, &config, "registry-1").await.wait();
    b.stands("follows the first", follows("registry-0")).await;
    first.release().await;
    let second = b.leads().await;
    assert!(second.fence().holds());
    // It was let go, and did not run out.
    let held = async |holder: &'static str| {
        let look = async || {
            let mut all: Vec<String> = records.all().into_iter().map(|(_, record)| record.0).collect();
            all.dedup();
            if all.last().is_some_and(|last| last == holder) { Ok(all) } else { Err(format!("{all:?}")) }
        };
        wait_for(look, SOON, holder).await
    };
    assert_eq!(held("registry-1").await, ["registry-0", "", "registry-1"]);

    // It dies without a word.
    let mut c = Candidate::new(&namespace, &config, "registry-2").await.wait();
    c.stands("follows the second", follows("registry-1")).await;
    drop(second);
    let third = c.leads().await;
    held("registry-2").await;
    // Not while the second could have sent, by what both have written: it had ten seconds from its last
    // renewal on.
    let records: Vec<LeaseRecord> = records.all().into_iter().map(|(_, record)| record).collect();
    let (_, renewed, _) = records.iter().rfind(|record| record.0 == "registry-1").unwrap();
    let (_, _, acquired) = records.iter().rfind(|record| record.0 == "registry-2").unwrap();
    assert!(acquired.duration_since(*renewed) >= SignedDuration::from_secs(10), "{records:#?}");

    // No one may lead beside it, and a deletion of the Lease does not end its term.
    plane.kubectl(["delete", "lease", "routr-registry", &within]).await.ok();
    let holder = async || {
        let lease = plane.kubectl(["get", "lease", "routr-registry", &within, "--output=json"]).await;
        if !lease.success() {
            return Err(lease.to_string());
        }
        Ok(lease.json()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let holder = wait_for(holder, SOON, "the Lease to be created again").await;
    assert!(holder.starts_with("registry-2_"), "{holder}");
    assert!(third.fence().holds());

    let asked = plane.audit_of(&namespace, "elector");
    assert!(
        asked.iter().all(|access| ["get", "create", "update"].contains(&access.verb.as_str())),
        "{asked:?}"
    );
}
