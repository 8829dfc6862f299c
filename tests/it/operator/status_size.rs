//! A status stays small and is written seldom, whatever happens to the trunks.

use std::time::Duration;

use routr_registry::devstack::registrar::Behaviour;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::harness::{Installation, TestRegistry, condition};
use super::kube_client::{KubeClient, brief, message, spec, spec_with};
use super::table;
use crate::support::wait::{PATIENCE, wait_for};

const CROWD: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_failing_trunks_fit_in_a_small_status() {
    let stage = TestRegistry::with(&[]).await;
    let refused = Behaviour::Code { code: 403, phrase: "Forbidden <&\"".repeat(20), headers: Vec::new() };
    stage.registrar.behave_all(refused);
    let trunks = (0..CROWD).map(|n| {
        let mut trunk = stage.trunk(&format!("trunk-{n:05}"));
        trunk.name = "a long name with \"quotes\" & <brackets>".repeat(20);
        trunk
    });
    stage.api.set_trunks(trunks.collect());
    let cluster = Installation::shared("crowd").await;
    let kube = KubeClient::on(&cluster).await;
    let _operator = cluster.start("pod-a");
    let history = kube.remember();
    let began = Instant::now();
    let registration = json!({ "ratePerRegistrar": "unlimited", "maxInFlight": 200 });
    kube.create(
        "main",
        spec_with(&stage, json!({ "registerInterval": "60s", "registration": registration })),
    )
    .await;
    let all = async || {
        let status = kube.now("main").await;
        if status["trunks"]["failing"] == CROWD { Ok(status) } else { Err(brief(&status)) }
    };
    let status = wait_for(all, 2 * PATIENCE, "all of them to fail").await;
    let took = began.elapsed();
    table::row("10,000 trunks are refused", &status);
    let size = serde_json::to_string(&kube.registry("main").await).unwrap().len();
    let writes = history.of("main").len();
    println!("{size} bytes, {writes} writes in {took:?}; Ready: {}", message(&status, "Ready"));
    assert!(size < 200_000, "{size} bytes");
    assert_eq!(status["failures"].as_array().unwrap().len(), 50);
    assert!(writes as f64 <= took.as_secs_f64() / 3.0 + 2.0, "{writes} writes in {took:?}");
    assert_eq!(condition(&status, "Ready")["reason"], "TrunksFailing");
    for part in ["10000 of 10000 trunks are not registered", "and 9997 more, see status.failures", "403"] {
        assert!(message(&status, "Ready").contains(part), "{part}: {}", brief(&status));
    }
    let events = kube.events("main").await;
    assert!(events.len() <= 4, "few events: {events:?}");
    let described = cluster.kubectl(&["describe", "registry", "main"]).await.ok();
    assert!(described.contains("TrunksFailing"));
    kube.delete("main").await;
    kube.gone("main").await;
}

#[tokio::test]
async fn flapping_trunks_are_written_every_few_seconds_and_what_was_tampered_with_is_mended() {
    let stage = TestRegistry::with(&["a"]).await;
    let cluster = Installation::shared("flapping").await;
    let kube = KubeClient::on(&cluster).await;
    let _operator = cluster.start("pod-a");
    kube.create("main", spec(&stage)).await;
    kube.create("idle", spec(&stage)).await;
    for name in ["main", "idle"] {
        kube.conditions(name, &[("Ready", "True", "AllRegistered")]).await;
    }
    let history = kube.remember();
    let mut broken = stage.trunk("b");
    broken.uris[0].port = 70_000;
    let began = Instant::now();
    let mut flips = 0_u64;
    let flaps = async || {
        // A flip each 600 ms, a reading each second.
        if began.elapsed() > Duration::from_millis(600 * flips) {
            flips += 1;
            let more = (flips % 2 == 1).then(|| broken.clone());
            stage.api.set_trunks([stage.trunk("a")].into_iter().chain(more).collect());
        }
        // And three writes more than the one that was there before.
        let enough = began.elapsed() > Duration::from_secs(15) && history.of("main").len() > 3;
        if enough { Ok(()) } else { Err("flapping") }
    };
    wait_for(flaps, PATIENCE, "fifteen seconds and four writes").await;
    let writes = history.of("main");
    let gaps: Vec<Duration> = writes.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    println!("{gaps:?}");
    // Three seconds between two of them, from the first on, and what was there before. When each of them is
    // seen is another matter.
    let took = began.elapsed();
    assert!(writes.len() as f64 <= took.as_secs_f64() / 3.0 + 2.0, "{} in {took:?}: {gaps:?}", writes.len());
    let events = kube.events("main").await;
    assert!(events.len() <= 6, "few events: {events:?}");

    // What someone wrote there, or took away, is fixed at the next change.
    stage.trunks(&["a"]);
    let calm = |status: &Value| {
        condition(status, "Ready")["reason"] == "AllRegistered" && status["trunks"]["total"] == 1
    };
    kube.status("main", "calm", calm).await;
    let lie = json!({ "status": { "conditions": [], "trunks": { "total": 99 }, "observedGeneration": 77 } });
    kube.tamper("main", lie).await;
    assert_eq!(kube.now("main").await["trunks"]["total"], 99);
    stage.trunks(&["a", "b"]);
    let repaired = |status: &Value| {
        status["trunks"]["total"] == 2
            && status["observedGeneration"] == 1
            && status["conditions"].as_array().is_some_and(|conditions| conditions.len() == 7)
            && condition(status, "Ready")["reason"] == "AllRegistered"
    };
    kube.status("main", "the status to be repaired", repaired).await;
}
