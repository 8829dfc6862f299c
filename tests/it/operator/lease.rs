//! Electors of the library on a real API server, with no more rights than they ask for.

use std::time::Duration;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use routr_registry::operator::lease::{Elector, LeaseSettings, Standing, Term};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    control_plane::{ControlPlane, Namespace},
    wait::wait_for,
};

const SOON: Duration = Duration::from_secs(30);

struct Candidate {
    elector: Elector,
    standing: watch::Sender<Standing>,
}

/// One that waits for its term in a task of its own.
struct Waiting {
    standing: watch::Receiver<Standing>,
    task: JoinHandle<Term>,
}

impl Waiting {
    async fn stands(&mut self, what: &str, passes: impl FnMut(&Standing) -> bool) -> Standing {
        let found = timeout(SOON, self.standing.wait_for(passes)).await;
        found.unwrap_or_else(|_| panic!("not in time: {what}")).expect("the candidate lives").clone()
    }

    async fn leads_within(self, limit: Duration) -> Term {
        timeout(limit, self.task).await.expect("leads in time").expect("leads")
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
        Self { elector: Elector::new(client, &settings), standing: watch::Sender::default() }
    }

    fn wait(mut self) -> Waiting {
        let standing = self.standing.subscribe();
        let task = tokio::spawn(async move {
            let shutdown = CancellationToken::new();
            self.elector.next_term(&shutdown, &self.standing).await.expect("no shutdown")
        });
        Waiting { standing, task }
    }
}

fn follows(leader: &'static str) -> impl FnMut(&Standing) -> bool {
    move |standing| *standing == Standing::Following { leader: Some(leader.to_owned()) }
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
    let blind = a.stands("blind", |standing| matches!(standing, Standing::Blind { .. })).await;
    let Standing::Blind { problem } = blind else { unreachable!() };
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
    let first = a.leads_within(SOON).await;

    let mut b = Candidate::new(&namespace, &config, "registry-1").await.wait();
    b.stands("follows the first", follows("registry-0")).await;
    first.release().await;
    let second = b.leads_within(Duration::from_secs(2)).await;
    assert!(second.still_valid());

    // It dies without a word.
    let mut c = Candidate::new(&namespace, &config, "registry-2").await.wait();
    c.stands("follows the second", follows("registry-1")).await;
    drop(second);
    let died = Instant::now();
    let third = c.leads_within(Duration::from_secs(15)).await;
    assert!(
        died.elapsed() >= Duration::from_secs(7),
        "not while the second could have sent: {:?}",
        died.elapsed()
    );

    // Nobody may lead beside it, and a deletion of the Lease does not end its term.
    plane.kubectl(["delete", "lease", "routr-registry", &within]).await.ok();
    let holder = async || {
        let lease = plane.kubectl(["get", "lease", "routr-registry", &within, "--output=json"]).await;
        if !lease.success() {
            return Err(lease.to_string());
        }
        Ok(lease.json()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let holder = wait_for(holder, SOON, "the Lease to be created anew").await;
    assert!(holder.starts_with("registry-2_"), "{holder}");
    assert!(third.still_valid());

    let asked = plane.audit_of(&namespace, "elector");
    assert!(
        asked.iter().all(|access| ["get", "create", "update"].contains(&access.verb.as_str())),
        "{asked:?}"
    );
}
