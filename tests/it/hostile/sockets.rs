//! One tenant cannot use up the operator's sockets, or its log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::operator::harness::{Installation, PACE, SOON, TestRegistry, condition, manifest};
use crate::support::control_plane::{ControlPlane, Namespace};
use crate::support::wait::{wait_at_pace, wait_until};

/// The least that --max-connections may be: a namespace has a half of it.
const LIMIT: usize = 64;
/// Hostile Registries of each kind.
const EACH: usize = 6;

/// A server at every loopback address. It ends when it is dropped.
struct Everywhere {
    port: u16,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
    _end: DropGuard,
}

impl Everywhere {
    /// Greets each connection, then gives one response to whatever comes, `{n}` being its number; no response
    /// where it is empty.
    async fn serve(greeting: &'static [u8], answer: &'static str) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let [open, most, all] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
        let end = CancellationToken::new();
        let counted = (open.clone(), most.clone(), all.clone());
        let serve = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (open, most, all) = counted.clone();
                tokio::spawn(async move {
                    let number = all.fetch_add(1, Ordering::Relaxed);
                    most.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    drop(stream.write_all(greeting).await);
                    talk(&mut stream, answer, number, port).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        };
        tokio::spawn(end.clone().run_until_cancelled_owned(serve));
        Self { port, open, most, all, _end: end.drop_guard() }
    }

    /// Returns as many addresses of it as a field may have, no two for different `n`.
    fn addresses(&self, n: usize) -> String {
        let all: Vec<String> = (1..=12).map(|host| format!("127.0.{n}.{host}:{}", self.port)).collect();
        format!("ipv4:{}", all.join(","))
    }
}

async fn talk(stream: &mut TcpStream, answer: &str, number: usize, port: u16) {
    let mut asked = [0; 4_096];
    while let Ok(1..) = stream.read(&mut asked).await {
        let elsewhere = format!("127.0.{}.{}:{port}", 20 + number / 250 % 200, 1 + number % 250);
        let answer = if asked.windows(4).any(|bytes| bytes.eq_ignore_ascii_case(b"PING")) {
            "+PONG\r\n".to_owned()
        } else {
            answer.replace("{elsewhere}", &elsewhere)
        };
        if !answer.is_empty() && stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

async fn apply(plane: &ControlPlane, namespace: &Namespace, manifests: &str) {
    let args = ["apply", "--server-side", "--namespace", namespace.name(), "-f", "-"];
    plane.kubectl_stdin(args, manifests).await.ok();
}

async fn registries(plane: &ControlPlane, namespace: &Namespace) -> Vec<Value> {
    let shown = plane.kubectl(["get", "registries", "--output=json", "--namespace", namespace.name()]).await;
    shown.json()["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_has_its_share_of_sockets_and_the_others_theirs() {
    let plane = ControlPlane::shared().await;
    let (honest, hostile) = (plane.namespace("honest").await, plane.namespace("hostile").await);
    let settings = [
        "crds.install=false".to_owned(),
        format!("operator.limits.connections={LIMIT}"),
        format!("watchNamespaces={{{},{}}}", honest.name(), hostile.name()),
    ];
    let cluster = Installation::install(plane, honest, &settings).await;
    let operator = cluster.start("pod-a");
    let idle = descriptors(operator.service.pid());

    // Servers of HTTP/2 that say nothing more, at hundreds of addresses; a Redis Cluster whose keys are
    // always on another node.
    let silent = Everywhere::serve(&[0, 0, 0, 4, 0, 0, 0, 0, 0], "").await;
    let moving = Everywhere::serve(b"", "-MOVED 1 {elsewhere}\r\n").await;
    let mut stage = TestRegistry::bare().await;
    let names: Vec<String> = (0..50).map(|n| format!("user-{n}")).collect();
    stage.trunks(&names.iter().map(String::as_str).collect::<Vec<_>>());
    stage.start_api().await;
    let mut manifests = Vec::new();
    for n in 0..EACH {
        let redis = format!(
            "  cache: {{ provider: redis, parameters: \"host=127.0.{n}.99,port={},cluster=true\" }}\n",
            moving.port
        );
        let (api, requester) =
            (format!("127.0.0.1:{}", stage.api_port), format!("127.0.0.1:{}", stage.requester_port));
        let good = manifest("NAME", &stage, &redis);
        manifests.push(
            good.replace("NAME", &format!("api-{n}"))
                .replace(&format!("apiAddr: {api}"), &format!("apiAddr: \"{}\"", silent.addresses(n))),
        );
        manifests.push(good.replace("NAME", &format!("requester-{n}")).replace(
            &format!("requesterAddr: {requester}"),
            &format!("requesterAddr: \"{}\"", silent.addresses(100 + n)),
        ));
    }
    apply(plane, &hostile, &manifests.join("---\n")).await;
    let refused = async || {
        let all = registries(plane, &hostile).await;
        let over = |one: &&Value| {
            let api = condition(&one["status"], "APIReachable");
            let said = |of: Value| of["message"].as_str().unwrap_or_default().contains("--max-connections");
            api["reason"] == "OverLimit" && said(api) && said(condition(&one["status"], "Ready"))
        };
        if all.iter().any(|one| over(&one)) { Ok(()) } else { Err(format!("{all:#?}")) }
    };
    wait_at_pace(PACE, refused, SOON, "a hostile Registry to show what it exceeds").await;

    // One that comes late has its connections at once.
    let good = TestRegistry::with(&["alice", "bob"]).await;
    cluster.apply("late", &good, "  registration: { expires: 10s }\n").await;
    cluster.condition("late", "Ready", "True", "AllRegistered").await;
    let granted = good.granted();
    let refreshed = async || granted.iter().all(|(user, count)| good.granted()[user] > *count);
    wait_until(refreshed, SOON, "the honest Registry to refresh").await;
    let status = cluster.registry("late").await["status"].clone();
    assert_eq!(condition(&status, "Ready")["reason"], "AllRegistered", "{status:#}");
    assert!(!status.to_string().contains("--max-connections"), "{status:#}");

    let followed = async || moving.all.load(Ordering::Relaxed) > 4 * EACH;
    wait_until(followed, SOON, "the cluster's nodes to be followed").await;
    let [silent_most, moving_most] = [&silent, &moving].map(|server| server.most.load(Ordering::Relaxed));
    let now = descriptors(operator.service.pid());
    println!(
        "most open at once: {silent_most} and {moving_most} (now {} and {}, of {} and {}); descriptors {idle}, then {now}",
        silent.open.load(Ordering::Relaxed),
        moving.open.load(Ordering::Relaxed),
        silent.all.load(Ordering::Relaxed),
        moving.all.load(Ordering::Relaxed),
    );
    // What this side has closed, the server may see a moment later.
    assert!((LIMIT / 4..=LIMIT / 2).contains(&silent_most), "{silent_most}");
    assert!(now <= idle + LIMIT + 20, "{idle} descriptors, then {now}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_them_a_registry_has_its_share_of_the_logs_lines() {
    let cluster = Installation::on(ControlPlane::shared().await, "lines", &[]).await;
    let stage = TestRegistry::with(&["alice"]).await;
    let operator = cluster.start("pod-a");
    cluster.apply("loud", &stage, "").await;
    cluster.condition("loud", "Ready", "True", "AllRegistered").await;
    let lines = |said: &str| {
        let output = operator.service.output();
        output.lines().filter(|line| line.contains("/loud\"") && line.contains(said)).count()
    };
    // Each change is a line of the reconcile.
    let changes: Vec<String> = (0..400)
        .map(|n| manifest("loud", &stage, &format!("  registration: {{ expires: {}s }}\n", 100 + n)))
        .collect();
    let said = "were left out: they were more than the share of a Registry";
    let flood = async || {
        cluster.apply_manifest(&changes.join("---\n")).await;
        lines(said) > 0
    };
    wait_until(flood, SOON, "the operator to say that lines were left out").await;
    let shown = |status: &Value| {
        let ready = condition(status, "Ready");
        ready["message"].as_str().unwrap_or_default().contains("logs more than a Registry's")
    };
    cluster.status("loud", "what it exceeds", shown).await;
    let output = operator.service.output();
    let times = output.lines().filter(|line| line.contains("applying a changed spec")).map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
    });
    let times: Vec<i64> = times.collect();
    // Two windows may meet in any 20 s.
    let most = times.iter().map(|at| times.iter().filter(|one| (*at..at + 20).contains(*one)).count()).max();
    assert!((50..=200).contains(&most.unwrap()), "{most:?} of {}", times.len());
}
