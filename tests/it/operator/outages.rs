//! The API server of Kubernetes fails: frozen, killed, with another history, with another token.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Installation, Operator, PACE, RELEASE, SOON, TestRegistry};
use super::replicas::holders;
use crate::support::control_plane::ControlPlane;
use crate::support::installation::SHORT_TERMS;
use crate::support::wait::{wait_at_pace, wait_for, wait_until};

/// Refreshed after 4 to 5 s: half of it is the lead.
const SHORT: &str = "  registration: { expires: 10s, ratePerRegistrar: unlimited }\n";
/// Within that each of these trunks is due.
const ALL_DUE: Duration = Duration::from_secs(6);

/// Enough for a REGISTER each quarter of a second.
const REFS: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

fn registers(stage: &TestRegistry) -> usize {
    stage.registrar.log().len()
}

/// Waits until each trunk was refreshed `times` times more.
async fn refreshed(stage: &TestRegistry, times: usize) {
    let before = stage.granted();
    let more = async || stage.granted().iter().all(|(user, all)| *all >= before[user] + times);
    wait_until(more, SOON, "all to be refreshed").await;
}

/// Waits until this long has passed since `then`; what happens meanwhile is what is looked at.
async fn passed(then: Instant, time: Duration) {
    wait_until(async || then.elapsed() >= time, time + SOON, "time to pass").await;
}

#[tokio::test]
async fn who_cannot_renew_stops_and_the_watch_outlives_the_api_server() {
    let plane = ControlPlane::start().await;
    plane.apply_crds().await;
    let stage = TestRegistry::with(&REFS).await;
    let other = TestRegistry::with(&["x"]).await;
    let cluster = Installation::on(&plane, "outage", &[SHORT_TERMS]).await;
    let first = cluster.start("pod-a");
    first.answers(200, "leads").await;
    let second = cluster.start("pod-b");
    second.answers(200, "follows pod-a").await;
    cluster.apply("main", &stage, SHORT).await;
    cluster.apply("second", &other, SHORT).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    cluster.condition("second", "Ready", "True", "AllRegistered").await;

    // Another one, whose term outlasts everything that follows.
    let calm = TestRegistry::with(&REFS).await;
    let patient = Installation::on(&plane, "patient", &["operator.leaseDurationSeconds=60"]).await;
    let lasting = patient.start("pod-a");
    lasting.answers(200, "leads").await;
    patient.apply("main", &calm, SHORT).await;
    patient.condition("main", "Ready", "True", "AllRegistered").await;

    println!("{}", frozen(&plane, &stage, &calm, &first, &second).await);
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    println!("{}", killed(&plane, &stage, &calm, &other, &cluster).await);
    // The same watch in the same term: what it followed from is forgotten, so that everything is listed
    // again.
    patient.apply("main", &calm, &format!("{SHORT}  methods: [INVITE]\n")).await;
    patient.status("main", "the edit to be followed", |status| status["observedGeneration"] == 2).await;
    let output = lasting.service.output();
    assert!(!output.contains("lost the lease"), "{output}");
    let listings = plane.audit_of(patient.namespace.name(), RELEASE);
    let listings = listings.iter().filter(|access| access.verb == "list" && access.resource == "registries");
    assert!(listings.count() > 1, "the history was not gone: {output}");
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
    }
}

/// The API server is frozen for longer than a term lasts.
async fn frozen(
    plane: &ControlPlane,
    stage: &TestRegistry,
    calm: &TestRegistry,
    leader: &Operator,
    follower: &Operator,
) -> String {
    let before = registers(stage);
    plane.pause_api_server().await;
    let frozen = Instant::now();
    // Who has a term goes on.
    refreshed(calm, 1).await;
    follower.answers(503, "cannot be read").await;
    leader.says("lost the lease").await;
    let lost = frozen.elapsed();
    let told = leader.answers(503, "cannot be read").await;
    // Until the term ended, after 5.5 s or more, each was refreshed in its 5 s.
    assert!(registers(stage) > before, "it stopped with the API server");
    // The term is over, and soon its work. How soon after the last renewal is a matter of the election's
    // simulation.
    let stopped = async || {
        let (_, text) = leader.public("/metrics").await?;
        let up = |line: &str| line.starts_with("routr_registry_engine_up{") && line.ends_with(" 1.0");
        if text.lines().any(up) { Err(text) } else { Ok(()) }
    };
    wait_for(stopped, SOON, "the engine to end with the term").await;
    let (sent, ended) = (registers(stage), Instant::now());
    // All come to be due, and none is sent.
    passed(ended, ALL_DUE).await;
    assert_eq!(registers(stage), sent, "it sends without a term");
    let granted = stage.granted();
    plane.resume_api_server().await;
    let resumed = Instant::now();
    let again = async || stage.granted().iter().all(|(user, times)| *times > granted[user]);
    wait_until(again, SOON, "all to be registered again").await;
    let back = resumed.elapsed();
    format!(
        "the API server froze: term lost after {lost:?}, all registered {back:?} after its return; /readyz said:\n{told}"
    )
}

/// The API server is killed, and comes back without the history that a watch could go on with.
async fn killed(
    plane: &ControlPlane,
    stage: &TestRegistry,
    calm: &TestRegistry,
    other: &TestRegistry,
    cluster: &Installation<'_>,
) -> String {
    plane.kill_api_server().await;
    let sent = registers(stage);
    let mut late = cluster.start("pod-c");
    // Engines go on with what they have for as long as the term lasts, which is longer than the 5 s within
    // which each trunk is due: more than what was in flight.
    let busy = async || registers(stage) > sent + 3;
    wait_until(busy, SOON, "the leader to go on without the API server").await;
    refreshed(calm, 1).await;
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
    let stage = TestRegistry::with(&["a", "b"]).await;
    let cluster = Installation::with_short_terms("token").await;
    let plane = cluster.plane;
    let namespace = cluster.namespace.name();
    let (kubeconfig, token) = plane.token_file_kubeconfig(namespace, RELEASE).await;
    let operator = cluster.start_as(kubeconfig.to_str().unwrap(), "pod-a", &[]);
    operator.answers(200, "leads").await;
    cluster.apply("main", &stage, SHORT).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let holders = holders(&cluster).await;

    // The account is another one with the same name and the same rights: tokens of the old one are worth
    // nothing.
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
    wait_for(leads, 2 * SOON, "the new token to be used").await;
    println!("leads again {:?} after the new token was written", written.elapsed());
    holders.held_by("pod-a", written).await;
    cluster.apply("main", &stage, &format!("{SHORT}  methods: [INVITE]\n")).await;
    cluster
        .status("main", "the edit to be followed", |status| {
            status["observedGeneration"] == 2 && status["trunks"]["registered"] == 2
        })
        .await;
}
