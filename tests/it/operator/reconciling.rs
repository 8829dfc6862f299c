//! A changed spec replaces only what it must.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use routr_registry::devstack::api::{ApiServer, Rpc};
use routr_registry::devstack::registrar::{Behaviour, Seen};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::harness::{Installation, SOON, TestRegistry, condition};
use super::kube_client::{KubeClient, brief, message, spec, spec_with, starts};
use super::table;
use crate::standalone::test_registry::{ANSWER_WITHIN, listen, log, told};
use crate::support::ports;
use crate::support::redis::{Options, Redis};
use crate::support::wait::{wait_for, wait_until};

/// Waits for `more` further syncs.
async fn syncs(api: &ApiServer, more: u64) {
    let goal = api.calls(Rpc::FindBy) + more;
    wait_until(async || api.calls(Rpc::FindBy) >= goal, SOON, "the trunks to be read again").await;
}

/// Call-ID and highest CSeq of each user at the registrar.
fn registrations(stage: &TestRegistry) -> BTreeMap<String, (String, u32)> {
    let mut all: BTreeMap<String, (String, u32)> = BTreeMap::new();
    for seen in stage.registrar.log() {
        let entry = all.entry(seen.user.clone()).or_insert_with(|| (seen.call_id.clone(), seen.cseq));
        assert_eq!(entry.0, seen.call_id, "{} has two Call-IDs", seen.user);
        assert!(seen.cseq >= entry.1, "the CSeq of {} went back", seen.user);
        entry.1 = seen.cseq;
    }
    all
}

#[tokio::test]
async fn a_changed_spec_replaces_only_what_it_must() {
    let stage = TestRegistry::with(&["a", "b", "c"]).await;
    let cluster = Installation::shared("change").await;
    let kube = KubeClient::on(&cluster).await;
    let operator = cluster.start("pod-a");
    kube.create("main", spec(&stage)).await;
    kube.conditions("main", &[("Ready", "True", "AllRegistered")]).await;
    let first = registrations(&stage);
    let sent = stage.registrar.counters().registers;

    // What concerns no binding sends nothing.
    for change in [
        json!({ "registerInterval": "2s" }),
        json!({ "registration": { "ratePerRegistrar": 7, "maxInFlight": 5 } }),
        json!({ "edgePorts": [{ "address": "10.0.0.1:5060" }, { "address": "10.0.0.2:5060", "region": "x" }] }),
        json!({ "registerInterval": "1s" }),
    ] {
        let status = kube.follows("main", change.clone()).await;
        assert_eq!(condition(&status, "Ready")["status"], "True", "{change}: {}", brief(&status));
        syncs(&stage.api, 1).await;
        assert_eq!(stage.registrar.counters().registers, sent, "{change}");
    }

    // Another API server with the same trunks.
    let other = ApiServer::from_trunks(["a", "b", "c"].map(|reference| stage.trunk(reference)).to_vec());
    let (port, end) = (ports::free(), CancellationToken::new());
    let (listener, served, ended) = (listen(port).await, other.clone(), end.clone());
    tokio::spawn(async move { served.serve(listener, ended).await });
    kube.follows("main", json!({ "apiAddr": format!("127.0.0.1:{port}") })).await;
    syncs(&other, 2).await;
    assert_eq!(stage.registrar.counters().registers, sent, "the same trunks");
    let asked = stage.api.calls(Rpc::FindBy);
    syncs(&other, 1).await;
    assert_eq!(stage.api.calls(Rpc::FindBy), asked, "the old API server is left alone");

    // Another cache gets everything, and no trunk is disturbed.
    let redis = Redis::start(Options::default()).await;
    let parameters = format!("host=127.0.0.1,port={}", redis.port());
    kube.follows("main", json!({ "cache": { "provider": "redis", "parameters": parameters } })).await;
    kube.conditions("main", &[("CacheReachable", "True", "Reachable"), ("Ready", "True", "AllRegistered")])
        .await;
    let kept = async || match redis.command("DBSIZE").await {
        Ok(size) if size[1..].parse::<u32>().is_ok_and(|size| size >= 1) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(kept, SOON, "the registrations to be in Redis").await;
    assert_eq!(stage.registrar.counters().registers, sent, "another cache concerns no registrar");

    assert_eq!(starts(&operator.service), 1, "one engine from start to end");
    kube.delete("main").await;
    kube.gone("main").await;
    let after = registrations(&stage);
    for user in ["a", "b", "c"] {
        let last = stage.registrar.log().into_iter().rfind(|seen| seen.user == user).unwrap();
        assert_eq!((last.expires, last.code), (Some(0), Some(200)), "{user}");
        assert_eq!(after[user].0, first[user].0, "the same Call-ID from start to end");
    }
    log(&operator.service);
    end.cancel();
}

#[tokio::test]
async fn another_way_out_is_taken_early_by_the_same_registrations() {
    let refs: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
    let refs: Vec<&str> = refs.iter().map(String::as_str).collect();
    let stage = TestRegistry::with(&refs).await;
    // An early refresh comes within a quarter of that, the usual one after 44 s or more.
    stage.registrar.behave_all(Behaviour::ClaimExpires(60));
    let cluster = Installation::shared("moved").await;
    let kube = KubeClient::on(&cluster).await;
    let operator = cluster.start("pod-a");
    kube.create("main", spec_with(&stage, json!({ "registration": { "ratePerRegistrar": "unlimited" } })))
        .await;
    kube.conditions("main", &[("Ready", "True", "AllRegistered")]).await;
    let first = registrations(&stage);

    // The EdgePort that all have goes away.
    kube.change("main", json!({ "edgePorts": [{ "address": "10.0.0.9:5060" }] })).await;
    let moved = async || {
        let log = stage.registrar.log();
        let there =
            |seen: &&Seen| seen.contact.as_deref().is_some_and(|contact| contact.contains("10.0.0.9"));
        let moved: BTreeSet<String> = log.iter().filter(there).map(|seen| seen.user.clone()).collect();
        if moved.len() == refs.len() { Ok(()) } else { Err(format!("{} moved", moved.len())) }
    };
    wait_for(moved, SOON, "every trunk to be registered through the only EdgePort").await;
    all_early(&stage);

    // Another Requester.
    let before = registrations(&stage);
    let port = ports::free();
    let _requester = requester(port).await;
    kube.change("main", json!({ "requesterAddr": format!("127.0.0.1:{port}") })).await;
    let again = async || {
        let now = registrations(&stage);
        let left = now.iter().filter(|(user, (_, cseq))| *cseq <= before[*user].1).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
    };
    wait_for(again, SOON, "every trunk to be refreshed through the other Requester").await;
    all_early(&stage);

    let after = registrations(&stage);
    assert!(refs.iter().all(|user| after[*user].0 == first[*user].0), "the Call-IDs stay");
    assert!(stage.registrar.log().iter().all(|seen| seen.expires != Some(0)), "nothing is de-registered");
    assert_eq!(starts(&operator.service), 1, "one engine from start to end");
    // Spread over fifteen seconds. At the start all of them went within one, as no rate forbids it.
    let log = stage.registrar.log();
    let start = log.iter().map(|seen| seen.at).nth(2 * refs.len()).unwrap();
    let later: Vec<Duration> = log.iter().map(|seen| seen.at).filter(|at| *at > start).collect();
    let within = |at: &Duration| {
        later.iter().filter(|other| **other >= *at && **other < *at + Duration::from_secs(1)).count()
    };
    let burst = later.iter().map(within).max().unwrap_or(0);
    assert!(burst <= refs.len(), "{burst} REGISTERs within a second, of {} trunks", refs.len());
    let status = kube.now("main").await;
    assert_eq!(condition(&status, "Ready")["status"], "True", "{}", brief(&status));
}

/// Panics where a trunk was refreshed as late as usual: no sooner than 44 s after it was last granted its 60
/// s.
fn all_early(stage: &TestRegistry) {
    let mut last: BTreeMap<String, Duration> = BTreeMap::new();
    for seen in stage.registrar.log().into_iter().filter(|seen| seen.code == Some(200)) {
        let before = last.insert(seen.user.clone(), seen.at).unwrap_or(seen.at);
        assert!(
            seen.at.saturating_sub(before) < Duration::from_secs(44),
            "{} waited for its usual turn",
            seen.user
        );
    }
}

/// One more Requester.
async fn requester(port: u16) -> DropGuard {
    let (listener, end) = (listen(port).await, CancellationToken::new());
    let options = routr_registry::requester::Options {
        answer_within: ANSWER_WITHIN,
        grace: Duration::ZERO,
        ..Default::default()
    };
    tokio::spawn(routr_registry::requester::serve(listener, options, end.clone()));
    end.drop_guard()
}

#[tokio::test]
async fn an_invalid_spec_that_got_past_the_schema_waits_for_a_change() {
    let stage = TestRegistry::with(&["a", "b"]).await;
    let cluster = Installation::shared("invalid").await;
    let kube = KubeClient::on(&cluster).await;
    let operator = cluster.start("pod-a");
    // Two spellings of one address.
    let twice = json!([{ "address": "[::1]:5060" }, { "address": "[0:0:0:0:0:0:0:1]:5060" }]);
    kube.create("never-good", spec_with(&stage, json!({ "edgePorts": twice }))).await;
    kube.create("once-good", spec(&stage)).await;
    let status = kube.conditions("never-good", &[("Stalled", "True", "InvalidSpec")]).await;
    for expected in ["spec.edgePorts[1].address", "nothing runs until that is corrected"] {
        assert!(message(&status, "Stalled").contains(expected), "{}", brief(&status));
    }
    assert_eq!(condition(&status, "Ready")["reason"], "InvalidSpec");
    assert!(message(&status, "Ready").contains("spec.edgePorts[1].address"), "{}", brief(&status));
    assert_eq!(condition(&status, "Reconciling")["status"], "False", "kstatus: waiting is pointless");
    table::row("the spec got past the schema and is invalid", &status);
    assert!(kube.event("never-good", "InvalidSpec").await.contains("spec.edgePorts[1].address"));
    let registrations: BTreeSet<String> =
        stage.registrar.log().into_iter().map(|seen| seen.call_id).collect();
    assert!(registrations.len() <= 2, "nothing is sent for it: {registrations:?}");

    // One that runs goes on with the last good one.
    kube.conditions("once-good", &[("Ready", "True", "AllRegistered")]).await;
    let sent = stage.registrar.counters().registers;
    let status = kube.follows("once-good", json!({ "edgePorts": twice })).await;
    assert_eq!(condition(&status, "Stalled")["reason"], "InvalidSpec", "{}", brief(&status));
    assert!(message(&status, "Stalled").contains("last valid spec"), "{}", brief(&status));
    assert_eq!(condition(&status, "Ready")["status"], "True", "{}", brief(&status));
    assert!(message(&status, "Ready").contains("see Stalled"), "{}", brief(&status));
    table::row("a running Registry's spec becomes invalid", &status);
    stage.trunks(&["a", "b", "new"]);
    let three = |status: &serde_json::Value| status["trunks"]["registered"] == 3;
    kube.status("once-good", "the last good spec to be followed", three).await;
    assert!(stage.registrar.counters().registers > sent);

    // No loop: each change was looked at once.
    let looked = reconciles(&operator).await;
    syncs(&stage.api, 6).await;
    // Were it looked at with each reading, it would be six times for each of the two.
    let more = reconciles(&operator).await - looked;
    assert!(more < 3, "it waits for a change: looked at {more} times more");
    assert_eq!(told(&operator.service, "spec not applied").len(), 2);

    // A correction is enough.
    for name in ["never-good", "once-good"] {
        let status = kube.follows(name, json!({ "edgePorts": [{ "address": "10.0.0.1:5060" }] })).await;
        assert_eq!(condition(&status, "Stalled")["status"], "False", "{}", brief(&status));
        kube.conditions(name, &[("Ready", "True", "AllRegistered"), ("Stalled", "False", "NotStalled")])
            .await;
        kube.event(name, "SpecAccepted").await;
    }
    assert_eq!(starts(&operator.service), 2, "the one that ran was not started again");
}

#[tokio::test]
async fn an_instance_id_belongs_to_one_registry_at_a_time() {
    let stage = TestRegistry::with(&["a"]).await;
    let cluster = Installation::shared("twins").await;
    let kube = KubeClient::on(&cluster).await;
    let _operator = cluster.start("pod-a");
    let twin = || spec_with(&stage, json!({ "instanceId": "old-installation" }));
    kube.create("first", twin()).await;
    kube.conditions("first", &[("Ready", "True", "AllRegistered")]).await;
    let sent = stage.registrar.counters().registers;
    kube.create("second", twin()).await;
    let status = kube.conditions("second", &[("Stalled", "True", "InstanceIdInUse")]).await;
    assert!(message(&status, "Stalled").contains("spec.instanceId"), "{}", brief(&status));
    assert!(message(&status, "Stalled").contains("/first"), "{}", brief(&status));
    table::row("another Registry has the same spec.instanceId", &status);
    assert_eq!(stage.registrar.counters().registers, sent);

    // It is free when the first one has gone.
    kube.delete("first").await;
    kube.gone("first").await;
    kube.conditions("second", &[("Ready", "True", "AllRegistered"), ("Stalled", "False", "NotStalled")])
        .await;
    let log = stage.registrar.log();
    assert!(log.iter().all(|seen| seen.call_id == log[0].call_id), "the same registration");
}

/// Returns the number of reconciles, by /metrics.
async fn reconciles(operator: &super::harness::Operator) -> u64 {
    let (_, text) = operator.public("/metrics").await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with("routr_registry_reconciles_total{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64).sum()
}
