//! An API server, a Requester and a Redis that fail.

use std::time::Duration;

use routr_registry::devstack::api::{Fault, Rpc};
use routr_registry::devstack::registrar::Behaviour;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tonic::Code;

use super::{Case, Expected, SIX};
use crate::operator::harness::{Installation, TestRegistry, condition};
use crate::operator::kube_client::{KubeClient, brief, spec, spec_with};
use crate::operator::table;
use crate::standalone::test_registry::listen;
use crate::support::redis::{Options, Redis};

/// Accepts on that port and says this, or nothing at all, until it is dropped, and its connections with it.
async fn stranger(port: u16, says: &'static [u8]) -> JoinSet<()> {
    let listener = listen(port).await;
    let mut all = JoinSet::new();
    all.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut buffer = [0; 1024];
                let _ = socket.read(&mut buffer).await;
                let _ = socket.write_all(says).await;
                if says.is_empty() {
                    while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                }
            });
        }
    });
    all
}

const API_DOWN: [Expected; 3] = [
    ("Ready", "True", "AllRegistered", "changes of trunks are not seen: see APIReachable"),
    ("Reconciling", "False", "Settled", ""),
    ("Stalled", "False", "NotStalled", ""),
];

fn api(reason: &'static str, part: &'static str) -> Vec<Expected> {
    API_DOWN.into_iter().chain([("APIReachable", "False", reason, part)]).collect()
}

fn requester(reason: &'static str, part: &'static str) -> Vec<Expected> {
    vec![
        ("Ready", "False", "RequesterUnreachable", "the Requester does not work"),
        ("Reconciling", "False", "RequesterUnreachable", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("APIReachable", "True", "Reachable", ""),
        ("RequesterReachable", "False", reason, part),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependencies_that_fail_are_told_and_nobody_else_is_disturbed() {
    let cluster = Installation::shared("dependencies").await;
    let kube = KubeClient::on(&cluster).await;
    let _operator = cluster.start("pod-a");
    let healthy = TestRegistry::with(&["a", "b"]).await;
    // Refreshed after 12 to 15 s, with as much to spare.
    healthy.registrar.behave_all(Behaviour::ClaimExpires(30));
    kube.create("healthy", spec_with(&healthy, json!({ "registerInterval": "15s" }))).await;
    kube.conditions("healthy", &[("Ready", "True", "AllRegistered")]).await;
    let history = kube.remember();
    let began = healthy.registrar.elapsed();
    tokio::join!(
        api_faults(&kube),
        requester_faults(&kube),
        cache_faults(&kube),
        never_there(&kube, &cluster),
    );
    // Meanwhile the healthy one was refreshed in its time, and was never anything but ready.
    let log = healthy.registrar.log();
    for user in ["a", "b"] {
        let times: Vec<Duration> = log
            .iter()
            .filter(|seen| seen.user == user && seen.code == Some(200))
            .map(|seen| seen.at)
            .collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        // No binding has expired.
        assert!(gaps < Duration::from_secs(30), "{user}: {times:?}");
        assert!(times.iter().any(|at| *at > began), "{user} was not refreshed: {times:?}");
    }
    for written in history.of("healthy") {
        assert_eq!(condition(&written.status, "Ready")["status"], "True", "{}", brief(&written.status));
    }
}

async fn api_faults(kube: &KubeClient) {
    let down = Case::new(kube, "api-down", "the API server is down", &["a"]).await;
    let hangs = Case::new(kube, "api-hangs", "the API server hangs", &["a"])
        .await
        .with(json!({ "apiTimeout": "3s" }));
    let refuses = Case::new(kube, "api-refuses", "the API server refuses the call", &["a"]).await;
    let garbage =
        Case::new(kube, "api-garbage", "something else answers in the API server's place", &["a"]).await;
    let well = async |stage: &mut TestRegistry| stage.api.set_fault(Rpc::FindBy, None);
    let events = ["APIUnreachable", "APIReachable"];
    let (down_says, hangs_says) = (api("Unreachable", ""), api("Timeout", ""));
    let (refuses_says, garbage_says) = (api("Refused", "not you"), api("Unreachable", ""));
    tokio::join!(
        down.run(
            async |stage: &mut TestRegistry| stage.stop_api().await,
            &down_says,
            async |stage: &mut TestRegistry| stage.start_api().await,
            &events
        ),
        hangs.run(
            async |stage: &mut TestRegistry| stage.api.set_fault(Rpc::FindBy, Some(Fault::Hang)),
            &hangs_says,
            well,
            &events
        ),
        refuses.run(
            async |stage: &mut TestRegistry| {
                let fault = Fault::Refuse(Code::PermissionDenied, "not you".to_owned());
                stage.api.set_fault(Rpc::FindBy, Some(fault));
            },
            &refuses_says,
            well,
            &events,
        ),
        async {
            let other = std::sync::Mutex::new(None);
            garbage
                .run(
                    async |stage: &mut TestRegistry| {
                        stage.stop_api().await;
                        let nonsense = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
                        *other.lock().unwrap() = Some(stranger(stage.api_port, nonsense).await);
                    },
                    &garbage_says,
                    async |stage: &mut TestRegistry| {
                        drop(other.lock().unwrap().take());
                        stage.start_api().await;
                    },
                    &events,
                )
                .await;
        },
    );
}

async fn requester_faults(kube: &KubeClient) {
    let down = Case::new(kube, "requester-down", "the Requester is down", &["a"]).await;
    let hangs = Case::new(kube, "requester-hangs", "the Requester accepts and says nothing", &SIX).await;
    // It shows when something is due.
    hangs.stage.registrar.behave_all(Behaviour::ClaimExpires(16));
    let hangs = hangs.with(json!({ "registration": { "timeout": "3s" } }));
    let other = Case::new(kube, "requester-other", "requesterAddr is that of the API server", &SIX).await;
    other.stage.registrar.behave_all(Behaviour::ClaimExpires(16));
    let events = ["RequesterUnreachable", "RequesterReachable", "Ready"];
    let (down_says, hangs_says) = (requester("Unreachable", ""), requester("Unreachable", ""));
    let other_says = requester("Refused", "");
    let (right, wrong) = (other.stage.requester_port, other.stage.api_port);
    tokio::join!(
        down.run(
            async |stage: &mut TestRegistry| stage.stop_requester().await,
            &down_says,
            async |stage: &mut TestRegistry| stage.start_requester().await,
            &events,
        ),
        async {
            let other = std::sync::Mutex::new(None);
            hangs
                .run(
                    async |stage: &mut TestRegistry| {
                        stage.stop_requester().await;
                        *other.lock().unwrap() = Some(stranger(stage.requester_port, b"").await);
                    },
                    &hangs_says,
                    async |stage: &mut TestRegistry| {
                        drop(other.lock().unwrap().take());
                        stage.start_requester().await;
                    },
                    &events,
                )
                .await;
        },
        other.run(
            async |_: &mut TestRegistry| {
                kube.change("requester-other", json!({ "requesterAddr": format!("127.0.0.1:{wrong}") }))
                    .await;
            },
            &other_says,
            async |_: &mut TestRegistry| {
                kube.change("requester-other", json!({ "requesterAddr": format!("127.0.0.1:{right}") }))
                    .await;
            },
            &events,
        ),
    );
}

async fn cache_faults(kube: &KubeClient) {
    let mut redis = Redis::start(Options::default()).await;
    let cache = json!({ "provider": "redis", "parameters": format!("host=127.0.0.1,port={}", redis.port()) });
    let down = Case::new(kube, "redis-down", "Redis is down", &["a"]).await.with(json!({ "cache": cache }));
    let expected = [
        ("Ready", "True", "AllRegistered", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("CacheReachable", "False", "Unreachable", "registrations continue from memory"),
    ];
    let redis = std::cell::RefCell::new(&mut redis);
    #[allow(clippy::await_holding_refcell_ref)]
    down.run(
        async |_: &mut TestRegistry| redis.borrow_mut().stop().await,
        &expected,
        async |_: &mut TestRegistry| redis.borrow_mut().restart().await,
        &["CacheUnreachable", "CacheReachable"],
    )
    .await;
}

/// Dependencies that were never there, and `kubectl wait`.
async fn never_there(kube: &KubeClient, cluster: &Installation<'_>) {
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["a", "b"]);
    kube.create("alone", spec(&stage)).await;
    let wait = ["wait", "--for=condition=Ready", "registry/alone", "--timeout=150s"];
    let repaired = async {
        let status = kube.conditions("alone", &[("Ready", "False", "APIUnreachable")]).await;
        table::row("the API server is not there at the start", &status);
        assert_eq!(condition(&status, "APIReachable")["status"], "False", "{}", brief(&status));
        assert_eq!(condition(&status, "RequesterReachable")["status"], "Unknown", "{}", brief(&status));
        assert_eq!(condition(&status, "Reconciling")["status"], "True", "{}", brief(&status));
        stage.start_api().await;
        let status = kube.conditions("alone", &[("Ready", "False", "RequesterUnreachable")]).await;
        table::row("the Requester is not there at the start", &status);
        assert_eq!(condition(&status, "APIReachable")["status"], "True", "{}", brief(&status));
        assert_eq!(status["trunks"]["total"], 2, "{}", brief(&status));
        stage.start_requester().await;
        kube.conditions("alone", &[("Ready", "True", "AllRegistered")]).await;
    };
    let (waited, ()) = tokio::join!(cluster.kubectl(&wait), repaired);
    assert!(waited.ok().contains("condition met"));
    let described = cluster.kubectl(&["describe", "registry", "alone"]).await.ok();
    for event in ["APIUnreachable", "RequesterUnreachable", "RequesterReachable", "Ready"] {
        assert!(described.contains(event), "{event}:\n{described}");
    }
}
