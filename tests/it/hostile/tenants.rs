//! One tenant cannot hurt another: Registries with malicious API servers and Requesters, beside honest ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::operator::harness::{
    Installation, Operator, PACE, RELEASE, SOON, TestRegistry, condition, manifest,
};
use crate::standalone::test_registry::{listen, trunk};
use crate::support::control_plane::{ControlPlane, Namespace};
use crate::support::http;
use crate::support::wait::{wait_at_pace, wait_until};

/// Time that the attack is watched, in seconds; the variable ATTACK_SECONDS has another number.
const ATTACK: u64 = 30;
/// Registries that want nothing but to be registered.
const HONEST: usize = 10;
/// Interval between two probes.
const PROBE_PACE: Duration = Duration::from_millis(100);
/// Time limit of the chart's liveness probe, and the failures in a row that end the pod.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_FAILURES: usize = 3;
/// Most memory that the operator may have at its worst, in MiB: the chart's limit is 512.
const MAX_PEAK: u64 = 400;

/// A gRPC server that responds to each call with bytes, or with «unimplemented»; it counts its calls, and
/// ends when it is dropped.
struct Raw {
    calls: Arc<AtomicUsize>,
    _end: DropGuard,
}

impl Raw {
    /// `respond` has the message for a method and the number of the call.
    async fn serve(
        port: u16,
        respond: impl Fn(&str, usize) -> Option<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let (listener, end, respond) = (listen(port).await, CancellationToken::new(), Arc::new(respond));
        let calls = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&calls);
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (respond, counted) = (Arc::clone(&respond), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, mut call))) = connection.accept().await {
                        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
                        let head = http_head().body(()).unwrap();
                        let Some(message) = respond(method, counted.fetch_add(1, Ordering::Relaxed)) else {
                            let refused = http_head().header("grpc-status", "12").body(()).unwrap();
                            drop(call.send_response(refused, true));
                            continue;
                        };
                        // Who does not take it may reset the stream.
                        let Ok(mut body) = call.send_response(head, false) else { continue };
                        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
                        drop(body.send_data(Bytes::from([&[0][..], &length].concat()), false));
                        drop(body.send_data(message, false));
                        let ok = ("grpc-status".parse().unwrap(), "0".parse().unwrap());
                        drop(body.send_trailers([ok].into_iter().collect()));
                    }
                });
            }
        };
        tokio::spawn(end.clone().run_until_cancelled_owned(serve));
        Self { calls, _end: end.drop_guard() }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

fn http_head() -> ::http::response::Builder {
    ::http::Response::builder().header("content-type", "application/grpc")
}

/// A field of a list.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

/// The hostile ones: what they send, for as long as this lives.
struct Attack {
    stages: Vec<(&'static str, TestRegistry)>,
    servers: Vec<Raw>,
}

impl Attack {
    async fn begin() -> Self {
        let (mut stages, mut servers) = (Vec::new(), Vec::new());
        // A trunk of 12 MB, six million URIs of nothing.
        let stage = TestRegistry::bare().await;
        let big = [trunk("big", "127.0.0.1", 9).encode_to_vec(), [0x5a, 0].repeat(6_000_000)].concat();
        let list = Bytes::from(field(1, &big));
        let serves = move |method: &str, _| (method == "FindBy").then(|| list.clone());
        servers.push(Raw::serve(stage.api_port, serves).await);
        stages.push(("big", stage));
        // Pages without end, each full of trunks that no page before had.
        let stage = TestRegistry::bare().await;
        let serves = |method: &str, call: usize| {
            let one = |n| field(1, &trunk(&format!("endless-{call}-{n}"), "127.0.0.1", 9).encode_to_vec());
            let trunks: Vec<u8> = (0..1_000).flat_map(one).collect();
            (method == "List").then(|| [trunks, field(2, format!("page-{call}").as_bytes())].concat().into())
        };
        servers.push(Raw::serve(stage.api_port, serves).await);
        stages.push(("endless", stage));
        // 120 MB of nothing.
        let stage = TestRegistry::bare().await;
        let nothing = Bytes::from([0x0a, 0].repeat(60_000_000));
        let serves = move |method: &str, _| ["FindBy", "List"].contains(&method).then(|| nothing.clone());
        servers.push(Raw::serve(stage.api_port, serves).await);
        stages.push(("nothing", stage));
        // 16 MB of nothing: the most that is taken at once, again and again.
        let stage = TestRegistry::bare().await;
        let most = Bytes::from([0x0a, 0].repeat((16 << 19) - 8));
        let serves = move |method: &str, _| (method == "FindBy").then(|| most.clone());
        servers.push(Raw::serve(stage.api_port, serves).await);
        stages.push(("most", stage));
        // A Requester whose responses are 4 MB of empty Record-Route.
        let mut stage = TestRegistry::bare().await;
        stage.trunks(&["a", "b", "c", "d", "e", "f"]);
        stage.start_api().await;
        let reply = Bytes::from(field(1, &[0x7a, 0].repeat(2_000_000)));
        servers.push(
            Raw::serve(stage.requester_port, move |method, _| {
                (method == "SendMessage").then(|| reply.clone())
            })
            .await,
        );
        stages.push(("replies", stage));
        Self { stages, servers }
    }
}

/// Returns the duration of each probe, and the most in a row that had no good response in time.
async fn probe(operator: &Operator, until: Instant) -> (Vec<Duration>, usize) {
    let url = format!("http://127.0.0.1:{}/livez", operator.public);
    let (mut all, mut failed, mut most) = (Vec::new(), 0, 0);
    while Instant::now() < until {
        let began = Instant::now();
        let answer = timeout(PROBE_TIMEOUT, http::get(&url)).await;
        failed = if matches!(answer, Ok(Ok((status, _))) if status == 200) { 0 } else { failed + 1 };
        most = most.max(failed);
        all.push(began.elapsed());
        sleep(PROBE_PACE).await;
    }
    all.sort_unstable();
    (all, most)
}

/// The most memory that the operator had at a time, in MiB.
fn peak_mib(operator: &Operator) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.service.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

async fn transitions(cluster: &Installation<'_>) -> Value {
    let lease = cluster.kubectl(&["get", "lease", RELEASE, "--output=json"]).await.json();
    lease["spec"]["leaseTransitions"].clone()
}

/// Waits until the condition of a Registry in any namespace has this status and reason. Returns its message.
async fn comes_to(
    plane: &ControlPlane,
    namespace: &Namespace,
    name: &str,
    kind: &str,
    wanted: (&str, &str),
) -> String {
    let look = async || {
        let args = ["get", "registry", name, "--output=json", "--namespace", namespace.name()];
        let shown = plane.kubectl(args).await;
        let registry: Value = serde_json::from_str(&shown.stdout).map_err(|_| shown.to_string())?;
        let found = condition(&registry["status"], kind);
        if (found["status"].as_str(), found["reason"].as_str()) == (Some(wanted.0), Some(wanted.1)) {
            Ok(found["message"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(format!("{:#}", registry["status"]))
        }
    };
    wait_at_pace(PACE, look, SOON, &format!("{kind} of {name} to be {wanted:?}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_registries_cost_the_honest_ones_nothing() {
    let plane = ControlPlane::shared().await;
    let (honest, hostile) = (plane.namespace("honest").await, plane.namespace("hostile").await);
    let watch = format!("watchNamespaces={{{},{}}}", honest.name(), hostile.name());
    let cluster = Installation::install(plane, honest, &["crds.install=false".to_owned(), watch]).await;
    let mut stages = Vec::new();
    for _ in 0..HONEST {
        stages.push(TestRegistry::with(&["alice", "bob"]).await);
    }
    for (number, stage) in stages.iter().enumerate() {
        cluster.apply(&format!("honest-{number}"), stage, "  registration: {expires: 10s}\n").await;
    }
    let operator = cluster.start("pod-a");
    for number in 0..stages.len() {
        cluster.condition(&format!("honest-{number}"), "Ready", "True", "AllRegistered").await;
    }
    let (led, idle) =
        (transitions(&cluster).await, probe(&operator, Instant::now() + Duration::from_secs(2)).await);
    assert_eq!(idle.1, 0, "{idle:?}");

    let attack = Attack::begin().await;
    for (name, stage) in &attack.stages {
        let bounds = "  sync: {maxPages: 1000000, maxTrunks: 10000000, maxBytes: 17179869184, maxTrunkBytes: 16777216}\n";
        let args = ["apply", "--server-side", "--namespace", hostile.name(), "-f", "-"];
        plane.kubectl_stdin(args, &manifest(name, stage, bounds)).await.ok();
    }
    let reached = async || attack.servers.iter().all(|server| server.calls() > 0);
    wait_until(reached, SOON, "each attacker to be called").await;
    let granted: Vec<_> = stages.iter().map(TestRegistry::granted).collect();
    let seconds = std::env::var("ATTACK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ATTACK);
    let (probes, failed) = probe(&operator, Instant::now() + Duration::from_secs(seconds)).await;
    assert!(failed < PROBE_FAILURES, "of {} probes: {}", probes.len(), operator.service.output());

    // Nothing has changed for the honest ones.
    assert_eq!(transitions(&cluster).await, led, "the Lease was lost: {}", operator.service.output());
    for (number, (stage, before)) in stages.iter().zip(&granted).enumerate() {
        assert!(!before.is_empty());
        let refreshed = async || {
            let after = stage.granted();
            let all = before.iter().all(|(user, count)| after[user] > *count);
            if all { Ok(()) } else { Err(format!("{before:?}, then {after:?}")) }
        };
        wait_at_pace(PACE, refreshed, SOON, "the honest trunks to be refreshed").await;
        let status = cluster.registry(&format!("honest-{number}")).await["status"].clone();
        assert_eq!(condition(&status, "Ready")["reason"], "AllRegistered", "{status:#}");
        assert!(status["lastSyncTime"].is_string(), "{status:#}");
    }
    let peak = peak_mib(&operator);
    println!(
        "{} probes, half within {:?}, 99 % within {:?}, the slowest {:?}; peak {peak} MiB, calls {:?}",
        probes.len(),
        probes[probes.len() / 2],
        probes[probes.len() * 99 / 100],
        probes[probes.len() - 1],
        attack.servers.iter().map(Raw::calls).collect::<Vec<_>>()
    );
    assert!(peak < MAX_PEAK, "{peak} MiB");

    // What each attacker exceeds is in its own status.
    let shows = async |name, kind, wanted, said: &str| {
        let message = comes_to(plane, &hostile, name, kind, wanted).await;
        assert!(message.contains(said), "{name}: {message}");
    };
    shows("big", "Ready", ("False", "InvalidTrunks"), "the trunk is too large").await;
    shows("nothing", "APIReachable", ("False", "OverLimit"), "--max-response-memory").await;
    shows("replies", "APIReachable", ("True", "Reachable"), "").await;
    // Those are asked less and less often.
    let calls = attack.servers[2].calls();
    assert!(calls < 200, "{calls} calls of the one that sends 120 MB");
    assert!(!operator.service.output().contains(r#""level":"ERROR""#), "{}", operator.service.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_beyond_the_limit_wait_for_older_ones_to_go() {
    let limit = ["operator.limits.registries=2"];
    let cluster = Installation::on(ControlPlane::shared().await, "limit", &limit).await;
    let stage = TestRegistry::with(&["alice"]).await;
    for name in ["first", "second"] {
        cluster.apply(name, &stage, "").await;
        // Creation times have whole seconds.
        let created = cluster.registry(name).await["metadata"]["creationTimestamp"].clone();
        let later = async || {
            let probe = ["create", "configmap", "clock", "--dry-run=server", "--output=json"];
            cluster.kubectl(&probe).await.json()["metadata"]["creationTimestamp"] != created
        };
        wait_until(later, SOON, "the next second").await;
    }
    cluster.apply("third", &stage, "  suspend: true\n").await;
    let _operator = cluster.start("pod-a");
    for name in ["first", "second"] {
        cluster.condition(name, "Ready", "True", "AllRegistered").await;
    }
    let status = cluster.condition("third", "Stalled", "True", "TooManyRegistries").await;
    let message = condition(&status, "Stalled")["message"].clone();
    let said = message.as_str().unwrap();
    assert!(said.contains("runs 2 Registries") && said.contains("--max-registries"), "{said}");
    cluster.kubectl(&["delete", "registry", "first", "--timeout=150s"]).await.ok();
    cluster.condition("third", "Ready", "False", "Suspended").await;
}
