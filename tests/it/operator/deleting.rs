//! A deleted Registry takes its bindings along, and holds no one up.

use std::time::Duration;

use routr_registry::devstack::registrar::{Behaviour, Seen};
use serde_json::json;
use tokio::time::Instant;

use super::harness::{Installation, SOON, TestRegistry};
use super::kube_client::{KubeClient, spec, spec_with, starts};
use super::table;
use crate::standalone::test_registry::{tells, told};
use crate::support::control_plane::ControlPlane;
use crate::support::wait::wait_for;

/// The deregistrations that were granted.
fn removals(stage: &TestRegistry) -> Vec<Seen> {
    stage
        .registrar
        .log()
        .into_iter()
        .filter(|seen| seen.expires == Some(0) && seen.code == Some(200))
        .collect()
}

#[tokio::test]
async fn with_a_dead_requester_it_goes_after_the_deadline_and_a_namespace_with_it() {
    let mut stage = TestRegistry::with(&["a", "b"]).await;
    let plane = ControlPlane::shared().await;
    // Rights that do not go with the namespace.
    let values = ["crds.install=false", "operator.deregisterDeadlineSeconds=6"].map(str::to_owned);
    let cluster = Installation::install(plane, plane.namespace("dead").await, &values).await;
    let team = plane.namespace("team").await;
    let watch = format!("--namespaces={}", team.name());
    let operator = cluster.start_with("pod-a", &[&watch]);
    let kube = KubeClient::in_namespace(plane, team.name()).await;
    for name in ["first", "second", "third"] {
        kube.create(name, spec(&stage)).await;
    }
    kube.create("suspended", spec_with(&stage, json!({ "suspend": true }))).await;
    for name in ["first", "second", "third"] {
        kube.conditions(name, &[("Ready", "True", "AllRegistered")]).await;
    }
    stage.stop_requester().await;
    kube.conditions("first", &[("RequesterReachable", "False", "Unreachable")]).await;
    kube.delete("first").await;
    let status = kube.conditions("first", &[("Ready", "False", "Deregistering")]).await;
    table::row("deleted, and the Requester is down", &status);
    kube.gone("first").await;
    let note = kube.event("first", "NotDeregistered").await;
    assert!(note.contains("2 bindings are left at the registrars"), "{note}");
    assert!(note.contains("the deadline has passed"), "{note}");
    assert!(removals(&stage).is_empty());

    // A whole namespace, by kubectl.
    let began = Instant::now();
    plane.kubectl(["delete", "namespace", team.name(), "--timeout=150s"]).await.ok();
    println!("the namespace was gone after {:?}", began.elapsed());
    assert_eq!(told(&operator.service, "not all trunks could be deregistered in time").len(), 3);
    assert_eq!(told(&operator.service, "deleted while suspended").len(), 1);
}

#[tokio::test]
async fn a_new_leader_finishes_a_deletion_with_nothing_in_memory() {
    let mut stage = TestRegistry::with(&["a", "b", "c"]).await;
    let cluster =
        Installation::on(ControlPlane::shared().await, "taken-up", &["operator.leaseDurationSeconds=10"])
            .await;
    let kube = KubeClient::on(&cluster).await;
    let mut killed = cluster.start("pod-a");
    kube.create("main", spec(&stage)).await;
    kube.conditions("main", &[("Ready", "True", "AllRegistered")]).await;
    let call_ids = |log: Vec<Seen>| {
        let mut ids: Vec<_> = log.into_iter().map(|seen| (seen.user, seen.call_id)).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let before = call_ids(stage.registrar.log());
    stage.stop_requester().await;
    kube.delete("main").await;
    kube.conditions("main", &[("Ready", "False", "Deregistering")]).await;
    killed.service.kill().await;
    let seen = stage.registrar.log().len();
    stage.start_requester().await;
    assert!(kube.registry("main").await.is_some(), "it waits for what finishes this");
    let next = cluster.start("pod-b");
    kube.gone("main").await;
    let after = stage.registrar.log().split_off(seen);
    assert!(after.iter().all(|seen| seen.expires == Some(0)), "nothing is registered on the way: {after:?}");
    assert_eq!(call_ids(after), before, "the same registrations, though it never registered them");
    assert!(stage.registrar.bindings().values().all(Vec::is_empty), "{:?}", stage.registrar.bindings());
    tells(&next.service, "all trunks are deregistered", 1).await;
    kube.event("main", "Deregistered").await;
}

#[tokio::test]
async fn one_that_never_ran_goes_at_once_and_one_whose_finalizer_was_taken_away_stops() {
    let stage = TestRegistry::with(&["a", "b"]).await;
    stage.registrar.behave_all(Behaviour::ClaimExpires(10));
    let cluster = Installation::shared("force").await;
    let kube = KubeClient::on(&cluster).await;
    let mut operator = cluster.start("pod-a");
    let missing = json!({ "provider": "redis", "parametersSecretRef": { "name": "nowhere", "key": "all" } });
    kube.create("never-ran", spec_with(&stage, json!({ "cache": missing }))).await;
    kube.create("forced", spec(&stage)).await;
    kube.conditions("never-ran", &[("Stalled", "True", "SecretNotFound")]).await;
    kube.delete("never-ran").await;
    kube.gone("never-ran").await;
    // Not by a deadline: nothing was waited for.
    assert_eq!(told(&operator.service, "not all trunks could be de-registered in time"), [""; 0]);

    // While it is not being deleted, the finalizer comes back.
    kube.conditions("forced", &[("Ready", "True", "AllRegistered")]).await;
    let finalizers = async || kube.registry("forced").await.unwrap()["metadata"]["finalizers"].clone();
    assert_eq!(finalizers().await, json!(["routr.io/deregister"]));
    kube.finalizers("forced", &[]).await;
    let back = async || match finalizers().await {
        found if found == json!(["routr.io/deregister"]) => Ok(()),
        found => Err(found.to_string()),
    };
    wait_for(back, SOON, "the finalizer to be there again").await;
    assert_eq!(starts(&operator.service), 1);

    // Taken away by force while the operator cannot look: its engine stops.
    operator.service.pause();
    kube.delete("forced").await;
    kube.finalizers("forced", &[]).await;
    assert!(kube.registry("forced").await.is_none());
    operator.service.resume();
    let gone = async || match operator.public("/metrics").await?.1 {
        text if !text.contains("registry=\"forced\"") => Ok(()),
        _ => Err("its series are there".to_owned()),
    };
    wait_for(gone, SOON, "the engine to be gone").await;
    let seen = stage.registrar.log().len();
    // Refreshes would be due after 6 s.
    let start = stage.registrar.elapsed();
    wait_for(
        async || {
            if stage.registrar.elapsed() > start + Duration::from_secs(9) { Ok(()) } else { Err("too early") }
        },
        SOON,
        "nine seconds to pass",
    )
    .await;
    assert_eq!(stage.registrar.log().len(), seen, "nothing is sent any more");
}
