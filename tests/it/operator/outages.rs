//! The API server of Kubernetes fails: frozen, killed, with another history, with another token.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::replicas::{TAKE_OVER, holders};
use super::stage::{Installation, Operator, PACE, RELEASE, SOON, Stage};
use crate::support::control_plane::ControlPlane;
use crate::support::wait::{wait_at_pace, wait_for, wait_until};

/// Refreshed after 4 to 5 s: half of it is the lead.
const SHORT: &str = "  registration: { expires: 10s, ratePerRegistrar: unlimited }\n";
/// A term ends 7 s after its last renewal was sent, and its work within a quarter of the lease's 10 s after that.
const LIMIT: Duration = Duration::from_millis(9_500);
/// Renewed each 1.5 s: so long a term lasts at the least after the API server was last there.
const GOES_ON: Duration = Duration::from_millis(5_400);

/// Enough for a REGISTER each quarter of a second.
const REFS: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

fn registers(stage: &Stage) -> usize {
    stage.registrar.log().len()
}

/// When the last REGISTER arrived, by the registrar's clock.
fn last_register(stage: &Stage) -> Duration {
    stage.registrar.log().last().map(|seen| seen.at).unwrap_or_default()
}

/// The longest time between two REGISTERs of one trunk that were granted.
fn longest_pause(stage: &Stage) -> Duration {
    let mut last = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for seen in stage.registrar.log().into_iter().filter(|seen| seen.code == Some(200)) {
        let before = last.insert(seen.user, seen.at).unwrap_or(seen.at);
        longest = longest.max(seen.at.saturating_sub(before));
    }
    longest
}

/// Waits until this long has passed since `then`; what happens meanwhile is what is looked at.
async fn passed(then: Instant, time: Duration) {
    wait_until(async || then.elapsed() >= time, time + SOON, "time to pass").await;
}

#[tokio::test]
async fn who_cannot_renew_stops_and_the_watch_outlives_the_api_server() {
    let plane = ControlPlane::start().await;
    plane.apply_crds().await;
    let stage = Stage::with(&REFS).await;
    let other = Stage::with(&["x"]).await;
    let cluster = Installation::on(&plane, "outage", &[]).await;
    let first = cluster.start("pod-a");
    first.answers(200, "leads").await;
    let second = cluster.start("pod-b");
    second.answers(200, "follows pod-a").await;
    cluster.apply("main", &stage, SHORT).await;
    cluster.apply("second", &other, SHORT).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    cluster.condition("second", "Ready", "True", "AllRegistered").await;

    // Another one, whose term outlasts everything that follows.
    let calm = Stage::with(&REFS).await;
    let patient = Installation::on(&plane, "patient", &["operator.leaseDurationSeconds=60"]).await;
    let lasting = patient.start("pod-a");
    lasting.answers(200, "leads").await;
    patient.apply("main", &calm, SHORT).await;
    patient.condition("main", "Ready", "True", "AllRegistered").await;

    println!("{}", frozen(&plane, &stage, &first, &second).await);
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    println!("{}", killed(&plane, &stage, &other, &cluster).await);
    // The same watch in the same term: what it followed from is forgotten, so that everything is listed anew.
    patient.apply("main", &calm, &format!("{SHORT}  methods: [INVITE]\n")).await;
    patient.status("main", "the edit to be followed", |status| status["observedGeneration"] == 2).await;
    let output = lasting.service.output();
    assert!(!output.contains("lost the lease"), "{output}");
    let listings = plane.audit_of(patient.namespace.name(), RELEASE);
    let listings = listings.iter().filter(|access| access.verb == "list" && access.resource == "registries");
    assert!(listings.count() > 1, "the history was not gone: {output}");
    let longest = longest_pause(&calm);
    assert!(longest < Duration::from_secs(8), "{longest:?} without a REGISTER of a trunk; {output}");
    drop(lasting);

    assert!(stage.registrar.log().iter().all(|seen| seen.expires != Some(0)), "something was de-registered");
    let leader = cluster.leader().await.expect("one leads");
    let (leads, follows) = if leader == "pod-a" { (first, second) } else { (second, first) };
    leads.answers(200, "leads").await;
    follows.answers(200, &format!("follows {leader}, ready to take over")).await;

    // History forgotten while the API server runs.
    plane.compact().await;
    cluster.apply("main", &stage, &format!("{SHORT}  methods: [INVITE, BYE]\n")).await;
    cluster
        .status("main", "the second edit to be followed", |status| status["observedGeneration"] == 3)
        .await;
    assert_eq!(stage.registrar.counters().overlapping, 0);

    // They end in time although the Lease cannot be released.
    plane.pause_api_server().await;
    for mut replica in [leads, follows] {
        let began = Instant::now();
        let status = replica.service.terminate(SOON).await;
        println!("ended {:?} after SIGTERM while the API server was frozen", began.elapsed());
        assert_eq!(status.code(), Some(0), "{}", replica.service.output());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

/// The API server is frozen for longer than a term lasts.
async fn frozen(plane: &ControlPlane, stage: &Stage, leader: &Operator, follower: &Operator) -> String {
    let before = stage.registrar.elapsed();
    plane.pause_api_server().await;
    let frozen = Instant::now();
    follower.answers(503, "cannot be read").await;
    leader.says("lost the lease").await;
    let lost = frozen.elapsed();
    let told = leader.answers(503, "cannot be read").await;
    passed(frozen, LIMIT).await;
    let (stopped, sent) = (last_register(stage).saturating_sub(before), registers(stage));
    // The earliest that another one could lead is 10 s after the last renewal, which was at most 1.5 s before.
    assert!(stopped < Duration::from_millis(8_500), "{stopped:?}");
    // Until the term ended, after 5.5 s or more, each was refreshed in its 5 s.
    assert!(stopped > Duration::from_millis(400), "{stopped:?}");
    // All are due by now, and none is sent.
    passed(frozen, LIMIT + Duration::from_secs(2)).await;
    assert_eq!(registers(stage), sent, "it sends without a term");
    let granted = stage.granted();
    plane.resume_api_server().await;
    let resumed = Instant::now();
    let again = async || stage.granted().iter().all(|(user, times)| *times > granted[user]);
    wait_until(again, SOON, "all to be registered again").await;
    let back = resumed.elapsed();
    assert!(back < TAKE_OVER, "{back:?}");
    format!(
        "the API server froze: last REGISTER after {stopped:?}, term lost after {lost:?}, all registered {back:?} after its \
         return; /readyz said:\n{told}"
    )
}

/// The API server is killed, and comes back without the history that a watch could go on with.
async fn killed(plane: &ControlPlane, stage: &Stage, other: &Stage, cluster: &Installation<'_>) -> String {
    let began = stage.registrar.elapsed();
    plane.kill_api_server().await;
    let killed = Instant::now();
    let mut late = cluster.start("pod-c");
    passed(killed, GOES_ON).await;
    // Engines go on with what they have for as long as the term lasts; each trunk is due within 5 s.
    let span = began + Duration::from_millis(300)..began + GOES_ON;
    let busy = stage.registrar.log().iter().filter(|seen| span.contains(&seen.at)).count();
    assert!(busy > 0, "it stopped with the API server");
    let blind = late.answers(503, "cannot list Registries").await;
    plane.compact().await;
    plane.start_api_server().await;
    // No waiting: the edit comes while the watch is being set up again.
    cluster.apply("main", stage, &format!("{SHORT}  methods: [INVITE]\n")).await;
    cluster.kubectl(&["delete", "registry", "second", "--wait=false"]).await.ok();
    late.answers(200, "").await;
    let done = late.service.terminate(SOON).await;
    assert_eq!(done.code(), Some(0), "{}", late.service.output());
    cluster
        .status("main", "the edit to be followed", |status| {
            status["observedGeneration"] == 2 && status["trunks"]["registered"] == REFS.len()
        })
        .await;
    let gone = async || {
        let answer = cluster.kubectl(&["get", "registry", "second", "--output=name"]).await;
        if answer.stderr.contains("NotFound") { Ok(()) } else { Err(answer.to_string()) }
    };
    wait_at_pace(PACE, gone, SOON, "the deletion to be seen").await;
    assert!(other.registrar.log().iter().any(|seen| seen.expires == Some(0)), "not de-registered");
    format!("a replica that starts while the API server is down says:\n{blind}")
}

#[tokio::test]
async fn a_replaced_token_is_read_from_its_file() {
    let stage = Stage::with(&["a", "b"]).await;
    let cluster = Installation::shared("token").await;
    let plane = cluster.plane;
    let namespace = cluster.namespace.name();
    let (kubeconfig, token) = plane.token_file_kubeconfig(namespace, RELEASE).await;
    let operator = cluster.start_as(kubeconfig.to_str().unwrap(), "pod-a", &[]);
    operator.answers(200, "leads").await;
    cluster.apply("main", &stage, SHORT).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let holders = holders(&cluster).await;

    // The account is another one with the same name and the same rights: tokens of the old one are worth nothing.
    let account = cluster.kubectl(&["get", "serviceaccount", RELEASE, "--output=json"]).await.json();
    cluster.kubectl(&["delete", "serviceaccount", RELEASE]).await.ok();
    let kept = serde_json::json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": RELEASE, "labels": account["metadata"]["labels"], "annotations": account["metadata"]["annotations"] },
    });
    cluster.apply_manifest(&kept.to_string()).await;
    let told = operator.answers(503, "(401)").await;
    println!("with a token that is worth nothing it says:\n{told}");
    plane.write_token(namespace, RELEASE, &token).await;
    let written = Instant::now();
    // The client reads the file again a minute after it last did.
    let leads = async || match operator.public("/readyz").await? {
        (200, body) if body.contains("leads") => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    };
    wait_for(leads, Duration::from_secs(75) + SOON, "the new token to be used").await;
    println!("leads again {:?} after the new token was written", written.elapsed());
    holders.held_by("pod-a", written).await;
    cluster.apply("main", &stage, &format!("{SHORT}  methods: [INVITE]\n")).await;
    cluster
        .status("main", "the edit to be followed", |status| {
            status["observedGeneration"] == 2 && status["trunks"]["registered"] == 2
        })
        .await;
}
